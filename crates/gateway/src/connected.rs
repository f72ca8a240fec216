use crate::place::Place;
use countersign_core::hop::Evidence;
use countersign_core::hop::Peer;
use countersign_core::hop::Tls;
use countersign_core::snapshot::DoorKind;
use countersign_core::vocabulary::Name;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;

/// What is known of a connection for all requests on it; computed once.
#[derive(Debug)]
pub(crate) struct Connected {
    /// At a door for partners the certificates as they were shown (DER), leaf first.
    pub(crate) chain: Vec<Vec<u8>>,
    /// The listener.
    pub(crate) door: Name,
    /// What callers must prove there.
    pub(crate) kind: DoorKind,
    /// Its place at the listener.
    pub(crate) place: Arc<Place>,
    /// The address at the other end.
    pub(crate) source: SocketAddr,
    /// The caller's address as text, without a port.
    pub(crate) source_text: String,
    /// The server name of the handshake.
    pub(crate) sni: Option<String>,
    /// Who is at the other end.
    pub(crate) peer: Peer,
    /// How the connection is encrypted.
    pub(crate) tls: Tls,
}

impl Connected {
    /// What the connection proves, before any token or session.
    pub(crate) fn evidence(&self) -> Evidence {
        evidence(self.peer.clone(), self.tls.clone())
    }

    /// The caller's address; an IPv4 address stays one on a dual-stack socket.
    pub(crate) fn source_ip(&self) -> IpAddr {
        self.source.ip().to_canonical()
    }
}

/// Evidence of a connection alone.
pub(crate) fn evidence(peer: Peer, tls: Tls) -> Evidence {
    let mut evidence = Evidence::none();
    evidence.peer = peer;
    evidence.tls = tls;
    evidence
}
