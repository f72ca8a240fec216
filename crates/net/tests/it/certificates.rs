//! Every way in which a client certificate can be wrong, over a real socket: the alert the client
//! gets, and the evidence that goes to the record.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::pki::Defect;
use crate::pki::IntermediateDefect;
use crate::pki::Issued;
use crate::pki::Pki;
use crate::support::Outcome;
use crate::support::Server;
use crate::support::careless;
use crate::support::echo;
use crate::support::mutual;
use crate::support::s_client;
use aws_lc_rs::digest;
use countersign_core::hop::CertificateFault;
use countersign_core::hop::Peer;
use countersign_core::hop::Tls;
use countersign_core::hop::TlsVersion;
use countersign_core::vocabulary::Digest;
use std::sync::Arc;

/// What each defect must be called, and the alert that openssl prints for it.
fn expectation(defect: Defect) -> (CertificateFault, &'static str) {
    match defect {
        Defect::None => panic!("nothing is wrong"),
        Defect::Expired | Defect::NotYetValid => (CertificateFault::Time, "certificate expired"),
        Defect::KeyP521 | Defect::KeyRsa1024 => (CertificateFault::Key, "unsupported certificate"),
        Defect::OtherDomain | Defect::SelfSigned | Defect::WithoutIntermediate => {
            (CertificateFault::Untrusted, "unknown ca")
        }
        _ => (CertificateFault::Form, "unsupported certificate"),
    }
}

fn sha256(bytes: &[u8]) -> Digest {
    Digest::new(
        digest::digest(&digest::SHA256, bytes)
            .as_ref()
            .try_into()
            .unwrap(),
    )
}

fn assert_refused(outcome: Outcome, fault: CertificateFault, leaf: Option<Digest>, case: &str) {
    let Err(refused) = outcome else {
        panic!("{case} was accepted")
    };
    assert_eq!(
        refused.peer,
        Peer::Refused { fault, leaf },
        "{case}: {}",
        refused.detail
    );
    let Tls::Established {
        version,
        cipher,
        group,
        resumed,
    } = &refused.tls
    else {
        panic!("{case}: {:?}", refused.tls)
    };
    assert_eq!((*version, *resumed), (TlsVersion::V13, false), "{case}");
    assert!(cipher.starts_with("TLS_"), "{case}: {cipher}");
    assert!(
        ["X25519MLKEM768", "x25519"].contains(&group.as_str()),
        "{case}: {group}"
    );
}

/// `openssl s_client` with this certificate: everything it printed.
async fn openssl(port: u16, issued: &Issued, more: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let [leaf, chain, key] = issued
        .write(folder.path(), "client")
        .map(|path| path.display().to_string());
    let shown = ["-cert", &leaf, "-cert_chain", &chain, "-key", &key];
    // Level 0: an attacker's openssl does not mind that its own key is weak.
    let arguments = shown
        .iter()
        .chain(&["-cipher", "DEFAULT@SECLEVEL=0"])
        .chain(more);
    s_client(port, arguments.map(ToString::to_string).collect()).await
}

#[tokio::test]
async fn a_good_certificate_is_stated_in_full() {
    let pki = Pki::new("acme.internal");
    let mut server = Server::start(mutual(&pki)).await;
    let issued = pki.issue("frontend");
    let (leaf, intermediate) = (issued.chain[0].clone(), issued.chain[1].clone());
    let _stream = echo(server.address, Arc::new(careless(Some(issued))))
        .await
        .unwrap();
    let established = server.outcome().await.unwrap();
    let Peer::Certificate(facts) = &established.peer else {
        panic!("{:?}", established.peer)
    };
    assert_eq!(facts.spiffe_id, pki.id("frontend"));
    assert_eq!(facts.leaf, sha256(&leaf));
    assert_eq!(facts.root, sha256(pki.root()));
    let key = x509(&intermediate);
    assert_eq!(
        facts.issuer, key,
        "the public key of the issuing intermediate"
    );
    assert_eq!(facts.not_after.since(facts.not_before).as_secs(), 3660);
    assert!(facts.serial.len() >= 16 && facts.serial.bytes().all(|b| b.is_ascii_hexdigit()));
    assert_eq!(established.sni.as_deref(), Some("localhost"));
    assert_eq!(established.generation, Some(1));
    let tls = Tls::Established {
        cipher: "TLS_AES_256_GCM_SHA384".to_owned(),
        group: "X25519MLKEM768".to_owned(),
        resumed: false,
        version: TlsVersion::V13,
    };
    assert_eq!(established.tls, tls);
}

fn x509(der: &[u8]) -> Digest {
    use x509_parser::prelude::FromDer;
    let (_, certificate) = x509_parser::certificate::X509Certificate::from_der(der).unwrap();
    sha256(certificate.public_key().raw)
}

#[tokio::test]
async fn every_defect_has_its_fault() {
    let pki = Pki::new("acme.internal");
    let mut server = Server::start(mutual(&pki)).await;
    for defect in Defect::ALL {
        // aws-lc won't load such a key, so a rustls client can't show it; openssl does, below.
        if defect == Defect::KeyRsa1024 {
            continue;
        }
        let issued = pki.issue_with("frontend", defect);
        let leaf = sha256(&issued.chain[0]);
        let echoed = echo(server.address, Arc::new(careless(Some(issued)))).await;
        assert!(echoed.is_err(), "{defect:?} was served");
        let case = format!("{defect:?}");
        assert_refused(
            server.outcome().await,
            expectation(defect).0,
            Some(leaf),
            &case,
        );
    }
}

#[tokio::test]
async fn another_ca_and_none_at_all() {
    let pki = Pki::new("acme.internal");
    let mut server = Server::start(mutual(&pki)).await;
    let other = Pki::new("acme.internal").issue("frontend");
    let leaf = sha256(&other.chain[0]);
    assert!(
        echo(server.address, Arc::new(careless(Some(other))))
            .await
            .is_err()
    );
    assert_refused(
        server.outcome().await,
        CertificateFault::Untrusted,
        Some(leaf),
        "other ca",
    );
    assert!(
        echo(server.address, Arc::new(careless(None)))
            .await
            .is_err()
    );
    assert_refused(
        server.outcome().await,
        CertificateFault::Absent,
        None,
        "none",
    );
}

#[tokio::test]
async fn an_intermediate_has_to_be_right_too() {
    for (defect, fault) in [
        (IntermediateDefect::Expired, CertificateFault::Time),
        (IntermediateDefect::KeyP521, CertificateFault::Key),
        (IntermediateDefect::MayNotSign, CertificateFault::Untrusted),
    ] {
        let pki = Pki::with_intermediate("acme.internal", defect);
        let mut server = Server::start(mutual(&pki)).await;
        let issued = pki.issue("frontend");
        let leaf = sha256(&issued.chain[0]);
        let echoed = echo(server.address, Arc::new(careless(Some(issued)))).await;
        assert!(echoed.is_err(), "{defect:?} was served");
        assert_refused(
            server.outcome().await,
            fault,
            Some(leaf),
            &format!("{defect:?}"),
        );
    }
}

#[tokio::test]
async fn a_certificate_without_its_key_is_refused() {
    let pki = Pki::new("acme.internal");
    let mut server = Server::start(mutual(&pki)).await;
    let (stolen, own) = (pki.issue("frontend"), pki.issue("thief"));
    let leaf = sha256(&stolen.chain[0]);
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&own.key).unwrap();
    let shown = rustls::sign::CertifiedKey::new(stolen.chain, key);
    let config = careless(None);
    let mut config = config;
    config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(shown));
    assert!(echo(server.address, Arc::new(config)).await.is_err());
    assert_refused(
        server.outcome().await,
        CertificateFault::Untrusted,
        Some(leaf),
        "no key",
    );
}

#[tokio::test]
async fn openssl_sees_each_alert() {
    let pki = Pki::new("acme.internal");
    let mut server = Server::start(mutual(&pki)).await;
    let good = openssl(server.address.port(), &pki.issue("frontend"), &[]).await;
    assert!(good.contains("New, TLSv1.3"), "{good}");
    assert!(server.outcome().await.is_ok());
    for defect in Defect::ALL {
        let issued = pki.issue_with("frontend", defect);
        let (fault, alert) = expectation(defect);
        let said = openssl(server.address.port(), &issued, &["-ign_eof"]).await;
        assert!(said.contains(alert), "{defect:?}: {said}");
        let leaf = Some(sha256(&issued.chain[0]));
        assert_refused(server.outcome().await, fault, leaf, &format!("{defect:?}"));
    }
}
