//! Files that only their owner may read, written whole or not at all.

use super::seal::SealError;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Read as _;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use zeroize::Zeroizing;

/// The longest key file that is read.
const MAX: u64 = 64 * 1024;

/// Makes a folder that only its owner can enter.
pub(super) fn create_folder(path: &Path) -> Result<(), SealError> {
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path);
    made.map_err(|source| file_error(path, source))
}

/// Writes a new file and returns when it is durable; one that exists is left alone.
pub(super) fn create(path: &Path, bytes: &[u8]) -> Result<(), SealError> {
    let error = |source| file_error(path, source);
    let beside = beside(path);
    write(&beside, bytes).map_err(error)?;
    // A link, unlike a rename, does not replace what is there.
    let linked = std::fs::hard_link(&beside, path);
    std::fs::remove_file(&beside).map_err(error)?;
    linked.map_err(error)?;
    sync_folder(path).map_err(error)
}

/// Writes a file or replaces it, and returns when that is durable.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), SealError> {
    let error = |source| file_error(path, source);
    let beside = beside(path);
    write(&beside, bytes).map_err(error)?;
    std::fs::rename(&beside, path).map_err(error)?;
    sync_folder(path).map_err(error)
}

/// Removes a file, if it is there.
pub(super) fn remove(path: &Path) -> Result<(), SealError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file_error(path, error)),
        _ => sync_folder(path).map_err(|source| file_error(path, source)),
    }
}

/// Reads a file, which nobody but its owner may be able to read or write.
pub(super) fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, SealError> {
    let error = |source| file_error(path, source);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(error(source)),
    };
    // Asked of the open file, so that it can't be exchanged in between.
    let metadata = file.metadata().map_err(error)?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(SealError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    let length = metadata.len().min(MAX);
    let capacity = usize::try_from(length)
        .unwrap_or_default()
        .saturating_add(1);
    // Room from the start: growing would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    file.take(MAX).read_to_end(&mut bytes).map_err(error)?;
    Ok(Some(bytes))
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // What a crash left is removed rather than opened: it could have another mode or be a link.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent()
        .map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn beside(path: &Path) -> std::path::PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}

fn file_error(path: &Path, source: io::Error) -> SealError {
    SealError::File {
        path: path.to_owned(),
        source,
    }
}
