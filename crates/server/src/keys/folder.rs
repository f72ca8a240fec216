//! The folder of sealed keys.

use super::private_file;
use super::seal::RootKey;
use super::seal::Seal;
use super::seal::SealError;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Private keys in files, each sealed for its purpose and id under the root key.
#[derive(Debug)]
pub struct KeyFolder {
    path: PathBuf,
    root: Arc<RootKey>,
}

impl KeyFolder {
    /// Opens a folder with the root key that `seal` keeps, making both where there is nothing yet.
    ///
    /// # Errors
    /// [`SealError::Missing`] if there are sealed keys, but no root key: a new one could not open
    /// them and would hide that the old one is gone.
    pub fn open(path: &Path, seal: &dyn Seal) -> Result<Self, SealError> {
        private_file::create_folder(path)?;
        let root = match seal.unseal() {
            Err(SealError::Missing(_)) if !holds_keys(path)? => seal.initialise()?,
            unsealed => unsealed?,
        };
        Ok(Self {
            path: path.to_owned(),
            root: Arc::new(root),
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The root key.
    #[must_use]
    pub fn root(&self) -> &Arc<RootKey> {
        &self.root
    }

    /// The key sealed as this, if there is one.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn load(&self, purpose: &str, id: &str) -> Result<Option<Zeroizing<Vec<u8>>>, SealError> {
        self.load_under(&self.root, purpose, id)
    }

    /// Seals a key as this.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn save(&self, purpose: &str, id: &str, key: &[u8]) -> Result<(), SealError> {
        self.save_under(&self.root, purpose, id, key)
    }

    /// As [`Self::load`], under another root key.
    pub(crate) fn load_under(
        &self,
        root: &RootKey,
        purpose: &str,
        id: &str,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, SealError> {
        let sealed = private_file::read(&self.file(purpose, id))?;
        sealed
            .map(|sealed| root.open(purpose, id, &sealed))
            .transpose()
    }

    /// As [`Self::save`], under another root key.
    pub(crate) fn save_under(
        &self,
        root: &RootKey,
        purpose: &str,
        id: &str,
        key: &[u8],
    ) -> Result<(), SealError> {
        private_file::replace(&self.file(purpose, id), &root.seal(purpose, id, key)?)
    }

    /// Destroys the key sealed as this.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn destroy(&self, purpose: &str, id: &str) -> Result<(), SealError> {
        private_file::remove(&self.file(purpose, id))
    }

    /// What is public, such as a certificate.
    pub(crate) fn load_public(&self, name: &str) -> Result<Option<Vec<u8>>, SealError> {
        Ok(private_file::read(&self.path.join(name))?.map(|bytes| bytes.to_vec()))
    }

    /// Keeps what is public.
    pub(crate) fn save_public(&self, name: &str, bytes: &[u8]) -> Result<(), SealError> {
        private_file::replace(&self.path.join(name), bytes)
    }

    fn file(&self, purpose: &str, id: &str) -> PathBuf {
        let separator = if id.is_empty() { "" } else { "-" };
        self.path.join(format!("{purpose}{separator}{id}.sealed"))
    }
}

fn holds_keys(path: &Path) -> Result<bool, SealError> {
    let error = |source| SealError::File {
        path: path.to_owned(),
        source,
    };
    for entry in std::fs::read_dir(path).map_err(error)? {
        if entry
            .map_err(error)?
            .path()
            .extension()
            .is_some_and(|kind| kind == "sealed")
        {
            return Ok(true);
        }
    }
    Ok(false)
}
