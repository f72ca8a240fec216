//! Reading a certificate signing request (RFC 2986).
//!
//! Of a request only the public key counts, and the proof that the sender holds its private half.
//! Names, usages and constraints in it are never looked at: whom a certificate names is for us to
//! say (GHSA-g892-p242-8g86 came of taking an IP address from a request).

use super::CaError;
use rcgen::SubjectPublicKeyInfo;
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;

/// The longest request that is looked at.
const MAX: usize = 16 * 1024;

const P256: &str = "1.2.840.10045.3.1.7";
const P384: &str = "1.3.132.0.34";
const ED25519: &str = "1.3.101.112";

/// SHA-2 with ECDSA, Ed25519, RSA PKCS#1 v1.5: what proof of possession may be made with.
const SIGNATURES: [&str; 6] = [
    "1.2.840.10045.4.3.2",
    "1.2.840.10045.4.3.3",
    ED25519,
    "1.2.840.113549.1.1.11",
    "1.2.840.113549.1.1.12",
    "1.2.840.113549.1.1.13",
];

/// Takes the public key out of a request in PEM.
///
/// # Errors
/// [`CaError::Request`], [`CaError::WeakKey`], [`CaError::Possession`].
pub(super) fn public_key(pem: &str) -> Result<SubjectPublicKeyInfo, CaError> {
    if pem.len() > MAX {
        return Err(CaError::Request);
    }
    let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes());
    let der = der.map_err(|_| CaError::Request)?;
    let Ok(([], request)) = X509CertificationRequest::from_der(&der) else {
        return Err(CaError::Request);
    };
    let key = &request.certification_request_info.subject_pki;
    let algorithm = key.algorithm.algorithm.to_id_string();
    let strong = match key.parsed() {
        _ if algorithm == ED25519 => true,
        // Over 4096 bits each handshake costs us more than it costs them.
        Ok(PublicKey::RSA(rsa)) => (2048..=4096).contains(&rsa.key_size()),
        Ok(PublicKey::EC(_)) => {
            let curve = key
                .algorithm
                .parameters
                .as_ref()
                .and_then(|any| any.as_oid().ok());
            curve.is_some_and(|curve| [P256, P384].contains(&curve.to_id_string().as_str()))
        }
        _ => false,
    };
    if !strong {
        return Err(CaError::WeakKey);
    }
    let signature = request.signature_algorithm.algorithm.to_id_string();
    if !SIGNATURES.contains(&signature.as_str()) {
        return Err(CaError::Possession);
    }
    request
        .verify_signature()
        .map_err(|_| CaError::Possession)?;
    SubjectPublicKeyInfo::from_der(key.raw).map_err(|_| CaError::Request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::Index;
    use rcgen::PublicKeyData as _;
    use std::sync::LazyLock;

    static GOOD: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let key = rcgen::KeyPair::generate().unwrap();
        let request = rcgen::CertificateParams::default().serialize_request(&key);
        request.unwrap().der().to_vec()
    });

    fn pem(der: &[u8]) -> String {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n")
    }

    proptest! {
        /// Whatever is altered, no other key is certified. (Not every bit is signed: how many bits of
        /// the signature's last byte are unused is not.)
        #[test]
        fn an_altered_request_gives_no_other_key(at: Index, bit in 0_u8..8, cut: bool, more: Vec<u8>) {
            let der = &*GOOD;
            let key = public_key(&pem(der)).unwrap().subject_public_key_info();
            let mut altered = der.clone();
            let at = at.index(der.len());
            altered[at] ^= 1 << bit;
            if cut {
                altered.truncate(at);
            }
            if let Ok(found) = public_key(&pem(&altered)) {
                prop_assert!(!cut);
                prop_assert_eq!(found.subject_public_key_info(), key);
            }
            prop_assert!(more.is_empty() || public_key(&pem(&[der.as_slice(), &more].concat())).is_err());
        }

        #[test]
        fn never_panics(bytes: Vec<u8>, text in ".{0,200}") {
            prop_assert!(public_key(&pem(&bytes)).is_err());
            prop_assert!(public_key(&text).is_err());
        }
    }
}
