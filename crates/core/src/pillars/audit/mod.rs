//! Pillar 6: is the decision durably in the ledger?
//!
//! The record is written before anything is forwarded. [`Sealed`] holds the record of exactly
//! these proofs; only the spool's promise for exactly those bytes turns it into an [`Admission`],
//! and only an admission can be forwarded. It owns what is forwarded: what was decided is what is
//! sent.

mod recording;

use super::Case;
use super::Denial;
use super::identity::Caller;
use super::identity::Subject;
use super::least_privilege::Charged;
use super::least_privilege::Outcome;
use super::least_privilege::PrivilegeProof;
use super::least_privilege::TokenGrant;
use super::micro_segmentation::Way;
use crate::config::Service;
use crate::hop::Hop;
use crate::record::Context;
use crate::snapshot::Snapshot;
use crate::snapshot::State;
use crate::vocabulary::Code;
use countersign_ledger::JsonObject;
use countersign_ledger::NotAnObject;
use countersign_ledger::ReceiptId;
use countersign_ledger::spool::Promise;
use std::sync::Arc;

/// A decision whose record is ready to be appended.
#[derive(Debug)]
#[must_use]
pub struct Sealed {
    proof: PrivilegeProof,
    record: Result<JsonObject, NotAnObject>,
}

/// All six pillars hold: this may be forwarded, once.
#[derive(Debug)]
#[must_use]
pub struct Admission {
    proof: PrivilegeProof,
    promise: Promise,
}

/// The promise is for other bytes than this record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ledger's promise is for another record")]
pub struct PromiseMismatch;

impl PrivilegeProof {
    /// Writes the record of these proofs.
    pub fn seal(self, context: &Context<'_>) -> Sealed {
        let record = recording::allowed(&self, context).to_object();
        Sealed {
            proof: self,
            record,
        }
    }

    pub(crate) fn hop(&self) -> &Arc<Hop> {
        &self.pending.case.hop
    }

    pub(crate) fn state(&self) -> &State {
        &self.pending.case.state
    }

    pub(crate) const fn caller(&self) -> &Caller {
        &self.pending.caller
    }

    pub(crate) const fn subject(&self) -> &Subject {
        &self.pending.subject
    }

    pub(crate) const fn way(&self) -> Way {
        self.pending.way
    }

    pub(crate) fn outcomes(&self) -> &[Outcome] {
        self.reservation.outcomes()
    }

    pub(crate) fn charged(&self) -> &[Charged] {
        self.reservation.charged()
    }
}

impl Sealed {
    /// What to append: canonical JSON, without another copy of it.
    ///
    /// # Errors
    /// [`NotAnObject`] if it could not be written, so that no spool takes it.
    pub fn record(&self) -> Result<JsonObject, NotAnObject> {
        self.record.clone()
    }

    /// The refusal that follows if the ledger takes no such record.
    #[must_use]
    pub fn refused(self, reason: impl Into<String>) -> Box<Denial> {
        let Case { hop, state } = self.proof.pending.case;
        Denial::new(hop, state, Code::LEDGER_REFUSED, reason)
    }

    /// Takes the promise for this record.
    ///
    /// # Errors
    /// [`PromiseMismatch`] if it is for other bytes.
    pub fn admit(self, promise: Promise) -> Result<Admission, PromiseMismatch> {
        match &self.record {
            Ok(record) if promise.covers(record) => Ok(Admission {
                proof: self.proof,
                promise,
            }),
            _ => Err(PromiseMismatch),
        }
    }
}

impl Admission {
    /// Names the record of this decision.
    #[must_use]
    pub fn receipt(&self) -> ReceiptId {
        self.promise.receipt()
    }

    /// The ledger's promise.
    pub const fn promise(&self) -> &Promise {
        &self.promise
    }

    /// What was asked, and may now be done.
    #[must_use]
    pub fn hop(&self) -> &Hop {
        self.proof.hop()
    }

    /// The same, for whoever decides it again later.
    #[must_use]
    pub fn shared_hop(&self) -> Arc<Hop> {
        Arc::clone(self.proof.hop())
    }

    /// Whose edge it was.
    #[must_use]
    pub const fn caller(&self) -> &Caller {
        self.proof.caller()
    }

    /// Whose rights.
    #[must_use]
    pub const fn subject(&self) -> &Subject {
        self.proof.subject()
    }

    /// The policy it was decided on.
    #[must_use]
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.proof.state().snapshot
    }

    /// Where it goes; `None` for our own services.
    #[must_use]
    pub fn service(&self) -> Option<&Service> {
        self.snapshot().service(&self.hop().service)
    }

    /// The largest body that may be forwarded, in bytes.
    #[must_use]
    pub const fn body_max(&self) -> u64 {
        self.proof.pending.body_max
    }

    /// What the issuer may put into a token, where one was asked for.
    #[must_use]
    pub const fn grant(&self) -> Option<&TokenGrant> {
        self.proof.pending.grant.as_ref()
    }

    /// What was set aside for it.
    #[must_use]
    pub fn reserved(&self) -> &[Outcome] {
        self.proof.outcomes()
    }

    /// The rate limits that it was counted against.
    #[must_use]
    pub fn charged(&self) -> &[Charged] {
        self.proof.charged()
    }
}
