//! What a checked file means.

mod doors;
mod limits;
mod services;
mod who;

pub use doors::*;
pub use limits::*;
pub use services::*;
pub use who::*;

use crate::vocabulary::Name;
use crate::vocabulary::Permission;
use crate::vocabulary::TrustDomain;
use indexmap::IndexMap;
use serde::Deserialize;
use serde::Serialize;
use std::time::Duration;

/// A checked configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The trust domain; `local.dev.invalid` by default in development.
    pub trust_domain: TrustDomain,
    /// Where it runs; `prod` unless said otherwise.
    pub environment: Environment,
    /// How old knowledge may be.
    pub staleness: Staleness,
    /// Who has to agree to a configuration that allows more.
    pub change: Change,
    /// Doors, and what a caller must prove at them.
    pub listeners: IndexMap<Name, Listener>,
    /// Issuers of people's and pipelines' sign-ins; `dev` is not among them.
    pub logins: IndexMap<Name, OidcLogin>,
    /// Workloads, partners, agents.
    pub identities: IndexMap<Name, Identity>,
    /// Who may what.
    pub roles: IndexMap<Name, Role>,
    /// How often.
    pub tiers: IndexMap<Name, Tier>,
    /// What can be reached.
    pub services: IndexMap<Name, Service>,
    /// Which workload or door may reach what at all.
    pub edges: Vec<Edge>,
    /// Secrets by name.
    pub secrets: IndexMap<Name, Secret>,
    /// Spending limits by name.
    pub budgets: IndexMap<Name, Budget>,
    /// Rego policies by name.
    pub policies: IndexMap<Name, Policy>,
    /// The ledger.
    pub audit: Audit,
    /// Sentences that must hold.
    pub tests: Vec<Test>,
}

/// A place in a configuration file; lines and columns count from 1.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Place {
    /// Which file, as an index into the list of files read.
    pub file: u16,
    /// Line.
    pub line: u32,
    /// Column, in characters.
    pub column: u32,
}

/// Where a deployment runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// Loopback only, watermarked, `*.dev.invalid`.
    Dev,
    /// Everything else.
    Prod,
}

/// How old an enforcement point's knowledge may be before it refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staleness {
    /// Since the last word about revocations (15 s).
    pub revocations: Duration,
    /// Since the last word about policy (5 min).
    pub policy: Duration,
}

impl Default for Staleness {
    fn default() -> Self {
        Self {
            revocations: Duration::from_secs(15),
            policy: Duration::from_secs(300),
        }
    }
}

/// Who has to agree to a configuration that allows more than the one in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Where it was written.
    pub place: Place,
    /// Roles of which a second person agrees; empty lets one person do it.
    pub approve: Vec<Name>,
}

/// A file that the configuration names, as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Its path, as the file that names it would say it from the folder of the entry file.
    pub path: String,
    /// Its text.
    pub text: std::sync::Arc<str>,
}

/// The kind of the party at the other end: the row of the decision matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PeerKind {
    /// A workload of the trust domain.
    Service,
    /// A person's browser.
    Browser,
    /// A database.
    Database,
    /// A message broker.
    Broker,
    /// Somebody else's API.
    ThirdParty,
    /// Another organisation's workload.
    Partner,
    /// Something that provisions infrastructure.
    Provisioner,
}

/// A secret.
#[derive(Clone, Debug, PartialEq)]
pub struct Secret {
    /// Where it was written.
    pub place: Place,
    /// Where its value comes from.
    pub from: SecretSource,
    /// The permission a reader's token carries (`secret:read`).
    pub needs: Permission,
    /// Who may read it.
    pub readers: Vec<Member>,
    /// How often it is replaced.
    pub rotate: Option<Duration>,
}

/// Where a secret's value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// The built-in vault, under this name.
    Store(String),
    /// An environment variable of the server.
    Env(String),
    /// A file on the server.
    File(String),
    /// Another Vault: `mount/path#field`.
    Vault(String),
    /// AWS Secrets Manager: a name or ARN, `#field` for one member of a JSON value.
    Aws(String),
    /// A Kubernetes secret: `namespace/name#key`.
    K8s(String),
}

/// The ledger's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// When an append counts as done.
    pub commit: countersign_ledger::spool::Commit,
    /// How long records are kept (7 years).
    pub keep: Duration,
    /// Where they are sent as well.
    pub sinks: IndexMap<Name, Sink>,
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            commit: countersign_ledger::spool::Commit::Fsync,
            keep: Duration::from_secs(7 * 366 * 86_400),
            sinks: IndexMap::new(),
        }
    }
}

/// Where records are sent as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sink {
    /// Where it was written.
    pub place: Place,
    /// What it is.
    pub kind: SinkKind,
}

/// A receiver of records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkKind {
    /// OCSF events, by `POST` to this `https://` address.
    Ocsf(String),
    /// Objects in a bucket, `s3://bucket/prefix`.
    S3 {
        /// The bucket and prefix.
        url: String,
        /// The object lock, if any.
        lock: Option<ObjectLock>,
    },
    /// Lines of JSON, appended to this file.
    File(String),
}

/// Retention mode of S3 Object Lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectLock {
    /// Nobody deletes it before its time.
    Compliance,
    /// Whoever may bypass the lock does.
    Governance,
}

/// A sentence of `tests`.
#[derive(Clone, Debug, PartialEq)]
pub struct Test {
    /// Where its name was written.
    pub place: Place,
    /// Where what it expects was written.
    pub expect_place: Place,
    /// The sentence.
    pub name: String,
    /// Who asks.
    pub subject: Member,
    /// The door and the workloads it comes by, door first; empty for a workload on its own.
    pub via: Vec<Name>,
    /// The service.
    pub service: String,
    /// The operation.
    pub operation: crate::vocabulary::Operation,
    /// What the request says (`with`): `model` for a model, members of the input otherwise.
    pub with: serde_json::Map<String, serde_json::Value>,
    /// What must come out.
    pub expect: Expectation,
}

/// What a test expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// All six pillars hold.
    Allow,
    /// Refused by this pillar.
    Deny(crate::vocabulary::Pillar),
    /// Somebody has to approve.
    NeedsApproval,
}
