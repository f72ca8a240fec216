//! SHA-256 of certificates, public keys and tokens.

use aws_lc_rs::digest;
use countersign_core::vocabulary::Digest;

/// SHA-256; of a certificate it is taken over the DER.
pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    Digest::new(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_answer() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(b"abc").to_string(), abc);
    }
}
