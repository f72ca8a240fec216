//! Who is who, who may what, and how often.

use super::Attached;
use super::Place;
use crate::vocabulary::Name;
use crate::vocabulary::Permission;
use indexmap::IndexMap;
use serde::Deserialize;
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// So many per time, and how many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// How many per window, on average.
    pub count: u32,
    /// The window: a second, minute, hour or day.
    pub per: Duration,
    /// How many at once; `count` by default.
    pub burst: u32,
}

/// How often the members of roles may call.
#[derive(Clone, Debug, PartialEq)]
pub struct Tier {
    /// Where it was written.
    pub place: Place,
    /// The rate, per subject.
    pub rate: Rate,
}

/// A workload, a partner, an AI agent or a pipeline.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// Where it was written.
    pub place: Place,
    /// What it is.
    pub kind: IdentityKind,
    /// As which process it is recognised.
    pub attest: Attest,
    /// The tokens of a pipeline that are this identity.
    pub pipeline: Option<Pipeline>,
    /// Whose budget it draws on.
    pub team: Option<String>,
    /// Services it may ask decisions about.
    pub fronts: Vec<Name>,
}

impl Identity {
    /// The system user that is this identity on the admin socket.
    #[must_use]
    pub fn unix_user(&self) -> Option<&str> {
        self.attest.unix.as_ref().map(|unix| unix.user.as_str())
    }
}

/// What an identity is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum IdentityKind {
    /// A process of ours.
    #[default]
    Workload,
    /// A process that acts by its own choice, for somebody.
    AiAgent {
        /// Whom it belongs to.
        owner: Owner,
    },
    /// Another organisation's workload.
    Partner {
        /// Its authority, trusted for this identity alone (PEM).
        ca: Attached,
        /// The DNS name its certificate carries.
        dns: String,
    },
}

/// The person an AI agent belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Which login vouches for the person.
    pub login: String,
    /// `sub` or verified e-mail address there.
    pub person: String,
}

/// As which process an identity is recognised; empty if it is issued by command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attest {
    /// By its service account.
    pub k8s: Option<ServiceAccount>,
    /// By its system user.
    pub unix: Option<UnixProcess>,
}

/// `cluster/namespace/service-account`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccount {
    /// The cluster, as its agents call it.
    pub cluster: String,
    /// The namespace.
    pub namespace: String,
    /// The service account.
    pub name: String,
}

/// A process on a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixProcess {
    /// The system user it runs as.
    pub user: String,
    /// On which nodes; any in development.
    pub nodes: Vec<String>,
    /// SHA-256 of the executable.
    pub sha256: Option<crate::vocabulary::Digest>,
}

/// Whose tokens a pipeline shows, and what they say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pipeline {
    /// The login that issues them.
    pub login: Name,
    /// Claims and the exact texts they must have.
    pub claims: IndexMap<String, String>,
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
    /// How often its members may call.
    pub tier: Option<Name>,
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
