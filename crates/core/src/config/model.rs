use crate::vocabulary::Name;
use crate::vocabulary::OperationPattern;
use crate::vocabulary::Permission;
use crate::vocabulary::TrustDomain;
use indexmap::IndexMap;
use serde::Deserialize;
use serde::Serialize;
use std::fmt;
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
    /// Doors, and what a caller must prove at them.
    pub listeners: IndexMap<Name, Listener>,
    /// Workloads, partners, agents.
    pub identities: IndexMap<Name, Identity>,
    /// Who may what.
    pub roles: IndexMap<Name, Role>,
    /// What can be reached.
    pub services: IndexMap<Name, Service>,
    /// Which workload or door may reach what at all.
    pub edges: Vec<Edge>,
    /// Secrets by name.
    pub secrets: IndexMap<Name, Secret>,
    /// Spending limits by name.
    pub budgets: IndexMap<Name, Budget>,
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

/// A door.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Where it was written.
    pub place: Place,
    /// Address and port; the address is a literal (`:443` means all addresses).
    pub bind: std::net::SocketAddr,
    /// Who comes in by it.
    pub peer: PeerKind,
    /// Host names it answers to, lower case; empty means its bind address and `localhost` in
    /// development.
    pub hosts: Vec<String>,
    /// How people sign in at a browser door.
    pub login: Option<Login>,
    /// Which service a host and path lead to at a browser door, most specific first.
    pub routes: Vec<Route>,
    /// Why TLS 1.2 is allowed, if it is.
    pub tls12: Option<String>,
    /// Size and time limits.
    pub limits: Limits,
}

/// How people sign in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// A page that offers the configured members; development only.
    Dev,
}

impl Login {
    /// Its name, the first part of a person's id.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Dev => "dev",
        }
    }
}

/// A line of `routes`.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Where it was written.
    pub place: Place,
    /// Host name, lower case.
    pub host: String,
    /// Path pattern (`/**` for all).
    pub path: OperationPattern,
    /// Where it leads.
    pub service: Name,
}

/// Limits of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request's header block (32 KiB).
    pub header: u64,
    /// Time for it to arrive (10 s).
    pub header_time: Duration,
    /// Bytes of a request body (1 MiB).
    pub body: u64,
    /// Time a connection may be silent (60 s).
    pub idle: Duration,
    /// Connections at once (10,000).
    pub connections: u32,
    /// Streams at once on one HTTP/2 connection (100).
    pub streams: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header: 32 << 10,
            header_time: Duration::from_secs(10),
            body: 1 << 20,
            idle: Duration::from_secs(60),
            connections: 10_000,
            streams: 100,
        }
    }
}

/// A workload.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// Where it was written.
    pub place: Place,
    /// Unix user that is this identity on the admin socket (`attest: { unix: { user: .. } }`).
    pub unix_user: Option<String>,
}

/// A role: what its members may do.
#[derive(Clone, Debug, PartialEq)]
pub struct Role {
    /// Where it was written.
    pub place: Place,
    /// Who has it.
    pub members: Vec<Member>,
    /// Roles whose permissions it has too.
    pub includes: Vec<Name>,
    /// Its own permissions.
    pub may: Vec<Permission>,
}

/// Who has a role, reads a secret, speaks in a test.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Member {
    /// A workload.
    Identity(Name),
    /// Everybody in a group of a login.
    Group {
        /// The login that vouches for the group.
        login: String,
        /// The group.
        name: String,
    },
    /// One person.
    User {
        /// The login that vouches for the person.
        login: String,
        /// The `sub` there.
        sub: String,
    },
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity(name) => name.fmt(f),
            Self::Group { login, name } => write!(f, "group:{login}/{name}"),
            Self::User { login, sub } => write!(f, "user:{login}/{sub}"),
        }
    }
}

/// Something that can be reached.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Where it was written.
    pub place: Place,
    /// What it is.
    pub peer: PeerKind,
    /// Where it is.
    pub url: ServiceUrl,
    /// The identity it must prove; its own name by default.
    pub identity: Name,
    /// What is put into a call on its way out.
    pub credential: Option<Credential>,
    /// Request headers that may travel to a third party, lower case.
    pub headers: Vec<String>,
    /// How long a call may take (30 s).
    pub timeout: Duration,
    /// How long a stream may live (1 h).
    pub max_stream: Duration,
    /// Whether private addresses may be dialled for it.
    pub private_network: bool,
    /// Whether paths are compared without regard to case.
    pub fold_case: bool,
    /// What each operation needs; a service-wide `needs` is one operation without a pattern.
    pub operations: Vec<OperationRule>,
}

/// Where a service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceUrl {
    /// `https://host:port/base`.
    Https {
        /// Host name or literal address.
        host: String,
        /// Port (443).
        port: u16,
        /// Path put in front, without trailing slash.
        base: String,
    },
    /// `http://` on loopback.
    Http {
        /// A loopback address or `localhost`.
        host: String,
        /// Port (80).
        port: u16,
        /// Path put in front, without trailing slash.
        base: String,
    },
    /// Built into countersign itself.
    BuiltIn,
}

/// A secret put into a call on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Where it was written.
    pub place: Place,
    /// Which secret.
    pub secret: Name,
    /// How it is put in.
    pub form: CredentialForm,
}

/// How a credential is put into a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialForm {
    /// `Authorization: Bearer <secret>`.
    Bearer,
    /// A header of this name, lower case.
    Header(String),
}

/// What an operation needs.
#[derive(Clone, Debug, PartialEq)]
pub struct OperationRule {
    /// Where it was written.
    pub place: Place,
    /// Which operations; absent for a service-wide `needs`, which matches all.
    pub pattern: Option<OperationPattern>,
    /// What they need.
    pub needs: Needs,
    /// Carved out of the pattern.
    pub except: Vec<OperationPattern>,
    /// Whether only a person may.
    pub person: bool,
    /// Largest body, bytes; the listener's by default.
    pub body_max: Option<u64>,
    /// Allowed models, with `*` as a wildcard in the text; empty allows any.
    pub models: Vec<String>,
    /// The budget it draws on.
    pub budget: Option<Name>,
    /// When it is allowed; always by default.
    pub hours: Option<Hours>,
}

/// `needs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Needs {
    /// A permission in the token's scope and in a role of the subject.
    Permission(Permission),
    /// The edge alone.
    Edge,
}

/// A weekly window in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hours {
    /// First day (0 is Monday).
    pub first_day: u8,
    /// Last day, inclusive.
    pub last_day: u8,
    /// First minute of the day.
    pub from: u16,
    /// The minute it ends, exclusive; before `from` it runs over midnight.
    pub to: u16,
}

/// An arrow.
#[derive(Clone, Debug, PartialEq)]
pub struct Edge {
    /// Where it was written.
    pub place: Place,
    /// A listener or an identity.
    pub from: Name,
    /// A service.
    pub to: Name,
    /// Which operations.
    pub operations: Vec<OperationPattern>,
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
}

/// A spending limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    /// Where it was written.
    pub place: Place,
    /// Micro-dollars per window.
    pub limit_microusd: u64,
    /// The window, aligned to the calendar in UTC.
    pub window: Window,
    /// Whose spending is added up.
    pub per: BudgetScope,
    /// Prices by model, `*` as a wildcard, first match wins.
    pub prices: IndexMap<String, Price>,
}

/// Prices in micro-dollars per million tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// For tokens sent.
    pub input: u64,
    /// For tokens received.
    pub output: u64,
}

/// The window of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Window {
    /// A clock hour.
    Hour,
    /// A day.
    Day,
    /// A week from Monday.
    Week,
    /// A calendar month.
    Month,
}

/// Whose spending a budget adds up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BudgetScope {
    /// Everybody's together.
    All,
    /// Each subject's.
    Subject,
}

/// The ledger's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audit {
    /// When an append counts as done.
    pub commit: countersign_ledger::spool::Commit,
    /// How long records are kept (7 years).
    pub keep: Duration,
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
    /// The model in the request's body, if the test gives one (`with: { model: .. }`).
    pub model: Option<String>,
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
}
