//! Records: what the ledger keeps of every decision, completion and event.
//!
//! One schema for allowed and refused: the fields of an audit event (who, what, when, from where,
//! with what result), and beside them the whole hop with (revision, epoch), so that the decision
//! can be made again from the record. A record is canonical JSON (RFC 8785): fields are declared
//! in the order of their names, and there are no floats.

mod charge;
mod completion;
mod outcome;

pub use charge::Charge;
pub use charge::Charged;
pub use charge::Limit;
pub use charge::RateResult;
pub use completion::Completion;
pub use completion::Ending;
pub use outcome::Demand;
pub use outcome::Outcome;

use crate::hop::Hop;
use crate::hop::Peer;
use crate::hop::Token;
use crate::snapshot::Snapshot;
use crate::snapshot::State;
use crate::vocabulary::Code;
use crate::vocabulary::Digest;
use crate::vocabulary::Pillar;
use crate::vocabulary::Timestamp;
use countersign_ledger::JsonObject;
use countersign_ledger::NotAnObject;
use serde::Deserialize;
use serde::Serialize;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// One entry of the ledger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record<'a> {
    /// What was asked: a method or verb.
    pub action: Cow<'a, str>,
    /// The refusal, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// How an admitted hop ended, in a completion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion: Option<Completion>,
    /// What kind of thing happened, from a closed list.
    pub event_type: Cow<'a, str>,
    /// Everything the decision read of the hop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hop: Option<Cow<'a, Hop>>,
    /// Decision, completion or event.
    pub kind: Kind,
    /// What else is known: request id, watermarks, details of events.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    /// The pillar that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pillar: Option<Pillar>,
    /// Who.
    pub principal: Principal<'a>,
    /// What came of counting it against rate limits.
    #[serde(default, skip_serializing_if = "none_charged")]
    pub rates: Cow<'a, [Charged]>,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'a, str>>,
    /// What came of the reservations.
    #[serde(default, skip_serializing_if = "none_reserved")]
    pub reservations: Cow<'a, [Outcome]>,
    /// Of what.
    pub resource: Resource<'a>,
    /// The address it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_ip: Option<std::net::IpAddr>,
    /// What it was decided on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<StateId>,
    /// How it came out.
    pub status: Status,
    /// When.
    pub timestamp: Timestamp,
    /// W3C trace id, if the request carried one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<Cow<'a, str>>,
    /// What the caller says it is, at most 256 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<Cow<'a, str>>,
    /// Version of this schema.
    pub v: u8,
    /// What let it through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way: Option<Cow<'a, str>>,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A hop was decided.
    Decision,
    /// An admitted hop ended.
    Completion,
    /// Something else happened: a secret was written, a key rotated, policy changed.
    Event,
}

/// How it came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Done, or allowed.
    Success,
    /// Tried and failed.
    Failure,
    /// Refused.
    Denied,
    /// Broken.
    Error,
}

/// Who did it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Principal<'a> {
    /// SHA-256 of the certificate shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_sha256: Option<Digest>,
    /// The party on the connection: SPIFFE ID, `unix:<user>`, or `anonymous`.
    pub id: Cow<'a, str>,
    /// The subject, where it is somebody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<Cow<'a, str>>,
    /// `jti` of the token shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_jti: Option<Cow<'a, str>>,
    /// `workload`, `process`, `person`, `local` or `anonymous`.
    #[serde(rename = "type")]
    pub kind: Cow<'a, str>,
}

/// Of what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource<'a> {
    /// Service and object: `hms-api/v1/reports/42`, `vault/mailer`.
    pub id: Cow<'a, str>,
    /// The service.
    pub service: Cow<'a, str>,
}

/// (revision, epoch).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateId {
    /// Revocations up to here.
    pub epoch: u64,
    /// Policy.
    pub revision: Digest,
}

/// What the enforcement point knows beside the hop; none of it is read by the decision.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context<'a> {
    /// Names the request across records and upstreams.
    pub request_id: &'a str,
    /// The address it came from.
    pub source_ip: Option<std::net::IpAddr>,
    /// W3C trace id.
    pub trace_id: Option<&'a str>,
    /// `User-Agent`.
    pub user_agent: Option<&'a str>,
}

/// Version of the schema.
const VERSION: u8 = 1;

impl<'a> Record<'a> {
    /// The record of something that happened without a decision of its own.
    #[must_use]
    pub fn event(
        event_type: &'a str,
        at: Timestamp,
        principal: &'a str,
        resource: Resource<'a>,
    ) -> Self {
        Self {
            action: Cow::Borrowed(event_type.rsplit('.').next().unwrap_or(event_type)),
            code: None,
            completion: None,
            event_type: Cow::Borrowed(event_type),
            hop: None,
            kind: Kind::Event,
            metadata: BTreeMap::new(),
            pillar: None,
            principal: Principal {
                cert_sha256: None,
                id: Cow::Borrowed(principal),
                on_behalf_of: None,
                token_jti: None,
                kind: Cow::Borrowed("process"),
            },
            rates: Cow::Borrowed(&[]),
            reason: None,
            reservations: Cow::Borrowed(&[]),
            resource,
            source_ip: None,
            state: None,
            status: Status::Success,
            timestamp: at,
            trace_id: None,
            user_agent: None,
            v: VERSION,
            way: None,
        }
    }

    /// The record of how a hop ended, as far as the hop tells it.
    pub(crate) fn ending(hop: &'a Hop, at: Timestamp) -> Self {
        let resource = Resource {
            id: Cow::Owned(resource_id(&hop.service, &hop.operation.object)),
            service: Cow::Borrowed(&hop.service),
        };
        let mut record = Self::event(event_type(hop), at, "", resource);
        record.action = Cow::Borrowed(&hop.operation.verb);
        record.kind = Kind::Completion;
        record.principal = principal(hop, None);
        record
    }

    /// Canonical JSON, as a spool takes it without reading it.
    ///
    /// # Errors
    /// [`NotAnObject`] if it can't be written. Strings, integers and maps with string keys always
    /// can.
    pub fn to_object(&self) -> Result<JsonObject, NotAnObject> {
        JsonObject::write(self)
    }

    /// Canonical JSON.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1536);
        // Strings, integers and maps with string keys, written to memory: this can't fail.
        if serde_json::to_writer(&mut bytes, self).is_err() {
            bytes.clear();
        }
        bytes
    }

    /// Reads a record.
    ///
    /// # Errors
    /// The parser's, for anything but a record.
    pub fn from_bytes(bytes: &[u8]) -> Result<Record<'static>, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The record of a decision on a hop, as far as hop and state tell it; what came out is the
    /// audit pillar's to add.
    pub(crate) fn decision(hop: &'a Hop, state: &State, context: &Context<'a>) -> Self {
        let mut metadata = BTreeMap::new();
        if !context.request_id.is_empty() {
            metadata.insert(
                Cow::Borrowed("request_id"),
                Cow::Borrowed(context.request_id),
            );
        }
        if state.snapshot.is_development() {
            metadata.insert(Cow::Borrowed("environment"), Cow::Borrowed("dev"));
        }
        if state.snapshot.is_open() {
            metadata.insert(Cow::Borrowed("zt_off"), Cow::Borrowed("true"));
        }
        Self {
            action: Cow::Borrowed(&hop.operation.verb),
            code: None,
            completion: None,
            event_type: Cow::Borrowed(event_type(hop)),
            kind: Kind::Decision,
            metadata,
            pillar: None,
            principal: principal(hop, Some(&state.snapshot)),
            rates: Cow::Borrowed(&[]),
            reason: None,
            reservations: Cow::Borrowed(&[]),
            resource: Resource {
                id: Cow::Owned(resource_id(&hop.service, &hop.operation.object)),
                service: Cow::Borrowed(&hop.service),
            },
            source_ip: context.source_ip,
            state: Some(StateId {
                epoch: state.revocations.epoch(),
                revision: *state.snapshot.revision(),
            }),
            status: Status::Success,
            timestamp: hop.at,
            trace_id: context.trace_id.map(Cow::Borrowed),
            user_agent: context
                .user_agent
                .map(|agent| Cow::Borrowed(crate::vocabulary::clip(agent, 256))),
            v: VERSION,
            way: None,
            hop: Some(Cow::Borrowed(hop)),
        }
    }
}

#[expect(clippy::ptr_arg, reason = "the form serde asks for")]
fn none_charged(charged: &Cow<'_, [Charged]>) -> bool {
    charged.is_empty()
}

#[expect(clippy::ptr_arg, reason = "the form serde asks for")]
fn none_reserved(outcomes: &Cow<'_, [Outcome]>) -> bool {
    outcomes.is_empty()
}

/// `hms-api/v1/reports/42`, `vault/mailer`, `reports-db`.
fn resource_id(service: &str, object: &str) -> String {
    let between = if object.is_empty() || object.starts_with('/') {
        ""
    } else {
        "/"
    };
    [service, between, object].concat()
}

fn event_type(hop: &Hop) -> &'static str {
    match (hop.service.as_str(), hop.operation.verb.as_str()) {
        ("issuer", "token") => "authn.token.issue",
        ("issuer", "revoke") => "authn.token.revoke",
        ("issuer", "issue" | "join") => "authn.cert.issue",
        ("vault", "read" | "inject") => "secret.read",
        ("vault", "write") => "secret.write",
        ("console", "connect") => "net.connect",
        ("console" | "audit", _) => "admin.action",
        _ if hop.facts.model.is_some() => "ai.request",
        _ => "authz.decision",
    }
}

/// The party on the connection, as records name it.
pub(crate) fn principal_id(evidence: &crate::hop::Evidence) -> String {
    match &evidence.peer {
        Peer::Certificate(certificate) => certificate.spiffe_id.as_str().to_owned(),
        Peer::Partner(certificate) => {
            let names = certificate.dns_names.join(",");
            format!("partner:{}", crate::vocabulary::clip(&names, 240))
        }
        Peer::Local { uid, user, .. } => {
            format!("unix:{}", user.clone().unwrap_or_else(|| uid.to_string()))
        }
        Peer::Joining { gateway, .. } => format!("joining:{gateway}"),
        Peer::Anonymous if evidence.session.is_some() => "browser".to_owned(),
        Peer::Anonymous | Peer::Refused { .. } => "anonymous".to_owned(),
    }
}

/// A partner goes by the SPIFFE ID of its identity, where policy is at hand and knows it.
fn principal<'a>(hop: &'a Hop, snapshot: Option<&Snapshot>) -> Principal<'a> {
    let (id, kind) = match &hop.evidence.peer {
        Peer::Certificate(it) => {
            let kind = if it.spiffe_id.is_reserved() {
                "process"
            } else {
                "workload"
            };
            (Cow::Borrowed(it.spiffe_id.as_str()), kind)
        }
        Peer::Partner(_) => {
            let id = snapshot.and_then(|it| it.id_of(&hop.evidence.peer));
            let id = id.map_or_else(|| principal_id(&hop.evidence), |id| id.to_string());
            (Cow::Owned(id), "partner")
        }
        Peer::Local { .. } => (Cow::Owned(principal_id(&hop.evidence)), "local"),
        Peer::Joining { .. } => (Cow::Owned(principal_id(&hop.evidence)), "process"),
        Peer::Anonymous if hop.evidence.session.is_some() => (Cow::Borrowed("browser"), "person"),
        Peer::Anonymous | Peer::Refused { .. } => (Cow::Borrowed("anonymous"), "anonymous"),
    };
    let claims = match &hop.evidence.token {
        Token::Verified(token) => Some(&token.claims),
        _ => None,
    };
    let leaf = match &hop.evidence.peer {
        Peer::Refused { leaf, .. } => *leaf,
        _ => hop.evidence.leaf().map(|it| it.digest),
    };
    Principal {
        cert_sha256: leaf,
        on_behalf_of: claims
            .filter(|it| it.sub != *id)
            .map(|it| Cow::Borrowed(it.sub.as_str())),
        id,
        token_jti: claims.map(|it| Cow::Borrowed(it.jti.as_str())),
        kind: Cow::Borrowed(kind),
    }
}
