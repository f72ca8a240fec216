use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
use aws_lc_rs::signature::EcdsaKeyPair;
use aws_lc_rs::signature::Ed25519KeyPair;
use aws_lc_rs::signature::KeyPair;
use jsonwebtoken::Algorithm;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::EncodingKey;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::kx_group;
use std::sync::Arc;
use std::sync::OnceLock;

/// The cryptography of this process is not the one it was built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CryptoError {
    /// Somebody else installed another TLS provider before.
    #[error("another tls cryptography provider is already installed in this process")]
    Installed,
    /// A signature made here does not verify here, or a forged one does.
    #[error("the signature self-test failed")]
    SelfTest,
}

/// Installs the one cryptography provider (aws-lc) for TLS and for tokens, and proves that it
/// signs and verifies. Call it first in `main`; calling it again does nothing.
///
/// # Errors
/// [`CryptoError`] if another provider was installed before or the self-test fails: stop then.
pub fn install_crypto() -> Result<(), CryptoError> {
    static DONE: OnceLock<Result<(), CryptoError>> = OnceLock::new();
    *DONE.get_or_init(|| {
        tls()
            .as_ref()
            .clone()
            .install_default()
            .map_err(|_| CryptoError::Installed)?;
        // `jsonwebtoken` panics at the first token where no provider is set and more than one
        // is compiled in, so it is set here and used at once. An error means that it was set
        // before; the self-test then speaks for it.
        let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
        self_test()
    })
}

/// The TLS side: X25519MLKEM768 first, then X25519, P-256, P-384.
///
/// The order is spelled out because it depends on a feature flag of rustls otherwise.
pub(crate) fn tls() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    let build = || {
        let kx_groups = vec![
            kx_group::X25519MLKEM768,
            kx_group::X25519,
            kx_group::SECP256R1,
            kx_group::SECP384R1,
        ];
        Arc::new(CryptoProvider {
            kx_groups,
            ..rustls::crypto::aws_lc_rs::default_provider()
        })
    };
    PROVIDER.get_or_init(build).clone()
}

fn self_test() -> Result<(), CryptoError> {
    let failed = |_| CryptoError::SelfTest;
    let rng = SystemRandom::new();
    let es = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng);
    let es = es.map_err(failed)?;
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, es.as_ref());
    let point = pair
        .map_err(|_| CryptoError::SelfTest)?
        .public_key()
        .as_ref()
        .to_vec();
    round_trip(
        Algorithm::ES256,
        &EncodingKey::from_ec_der(es.as_ref()),
        &DecodingKey::from_ec_der(&point),
    )?;
    let ed = Ed25519KeyPair::generate_pkcs8(&rng).map_err(failed)?;
    let pair = Ed25519KeyPair::from_pkcs8(ed.as_ref()).map_err(|_| CryptoError::SelfTest)?;
    let point = pair.public_key().as_ref().to_vec();
    round_trip(
        Algorithm::EdDSA,
        &EncodingKey::from_ed_der(ed.as_ref()),
        &DecodingKey::from_ed_der(&point),
    )
}

fn round_trip(alg: Algorithm, key: &EncodingKey, public: &DecodingKey) -> Result<(), CryptoError> {
    let failed = |_| CryptoError::SelfTest;
    let signature = jsonwebtoken::crypto::sign(b"countersign", key, alg).map_err(failed)?;
    let verify = |message| jsonwebtoken::crypto::verify(&signature, message, public, alg);
    let (good, forged) = (
        verify(b"countersign").map_err(failed)?,
        verify(b"countersigm"),
    );
    if good && !forged.unwrap_or(false) {
        Ok(())
    } else {
        Err(CryptoError::SelfTest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installs_and_tests_itself_more_than_once() {
        assert_eq!(install_crypto(), Ok(()));
        assert_eq!(install_crypto(), Ok(()));
        assert_eq!(self_test(), Ok(()));
    }

    #[test]
    fn the_hybrid_group_comes_first() {
        let names: Vec<String> = tls()
            .kx_groups
            .iter()
            .map(|group| format!("{:?}", group.name()))
            .collect();
        assert_eq!(
            names,
            ["X25519MLKEM768", "X25519", "secp256r1", "secp384r1"]
        );
    }
}
