//! Listeners, what callers prove at each, and names that mean two things.

use super::Resolver;
use super::built_in;
use super::logins::DEV;
use crate::config::Cors;
use crate::config::DoorTls;
use crate::config::Listener;
use crate::config::Login;
use crate::config::PeerKind;
use crate::config::Signature;
use crate::config::codes;
use crate::config::diagnostic::Diagnostic;
use crate::config::parse;
use crate::config::parse::Given;
use crate::config::parse::Spanned;
use crate::config::sources::Span;
use crate::vocabulary::Name;
use hashbrown::HashMap;
use indexmap::IndexMap;

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
        let ours = |name: &Name| {
            let mut all = built_in::RESERVED.iter().chain(&built_in::OWN);
            all.any(|it| *it == name.as_str())
        };
        let doors = listeners.chain(identities).filter(|(name, _)| ours(name));
        let logins = document.logins.iter().map(|(name, it)| (name, it.name));
        let logins = logins.filter(|(name, _)| name.as_str() == DEV);
        for (name, span) in doors.chain(logins) {
            let message = format!("`{name}` is a name of countersign itself");
            let it = Diagnostic::error(codes::OWN_NAME, span, message);
            self.report.push(
                it.label("a reserved name")
                    .help(format!("rename it, for example to `my-{name}`")),
            );
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
            self.check_peer(name, listener);
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

    /// The floor of the decision matrix: what each kind of caller has to prove.
    fn check_peer(&mut self, name: &Name, listener: &parse::Listener) {
        let Some(peer) = listener.peer.value() else {
            return;
        };
        match peer {
            PeerKind::Browser => self.check_browser(name, listener),
            PeerKind::Partner => self.check_partner_door(name, listener),
            PeerKind::ThirdParty => self.check_webhook(name, listener),
            _ => {}
        }
        self.check_keys(listener, *peer);
        self.check_certificate(name, listener, *peer);
    }

    fn check_browser(&mut self, name: &Name, listener: &parse::Listener) {
        match listener.login.spanned() {
            Some(login) => self.check_sign_in(login),
            None if listener.login.is_absent() => self.no_login(name, listener),
            None => {}
        }
        if self.is_prod() && listener.hosts.is_absent() {
            self.no_hosts(name, listener, "answers to no host name");
        }
    }

    fn no_login(&mut self, name: &Name, listener: &parse::Listener) {
        let message = format!("at `{name}` nobody can sign in");
        let it = Diagnostic::error(codes::NO_LOGIN, listener.name, message);
        let help = match self.document.logins.keys().next() {
            Some(login) => format!("add `login: {login}`"),
            None => "add `login: dev` (with `environment: dev`)".to_owned(),
        };
        self.report.push(it.label("has no `login`").help(help));
    }

    fn no_hosts(&mut self, name: &Name, listener: &parse::Listener, what: &str) {
        let message = format!("`{name}` {what}");
        let it = Diagnostic::error(codes::NO_HOSTS, listener.name, message);
        self.report.push(
            it.label("has no `hosts`")
                .help("add `hosts: [app.acme.example]`"),
        );
    }

    fn check_webhook(&mut self, name: &Name, listener: &parse::Listener) {
        if listener.signature.is_absent() {
            let message = format!("at `{name}` anybody can send");
            let it = Diagnostic::error(codes::NO_SIGNATURE, listener.name, message);
            let help = "add `signature: { secret: webhook, scheme: standard-webhooks }`";
            self.report.push(it.label("has no `signature`").help(help));
        }
    }

    /// A key that means nothing at this door looks like a restriction that is not enforced.
    fn check_keys(&mut self, listener: &parse::Listener, peer: PeerKind) {
        use PeerKind::Browser;
        use PeerKind::Partner;
        use PeerKind::ThirdParty;
        let keys: [(_, _, &[PeerKind], _); 6] = [
            ("login", listener.login.span(), &[Browser], "browser"),
            (
                "client_ca",
                listener.client_ca.span(),
                &[Partner],
                "partner",
            ),
            (
                "signature",
                listener.signature.span(),
                &[ThirdParty],
                "third-party",
            ),
            (
                "routes",
                listener.routes.span(),
                &[Browser, ThirdParty],
                "browser",
            ),
            ("min_tls", listener.tls12.span(), &[Browser], "browser"),
            ("cors", listener.cors.span(), &[Browser], "browser"),
        ];
        for (key, span, peers, word) in keys {
            if let (Some(span), false) = (span, peers.contains(&peer)) {
                let message = format!("`{key}` is for `peer: {word}`");
                let help = format!("remove `{key}`");
                self.error(codes::KEY_NOT_HERE, span, message, help);
            }
        }
    }

    /// Where a door's certificate can come from: workloads expect one of the trust domain.
    fn check_certificate(&mut self, name: &Name, listener: &parse::Listener, peer: PeerKind) {
        let Some(tls) = listener.tls.spanned() else {
            return;
        };
        let acme = tls.value == DoorTls::Acme;
        let message = match &tls.value {
            DoorTls::Internal => return,
            _ if peer == PeerKind::Service => {
                "workloads expect a certificate of the trust domain here"
            }
            DoorTls::Acme if self.is_dev() => "no authority on the internet can reach loopback",
            _ => {
                if acme && listener.hosts.items().is_empty() && !self.is_prod_browser(peer) {
                    self.no_hosts(name, listener, "has no host name to get a certificate for");
                }
                return;
            }
        };
        let help = "write `tls: internal`, or remove the key";
        self.error(codes::KEY_NOT_HERE, tls.span, message, help);
    }

    /// Where the same was said already.
    fn is_prod_browser(&self, peer: PeerKind) -> bool {
        self.is_prod() && peer == PeerKind::Browser
    }
}

/// `dev` is built in.
fn login(name: &Name) -> Login {
    if name.as_str() == DEV {
        Login::Dev
    } else {
        Login::Oidc(name.clone())
    }
}
