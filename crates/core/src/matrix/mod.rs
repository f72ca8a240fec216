//! Who may do what, by which way, and because of which lines.
//!
//! [`rows`] walks the arrows of a configuration from every door and every workload, as a request
//! and the tokens exchanged for it would: a hop is listed if an edge leads to the operation and the
//! subject holds what its rules need; from a service that answers, the walk goes on as its
//! identity, for the same subject. Of several ways between the same two ends the shortest is
//! listed. What only shows at run time (a model, the hour, a body, an approval) is a condition of
//! the row. The answer of one request is [`decide`](crate::decide)'s; this is the map.

mod grid;
mod hold;
mod ours;
mod theirs;

pub use grid::Cell;
pub use grid::Grid;
pub use grid::GridRow;
pub use grid::grid;

use crate::config::Config;
use crate::config::Edge;
use crate::config::IdentityKind;
use crate::config::Listener;
use crate::config::Member;
use crate::config::PeerKind;
use crate::config::Place;
use crate::config::ServiceUrl;
use crate::vocabulary::Name;
use hashbrown::HashMap;
use hashbrown::HashSet;
use hold::Holders;
use hold::Subject;
use serde::Serialize;
use std::collections::VecDeque;

/// Who may do what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Because of what, in the order in which it is asked.
    pub because: Vec<Because>,
    /// What has to hold as well when it is asked, such as `models gpt-*`.
    pub conditions: Vec<String>,
    /// The operations, as a pattern.
    pub operation: String,
    /// The service.
    pub service: String,
    /// The workloads and the door it comes by, door first; empty for a workload by itself.
    pub via: Vec<Name>,
    /// Who: a member as the file says it, `anyone at NAME`, or one of our own processes.
    pub who: String,
}

/// A line that lets it through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Because {
    /// Where it is written; nothing if it is built in.
    pub place: Option<Place>,
    /// What is written there, such as `role analyst`.
    pub what: String,
}

/// Which rows are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only to this service.
    pub service: Option<String>,
    /// Only for whoever is called this; the part after `:` and after `/` suffices.
    pub who: Option<String>,
}

/// Rows, as many as were asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rows {
    /// Whether there are more.
    pub more: bool,
    /// The rows: by who in the order of the file, then by distance.
    pub rows: Vec<Row>,
}

/// Who may do what: at most `limit` rows.
///
/// The work is bounded by the subjects times the edges, and ends with the last row that is wanted.
#[must_use]
pub fn rows(config: &Config, filter: &Filter, limit: usize) -> Rows {
    let mut walk = Walk {
        config,
        edges: by_caller(config),
        filter,
        found: Vec::new(),
        holders: Holders::of(config),
        limit,
        seen: HashSet::new(),
    };
    for (name, listener) in &config.listeners {
        walk.door(name, listener);
    }
    for name in config.identities.keys() {
        let subject = Subject::Member(Member::Identity(name.clone()));
        walk.from(&subject, name, Vec::new());
    }
    walk.built_in();
    let more = walk.found.len() > limit;
    walk.found.truncate(limit);
    Rows {
        more,
        rows: walk.found,
    }
}

impl Row {
    /// `web > frontend`, or `-`.
    #[must_use]
    pub fn via_text(&self) -> String {
        if self.via.is_empty() {
            return "-".to_owned();
        }
        let names: Vec<_> = self.via.iter().map(Name::as_str).collect();
        names.join(" > ")
    }

    /// `GET hms-api /v1/reports/** (models gpt-*)`.
    #[must_use]
    pub fn may_text(&self) -> String {
        let (verb, object) = self
            .operation
            .split_once(' ')
            .unwrap_or((&self.operation, ""));
        let mut text = format!("{verb} {}", self.service);
        if !object.is_empty() {
            text.push(' ');
            text.push_str(object);
        }
        if !self.conditions.is_empty() {
            text.push_str(&format!(" ({})", self.conditions.join("; ")));
        }
        text
    }

    /// `edge 76, report:read 43, role analyst 26`; `line` says where a place is.
    #[must_use]
    pub fn because_text(&self, line: &dyn Fn(Place) -> String) -> String {
        let told = self.because.iter().map(|it| match it.place {
            Some(place) if place.line > 0 => format!("{} {}", it.what, line(place)),
            _ => it.what.clone(),
        });
        told.collect::<Vec<_>>().join(", ")
    }
}

impl Because {
    fn at(what: impl Into<String>, place: Place) -> Self {
        Self {
            place: Some(place),
            what: what.into(),
        }
    }

    fn built_in(what: impl Into<String>) -> Self {
        Self {
            place: None,
            what: what.into(),
        }
    }
}

impl Filter {
    fn wants(&self, who: &str) -> bool {
        let Some(wanted) = &self.who else { return true };
        let short = who.rsplit([':', '/']).next();
        let member = who.split_once(':').map(|(_, name)| name);
        wanted == who || Some(wanted.as_str()) == short || Some(wanted.as_str()) == member
    }
}

/// A chain of workloads is at most this long, as the issuer holds it to.
const CHAIN: usize = 8;

/// Edges by who they start at; the order of the file stays.
fn by_caller(config: &Config) -> HashMap<&Name, Vec<&Edge>> {
    let mut edges: HashMap<&Name, Vec<&Edge>> = HashMap::new();
    for edge in &config.edges {
        edges.entry(&edge.from).or_default().push(edge);
    }
    edges
}

struct Walk<'a> {
    config: &'a Config,
    edges: HashMap<&'a Name, Vec<&'a Edge>>,
    filter: &'a Filter,
    found: Vec<Row>,
    holders: Holders<'a>,
    limit: usize,
    /// Rows that were told already: who, by which way, what.
    seen: HashSet<(String, Vec<Name>, String, String)>,
}

impl<'a> Walk<'a> {
    fn door(&mut self, name: &Name, listener: &Listener) {
        match (listener.peer, &listener.login) {
            (PeerKind::Browser, Some(login)) => {
                let all = Subject::Anyone(login.name().to_owned());
                self.from(&all, name, vec![name.clone()]);
                for member in self.holders.people(login.name()) {
                    self.from(&Subject::Member(member), name, vec![name.clone()]);
                }
            }
            (PeerKind::Partner, _) => {
                let theirs: Vec<_> = self.partners(listener).collect();
                for partner in theirs {
                    let subject = Subject::Member(Member::Identity(partner));
                    self.from(&subject, name, vec![name.clone()]);
                }
            }
            _ => {}
        }
    }

    /// The partners that the authority of a door vouches for.
    fn partners(&self, listener: &Listener) -> impl Iterator<Item = Name> {
        let door = listener.client_ca.as_ref();
        let door = door
            .map(crate::config::Attached::authorities)
            .unwrap_or_default();
        self.config.identities.iter().filter_map(move |(name, it)| {
            let IdentityKind::Partner { ca, .. } = &it.kind else {
                return None;
            };
            let shared = ca.authorities().iter().any(|it| door.contains(it));
            shared.then(|| name.clone())
        })
    }

    /// Everything a subject reaches from a door or a workload, and on from there.
    fn from(&mut self, subject: &Subject, start: &Name, via: Vec<Name>) {
        if !self.filter.wants(&subject.to_string()) {
            return;
        }
        let mut been: HashSet<Name> = [start.clone()].into_iter().collect();
        let mut ahead = VecDeque::from([(start.clone(), via)]);
        while let Some((caller, via)) = ahead.pop_front() {
            if self.found.len() > self.limit {
                return;
            }
            let edges = self.edges.get(&caller).cloned().unwrap_or_default();
            for edge in edges {
                let Some(onward) = self.over(subject, edge, &via) else {
                    continue;
                };
                if via.len() < CHAIN && been.insert(onward.clone()) {
                    let mut via = via.clone();
                    via.push(onward.clone());
                    ahead.push_back((onward, via));
                }
            }
        }
    }

    /// The rows of one edge; the identity to go on as, if the subject may do anything there.
    fn over(&mut self, subject: &Subject, edge: &'a Edge, via: &[Name]) -> Option<Name> {
        let (rows, onward) = match self.config.services.get(&edge.to) {
            Some(service) if !matches!(service.url(), Some(ServiceUrl::BuiltIn)) => {
                let rows = theirs::rows(self, subject, edge, service);
                (rows, Some(service.identity.clone()))
            }
            _ => (ours::rows(self, subject, edge), None),
        };
        let any = !rows.is_empty();
        for row in rows {
            // What anyone may who signs in is told once, for anyone.
            if row.needs_nothing && subject.is_covered() {
                continue;
            }
            self.tell(subject.to_string(), via, row);
        }
        onward.filter(|_| any)
    }

    fn tell(&mut self, who: String, via: &[Name], found: Found) {
        let service = found.service;
        if self
            .filter
            .service
            .as_ref()
            .is_some_and(|it| *it != service)
            || !self.filter.wants(&who)
            || self.found.len() > self.limit
        {
            return;
        }
        let key = (
            who.clone(),
            via.to_vec(),
            service.clone(),
            found.operation.clone(),
        );
        if !self.seen.insert(key) {
            return;
        }
        self.found.push(Row {
            because: found.because,
            conditions: found.conditions,
            operation: found.operation,
            service,
            via: via.to_vec(),
            who,
        });
    }
}

/// A row before it is known who it is for.
struct Found {
    because: Vec<Because>,
    conditions: Vec<String>,
    /// Whether the edge alone suffices.
    needs_nothing: bool,
    operation: String,
    service: String,
}
