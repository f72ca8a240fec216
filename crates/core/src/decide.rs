//! The decision.
//!
//! [`decide`] is the only place where a hop is allowed. Every front calls it: the proxy, the
//! vault's own interface, the token endpoint, the admin socket, inline policy tests and replay.
//!
//! It walks the six pillars in one order. Each check consumes the proof of the one before it, and
//! proofs can be made nowhere else, so a skipped or forged pillar does not compile. Example: for a
//! stolen token, [`encryption`] holds (the thief's own TLS is fine),
//! then [`identity`] compares the certificate in the token's `cnf` with
//! the one on the connection, differs, and the hop comes back as a [`Denial`] with `CSD216`.
//!
//! A verdict is not yet an admission. [`Pending`] wants
//! the outcome of the reservations it names, then the record wants the spool's durable promise;
//! only then is there an [`Admission`](crate::pillars::audit::Admission) that can be forwarded.

use crate::hop::Hop;
use crate::pillars::Denial;
use crate::pillars::continuous_verification;
use crate::pillars::encryption;
use crate::pillars::identity;
use crate::pillars::least_privilege;
use crate::pillars::least_privilege::Pending;
use crate::pillars::micro_segmentation;
use crate::snapshot::State;
use crate::vocabulary::Pillar;
use std::sync::Arc;

/// What comes out: five pillars hold and the sixth is under way, or one of them failed.
#[derive(Debug)]
#[must_use]
pub enum Verdict {
    /// Nothing speaks against it; reservations and the record are still to come.
    Allow(Box<Pending>),
    /// Refused.
    Deny(Box<Denial>),
}

/// Decides a hop.
///
/// Pure: the same hop and state give the same verdict, whenever and wherever it is asked.
pub fn decide(hop: impl Into<Arc<Hop>>, state: &State) -> Verdict {
    decide_watched(hop, state, |_| ())
}

/// The same, and says of each pillar when it holds, for whoever has a clock: here there is none.
pub fn decide_watched(hop: impl Into<Arc<Hop>>, state: &State, held: impl Fn(Pillar)) -> Verdict {
    let proved = encryption::prove(hop.into(), state)
        .inspect(|_| held(Pillar::Encryption))
        .and_then(identity::prove)
        .inspect(|_| held(Pillar::Identity))
        .and_then(continuous_verification::prove)
        .inspect(|_| held(Pillar::ContinuousVerification))
        .and_then(micro_segmentation::prove)
        .inspect(|_| held(Pillar::MicroSegmentation))
        .and_then(least_privilege::prove)
        .inspect(|_| held(Pillar::LeastPrivilege));
    match proved {
        Ok(pending) => Verdict::Allow(Box::new(pending)),
        Err(denial) => Verdict::Deny(denial),
    }
}
