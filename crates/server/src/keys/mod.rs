//! The server's keys: what keeps them, what they sign.
//!
//! One root key, kept by a [`Seal`], and below it one sealed file per private key. Each key signs
//! one kind of thing; the certificate authority's own are in [`crate::ca`].

mod file_seal;
mod folder;
mod private_file;
mod seal;
mod snapshot_key;
mod token_keys;

pub use file_seal::FileSeal;
pub use folder::KeyFolder;
pub(crate) use seal::Cipher;
pub use seal::RootKey;
pub use seal::Seal;
pub use seal::SealError;
pub(crate) use seal::binding;
pub use snapshot_key::SnapshotKey;
pub use token_keys::Schedule;
pub use token_keys::TokenKeys;

use crate::store::StoreError;
use countersign_core::vocabulary::TrustDomain;
use countersign_ledger::note;
use countersign_net::JwsError;
use zeroize::Zeroizing;

const LOG: &str = "log";

/// Why a key can't be made, found or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Sealing or opening failed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The schedule can't be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store knows a key whose private half is gone.
    #[error("the private half of key `{0}` is not in the key folder")]
    Lost(String),
    /// No key signs.
    #[error("there is no key to sign with")]
    None,
    /// Not a key for tokens.
    #[error(transparent)]
    Token(#[from] JwsError),
    /// Not a key for the log.
    #[error(transparent)]
    Note(#[from] note::NoteError),
    /// Not a key for snapshots.
    #[error("not a usable snapshot key")]
    Snapshot,
}

/// The key that signs the log's checkpoints; its name is `<trust-domain>/log`. It is made on the
/// first call.
///
/// # Errors
/// [`KeyError`].
pub fn log_key(folder: &KeyFolder, domain: &TrustDomain) -> Result<note::SigningKey, KeyError> {
    let name = log_name(domain);
    if let Some(seed) = folder.load(LOG, "")? {
        let mut copy = Zeroizing::new([0; 32]);
        if seed.len() != copy.len() {
            return Err(KeyError::Lost(name));
        }
        copy.copy_from_slice(&seed);
        return Ok(note::SigningKey::from_seed(&name, &copy)?);
    }
    let key = note::SigningKey::generate(&name)?;
    folder.save(LOG, "", key.seed().as_ref())?;
    Ok(key)
}

/// The log's name, which is its key's too: `<trust-domain>/log`.
#[must_use]
pub fn log_name(domain: &TrustDomain) -> String {
    format!("{}/log", domain.as_str())
}
