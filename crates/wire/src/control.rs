//! What a gateway asks of the control plane.

mod delivery;
mod relay;

use countersign_core::hop::Evidence;
use countersign_core::record::Context;
use countersign_core::snapshot::Revocation;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::Timestamp;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use secrecy::SecretString;
use serde::Deserialize;
use serde::Serialize;

pub use self::delivery::Delivery;
pub use self::delivery::DeliveryError;
pub use self::relay::RelayFault;
pub use self::relay::Relayed;
pub use self::relay::RelayedAnswer;
pub use self::relay::RelayedRequest;

/// The control plane as an enforcement point sees it.
///
/// Every question is decided and recorded by the server itself, so a gateway that stays silent is
/// contradicted by the server's own records.
pub trait ControlPlane: Send + Sync + std::fmt::Debug {
    /// Everything newer than what is known, then every change, and a heartbeat each second.
    fn updates(&self, known: Known) -> BoxStream<'static, Update>;

    /// Signs a person in at a browser door with `login: dev`.
    fn sign_in(&self, request: SignIn) -> BoxFuture<'_, Result<SignedIn, ControlError>>;

    /// Ends a session.
    fn sign_out(&self, cookie: SecretString) -> BoxFuture<'_, Result<(), ControlError>>;

    /// Draws a token for a service behind a browser door from a live session's cookie.
    fn session_token(
        &self,
        request: SessionTokenRequest,
    ) -> BoxFuture<'_, Result<SessionToken, ControlError>>;

    /// Reads a secret that a service's `credential` names, to put it into calls.
    fn credential(&self, secret: Name) -> BoxFuture<'_, Result<InjectedSecret, ControlError>>;

    /// Publishes the key with which this enforcement point signs assertions, as a public JWK.
    fn publish_key(&self, jwk: serde_json::Value) -> BoxFuture<'_, Result<(), ControlError>>;

    /// Delivers records of this node's spool; answers with the next sequence wanted.
    fn deliver(&self, records: Delivery) -> BoxFuture<'_, Result<u64, ControlError>>;

    /// Serves `/oauth2/*` and `/.well-known/*` at an mTLS listener for the peer with this evidence,
    /// which this same process has verified. An issuer in another process does not believe that at
    /// second hand: it is shown the chain of a partner, and `None` is the answer for anybody else.
    fn issuer<'a>(&'a self, request: IssuerRequest<'a>) -> Option<IssuerAnswer<'a>>;

    /// Says something on the stream of updates, if there is one now; what is lost is said again
    /// later. A server in the same process has nothing to learn.
    fn say(&self, said: Said) {
        drop(said);
    }
}

/// The issuer's answer, once it is there.
pub type IssuerAnswer<'a> = BoxFuture<'a, Result<IssuerResponse, ControlError>>;

/// What an enforcement point knows already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The highest epoch it ever saw; lower ones are refused.
    pub epoch: u64,
    /// Random, new for each stream of updates: heartbeats are signed with it, so that one of
    /// another stream is no heartbeat of this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<Digest>,
    /// The revision in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<Digest>,
    /// The serial under which it has that revision: one that was left and came back has another.
    #[serde(default)]
    pub serial: u64,
    /// Leaves of the log under the last checkpoint that it believed as a witness.
    #[serde(default)]
    pub witnessed: u64,
}

/// A change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Update {
    /// Policy to put in force.
    Snapshot(SignedSnapshot),
    /// Lines of the revocation log, in order.
    Revocations(Vec<Revocation>),
    /// The log has grown.
    Checkpoint(Continued),
    /// The server is there.
    Heartbeat(Heartbeat),
    /// The server is there, for whoever can't know it by being the same process.
    SignedHeartbeat(SignedHeartbeat),
    /// The keys that sign tokens (a JWK Set).
    Keys(serde_json::Value),
    /// The trusted root certificates, PEM.
    Roots(String),
}

/// The bytes of a policy bundle with the server's signature over them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedSnapshot {
    /// Canonical JSON of the bundle.
    pub bundle: String,
    /// The epoch when it was signed; an enforcement point refuses one below its own.
    pub epoch: u64,
    /// The revision it replaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predecessor: Option<Digest>,
    /// Its place in the order of activations, the first is 1; an enforcement point refuses one
    /// below the highest that it ever knew.
    pub serial: u64,
    /// Ed25519 over
    /// `countersign-snapshot/v1\n<serial>\n<epoch>\n<predecessor or ->\n<sha-256 of bundle>\n`,
    /// base64.
    pub signature: String,
}

/// The server is there, and this is what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The last line of the revocation log.
    pub epoch: u64,
    /// The revision in force.
    pub revision: Digest,
    /// The server's wall clock.
    pub time: Timestamp,
}

/// A heartbeat that proves when it was made: after the stream with this nonce was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedHeartbeat {
    /// What it says.
    pub beat: Heartbeat,
    /// Grows with each heartbeat of a stream.
    pub number: u64,
    /// The serial of the policy in force.
    pub serial: u64,
    /// Ed25519 over [`Self::message`], base64.
    pub signature: String,
}

impl SignedHeartbeat {
    /// What is signed: `countersign-heartbeat/v1` and a line each for gateway, nonce, number,
    /// serial, epoch, revision and time in microseconds.
    #[must_use]
    pub fn message(&self, gateway: &Name, nonce: &Digest) -> String {
        let Heartbeat {
            epoch,
            revision,
            time,
        } = &self.beat;
        let (number, serial, time) = (self.number, self.serial, time.as_micros());
        format!(
            "countersign-heartbeat/v1\n{gateway}\n{nonce}\n{number}\n{serial}\n{epoch}\n{revision}\n{time}\n"
        )
    }
}

/// A checkpoint of the log with the proof that it continues an earlier one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Continued {
    /// The checkpoint, a C2SP signed note.
    pub checkpoint: String,
    /// Leaves under the earlier one.
    pub from: u64,
    /// RFC 9162 section 2.1.4, each hash in hex; empty if there is none.
    pub proof: Vec<Digest>,
}

/// What an enforcement point says on its stream of updates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Said {
    /// Its line under a checkpoint that it believes: C2SP cosignature of the note with `size`.
    Cosigned {
        /// The signature bytes, base64.
        signature: String,
        /// Leaves under that checkpoint.
        size: u64,
    },
    /// Where its spool is.
    Head {
        /// The leaf hash of its last record.
        hash: Digest,
        /// The sequence of its next record.
        next: u64,
    },
}

/// A person chose who to be on the page of `login: dev`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignIn {
    /// The door.
    pub door: Name,
    /// `user:<login>/<sub>` or `group:<login>/<name>`, as the configuration has it.
    pub member: String,
    /// The address it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_ip: Option<std::net::IpAddr>,
}

/// A session began.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SignedIn {
    /// The value of the session cookie: 256 random bits, base64url.
    #[serde(serialize_with = "expose")]
    pub cookie: SecretString,
    /// When it ends.
    pub ends: Timestamp,
}

/// A gateway shows a cookie and wants a token bound to its own certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionTokenRequest {
    /// The cookie it was shown.
    #[serde(serialize_with = "expose")]
    pub cookie: SecretString,
    /// The door it was shown at.
    pub door: Name,
    /// The service behind that door.
    pub service: Name,
}

/// A token drawn from a session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionToken {
    /// The groups the login vouched for.
    pub groups: Vec<String>,
    /// When the session ends.
    pub session_ends: Timestamp,
    /// SHA-256 of the session id.
    pub sid: Digest,
    /// Who signed in.
    pub sub: String,
    /// The access token.
    #[serde(serialize_with = "expose")]
    pub token: SecretString,
}

/// A secret to be put into calls; kept at most 60 s, in memory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InjectedSecret {
    /// Its value.
    #[serde(serialize_with = "expose")]
    pub value: SecretString,
    /// Its version, which goes into the call's record.
    pub version: u64,
}

/// A request to the issuer that came in at a gateway's own mTLS listener.
#[derive(Debug)]
pub struct IssuerRequest<'a> {
    /// The body.
    pub body: &'a [u8],
    /// The certificates that a partner showed at its door (DER), leaf first; none at other doors.
    pub chain: &'a [Vec<u8>],
    /// What goes into the record.
    pub context: Context<'a>,
    /// The listener.
    pub door: &'a Name,
    /// The peer, as verified by this process.
    pub evidence: Evidence,
    /// `GET` or `POST`.
    pub method: &'a str,
    /// The path.
    pub path: &'a str,
}

/// The issuer's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerResponse {
    /// JSON.
    pub body: Vec<u8>,
    /// Header fields beside the content type.
    pub headers: Vec<(&'static str, String)>,
    /// HTTP status.
    pub status: u16,
}

/// Why the control plane did not do it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum ControlError {
    /// Refused by decision; recorded by the server.
    #[error("refused: {code}")]
    Refused {
        /// The code.
        code: Code,
        /// Receipt id of the record.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        receipt: Option<String>,
    },
    /// No such session, or it has ended.
    #[error("no live session")]
    NoSession,
    /// The records don't continue what is known of this node.
    #[error("records from {wanted} on are wanted")]
    OutOfOrder {
        /// The sequence wanted.
        wanted: u64,
    },
    /// Not to be reached, or broken.
    #[error("the control plane is not available: {0}")]
    Unavailable(String),
}

/// A secret is serialised only here, on its way to a peer that was decided to get it.
fn expose<S: serde::Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secrecy::ExposeSecret::expose_secret(secret))
}
