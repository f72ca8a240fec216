//! The key that signs policy snapshots.

use super::KeyError;
use super::folder::KeyFolder;
use aws_lc_rs::signature::Ed25519KeyPair;
use aws_lc_rs::signature::KeyPair as _;
use std::fmt;

const PURPOSE: &str = "snapshot";

/// An Ed25519 key that signs snapshots and nothing else.
pub struct SnapshotKey {
    pair: Ed25519KeyPair,
}

impl SnapshotKey {
    /// Loads the key, making it on the first call.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn open(folder: &KeyFolder) -> Result<Self, KeyError> {
        let key = |_| KeyError::Snapshot;
        if let Some(der) = folder.load(PURPOSE, "")? {
            let pair = Ed25519KeyPair::from_pkcs8(&der).map_err(|_| KeyError::Snapshot)?;
            return Ok(Self { pair });
        }
        let pair = Ed25519KeyPair::generate().map_err(key)?;
        let der = pair.to_pkcs8().map_err(key)?;
        folder.save(PURPOSE, "", der.as_ref())?;
        Ok(Self { pair })
    }

    /// The public half, 32 bytes (RFC 8032).
    #[must_use]
    pub fn public(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }
}

impl fmt::Debug for SnapshotKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "snapshot key {}", hex::encode(self.public()))
    }
}
