//! The configuration file against what is in force.
//!
//! A file is not in force by lying there: the revision that was activated is, also after a
//! restart. Where the two differ, whoever asks for the status is told.

use crate::reload::same_files;
use countersign_core::snapshot::Bundle;
use countersign_core::snapshot::Snapshot;
use countersign_wire::admin::Drift;
use countersign_wire::admin::FileStatus;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The files of a configuration as they are now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesNow {
    /// The file to start from.
    pub entry: String,
    /// The files by name.
    pub files: BTreeMap<String, String>,
}

/// Reads the configuration's files; none if they can't be read.
pub type Reader = Arc<dyn Fn() -> Option<FilesNow> + Send + Sync>;

/// The file that a reload of this process would read.
#[derive(Default)]
pub(crate) struct ConfigurationFile(RwLock<Option<(String, Reader)>>);

impl ConfigurationFile {
    /// It is this one.
    pub(crate) fn set(&self, path: String, reader: Reader) {
        *self.0.write() = Some((path, reader));
    }

    /// How it is compared with a policy.
    pub(crate) async fn compared_with(&self, now: &Snapshot) -> Option<FileStatus> {
        let (path, reader) = self.0.read().clone()?;
        let found = tokio::task::spawn_blocking(move || reader()).await;
        let drift = match found {
            Ok(Some(FilesNow { entry, files })) => {
                let file = Bundle {
                    entry,
                    files,
                    ..Bundle::default()
                };
                if same_files(&file, now.bundle()) {
                    Drift::None
                } else {
                    Drift::Differs
                }
            }
            _ => Drift::Unreadable,
        };
        Some(FileStatus { drift, path })
    }
}

impl fmt::Debug for ConfigurationFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration file")
    }
}
