//! A seal that is a file: whoever reads it has the key, so only its owner may.

use super::private_file;
use super::seal::RootKey;
use super::seal::Seal;
use super::seal::SealError;
use std::path::Path;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// 32 random bytes in a file that only its owner can read.
#[derive(Clone, Debug)]
pub struct FileSeal {
    path: PathBuf,
}

impl FileSeal {
    /// The seal that is this file, whether it exists yet or not.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Seal for FileSeal {
    fn kind(&self) -> &'static str {
        "file"
    }

    fn initialise(&self) -> Result<RootKey, SealError> {
        let key = RootKey::generate()?;
        private_file::create(&self.path, key.bytes().as_ref())?;
        Ok(key)
    }

    fn unseal(&self) -> Result<RootKey, SealError> {
        let bytes = private_file::read(&self.path)?;
        let bytes = bytes.ok_or_else(|| SealError::Missing(self.path.clone()))?;
        let mut key = Zeroizing::new([0; 32]);
        if bytes.len() != key.len() {
            return Err(SealError::NotAKey(self.path.clone()));
        }
        key.copy_from_slice(&bytes);
        Ok(RootKey::new(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let seal = FileSeal::new(folder.path().join("root.key"));
        assert!(matches!(seal.unseal(), Err(SealError::Missing(_))));
        let key = seal.initialise().unwrap();
        assert_eq!(seal.unseal().unwrap().bytes(), key.bytes());
        assert!(
            seal.initialise().is_err(),
            "a second one would lose the first"
        );
        let mode = |mode| std::fs::Permissions::from_mode(mode);
        assert_eq!(
            std::fs::metadata(seal.path()).unwrap().permissions().mode() & 0o777,
            0o600
        );
        for exposed in [0o640, 0o604, 0o620, 0o602, 0o660, 0o601] {
            std::fs::set_permissions(seal.path(), mode(exposed)).unwrap();
            let error = seal.unseal().unwrap_err();
            assert!(
                matches!(error, SealError::Exposed { .. }),
                "{exposed:o}: {error}"
            );
        }
        std::fs::set_permissions(seal.path(), mode(0o400)).unwrap();
        assert!(seal.unseal().is_ok());
    }

    #[test]
    fn a_file_of_another_length_is_no_key() {
        let folder = tempfile::tempdir().unwrap();
        let seal = FileSeal::new(folder.path().join("root.key"));
        private_file::create(seal.path(), &[7; 31]).unwrap();
        assert!(matches!(seal.unseal(), Err(SealError::NotAKey(_))));
    }
}
