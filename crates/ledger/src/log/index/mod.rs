//! From leaf hash to leaf index.
//!
//! Sealed leaves are in tables below `log-index/`, files of 12 bytes a leaf, sorted: the first
//! eight bytes of its hash, then its distance from the table's first leaf. The newest leaves are
//! in memory. A table of level 0 holds 65,536 leaves; sixteen of a level that lie in one aligned
//! range become one table of the next, so that a lookup asks at most fifteen tables a level and
//! its cost grows with the logarithm of the log. They are sixteen while they are being merged, up
//! to twice that after an opening broke a merge off, and more only while the disk takes none.
//! `log-index/L-NNNNNN` is table `NNNNNN` of level `L`, of the leaves from
//! `NNNNNN * 65,536 * 16^L` on. The distance has four bytes, so a table of level 4 covers 2^32
//! leaves and is not merged further: beyond, there is one more to ask for each 2^32 leaves.
//!
//! Merging happens with the leaves that are added: for each of them up to 32 rows a level are
//! merged, which finishes a merge before half of another table of its level has come, and keeps
//! no append waiting for a whole one. Rows are read and written in blocks into `L-NNNNNN.tmp`,
//! synced every mebibyte; when all are there the file is renamed, and only after that is durable
//! are the merged tables removed. While it lasts a merge needs the space of its tables twice.
//!
//! The files are derived from the tiles. Opening takes a file for a table when it has the right
//! name and length, makes missing ones again, and removes everything else: what a crash left,
//! smaller tables whose leaves are in a larger one, and the files of earlier versions
//! (`log-index/NNNNNN`), whose tables are made anew. Every hit is compared with the whole hash in
//! its tile: a damaged table can hide a leaf, never show a wrong one. A table that is found not
//! to be sorted is not merged, so that its damage stays its own.

mod merge;
mod table;

use self::merge::Merge;
use self::merge::MergeError;
use self::table::FOLDER;
use self::table::Table;
use super::edge::SourceError;
use super::edge::TileSource;
use crate::Hash;
use crate::storage::File;
use crate::storage::Storage;
use crate::storage::StorageError;
use crate::tiles::WIDTH;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::OnceLock;

/// Rows that are merged on each level for a leaf that is added, as a multiple of the fan-out. With
/// once the fan-out a merge would be done just when the next table comes; twice leaves room.
const PACE: u64 = 2;

/// The sizes of the tables that lead from leaf hash to leaf. A folder may be opened with another
/// shape than it was written with; tables that do not fit are made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexShape {
    /// The leaves of a table of the lowest level, at least 1.
    pub leaves: u32,
    /// How many tables of a level make one of the next, at least 2.
    pub fan_out: u32,
}

impl Default for IndexShape {
    fn default() -> Self {
        Self {
            leaves: 65_536,
            fan_out: 16,
        }
    }
}

impl IndexShape {
    /// The leaves that a table of a level covers; nothing where rows can't count that far.
    fn span(self, level: u32) -> Option<u64> {
        let span = self.tables().checked_pow(level)?;
        let span = span.checked_mul(self.chunk())?;
        (span <= 1 << 32).then_some(span)
    }

    fn chunk(self) -> u64 {
        u64::from(self.leaves.max(1))
    }

    fn tables(self) -> u64 {
        u64::from(self.fan_out.max(2))
    }

    /// The levels whose tables are merged.
    fn merged_levels(self) -> impl Iterator<Item = u32> {
        (0..).take_while(move |level| self.span(level + 1).is_some())
    }
}

#[derive(Debug, Default)]
pub(super) struct Index {
    shape: IndexShape,
    /// By first leaf. They follow one another from leaf 0 on.
    tables: BTreeMap<u64, Sealed>,
    /// What is being merged, by level.
    merges: BTreeMap<u32, Merge>,
    /// Tables that can't be made, for one they are made of is damaged.
    spoilt: BTreeSet<Table>,
    /// The leaves in tables.
    sealed: u64,
    /// The leaves behind them, each with the first eight bytes of its hash before it.
    recent: BTreeSet<(u64, u64)>,
    size: u64,
}

impl Index {
    /// Loads the index of a stored tree, makes what is missing and removes what is left over.
    pub(super) fn open(source: &TileSource<'_>, shape: IndexShape) -> Result<Self, SourceError> {
        let chunk = shape.chunk();
        let mut index = Self {
            shape,
            sealed: source.size - source.size % chunk,
            size: source.size,
            ..Self::default()
        };
        let mut stored = index.stored(source.storage)?;
        let (mut at, mut made) = (0, 0);
        while at < index.sealed {
            let table = match stored.remove(&at) {
                Some(table) => table,
                None => {
                    made += 1;
                    make(source, at, chunk)?
                }
            };
            at = table.end();
            index.tables.insert(table.first, table.into());
        }
        // What lies inside a larger table.
        for table in stored.into_values() {
            source.storage.remove(&table.path())?;
        }
        let recent = leaves(source, index.sealed, source.size)?;
        index.recent.extend(recent);
        // The last table may not have been there yet when the log was stopped.
        index.settle(source.storage, usize::from(made <= 1));
        Ok(index)
    }

    /// Adds leaves that follow the last, seals the tables they fill and goes on merging.
    pub(super) fn add(
        &mut self,
        storage: &dyn Storage,
        hashes: &[Hash],
    ) -> Result<(), StorageError> {
        for hash in hashes {
            self.recent.insert((key(hash), self.size));
            self.size += 1;
        }
        self.seal(storage)?;
        let rows = hashes.len() as u64 * self.shape.tables() * PACE;
        for level in self.shape.merged_levels() {
            self.merge(storage, level, rows)?;
        }
        Ok(())
    }

    /// The leaves whose hashes' first eight bytes lie in a range, newest table first.
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
        for sealed in self.tables.values().rev() {
            if let Some(file) = sealed.file(storage)? {
                sealed.table.find(file, low, high, &mut found)?;
            }
        }
        Ok(found)
    }

    /// The whole tables in storage of this tree by first leaf, the largest where several start
    /// with one leaf. Removes everything else.
    fn stored(&self, storage: &dyn Storage) -> Result<BTreeMap<u64, Table>, StorageError> {
        let mut whole = BTreeSet::new();
        for name in storage.list(FOLDER)? {
            let table = Table::named(&name, self.shape);
            match table.filter(|table| table.end() <= self.sealed) {
                Some(table) if table.is_whole(storage)? => {
                    whole.insert(table);
                }
                _ => storage.remove(&format!("{FOLDER}/{name}"))?,
            }
        }
        let mut stored = BTreeMap::new();
        for table in whole {
            // In order of their levels.
            if let Some(smaller) = stored.insert(table.first, table) {
                storage.remove(&smaller.path())?;
            }
        }
        Ok(stored)
    }

    fn seal(&mut self, storage: &dyn Storage) -> Result<(), StorageError> {
        let chunk = self.shape.chunk();
        while self.size - self.sealed >= chunk {
            let table = Table::lowest(self.sealed, chunk);
            let rows = self.recent.iter().filter(|(_, leaf)| *leaf < table.end());
            table.write(storage, rows.copied())?;
            self.recent.retain(|(_, leaf)| *leaf >= table.end());
            self.sealed = table.end();
            self.tables.insert(table.first, table.into());
        }
        Ok(())
    }

    /// Merges until no level has more than so many larger tables to make. What a running log has
    /// to merge stays, for opening does not wait for that; what many tables made again at once pile
    /// up does not.
    fn settle(&mut self, storage: &dyn Storage, leave: usize) {
        for level in self.shape.merged_levels() {
            loop {
                let Some(ready) = self.ready(level).nth(leave) else {
                    break;
                };
                // Superfluous: if the disk fails here, adding leaves tries again.
                if self.merge(storage, level, ready.span).is_err() {
                    return;
                }
            }
        }
    }

    /// The tables of the next level that those of a level suffice for, in order.
    fn ready(&self, level: u32) -> impl Iterator<Item = Table> {
        let tables = self.tables.values().map(|sealed| sealed.table);
        let starts = tables.filter(move |table| table.level == level);
        let larger = starts.filter_map(move |it| Table::starting(it.first, level + 1, self.shape));
        larger.filter(move |larger| {
            let parts = self.parts(*larger).count() as u64;
            parts == self.shape.tables() && !self.spoilt.contains(larger)
        })
    }

    /// The tables one level below a table that it is to be made of.
    fn parts(&self, larger: Table) -> impl Iterator<Item = Table> {
        let inside = self.tables.range(larger.first..larger.end());
        inside
            .map(|(_, sealed)| sealed.table)
            .filter(move |table| table.level + 1 == larger.level)
    }

    /// Merges tables of a level, up to so many rows.
    fn merge(
        &mut self,
        storage: &dyn Storage,
        level: u32,
        mut rows: u64,
    ) -> Result<(), StorageError> {
        while rows > 0 {
            let merging = self.merges.remove(&level);
            let next = merging.as_ref().map(|merge| merge.table);
            let Some(larger) = next.or_else(|| self.ready(level).next()) else {
                break;
            };
            match self.advance(storage, larger, merging, &mut rows) {
                // The next leaves start it again.
                Err(MergeError::Storage(error)) => return Err(error),
                Err(MergeError::Damaged) => {
                    self.spoilt.insert(larger);
                }
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// Begins to make a table, or goes on with it, up to so many rows.
    fn advance(
        &mut self,
        storage: &dyn Storage,
        larger: Table,
        merging: Option<Merge>,
        rows: &mut u64,
    ) -> Result<(), MergeError> {
        let start = || Merge::start(storage, larger, self.parts(larger).collect());
        let mut merge = merging.map_or_else(start, Ok)?;
        if merge.advance(storage, rows)? {
            self.tables.retain(|first, _| !larger.covers(*first));
            self.tables.insert(larger.first, larger.into());
        } else {
            self.merges.insert(larger.level - 1, merge);
        }
        Ok(())
    }
}

/// A table in storage. Its file stays open from the first lookup on: opening costs as much as the
/// lookup itself, and there are few.
#[derive(Debug)]
struct Sealed {
    table: Table,
    file: OnceLock<Arc<dyn File>>,
}

impl From<Table> for Sealed {
    fn from(table: Table) -> Self {
        let file = OnceLock::new();
        Self { table, file }
    }
}

impl Sealed {
    /// The file, unless someone removed it.
    fn file(&self, storage: &dyn Storage) -> Result<Option<&dyn File>, StorageError> {
        if let Some(file) = self.file.get() {
            return Ok(Some(&**file));
        }
        let file = self.table.open(storage)?;
        Ok(file.map(|file| &**self.file.get_or_init(|| file)))
    }
}

/// The number that the first eight bytes of a hash make.
pub(super) fn key(hash: &Hash) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *hash;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// Makes a table of the lowest level from the tiles.
fn make(source: &TileSource<'_>, first: u64, chunk: u64) -> Result<Table, SourceError> {
    let table = Table::lowest(first, chunk);
    let mut rows = leaves(source, first, table.end())?;
    rows.sort_unstable();
    table.write(source.storage, rows.into_iter())?;
    Ok(table)
}

/// Leaves by their tiles, each with the first eight bytes of its hash before it.
fn leaves(source: &TileSource<'_>, from: u64, to: u64) -> Result<Vec<(u64, u64)>, SourceError> {
    let mut leaves = Vec::new();
    for n in from / WIDTH..to.div_ceil(WIDTH) {
        let tile = (n * WIDTH..to).zip(source.hashes(0, n)?);
        let inside = tile.filter(|(leaf, _)| *leaf >= from);
        leaves.extend(inside.map(|(leaf, hash)| (key(&hash), leaf)));
    }
    Ok(leaves)
}
