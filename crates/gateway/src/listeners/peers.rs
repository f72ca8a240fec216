//! Who has how many of a listener's connections, so that nobody takes them all.

use crate::connected::Connected;
use crate::place::Seat;
use countersign_core::hop::Evidence;
use countersign_net::places::Held;
use countersign_net::places::Places;
use countersign_net::token::Presenter;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

/// The connections of one listener.
#[derive(Clone, Debug)]
pub(super) struct Peers {
    proven: Arc<Places<Presenter>>,
    shaking: Arc<Places<IpAddr>>,
    taken: Arc<AtomicU32>,
}

/// Why a connection finds no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Full {
    #[error("too many connections")]
    All,
    #[error("too many handshakes of one network")]
    Network,
}

/// One peer, by certificate, by a partner's authority or else by network, has at most this part of a listener's connections.
const PEER: u32 = 2;
/// One network has at most this part of them in handshakes, where nothing is proved yet.
const SHAKING: u32 = 4;
/// Connections that any one peer may have: a small listener is not divided.
const LEAST: u32 = 16;

impl Peers {
    /// None yet.
    pub(super) fn none() -> Self {
        Self {
            proven: Places::new(),
            shaking: Places::new(),
            taken: Arc::default(),
        }
    }

    /// A connection that has proved nothing yet, among so many of the listener.
    pub(super) fn shakes(
        &self,
        source: SocketAddr,
        connections: u32,
    ) -> Result<(Seat, Held<IpAddr>), Full> {
        let seat = Seat::take(&self.taken, connections).ok_or(Full::All)?;
        let network = countersign_enforce::network(source.ip());
        let held = self.shaking.enter(network, share(connections, SHAKING));
        Ok((seat, held.ok_or(Full::Network)?))
    }

    /// The same one once its handshake is done; none if its peer has its part.
    pub(super) fn enters(
        &self,
        connected: &Connected,
        connections: u32,
    ) -> Option<Held<Presenter>> {
        self.proves(&connected.evidence(), connected.source_ip(), connections)
    }

    fn proves(
        &self,
        evidence: &Evidence,
        source: IpAddr,
        connections: u32,
    ) -> Option<Held<Presenter>> {
        let network = countersign_enforce::network(source);
        let peer = Presenter::of(evidence, Some(network));
        self.proven.enter(peer, share(connections, PEER))
    }
}

fn share(connections: u32, among: u32) -> usize {
    usize::try_from((connections / among).max(LEAST)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_core::hop::PartnerCertificate;
    use countersign_core::hop::Peer;
    use countersign_core::vocabulary::Digest;
    use countersign_core::vocabulary::Timestamp;

    fn partner(root: u8, leaf: u8) -> Evidence {
        let mut evidence = Evidence::none();
        evidence.peer = Peer::Partner(Arc::new(PartnerCertificate {
            dns_names: vec![format!("{leaf}.globex.example")],
            issuer: Digest::new([root; 32]),
            issuers_above: Box::default(),
            leaf: Digest::new([leaf; 32]),
            not_after: Timestamp::from_secs(60),
            not_before: Timestamp::from_secs(0),
            root: Digest::new([root; 32]),
            serial: "2a".to_owned(),
        }));
        evidence
    }

    #[test]
    fn a_partner_takes_no_more_of_a_shared_door_for_making_more_leaves() {
        let peers = Peers::none();
        let enters = |root, leaf| {
            let source = IpAddr::from([192, 0, 2, leaf]);
            peers.proves(&partner(root, leaf), source, 100)
        };
        let held: Vec<_> = (0..50).map(|leaf| enters(1, leaf).unwrap()).collect();
        assert!(enters(1, 51).is_none());
        assert!(enters(2, 51).is_some());
        drop(held);
        assert!(enters(1, 51).is_some());
    }

    #[test]
    fn a_network_that_only_begins_handshakes_leaves_room_for_others() {
        let peers = Peers::none();
        let shakes = |address: &str| peers.shakes(format!("{address}:1").parse().unwrap(), 100);
        let mut held: Vec<_> = (0..25).map(|_| shakes("192.0.2.1").unwrap()).collect();
        assert_eq!(shakes("192.0.2.200").unwrap_err(), Full::Network);
        held.extend((0..75).map(|it| shakes(&format!("198.51.{it}.1")).unwrap()));
        assert_eq!(shakes("203.0.113.1").unwrap_err(), Full::All);
        drop(held);
        assert!(shakes("192.0.2.200").is_ok());
    }
}
