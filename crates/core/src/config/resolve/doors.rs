//! Listeners, routes, and names that mean two things.

use super::Resolver;
use super::built_in;
use crate::config::Cors;
use crate::config::Listener;
use crate::config::Login;
use crate::config::PeerKind;
use crate::config::Route;
use crate::config::Signature;
use crate::config::codes;
use crate::config::diagnostic::Diagnostic;
use crate::config::parse;
use crate::config::parse::Given;
use crate::config::parse::Spanned;
use crate::config::sources::Span;
use crate::vocabulary::Name;
use crate::vocabulary::OperationPattern;
use hashbrown::HashMap;
use indexmap::IndexMap;
use indexmap::IndexSet;
use std::cmp::Reverse;

impl Resolver<'_> {
    /// Listeners and identities share one namespace; a service shares a name only with the
    /// identity it is.
    pub(super) fn check_namespaces(&mut self) {
        let document = self.document;
        for (name, listener) in document.listeners.iter() {
            if let Some(identity) = document.identities.get(name) {
                self.taken(
                    name,
                    "a listener and an identity",
                    listener.name,
                    identity.name,
                );
            }
        }
        for (name, service) in document.services.iter() {
            if built_in::RESERVED.contains(&name.as_str()) {
                let it = Diagnostic::error(
                    codes::RESERVED_NAME,
                    service.name,
                    format!("`{name}` is built in"),
                );
                self.report.push(
                    it.label("a reserved name")
                        .help(format!("rename it, for example to `my-{name}`")),
                );
            }
            if let Some(listener) = document.listeners.get(name) {
                self.taken(
                    name,
                    "a service and a listener",
                    service.name,
                    listener.name,
                );
            }
            let other = service.identity.spanned().filter(|it| it.value != *name);
            if let (Some(identity), Some(other)) = (document.identities.get(name), other) {
                let message = format!(
                    "`{name}` is an identity, but the service `{name}` is `{}`",
                    other.value
                );
                let it = Diagnostic::error(codes::NAME_TAKEN, other.span, message)
                    .and(identity.name, "the identity");
                self.report
                    .push(it.help("remove `identity`, or rename the service"));
            }
        }
        self.check_own_names();
    }

    /// Doors and callers are told apart by name, so none may have one of ours.
    fn check_own_names(&mut self) {
        let document = self.document;
        let listeners = document.listeners.iter().map(|(name, it)| (name, it.name));
        let identities = document.identities.iter().map(|(name, it)| (name, it.name));
        for (name, span) in listeners.chain(identities) {
            let ours = built_in::RESERVED.iter().chain(&built_in::OWN);
            if ours.into_iter().any(|it| *it == name.as_str()) {
                let message = format!("`{name}` is a name of countersign itself");
                let it = Diagnostic::error(codes::OWN_NAME, span, message);
                self.report.push(
                    it.label("a reserved name")
                        .help(format!("rename it, for example to `my-{name}`")),
                );
            }
        }
    }

    fn taken(&mut self, name: &Name, what: &str, here: Span, there: Span) {
        let it = Diagnostic::error(codes::NAME_TAKEN, here, format!("`{name}` is {what}"));
        self.report.push(
            it.label("this one")
                .and(there, "and this one")
                .help("rename one of them"),
        );
    }

    pub(super) fn listeners(&mut self) -> IndexMap<Name, Listener> {
        let mut resolved = IndexMap::with_capacity(self.document.listeners.len());
        let mut addresses = HashMap::new();
        for (name, listener) in self.document.listeners.iter() {
            self.check_twice(listener.hosts.items());
            self.check_bind(listener, &mut addresses);
            match listener.peer.value() {
                Some(PeerKind::Browser) => self.check_browser(name, listener),
                Some(_) => self.check_mesh(listener),
                None => {}
            }
            if let (Some(bind), Some(peer)) = (listener.bind.value(), listener.peer.value()) {
                let listener = Listener {
                    place: self.place(listener.name),
                    bind: *bind,
                    peer: *peer,
                    hosts: listener
                        .hosts
                        .items()
                        .iter()
                        .map(|it| it.value.clone())
                        .collect(),
                    login: listener.login.value().map(login),
                    client_ca: listener.client_ca.value().cloned(),
                    signature: self.signature(listener),
                    tls: listener.tls.value().cloned().unwrap_or_default(),
                    routes: self.routes(listener),
                    tls12: listener.tls12.value().cloned(),
                    limits: listener.limits,
                    rate: listener.rate.value().copied(),
                    cors: self.cors(listener),
                };
                resolved.insert(name.clone(), listener);
            }
        }
        resolved
    }

    fn signature(&self, listener: &parse::Listener) -> Option<Signature> {
        let signature = listener.signature.spanned()?;
        Some(Signature {
            place: self.place(signature.span),
            secret: signature.value.secret.value()?.clone(),
            scheme: *signature.value.scheme.value()?,
            window: signature.value.window,
        })
    }

    fn cors(&self, listener: &parse::Listener) -> Option<Cors> {
        let cors = listener.cors.spanned()?;
        let texts = |given: &Given<Vec<Spanned<String>>>| {
            given.items().iter().map(|it| it.value.clone()).collect()
        };
        Some(Cors {
            place: self.place(cors.span),
            origins: texts(&cors.value.origins),
            methods: texts(&cors.value.methods),
            headers: texts(&cors.value.headers),
            credentials: cors.value.credentials,
            max_age: cors.value.max_age,
        })
    }

    fn check_bind(
        &mut self,
        listener: &parse::Listener,
        addresses: &mut HashMap<std::net::SocketAddr, Span>,
    ) {
        let Some(bind) = listener.bind.spanned() else {
            return;
        };
        if self.is_dev() && !bind.value.ip().is_loopback() {
            let it = Diagnostic::error(
                codes::NOT_LOOPBACK,
                bind.span,
                "in development a door is on loopback",
            );
            let it = it.label("other machines could reach it");
            self.report
                .push(it.help(format!("write `\"127.0.0.1:{}\"`", bind.value.port())));
        }
        // Port 0 is another free port each time.
        if bind.value.port() != 0
            && let Some(first) = addresses.insert(bind.value, bind.span)
        {
            let it = Diagnostic::error(
                codes::SAME_ADDRESS,
                bind.span,
                format!("`{}` is taken", bind.value),
            );
            self.report.push(
                it.and(first, "by this listener")
                    .help("choose another port"),
            );
        }
    }

    fn check_browser(&mut self, name: &Name, listener: &parse::Listener) {
        if listener.login.is_absent() {
            let it = Diagnostic::error(
                codes::NO_LOGIN,
                listener.name,
                format!("at `{name}` nobody can sign in"),
            );
            self.report.push(
                it.label("has no `login`")
                    .help("add `login: dev` (with `environment: dev`)"),
            );
        }
        if let (Some(login), true) = (listener.login.spanned(), self.is_prod()) {
            let it = Diagnostic::error(
                codes::DEV_LOGIN,
                login.span,
                "`login: dev` lets anybody be anybody",
            );
            let it = it.label("for development only");
            self.report.push(
                it.help("run with `--dev`, or add `environment: dev` at the top of the file"),
            );
        }
        if self.is_prod() && listener.hosts.is_absent() {
            let it = Diagnostic::error(
                codes::NO_HOSTS,
                listener.name,
                format!("`{name}` answers to no host name"),
            );
            self.report.push(
                it.label("has no `hosts`")
                    .help("add `hosts: [app.acme.example]`"),
            );
        }
    }

    fn check_mesh(&mut self, listener: &parse::Listener) {
        let login = listener.login.spanned().map(|it| ("login", it.span));
        let routes = listener.routes.spanned().map(|it| ("routes", it.span));
        let tls12 = listener.tls12.spanned().map(|it| ("min_tls", it.span));
        for (key, span) in [login, routes, tls12].into_iter().flatten() {
            let message = format!("`{key}` is for `peer: browser`");
            self.error(
                codes::KEY_NOT_HERE,
                span,
                message,
                format!("remove `{key}`"),
            );
        }
    }

    /// Most specific first: the longest literal beginning, then exact before open.
    fn routes(&self, listener: &parse::Listener) -> Vec<Route> {
        let literal =
            |path: &OperationPattern| path.object().find('*').unwrap_or(path.object().len());
        let mut routes: Vec<_> = listener
            .routes
            .items()
            .iter()
            .map(|route| Route {
                place: self.place(route.span),
                host: route.host.clone(),
                path: route.path.clone(),
                service: route.service.value.clone(),
            })
            .collect();
        routes.sort_by_key(|it| {
            (
                it.host.clone(),
                Reverse(literal(&it.path)),
                it.path.object().contains('*'),
            )
        });
        routes
    }

    /// Where browser doors lead: needs the edges.
    pub(super) fn check_routes(&mut self) {
        let mut leads: HashMap<&Name, IndexSet<&Name>> = HashMap::new();
        for edge in &self.document.edges {
            leads
                .entry(&edge.from.value)
                .or_default()
                .insert(&edge.to.value);
        }
        if self.document.edges_trouble {
            return;
        }
        let nowhere = IndexSet::new();
        for (name, listener) in self.document.listeners.iter() {
            let to = leads.get(name).unwrap_or(&nowhere);
            if listener.routes.is_absent() && listener.peer.value() == Some(&PeerKind::Browser) {
                self.check_single(name, listener, to);
            }
            for route in listener.routes.items() {
                self.check_route(name, listener, route, to);
            }
        }
    }

    fn check_single(&mut self, name: &Name, listener: &parse::Listener, to: &IndexSet<&Name>) {
        let (message, help) = match (to.get_index(0), to.get_index(1)) {
            (Some(_), None) => return,
            (None, _) => {
                let service = self
                    .document
                    .services
                    .keys()
                    .next()
                    .map_or("frontend", Name::as_str);
                (
                    format!("`{name}` leads nowhere"),
                    format!("add the edge `{name} -> {service}: [GET /**]`"),
                )
            }
            (Some(first), Some(second)) => {
                let host = listener
                    .hosts
                    .items()
                    .first()
                    .map_or("localhost", |it| it.value.as_str());
                let help = format!(
                    "add `routes: {{ \"{host}/**\": {first}, \"{host}/{second}/**\": {second} }}`"
                );
                (
                    format!(
                        "`{name}` leads to `{first}` and `{second}`, but which host and path goes where?"
                    ),
                    help,
                )
            }
        };
        let it = Diagnostic::error(codes::NO_ROUTE, listener.name, message);
        self.report.push(it.label("has no `routes`").help(help));
    }

    fn check_route(
        &mut self,
        name: &Name,
        listener: &parse::Listener,
        route: &parse::Route,
        to: &IndexSet<&Name>,
    ) {
        let service = &route.service;
        if !self.is_service(&service.value) {
            self.unknown_service(service.value.as_str(), service.span);
        } else if !to.contains(&service.value) {
            let it = Diagnostic::error(
                codes::ROUTE_WITHOUT_EDGE,
                service.span,
                format!("no edge leads from `{name}` to `{}`", service.value),
            );
            self.report.push(it.help(format!(
                "add the edge `{name} -> {}: [GET /**]`",
                service.value
            )));
        }
        let hosts = listener.hosts.items();
        if !hosts.is_empty() && !hosts.iter().any(|host| host.value == route.host) {
            let message = format!("`{name}` does not answer to `{}`", route.host);
            self.error(
                codes::HOST,
                route.span,
                message,
                format!("add `{}` to `hosts`", route.host),
            );
        }
    }
}

/// `dev` is built in.
fn login(name: &Name) -> Login {
    if name.as_str() == "dev" {
        Login::Dev
    } else {
        Login::Oidc(name.clone())
    }
}
