//! The root key, what keeps it, and what is sealed under it.

use aws_lc_rs::aead::AES_256_GCM;
use aws_lc_rs::aead::Aad;
use aws_lc_rs::aead::Nonce;
use aws_lc_rs::aead::RandomizedNonceKey;
use aws_lc_rs::hkdf;
use aws_lc_rs::hmac;
use aws_lc_rs::rand;
use std::fmt;
use std::io;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// The first byte of everything sealed: AES-256-GCM with a random nonce.
const FORMAT: u8 = 1;
const NONCE: usize = 12;
const TAG: usize = 16;

/// What keeps the root key while no server runs: a file, shares of a passphrase, a device.
pub trait Seal: Send + Sync + fmt::Debug {
    /// What it is, for status and errors.
    fn kind(&self) -> &'static str;

    /// Makes the root key, which must not exist yet.
    ///
    /// # Errors
    /// [`SealError`].
    fn initialise(&self) -> Result<RootKey, SealError>;

    /// The root key that was made before.
    ///
    /// # Errors
    /// [`SealError::Missing`] if there is none here, or why it is not given out.
    fn unseal(&self) -> Result<RootKey, SealError>;
}

/// 256 bits under which everything else is sealed. Wiped when dropped.
pub struct RootKey(Zeroizing<[u8; 32]>);

/// AES-256-GCM under one key, each time with a random nonce.
pub(crate) struct Cipher(RandomizedNonceKey);

/// Why something can't be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The key, or a file sealed under it, is not there.
    #[error("`{0}` is missing")]
    Missing(PathBuf),
    /// A key file can be read by others than its owner.
    #[error(
        "`{path}` has mode `{mode:03o}`: a key file must be readable by its owner alone (chmod 600)"
    )]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file can't be read or written.
    #[error("can't read or write `{path}`")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that is no key.
    #[error("`{0}` holds no key")]
    NotAKey(PathBuf),
    /// Sealed under another key or for another purpose, or changed since.
    #[error("what is sealed as `{0}` was changed, or sealed under another key")]
    Opening(String),
    /// The cryptography failed: no randomness, or no memory.
    #[error("sealing failed")]
    Crypto,
}

impl RootKey {
    /// Makes a new one.
    ///
    /// # Errors
    /// [`SealError::Crypto`] where the system has no randomness.
    pub fn generate() -> Result<Self, SealError> {
        let mut key = Zeroizing::new([0; 32]);
        rand::fill(key.as_mut()).map_err(|_| SealError::Crypto)?;
        Ok(Self(key))
    }

    /// Takes the 32 bytes of one.
    #[must_use]
    pub const fn new(key: Zeroizing<[u8; 32]>) -> Self {
        Self(key)
    }

    pub(super) const fn bytes(&self) -> &Zeroizing<[u8; 32]> {
        &self.0
    }

    /// Seals `plain` so that it opens only for this purpose and id.
    ///
    /// # Errors
    /// [`SealError::Crypto`].
    pub fn seal(&self, purpose: &str, id: &str, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        self.cipher(purpose)?.seal(&binding(&[purpose, id]), plain)
    }

    /// Opens what was sealed for this purpose and id.
    ///
    /// # Errors
    /// [`SealError::Opening`] for anything else.
    pub fn open(
        &self,
        purpose: &str,
        id: &str,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let opened = self.cipher(purpose)?.open(&binding(&[purpose, id]), sealed);
        opened.ok_or_else(|| SealError::Opening(format!("{purpose} {id}").trim_end().to_owned()))
    }

    /// A key of its own for one purpose, so that no purpose can open or forge for another.
    pub(crate) fn cipher(&self, purpose: &str) -> Result<Cipher, SealError> {
        let key = self.derive(&["seal", purpose])?;
        Cipher::new(&key)
    }

    /// A key that authenticates for one purpose.
    pub(crate) fn mac(&self, purpose: &str) -> Result<hmac::Key, SealError> {
        let key = self.derive(&["authenticate", purpose])?;
        Ok(hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()))
    }

    fn derive(&self, purpose: &[&str]) -> Result<Zeroizing<[u8; 32]>, SealError> {
        let crypto = |_| SealError::Crypto;
        let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, b"countersign root/v1");
        let secret = secret.extract(self.0.as_ref());
        let info = binding(purpose);
        let info = [info.as_slice()];
        let material = secret.expand(&info, hkdf::HKDF_SHA256).map_err(crypto)?;
        let mut key = Zeroizing::new([0; 32]);
        material.fill(key.as_mut()).map_err(crypto)?;
        Ok(key)
    }
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RootKey")
    }
}

impl Cipher {
    pub(crate) fn new(key: &[u8; 32]) -> Result<Self, SealError> {
        let key = RandomizedNonceKey::new(&AES_256_GCM, key).map_err(|_| SealError::Crypto)?;
        Ok(Self(key))
    }

    pub(crate) fn seal(&self, binding: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        // Room for the tag from the start: growing would leave a copy of the plaintext behind.
        let mut body = Vec::with_capacity(plain.len() + TAG);
        body.extend_from_slice(plain);
        let nonce = self
            .0
            .seal_in_place_append_tag(Aad::from(binding), &mut body)
            .map_err(|_| SealError::Crypto)?;
        let mut sealed = Vec::with_capacity(1 + NONCE + body.len());
        sealed.push(FORMAT);
        sealed.extend_from_slice(nonce.as_ref());
        sealed.extend_from_slice(&body);
        Ok(sealed)
    }

    pub(crate) fn open(&self, binding: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, body) = sealed.strip_prefix(&[FORMAT])?.split_at_checked(NONCE)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut plain = Zeroizing::new(body.to_vec());
        let length = self
            .0
            .open_in_place(nonce, Aad::from(binding), &mut plain)
            .ok()?
            .len();
        plain.truncate(length);
        Some(plain)
    }
}

/// Texts one after the other, each with its length, so that no two lists look alike.
pub(crate) fn binding(parts: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_for_the_same_purpose_and_id_only() {
        let root = RootKey::generate().unwrap();
        let sealed = root.seal("token", "k1", b"secret").unwrap();
        assert_eq!(
            root.open("token", "k1", &sealed).unwrap().as_slice(),
            b"secret"
        );
        assert!(root.open("token", "k2", &sealed).is_err());
        assert!(root.open("log", "k1", &sealed).is_err());
        assert!(
            RootKey::generate()
                .unwrap()
                .open("token", "k1", &sealed)
                .is_err()
        );
        assert_ne!(sealed, root.seal("token", "k1", b"secret").unwrap());
        assert_ne!(binding(&["ab", "c"]), binding(&["a", "bc"]));
    }

    #[test]
    fn any_changed_bit_is_noticed() {
        let root = RootKey::generate().unwrap();
        let sealed = root.seal("p", "i", b"secret").unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(root.open("p", "i", &changed).is_err(), "byte {at}");
        }
        for length in 0..sealed.len() {
            assert!(
                root.open("p", "i", &sealed[..length]).is_err(),
                "{length} bytes"
            );
        }
    }
}
