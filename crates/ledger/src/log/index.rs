//! From leaf hash to leaf index.
//!
//! Chunks of 65,536 leaves are sealed into files under `log-index/`, each a sorted table of
//! (first eight bytes of the hash, position in the chunk); the newest leaves are in memory. Hashes
//! are spread evenly, so a table is searched by reading a few kilobytes around where the hash
//! must lie: at ten million leaves a lookup reads some 150 places and holds nothing in memory.
//! The files are derived from the tiles, made again when missing, and every hit is compared with
//! the whole hash in its tile: a damaged table can hide a leaf, never show a wrong one.

use super::edge::SourceError;
use super::edge::TileSource;
use crate::Hash;
use crate::storage::Open;
use crate::storage::Storage;
use crate::storage::StorageError;
use crate::storage::read_full;
use crate::tiles::WIDTH;
use std::collections::BTreeSet;

/// Leaves of a sealed chunk.
const CHUNK: u64 = 65_536;

/// Bytes of a table row: eight of the hash, four of the position.
const ROW: u64 = 12;

/// Rows read before and behind the place a hash should have: 16 standard deviations.
const MARGIN: u64 = 2048;

/// The folder of the tables.
const FOLDER: &str = "log-index";

#[derive(Debug, Default)]
pub(super) struct Index {
    sealed: u64,
    /// The leaves behind the sealed chunks, each with the first eight bytes of its hash before it.
    recent: BTreeSet<(u64, u64)>,
    size: u64,
}

impl Index {
    /// Loads the index of a stored tree, making what is missing.
    pub(super) fn open(source: &TileSource<'_>) -> Result<Self, SourceError> {
        let chunks = source.size / CHUNK;
        for chunk in 0..chunks {
            if table_length(source.storage, chunk)? != CHUNK * ROW {
                let leaves = leaves(source, chunk * CHUNK, (chunk + 1) * CHUNK)?;
                write_table(source.storage, chunk, &leaves)?;
            }
        }
        let mut index = Self {
            sealed: chunks,
            recent: BTreeSet::new(),
            size: chunks * CHUNK,
        };
        for (leaf, hash) in leaves(source, index.size, source.size)? {
            index.recent.insert((key(&hash), leaf));
        }
        index.size = source.size;
        Ok(index)
    }

    /// Adds leaves that follow the last, and seals the chunks they fill.
    pub(super) fn add(
        &mut self,
        storage: &dyn Storage,
        hashes: &[Hash],
    ) -> Result<(), StorageError> {
        for hash in hashes {
            self.recent.insert((key(hash), self.size));
            self.size += 1;
        }
        while self.size / CHUNK > self.sealed {
            let end = (self.sealed + 1) * CHUNK;
            let rows = self.recent.iter().filter(|(_, leaf)| *leaf < end);
            write_rows(storage, self.sealed, rows.copied().collect())?;
            self.recent.retain(|(_, leaf)| *leaf >= end);
            self.sealed += 1;
        }
        Ok(())
    }

    /// The leaves whose hashes' first eight bytes lie in a range, newest chunk first.
    pub(super) fn find(
        &self,
        storage: &dyn Storage,
        low: u64,
        high: u64,
    ) -> Result<Vec<u64>, StorageError> {
        let mut found: Vec<u64> = self
            .recent
            .range((low, 0)..=(high, u64::MAX))
            .map(|(_, leaf)| *leaf)
            .collect();
        for chunk in (0..self.sealed).rev() {
            search(storage, chunk, low, high, &mut found)?;
        }
        Ok(found)
    }
}

/// The number that the first eight bytes of a hash make.
pub(super) fn key(hash: &Hash) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *hash;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

fn path(chunk: u64) -> String {
    format!("{FOLDER}/{chunk:06}")
}

fn table_length(storage: &dyn Storage, chunk: u64) -> Result<u64, StorageError> {
    match storage.open(&path(chunk), Open::Read) {
        Ok(file) => file.len(),
        Err(StorageError::NotFound { .. }) => Ok(0),
        Err(error) => Err(error),
    }
}

fn leaves(source: &TileSource<'_>, from: u64, to: u64) -> Result<Vec<(u64, Hash)>, SourceError> {
    let mut leaves = Vec::new();
    for n in from / WIDTH..to.div_ceil(WIDTH) {
        leaves.extend((n * WIDTH..to).zip(source.hashes(0, n)?));
    }
    Ok(leaves)
}

fn write_table(
    storage: &dyn Storage,
    chunk: u64,
    leaves: &[(u64, Hash)],
) -> Result<(), StorageError> {
    write_rows(
        storage,
        chunk,
        leaves
            .iter()
            .map(|(leaf, hash)| (key(hash), *leaf))
            .collect(),
    )
}

fn write_rows(
    storage: &dyn Storage,
    chunk: u64,
    mut rows: Vec<(u64, u64)>,
) -> Result<(), StorageError> {
    rows.sort_unstable();
    let mut table = Vec::with_capacity(rows.len() * ROW as usize);
    for (key, leaf) in rows {
        table.extend_from_slice(&key.to_be_bytes());
        table.extend_from_slice(&((leaf % CHUNK) as u32).to_be_bytes());
    }
    storage.replace(&path(chunk), &table)
}

fn search(
    storage: &dyn Storage,
    chunk: u64,
    low: u64,
    high: u64,
    found: &mut Vec<u64>,
) -> Result<(), StorageError> {
    let file = match storage.open(&path(chunk), Open::Read) {
        Ok(file) => file,
        Err(StorageError::NotFound { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    let place = |key: u64| key >> 48;
    let from = place(low).saturating_sub(MARGIN);
    let to = (place(high) + MARGIN).min(CHUNK);
    let rows = read_rows(&*file, from, to)?;
    // Only hashes that are not spread evenly lie outside; then read everything.
    let before = from > 0 && rows.first().is_none_or(|(key, _)| *key >= low);
    let behind = to < CHUNK && rows.last().is_none_or(|(key, _)| *key <= high);
    let rows = if before || behind {
        read_rows(&*file, 0, CHUNK)?
    } else {
        rows
    };
    let begin = rows.partition_point(|(key, _)| *key < low);
    let hits = rows.iter().skip(begin).take_while(|(key, _)| *key <= high);
    found.extend(hits.map(|(_, leaf)| chunk * CHUNK + leaf));
    Ok(())
}

fn read_rows(
    file: &dyn crate::storage::File,
    from: u64,
    to: u64,
) -> Result<Vec<(u64, u64)>, StorageError> {
    let mut bytes = vec![0; ((to - from) * ROW) as usize];
    let read = read_full(file, from * ROW, &mut bytes)?;
    bytes.truncate(read);
    let (rows, _) = bytes.as_chunks::<{ ROW as usize }>();
    let row = |row: &[u8; ROW as usize]| {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = *row;
        let key = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        (key, u64::from(u32::from_be_bytes([i, j, k, l])))
    };
    Ok(rows.iter().map(row).collect())
}
