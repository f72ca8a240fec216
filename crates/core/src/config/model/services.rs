//! What can be reached, what each operation needs, and from where.

use super::Attached;
use super::PeerKind;
use super::Place;
use super::Rate;
use crate::vocabulary::Name;
use crate::vocabulary::OperationPattern;
use crate::vocabulary::Permission;
use serde::Deserialize;
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// Something that can be reached.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Where it was written.
    pub place: Place,
    /// What it is.
    pub peer: PeerKind,
    /// Where it is: one address, or several that do the same; none for a provisioner.
    pub urls: Vec<ServiceUrl>,
    /// How calls are spread over several addresses.
    pub balance: Balance,
    /// How they are probed.
    pub health: Option<Health>,
    /// Which calls are tried again at another address.
    pub retry: Retry,
    /// The identity it must prove; its own name by default.
    pub identity: Name,
    /// What is put into a call on its way out.
    pub credential: Option<Credential>,
    /// Request headers that may travel to a third party, lower case.
    pub headers: Vec<String>,
    /// Leased users of a database.
    pub lease: Option<Lease>,
    /// Whether it is reached by the agent beside the caller only.
    pub through_agent: bool,
    /// What provisions.
    pub engine: Option<Engine>,
    /// The certificate that a partner issued to us.
    pub certificate: Option<ClientCertificate>,
    /// The authority of a partner's own certificate (PEM); the public roots by default.
    pub server_ca: Option<Attached>,
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

impl Service {
    /// A service that is countersign itself.
    pub(crate) fn built_in(identity: Name, operations: Vec<OperationRule>) -> Self {
        Self {
            place: Place::default(),
            peer: PeerKind::Service,
            urls: vec![ServiceUrl::BuiltIn],
            identity,
            balance: Balance::default(),
            health: None,
            retry: Retry::default(),
            lease: None,
            through_agent: false,
            engine: None,
            certificate: None,
            server_ca: None,
            credential: None,
            headers: Vec::new(),
            timeout: Duration::from_secs(30),
            max_stream: Duration::from_secs(3600),
            private_network: false,
            fold_case: false,
            operations,
        }
    }

    /// Its address, the first of several.
    #[must_use]
    pub fn url(&self) -> Option<&ServiceUrl> {
        self.urls.first()
    }
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
    /// A socket on this machine.
    Unix {
        /// Its absolute path.
        path: String,
    },
    /// `postgres://host:port/database`.
    Postgres {
        /// Host name or literal address.
        host: String,
        /// Port (5432).
        port: u16,
        /// The database.
        database: String,
    },
    /// `nats://host:port`, always over TLS.
    Nats {
        /// Host name or literal address.
        host: String,
        /// Port (4222).
        port: u16,
    },
    /// Built into countersign itself.
    BuiltIn,
}

impl fmt::Display for ServiceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bracketed = |host: &str| {
            if host.contains(':') {
                format!("[{host}]")
            } else {
                host.to_owned()
            }
        };
        match self {
            Self::Https { host, port, base } => {
                write!(f, "https://{}:{port}{base}", bracketed(host))
            }
            Self::Http { host, port, base } => write!(f, "http://{}:{port}{base}", bracketed(host)),
            Self::Unix { path } => write!(f, "unix:{path}"),
            Self::Postgres {
                host,
                port,
                database,
            } => write!(f, "postgres://{}:{port}/{database}", bracketed(host)),
            Self::Nats { host, port } => write!(f, "nats://{}:{port}", bracketed(host)),
            Self::BuiltIn => f.write_str("built-in"),
        }
    }
}

/// How calls are spread over the addresses of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Balance {
    /// To the one with the fewest calls under way, of two chosen at random.
    #[default]
    LeastPending,
    /// One after the other.
    RoundRobin,
}

/// How the addresses of a service are probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Where it was written.
    pub place: Place,
    /// The path asked for by `GET`; 2xx is well.
    pub path: String,
    /// How often (10 s).
    pub every: Duration,
    /// How long an answer may take (2 s).
    pub timeout: Duration,
}

/// Which calls are tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Retry {
    /// Idempotent methods (RFC 9110 section 9.2.2) of which nothing was answered.
    #[default]
    Idempotent,
    /// None.
    Never,
}

/// Leased users of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Where it was written.
    pub place: Place,
    /// How long one lives.
    pub ttl: Duration,
    /// What it may do.
    pub grants: Vec<Grant>,
}

/// `SELECT on reports`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The SQL privilege, upper case.
    pub privilege: String,
    /// The table, with its schema if it has one.
    pub object: String,
}

/// What provisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Engine {
    /// A module folder, applied by `terraform`.
    Terraform(String),
    /// A module folder, applied by `tofu`.
    Opentofu(String),
    /// A blueprint of Nutanix Calm.
    Calm(String),
    /// A network view of Infoblox.
    Infoblox(String),
}

/// A certificate of ours that somebody else issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Where it was written.
    pub place: Place,
    /// The chain (PEM).
    pub chain: Attached,
    /// The secret that holds the key (PEM).
    pub key: Name,
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
    /// What a JSON body must look like (JSON Schema 2020-12).
    pub body_schema: Option<Attached>,
    /// What a body is searched for.
    pub screens: Vec<Screen>,
    /// Allowed models, with `*` as a wildcard in the text; empty allows any.
    pub models: Vec<String>,
    /// The budget it draws on.
    pub budget: Option<Name>,
    /// When it is allowed; always by default.
    pub hours: Option<Hours>,
    /// How often, per subject.
    pub rate: Option<Rate>,
    /// The Rego policy that agrees.
    pub policy: Option<Name>,
    /// Roles of which one member approves each call.
    pub approve: Vec<Name>,
    /// What the input of a provisioning must look like (JSON Schema 2020-12).
    pub input: Option<Attached>,
    /// How long the sub-token of a provisioning lives, at most an hour.
    pub token: Option<Duration>,
}

impl OperationRule {
    /// One that asks for nothing but a permission.
    pub(crate) const fn plain(
        place: Place,
        pattern: Option<OperationPattern>,
        needs: Needs,
    ) -> Self {
        Self {
            place,
            pattern,
            needs,
            except: Vec::new(),
            person: false,
            body_max: None,
            body_schema: None,
            screens: Vec::new(),
            models: Vec::new(),
            budget: None,
            hours: None,
            rate: None,
            policy: None,
            approve: Vec::new(),
            input: None,
            token: None,
        }
    }
}

/// What a body is searched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Screen {
    /// Instructions to a model that are not the user's.
    PromptInjection,
    /// Keys and tokens.
    Secrets,
    /// Personal data.
    Pii,
    /// Markup and scripts.
    Html,
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
