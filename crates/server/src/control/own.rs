//! What is a gateway's own: its listeners, what is injected behind them, and the certificates that
//! follow from the one it joined with.

use super::Asking;
use super::Plane;
use super::gateway;
use super::unavailable;
use crate::join;
use crate::store::GatewayRow;
use countersign_core::hop::Evidence;
use countersign_core::hop::RequestFault;
use countersign_core::snapshot::Snapshot;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Name;
use countersign_wire::control::ControlError;
use std::collections::BTreeSet;

/// Where a gateway is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In another process, trusted with its own listeners and nothing else.
    Afar,
    /// In this process.
    Here,
}

/// What a gateway may ask about.
pub(super) enum Own {
    /// All there is: it is in this process, or none at all and refused for that.
    All,
    /// What is behind these listeners.
    Behind(BTreeSet<Name>),
    /// Nothing: it has not joined.
    Nothing,
}

impl Own {
    /// What is wrong with a question about this door.
    pub(super) fn door(&self, door: &Name) -> Option<RequestFault> {
        let own = |listeners: &BTreeSet<Name>| listeners.contains(door);
        self.unless(own, "the door is not among this gateway's listeners")
    }

    /// What is wrong with a question for this secret.
    pub(super) fn secret(&self, snapshot: &Snapshot, secret: &Name) -> Option<RequestFault> {
        let own = |listeners: &_| snapshot.is_injected_behind(listeners, secret.as_str());
        self.unless(
            own,
            "the secret is not used behind this gateway's listeners",
        )
    }

    fn unless(
        &self,
        own: impl FnOnce(&BTreeSet<Name>) -> bool,
        detail: &str,
    ) -> Option<RequestFault> {
        match self {
            Self::All => None,
            Self::Behind(listeners) => (!own(listeners)).then(|| fault(Code::NO_EDGE, detail)),
            Self::Nothing => Some(not_joined()),
        }
    }
}

impl Plane {
    /// What whoever asks may ask about.
    pub(super) async fn own(&self, asking: &Asking<'_>) -> Result<Own, ControlError> {
        let name = match (asking.place, gateway(&asking.evidence)) {
            (Place::Afar, Some(name)) => name,
            _ => return Ok(Own::All),
        };
        let row = self.store.gateway(&name).await.map_err(unavailable)?;
        let own = |row: GatewayRow| join::own(&self.point.snapshot(), row.listeners.as_ref());
        Ok(row.map_or(Own::Nothing, |row| Own::Behind(own(row))))
    }

    /// The gateway that asks as it has joined, and what is wrong with its asking.
    pub(super) async fn joined(
        &self,
        evidence: &Evidence,
    ) -> Result<(Option<GatewayRow>, Option<RequestFault>), ControlError> {
        let Some(name) = gateway(evidence) else {
            return Ok((None, None));
        };
        let row = self.store.gateway(&name).await.map_err(unavailable)?;
        let leaf = evidence.certificate().map(|it| it.leaf);
        let wrong = match &row {
            None => Some(not_joined()),
            // The answer to its last renewal may have been lost on the way.
            Some(row) if leaf.is_some() && (leaf == row.leaf || leaf == row.previous) => None,
            Some(_) => Some(fault(
                Code::CERTIFICATE_REVOKED,
                "another certificate of this gateway took the place of this one",
            )),
        };
        Ok((row, wrong))
    }
}

fn not_joined() -> RequestFault {
    fault(Code::IDENTITY_UNKNOWN, "this gateway has not joined")
}

fn fault(code: Code, detail: &str) -> RequestFault {
    RequestFault {
        code,
        detail: detail.to_owned(),
    }
}
