use super::Status;
use crate::vocabulary::Code;
use crate::vocabulary::Digest;
use serde::Deserialize;
use serde::Serialize;

/// How an admitted hop ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completion {
    /// How often it was sent to an upstream, where it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
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
    /// Messages from the caller, of a stream that consists of messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages_in: Option<u64>,
    /// Messages to the caller, of a stream that consists of messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages_out: Option<u64>,
    /// HTTP status the caller got; 0 if none.
    pub status: u16,
    /// The address of the upstream that it was sent to last: `host:port` without a port that goes
    /// without saying, or `unix:path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
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

#[cfg(test)]
mod tests {
    use super::*;

    /// As written before attempts, messages and upstreams were noted.
    const OLDER: &str = r#"{"bytes_in":1,"bytes_out":2,"decision":"r-1","duration_us":3,"ending":"done","status":200}"#;

    #[test]
    fn an_older_record_is_read_and_written_as_it_was() {
        let read: Completion = serde_json::from_str(OLDER).unwrap();
        assert_eq!((read.attempts, read.messages_in), (None, None));
        assert_eq!(serde_json::to_string(&read).unwrap(), OLDER);
    }

    #[test]
    fn fields_are_in_the_order_of_their_names() {
        let mut full: Completion = serde_json::from_str(OLDER).unwrap();
        full.attempts = Some(2);
        (full.messages_in, full.messages_out) = (Some(1), Some(4));
        full.upstream = Some("unix:/run/a.sock".to_owned());
        let written = serde_json::to_string(&full).unwrap();
        let sorted: serde_json::Value = serde_json::from_str(&written).unwrap();
        let fields = sorted.as_object().unwrap();
        let places: Vec<_> = fields
            .keys()
            .map(|name| written.find(&format!("\"{name}\":")).unwrap())
            .collect();
        assert!(places.is_sorted(), "{written}");
    }
}
