//! The folder of a gateway that is a process of its own: its key, what it was told, and what it
//! must not forget.

use std::io;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;

/// A folder in which each file is replaced whole, for its owner's eyes only.
#[derive(Clone, Debug)]
pub(crate) struct Home(PathBuf);

impl Home {
    /// Makes the folder if there is none.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        Ok(Self(folder.to_owned()))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// What a file holds; nothing if there is none.
    pub(crate) fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match std::fs::read(self.0.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces a file; durable when this returns, and never half of it.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let fresh = self.0.join(format!("{name}.new"));
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&fresh, self.0.join(name))?;
        std::fs::File::open(&self.0)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn files_are_their_owners() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(&folder.path().join("gw")).unwrap();
        assert_eq!(home.read("key").unwrap(), None);
        home.write("key", b"one").unwrap();
        home.write("key", b"two").unwrap();
        assert_eq!(home.read("key").unwrap().unwrap(), b"two");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(home.path()), 0o700);
        assert_eq!(mode(&home.path().join("key")), 0o600);
    }
}
