use countersign_core::record::Charged;
use countersign_core::vocabulary::Code;
use countersign_ledger::ReceiptId;
use std::time::Duration;

/// What a caller is told of a refusal, and what only the operator sees.
#[derive(Clone, Debug, thiserror::Error)]
#[error("AccessDenied: pillar {} failed ({code})", code.pillar())]
pub struct Refusal {
    /// The code: with its pillar all that a caller learns.
    pub code: Code,
    /// Why; for the log and for whoever may explain decisions, never for the caller.
    pub reason: String,
    /// Names the record. Absent where the ledger took none: it is full, or a flood of refusals
    /// from one place is being counted instead of kept one by one.
    pub receipt: Option<ReceiptId>,
    /// The rate limit that was exceeded, if it was one.
    pub limit: Option<Box<Charged>>,
    /// When it may be worth trying again.
    pub retry_after: Option<Duration>,
}
