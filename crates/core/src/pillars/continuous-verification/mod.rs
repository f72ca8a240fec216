//! Pillar 3: is all of that still true now?
//!
//! A handshake and a signature are moments; this check runs on every request. A resumed TLS
//! session skips the certificate verifier, and a long connection never runs it again, so leaf end,
//! root and revocation are looked up here each time. An enforcement point that has not heard of
//! revocations or policy for too long does not know, and what it does not know it refuses.

use super::Case;
use super::identity::Caller;
use super::identity::IdentityProof;
use super::identity::Subject;
use crate::config::Staleness;
use crate::hop::Claims;
use crate::hop::Freshness;
use crate::hop::Leaf;
use crate::hop::Peer;
use crate::pillars::Denial;
use crate::vocabulary::Code;
use crate::vocabulary::Pillar;
use crate::vocabulary::Timestamp;
use std::time::Duration;

/// Nothing was revoked and nothing is stale.
#[derive(Debug)]
#[must_use]
pub struct ContinuousProof {
    case: Case,
    caller: Caller,
    subject: Subject,
}

type Refusal = (Code, String);

/// How far the wall clock may be from the server's.
const SKEW: Duration = Duration::from_secs(5);
/// How far the wall clock may step back: what was over would count again.
const STEP_BACK: Duration = Duration::from_secs(1);

/// The third check.
pub(crate) fn prove(proof: IdentityProof) -> Result<ContinuousProof, Box<Denial>> {
    let (case, caller, subject) = proof.into_parts();
    let case = case.without_fault(Pillar::ContinuousVerification)?;
    let bound = case.state.snapshot.config().staleness;
    let checked = fresh(case.hop.facts.freshness, bound)
        .and_then(|()| {
            case.hop
                .evidence
                .leaf()
                .map_or(Ok(()), |it| certificate(&case, &it))
        })
        .and_then(|()| {
            case.hop
                .evidence
                .verified_token()
                .map_or(Ok(()), |it| token(&case, &it.claims))
        })
        .and_then(|()| joining(&case))
        .and_then(|()| session(&case))
        .and_then(|()| named(&case, &subject));
    match checked {
        Ok(()) => Ok(ContinuousProof {
            case,
            caller,
            subject,
        }),
        Err((code, reason)) => case.deny(code, reason),
    }
}

impl ContinuousProof {
    pub(super) fn into_parts(self) -> (Case, Caller, Subject) {
        (self.case, self.caller, self.subject)
    }
}

/// Whether what an enforcement point knows is recent enough to decide by, and its clock right.
///
/// # Errors
/// The code of the refusal of whoever asks, and why.
pub fn fresh(known: Freshness, bound: Staleness) -> Result<(), (Code, String)> {
    let older = |age: u64, bound: Duration| Duration::from_millis(age) > bound;
    if older(known.revocations_age_ms, bound.revocations) {
        let age = known.revocations_age_ms;
        return Err((
            Code::STATE_STALE,
            format!("nothing heard of revocations for {age} ms"),
        ));
    }
    if older(known.policy_age_ms, bound.policy) {
        return Err((
            Code::STATE_STALE,
            format!("nothing heard of policy for {} ms", known.policy_age_ms),
        ));
    }
    if older(known.clock_skew_ms, SKEW) {
        return Err((
            Code::CLOCK_SKEW,
            format!("the clock is {} ms from the server's", known.clock_skew_ms),
        ));
    }
    if older(known.clock_stepped_back_ms, STEP_BACK) {
        let back = known.clock_stepped_back_ms;
        return Err((
            Code::CLOCK_SKEW,
            format!("the clock stepped back {back} ms"),
        ));
    }
    Ok(())
}

fn certificate(case: &Case, certificate: &Leaf) -> Result<(), Refusal> {
    let at = case.hop.at;
    if at >= certificate.not_after || at < certificate.not_before {
        return Err((
            Code::CERTIFICATE_ENDED,
            "the certificate is outside its validity".to_owned(),
        ));
    }
    let snapshot = &case.state.snapshot;
    let trusted = match &case.hop.evidence.peer {
        // Whom a door believes is the policy in force, not the one that it was opened with.
        Peer::Partner(_) => snapshot.trusts_at(&case.hop.door, &certificate.root),
        _ => snapshot.trusts(&certificate.root),
    };
    if !snapshot.is_open() && !trusted {
        return Err((
            Code::CERTIFICATE_ENDED,
            "the root of this certificate is no longer trusted".to_owned(),
        ));
    }
    let revocations = &case.state.revocations;
    let id = snapshot.id_of(&case.hop.evidence.peer);
    let revoked = revocations
        .certificate(&certificate.digest)
        .or_else(|| revocations.path(&certificate.issuer, certificate.issuers_above))
        .or_else(|| revocations.workload(id.as_ref()?));
    refuse(revoked, at, Code::CERTIFICATE_REVOKED, "certificate")
}

fn token(case: &Case, claims: &Claims) -> Result<(), Refusal> {
    let revocations = &case.state.revocations;
    let at = case.hop.at;
    refuse(
        revocations.token(&claims.jti),
        at,
        Code::TOKEN_REVOKED,
        "token",
    )?;
    refuse(
        revocations.subject(&claims.sub),
        at,
        Code::SUBJECT_REVOKED,
        "subject",
    )?;
    let sid = claims.sid.as_ref().and_then(|sid| revocations.session(sid));
    refuse(sid, at, Code::SESSION_REVOKED, "session")?;
    for actor in &claims.act {
        refuse(
            revocations.workload(actor),
            at,
            Code::CERTIFICATE_REVOKED,
            "a workload it came by",
        )?;
    }
    Ok(())
}

fn session(case: &Case) -> Result<(), Refusal> {
    let Some(session) = &case.hop.evidence.session else {
        return Ok(());
    };
    let revocations = &case.state.revocations;
    refuse(
        revocations.session(&session.sid),
        case.hop.at,
        Code::SESSION_REVOKED,
        "session",
    )?;
    refuse(
        revocations.subject(&session.sub),
        case.hop.at,
        Code::SUBJECT_REVOKED,
        "subject",
    )
}

/// A gateway that was revoked does not come back by a token that was made before.
fn joining(case: &Case) -> Result<(), Refusal> {
    let Peer::Joining { gateway, .. } = &case.hop.evidence.peer else {
        return Ok(());
    };
    let domain = &case.state.snapshot.config().trust_domain;
    let id = crate::vocabulary::SpiffeId::of_process(domain, "gateway", gateway);
    refuse(
        case.state.revocations.workload(&id),
        case.hop.at,
        Code::CERTIFICATE_REVOKED,
        "gateway",
    )
}

/// A subject that acts for itself may be revoked by its SPIFFE ID or as a subject.
fn named(case: &Case, subject: &Subject) -> Result<(), Refusal> {
    let Subject::Workload(name) = subject else {
        return Ok(());
    };
    let domain = &case.state.snapshot.config().trust_domain;
    let revocations = &case.state.revocations;
    if revocations.epoch() == 0 {
        return Ok(());
    }
    let id = crate::vocabulary::SpiffeId::of_identity(domain, name);
    refuse(
        revocations.workload(&id),
        case.hop.at,
        Code::SUBJECT_REVOKED,
        "subject",
    )
}

fn refuse(
    revoked: Option<Timestamp>,
    at: Timestamp,
    code: Code,
    what: &str,
) -> Result<(), Refusal> {
    match revoked {
        None => Ok(()),
        Some(when) => Err((
            code,
            format!("{what} revoked {} ms ago", at.since(when).as_millis()),
        )),
    }
}
