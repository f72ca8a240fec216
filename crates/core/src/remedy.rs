//! What would let a refused hop through, and what that would break.
//!
//! The smallest change of the configuration that names the subject is tried on a copy: the hop is
//! decided again, and so is every sentence of `tests` that holds today. Nothing is proposed that
//! was not tried.

use crate::config::Config;
use crate::config::Edge;
use crate::config::Member;
use crate::config::Needs;
use crate::config::Place;
use crate::decide::Verdict;
use crate::decide::decide;
use crate::explain::wants_edge;
use crate::hop::Hop;
use crate::pillars::identity::Subject;
use crate::proving::Judgement;
use crate::proving::prove_all;
use crate::snapshot::Snapshot;
use crate::snapshot::State;
use crate::snapshot::VAULT;
use crate::vocabulary::Code;
use crate::vocabulary::Name;
use crate::vocabulary::OperationPattern;
use serde::Serialize;
use std::sync::Arc;

/// A change of the configuration that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Remedy {
    /// What to add, as the file says it.
    pub add: String,
    /// The tests that hold today and would fail.
    pub breaks: Vec<String>,
    /// What would refuse the hop even then.
    pub then: Option<Code>,
    /// Where to add it: the entry that is there already.
    pub to: Option<Place>,
}

/// What would let a hop through, if it is refused for want of an edge, a role or a reader.
#[must_use]
pub fn remedy(hop: &Hop, state: &State) -> Option<Remedy> {
    let Verdict::Deny(denial) = decide(hop.clone(), state) else {
        return None;
    };
    let config = state.snapshot.config();
    let mut changed = config.clone();
    let (add, to) = match denial.code() {
        Code::NO_EDGE => edge(hop, &state.snapshot, &mut changed)?,
        Code::ROLE_LACKS if wants_edge(hop, &state.snapshot) => {
            edge(hop, &state.snapshot, &mut changed)?
        }
        Code::ROLE_LACKS => role(hop, &state.snapshot, &mut changed)?,
        Code::NOT_A_READER => reader(hop, &state.snapshot, &mut changed)?,
        _ => return None,
    };
    let snapshot = Snapshot::new(state.snapshot.bundle().clone(), changed);
    let next = State {
        revocations: state.revocations.clone(),
        snapshot: Arc::new(snapshot),
    };
    let then = match decide(hop.clone(), &next) {
        Verdict::Allow(_) => None,
        Verdict::Deny(denial) => Some(denial.code()),
    };
    Some(Remedy {
        add,
        breaks: broken(state, &next),
        then,
        to,
    })
}

/// The tests that hold in one state and fail in the other.
fn broken(before: &State, after: &State) -> Vec<String> {
    let (before, after) = (prove_all(before), prove_all(after));
    let both = before.iter().zip(&after);
    let lost = both.filter(|((_, was), (_, is))| {
        was.outcome == Judgement::Holds && is.outcome == Judgement::Fails
    });
    lost.map(|((test, _), _)| test.name.clone()).collect()
}

/// The arrow that is missing, for this operation alone.
fn edge(hop: &Hop, snapshot: &Snapshot, config: &mut Config) -> Option<(String, Option<Place>)> {
    let from = caller(hop, snapshot)?;
    let asked = hop.facts.requested_service.as_deref();
    let to = Name::new(asked.unwrap_or(&hop.service)).ok()?;
    if snapshot.service(to.as_str()).is_none() && to.as_str() != VAULT {
        return None;
    }
    let operations = match asked {
        Some(_) => wanted(hop, config, &to),
        None => vec![OperationPattern::parse(&hop.operation.to_string()).ok()?],
    };
    let told: Vec<_> = operations.iter().map(ToString::to_string).collect();
    let add = format!("{from} -> {to}: [{}]", told.join(", "));
    let there = |edge: &&mut Edge| edge.from == from && edge.to == to;
    if let Some(edge) = config.edges.iter_mut().find(there) {
        edge.operations.extend(operations);
        return Some((add, Some(edge.place)));
    }
    config.edges.push(Edge {
        place: Place::default(),
        from,
        to,
        operations,
    });
    Some((add, None))
}

/// The operations that a token was asked for: those that need what was asked, or else all.
fn wanted(hop: &Hop, config: &Config, to: &Name) -> Vec<OperationPattern> {
    let rules = config.services.get(to).map(|it| it.operations.as_slice());
    let rules = rules.unwrap_or_default();
    let asked = |needs: &Needs| match needs {
        Needs::Permission(it) => hop
            .facts
            .requested_scope
            .iter()
            .any(|scope| scope == it.as_str()),
        Needs::Edge => false,
    };
    let some: Vec<_> = rules.iter().filter(|rule| asked(&rule.needs)).collect();
    let chosen = if some.is_empty() {
        rules.iter().collect()
    } else {
        some
    };
    chosen
        .into_iter()
        .filter_map(|rule| rule.pattern.clone())
        .collect()
}

/// The role that gives the first permission that is wanting, with the subject among its members.
fn role(hop: &Hop, snapshot: &Snapshot, config: &mut Config) -> Option<(String, Option<Place>)> {
    let member = subject(hop, snapshot)?;
    let rules = snapshot.rules(&hop.service, &hop.operation);
    let needs: Vec<_> = rules
        .filter_map(|(_, rule)| match &rule.needs {
            Needs::Permission(it) => Some(it.as_str().to_owned()),
            Needs::Edge => None,
        })
        .chain(hop.facts.requested_scope.iter().cloned())
        .collect();
    let gives = |role: &crate::config::Role| {
        !role.members.contains(&member)
            && role
                .may
                .iter()
                .any(|it| needs.iter().any(|needed| needed == it.as_str()))
    };
    let (name, role) = config.roles.iter_mut().find(|(_, role)| gives(role))?;
    role.members.push(member.clone());
    Some((
        format!("{member} to the members of role {name}"),
        Some(role.place),
    ))
}

fn reader(hop: &Hop, snapshot: &Snapshot, config: &mut Config) -> Option<(String, Option<Place>)> {
    let member = subject(hop, snapshot)?;
    let name = Name::new(&hop.operation.object).ok()?;
    let secret = config.secrets.get_mut(&name)?;
    secret.readers.push(member.clone());
    Some((
        format!("{member} to the readers of secret {name}"),
        Some(secret.place),
    ))
}

/// Whose edges count.
fn caller(hop: &Hop, snapshot: &Snapshot) -> Option<Name> {
    match snapshot.id_of(&hop.evidence.peer) {
        Some(it) => snapshot.identity(&it).cloned(),
        None => {
            let listeners = &snapshot.config().listeners;
            listeners.contains_key(&hop.door).then(|| hop.door.clone())
        }
    }
}

/// Whose roles count, as the file names them.
fn subject(hop: &Hop, snapshot: &Snapshot) -> Option<Member> {
    match Subject::of_hop(snapshot, hop) {
        Some(Subject::Workload(name)) => Some(Member::Identity(name)),
        Some(Subject::Person { user, .. }) => {
            let (login, sub) = user.split_once(':')?;
            Some(Member::User {
                login: login.to_owned(),
                sub: sub.to_owned(),
            })
        }
        _ => caller(hop, snapshot).map(Member::Identity),
    }
}
