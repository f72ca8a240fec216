//! A data folder, and what most tests open in it.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Timestamp;
use countersign_core::vocabulary::TrustDomain;
use countersign_server::keys::FileSeal;
use countersign_server::keys::KeyFolder;
use countersign_server::store::Store;
use sqlx::SqlitePool;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;

/// A moment that nothing depends on: 2026-11-22.
pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_795_305_600);

/// A data folder that is gone with the test.
pub(crate) struct Data(TempDir);

impl Data {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn keys_path(&self) -> PathBuf {
        self.path().join("keys")
    }

    pub(crate) async fn store(&self) -> Store {
        Store::open(&self.path().join("store.db")).await.unwrap()
    }

    pub(crate) fn keys(&self) -> Arc<KeyFolder> {
        let seal = FileSeal::new(self.keys_path().join("root.key"));
        Arc::new(KeyFolder::open(&self.keys_path(), &seal).unwrap())
    }

    /// Where the seal of the root authority is.
    pub(crate) fn ca_seal(&self) -> FileSeal {
        FileSeal::new(self.keys_path().join("ca-root.key"))
    }

    /// The database behind the store's back.
    pub(crate) async fn sql(&self) -> SqlitePool {
        let url = format!("sqlite://{}", self.path().join("store.db").display());
        SqlitePool::connect(&url).await.unwrap()
    }

    /// Every file below the folder with its content.
    pub(crate) fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut folders = vec![self.path().to_owned()];
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let content = std::fs::read(&path).unwrap();
                    files.push((path, content));
                }
            }
        }
        files
    }

    /// The files that hold these bytes, as they are, in hex or in base64.
    pub(crate) fn holding(&self, bytes: &[u8]) -> Vec<PathBuf> {
        use base64::Engine as _;
        let hex = hex::encode(bytes);
        // Whichever way the bytes are aligned, the middle of their base64 is one of three.
        let mut needles = vec![
            bytes.to_vec(),
            hex.clone().into_bytes(),
            hex.to_uppercase().into(),
        ];
        for shift in 0..3 {
            let padded = [&[0; 2][..shift], bytes].concat();
            let text = base64::engine::general_purpose::STANDARD_NO_PAD.encode(padded);
            needles.push(text.as_bytes()[4..text.len() - 3].to_vec());
        }
        let holds = |content: &[u8]| {
            needles
                .iter()
                .any(|needle| content.windows(needle.len()).any(|part| part == needle))
        };
        let files = self.files().into_iter();
        files
            .filter(|(_, content)| holds(content))
            .map(|(path, _)| path)
            .collect()
    }
}

pub(crate) fn domain() -> TrustDomain {
    TrustDomain::new("acme.internal").unwrap()
}

pub(crate) fn digest(byte: u8) -> Digest {
    Digest::new([byte; 32])
}

pub(crate) fn after(secs: i64) -> Timestamp {
    Timestamp::from_secs(NOW.as_secs() + secs)
}
