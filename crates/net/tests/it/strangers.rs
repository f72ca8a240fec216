//! Who does not speak the TLS we speak.

use crate::pki::Pki;
use crate::support;
use crate::support::Server;
use crate::support::local;
use crate::support::mutual;
use crate::support::soon;
use countersign_core::hop::Peer;
use countersign_core::hop::Tls;
use countersign_core::hop::TlsFault;
use countersign_core::hop::TlsVersion;
use countersign_net::Acceptor;
use countersign_net::Dialer;
use countersign_net::Listener;
use countersign_net::Source;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

async fn s_client(port: u16, arguments: &[&str]) -> String {
    support::s_client(port, arguments.iter().map(ToString::to_string).collect()).await
}

#[tokio::test]
async fn each_weakness_has_its_fault() {
    let pki = Pki::new("acme.internal");
    let mut server = Server::start(mutual(&pki)).await;
    let old = "ALL@SECLEVEL=0";
    let cases: [(&[&str], TlsFault); 6] = [
        (&["-tls1_2"], TlsFault::Version),
        (&["-tls1_1", "-cipher", old], TlsFault::Version),
        (&["-tls1", "-cipher", old], TlsFault::Version),
        (&["-groups", "P-521"], TlsFault::Strength),
        (
            &["-ciphersuites", "TLS_AES_128_CCM_SHA256"],
            TlsFault::Strength,
        ),
        (&["-sigalgs", "RSA-PSS+SHA256"], TlsFault::Strength),
    ];
    for (arguments, fault) in cases {
        let said = s_client(server.address.port(), arguments).await;
        assert!(said.contains("alert"), "{arguments:?}: {said}");
        let refused = server.outcome().await.unwrap_err();
        assert_eq!(
            refused.tls,
            Tls::Refused { fault },
            "{arguments:?}: {}",
            refused.detail
        );
        assert_eq!(refused.peer, Peer::Anonymous);
    }
}

#[tokio::test]
async fn not_tls_at_all() {
    let pki = Pki::new("acme.internal");
    let mut server = Server::start(mutual(&pki)).await;
    let client_hello_of_ssl2 = [0x80, 0x2e, 0x01, 0x00, 0x02, 0x00, 0x15];
    let huge_record = [22, 3, 3, 0xff, 0xff, 1, 0, 0, 0];
    let said: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        &[0; 64],
        &client_hello_of_ssl2,
        &huge_record,
    ];
    for bytes in said {
        let mut stream = Dialer
            .connect(&local(server.address.port()), soon())
            .await
            .unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let refused = server.outcome().await.unwrap_err();
        assert_eq!(
            refused.tls,
            Tls::Refused {
                fault: TlsFault::Handshake
            },
            "{bytes:?}"
        );
        assert!(refused.detail.len() <= 256);
    }
}

#[tokio::test]
async fn who_says_nothing_is_let_go() {
    let pki = Pki::new("acme.internal");
    let acceptor = mutual(&pki);
    let (_silent, ours) = tokio::io::duplex(1024);
    let start = Instant::now();
    let refused = acceptor
        .accept(ours, start + Duration::from_millis(50))
        .await
        .unwrap_err();
    assert_eq!(
        refused.tls,
        Tls::Refused {
            fault: TlsFault::Handshake
        }
    );
    assert!(start.elapsed() < Duration::from_secs(60));
}

#[tokio::test]
async fn a_browser_door_asks_for_no_certificate() {
    countersign_net::install_crypto().unwrap();
    let pki = Pki::new("acme.internal");
    let certificates = Source::new(pki.issue_web("localhost").credential());
    for (tls12, argument, version) in [
        (false, "-tls1_3", Some(TlsVersion::V13)),
        (false, "-tls1_2", None),
        (true, "-tls1_2", Some(TlsVersion::V12)),
    ] {
        let listener = Listener::Browser {
            certificates: certificates.clone(),
            tls12,
        };
        let mut server = Server::start(Acceptor::new(listener).unwrap()).await;
        let said = s_client(server.address.port(), &[argument, "-alpn", "h2,http/1.1"]).await;
        match (server.outcome().await, version) {
            (Ok(established), Some(expect)) => {
                let Tls::Established { version, group, .. } = established.tls else {
                    panic!()
                };
                assert_eq!(version, expect, "{said}");
                assert_eq!(group, "x25519");
                assert_eq!(established.peer, Peer::Anonymous);
                assert_eq!(established.alpn.as_deref(), Some(b"h2".as_slice()));
            }
            (Err(refused), None) => {
                assert_eq!(
                    refused.tls,
                    Tls::Refused {
                        fault: TlsFault::Version
                    }
                );
            }
            (outcome, _) => panic!("tls12 {tls12} {argument}: {outcome:?}"),
        }
    }
}

#[tokio::test]
async fn the_alert_arrives_even_if_the_client_talks_on() {
    let pki = Pki::new("acme.internal");
    let server = Server::start(mutual(&pki)).await;
    let mut stream = Dialer
        .connect(&local(server.address.port()), soon())
        .await
        .unwrap();
    // Plain HTTP with a body still on its way when the refusal is known.
    stream
        .write_all(b"POST / HTTP/1.1\r\nContent-Length: 32768\r\n\r\n")
        .await
        .unwrap();
    for _ in 0..8 {
        let _ = stream.write_all(&[b'x'; 4096]).await;
    }
    let mut said = Vec::new();
    stream.read_to_end(&mut said).await.unwrap();
    assert_eq!(said.first(), Some(&21), "a TLS alert record: {said:?}");
}
