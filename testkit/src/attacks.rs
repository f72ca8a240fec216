//! Plays the attacks of `conformance/attacks` at a door, and says what came of each.
//!
//! Nothing here is shared with what is attacked: HTTP/1.1 is text, HTTP/2 is frames with header
//! blocks of literals only (RFC 7541 section 6.2.2).

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "an attack that can't be played has failed"
)]

mod h1;
mod h2;

use serde_json::Value;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;

/// Ends what hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a good request is at the door that is attacked.
#[derive(Clone, Debug)]
pub struct Target {
    /// `browser`, `mesh` or `server`.
    pub door: &'static str,
    /// Its host.
    pub host: String,
    /// A path that is answered with 200.
    pub path: String,
    /// The fields that it needs beside the host.
    pub fields: Vec<(String, String)>,
}

/// One attack.
#[derive(Clone, Debug)]
pub struct Attack(Value);

/// What came of an attack that went as it must.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The refusals' receipts.
    pub receipts: Vec<String>,
    /// How many requests were answered with success, which is how many may have gone upstream.
    pub admitted: usize,
    /// Whether part of a faulty message may have gone upstream, which can't have been whole.
    pub cut: bool,
    /// Whether the connection was ended for a flood, of which there has to be a record.
    pub flood: bool,
}

/// The attacks by HTTP/1.1.
#[must_use]
pub fn by_http1() -> Vec<Attack> {
    read(include_str!("../../conformance/attacks/h1.json"))
}

/// The attacks by HTTP/2.
#[must_use]
pub fn by_http2() -> Vec<Attack> {
    read(include_str!("../../conformance/attacks/h2.json"))
}

fn read(text: &str) -> Vec<Attack> {
    let all: Vec<Value> = serde_json::from_str(text).unwrap();
    all.into_iter().map(Attack).collect()
}

impl Attack {
    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0["name"].as_str().unwrap()
    }

    /// Whether it is one for this door.
    #[must_use]
    pub fn is_for(&self, door: &str) -> bool {
        let doors = self.0["doors"].as_array();
        doors.is_none_or(|doors| doors.iter().any(|it| it == door))
    }

    /// Whether its connection may be ended for a flood.
    #[must_use]
    pub fn may_flood(&self) -> bool {
        let must = self.0["must"].as_array();
        must.is_some_and(|must| must.iter().any(|it| it["goaway"] == "ENHANCE_YOUR_CALM"))
    }

    /// Plays it on a connection of HTTP/1.1.
    ///
    /// # Errors
    /// What came instead of what must.
    pub async fn http1<IO>(&self, io: IO, target: &Target) -> Result<Outcome, String>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let bytes = h1::bytes(&self.0["send"], target);
        let played = h1::play(io, &bytes, self.must(target));
        tokio::time::timeout(PATIENCE, played)
            .await
            .map_err(|_| "nothing came of it".to_owned())?
    }

    /// Plays it on a connection of HTTP/2.
    ///
    /// # Errors
    /// What came instead of what must.
    pub async fn http2<IO>(&self, io: IO, target: &Target) -> Result<Outcome, String>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let preface = self.0["preface"].as_str();
        let bytes = h2::bytes(preface, &self.0["send"], target);
        let must = self.must(target).as_array().unwrap().clone();
        h2::play(io, bytes, &must).await
    }

    fn must(&self, target: &Target) -> &Value {
        let own = &self.0[target.door];
        if own.is_null() { &self.0["must"] } else { own }
    }
}

/// A text with the door's host, path and fields in it.
fn fill(text: &str, target: &Target) -> String {
    let fields = target.fields.iter();
    let fields: String = fields
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    text.replace("{host}", &target.host)
        .replace("{path}", &target.path)
        .replace("{auth}", &fields)
}

/// Each character of the data files is one byte.
fn latin(text: &str) -> Vec<u8> {
    text.chars().map(|it| u8::try_from(it).unwrap()).collect()
}
