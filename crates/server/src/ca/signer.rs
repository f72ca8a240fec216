//! Private keys of the authority, held by the cryptography library, which wipes them.

use super::CaError;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1_SIGNING;
use aws_lc_rs::signature::EcdsaKeyPair;
use aws_lc_rs::signature::KeyPair as _;
use rcgen::PublicKeyData;
use rcgen::SignatureAlgorithm;
use rcgen::SigningKey;
use zeroize::Zeroizing;

/// A P-256 key that signs certificates.
pub(super) struct Signer {
    pair: EcdsaKeyPair,
}

impl Signer {
    /// Makes a key; returns it with its PKCS#8 form, to be sealed.
    pub(super) fn generate() -> Result<(Self, Zeroizing<Vec<u8>>), CaError> {
        let der = generate_p256()?;
        Ok((Self::from_pkcs8(&der)?, der))
    }

    pub(super) fn from_pkcs8(der: &[u8]) -> Result<Self, CaError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der);
        Ok(Self {
            pair: pair.map_err(|_| CaError::Key)?,
        })
    }
}

/// A new P-256 key in PKCS#8.
pub(super) fn generate_p256() -> Result<Zeroizing<Vec<u8>>, CaError> {
    let document =
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new());
    Ok(Zeroizing::new(
        document.map_err(|_| CaError::Key)?.as_ref().to_vec(),
    ))
}

impl PublicKeyData for Signer {
    fn der_bytes(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for Signer {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature = self.pair.sign(&SystemRandom::new(), message);
        Ok(signature
            .map_err(|_| rcgen::Error::RingUnspecified)?
            .as_ref()
            .to_vec())
    }
}
