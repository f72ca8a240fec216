//! Tokens as an attacker writes them: header and payload are free text, the signature is whatever
//! is asked for. Shares no code with what it is used against.

#![expect(
    clippy::unwrap_used,
    reason = "a test whose token can't be made has failed"
)]

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
use aws_lc_rs::signature::EcdsaKeyPair;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// How a forged token is signed.
#[derive(Clone, Copy, Debug)]
pub enum Signature<'a> {
    /// With this ES256 key (PKCS#8, DER).
    Es256(&'a [u8]),
    /// With these bytes as an HMAC-SHA-256 secret, such as a public key that everybody knows.
    Hs256(&'a [u8]),
    /// Not at all: an empty third part.
    Empty,
    /// With these bytes.
    Bytes(&'a [u8]),
}

/// A compact JWS of this header and payload.
#[must_use]
pub fn forge(header: &str, payload: &str, signature: Signature<'_>) -> String {
    let message = format!(
        "{}.{}",
        encode(header.as_bytes()),
        encode(payload.as_bytes())
    );
    let signature = match signature {
        Signature::Es256(pkcs8) => {
            let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).unwrap();
            key.sign(&SystemRandom::new(), message.as_bytes())
                .unwrap()
                .as_ref()
                .to_vec()
        }
        Signature::Hs256(secret) => {
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
            hmac::sign(&key, message.as_bytes()).as_ref().to_vec()
        }
        Signature::Empty => Vec::new(),
        Signature::Bytes(bytes) => bytes.to_vec(),
    };
    format!("{message}.{}", encode(&signature))
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
