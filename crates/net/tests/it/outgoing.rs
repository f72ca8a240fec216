//! Whom we connect to.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::pki::Defect;
use crate::pki::Issued;
use crate::pki::Pki;
use crate::support::local;
use crate::support::soon;
use countersign_core::hop::CertificateFault;
use countersign_core::hop::Peer;
use countersign_core::hop::Tls;
use countersign_net::ConnectError;
use countersign_net::Connection;
use countersign_net::Connector;
use countersign_net::Dialer;
use countersign_net::Expected;
use countersign_net::PublicRoots;
use countersign_net::Roots;
use countersign_net::Source;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A server that shows this certificate and accepts anyone.
async fn impostor(issued: Issued) -> u16 {
    countersign_net::install_crypto().unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(issued.chain, issued.key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = acceptor.accept(stream).await;
        }
    });
    port
}

async fn connect(connector: &Connector, port: u16, name: &str) -> Result<Connection, ConnectError> {
    let socket = Dialer.connect(&local(port), soon()).await.unwrap();
    connector
        .connect(socket, name, soon())
        .await
        .map(|(_, connection)| connection)
}

fn fault(result: Result<Connection, ConnectError>) -> CertificateFault {
    match result {
        Err(ConnectError::Handshake(refused)) => match refused.peer {
            Peer::Refused { fault, .. } => fault,
            other => panic!("{other:?}: {}", refused.detail),
        },
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn only_the_expected_identity_will_do() {
    let pki = Pki::new("acme.internal");
    let port = impostor(pki.issue("hms-api")).await;
    let connector = |expected: &str| {
        let (own, roots) = (Source::new(pki.svid("gw")), Roots::new(pki.bundle(1)));
        Connector::mutual(own, roots, pki.id(expected)).unwrap()
    };
    let connection = connect(&connector("hms-api"), port, "any.name.at.all")
        .await
        .unwrap();
    assert_eq!(connection.peer.unwrap().spiffe_id, pki.id("hms-api"));
    assert!(connection.own_leaf.is_some());
    let other = connect(&connector("hms-web"), port, "hms-web").await;
    let port = impostor(pki.issue("countersign/gateway/gw")).await;
    let process = |role| {
        let (own, roots) = (Source::new(pki.svid("api")), Roots::new(pki.bundle(1)));
        Connector::mutual(own, roots, Expected::Process(role)).unwrap()
    };
    assert!(connect(&process("gateway"), port, "gw").await.is_ok());
    let not_a_server = connect(&process("server"), port, "gw").await;
    assert_eq!(fault(not_a_server), CertificateFault::Untrusted);
    assert_eq!(fault(other), CertificateFault::Untrusted);
}

#[tokio::test]
async fn a_server_certificate_has_the_same_faults() {
    let pki = Pki::new("acme.internal");
    let (own, roots) = (Source::new(pki.svid("gw")), Roots::new(pki.bundle(1)));
    let connector = Connector::mutual(own, roots, pki.id("hms-api")).unwrap();
    let cases = [
        (Defect::Expired, CertificateFault::Time),
        (Defect::NotYetValid, CertificateFault::Time),
        (Defect::OnlyServer, CertificateFault::Form),
        (Defect::OnlyClient, CertificateFault::Form),
        (Defect::NoExtendedKeyUsage, CertificateFault::Form),
        (Defect::SecondUriName, CertificateFault::Form),
        (Defect::NoUriName, CertificateFault::Form),
        (Defect::CaFlag, CertificateFault::Form),
        (Defect::KeyUsageSignsCertificates, CertificateFault::Form),
        (Defect::KeyP521, CertificateFault::Key),
        (Defect::OtherDomain, CertificateFault::Untrusted),
        (Defect::SelfSigned, CertificateFault::Untrusted),
        (Defect::WithoutIntermediate, CertificateFault::Untrusted),
    ];
    for (defect, expect) in cases {
        let port = impostor(pki.issue_with("hms-api", defect)).await;
        assert_eq!(
            fault(connect(&connector, port, "hms-api").await),
            expect,
            "{defect:?}"
        );
    }
    let port = impostor(Pki::new("acme.internal").issue("hms-api")).await;
    let other_ca = fault(connect(&connector, port, "hms-api").await);
    assert_eq!(other_ca, CertificateFault::Untrusted);
}

#[tokio::test]
async fn a_third_party_is_known_by_its_host_name() {
    let pki = Pki::new("acme.internal");
    let port = impostor(pki.issue_web("api.example")).await;
    let roots = PublicRoots::none()
        .with_pem(pki.root_pem().as_bytes())
        .unwrap();
    let connector = Connector::public(&roots).unwrap();
    let connection = connect(&connector, port, "api.example").await.unwrap();
    assert!(connection.peer.is_none() && connection.own_leaf.is_none());
    let Tls::Established { group, .. } = connection.tls else {
        panic!()
    };
    assert_eq!(group, "X25519MLKEM768");
    for name in ["other.example", "example", "127.0.0.1"] {
        assert!(connect(&connector, port, name).await.is_err(), "{name}");
    }
    let strangers = PublicRoots::none()
        .with_pem(Pki::new("b").root_pem().as_bytes())
        .unwrap();
    let connector = Connector::public(&strangers).unwrap();
    assert!(connect(&connector, port, "api.example").await.is_err());
    assert!(matches!(
        PublicRoots::none().with_pem(b""),
        Err(ConnectError::Roots)
    ));
    let odd = connect(&connector, port, "no host").await;
    assert!(matches!(odd, Err(ConnectError::Name(_))));
}
