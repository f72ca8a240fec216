//! Deciding a recorded hop again: with the state of that moment it must come out the same; with
//! another it is a what-if.

use crate::decide::Verdict;
use crate::decide::decide;
use crate::pillars::least_privilege::Charge;
use crate::pillars::least_privilege::Charged;
use crate::pillars::least_privilege::Reservation;
use crate::record::Kind;
use crate::record::Record;
use crate::record::Status;
use crate::snapshot::State;
use crate::vocabulary::Code;

/// Why a record can't be decided again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// Not a decision.
    #[error("the record is no decision")]
    NotADecision,
    /// The state given is not the one it was decided on.
    #[error("the record was decided on another revision or epoch")]
    OtherState,
    /// The ledger refused it, which no policy decides.
    #[error("the ledger, not policy, refused this hop")]
    NotPolicy,
}

/// What deciding again gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// What the record says: the code of its refusal, or nothing if it was allowed.
    pub recorded: Option<Code>,
    /// What comes out now.
    pub replayed: Option<Code>,
    /// Why, if it is a refusal.
    pub reason: Option<String>,
}

impl Replayed {
    /// Whether both say the same.
    #[must_use]
    pub fn same(&self) -> bool {
        self.recorded == self.replayed
    }
}

/// Decides a recorded hop again.
///
/// With the state of that moment the answer must be the same; with another it is a what-if.
///
/// # Errors
/// [`ReplayError`] if the record holds nothing to decide again, or `exact` is asked for and the
/// state is another.
pub fn replay(record: &Record<'_>, state: &State, exact: bool) -> Result<Replayed, ReplayError> {
    let hop = record
        .hop
        .as_ref()
        .filter(|_| record.kind == Kind::Decision);
    let hop = hop.ok_or(ReplayError::NotADecision)?;
    if record.code == Some(Code::LEDGER_REFUSED) {
        return Err(ReplayError::NotPolicy);
    }
    let same = record.state.is_some_and(|it| {
        it.revision == *state.snapshot.revision() && it.epoch == state.revocations.epoch()
    });
    if exact && !same {
        return Err(ReplayError::OtherState);
    }
    let recorded = if record.status == Status::Denied {
        record.code
    } else {
        None
    };
    let (replayed, reason) = match decide(hop.clone().into_owned(), state) {
        Verdict::Deny(denial) => (Some(denial.code()), Some(denial.reason().to_owned())),
        Verdict::Allow(pending) => {
            let reservation = Reservation::new(record.reservations.to_vec());
            let charged = charged(record, pending.charges(), same);
            match pending.complete(reservation.counted(charged)) {
                Ok(_) => (None, None),
                Err(denial) => (Some(denial.code()), Some(denial.reason().to_owned())),
            }
        }
    };
    Ok(Replayed {
        recorded,
        replayed,
        reason,
    })
}

/// What came of the rate limits: as it was recorded. Where another policy counts what was not
/// counted then, nothing is known of it, and it refuses nobody.
fn charged(record: &Record<'_>, charges: &[Charge], same: bool) -> Vec<Charged> {
    if same {
        return record.rates.to_vec();
    }
    let recorded = |charge: &Charge| record.rates.iter().find(|it| it.charge == *charge);
    let charges = charges.iter();
    charges
        .map(|charge| match recorded(charge) {
            Some(charged) => charged.clone(),
            None => charge.clone().first(),
        })
        .collect()
}
