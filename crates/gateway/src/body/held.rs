use super::BodyError;
use super::Received;
use super::json;
use crate::request::NoRandomness;
use bytes::Bytes;
use bytes::BytesMut;
use countersign_core::config::json_schema::Schema;
use countersign_core::hop::Facts;
use countersign_core::hop::RequestFault;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Digest;
use http::HeaderMap;
use http_body::Body as _;
use http_body_util::BodyExt;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;

/// The body of a request before it is decided.
pub(crate) enum Held {
    /// Not looked at; it streams.
    Streaming(Received),
    /// Held, because a rule reads it. These bytes are decided on and these are forwarded.
    Whole(Kept),
}

/// A body that was held, with its commitment.
pub(crate) struct Kept {
    pub(crate) bytes: Bytes,
    pub(crate) commitment: Digest,
}

/// Room for the bodies that are held at once.
#[derive(Debug)]
pub(crate) struct Room(Arc<Semaphore>);

/// Why a body can't be held.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeldError {
    /// No salt for the commitment to it.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// There is no room for it beside the others.
    #[error("too many bodies are held at once")]
    Crowded,
}

/// The most bytes of bodies that a gateway holds at once, until each has gone to its upstream:
/// 256 MiB. While a body is judged, what it was read into takes up to some twenty times its size
/// beside it, for as long as that takes.
const ROOM: usize = 256 << 20;

/// Bytes that take room until the last reader lets go of them.
struct Taken {
    bytes: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Taken {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Default for Room {
    fn default() -> Self {
        Self::of(ROOM)
    }
}

impl Room {
    /// Room for so many bytes.
    pub(crate) fn of(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes)))
    }

    fn take(&self, bytes: usize, taken: &mut Option<OwnedSemaphorePermit>) -> bool {
        let bytes = u32::try_from(bytes).ok();
        let more = bytes.and_then(|it| self.0.clone().try_acquire_many_owned(it).ok());
        let Some(more) = more else {
            return false;
        };
        match taken {
            Some(taken) => taken.merge(more),
            None => *taken = Some(more),
        }
        true
    }
}

impl Rules {
    /// Whether some rule reads the body, so that it is held.
    pub(crate) fn read(&self) -> bool {
        self.model || !self.schemas.is_empty()
    }
}

/// What the rules ask of a body.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// Whether it comes by HTTP/2.
    pub(crate) http2: bool,
    /// How long the whole of it may take.
    pub(crate) time: Duration,
    /// The most bytes.
    pub(crate) limit: u64,
    /// Whether a rule reads the model in it.
    pub(crate) model: bool,
    /// The schemas that judge it.
    pub(crate) schemas: Vec<Arc<Schema>>,
}

impl Held {
    /// A body that no rule reads; notes in `facts` if it announces that it is too large.
    pub(crate) fn unread(body: Received, rules: &Rules, facts: &mut Facts) -> Self {
        announced_too_large(&body, rules, facts);
        Self::Streaming(body)
    }

    /// Looks at a body that some rule reads, and notes what they need in `facts`: also that
    /// its caller broke off, which is then decided and recorded like all that can't be read.
    ///
    /// # Errors
    /// [`HeldError`] where it can't be held.
    pub(crate) async fn look(
        body: Received,
        headers: &HeaderMap,
        rules: Rules,
        room: &Room,
        facts: &mut Facts,
    ) -> Result<Self, HeldError> {
        if !rules.read() || announced_too_large(&body, &rules, facts) {
            return Ok(Self::Streaming(body));
        }
        // A coding that is not undone would hide from the rule what it shows to the upstream. Where
        // no rule reads it, it is between caller and upstream.
        if json::is_coded(headers) {
            let detail = "the body has a content coding".to_owned();
            fault(facts, Code::BODY_CODING, detail);
            return Ok(Self::Streaming(body));
        }
        if !rules.schemas.is_empty() && !json::is_json(headers) {
            let detail = "the body does not say that it is json in utf-8".to_owned();
            fault(facts, Code::BODY_UNREADABLE, detail);
            return Ok(Self::Streaming(body));
        }
        let whole = tokio::time::timeout(rules.time, collect(body, &rules, room));
        let bytes = match whole.await.unwrap_or(Err(BodyError::Idle)) {
            Ok(bytes) => bytes,
            Err(BodyError::TooLarge) => {
                let detail = format!("the body is over {} bytes", rules.limit);
                fault(facts, Code::BODY_TOO_LARGE, detail);
                return Self::whole(Bytes::new());
            }
            Err(BodyError::Crowded) => return Err(HeldError::Crowded),
            Err(error) => {
                tracing::debug!(%error, "a caller broke off");
                let detail = "the body came to no end".to_owned();
                fault(facts, Code::BODY_UNREADABLE, detail);
                return Self::whole(Bytes::new());
            }
        };
        facts.body_bytes = Some(bytes.len() as u64);
        if rules.model {
            read(&bytes, facts);
        }
        json::judge(&bytes, &rules.schemas, facts);
        Self::whole(bytes)
    }

    fn whole(bytes: Bytes) -> Result<Self, HeldError> {
        let salt = crate::request::random::<32>()?;
        let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        digest.update(&salt);
        digest.update(&bytes);
        let mut commitment = [0; 32];
        commitment.copy_from_slice(digest.finish().as_ref());
        Ok(Self::Whole(Kept {
            bytes,
            commitment: Digest::new(commitment),
        }))
    }
}

/// The whole body, if it is not over the limit and there is room for it.
async fn collect(mut body: Received, rules: &Rules, room: &Room) -> Result<Bytes, BodyError> {
    let mut bytes = BytesMut::new();
    let mut taken = None;
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            if (bytes.len() + data.len()) as u64 > rules.limit {
                return Err(BodyError::TooLarge);
            }
            if !room.take(data.len(), &mut taken) {
                return Err(BodyError::Crowded);
            }
            bytes.extend_from_slice(&data);
        }
    }
    // See `Uplink`.
    if rules.http2 && !body.is_end_stream() {
        return Err(BodyError::Reset);
    }
    Ok(Bytes::from_owner(Taken {
        bytes: bytes.freeze(),
        _room: taken,
    }))
}

/// Model and bounds of a call to a model (chat completions and responses alike).
fn read(bytes: &[u8], facts: &mut Facts) {
    let unreadable = |facts: &mut Facts, detail: &str| {
        fault(facts, Code::BODY_UNREADABLE, detail.to_owned());
    };
    let call = match countersign_net::json::strict(bytes) {
        Ok(Value::Object(call)) => call,
        Ok(_) => return unreadable(facts, "the body is no json object"),
        Err(_) => return unreadable(facts, "the body is no json, or names a member twice"),
    };
    match call.get("model") {
        Some(Value::String(model)) if is_model(model) => {
            facts.model = Some(model.to_ascii_lowercase());
        }
        Some(_) => return unreadable(facts, "`model` is not the name of a model"),
        None => return unreadable(facts, "the body names no model"),
    }
    let mut bound = None;
    for name in ["max_completion_tokens", "max_output_tokens", "max_tokens"] {
        match call.get(name) {
            None | Some(Value::Null) => {}
            Some(value) => match value.as_u64() {
                Some(tokens) => bound = bound.max(Some(tokens)),
                None => return unreadable(facts, "a bound on tokens is not a whole number"),
            },
        }
    }
    let choices = match call.get("n") {
        None | Some(Value::Null) => 1,
        Some(value) => match value.as_u64() {
            Some(choices) => choices.max(1),
            None => return unreadable(facts, "`n` is not a whole number"),
        },
    };
    // Each choice may be as long as the bound; without one there is nothing to multiply.
    facts.max_output_tokens = bound.map(|tokens| tokens.saturating_mul(choices));
    if choices > 1 && bound.is_none() {
        unreadable(facts, "more than one choice without a bound on tokens");
    }
}

/// One spelling only: what else a name holds could be read as another model by an upstream.
fn is_model(name: &str) -> bool {
    let plain = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':' | b'/' | b'@')
    };
    !name.is_empty() && name.len() <= 128 && name.bytes().all(plain)
}

pub(super) fn fault(facts: &mut Facts, code: Code, detail: String) {
    facts.fault.get_or_insert(RequestFault { code, detail });
}

/// Whether it says itself that it has more bytes than it may.
fn announced_too_large(body: &Received, rules: &Rules, facts: &mut Facts) -> bool {
    let too_large = body.size_hint().lower() > rules.limit;
    if too_large {
        let detail = format!("the body is over {} bytes", rules.limit);
        fault(facts, Code::BODY_TOO_LARGE, detail);
    }
    too_large
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn facts(body: &str) -> Facts {
        let mut facts = Facts::default();
        read(body.as_bytes(), &mut facts);
        facts
    }

    #[test]
    fn what_is_held_takes_room_until_the_last_reader_lets_go() {
        let room = Room::of(10);
        let mut taken = None;
        assert!(room.take(4, &mut taken) && room.take(6, &mut taken));
        assert!(!room.take(1, &mut None));
        let held = Bytes::from_owner(Taken {
            bytes: Bytes::from_static(b"0123456789"),
            _room: taken,
        });
        let part = held.slice(2..4);
        drop(held);
        assert!(!room.take(1, &mut None), "a part of it is still read");
        assert_eq!(part, "23");
        drop(part);
        assert!(room.take(10, &mut None));
        assert!(!room.take(usize::MAX, &mut None));
    }

    #[test]
    fn a_call_to_a_model() {
        let found = facts(r#"{"model":"GPT-4o","max_tokens":5,"max_completion_tokens":7,"n":2}"#);
        assert_eq!(found.model.as_deref(), Some("gpt-4o"));
        assert_eq!(found.max_output_tokens, Some(14));
        assert_eq!(found.fault, None);
        assert_eq!(
            facts(r#"{"model":"m","max_tokens":null}"#).max_output_tokens,
            None
        );
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_not_read() {
        for body in [
            "",
            "[]",
            r#"{"model":"a","model":"b"}"#,
            r#"{"model":"a","m\u006fdel":"b"}"#,
            r#"{"model":["a"]}"#,
            r#"{"model":""}"#,
            r#"{"model":"a b"}"#,
            r#"{"Model":"a"}"#,
            r#"{"model":"a","max_tokens":"5"}"#,
            r#"{"model":"a","max_tokens":-5}"#,
            r#"{"model":"a","n":100}"#,
            r#"{"model":"a"}{"model":"b"}"#,
        ] {
            let code = facts(body).fault.map(|fault| fault.code);
            assert_eq!(code, Some(Code::BODY_UNREADABLE), "{body}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(body in ".{0,80}") {
            facts(&body);
        }
    }
}
