use super::Status;
use crate::vocabulary::Code;
use crate::vocabulary::Digest;
use serde::Deserialize;
use serde::Serialize;

/// How an admitted hop ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completion {
    /// SHA-256 of a 32-byte salt and the request body, where the body was seen whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Digest>,
    /// Bytes from the caller.
    pub bytes_in: u64,
    /// Bytes to the caller.
    pub bytes_out: u64,
    /// Why we ended it, where we did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// Micro-dollars it really cost, where a budget was drawn on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<u64>,
    /// Receipt id of the decision.
    pub decision: String,
    /// From admission to the end, in microseconds.
    pub duration_us: u64,
    /// How it ended.
    pub ending: Ending,
    /// HTTP status the caller got; 0 if none.
    pub status: u16,
}

/// How an admitted hop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// To its end.
    Done,
    /// Broken off by the caller, or by the end of the process.
    Aborted,
    /// The upstream could not be reached, or broke off.
    UpstreamFailed,
    /// Ended by us: revoked, or over a limit.
    Cut,
}

impl Completion {
    /// How that counts.
    pub(crate) const fn status(&self) -> Status {
        match self.ending {
            Ending::Done if self.status < 500 => Status::Success,
            Ending::Cut => Status::Denied,
            _ => Status::Failure,
        }
    }
}
