//! Outside bytes: never a panic, and never another answer than a refusal for what was altered.

use crate::pki::Pki;
use countersign_core::vocabulary::Timestamp;
use countersign_core::vocabulary::TrustDomain;
use countersign_net::Credential;
use countersign_net::KeyAlgorithm;
use countersign_net::KeySet;
use countersign_net::Keys;
use countersign_net::SigningKey;
use countersign_net::Svid;
use countersign_net::TokenVerifier;
use countersign_net::TrustBundle;
use proptest::prelude::*;
use rustls_pki_types::CertificateDer;
use std::sync::LazyLock;

static LEAF: LazyLock<(Vec<u8>, String, String)> = LazyLock::new(|| {
    let issued = Pki::new("acme.internal").issue("frontend");
    let leaf = issued
        .chain
        .first()
        .map(|leaf| leaf.to_vec())
        .unwrap_or_default();
    (leaf, issued.chain_pem(), issued.key_pem())
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn an_altered_certificate_never_panics(at in 0_usize..2000, byte: u8, cut in 0_usize..2000) {
        let mut der = LEAF.0.clone();
        let at = at % der.len();
        der[at] = byte;
        if cut < der.len() {
            der.truncate(cut);
        }
        let domain = TrustDomain::new("acme.internal").unwrap();
        let _ = TrustBundle::new(domain, &[CertificateDer::from(der.clone())], 1);
        let key = rustls_pki_types::pem::PemObject::from_pem_slice(LEAF.2.as_bytes()).unwrap();
        if let Ok(credential) = Credential::new(vec![CertificateDer::from(der)], key) {
            let _ = Svid::new(credential);
        }
    }

    #[test]
    fn an_altered_pem_never_panics(at in 0_usize..4000, byte: u8, text in ".{0,200}") {
        let (mut chain, key) = (LEAF.1.clone().into_bytes(), LEAF.2.as_bytes());
        let at = at % chain.len();
        chain[at] = byte;
        let _ = Svid::from_pem(&chain, key);
        prop_assert!(Svid::from_pem(text.as_bytes(), key).is_err());
        prop_assert!(Svid::from_pem(LEAF.1.as_bytes(), text.as_bytes()).is_err());
    }

    #[test]
    fn an_authorization_header_never_panics(bytes: Vec<u8>, text in "(Bearer |bearer  |Basic |DPoP )?[A-Za-z0-9_.=-]{0,80}") {
        let key = SigningKey::generate(KeyAlgorithm::Es256).unwrap();
        let mut set = KeySet::empty(1);
        set.add(&key);
        let verifier = TokenVerifier::new(Keys::new(set), "https://acme.internal".to_owned(), 10);
        let now = Timestamp::from_secs(0);
        for value in [bytes.as_slice(), text.as_bytes()] {
            let verified = matches!(verifier.verify([value], countersign_net::token::Presenter::Unknown, now), countersign_core::hop::Token::Verified(_));
            prop_assert!(!verified);
        }
    }
}
