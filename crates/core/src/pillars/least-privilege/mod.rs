//! Pillar 5: may this subject do this, with this token, now?
//!
//! Every rule that matches the operation counts: the permission must be in the token's scope
//! **and** come from a role of the subject, and models, hours, sizes and budgets must agree.
//! Budgets and rates are obligations: [`Pending`] names them, the enforcement point takes all or
//! none of them after everything else agreed, and what came of it completes the proof.

mod limits;
mod rates;
mod shape;
mod token;

pub use limits::Reservation;
pub use limits::cost;
pub use limits::priced_as;
pub(crate) use limits::wildcard;
pub use token::TokenGrant;

pub use crate::record::Charge;
pub use crate::record::Charged;
pub use crate::record::Demand;
pub use crate::record::Outcome;

use super::Case;
use super::identity::Caller;
use super::identity::Subject;
use super::micro_segmentation::BuiltIn;
use super::micro_segmentation::SegmentationProof;
use super::micro_segmentation::Way;
use crate::config::Member;
use crate::config::Needs;
use crate::config::OperationRule;
use crate::config::Secret;
use crate::hop::Hop;
use crate::pillars::Denial;
use crate::snapshot::Snapshot;
use crate::vocabulary::Code;
use crate::vocabulary::Pillar;
use std::sync::Arc;

/// Five pillars hold, if the demanded reservations can be made.
#[derive(Debug)]
#[must_use]
pub struct Pending {
    pub(super) case: Case,
    pub(super) caller: Caller,
    pub(super) subject: Subject,
    pub(super) way: Way,
    pub(super) demands: Vec<Demand>,
    pub(super) charges: Vec<Charge>,
    pub(super) grant: Option<TokenGrant>,
    pub(super) body_max: u64,
}

/// Scope, role, rules and limits agree.
#[derive(Debug)]
#[must_use]
pub struct PrivilegeProof {
    pub(super) pending: Pending,
    pub(super) reservation: Reservation,
}

type Refusal = (Code, String);

/// The fifth check.
pub(crate) fn prove(proof: SegmentationProof) -> Result<Pending, Box<Denial>> {
    let (case, caller, subject, way) = proof.into_parts();
    let case = case.without_fault(Pillar::LeastPrivilege)?;
    let found = match BuiltIn::of(&case.hop.service, &case.hop.operation) {
        Some(built_in) => ours(&case, &caller, &subject, built_in),
        None => theirs(&case, &caller, &subject),
    };
    match found {
        Ok(Found {
            charges,
            demands,
            grant,
            body_max,
        }) => Ok(Pending {
            case,
            caller,
            subject,
            way,
            demands,
            charges,
            grant,
            body_max,
        }),
        Err((code, reason)) => case.deny(code, reason),
    }
}

#[derive(Default)]
struct Found {
    charges: Vec<Charge>,
    demands: Vec<Demand>,
    grant: Option<TokenGrant>,
    body_max: u64,
}

impl Pending {
    /// The budgets that must be drawn on before this becomes a proof.
    #[must_use]
    pub fn demands(&self) -> &[Demand] {
        &self.demands
    }

    /// The rate limits that this call must be counted against before this becomes a proof.
    #[must_use]
    pub fn charges(&self) -> &[Charge] {
        &self.charges
    }

    /// What the issuer may put into a token, where one was asked for.
    #[must_use]
    pub const fn grant(&self) -> Option<&TokenGrant> {
        self.grant.as_ref()
    }

    /// Completes the proof with what came of the reservations.
    ///
    /// # Errors
    /// A denial if one was refused, or does not answer exactly what was demanded.
    pub fn complete(self, reservation: Reservation) -> Result<PrivilegeProof, Box<Denial>> {
        match reservation.answer(&self.demands, &self.charges) {
            Ok(()) => Ok(PrivilegeProof {
                pending: self,
                reservation,
            }),
            Err((code, reason)) => {
                let refused = self.case.deny(code, reason);
                refused.map_err(|denial| denial.after(reservation))
            }
        }
    }

    /// What was asked.
    #[must_use]
    pub fn hop(&self) -> &Hop {
        &self.case.hop
    }

    pub(crate) const fn subject(&self) -> &Subject {
        &self.subject
    }

    pub(crate) const fn way(&self) -> Way {
        self.way
    }

    /// The policy it was decided on.
    #[must_use]
    pub const fn snapshot(&self) -> &Arc<Snapshot> {
        &self.case.state.snapshot
    }
}

/// An operation of a configured service.
fn theirs(case: &Case, caller: &Caller, subject: &Subject) -> Result<Found, Refusal> {
    let snapshot = &case.state.snapshot;
    let hop = &case.hop;
    if snapshot.service(&hop.service).is_none() {
        return Err((Code::NO_EDGE, "no such service".to_owned()));
    }
    let listener = snapshot.config().listeners.get(hop.door.as_str());
    let mut found = Found {
        body_max: listener.map_or(u64::MAX, |it| it.limits.body),
        ..Found::default()
    };
    let (mut judged, mut shaped) = (Ok(()), Ok(()));
    for (place, rule) in snapshot.rules(&hop.service, &hop.operation) {
        if let Needs::Permission(permission) = &rule.needs {
            role_and_scope(case, subject, permission.as_str())?;
        }
        if rule.person && !subject.is_person() {
            return Err((
                Code::PERSON_REQUIRED,
                format!("`{subject}` is not a person"),
            ));
        }
        found.body_max = found.body_max.min(rule.body_max.unwrap_or(u64::MAX));
        // The last word of all rules, said behind those of each.
        judged = judged.and_then(|()| limits::judged(rule));
        // Where it is wrong is told to its sender, if nothing else speaks against the call.
        shaped = shaped.and_then(|()| shape::body(snapshot, hop, (place, rule)));
        limits::models(hop, rule)?;
        limits::hours(hop, rule)?;
        // Rules that share a budget set aside one sum for the one call, not one each.
        found
            .demands
            .extend(demand(case, subject, rule)?.filter(|it| !found.demands.contains(it)));
    }
    if hop
        .facts
        .body_bytes
        .is_some_and(|bytes| bytes > found.body_max)
    {
        return Err((
            Code::BODY_TOO_LARGE,
            format!("the body is over {} bytes", found.body_max),
        ));
    }
    shaped?;
    judged?;
    let rules = snapshot.rules(&hop.service, &hop.operation);
    found.charges = rates::charges(case, caller, subject, rules.map(|(_, rule)| rule));
    Ok(found)
}

fn demand(case: &Case, subject: &Subject, rule: &OperationRule) -> Result<Option<Demand>, Refusal> {
    let budgets = &case.state.snapshot.config().budgets;
    let Some((name, budget)) = rule
        .budget
        .as_ref()
        .and_then(|name| budgets.get_key_value(name))
    else {
        return Ok(None);
    };
    limits::demand(&case.hop, subject, name, budget).map(Some)
}

/// An operation of one of our own services. Who asks for it at a listener is one of its callers.
fn ours(
    case: &Case,
    caller: &Caller,
    subject: &Subject,
    built_in: BuiltIn,
) -> Result<Found, Refusal> {
    let mut found = Found {
        body_max: u64::MAX,
        ..Found::default()
    };
    match built_in {
        BuiltIn::Token => found.grant = Some(token::grant(case, caller, subject)?),
        BuiltIn::ReadSecret => reader(case, subject)?,
        _ => {
            let operator = caller
                .identity()
                .is_some_and(|name| case.state.snapshot.is_dev_operator(name));
            if let (Some(permission), false) = (built_in.permission(), operator) {
                role_and_scope(case, subject, permission)?;
            }
        }
    }
    found.charges.extend(rates::listener(case, caller, subject));
    Ok(found)
}

/// The role first: "no role grants it" tells an operator more than "the scope lacks it".
fn role_and_scope(case: &Case, subject: &Subject, permission: &str) -> Result<(), Refusal> {
    let snapshot = &case.state.snapshot;
    if snapshot.is_open() {
        return Ok(());
    }
    let Some(holder) = subject.holder() else {
        return Err((
            Code::ROLE_LACKS,
            format!("needs {permission}, which `{subject}` can't hold"),
        ));
    };
    if snapshot.grants().role(holder, permission).is_none() {
        let held = snapshot.grants().permissions(holder);
        let held: Vec<_> = held
            .iter()
            .map(crate::vocabulary::Permission::as_str)
            .collect();
        let has = if held.is_empty() {
            "nothing".to_owned()
        } else {
            held.join(" ")
        };
        return Err((
            Code::ROLE_LACKS,
            format!("needs {permission}, `{subject}` has {has}"),
        ));
    }
    in_scope(case, permission)
}

fn in_scope(case: &Case, permission: &str) -> Result<(), Refusal> {
    if case.state.snapshot.is_open() {
        return Ok(());
    }
    let Some(token) = case.hop.evidence.verified_token() else {
        return Ok(());
    };
    if token
        .claims
        .scope
        .iter()
        .any(|scope| scope.as_str() == permission)
    {
        return Ok(());
    }
    Err((
        Code::SCOPE_LACKS,
        format!("needs {permission}, which is not in the token's scope"),
    ))
}

/// `readers` grants exactly one name, and is the only such grant: no role opens a secret.
fn reader(case: &Case, subject: &Subject) -> Result<(), Refusal> {
    let name = &case.hop.operation.object;
    let snapshot = &case.state.snapshot;
    let Some(secret) = snapshot.secret(name) else {
        return Err((Code::NOT_A_READER, "no such secret".to_owned()));
    };
    if !snapshot.is_open() && !may_read(secret, subject) {
        return Err((
            Code::NOT_A_READER,
            format!("`{subject}` is not among the readers of `{name}`"),
        ));
    }
    in_scope(case, secret.needs.as_str())
}

pub(super) fn may_read(secret: &Secret, subject: &Subject) -> bool {
    secret.readers.iter().any(|reader| match (reader, subject) {
        (Member::Identity(name), Subject::Workload(workload)) => name == workload,
        (Member::User { login, sub }, Subject::Person { user, .. }) => {
            user.split_once(':') == Some((login.as_str(), sub.as_str()))
        }
        (Member::Group { login, name }, Subject::Person { groups, .. }) => groups
            .iter()
            .any(|group| group.split_once('/') == Some((login.as_str(), name.as_str()))),
        _ => false,
    })
}
