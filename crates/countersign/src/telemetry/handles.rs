//! Which counters a decision counts in. Labels are made once for each route and caller of a
//! revision; after that a decision finds its counters without a lock and without memory.

use super::durations::Durations;
use super::families::Families;
use arc_swap::ArcSwap;
use countersign_core::hop::Hop;
use countersign_core::hop::Peer;
use countersign_core::snapshot::Snapshot;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Operation;
use prometheus_client::metrics::counter::Counter;
use std::collections::HashMap;
use std::sync::Arc;

/// A label whose value is not known, or is nobody's business.
const NONE: &str = "-";
/// Services that are countersign itself.
const OURS: [&str; 6] = ["issuer", "vault", "console", "audit", "join", "control"];

/// The counters of one revision.
#[derive(Clone, Debug, Default)]
struct Table {
    revision: Option<Digest>,
    requests: HashMap<(Route, Caller, bool), Counter>,
    denials: HashMap<(Route, Code), Counter>,
    calls: HashMap<usize, Durations>,
}

/// A service and operation as far as policy knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Route {
    /// Nothing in policy: whatever was asked for is the caller's text.
    Unknown,
    /// One of our own services.
    Ours(usize),
    /// A service without such an operation.
    Service(usize),
    /// An operation of a service, by their places in the policy.
    Operation(usize, usize),
}

/// Who asks, as far as policy knows them. People are never told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Caller {
    Unproven,
    Person,
    Local,
    Joining,
    Countersign,
    Partner,
    Identity(usize),
}

#[derive(Debug, Default)]
pub(super) struct Handles(ArcSwap<Table>);

impl Handles {
    /// Counts a decision.
    pub(super) fn decided(
        &self,
        families: &Families,
        (snapshot, hop): (&Snapshot, &Hop),
        code: Option<Code>,
    ) {
        let table = self.of(snapshot);
        let route = Route::of(snapshot, &hop.service, &hop.operation);
        let caller = Caller::of(snapshot, hop);
        let key = (route, caller, code.is_none());
        match table.requests.get(&key) {
            Some(counter) => {
                counter.inc();
            }
            None => {
                let decision = if code.is_none() { "allow" } else { "deny" };
                let labels = [
                    ("route", route.label(snapshot)),
                    ("peer", caller.label(snapshot)),
                    ("decision", decision.to_owned()),
                ];
                let counter = families.requests.get_or_create_owned(&labels);
                counter.inc();
                self.add(snapshot, |table| {
                    table.requests.insert(key, counter.clone());
                });
            }
        }
        if let Some(code) = code {
            self.denied(families, snapshot, (route, code));
        }
    }

    fn denied(&self, families: &Families, snapshot: &Snapshot, key: (Route, Code)) {
        if let Some(counter) = self.of(snapshot).denials.get(&key) {
            counter.inc();
            return;
        }
        let (route, code) = key;
        let labels = [
            ("pillar", code.pillar().word().to_owned()),
            ("code", code.to_string()),
            ("route", route.label(snapshot)),
        ];
        let counter = families.denials.get_or_create_owned(&labels);
        counter.inc();
        self.add(snapshot, |table| {
            table.denials.insert(key, counter.clone());
        });
    }

    /// How long the calls of a service take; none for what is no service.
    pub(super) fn calls(
        &self,
        families: &Families,
        snapshot: &Snapshot,
        service: &str,
    ) -> Option<Durations> {
        let place = snapshot.config().services.get_index_of(service)?;
        if let Some(durations) = self.of(snapshot).calls.get(&place) {
            return Some(durations.clone());
        }
        let labels = [("service", service.to_owned())];
        let durations = families.upstream.get_or_create_owned(&labels);
        self.add(snapshot, |table| {
            table.calls.insert(place, durations.clone());
        });
        Some(durations)
    }

    /// The table of a revision; an empty one where there is none yet.
    fn of(&self, snapshot: &Snapshot) -> Arc<Table> {
        let table = self.0.load();
        if table.revision.as_ref() == Some(snapshot.revision()) {
            return Arc::clone(&table);
        }
        Arc::default()
    }

    fn add(&self, snapshot: &Snapshot, add: impl Fn(&mut Table)) {
        let revision = Some(*snapshot.revision());
        self.0.rcu(|table| {
            let mut table = if table.revision == revision {
                Table::clone(table)
            } else {
                Table {
                    revision,
                    ..Table::default()
                }
            };
            add(&mut table);
            table
        });
    }
}

impl Route {
    /// Where an operation falls; the first of several rules stands for all.
    pub(super) fn of(snapshot: &Snapshot, service: &str, operation: &Operation) -> Self {
        let services = &snapshot.config().services;
        let Some(place) = services.get_index_of(service) else {
            let ours = OURS.iter().position(|it| *it == service);
            return ours.map_or(Self::Unknown, Self::Ours);
        };
        match snapshot.rules(service, operation).next() {
            Some((rule, _)) => Self::Operation(place, rule),
            None => Self::Service(place),
        }
    }

    /// The configured name of the service.
    pub(super) fn service(self, snapshot: &Snapshot) -> Option<&str> {
        match self {
            Self::Unknown => None,
            Self::Ours(place) => OURS.get(place).copied(),
            Self::Service(place) | Self::Operation(place, _) => {
                let service = snapshot.config().services.get_index(place);
                service.map(|(name, _)| name.as_str())
            }
        }
    }

    /// Configured names and patterns, never what a caller wrote.
    pub(super) fn label(self, snapshot: &Snapshot) -> String {
        let services = &snapshot.config().services;
        let known = match self {
            Self::Unknown => None,
            Self::Ours(place) => OURS.get(place).map(|it| (*it).to_owned()),
            Self::Service(place) => services
                .get_index(place)
                .map(|(name, _)| format!("{name} {NONE}")),
            Self::Operation(place, rule) => {
                services.get_index(place).and_then(|(name, service)| {
                    let pattern = service.operations.get(rule)?.pattern.as_ref();
                    Some(pattern.map_or_else(
                        || format!("{name} *"),
                        |it| {
                            format!("{name} {} {}", it.verb(), it.object())
                                .trim_end()
                                .to_owned()
                        },
                    ))
                })
            }
        };
        known.unwrap_or_else(|| NONE.to_owned())
    }
}

impl Caller {
    fn of(snapshot: &Snapshot, hop: &Hop) -> Self {
        match &hop.evidence.peer {
            Peer::Certificate(leaf) => {
                let name = snapshot.identity(&leaf.spiffe_id);
                let identities = &snapshot.config().identities;
                let place = name.and_then(|it| identities.get_index_of(it.as_str()));
                match place {
                    Some(place) => Self::Identity(place),
                    None if leaf.spiffe_id.is_reserved() => Self::Countersign,
                    None => Self::Unproven,
                }
            }
            Peer::Local { .. } => Self::Local,
            Peer::Joining { .. } => Self::Joining,
            Peer::Anonymous if hop.evidence.session.is_some() => Self::Person,
            Peer::Anonymous | Peer::Refused { .. } => Self::Unproven,
            Peer::Partner(_) => Self::Partner,
        }
    }

    fn label(self, snapshot: &Snapshot) -> String {
        let fixed = match self {
            Self::Unproven => NONE,
            Self::Person => "browser",
            Self::Local => "local",
            Self::Joining => "joining",
            Self::Countersign => "countersign",
            Self::Partner => "partner",
            Self::Identity(place) => {
                let identities = &snapshot.config().identities;
                return identities
                    .get_index(place)
                    .map_or_else(|| NONE.to_owned(), |(name, _)| name.to_string());
            }
        };
        fixed.to_owned()
    }
}
