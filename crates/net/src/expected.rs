//! Who must be at the other end of a connection that goes out.

use crate::x509::SvidError;
use countersign_core::hop::Certificate;
use countersign_core::vocabulary::SpiffeId;
use std::fmt;

/// Who must be at the other end of a mutual connection; the trust domain is the bundle's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// This very identity.
    Identity(SpiffeId),
    /// Any of our own processes with this role, such as `gateway`:
    /// `spiffe://<td>/countersign/<role>/<name>`.
    Process(&'static str),
}

impl From<SpiffeId> for Expected {
    fn from(id: SpiffeId) -> Self {
        Self::Identity(id)
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity(id) => id.fmt(f),
            Self::Process(role) => write!(f, "any countersign {role}"),
        }
    }
}

pub(crate) fn is_expected(facts: &Certificate, expected: &Expected) -> Result<(), SvidError> {
    let fits = match expected {
        Expected::Identity(id) => facts.spiffe_id == *id,
        Expected::Process(role) => facts
            .spiffe_id
            .process()
            .is_some_and(|(found, _)| found == *role),
    };
    if fits {
        return Ok(());
    }
    Err(SvidError::OtherIdentity(facts.spiffe_id.clone()))
}
