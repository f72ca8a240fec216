use super::super::Case;
use super::super::identity::Caller;
use super::super::identity::Subject;
use super::Refusal;
use super::may_read;
use crate::hop::Claims;
use crate::snapshot::Snapshot;
use crate::snapshot::VAULT;
use crate::vocabulary::Code;
use crate::vocabulary::Permission;
use crate::vocabulary::SpiffeId;
use crate::vocabulary::Timestamp;
use std::collections::BTreeSet;
use std::time::Duration;

/// What the issuer may put into a token: it signs this and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenGrant {
    /// Who acts for the subject, nearest first.
    pub act: Vec<SpiffeId>,
    /// The one audience.
    pub audience: String,
    /// The most an exchange may draw from it.
    pub ceil: Vec<Permission>,
    /// The person's groups.
    pub groups: Vec<String>,
    /// How long it lives at most.
    pub lifetime: Duration,
    /// The subject's roles, for upstreams.
    pub roles: Vec<String>,
    /// What it opens.
    pub scope: Vec<Permission>,
    /// The session it is drawn from.
    pub sid: Option<crate::vocabulary::Digest>,
    /// The subject.
    pub subject: String,
}

/// A token lives at most this long, whatever it was drawn from.
const LIFETIME: Duration = Duration::from_secs(60);
/// The most permissions one request asks for, and the most bytes one of them has.
const ASKED: usize = 64;
const ASKED_BYTES: usize = 128;
/// A delegation chain has at most this many workloads.
const CHAIN: usize = 8;

pub(super) fn grant(
    case: &Case,
    caller: &Caller,
    subject: &Subject,
) -> Result<TokenGrant, Refusal> {
    let snapshot = &case.state.snapshot;
    let facts = &case.hop.facts;
    let Some(service) = facts.requested_service.as_deref() else {
        return Err((Code::NO_EDGE, "a token is for one service".to_owned()));
    };
    bounded(&facts.requested_scope)?;
    let parent = parent(case);
    let held = held(snapshot, subject);
    let within = |permission: &Permission| match parent {
        Some(parent) => parent.ceil.contains(permission),
        None => true,
    };
    let opens = opens(case, caller, subject, service, &held);
    let scope: Vec<_> = opens
        .iter()
        .filter(|it| within(it))
        .filter(|it| asked(case, it))
        .cloned()
        .collect();
    if scope.is_empty() && !facts.requested_scope.is_empty() {
        let has = held.iter().any(|it| asked(case, it));
        return Err(nothing_left(case, subject, has, parent, &opens));
    }
    let onward = snapshot.reach(service).into_iter().flatten();
    let reader = |permission: &&Permission| {
        held.contains(*permission) || reads_with(snapshot, subject, permission)
    };
    let ceil = onward
        .filter(reader)
        .filter(|it| within(it))
        .cloned()
        .collect();
    Ok(TokenGrant {
        act: chain(case, caller, subject, parent)?,
        audience: snapshot.config().trust_domain.audience(service),
        ceil,
        groups: if let Subject::Person { groups, .. } = subject {
            groups.clone()
        } else {
            Vec::new()
        },
        lifetime: lifetime(case, parent),
        roles: roles(snapshot, subject),
        scope,
        sid: sid(case, parent),
        subject: subject_of(snapshot, subject),
    })
}

/// The token it is exchanged from; a session's own token is where a chain starts.
fn parent(case: &Case) -> Option<&Claims> {
    let token = case
        .hop
        .evidence
        .verified_token()
        .map(|token| &token.claims);
    token.filter(|_| case.hop.evidence.session.is_none() && !case.state.snapshot.is_open())
}

/// Words no permission can be, or more than a caller can mean, only make records long.
fn bounded(asked: &[String]) -> Result<(), Refusal> {
    if asked.len() <= ASKED && asked.iter().all(|it| it.len() <= ASKED_BYTES) {
        return Ok(());
    }
    Err((
        Code::BODY_UNREADABLE,
        format!("a scope has at most {ASKED} words of at most {ASKED_BYTES} bytes"),
    ))
}

fn roles(snapshot: &Snapshot, subject: &Subject) -> Vec<String> {
    let all = &snapshot.config().roles;
    let indices = match subject.holder() {
        Some(holder) => snapshot.grants().roles(holder),
        None if *subject == Subject::Anyone => (0..all.len()).collect(),
        None => Vec::new(),
    };
    let names = indices.into_iter().filter_map(|index| all.get_index(index));
    names.map(|(name, _)| name.to_string()).collect()
}

fn held(snapshot: &Snapshot, subject: &Subject) -> BTreeSet<Permission> {
    if *subject == Subject::Anyone {
        return snapshot.permissions();
    }
    let holder = subject.holder();
    holder
        .map(|holder| snapshot.grants().permissions(holder))
        .unwrap_or_default()
        .into_iter()
        .collect()
}

/// What the subject may open at the service over the edges that lead there.
fn opens(
    case: &Case,
    caller: &Caller,
    subject: &Subject,
    service: &str,
    held: &BTreeSet<Permission>,
) -> BTreeSet<Permission> {
    let snapshot = &case.state.snapshot;
    let door = case
        .hop
        .facts
        .requested_door
        .as_ref()
        .map(crate::vocabulary::Name::as_str);
    if *caller == Caller::Anyone {
        let asked = &case.hop.facts.requested_scope;
        let asked: BTreeSet<_> = asked
            .iter()
            .filter_map(|it| Permission::new(it).ok())
            .collect();
        return if asked.is_empty() {
            held.clone()
        } else {
            asked
        };
    }
    let from = caller.name().or(door).unwrap_or_default();
    let by_door = caller.partner_door();
    let starts = by_door.into_iter().chain([from]);
    let needed = starts.flat_map(|it| snapshot.needed(it, service));
    needed
        .filter(|it| held.contains(it) || service == VAULT && reads_with(snapshot, subject, it))
        .collect()
}

/// Whether the permission opens some secret that the subject is a reader of.
fn reads_with(snapshot: &Snapshot, subject: &Subject, permission: &Permission) -> bool {
    let mut secrets = snapshot.config().secrets.values();
    secrets.any(|secret| secret.needs == *permission && may_read(secret, subject))
}

fn asked(case: &Case, permission: &Permission) -> bool {
    let asked = &case.hop.facts.requested_scope;
    asked.is_empty() || asked.iter().any(|scope| scope == permission.as_str())
}

/// Why no permission is left for a subject, which `has` one that was asked for or has none.
fn nothing_left(
    case: &Case,
    subject: &Subject,
    has: bool,
    parent: Option<&Claims>,
    opens: &BTreeSet<Permission>,
) -> Refusal {
    let asked = case.hop.facts.requested_scope.join(" ");
    let asked = crate::vocabulary::clip(&asked, 256);
    let could = opens
        .iter()
        .any(|permission| asked.split(' ').any(|it| it == permission.as_str()));
    if parent.is_some() && could {
        return (
            Code::ABOVE_CEILING,
            format!("`{asked}` is above what the subject token may hand on"),
        );
    }
    let reason = if has {
        format!("`{subject}` has `{asked}`, but no edge leads to an operation that needs it")
    } else {
        format!("`{subject}` may not have `{asked}` here")
    };
    (Code::ROLE_LACKS, reason)
}

/// Who acts: the exchanging workload in front of whoever acted before; at a door, the door.
///
/// A person comes in by a door and never without one: a token of theirs that names nobody who acts
/// was not given by them.
fn chain(
    case: &Case,
    caller: &Caller,
    subject: &Subject,
    parent: Option<&Claims>,
) -> Result<Vec<SpiffeId>, Refusal> {
    let domain = &case.state.snapshot.config().trust_domain;
    let mut act = Vec::new();
    match (caller, parent) {
        (Caller::Identity(name) | Caller::Partner { name, .. }, Some(parent)) => {
            act.push(SpiffeId::of_identity(domain, name));
            act.extend(parent.act.iter().cloned());
        }
        (Caller::Process { .. }, _) => {
            act.extend(
                case.hop
                    .facts
                    .requested_door
                    .as_ref()
                    .map(|door| SpiffeId::of_door(domain, door)),
            );
        }
        _ => {}
    }
    let unsent = act.is_empty() || parent.is_some_and(|parent| parent.act.is_empty());
    if unsent && matches!(subject, Subject::Person { .. }) {
        return Err((
            Code::ABOVE_CEILING,
            "a person's token says by which door they came".to_owned(),
        ));
    }
    if act.len() > CHAIN {
        return Err((
            Code::ABOVE_CEILING,
            format!("a chain has at most {CHAIN} workloads"),
        ));
    }
    Ok(act)
}

/// Never longer than what it is drawn from.
fn lifetime(case: &Case, parent: Option<&Claims>) -> Duration {
    let session = case.hop.evidence.session.as_ref().map(|it| it.ends);
    let parent = parent.map(|parent| Timestamp::from_secs(parent.exp));
    let ends = session.into_iter().chain(parent);
    ends.map(|end| end.since(case.hop.at))
        .fold(LIFETIME, Duration::min)
}

fn sid(case: &Case, parent: Option<&Claims>) -> Option<crate::vocabulary::Digest> {
    let session = case
        .hop
        .evidence
        .session
        .as_ref()
        .map(|session| session.sid);
    session.or_else(|| parent.and_then(|parent| parent.sid))
}

fn subject_of(snapshot: &Snapshot, subject: &Subject) -> String {
    match subject {
        Subject::Workload(name) => SpiffeId::of_identity(&snapshot.config().trust_domain, name)
            .as_str()
            .to_owned(),
        other => other.to_string(),
    }
}
