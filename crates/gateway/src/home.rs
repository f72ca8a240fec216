//! The folder of a gateway that is a process of its own: its key, what it was told, and what it
//! must not forget.

use std::fs::Permissions;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;

/// A folder in which each file is replaced whole, for its owner's eyes only.
#[derive(Clone, Debug)]
pub(crate) struct Home(PathBuf);

impl Home {
    /// Makes the folder if there is none, and an empty one its owner's. One with files in it that
    /// others could look into, or add to, is refused: they may have read or placed what is there.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        let mode = std::fs::metadata(folder)?.permissions().mode();
        if mode & 0o077 != 0 && std::fs::read_dir(folder)?.next().is_none() {
            std::fs::set_permissions(folder, Permissions::from_mode(0o700))?;
        } else if mode & 0o077 != 0 {
            let mode = mode & 0o7777;
            let told = format!("its mode is {mode:04o}, it has to be 0700");
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, told));
        }
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

    #[test]
    fn a_folder_that_others_reach_is_no_home() {
        let folder = tempfile::tempdir().unwrap();
        let set = |mode| {
            let permissions = Permissions::from_mode(mode);
            std::fs::set_permissions(folder.path(), permissions).unwrap();
        };
        set(0o755);
        Home::open(folder.path())
            .unwrap()
            .write("key", b"one")
            .unwrap();
        let mode = std::fs::metadata(folder.path())
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700, "an empty one is made its owner's");
        for mode in [0o755, 0o750, 0o701, 0o770] {
            set(mode);
            let error = Home::open(folder.path()).unwrap_err();
            let told = format!("its mode is {mode:04o}, it has to be 0700");
            assert_eq!(error.to_string(), told);
        }
        set(0o700);
        Home::open(folder.path()).unwrap();
    }

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
