use countersign_core::config::Config;
use countersign_core::config::Environment;
use countersign_core::config::FileError;
use countersign_core::config::Files;
use countersign_core::config::Sources;
use countersign_core::config::is_listed;
pub use countersign_core::snapshot::Bundle;
use std::io;
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
        entry: sources.name(0).to_owned(),
        files: files.collect(),
        projection: None,
        roots: Vec::new(),
        zt_off: open && dev,
    }
}

impl Files for DiskFiles {
    fn read(&self, path: &str) -> Result<String, FileError> {
        let wrong = |reason: String| FileError {
            path: path.to_owned(),
            reason,
        };
        let file = std::fs::File::open(path).map_err(|error| wrong(reason(&error)))?;
        let mut text = String::new();
        let mut limited = io::Read::take(file, MAX_FILE);
        io::Read::read_to_string(&mut limited, &mut text).map_err(|error| wrong(reason(&error)))?;
        Ok(text)
    }

    fn list(&self, pattern: &str) -> Result<Vec<String>, FileError> {
        let (folder, name) = pattern.rsplit_once('/').unwrap_or(("", pattern));
        if folder.contains('*') {
            return Err(FileError {
                path: pattern.to_owned(),
                reason: "`*` stands in the name of a file only, not of a folder".to_owned(),
            });
        }
        let opened = if folder.is_empty() { "." } else { folder };
        let wrong = |error: &io::Error| FileError {
            path: opened.to_owned(),
            reason: reason(error),
        };
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(opened).map_err(|error| wrong(&error))? {
            let entry = entry.map_err(|error| wrong(&error))?;
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

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "this user may not read it".to_owned(),
        io::ErrorKind::InvalidData => "it is not UTF-8 text".to_owned(),
        _ => error.to_string(),
    }
}
