//! SHA-256 of certificates, public keys and tokens.

use aws_lc_rs::digest;
use countersign_core::vocabulary::Digest;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

/// SHA-256; of a certificate it is taken over the DER.
pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    Digest::new(out)
}

/// SHA-256 of a certificate's public key (SubjectPublicKeyInfo, DER); none if it can't be read.
pub(crate) fn of_public_key(certificate: &[u8]) -> Option<Digest> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(sha256(certificate.public_key().raw))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_answer() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(b"abc").to_string(), abc);
        assert_eq!(of_public_key(b"abc"), None);
    }
}
