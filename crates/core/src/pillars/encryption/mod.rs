//! Pillar 1: is the connection encrypted well enough for this door?
//!
//! A mesh door wants TLS 1.3; a browser door TLS 1.3, or 1.2 where the listener says why; the
//! admin socket is carried by the kernel. A handshake that was refused arrives here as evidence
//! too, so that it is decided and recorded like everything else.

use super::Case;
use crate::hop::Hop;
use crate::hop::Tls;
use crate::hop::TlsFault;
use crate::hop::TlsVersion;
use crate::pillars::Denial;
use crate::snapshot::DoorKind;
use crate::snapshot::State;
use crate::vocabulary::Code;
use crate::vocabulary::Pillar;
use std::sync::Arc;

/// The connection is encrypted well enough.
#[derive(Debug)]
#[must_use]
pub struct EncryptionProof {
    case: Case,
    door: DoorKind,
}

/// The first check of every decision.
pub(crate) fn prove(hop: Arc<Hop>, state: &State) -> Result<EncryptionProof, Box<Denial>> {
    let case = Case {
        hop,
        state: state.clone(),
    }
    .without_fault(Pillar::Encryption)?;
    let snapshot = &case.state.snapshot;
    let Some(door) = snapshot.door(case.hop.door.as_str()) else {
        let reason = format!("no listener `{}` in this revision", case.hop.door);
        return case.deny(Code::TLS_ABSENT, reason);
    };
    let floor = floor(&case, door);
    match &case.hop.evidence.tls {
        Tls::Refused { fault } => {
            let (code, reason) = match fault {
                TlsFault::Version => (
                    Code::TLS_VERSION,
                    format!("handshake refused: no version at or above {floor}"),
                ),
                TlsFault::Strength => (
                    Code::TLS_STRENGTH,
                    "handshake refused: no key exchange, cipher or signature in common".to_owned(),
                ),
                TlsFault::Handshake => (
                    Code::TLS_HANDSHAKE,
                    "handshake refused or broken off".to_owned(),
                ),
            };
            case.deny(code, reason)
        }
        Tls::Established { version, .. } if *version < floor => {
            let reason = format!("{version} is below {floor}");
            case.deny(Code::TLS_VERSION, reason)
        }
        Tls::Established { .. } if door != DoorKind::Local => Ok(EncryptionProof { case, door }),
        Tls::Kernel if door == DoorKind::Local => Ok(EncryptionProof { case, door }),
        Tls::Plain if snapshot.is_open() => Ok(EncryptionProof { case, door }),
        _ => case.deny(
            Code::TLS_ABSENT,
            "the connection is not encrypted as this door wants it",
        ),
    }
}

impl EncryptionProof {
    pub(super) fn into_parts(self) -> (Case, DoorKind) {
        (self.case, self.door)
    }
}

fn floor(case: &Case, door: DoorKind) -> TlsVersion {
    let listener = case
        .state
        .snapshot
        .config()
        .listeners
        .get(case.hop.door.as_str());
    let reason = listener.and_then(|listener| listener.tls12.as_ref());
    if door == DoorKind::Browser && reason.is_some() {
        TlsVersion::V12
    } else {
        TlsVersion::V13
    }
}
