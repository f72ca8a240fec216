//! What a partner asks of the issuer at its door of a gateway in another process.
//!
//! The gateway says who it was, and that is not evidence: its certificates are checked here, by
//! what the door itself checks them by. That their key was proved is the gateway's word alone, and
//! nothing is given for it: a token is bound to the certificate, so it opens nothing for whoever
//! has another key, the gateway included.

use super::Asking;
use super::Plane;
use super::done;
use super::gateway;
use super::unavailable;
use crate::issuer::Relay;
use countersign_core::config::PeerKind;
use countersign_core::hop::Evidence;
use countersign_core::hop::RequestFault;
use countersign_core::hop::Tls;
use countersign_core::record::Context;
use countersign_core::snapshot::Snapshot;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Name;
use countersign_net::Authorities;
use countersign_net::token::Presenter;
use countersign_wire::control::ControlError;
use countersign_wire::control::IssuerRequest;
use countersign_wire::control::RelayFault;
use countersign_wire::control::RelayedAnswer;
use countersign_wire::control::RelayedRequest;

impl Plane {
    /// Serves `/oauth2/*` and `/.well-known/*` for a partner whose certificates a gateway shows.
    /// Two things are decided, each with its record: whether the gateway may carry this, and what
    /// the partner may.
    pub(crate) async fn relay(
        &self,
        asking: Asking<'_>,
        request: &RelayedRequest,
    ) -> Result<RelayedAnswer, ControlError> {
        let snapshot = self.point.snapshot();
        let foreign = self.own(&asking).await?.door(&request.door);
        let authorities = authorities(&snapshot, &request.door);
        let relayed = request.read();
        let fault = foreign
            .or_else(|| authorities.is_none().then(no_door))
            .or_else(|| relayed.as_ref().err().map(unreadable));
        let carrier = gateway(&asking.evidence);
        let (context, tls) = (asking.context, asking.evidence.tls.clone());
        let presenter = Presenter::of(&asking.evidence, None);
        let admitted = self.connect(asking, "relay", fault).await?;
        let (Some(carrier), Some(authorities), Ok(relayed)) = (carrier, authorities, relayed)
        else {
            return Err(ControlError::NoSession);
        };
        let request = IssuerRequest {
            body: &relayed.body,
            chain: &relayed.chain,
            context: Context {
                source_ip: request.source_ip,
                ..context
            },
            door: &request.door,
            evidence: self.shown(&authorities, &relayed.chain, tls)?,
            method: &request.method,
            path: &request.path,
        };
        let relay = Relay {
            gateway: &carrier,
            presenter,
        };
        let answer = self.issuer.serve_relayed(request, relay).await;
        done(&admitted);
        Ok(answer.into())
    }

    /// Evidence of whom the certificates name, on the connection that they came by.
    fn shown(
        &self,
        authorities: &Authorities,
        chain: &[Vec<u8>],
        tls: Tls,
    ) -> Result<Evidence, ControlError> {
        let ca = &self.joins.ca;
        let ours = ca.trust_bundle(1).map_err(unavailable)?;
        let mut evidence = Evidence::none();
        let ours = (&ours, ca.issuer());
        evidence.peer = match authorities.check(chain, ours, self.point.now(), &tls) {
            Ok(peer) => peer,
            Err(refused) => {
                let detail = refused.detail;
                tracing::warn!(detail, "a gateway shows certificates that its door refuses");
                refused.peer
            }
        };
        evidence.tls = tls;
        Ok(evidence)
    }
}

/// Whom a door believes, if it is one for partners.
fn authorities(snapshot: &Snapshot, door: &Name) -> Option<Authorities> {
    let listener = snapshot.config().listeners.get(door.as_str())?;
    let file = listener.client_ca.as_ref();
    let file = file.filter(|_| listener.peer == PeerKind::Partner)?;
    match Authorities::from_pem(file.text.as_bytes()) {
        Ok(authorities) => Some(authorities),
        Err(error) => {
            tracing::error!(%error, %door, "a door for partners believes nobody");
            None
        }
    }
}

fn no_door() -> RequestFault {
    RequestFault {
        code: Code::NO_EDGE,
        detail: "the door is none for partners".to_owned(),
    }
}

fn unreadable(fault: &RelayFault) -> RequestFault {
    RequestFault {
        code: Code::BODY_UNREADABLE,
        detail: fault.to_string(),
    }
}
