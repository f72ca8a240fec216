//! What a local command asks of the administration socket: HTTP/1.1 with JSON bodies over a unix
//! socket that checks who connects. Paths are `/v1/admin/...`; each request is decided as an
//! operation of a built-in service at door `admin`.

use countersign_core::snapshot::Revocation;
use countersign_core::snapshot::Revoked;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Timestamp;
use secrecy::SecretString;
use serde::Deserialize;
use serde::Serialize;

/// `POST /v1/admin/identity/issue`: a certificate for a configured identity, or for one of our own
/// gateways. Decided as `issue NAME` of `issuer`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssueIdentity {
    /// A PEM certificate signing request; its key is the caller's, only its public half travels.
    pub csr: String,
    /// Whether `name` is a gateway (`spiffe://<td>/countersign/gateway/<name>`).
    #[serde(default)]
    pub gateway: bool,
    /// The identity.
    pub name: String,
}

/// An issued certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedIdentity {
    /// Trusted roots, PEM.
    pub bundle: String,
    /// Leaf first, then intermediates, PEM.
    pub chain: String,
    /// Where things are, for clients.
    pub endpoints: Endpoints,
    /// SHA-256 of the leaf.
    pub leaf: Digest,
    /// When it ends.
    pub not_after: Timestamp,
    /// The SPIFFE ID.
    pub spiffe_id: String,
}

/// Where a client finds the issuer, the vault and the mesh; also the `countersign.json` beside an
/// issued identity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// Address of a mesh listener, `127.0.0.1:9443`, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesh: Option<String>,
    /// Address of the server's mTLS port, `127.0.0.1:7443`.
    pub server: String,
    /// The trust domain.
    pub trust_domain: String,
}

/// `GET /v1/admin/join`: what a gateway in another process needs to find and believe the server,
/// beside its own identity. Nothing in it is secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// The log's verifier key, `name+id+key`.
    pub log_key: String,
    /// The trusted roots, PEM.
    pub roots: String,
    /// The server's mTLS port, `10.0.0.7:7443` or `countersign.acme.internal:7443`.
    pub server: String,
    /// The key that signs snapshots: Ed25519, 64 hex digits.
    pub snapshot_key: String,
    /// The trust domain.
    pub trust_domain: String,
}

/// `POST /v1/admin/revoke`: decided as `revoke ...` of `issuer`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revoke {
    /// Takes an earlier revocation back.
    #[serde(default)]
    pub lift: bool,
    /// What.
    pub what: Revoked,
}

/// What came of a revocation: it is in force everywhere this process reaches when this is said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedNow {
    /// Open streams it ended.
    pub ended: u64,
    /// Whether there is such an identity (configured, or with a certificate in force) or such a
    /// certificate (issued here). Of other kinds it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<bool>,
    /// Its line in the log.
    pub revocation: Revocation,
}

/// `POST /v1/admin/secret/NAME`: decided as `write NAME` of `vault`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PutSecret {
    /// The fields of the secret; a single value is the field `value`.
    #[serde(serialize_with = "expose_all")]
    pub data: std::collections::BTreeMap<String, SecretString>,
}

/// A secret as listings show it: never a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretEntry {
    /// Its name.
    pub name: String,
    /// When the newest version was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated: Option<Timestamp>,
    /// The newest version; 0 if there is no value yet.
    pub version: u64,
}

/// `GET /v1/admin/records?after=N&limit=M` and `/v1/admin/records/ID`: decided as `read records`
/// of `audit`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordEntry {
    /// Its index in the log, once it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// The node it was written by.
    pub node: String,
    /// Receipt id.
    pub receipt: String,
    /// The record.
    pub record: serde_json::Value,
    /// Its sequence there.
    pub seq: u64,
}

/// `GET /v1/admin/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// When the revision in force was made active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activated: Option<Timestamp>,
    /// By whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activated_by: Option<String>,
    /// Hops admitted since the start.
    pub admitted: u64,
    /// Whether this is development.
    pub dev: bool,
    /// The last line of the revocation log.
    pub epoch: u64,
    /// The configuration file against what is in force, if the server has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileStatus>,
    /// The gateways that have joined from processes of their own and are not revoked.
    #[serde(default)]
    pub gateways: Vec<GatewayStatus>,
    /// The log's verifier key.
    pub log_key: String,
    /// Signed size of the log.
    pub log_size: u64,
    /// Hops open now.
    pub open: u64,
    /// Hops refused since the start.
    pub refused: u64,
    /// The revision in force.
    pub revision: Digest,
    /// Name and address of each listener.
    pub listeners: Vec<(String, String)>,
    /// When the process began.
    pub started: Timestamp,
    /// The trust domain.
    pub trust_domain: String,
    /// The program's version.
    pub version: String,
}

/// A gateway in another process, as the server heard it last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayStatus {
    /// When; nothing since the server began if there is none. One that is connected is heard each
    /// second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard: Option<Timestamp>,
    /// Its name.
    pub name: String,
    /// Records that it said it has and that are not in the log.
    pub unshipped: u64,
}

/// A configuration file against the revision in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStatus {
    /// Whether a reload would change anything.
    pub drift: Drift,
    /// The file.
    pub path: String,
}

/// Whether a configuration file says what is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Drift {
    /// It does.
    None,
    /// It says something else.
    Differs,
    /// It can't be read.
    Unreadable,
}

fn expose_all<S: serde::Serializer>(
    data: &std::collections::BTreeMap<String, SecretString>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(
        data.iter()
            .map(|(key, value)| (key, secrecy::ExposeSecret::expose_secret(value))),
    )
}
