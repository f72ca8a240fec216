//! One table: its name, its rows, and how a row is found.

use super::IndexShape;
use crate::storage::File;
use crate::storage::Open;
use crate::storage::Storage;
use crate::storage::StorageError;
use crate::storage::read_full;
use std::sync::Arc;

/// The folder of the tables.
pub(super) const FOLDER: &str = "log-index";

/// Bytes of a row: eight of the hash, four of the distance from the table's first leaf.
pub(super) const ROW: u64 = 12;

/// Rows that are read at once, 6 KiB.
const BLOCK: u64 = 512;

/// The first eight bytes of a leaf's hash as a number, and the leaf: in a file by its distance
/// from the table's first leaf.
pub(super) type Row = (u64, u64);

/// A table of aligned leaves. Tables order by first leaf, then level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Table {
    pub(super) first: u64,
    pub(super) level: u32,
    /// How many leaves it covers.
    pub(super) span: u64,
}

impl Table {
    /// The table of the lowest level from a leaf on.
    pub(super) fn lowest(first: u64, span: u64) -> Self {
        Self {
            first,
            level: 0,
            span,
        }
    }

    /// The table of a level that starts with a leaf, if one does.
    pub(super) fn starting(first: u64, level: u32, shape: IndexShape) -> Option<Self> {
        let span = shape.span(level)?;
        first
            .is_multiple_of(span)
            .then_some(Self { first, level, span })
    }

    /// The table with a name in the folder.
    pub(super) fn named(name: &str, shape: IndexShape) -> Option<Self> {
        let (level, number) = name.split_once('-')?;
        let level = level.parse().ok()?;
        let span = shape.span(level)?;
        let first = number.parse::<u64>().ok()?.checked_mul(span)?;
        first.checked_add(span)?;
        let table = Self { first, level, span };
        // There is one name for each: no signs, no other zeros.
        (table.name() == name).then_some(table)
    }

    fn name(&self) -> String {
        format!("{}-{:06}", self.level, self.first / self.span)
    }

    pub(super) fn path(&self) -> String {
        format!("{FOLDER}/{}", self.name())
    }

    /// The leaf behind its last.
    pub(super) fn end(&self) -> u64 {
        self.first + self.span
    }

    pub(super) fn covers(&self, leaf: u64) -> bool {
        (self.first..self.end()).contains(&leaf)
    }

    /// Opens the file for reading; nothing if there is none.
    pub(super) fn open(
        &self,
        storage: &dyn Storage,
    ) -> Result<Option<Arc<dyn File>>, StorageError> {
        match storage.open(&self.path(), Open::Read) {
            Ok(file) => Ok(Some(file)),
            Err(StorageError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the file is there with the length it must have. Files get their names when they
    /// are whole and durable.
    pub(super) fn is_whole(&self, storage: &dyn Storage) -> Result<bool, StorageError> {
        let length = self.open(storage)?.map(|file| file.len()).transpose()?;
        Ok(length == Some(self.span * ROW))
    }

    /// Writes the table whole: its leaves, sorted by key.
    pub(super) fn write(
        &self,
        storage: &dyn Storage,
        rows: impl Iterator<Item = Row>,
    ) -> Result<(), StorageError> {
        let mut bytes = Vec::with_capacity((self.span * ROW) as usize);
        for (key, leaf) in rows {
            put(&mut bytes, (key, leaf - self.first));
        }
        storage.replace(&self.path(), &bytes)
    }

    /// Adds the leaves whose keys lie in a range to `found`.
    pub(super) fn find(
        &self,
        file: &dyn File,
        low: u64,
        high: u64,
        found: &mut Vec<u64>,
    ) -> Result<(), StorageError> {
        let (mut at, mut rows) = first_from(file, self.span, low)?;
        loop {
            let hits = rows.iter().take_while(|(key, _)| *key <= high);
            let before = found.len();
            found.extend(hits.map(|(_, distance)| self.first + distance));
            at += rows.len() as u64;
            if found.len() - before < rows.len() || at >= self.span {
                return Ok(());
            }
            rows = read_rows(file, at, self.span.min(at + BLOCK))?;
            if rows.is_empty() {
                return Ok(());
            }
        }
    }
}

/// Adds a row to the bytes of a table.
pub(super) fn put(bytes: &mut Vec<u8>, (key, distance): Row) {
    bytes.extend_from_slice(&key.to_be_bytes());
    bytes.extend_from_slice(&(distance as u32).to_be_bytes());
}

/// The rows from one up to another, fewer where the file ends.
pub(super) fn read_rows(file: &dyn File, from: u64, to: u64) -> Result<Vec<Row>, StorageError> {
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

/// The number of the first row whose key is not below `low`, and rows from there on that were
/// read along with it, perhaps none.
///
/// Hashes are spread evenly, so the row is looked for where its key should have it: two blocks
/// are read as a rule. Every third block is the one in the middle of what is left, so keys that
/// are spread otherwise cost no more than three times the blocks of a bisection.
fn first_from(file: &dyn File, rows: u64, low: u64) -> Result<(u64, Vec<Row>), StorageError> {
    // The row is one of `from..=to`: keys before are at most `below`, less than `low`, and keys
    // from `to` on at least `above`.
    let (mut from, mut to) = (0, rows);
    let (mut below, mut above) = (0, u64::MAX);
    for halve in [false, false, true].into_iter().cycle() {
        if from >= to {
            break;
        }
        let guess = if halve {
            (to - from) / 2
        } else {
            let share = u128::from(low - below) * u128::from(to - from);
            (share / (u128::from(above - below) + 1)) as u64
        };
        let width = BLOCK.min(to - from);
        let begin = (from + guess)
            .saturating_sub(BLOCK / 2)
            .clamp(from, to - width);
        let mut block = read_rows(file, begin, begin + width)?;
        match (block.first(), block.last()) {
            (Some((first, _)), _) if *first >= low => (to, above) = (begin, *first),
            (_, Some((last, _))) if *last < low => {
                (from, below) = (begin + block.len() as u64, *last);
            }
            (Some(_), Some(_)) => {
                let inside = block.partition_point(|(key, _)| *key < low);
                return Ok((begin + inside as u64, block.split_off(inside)));
            }
            // The file is shorter than it should be.
            _ => to = begin,
        }
    }
    Ok((from, Vec::new()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::atomic::AtomicU64;
    use std::sync::atomic::Ordering;

    /// A file in memory that counts what is read of it.
    #[derive(Debug)]
    struct Counted(Vec<u8>, AtomicU64);

    impl Counted {
        fn of(keys: &[u64]) -> Self {
            let mut bytes = Vec::new();
            for (at, key) in keys.iter().enumerate() {
                put(&mut bytes, (*key, at as u64));
            }
            Self(bytes, AtomicU64::new(0))
        }
    }

    fn only_read() -> StorageError {
        let path = "a table that is looked up".to_owned();
        StorageError::NotFound { path }
    }

    impl File for Counted {
        fn write_at(&self, _: u64, _: &[u8]) -> Result<(), StorageError> {
            Err(only_read())
        }

        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StorageError> {
            self.1.fetch_add(1, Ordering::Relaxed);
            let rest = self.0.get(offset as usize..).unwrap_or_default();
            let length = rest.len().min(buffer.len());
            buffer[..length].copy_from_slice(&rest[..length]);
            Ok(length)
        }

        fn len(&self) -> Result<u64, StorageError> {
            Ok(self.0.len() as u64)
        }

        fn truncate(&self, _: u64) -> Result<(), StorageError> {
            Err(only_read())
        }

        fn sync_data(&self) -> Result<(), StorageError> {
            Err(only_read())
        }
    }

    /// Finds a key's place, and gives the number of reads.
    fn check(file: &Counted, keys: &[u64], low: u64) -> u64 {
        let before = file.1.load(Ordering::Relaxed);
        let (at, rows) = first_from(file, keys.len() as u64, low).unwrap();
        let expected = keys.partition_point(|key| *key < low);
        assert_eq!(at as usize, expected, "key {low}");
        for (row, key) in rows.iter().zip(&keys[expected..]) {
            assert_eq!(row.0, *key);
        }
        file.1.load(Ordering::Relaxed) - before
    }

    /// Numbers spread evenly, in order.
    fn spread(count: u64) -> Vec<u64> {
        let golden = |n: u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mix = |n: u64| golden(golden(n) ^ (golden(n) >> 29));
        let mut keys: Vec<_> = (0..count).map(mix).collect();
        keys.sort_unstable();
        keys
    }

    /// Some keys: anywhere, in clusters of any width, or the same many times.
    fn keys() -> impl Strategy<Value = Vec<u64>> {
        let cluster = (any::<u64>(), 0..64_u32, 1..3000_usize).prop_map(|(base, wide, count)| {
            let mask = u64::MAX >> (63 - wide);
            let near = |key: u64| (base & !mask) | (key & mask);
            spread(count as u64)
                .into_iter()
                .map(near)
                .collect::<Vec<_>>()
        });
        proptest::collection::vec(cluster, 0..6).prop_map(|clusters| {
            let mut keys = clusters.concat();
            keys.sort_unstable();
            keys
        })
    }

    proptest! {
        #[test]
        fn a_place_is_that_of_a_search_through_everything(keys in keys(), other in any::<u64>()) {
            let file = Counted::of(&keys);
            check(&file, &keys, other);
            check(&file, &keys, 0);
            check(&file, &keys, u64::MAX);
            for key in keys.iter().step_by(keys.len() / 8 + 1) {
                for low in [key.saturating_sub(1), *key, key.saturating_add(1)] {
                    // A bisection down to one block needs at most 6 reads of 15,000 rows.
                    let reads = check(&file, &keys, low);
                    prop_assert!(reads <= 18, "{reads} reads in {} rows", keys.len());
                }
            }
        }
    }

    #[test]
    fn even_keys_take_two_reads_and_others_no_more_than_a_bisection_thrice() {
        let even = spread(1 << 20);
        let file = Counted::of(&even);
        for key in even.iter().step_by(1021) {
            check(&file, &even, *key);
        }
        let lookups = even.len().div_ceil(1021) as u64;
        let reads = file.1.load(Ordering::Relaxed);
        assert!(reads <= 2 * lookups, "{reads} reads of {lookups} lookups");
        // Each key is at twice the place of the one before, then all at one end.
        let mut skewed: Vec<u64> = (0..64).map(|bit| 1 << bit).collect();
        skewed.extend((0..1 << 18).map(|n| u64::MAX - n));
        skewed.extend(0..1 << 18);
        skewed.sort_unstable();
        let file = Counted::of(&skewed);
        for key in skewed.iter().step_by(4099) {
            assert!(check(&file, &skewed, *key) <= 33);
        }
    }

    #[test]
    fn a_file_that_was_cut_gives_what_is_left_of_it() {
        let keys = spread(5000);
        let mut file = Counted::of(&keys);
        file.0.truncate(1000 * ROW as usize + 5);
        for (at, key) in keys.iter().enumerate() {
            let (place, rows) = first_from(&file, 5000, *key).unwrap();
            assert_eq!(place as usize, at.min(1000));
            assert!(rows.first().is_none_or(|(first, _)| first == key));
        }
    }

    #[test]
    fn a_table_has_one_name() {
        let shape = IndexShape::default();
        let table = Table::named("2-000003", shape).unwrap();
        assert_eq!((table.level, table.span), (2, 1 << 24));
        assert_eq!((table.first, table.end()), (3 << 24, 4 << 24));
        assert_eq!(table.path(), "log-index/2-000003");
        let large = Table::named("0-12345678", shape).unwrap();
        assert_eq!(large.path(), "log-index/0-12345678");
        let others = [
            "000000",
            "2-3",
            "2-+00003",
            "02-000003",
            "2-000003.tmp",
            "5-000000",
            "0-18446744073709551615",
            "0-281474976710655",
            "-000001",
            "x-000001",
        ];
        for name in others {
            assert_eq!(Table::named(name, shape), None, "{name}");
        }
    }
}
