//! Resumption, change of trust, and rotation under live traffic.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::clock::FakeClock;
use crate::pki::Pki;
use crate::support::Outcome;
use crate::support::Server;
use crate::support::careless;
use crate::support::echo;
use crate::support::local;
use crate::support::ping;
use crate::support::soon;
use countersign_core::hop::CertificateFault;
use countersign_core::hop::Peer;
use countersign_core::hop::Tls;
use countersign_net::Acceptor;
use countersign_net::Connector;
use countersign_net::Dialer;
use countersign_net::Listener;
use countersign_net::Roots;
use countersign_net::Source;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

fn resumed(outcome: &Outcome) -> bool {
    match &outcome.as_ref().unwrap().tls {
        Tls::Established { resumed, .. } => *resumed,
        other => panic!("{other:?}"),
    }
}

fn setup(pki: &Pki, resumption: bool) -> (Arc<Roots>, FakeClock, Acceptor) {
    countersign_net::install_crypto().unwrap();
    let roots = Roots::new(pki.bundle(1));
    let clock = FakeClock::at(SystemTime::now());
    let svid = Source::new(pki.svid("server"));
    let listener = Listener::Mutual {
        resumption,
        roots: roots.clone(),
        svid,
    };
    let acceptor = Acceptor::with_time(listener, Arc::new(clock.clone())).unwrap();
    (roots, clock, acceptor)
}

#[tokio::test]
async fn a_resumed_session_states_the_same_and_ends_with_the_roots() {
    let pki = Pki::new("acme.internal");
    let (roots, _, acceptor) = setup(&pki, true);
    let mut server = Server::start(acceptor).await;
    let client = Arc::new(careless(Some(pki.issue("frontend"))));
    let mut first = echo(server.address, client.clone()).await.unwrap();
    let before = server.outcome().await;
    assert!(!resumed(&before));
    echo(server.address, client.clone()).await.unwrap();
    let again = server.outcome().await;
    assert!(resumed(&again), "the second handshake is short");
    assert_eq!(again.as_ref().unwrap().peer, before.as_ref().unwrap().peer);

    roots.replace(pki.bundle(2));
    echo(server.address, client.clone()).await.unwrap();
    let after = server.outcome().await;
    assert!(!resumed(&after), "sessions of the old bundle are gone");
    assert_eq!(after.unwrap().generation, Some(2));

    roots.replace(Pki::new("acme.internal").bundle(3));
    assert!(echo(server.address, client).await.is_err());
    let refused = server.outcome().await.unwrap_err();
    assert!(matches!(
        refused.peer,
        Peer::Refused {
            fault: CertificateFault::Untrusted,
            ..
        }
    ));
    ping(&mut first).await.unwrap();
}

#[tokio::test]
async fn an_ended_leaf_resumes_nothing() {
    let pki = Pki::new("acme.internal");
    let (_, clock, acceptor) = setup(&pki, true);
    let mut server = Server::start(acceptor).await;
    let client = Arc::new(careless(Some(pki.issue("frontend"))));
    echo(server.address, client.clone()).await.unwrap();
    let Peer::Certificate(facts) = server.outcome().await.unwrap().peer else {
        panic!()
    };
    clock.advance(Duration::from_secs(3601));
    assert!(echo(server.address, client).await.is_err());
    let refused = server.outcome().await.unwrap_err();
    let expect = Peer::Refused {
        fault: CertificateFault::Time,
        leaf: Some(facts.leaf),
    };
    assert_eq!(refused.peer, expect);
    assert!(
        matches!(refused.tls, Tls::Established { resumed: true, .. }),
        "{:?}",
        refused.tls
    );
}

#[tokio::test]
async fn a_chain_that_is_known_counts_until_it_ends() {
    let pki = Pki::new("acme.internal");
    let (roots, clock, acceptor) = setup(&pki, false);
    let mut server = Server::start(acceptor).await;
    let client = Arc::new(careless(Some(pki.issue("frontend"))));
    let mut facts = Vec::new();
    for _ in 0..2 {
        echo(server.address, client.clone()).await.unwrap();
        let Peer::Certificate(stated) = server.outcome().await.unwrap().peer else {
            panic!()
        };
        facts.push(stated);
    }
    assert!(Arc::ptr_eq(&facts[0], &facts[1]), "verified once");

    roots.replace(pki.bundle(2));
    echo(server.address, client.clone()).await.unwrap();
    let Peer::Certificate(anew) = server.outcome().await.unwrap().peer else {
        panic!()
    };
    assert!(!Arc::ptr_eq(&facts[0], &anew), "another bundle knows none");
    assert_eq!(facts[0], anew);

    clock.advance(Duration::from_secs(3601));
    assert!(echo(server.address, client).await.is_err());
    let refused = server.outcome().await.unwrap_err();
    let expect = Peer::Refused {
        fault: CertificateFault::Time,
        leaf: Some(anew.leaf),
    };
    assert_eq!(refused.peer, expect);
}

#[tokio::test]
async fn a_control_listener_resumes_nothing() {
    let pki = Pki::new("acme.internal");
    let (_, _, acceptor) = setup(&pki, false);
    let mut server = Server::start(acceptor).await;
    let client = Arc::new(careless(Some(pki.issue("frontend"))));
    for _ in 0..3 {
        echo(server.address, client.clone()).await.unwrap();
        assert!(!resumed(&server.outcome().await));
    }
}

#[tokio::test]
async fn both_sides_rotate_under_live_traffic() {
    countersign_net::install_crypto().unwrap();
    let pki = Pki::new("acme.internal");
    let roots = Roots::new(pki.bundle(1));
    let server_svid = Source::new(pki.svid("server"));
    let listener = Listener::Mutual {
        resumption: true,
        roots: roots.clone(),
        svid: server_svid.clone(),
    };
    let mut server = Server::start(Acceptor::new(listener).unwrap()).await;
    let own = Source::new(pki.svid("frontend"));
    let connector = Connector::mutual(own.clone(), roots.clone(), pki.id("server")).unwrap();
    let connect = async || {
        let socket = Dialer
            .connect(&local(server.address.port()), soon())
            .await
            .unwrap();
        let (mut stream, connection) = connector
            .connect(socket, "server.mesh.acme.internal", soon())
            .await
            .unwrap();
        ping(&mut stream).await.unwrap();
        (stream, connection)
    };
    let now = FakeClock::at(SystemTime::now()).now();
    let (mut first, before) = connect().await;
    assert!(connector.still_good(&before, now));
    assert!(!connector.still_good(&before, before.peer.as_ref().unwrap().not_after));

    let mut latest = before.clone();
    for round in 0..5 {
        own.rotate(pki.svid("frontend"));
        server_svid.rotate(pki.svid("server"));
        assert!(!connector.still_good(&latest, now), "an old leaf of ours");
        let (_, after) = connect().await;
        assert_eq!(after.own_leaf, Some(own.current().leaf()), "round {round}");
        let theirs = after.peer.as_ref().unwrap().leaf;
        assert_eq!(theirs, server_svid.current().leaf());
        assert!(connector.still_good(&after, now));
        ping(&mut first).await.unwrap();
        latest = after;
    }
    let mut leaves = Vec::new();
    for _ in 0..6 {
        let Peer::Certificate(facts) = server.outcome().await.unwrap().peer else {
            panic!()
        };
        leaves.push(facts.leaf);
    }
    assert_eq!(
        leaves[5],
        own.current().leaf(),
        "what we think we show is what it sees"
    );
    leaves.dedup();
    assert_eq!(leaves.len(), 6);
    roots.replace(Pki::new("acme.internal").bundle(2));
    assert!(!connector.still_good(&latest, now), "its root is gone");
}
