//! Pillar 4: does an edge lead from this caller to this service and operation?
//!
//! Deny by default: only the arrows of the configuration exist, and a few that are built in and
//! shown as such by `check --explain`. A service, operation or host that does not exist answers
//! exactly like a missing edge, so a caller can't map what they may not reach.

mod builtin;

pub(crate) use builtin::BuiltIn;

use super::Case;
use super::continuous_verification::ContinuousProof;
use super::identity::Caller;
use super::identity::Subject;
use crate::pillars::Denial;
use crate::vocabulary::Code;
use crate::vocabulary::Pillar;

/// An edge leads here.
#[derive(Debug)]
#[must_use]
pub struct SegmentationProof {
    case: Case,
    caller: Caller,
    subject: Subject,
    way: Way,
}

/// What let the caller through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The edge at this place of the configuration's list.
    Edge(usize),
    /// Built in.
    BuiltIn,
    /// All edges of `ZT_OFF`.
    Open,
}

/// The fourth check.
pub(crate) fn prove(proof: ContinuousProof) -> Result<SegmentationProof, Box<Denial>> {
    let (case, caller, subject) = proof.into_parts();
    let case = case.without_fault(Pillar::MicroSegmentation)?;
    match way(&case, &caller) {
        Ok(way) => Ok(SegmentationProof {
            case,
            caller,
            subject,
            way,
        }),
        Err(reason) => case.deny(Code::NO_EDGE, reason),
    }
}

impl SegmentationProof {
    pub(super) fn into_parts(self) -> (Case, Caller, Subject, Way) {
        (self.case, self.caller, self.subject, self.way)
    }
}

fn way(case: &Case, caller: &Caller) -> Result<Way, String> {
    let snapshot = &case.state.snapshot;
    let hop = &case.hop;
    let built_in = BuiltIn::of(&hop.service, &hop.operation);
    if built_in.is_none() {
        if snapshot.service(&hop.service).is_none() {
            return Err(format!(
                "no service `{}`",
                crate::vocabulary::clip(&hop.service, 64)
            ));
        }
        if snapshot
            .rules(&hop.service, &hop.operation)
            .next()
            .is_none()
        {
            return Err(format!(
                "service `{}` has no operation `{}`",
                hop.service, hop.operation
            ));
        }
    }
    if snapshot.is_open() {
        return Ok(Way::Open);
    }
    if let Some(built_in) = built_in {
        built_in.beyond(case, caller)?;
        if built_in.is_implicit(case, caller) {
            return Ok(Way::BuiltIn);
        }
    }
    let name = caller.name().unwrap_or_default();
    match snapshot.edge(name, &hop.service, &hop.operation) {
        Some(index) => Ok(Way::Edge(index)),
        None => by_door(case, caller),
    }
}

/// Without an edge of its own, a partner takes those of the door it came in by.
fn by_door(case: &Case, caller: &Caller) -> Result<Way, String> {
    let snapshot = &case.state.snapshot;
    let hop = &case.hop;
    let door = caller.partner_door();
    if let Some(index) = door.and_then(|it| snapshot.edge(it, &hop.service, &hop.operation)) {
        return Ok(Way::Edge(index));
    }
    let mut starts = caller.name().into_iter().chain(door);
    if starts.any(|it| snapshot.edges(it, &hop.service).next().is_some()) {
        return Err(format!(
            "no edge `{caller} -> {}` for `{}`",
            hop.service, hop.operation
        ));
    }
    Err(format!("no edge `{caller} -> {}`", hop.service))
}
