use countersign_core::config::Config;
use countersign_core::config::Environment;
use countersign_core::config::FileError;
use countersign_core::config::Files;
use countersign_core::config::Sources;
use countersign_core::config::is_listed;
pub use countersign_core::snapshot::Bundle;
use rustix::fs::OFlags;
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;

/// Where a configuration comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// A text that was made up for `--to`.
    Text(String),
}

/// There is no configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no `{LOCAL}` here and no `{SYSTEM}`")]
pub struct FindError;

/// Configuration files on disk, at most 1 MiB each.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskFiles;

const LOCAL: &str = "countersign.yaml";
const SYSTEM: &str = "/etc/countersign/countersign.yaml";
/// The most that the language takes from a file, and a byte more so that it is told.
const MAX_FILE: u64 = (1 << 20) + 1;

/// The configuration file: the one named, the project's, the system's.
///
/// # Errors
/// [`FindError`] if none was named and there is none.
pub fn find(named: Option<&Path>) -> Result<PathBuf, FindError> {
    if let Some(path) = named {
        return Ok(path.to_owned());
    }
    let known = [LOCAL, SYSTEM].map(PathBuf::from);
    known
        .into_iter()
        .find(|path| path.exists())
        .ok_or(FindError)
}

/// What a snapshot is compiled from. In development, `operator` administers an installation that
/// names no administrator.
#[must_use]
pub fn bundle(config: &Config, sources: &Sources, operator: Option<String>, open: bool) -> Bundle {
    let files = sources
        .files()
        .map(|(name, text)| (name.to_owned(), text.to_owned()));
    let dev = config.environment == Environment::Dev;
    Bundle {
        dev,
        dev_operator: operator.filter(|_| dev),
        node: None,
        entry: sources.name(0).to_owned(),
        files: files.collect(),
        projection: None,
        roots: Vec::new(),
        zt_off: open && dev,
    }
}

impl Files for DiskFiles {
    fn read(&self, path: &str) -> Result<String, FileError> {
        // A pipe that nobody writes to would never open.
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let file = File::options().read(true).custom_flags(flags).open(path);
        let file = file.map_err(|error| wrong(path, &error))?;
        let kind = file.metadata().map_err(|error| wrong(path, &error))?;
        if !kind.is_file() && !kind.is_dir() {
            return Err(because(path, FileError::NOT_REGULAR));
        }
        text(path, file)
    }

    fn entry(&self, path: &str) -> Result<String, FileError> {
        text(path, File::open(path).map_err(|error| wrong(path, &error))?)
    }

    fn list(&self, pattern: &str) -> Result<Vec<String>, FileError> {
        let (folder, name) = pattern.rsplit_once('/').unwrap_or(("", pattern));
        if folder.contains('*') {
            let reason = "`*` stands in the name of a file only, not of a folder";
            return Err(because(pattern, reason));
        }
        let opened = if folder.is_empty() { "." } else { folder };
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(opened).map_err(|error| wrong(opened, &error))? {
            let entry = entry.map_err(|error| wrong(opened, &error))?;
            let found = entry.file_name().to_string_lossy().into_owned();
            let path = pattern
                .strip_suffix(name)
                .map(|before| format!("{before}{found}"));
            paths.extend(path.filter(|path| is_listed(pattern, path)));
        }
        paths.sort();
        Ok(paths)
    }
}

fn text(path: &str, file: File) -> Result<String, FileError> {
    let mut text = String::new();
    let mut limited = io::Read::take(file, MAX_FILE);
    let read = io::Read::read_to_string(&mut limited, &mut text);
    read.map(|_| text).map_err(|error| wrong(path, &error))
}

fn wrong(path: &str, error: &io::Error) -> FileError {
    because(path, &reason(error))
}

fn because(path: &str, reason: &str) -> FileError {
    FileError {
        path: path.to_owned(),
        reason: reason.to_owned(),
    }
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "this user may not read it".to_owned(),
        io::ErrorKind::InvalidData => FileError::NOT_UTF8.to_owned(),
        io::ErrorKind::IsADirectory => FileError::FOLDER.to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a configuration names is read at once or not at all; what a user names may be a pipe.
    #[test]
    fn only_the_file_that_a_user_names_may_be_no_regular_file() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let mode = rustix::fs::Mode::RUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        for path in [pipe.to_str().unwrap(), "/dev/zero"] {
            let error = DiskFiles.read(path).unwrap_err();
            assert_eq!(error.reason, FileError::NOT_REGULAR, "{path}");
        }
        assert_eq!(DiskFiles.entry("/dev/null"), Ok(String::new()));
    }

    #[test]
    fn files_that_are_no_text_say_why() {
        let folder = tempfile::tempdir().unwrap();
        let utf16 = folder.path().join("a.yaml");
        std::fs::write(&utf16, [0xff, 0xfe, b'a', 0]).unwrap();
        let utf16 = utf16.to_str().unwrap();
        let folder = folder.path().to_str().unwrap();
        for refused in [DiskFiles.read(utf16), DiskFiles.entry(utf16)] {
            assert_eq!(refused.unwrap_err().reason, FileError::NOT_UTF8);
        }
        for refused in [DiskFiles.read(folder), DiskFiles.entry(folder)] {
            assert_eq!(refused.unwrap_err().reason, FileError::FOLDER);
        }
    }
}
