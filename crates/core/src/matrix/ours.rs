//! Rows for operations of our own services: by edge, and built in.

use super::Because;
use super::Found;
use super::Walk;
use super::hold::Subject;
use crate::config::Edge;
use crate::config::Environment;
use crate::config::Secret;
use crate::pillars::micro_segmentation::BuiltIn;
use crate::vocabulary::Name;
use crate::vocabulary::Operation;
use crate::vocabulary::OperationPattern;

const VAULT: &str = crate::snapshot::VAULT;
const ISSUER: &str = crate::snapshot::ISSUER;
const CONSOLE: &str = crate::snapshot::CONSOLE;
/// Operations that a wildcard takes in and that need something else than it does.
const APART: [(&str, &str); 2] = [("read", "explain"), ("revoke", "own")];

pub(super) fn rows(walk: &Walk<'_>, subject: &Subject, edge: &Edge) -> Vec<Found> {
    let mut found = Vec::new();
    for pattern in &edge.operations {
        if edge.to.as_str() == VAULT {
            found.extend(secrets(walk, subject, edge, pattern));
            continue;
        }
        let apart = APART
            .iter()
            .map(|(verb, object)| Operation::named(verb, object))
            .filter(|it| pattern.object() != it.object && pattern.matches(it, false))
            .filter(|it| BuiltIn::of(edge.to.as_str(), it).is_some());
        let asked = Operation::named(pattern.verb(), pattern.object());
        for operation in std::iter::once(asked).chain(apart) {
            found.extend(built_in(walk, subject, edge, &operation));
        }
    }
    found
}

fn built_in(
    walk: &Walk<'_>,
    subject: &Subject,
    edge: &Edge,
    operation: &Operation,
) -> Option<Found> {
    let it = BuiltIn::of(edge.to.as_str(), operation)?;
    let mut because = vec![Because::at("edge", edge.place)];
    if let Some(permission) = it.permission() {
        let (name, role) = walk.holders.role(subject, permission)?;
        because.push(Because::built_in(permission));
        because.push(Because::at(format!("role {name}"), role.place));
    }
    Some(Found {
        because,
        conditions: Vec::new(),
        needs_nothing: it.permission().is_none(),
        operation: operation.to_string(),
        service: edge.to.to_string(),
    })
}

/// Each secret by its name: `readers` grants one name, and no role opens another.
fn secrets(
    walk: &Walk<'_>,
    subject: &Subject,
    edge: &Edge,
    pattern: &OperationPattern,
) -> Vec<Found> {
    let one = |(name, secret): (&Name, &Secret)| {
        let operation = Operation::named(pattern.verb(), name.as_str());
        if !pattern.matches(&operation, false) {
            return None;
        }
        let mut because = vec![Because::at("edge", edge.place)];
        match BuiltIn::of(VAULT, &operation)? {
            BuiltIn::ReadSecret => {
                let Subject::Member(member) = subject else {
                    return None;
                };
                let reader = secret.readers.iter().find(|it| *it == member)?;
                because.push(Because::at(secret.needs.as_str(), secret.place));
                because.push(Because::at(format!("reader {reader}"), secret.place));
            }
            BuiltIn::WriteSecret => {
                let permission = BuiltIn::WriteSecret.permission()?;
                let (name, role) = walk.holders.role(subject, permission)?;
                because.push(Because::built_in(permission));
                because.push(Because::at(format!("role {name}"), role.place));
            }
            _ => return None,
        }
        Some(Found {
            because,
            conditions: Vec::new(),
            needs_nothing: false,
            operation: operation.to_string(),
            service: VAULT.to_owned(),
        })
    };
    walk.config.secrets.iter().filter_map(one).collect()
}

impl Walk<'_> {
    /// The arrows that nobody writes: they are told as what they are.
    pub(super) fn built_in(&mut self) {
        let row = |service: &str, operation: &str, conditions: &[&str]| Found {
            because: vec![Because::built_in("built in")],
            conditions: conditions.iter().map(|it| (*it).to_owned()).collect(),
            needs_nothing: true,
            operation: operation.to_owned(),
            service: service.to_owned(),
        };
        let every = "every identity".to_owned();
        let towards = "for a service its edges lead to";
        self.tell(every.clone(), &[], row(ISSUER, "token", &[towards]));
        self.tell(every, &[], row(ISSUER, "revoke own", &[]));
        let gateway = || "gateways".to_owned();
        let shown = "for the session shown, by an edge of its door";
        self.tell(gateway(), &[], row(ISSUER, "token", &[shown]));
        self.tell(gateway(), &[], row(CONSOLE, "connect", &[]));
        let injected: Vec<_> = self
            .config
            .services
            .iter()
            .filter_map(|(name, service)| Some((name, service.credential.as_ref()?)))
            .collect();
        for (name, credential) in injected {
            let mut found = row(VAULT, &format!("inject {}", credential.secret), &[]);
            found.conditions = vec![format!("into calls to {name}")];
            found.because = vec![Because::at(
                format!("credential of {name}"),
                credential.place,
            )];
            self.tell(gateway(), &[], found);
        }
        let users = self.config.identities.values();
        let named = users.filter_map(|it| it.unix_user()).next().is_some();
        if self.config.environment == Environment::Dev && !named {
            let who = "who runs the server".to_owned();
            let why = "in development, while no identity is a system user";
            for service in [CONSOLE, ISSUER, VAULT, crate::snapshot::AUDIT] {
                self.tell(who.clone(), &[], row(service, "anything", &[why]));
            }
        }
    }
}
