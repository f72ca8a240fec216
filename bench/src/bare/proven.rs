//! What no enforcement point of ours can leave out, whatever its code: each request takes an
//! assertion along, and leaves a decision and a completion in a spool. Nothing is verified, nothing
//! is decided, no header is looked at, and the records go nowhere: what a request costs here is the
//! floor under countersign itself.
//!
//! The records are those of a real run (`decision.json`, `completion.json`), written anew for each
//! request with what is its own: ids, times, operation, receipt.

use super::Upstream;
use crate::site::AUDIENCE;
use anyhow::Context as _;
use anyhow::Result;
use countersign_core::record::Record;
use countersign_core::vocabulary::SpiffeId;
use countersign_core::vocabulary::Timestamp;
use countersign_ledger::JsonObject;
use countersign_ledger::ReceiptId;
use countersign_ledger::spool::Commit;
use countersign_ledger::spool::Spool;
use countersign_ledger::spool::SpoolError;
use countersign_ledger::spool::SpoolOptions;
use countersign_ledger::storage::FsStorage;
use countersign_net::KeyAlgorithm;
use countersign_net::KeySet;
use countersign_net::SigningKey;
use countersign_net::assertion;
use countersign_net::assertion::Assertion;
use http::HeaderName;
use http::HeaderValue;
use http::Request;
use http::Response;
use hyper::body::Body as _;
use hyper::body::Incoming;
use rustls::crypto::SecureRandom;
use rustls::crypto::aws_lc_rs;
use std::borrow::Cow;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::SystemTime;

/// Whose spool it is.
pub(crate) const NODE: &str = "bench";
/// The public key of its assertions, in its folder (RFC 7517).
pub(crate) const KEYS: &str = "keys.json";

const DECISION: &str = include_str!("decision.json");
const COMPLETION: &str = include_str!("completion.json");
const ISSUER: &str = "spiffe://bench.internal/countersign/gateway/bench";
const SUBJECT: &str = "spiffe://bench.internal/frontend";
const HEADER: HeaderName = HeaderName::from_static(assertion::HEADER);
/// How often it looks whether records can go.
const LOOK: Duration = Duration::from_secs(1);
/// Above this the spool's records go even while requests come, in bytes.
const MUCH: u64 = 1 << 30;

/// What assertions and records are made with.
pub(crate) struct Proven {
    forms: Mutex<Forms>,
    key: SigningKey,
    random: &'static dyn SecureRandom,
    spool: Spool,
}

/// What is written for each request, with what was its last one's.
struct Forms {
    assertion: Assertion,
    completion: Record<'static>,
    decision: Record<'static>,
}

/// A request whose decision is in the spool.
struct Recorded {
    at: Timestamp,
    receipt: ReceiptId,
}

/// Random bytes of one request.
#[derive(Default)]
struct Drawn {
    assertion: [u8; 16],
    request: [u8; 16],
    trace: [u8; 16],
}

impl Proven {
    /// Makes a key and a spool in `folder`, for requests that go to `upstream`.
    pub(crate) fn start(folder: &Path, upstream: SocketAddr) -> Result<Arc<Self>> {
        let options = SpoolOptions {
            commit: Commit::Os,
            ..SpoolOptions::default()
        };
        let (spool, _) = Spool::open(Arc::new(FsStorage::new(folder)), NODE, options)?;
        let key = SigningKey::generate(KeyAlgorithm::EdDsa)?;
        let mut keys = KeySet::empty(1);
        keys.add_owned(&key, SpiffeId::parse(ISSUER)?);
        std::fs::write(folder.join(KEYS), keys.to_jwks().to_string())?;
        tokio::spawn(forget(spool.clone()));
        Ok(Arc::new(Self {
            forms: Mutex::new(Forms::new(upstream)?),
            key,
            random: aws_lc_rs::default_provider().secure_random,
            spool,
        }))
    }

    /// Forwards a request once its decision is in the spool, with an assertion, and has its
    /// completion written when the answer is there.
    pub(crate) async fn forward(
        self: Arc<Self>,
        upstream: Upstream,
        mut request: Request<Incoming>,
    ) -> Result<Response<Incoming>> {
        let drawn = self.draw()?;
        let at = now()?;
        let decision = self.forms().decision(&request, &drawn, at)?;
        let promise = self.spool.append_reserved(decision).await?;
        let receipt = promise.receipt();
        let recorded = Recorded { at, receipt };
        let signed = {
            let mut forms = self.forms();
            assertion::sign(&self.key, forms.assertion(&request, &drawn, &recorded))?
        };
        let mut value = HeaderValue::from_str(&signed)?;
        // As the gateway sends it: no two are the same.
        value.set_sensitive(true);
        request.headers_mut().insert(HEADER, value);
        let path = request.uri().path().to_owned();
        let response = super::forward(upstream, request).await?;
        let completion = self.forms().completion(&path, &recorded, &response)?;
        self.spool.append_late(completion, failed)?;
        Ok(response)
    }

    /// All in one go, as the gateway draws them.
    fn draw(&self) -> Result<Drawn> {
        let mut bytes = [0; 48];
        let filled = self.random.fill(&mut bytes);
        filled.ok().context("the system has no randomness")?;
        let mut drawn = Drawn::default();
        let parts = [&mut drawn.assertion, &mut drawn.request, &mut drawn.trace];
        for (part, bytes) in parts.into_iter().zip(bytes.as_chunks().0) {
            *part = *bytes;
        }
        Ok(drawn)
    }

    fn forms(&self) -> MutexGuard<'_, Forms> {
        self.forms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Forms {
    fn new(upstream: SocketAddr) -> Result<Self> {
        let decision: Record<'static> = Record::from_bytes(DECISION.as_bytes())?;
        let mut completion: Record<'static> = Record::from_bytes(COMPLETION.as_bytes())?;
        let ending = completion.completion.as_mut();
        ending.context("a completion without one")?.upstream = Some(upstream.to_string());
        Ok(Self {
            assertion: Assertion {
                act: Vec::new(),
                aud: AUDIENCE.to_owned(),
                exp: 0,
                iat: 0,
                iss: SpiffeId::parse(ISSUER)?,
                jti: String::new(),
                method: String::new(),
                path: String::new(),
                receipt: String::new(),
                sub: SUBJECT.to_owned(),
            },
            completion,
            decision,
        })
    }

    fn decision(
        &mut self,
        request: &Request<Incoming>,
        drawn: &Drawn,
        at: Timestamp,
    ) -> Result<JsonObject> {
        let record = &mut self.decision;
        let (verb, path) = (request.method().as_str(), request.uri().path());
        record.timestamp = at;
        write(record.action.to_mut(), &[verb]);
        write(
            record.resource.id.to_mut(),
            &[&record.resource.service, path],
        );
        if let Some(hop) = record.hop.as_mut().map(Cow::to_mut) {
            hop.at = at;
            write(&mut hop.operation.object, &[path]);
            write(&mut hop.operation.verb, &[verb]);
        }
        if let Some(id) = record.metadata.get_mut("request_id") {
            let id = id.to_mut();
            id.clear();
            for (place, part) in drawn.request.as_chunks::<2>().0.iter().enumerate() {
                // Five groups, as of a UUID.
                if (2..=5).contains(&place) {
                    id.push('-');
                }
                hex(id, part);
            }
        }
        if let Some(trace) = record.trace_id.as_mut().map(Cow::to_mut) {
            trace.clear();
            hex(trace, &drawn.trace);
        }
        Ok(record.to_object()?)
    }

    fn assertion(
        &mut self,
        request: &Request<Incoming>,
        drawn: &Drawn,
        recorded: &Recorded,
    ) -> &Assertion {
        let assertion = &mut self.assertion;
        assertion.iat = recorded.at.as_secs();
        assertion.exp = assertion.iat + assertion::MAX_LIFETIME;
        assertion.jti.clear();
        hex(&mut assertion.jti, &drawn.assertion);
        write(&mut assertion.method, &[request.method().as_str()]);
        write(&mut assertion.path, &[request.uri().path()]);
        assertion.receipt = recorded.receipt.to_string();
        assertion
    }

    fn completion(
        &mut self,
        path: &str,
        recorded: &Recorded,
        response: &Response<Incoming>,
    ) -> Result<JsonObject> {
        let record = &mut self.completion;
        record.timestamp = now()?;
        write(
            record.resource.id.to_mut(),
            &[&record.resource.service, path],
        );
        if let Some(ending) = &mut record.completion {
            // As it says itself: nobody counts what passes.
            ending.bytes_out = response.body().size_hint().lower();
            ending.decision = recorded.receipt.to_string();
            let took = record.timestamp.since(recorded.at);
            ending.duration_us = u64::try_from(took.as_micros())?;
            ending.status = response.status().as_u16();
        }
        Ok(record.to_object()?)
    }
}

/// Removes what nobody will read: a node does so once its log has it. Between runs, so that it costs
/// no request anything, unless one is long.
async fn forget(spool: Spool) {
    let mut before = 0;
    loop {
        tokio::time::sleep(LOOK).await;
        let next = spool.head().next;
        if next == before || spool.used_bytes() > MUCH {
            // It is the disk's business, and a spool that is full says so.
            let _ = spool.forget_before(next);
        }
        before = next;
    }
}

/// What is measured behind it would not be what it says.
fn failed(error: &SpoolError) {
    eprintln!("a completion is lost: {error}");
    std::process::exit(1);
}

/// The wall clock.
pub(crate) fn now() -> Result<Timestamp> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    Ok(Timestamp::from_micros(i64::try_from(since.as_micros())?))
}

fn write(text: &mut String, parts: &[&str]) {
    text.clear();
    for part in parts {
        text.push_str(part);
    }
}

fn hex(text: &mut String, bytes: &[u8]) {
    let digit = |value: u8| {
        let from = if value < 10 { b'0' } else { b'a' - 10 };
        char::from(from + value)
    };
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(byte & 15));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_records_are_written_as_they_were_read() {
        for (text, length) in [(DECISION, 2_030), (COMPLETION, 558)] {
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            let record = Record::from_bytes(text.as_bytes()).unwrap();
            assert_eq!(record.to_bytes(), value.to_string().into_bytes());
            assert_eq!(record.to_bytes().len(), length);
        }
    }
}
