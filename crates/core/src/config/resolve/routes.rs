//! Where browser and webhook doors lead.

use super::Resolver;
use crate::config::PeerKind;
use crate::config::Route;
use crate::config::codes;
use crate::config::diagnostic::Diagnostic;
use crate::config::parse;
use crate::vocabulary::Name;
use crate::vocabulary::OperationPattern;
use hashbrown::HashMap;
use indexmap::IndexMap;
use indexmap::IndexSet;
use std::cmp::Reverse;

impl<'a> Resolver<'a> {
    /// Most specific first: the longest literal beginning, then exact before open.
    pub(super) fn routes(&self, listener: &parse::Listener) -> Vec<Route> {
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
            let routed = matches!(
                listener.peer.value(),
                Some(PeerKind::Browser | PeerKind::ThirdParty)
            );
            if !routed {
                continue;
            }
            if listener.routes.is_absent() {
                self.check_single(name, listener, to);
            }
            for route in listener.routes.items() {
                self.check_route(name, listener, route, to);
            }
            self.check_origins(listener);
        }
    }

    fn check_single(&mut self, name: &Name, listener: &parse::Listener, to: &IndexSet<&Name>) {
        let (message, help) = match (to.get_index(0), to.get_index(1)) {
            (Some(_), None) => return,
            (None, _) => {
                let service = self.document.services.keys().next();
                let help = match service {
                    Some(service) => format!("add the edge `{name} -> {service}: [GET /**]`"),
                    None => "add a service to `services`, and an edge from here to it".to_owned(),
                };
                (format!("`{name}` leads nowhere"), help)
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

    /// Applications behind one host share an origin; whose they are is known from the `team` of
    /// the identity that each is.
    fn check_origins(&mut self, listener: &parse::Listener) {
        if listener.peer.value() != Some(&PeerKind::Browser) {
            return;
        }
        let mut owners: IndexMap<&str, (&Name, &str)> = IndexMap::new();
        for route in listener.routes.items() {
            let service = &route.service.value;
            let Some(owner) = self.owner(service) else {
                continue;
            };
            let (first, other) = *owners
                .entry(route.host.as_str())
                .or_insert((service, owner));
            if other != owner {
                let message = format!(
                    "`{service}` of `{owner}` and `{first}` of `{other}` share the origin `{}`",
                    route.host
                );
                let help = format!("give `{service}` a host of its own");
                self.warn(codes::SHARED_ORIGIN, route.service.span, message, help);
            }
        }
    }

    fn owner(&self, service: &Name) -> Option<&'a str> {
        let entry = self.document.services.get(service)?;
        let identity = entry.identity.value().unwrap_or(service);
        let identity = self.document.identities.get(identity)?;
        identity.team.value().map(String::as_str)
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
