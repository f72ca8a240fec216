//! What authenticates the vault's rows.
//!
//! Each path has a code over its head and the digests of its versions, and one code covers the
//! codes of all paths. The codes of all paths are held in memory as well, so a row put back from
//! yesterday differs from what is known; one put back while no server ran makes another code over
//! all, and then nothing is read until somebody has looked. That everything was put back at once
//! is for the log to show, which has each write.

use super::VaultError;
use crate::keys::RootKey;
use crate::keys::binding;
use crate::store::HeadRow;
use crate::store::SecretTable;
use crate::store::Store;
use crate::store::VersionRow;
use aws_lc_rs::hmac;
use countersign_core::vocabulary::Digest;
use std::collections::BTreeMap;

/// The codes of all paths.
#[derive(Clone, Debug, Default)]
pub(super) struct Heads {
    pub(super) codes: BTreeMap<String, Digest>,
    generation: u64,
    /// The rows on disk are not those that were written.
    pub(super) broken: bool,
}

/// The keys that make codes.
pub(super) struct Codes {
    head: hmac::Key,
    table: hmac::Key,
    path: hmac::Key,
}

impl Codes {
    pub(super) fn new(root: &RootKey) -> Result<Self, VaultError> {
        Ok(Self {
            head: root.mac("vault head/v1")?,
            table: root.mac("vault table/v1")?,
            path: root.mac("vault path/v1")?,
        })
    }

    /// The code of a path's head and versions.
    pub(super) fn head(&self, head: &HeadRow, versions: &[VersionRow]) -> Digest {
        let mut text = binding(&[&head.path]);
        text.extend_from_slice(&head.version.to_be_bytes());
        text.extend_from_slice(&head.updated.as_micros().to_be_bytes());
        text.extend_from_slice(&(head.data_key.len() as u64).to_be_bytes());
        text.extend_from_slice(&head.data_key);
        for version in versions {
            text.extend_from_slice(&version.version.to_be_bytes());
            text.extend_from_slice(&version.created.as_micros().to_be_bytes());
            text.extend_from_slice(version.digest.as_bytes());
        }
        code(&self.head, &text)
    }

    /// The code over all paths' codes.
    fn table(&self, generation: u64, codes: &BTreeMap<String, Digest>) -> Digest {
        let mut text = generation.to_be_bytes().to_vec();
        for (path, code) in codes {
            text.extend_from_slice(&binding(&[path]));
            text.extend_from_slice(code.as_bytes());
        }
        code(&self.table, &text)
    }

    /// A name for a path that says nothing about it to whoever lacks the root key.
    pub(super) fn path(&self, path: &str) -> Digest {
        code(&self.path, path.as_bytes())
    }
}

impl Heads {
    /// Reads all codes and checks the one over them.
    pub(super) async fn load(store: &Store, codes: &Codes) -> Result<Self, VaultError> {
        let rows = store.secret_heads().await?;
        let table = store.secret_table().await?;
        let known: BTreeMap<_, _> = rows.into_iter().map(|row| (row.path, row.mac)).collect();
        let generation = table.map_or(0, |table| table.generation);
        let good = match table {
            Some(table) => codes.table(generation, &known) == table.mac,
            None => known.is_empty(),
        };
        Ok(Self {
            codes: known,
            generation,
            broken: !good,
        })
    }

    /// What they are after a write to one path.
    pub(super) fn after(&self, path: &str, code: Digest, codes: &Codes) -> (Self, SecretTable) {
        let mut next = self.clone();
        next.codes.insert(path.to_owned(), code);
        next.generation += 1;
        let mac = codes.table(next.generation, &next.codes);
        let table = SecretTable {
            generation: next.generation,
            mac,
        };
        (next, table)
    }
}

fn code(key: &hmac::Key, text: &[u8]) -> Digest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(hmac::sign(key, text).as_ref());
    Digest::new(bytes)
}
