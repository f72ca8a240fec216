use crate::hop::Claims;
use crate::hop::Hop;
use crate::snapshot::Holder;
use crate::snapshot::Snapshot;
use crate::vocabulary::Name;
use crate::vocabulary::SpiffeId;
use std::fmt;

/// Whose edges count: the party on the other end of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A configured workload, or the local user that administers as one.
    Identity(Name),
    /// A browser door, on behalf of whoever is signed in there.
    Door(Name),
    /// A partner at a door for partners.
    Partner {
        /// The door, whose edges are its own too.
        door: Name,
        /// Its identity.
        name: Name,
    },
    /// One of our own processes.
    Process {
        /// `gateway` or `server`.
        role: String,
        /// Its name.
        name: String,
    },
    /// `ZT_OFF` in development.
    Anyone,
}

/// Whose roles count: the person, or the workload itself when it acts for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A configured workload.
    Workload(Name),
    /// A person.
    Person {
        /// `<login>:<sub>`.
        user: String,
        /// `<login>/<name>` each.
        groups: Vec<String>,
    },
    /// One of our own processes.
    Process {
        /// `gateway` or `server`.
        role: String,
        /// Its name.
        name: String,
    },
    /// `ZT_OFF` in development.
    Anyone,
}

impl Caller {
    /// Whether this is one of our gateways.
    #[must_use]
    pub fn is_gateway(&self) -> bool {
        matches!(self, Self::Process { role, .. } if role == "gateway")
    }

    /// Whether this is an identity of the configuration, and none of our own processes or doors.
    #[must_use]
    pub const fn is_identity(&self) -> bool {
        matches!(self, Self::Identity(_) | Self::Partner { .. })
    }

    /// The workload, or the local user that administers as one.
    #[must_use]
    pub fn identity(&self) -> Option<&str> {
        match self {
            Self::Identity(name) => Some(name.as_str()),
            _ => None,
        }
    }

    /// The name edges start at.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Identity(name) | Self::Door(name) | Self::Partner { name, .. } => {
                Some(name.as_str())
            }
            Self::Process { .. } | Self::Anyone => None,
        }
    }

    /// The door a partner came in by, at which its edges may start as well. A configuration has
    /// such edges only at a door of one partner.
    #[must_use]
    pub fn partner_door(&self) -> Option<&str> {
        match self {
            Self::Partner { door, .. } => Some(door.as_str()),
            _ => None,
        }
    }
}

impl Subject {
    pub(super) fn of_caller(caller: &Caller) -> Self {
        match caller {
            Caller::Identity(name) | Caller::Door(name) | Caller::Partner { name, .. } => {
                Self::Workload(name.clone())
            }
            Caller::Process { role, name } => Self::Process {
                role: role.clone(),
                name: name.clone(),
            },
            Caller::Anyone => Self::Anyone,
        }
    }

    /// The subject of a hop that came as far as its roles being asked: who its session or token is
    /// for, or the workload itself.
    pub(crate) fn of_hop(snapshot: &Snapshot, hop: &Hop) -> Option<Self> {
        let evidence = &hop.evidence;
        match (&evidence.session, evidence.verified_token()) {
            (Some(session), _) => Self::of_person(snapshot, &session.sub, &session.groups),
            (None, Some(token)) => Self::of_claims(snapshot, &token.claims),
            (None, None) => {
                let id = snapshot.id_of(&evidence.peer)?;
                snapshot.identity(&id).cloned().map(Self::Workload)
            }
        }
    }

    /// The subject that claims name, if the configuration knows such subjects.
    pub(super) fn of_claims(snapshot: &Snapshot, claims: &Claims) -> Option<Self> {
        if claims.sub.starts_with("spiffe:") {
            let id = SpiffeId::parse(&claims.sub).ok()?;
            return snapshot.identity(&id).cloned().map(Self::Workload);
        }
        Self::of_person(snapshot, &claims.sub, &claims.groups)
    }

    /// A person, if one of the doors has the login that vouches for them.
    pub(super) fn of_person(snapshot: &Snapshot, sub: &str, groups: &[String]) -> Option<Self> {
        let (login, _) = sub.split_once(':')?;
        let known = snapshot.knows_login(login);
        known.then(|| Self::Person {
            user: sub.to_owned(),
            groups: groups.to_vec(),
        })
    }

    /// Whether this is a person, or the one subject of `ZT_OFF` that stands for everybody.
    #[must_use]
    pub const fn is_person(&self) -> bool {
        matches!(self, Self::Person { .. } | Self::Anyone)
    }

    pub(crate) fn holder(&self) -> Option<Holder<'_>> {
        match self {
            Self::Workload(name) => Some(Holder::Identity(name.as_str())),
            Self::Person { user, groups } => Some(Holder::Person { user, groups }),
            Self::Process { .. } | Self::Anyone => None,
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity(name) | Self::Door(name) | Self::Partner { name, .. } => name.fmt(f),
            Self::Process { role, name } => write!(f, "countersign/{role}/{name}"),
            Self::Anyone => f.write_str("anyone"),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload(name) => name.fmt(f),
            Self::Person { user, .. } => f.write_str(user),
            Self::Process { role, name } => write!(f, "countersign/{role}/{name}"),
            Self::Anyone => f.write_str("anyone"),
        }
    }
}
