//! Files by relative path, behind a trait: the ledger's promises are about what a disk does when
//! the power goes, so tests put a disk under it that loses everything it is allowed to lose.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

/// Why a file operation failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StorageError {
    /// The disk or the quota is full. Nothing else is wrong.
    #[error("no space left for `{path}`")]
    NoSpace {
        /// The file that was to grow.
        path: String,
    },
    /// There is no such file.
    #[error("`{path}` does not exist")]
    NotFound {
        /// The file asked for.
        path: String,
    },
    /// Another process has it open.
    #[error("`{path}` is in use by another process")]
    Locked {
        /// The lock file.
        path: String,
    },
    /// The path is empty, absolute, or leaves the folder.
    #[error("`{path}` is not a path below the data folder")]
    BadPath {
        /// The path asked for.
        path: String,
    },
    /// Anything else the system said.
    #[error("can't {operation} `{path}`: {source}")]
    Io {
        /// What was tried: `open`, `write`, `sync`.
        operation: &'static str,
        /// On which file.
        path: String,
        /// What the system answered.
        source: Arc<io::Error>,
    },
}

impl StorageError {
    /// The error of a failed operation.
    #[must_use]
    pub fn from_io(operation: &'static str, path: &str, error: io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            // EFBIG is a limit on files (`ulimit -f`) or of the file system: no space either way.
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Self::NoSpace { path },
            io::ErrorKind::NotFound => Self::NotFound { path },
            _ => Self::Io {
                operation,
                path,
                source: Arc::new(error),
            },
        }
    }
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// For reading; it must exist.
    Read,
    /// For reading and writing; it must exist.
    Write,
    /// For reading and writing; made, with its folders, when missing.
    Create,
}

/// An open file. Writing twice to one place at once is the caller's fault.
pub trait File: Send + Sync + fmt::Debug {
    /// Writes all bytes at an offset, in one system call where the system allows.
    ///
    /// # Errors
    /// [`StorageError`]; any part of the bytes may have been written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), StorageError>;

    /// Reads up to `buffer.len()` bytes at an offset; 0 is the end of the file.
    ///
    /// # Errors
    /// [`StorageError`].
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StorageError>;

    /// The length in bytes.
    ///
    /// # Errors
    /// [`StorageError`].
    fn len(&self) -> Result<u64, StorageError>;

    /// Whether the file has no bytes.
    ///
    /// # Errors
    /// [`StorageError`].
    fn is_empty(&self) -> Result<bool, StorageError> {
        Ok(self.len()? == 0)
    }

    /// Cuts or extends the file to a length in bytes.
    ///
    /// # Errors
    /// [`StorageError`].
    fn truncate(&self, length: u64) -> Result<(), StorageError>;

    /// Returns when contents and length survive a power cut (`fdatasync`).
    ///
    /// # Errors
    /// [`StorageError`]. Afterwards the file's unsynced bytes may be neither on the disk nor
    /// marked for it, so a later sync that succeeds proves nothing about them.
    fn sync_data(&self) -> Result<(), StorageError>;
}

/// Held for as long as this process may write; dropping it lets the next one in.
pub trait Lock: Send + Sync + fmt::Debug {}

/// A folder of files by relative path with `/` between the parts.
pub trait Storage: Send + Sync + fmt::Debug {
    /// Opens a file. Folders made for it are durable on return; its own name is so only after
    /// [`Storage::sync_dir`].
    ///
    /// # Errors
    /// [`StorageError`].
    fn open(&self, path: &str, how: Open) -> Result<Arc<dyn File>, StorageError>;

    /// The names of the files and folders in a folder, in order; none if it does not exist.
    ///
    /// # Errors
    /// [`StorageError`].
    fn list(&self, folder: &str) -> Result<Vec<String>, StorageError>;

    /// Removes a file, or a folder with everything in it; a missing one is no error.
    ///
    /// # Errors
    /// [`StorageError`].
    fn remove(&self, path: &str) -> Result<(), StorageError>;

    /// Gives a file another name, in place of whatever had it.
    ///
    /// # Errors
    /// [`StorageError`].
    fn rename(&self, from: &str, to: &str) -> Result<(), StorageError>;

    /// Returns when names made, changed and removed in a folder survive a power cut.
    ///
    /// # Errors
    /// [`StorageError`].
    fn sync_dir(&self, folder: &str) -> Result<(), StorageError>;

    /// Takes the right to write what the lock file stands for.
    ///
    /// # Errors
    /// [`StorageError::Locked`] while another process holds it.
    fn lock(&self, path: &str) -> Result<Box<dyn Lock>, StorageError>;

    /// How many bytes this process can still write here, if that is known.
    ///
    /// # Errors
    /// [`StorageError`].
    fn free(&self) -> Result<Option<u64>, StorageError> {
        Ok(None)
    }

    /// The whole content of a file, or nothing if it does not exist.
    ///
    /// # Errors
    /// [`StorageError`].
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, StorageError> {
        let file = match self.open(path, Open::Read) {
            Ok(file) => file,
            Err(StorageError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut content = vec![0; usize::try_from(file.len()?).unwrap_or(usize::MAX)];
        let length = read_full(&*file, 0, &mut content)?;
        content.truncate(length);
        Ok(Some(content))
    }

    /// Writes a file from the start and syncs its content, not its name.
    ///
    /// # Errors
    /// [`StorageError`]; the file may hold anything.
    fn write(&self, path: &str, content: &[u8]) -> Result<(), StorageError> {
        let file = self.open(path, Open::Create)?;
        file.truncate(0)?;
        file.write_at(0, content)?;
        file.sync_data()
    }

    /// Replaces a file so that old or new content is there whole, whatever happens, and the new
    /// content durably on return.
    ///
    /// # Errors
    /// [`StorageError`]; the file then holds the old or the new content.
    fn replace(&self, path: &str, content: &[u8]) -> Result<(), StorageError> {
        let temporary = format!("{path}.tmp");
        // After a power cut on a file system without a journal, half a rename may be left: two
        // names of one file. Writing into the one would tear the other.
        self.remove(&temporary)?;
        self.write(&temporary, content)?;
        self.rename(&temporary, path)?;
        self.sync_dir(parent(path))
    }
}

/// Reads until the buffer is full or the file ends, and says how many bytes it got.
///
/// # Errors
/// [`StorageError`].
pub fn read_full(file: &dyn File, offset: u64, buffer: &mut [u8]) -> Result<usize, StorageError> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(offset + done as u64, rest)? {
            0 => break,
            read => done += read,
        }
    }
    Ok(done)
}

/// The folder part of a path.
pub(crate) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Real files below a folder, readable by their owner alone.
#[derive(Debug)]
pub struct FsStorage {
    root: PathBuf,
}

impl FsStorage {
    /// Storage below a folder, which is made on the first write.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn resolve(&self, path: &str) -> Result<PathBuf, StorageError> {
        let bad = |part: &str| matches!(part, "" | "." | "..") || part.contains('\0');
        if path.split('/').any(bad) {
            return Err(StorageError::BadPath {
                path: path.to_owned(),
            });
        }
        Ok(self.root.join(path))
    }

    fn folder(&self, folder: &str) -> Result<PathBuf, StorageError> {
        if folder.is_empty() {
            Ok(self.root.clone())
        } else {
            self.resolve(folder)
        }
    }
}

impl Storage for FsStorage {
    fn open(&self, path: &str, how: Open) -> Result<Arc<dyn File>, StorageError> {
        let full = self.resolve(path)?;
        let failed = |error| StorageError::from_io("open", path, error);
        let mut options = fs::OpenOptions::new();
        options
            .read(true)
            .write(how != Open::Read)
            .create(how == Open::Create)
            .mode(0o600);
        let file = match options.open(&full) {
            Err(error) if how == Open::Create && error.kind() == io::ErrorKind::NotFound => {
                full.parent()
                    .map_or(Ok(()), create_folders)
                    .map_err(failed)?;
                options.open(&full)
            }
            other => other,
        };
        let file = file.map_err(failed)?;
        Ok(Arc::new(FsFile {
            file,
            path: path.to_owned(),
        }))
    }

    fn list(&self, folder: &str) -> Result<Vec<String>, StorageError> {
        let failed = |error| StorageError::from_io("list", folder, error);
        let entries = match fs::read_dir(self.folder(folder)?) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            // A name that is not UTF-8 is none of ours.
            names.extend(entry.map_err(failed)?.file_name().into_string().ok());
        }
        names.sort();
        Ok(names)
    }

    fn remove(&self, path: &str) -> Result<(), StorageError> {
        let full = self.resolve(path)?;
        let removed = match fs::symlink_metadata(&full) {
            Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(&full),
            Ok(_) => fs::remove_file(&full),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(|error| StorageError::from_io("remove", path, error)),
        }
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), StorageError> {
        fs::rename(self.resolve(from)?, self.resolve(to)?)
            .map_err(|error| StorageError::from_io("rename", from, error))
    }

    fn sync_dir(&self, folder: &str) -> Result<(), StorageError> {
        sync_folder(&self.folder(folder)?)
            .map_err(|error| StorageError::from_io("sync", folder, error))
    }

    fn lock(&self, path: &str) -> Result<Box<dyn Lock>, StorageError> {
        let full = self.resolve(path)?;
        let failed = |error| StorageError::from_io("lock", path, error);
        full.parent()
            .map_or(Ok(()), create_folders)
            .map_err(failed)?;
        let mut options = fs::OpenOptions::new();
        let file = options
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&full)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(FsLock { _file: file })),
            Err(fs::TryLockError::WouldBlock) => Err(StorageError::Locked { path: path.into() }),
            Err(fs::TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    fn free(&self) -> Result<Option<u64>, StorageError> {
        let told = rustix::fs::statvfs(&self.root);
        let told = told.map_err(|error| StorageError::from_io("measure", ".", error.into()))?;
        // What is left to root alone (`f_bfree`) does not count.
        Ok(Some(told.f_bavail.saturating_mul(told.f_frsize)))
    }
}

#[derive(Debug)]
struct FsLock {
    _file: fs::File,
}

impl Lock for FsLock {}

#[derive(Debug)]
struct FsFile {
    file: fs::File,
    path: String,
}

impl FsFile {
    fn failed(&self, operation: &'static str) -> impl FnOnce(io::Error) -> StorageError + '_ {
        move |error| StorageError::from_io(operation, &self.path, error)
    }
}

impl File for FsFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.file
            .write_all_at(bytes, offset)
            .map_err(self.failed("write"))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StorageError> {
        self.file
            .read_at(buffer, offset)
            .map_err(self.failed("read"))
    }

    fn len(&self) -> Result<u64, StorageError> {
        Ok(self.file.metadata().map_err(self.failed("stat"))?.len())
    }

    fn truncate(&self, length: u64) -> Result<(), StorageError> {
        self.file.set_len(length).map_err(self.failed("truncate"))
    }

    fn sync_data(&self) -> Result<(), StorageError> {
        self.file.sync_data().map_err(self.failed("sync"))
    }
}

/// Makes missing folders from the top down, each durable in the one above.
fn create_folders(folder: &Path) -> io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    let above = folder.parent().unwrap_or(Path::new(""));
    create_folders(above)?;
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    sync_folder(above)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_needs_space_is_told_apart() {
        // Linux: ENOSPC, EDQUOT, EFBIG; then EIO, EROFS.
        for number in [28, 122, 27] {
            let error = io::Error::from_raw_os_error(number);
            let error = StorageError::from_io("write", "a", error);
            assert!(matches!(error, StorageError::NoSpace { .. }), "{number}");
        }
        for number in [5, 30] {
            let error = io::Error::from_raw_os_error(number);
            let error = StorageError::from_io("write", "a", error);
            assert!(matches!(error, StorageError::Io { .. }), "{number}");
            assert!(
                error.to_string().starts_with("can't write `a`: "),
                "{error}"
            );
        }
    }

    #[test]
    fn a_disk_says_what_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let free = FsStorage::new(folder.path()).free().unwrap();
        assert!(free.is_some());
        let gone = FsStorage::new(folder.path().join("none")).free();
        assert!(matches!(gone, Err(StorageError::NotFound { .. })));
    }
}
