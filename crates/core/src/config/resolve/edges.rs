//! Edges: both ends exist, and what they allow exists.

use super::Resolver;
use super::built_in;
use super::floors;
use crate::config::Edge;
use crate::config::PeerKind;
use crate::config::codes;
use crate::config::diagnostic::Diagnostic;
use crate::config::parse;
use crate::config::parse::Spanned;
use crate::config::parse::listed;
use crate::config::sources::Span;
use crate::config::suggest::closest;
use crate::vocabulary::Name;
use crate::vocabulary::Operation;
use crate::vocabulary::OperationPattern;
use hashbrown::HashMap;
use hashbrown::HashSet;

/// How many pairs of operation and edge are compared for one service.
const MAX_COMPARISONS: usize = 4_000_000;

impl<'a> Resolver<'a> {
    pub(super) fn edges(&mut self) -> Vec<Edge> {
        let mut resolved = Vec::with_capacity(self.document.edges.len());
        for edge in &self.document.edges {
            self.check_ends(edge);
            self.check_twice(edge.operations.items());
            let operations = edge
                .operations
                .items()
                .iter()
                .map(|it| it.value.clone())
                .collect();
            let place = self.place(edge.span);
            resolved.push(Edge {
                place,
                from: edge.from.value.clone(),
                to: edge.to.value.clone(),
                operations,
            });
        }
        resolved
    }

    fn check_ends(&mut self, edge: &parse::Edge) {
        let document = self.document;
        let (from, to) = (&edge.from, &edge.to);
        if !document.listeners.knows(&from.value) && !document.identities.knows(&from.value) {
            let names = document
                .listeners
                .keys()
                .chain(document.identities.keys())
                .map(Name::as_str);
            let otherwise = format!("add `{}: {{}}` to `identities`", from.value);
            let help = self.meant(from.value.as_str(), names, &otherwise);
            let message = format!("edge from nowhere: nothing is named `{}`", from.value);
            let it = Diagnostic::error(codes::EDGE_NOWHERE, from.span, message);
            self.report
                .push(it.label("not a listener or identity").help(help));
        }
        if !self.is_service(&to.value) {
            let names = document
                .services
                .keys()
                .map(Name::as_str)
                .chain(built_in::RESERVED);
            let help = self.meant(
                to.value.as_str(),
                names,
                &format!("add `{}` to `services`", to.value),
            );
            let message = format!("edge to nowhere: nothing is named `{}`", to.value);
            let it = Diagnostic::error(codes::EDGE_NOWHERE, to.span, message);
            self.report.push(it.label("not a service").help(help));
        }
    }

    /// Whether what the edges allow is something the services have, and the other way round.
    pub(super) fn check_reach(&mut self) {
        let mut arriving: HashMap<&Name, Vec<&'a parse::Edge>> = HashMap::new();
        for edge in &self.document.edges {
            arriving.entry(&edge.to.value).or_default().push(edge);
        }
        for (name, service) in self.document.services.iter() {
            let Some(edges) = arriving.get(name) else {
                let help = format!(
                    "add an edge such as `web -> {name}: [GET /**]`, or remove the service"
                );
                self.warn(
                    codes::UNREACHED_SERVICE,
                    service.name,
                    format!("no edge reaches `{name}`"),
                    help,
                );
                continue;
            };
            if service.peer.value() == Some(&PeerKind::ThirdParty) {
                self.check_open(edges);
            }
            let wanted = edges.iter().flat_map(|edge| edge.operations.items());
            if let (Some(peer), false) = (service.peer.value(), service.trouble) {
                for it in wanted {
                    self.check_verb(&it.value, it.span, *peer);
                }
            }
            if !service.operations.items().is_empty() && !service.trouble {
                self.check_service_reach(name, service, edges);
            }
        }
        self.check_readers();
        for name in built_in::RESERVED {
            let edges = arriving
                .iter()
                .filter(|(to, _)| to.as_str() == name)
                .flat_map(|(_, edges)| edges.clone());
            let edges: Vec<_> = edges.collect();
            self.check_built_in_reach(name, &edges);
        }
    }

    fn check_open(&mut self, edges: &[&'a parse::Edge]) {
        for operation in edges.iter().flat_map(|edge| edge.operations.items()) {
            if operation.value.object() == "/**" {
                let message = "this edge opens everything that the credential opens";
                self.warn(
                    codes::OPEN_THIRD_PARTY,
                    operation.span,
                    message,
                    "list the paths that are called",
                );
            }
        }
    }

    fn check_service_reach(
        &mut self,
        name: &Name,
        service: &'a parse::Service,
        edges: &[&'a parse::Edge],
    ) {
        let fold = service.fold_case.value() == Some(&true);
        let rules = service.operations.items();
        let patterns: Vec<_> = rules
            .iter()
            .map(|rule| folded(&rule.pattern, fold))
            .collect();
        let wanted = || edges.iter().flat_map(|edge| edge.operations.items());
        let distinct: HashSet<_> = wanted().map(|it| folded(&it.value, fold)).collect();
        if distinct.len().saturating_mul(patterns.len()) > MAX_COMPARISONS {
            let message = format!("`{name}` has more operations and edges than can be compared");
            let help = "use patterns such as `GET /v1/**`, or split the service";
            return self.error(codes::TOO_BIG, service.name, message, help);
        }
        let mut reached = vec![false; rules.len()];
        let mut missed = HashSet::new();
        for wanted in distinct {
            let mut any = false;
            for (pattern, reached) in patterns.iter().zip(&mut reached) {
                let hit = pattern.overlaps(&wanted);
                *reached |= hit;
                any |= hit;
            }
            if !any {
                missed.insert(wanted);
            }
        }
        let peer = service.peer.value().copied().unwrap_or(PeerKind::Service);
        let missed = wanted().filter(|it| missed.contains(&folded(&it.value, fold)));
        for operation in missed.filter(|it| floors::has_verb(&it.value, peer)) {
            self.nothing_there(name.as_str(), operation, &patterns);
        }
        // With an illegible edge nobody knows what it would have reached.
        if edges.iter().any(|edge| edge.operations.value().is_none()) {
            return;
        }
        for (rule, _) in rules.iter().zip(reached).filter(|(_, reached)| !reached) {
            let message = format!("no edge to `{name}` allows `{}`", rule.pattern);
            let help = "add it to an edge, or remove the operation";
            self.warn(codes::UNREACHED_OPERATION, rule.span, message, help);
        }
    }

    fn check_built_in_reach(&mut self, service: &str, edges: &[&'a parse::Edge]) {
        let operations = || {
            edges
                .iter()
                .flat_map(|edge| edge.operations.items().iter().map(move |it| (*edge, it)))
        };
        if service != built_in::VAULT {
            let all = built_in::services(std::iter::empty());
            let rules = all
                .iter()
                .filter(|(name, _)| name.as_str() == service)
                .flat_map(|(_, it)| &it.operations);
            let patterns: Vec<_> = rules.filter_map(|rule| rule.pattern.clone()).collect();
            for (_, operation) in operations() {
                if !patterns
                    .iter()
                    .any(|pattern| pattern.overlaps(&operation.value))
                {
                    self.nothing_there(service, operation, &patterns);
                }
            }
            return;
        }
        for (edge, operation) in operations() {
            self.check_vault_operation(&edge.from.value, operation);
        }
    }

    fn check_vault_operation(&mut self, from: &Name, operation: &Spanned<OperationPattern>) {
        let object = operation.value.object();
        match operation.value.verb() {
            "read" | "write" if object.contains('*') => {}
            verb @ ("read" | "write") => {
                let Ok(name) = Name::new(object) else {
                    let help = format!("write `{verb} <name of a secret>`");
                    return self.error(codes::UNREACHABLE, operation.span, "which secret?", help);
                };
                self.check_secret(&name, operation.span);
                let secret = self.document.secrets.get(&name);
                if let (Some(secret), "read") = (secret, verb) {
                    self.check_reader(from, &name, secret, operation.span);
                }
            }
            "lease" => self.check_leased(object, operation.span),
            verb => {
                let message = format!("the vault has no operation `{verb}`");
                let help = "use `read <name of a secret>`, `write <name of a secret>` or `lease <name of a database>`";
                self.error(codes::UNREACHABLE, operation.span, message, help);
            }
        }
    }

    /// Whoever asks for a secret can be answered.
    fn check_reader(&mut self, from: &Name, name: &Name, secret: &parse::Secret, span: Span) {
        if secret.readers.is_absent() {
            let help = format!("add `readers: [{from}]` to the secret, or remove this");
            let message = format!("nobody may read `{name}`");
            return self.error(codes::UNREACHABLE, span, message, help);
        }
        let Some(readers) = secret.readers.value() else {
            return;
        };
        // Who acts for a person reads what the person may.
        let answered = readers.iter().any(|it| match &it.value {
            parse::Member::Identity(reader) => {
                reader == from || !self.document.identities.knows(reader)
            }
            parse::Member::Group { .. } | parse::Member::User { .. } => true,
        });
        if !answered {
            let message = format!("`{from}` is not among the readers of `{name}`");
            let help = format!("add `{from}` to the `readers` of `{name}`, or remove this");
            self.warn(codes::NOT_A_READER, span, message, help);
        }
    }

    /// Only databases have users to lease.
    fn check_leased(&mut self, object: &str, span: Span) {
        let services = &self.document.services;
        let name = Name::new(object).ok();
        if name.as_ref().is_none_or(|name| !services.knows(name)) {
            return self.unknown_service(object, span);
        }
        let service = name.and_then(|name| services.get(&name));
        let peer = service.and_then(|it| it.peer.value());
        if peer.is_some_and(|peer| *peer != PeerKind::Database) {
            let message = format!("`{object}` is no database, so it has no users to lease");
            let help = "name a service of `peer: database`";
            self.error(codes::UNREACHABLE, span, message, help);
        }
    }

    /// Readers that no edge lets ask.
    pub(super) fn check_readers(&mut self) {
        let document = self.document;
        if document.edges_trouble {
            return;
        }
        let injected = self.injected();
        let to_vault = document.edges.iter();
        let to_vault = to_vault.filter(|edge| edge.to.value.as_str() == built_in::VAULT);
        let to_vault: Vec<_> = to_vault.collect();
        let readable = document.secrets.iter();
        for (name, secret) in readable.filter(|(name, _)| !injected.contains(name)) {
            let read = Operation::named("read", name.as_str());
            let asks = |edge: &&&parse::Edge| {
                let mut operations = edge.operations.items().iter();
                operations.any(|it| it.value.matches(&read, false))
            };
            let asking = to_vault.iter().filter(asks);
            let asking: Vec<_> = asking.map(|it| &it.from.value).collect();
            for reader in secret.readers.items() {
                let (who, edge) = match &reader.value {
                    parse::Member::Identity(from) if !asking.contains(&from) => {
                        (from.as_str(), from.as_str())
                    }
                    // People read by any workload that acts for them.
                    parse::Member::Group { name, .. } if asking.is_empty() => {
                        (name.as_str(), "web")
                    }
                    parse::Member::User { sub, .. } if asking.is_empty() => (sub.as_str(), "web"),
                    _ => continue,
                };
                let message = format!("no edge lets `{who}` ask the vault for `{name}`");
                let help = format!(
                    "add an edge such as `{edge} -> vault: [read {name}]`, or remove `{who}` from `readers`"
                );
                self.warn(codes::READER_WITHOUT_EDGE, reader.span, message, help);
            }
        }
    }

    fn nothing_there(
        &mut self,
        service: &str,
        operation: &Spanned<OperationPattern>,
        offered: &[OperationPattern],
    ) {
        let text = operation.value.to_string();
        let suggest = self.report.may_suggest();
        let names: Vec<_> = offered
            .iter()
            .filter(|_| suggest)
            .map(ToString::to_string)
            .collect();
        let names = || names.iter().map(String::as_str);
        let deeper = deeper(&text).filter(|other| names().any(|it| it == other));
        let help = match (deeper, closest(&text, names())) {
            (Some(pattern), _) => {
                format!("`/**` is anything below, not the path itself: write `{pattern}`")
            }
            (None, Some(name)) => format!("did you mean `{name}`?"),
            (None, None) if names().next().is_none() => "remove it".to_owned(),
            (None, None) => format!("remove it, or use one of {}", listed(names())),
        };
        let message = format!("`{service}` has no operation that `{text}` could be");
        let it =
            Diagnostic::error(codes::UNREACHABLE, operation.span, message).label("opens nothing");
        self.report.push(it.help(help));
    }
}

/// The pattern `GET /a` when the edge says `GET /a/**`, or the other way round.
fn deeper(wanted: &str) -> Option<String> {
    match wanted.strip_suffix("/**") {
        Some(above) => above.contains('/').then(|| above.to_owned()),
        None => Some(format!("{wanted}/**")),
    }
}

fn folded(pattern: &OperationPattern, fold: bool) -> OperationPattern {
    let lower = || {
        format!(
            "{} {}",
            pattern.verb(),
            pattern.object().to_ascii_lowercase()
        )
    };
    let folded = fold
        .then(|| OperationPattern::parse(&lower()).ok())
        .flatten();
    folded.unwrap_or_else(|| pattern.clone())
}
