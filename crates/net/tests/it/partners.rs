//! A door for partners over a real socket: whom it believes, what it states, and how a session that
//! was resumed is held to the same.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::clock::FakeClock;
use crate::pki::Defect;
use crate::pki::Issued;
use crate::pki::Pki;
use crate::support::Outcome;
use crate::support::Server;
use crate::support::careless;
use crate::support::echo;
use countersign_core::hop::CertificateFault;
use countersign_core::hop::Peer;
use countersign_core::hop::Tls;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Timestamp;
use countersign_net::Acceptor;
use countersign_net::AcceptorError;
use countersign_net::Authorities;
use countersign_net::Listener;
use countersign_net::Refused;
use countersign_net::Roots;
use countersign_net::Source;
use countersign_net::SvidSource;
use countersign_net::TrustError;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

struct Door {
    clock: FakeClock,
    roots: Arc<Roots>,
    server: Server,
    svid: Arc<SvidSource>,
}

fn listener(svid: &Arc<SvidSource>, roots: &Arc<Roots>, pem: &str) -> Listener {
    Listener::Partner {
        authorities: Arc::new(Authorities::from_pem(pem.as_bytes()).unwrap()),
        roots: roots.clone(),
        svid: svid.clone(),
    }
}

async fn door(ours: &Pki, pem: &str) -> Door {
    countersign_net::install_crypto().unwrap();
    let (clock, roots) = (FakeClock::at(SystemTime::now()), Roots::new(ours.bundle(1)));
    let svid = Source::new(ours.svid("server"));
    let acceptor =
        Acceptor::with_time(listener(&svid, &roots, pem), Arc::new(clock.clone())).unwrap();
    Door {
        clock,
        roots,
        server: Server::start(acceptor).await,
        svid,
    }
}

fn fault(outcome: Outcome) -> CertificateFault {
    let Peer::Refused { fault, leaf } = outcome.unwrap_err().peer else {
        panic!("not refused for its certificate")
    };
    assert!(leaf.is_some());
    fault
}

#[tokio::test]
async fn a_partner_is_stated_by_authority_and_names_and_resumed_sessions_are_held_to_it() {
    let (ours, theirs) = (Pki::new("acme.internal"), Pki::new("globex.example"));
    let mut door = door(&ours, &theirs.root_pem()).await;
    let client = Arc::new(careless(Some(theirs.issue("api"))));
    echo(door.server.address, client.clone()).await.unwrap();
    let first = door.server.outcome().await.unwrap();
    let Peer::Partner(facts) = first.peer else {
        panic!("{:?}", first.peer)
    };
    assert_eq!((first.generation, first.alpn), (None, None));
    // The URI of their own trust domain says nothing here.
    assert_eq!(facts.dns_names, ["localhost"]);
    let authorities = Authorities::from_pem(theirs.root_pem().as_bytes()).unwrap();
    assert_eq!(authorities.digests().collect::<Vec<_>>(), [facts.root]);

    echo(door.server.address, client.clone()).await.unwrap();
    let again = door.server.outcome().await.unwrap();
    assert!(matches!(again.tls, Tls::Established { resumed: true, .. }));
    assert_eq!(again.peer, Peer::Partner(facts));
    door.clock.advance(Duration::from_secs(3601));
    assert!(echo(door.server.address, client).await.is_err());
    assert_eq!(fault(door.server.outcome().await), CertificateFault::Time);
}

#[tokio::test]
async fn whoever_is_not_a_client_of_the_authority_is_refused() {
    let (ours, theirs) = (Pki::new("acme.internal"), Pki::new("globex.example"));
    let mut door = door(&ours, &theirs.root_pem()).await;
    let posing = Pki::new("acme.internal");
    let untrusted = [
        ours.issue("orders"),
        Pki::new("globex.example").issue("api"),
        theirs.issue_with("api", Defect::WithoutIntermediate),
        theirs.issue_with("api", Defect::SelfSigned),
    ];
    let defective = [
        (Defect::Expired, CertificateFault::Time),
        (Defect::NoExtendedKeyUsage, CertificateFault::Form),
        (Defect::OnlyServer, CertificateFault::Form),
        (Defect::CaFlag, CertificateFault::Form),
        (Defect::NoName, CertificateFault::Form),
        (Defect::NotSpiffe, CertificateFault::Form),
        (Defect::KeyP521, CertificateFault::Key),
    ];
    let untrusted = untrusted.map(|it| (it, CertificateFault::Untrusted));
    let defective = defective.map(|(defect, fault)| (theirs.issue_with("api", defect), fault));
    for (issued, expected) in untrusted.into_iter().chain(defective) {
        let client = Arc::new(careless(Some(issued)));
        assert!(echo(door.server.address, client).await.is_err());
        assert_eq!(fault(door.server.outcome().await), expected);
    }
    // Its own authority signs what says that it is of our trust domain.
    let mut lying = self::door(&ours, &posing.root_pem()).await;
    let client = Arc::new(careless(Some(posing.issue("orders"))));
    assert!(echo(lying.server.address, client).await.is_err());
    let refused = lying.server.outcome().await.unwrap_err();
    assert!(
        refused.detail.contains("our own trust domain"),
        "{}",
        refused.detail
    );
    // For clients alone is enough.
    let client = careless(Some(theirs.issue_with("api", Defect::OnlyClient)));
    echo(door.server.address, Arc::new(client)).await.unwrap();
    assert!(door.server.outcome().await.is_ok());
}

#[tokio::test]
async fn our_own_authority_opens_no_door_for_partners() {
    let (ours, theirs) = (Pki::new("acme.internal"), Pki::new("globex.example"));
    let roots = Roots::new(ours.bundle(1));
    let both = theirs.root_pem() + &ours.root_pem();
    for pem in [ours.root_pem(), both] {
        let svid = Source::new(ours.svid("server"));
        let refused = Acceptor::new(listener(&svid, &roots, &pem)).unwrap_err();
        assert!(matches!(refused, AcceptorError::OwnAuthority), "{refused}");
    }
    becomes_ours_by_its_root(&ours, &theirs).await;
    becomes_ours_by_who_signs(&ours, &theirs).await;
}

async fn becomes_ours_by_its_root(ours: &Pki, theirs: &Pki) {
    let mut door = door(ours, &theirs.root_pem()).await;
    let client = Arc::new(careless(Some(theirs.issue("api"))));
    echo(door.server.address, client.clone()).await.unwrap();
    door.server.outcome().await.unwrap();
    door.roots.replace(theirs.bundle(2));
    assert!(echo(door.server.address, client).await.is_err());
    let refused = door.server.outcome().await.unwrap_err();
    assert_eq!(refused.peer, Peer::Anonymous);
    assert_eq!(Authorities::from_pem(b"").unwrap_err(), TrustError::Empty);
}

/// The authority is no root of ours, but its key signs our own certificates from some day on.
async fn becomes_ours_by_who_signs(ours: &Pki, theirs: &Pki) {
    let issued = theirs.issue("api");
    let mut door = door(ours, &pem(issued.chain.get(1).unwrap())).await;
    let client = Arc::new(careless(Some(issued)));
    echo(door.server.address, client.clone()).await.unwrap();
    door.server.outcome().await.unwrap();
    // A new leaf of the same issuer changes nothing: what was resumed before is resumed now.
    door.svid.rotate(ours.svid("server"));
    echo(door.server.address, client.clone()).await.unwrap();
    let again = door.server.outcome().await.unwrap();
    assert!(matches!(again.tls, Tls::Established { resumed: true, .. }));
    door.svid.rotate(theirs.svid("server"));
    assert!(echo(door.server.address, client).await.is_err());
    let refused = door.server.outcome().await.unwrap_err();
    assert_eq!(refused.peer, Peer::Anonymous);
}

#[test]
fn a_chain_that_another_process_was_shown_is_held_to_the_same() {
    countersign_net::install_crypto().unwrap();
    let (ours, theirs) = (Pki::new("acme.internal"), Pki::new("globex.example"));
    let posing = Pki::new("acme.internal");
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let now = Timestamp::from_secs(i64::try_from(now).unwrap());
    let issuer = Digest::new([7; 32]);
    let check = |pem: &str, issued: &Issued, at: Timestamp, issuer: Digest| {
        let authorities = Authorities::from_pem(pem.as_bytes()).unwrap();
        let chain: Vec<_> = issued.chain.iter().map(|it| it.to_vec()).collect();
        authorities.check(&chain, (&ours.bundle(1), issuer), at, &Tls::Kernel)
    };
    let fault = |refused: Box<Refused>| {
        assert_eq!(refused.tls, Tls::Kernel);
        let Peer::Refused { fault, .. } = refused.peer else {
            panic!("not refused for its certificate")
        };
        (fault, refused.detail)
    };
    let good = theirs.issue("api");
    let Peer::Partner(facts) = check(&theirs.root_pem(), &good, now, issuer).unwrap() else {
        panic!("no partner")
    };
    assert_eq!(facts.dns_names, ["localhost"]);
    // Above the issuer is the root, whose key is stated as that of the issuer is.
    let [root] = *facts.issuers_above else {
        panic!("{:?}", facts.issuers_above)
    };
    assert!(check(&theirs.root_pem(), &good, now, root).is_err());
    let (later, never) = (
        now.plus(Duration::from_secs(3601)),
        Timestamp::from_secs(-1),
    );
    let (time, stranger) = (CertificateFault::Time, CertificateFault::Untrusted);
    for (pem, issued, at, expected) in [
        (theirs.root_pem(), &good, later, time),
        (theirs.root_pem(), &good, never, time),
        (theirs.root_pem(), &ours.issue("api"), now, stranger),
        (posing.root_pem(), &posing.issue("api"), now, stranger),
        (ours.root_pem(), &ours.issue("api"), now, stranger),
    ] {
        let refused = check(&pem, issued, at, issuer).unwrap_err();
        assert_eq!(fault(refused).0, expected);
    }
    let lying = check(&posing.root_pem(), &posing.issue("api"), now, issuer);
    let (_, detail) = fault(lying.unwrap_err());
    assert!(detail.contains("our own trust domain"), "{detail}");
    // An authority with the key that signs for us, whatever it is called.
    let pem = pem(good.chain.get(1).unwrap());
    check(&pem, &good, now, issuer).unwrap();
    let refused = check(&pem, &good, now, facts.issuer).unwrap_err();
    assert_eq!(fault(refused).0, stranger);
    // Nothing is nobody.
    let authorities = Authorities::from_pem(theirs.root_pem().as_bytes()).unwrap();
    for chain in [vec![], vec![Vec::new()], vec![vec![0x30; 64]]] {
        let refused = authorities.check(&chain, (&ours.bundle(1), issuer), now, &Tls::Kernel);
        assert_eq!(fault(refused.unwrap_err()).0, CertificateFault::Form);
    }
}

fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}
