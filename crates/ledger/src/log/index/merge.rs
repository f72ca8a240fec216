//! Making one table of several, some rows at a time.

use super::table::FOLDER;
use super::table::ROW;
use super::table::Row;
use super::table::Table;
use super::table::put;
use super::table::read_rows;
use crate::storage::File;
use crate::storage::Open;
use crate::storage::Storage;
use crate::storage::StorageError;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::sync::Arc;

/// Rows of each table that are read at once, 12 KiB.
const BLOCK: u64 = 1024;

/// Bytes that are written at once.
const WRITE: usize = 64 * 1024;

/// Bytes after which the file is synced, so that no sync has to wait for a whole table.
const SYNC: u64 = 1024 * 1024;

/// Why a merge ended.
#[derive(Debug)]
pub(super) enum MergeError {
    Storage(StorageError),
    /// A table is not what it should be.
    Damaged,
}

impl From<StorageError> for MergeError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

/// A table that is being made.
#[derive(Debug)]
pub(super) struct Merge {
    pub(super) table: Table,
    parts: Vec<Part>,
    /// The next row of each part that has one, with the number of the part.
    next: BinaryHeap<Reverse<(Row, usize)>>,
    /// Rows still to come.
    left: u64,
    file: Arc<dyn File>,
    buffer: Vec<u8>,
    written: u64,
    synced: u64,
}

impl Merge {
    /// Starts to make a table of its parts.
    pub(super) fn start(
        storage: &dyn Storage,
        table: Table,
        parts: Vec<Table>,
    ) -> Result<Self, MergeError> {
        let path = temporary(&table);
        // As for `Storage::replace`: never write into what may have two names.
        storage.remove(&path)?;
        let mut next = BinaryHeap::new();
        let mut opened = Vec::new();
        for (number, part) in parts.into_iter().enumerate() {
            let mut part = Part::open(storage, &table, part)?;
            let first = part.next()?.ok_or(MergeError::Damaged)?;
            next.push(Reverse((first, number)));
            opened.push(part);
        }
        Ok(Self {
            table,
            parts: opened,
            next,
            left: table.span,
            file: storage.open(&path, Open::Create)?,
            buffer: Vec::with_capacity(WRITE + ROW as usize),
            written: 0,
            synced: 0,
        })
    }

    /// Merges up to so many rows, and says whether the table is there in place of its parts. After
    /// an error nothing is left of it.
    pub(super) fn advance(
        &mut self,
        storage: &dyn Storage,
        rows: &mut u64,
    ) -> Result<bool, MergeError> {
        let now = self.left.min(*rows);
        *rows -= now;
        let done = self.copy(now).and_then(|()| {
            let done = self.left == 0;
            if done {
                self.finish(storage)?;
            }
            Ok(done)
        });
        if done.is_err() {
            // What can't be removed now is when this is tried again, or at the next opening.
            let _ = storage.remove(&temporary(&self.table));
        }
        done
    }

    fn copy(&mut self, rows: u64) -> Result<(), MergeError> {
        for _ in 0..rows {
            self.take()?;
            if self.buffer.len() >= WRITE {
                self.write()?;
            }
        }
        self.left -= rows;
        Ok(())
    }

    /// Takes the least row of all parts.
    fn take(&mut self) -> Result<(), MergeError> {
        let mut top = self.next.peek_mut().ok_or(MergeError::Damaged)?;
        let Reverse((row, number)) = *top;
        put(&mut self.buffer, row);
        let part = self.parts.get_mut(number).ok_or(MergeError::Damaged)?;
        match part.next()? {
            Some(next) if next > row => *top = Reverse((next, number)),
            Some(_) => return Err(MergeError::Damaged),
            None => {
                PeekMut::pop(top);
            }
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), StorageError> {
        self.file.write_at(self.written, &self.buffer)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        if self.written - self.synced >= SYNC {
            self.file.sync_data()?;
            self.synced = self.written;
        }
        Ok(())
    }

    /// Gives the table its name when it is whole and durable, and removes its parts after that.
    fn finish(&mut self, storage: &dyn Storage) -> Result<(), StorageError> {
        self.write()?;
        self.file.sync_data()?;
        storage.rename(&temporary(&self.table), &self.table.path())?;
        storage.sync_dir(FOLDER)?;
        for part in &self.parts {
            // The next opening removes what is in a larger table.
            let _ = storage.remove(&part.table.path());
        }
        Ok(())
    }
}

fn temporary(table: &Table) -> String {
    format!("{}.tmp", table.path())
}

/// A table that goes into a larger one, and how far it is read.
#[derive(Debug)]
struct Part {
    table: Table,
    file: Arc<dyn File>,
    /// How far it lies from the first leaf of the larger one.
    distance: u64,
    read: u64,
    block: std::vec::IntoIter<Row>,
}

impl Part {
    fn open(storage: &dyn Storage, larger: &Table, table: Table) -> Result<Self, MergeError> {
        Ok(Self {
            table,
            file: table.open(storage)?.ok_or(MergeError::Damaged)?,
            distance: table.first - larger.first,
            read: 0,
            block: Vec::new().into_iter(),
        })
    }

    /// The next row as the larger table has it; nothing behind the last.
    fn next(&mut self) -> Result<Option<Row>, MergeError> {
        if self.block.as_slice().is_empty() && self.read < self.table.span {
            let to = self.table.span.min(self.read + BLOCK);
            let rows = read_rows(&*self.file, self.read, to)?;
            if rows.len() as u64 != to - self.read {
                return Err(MergeError::Damaged);
            }
            (self.read, self.block) = (to, rows.into_iter());
        }
        match self.block.next() {
            Some((_, distance)) if distance >= self.table.span => Err(MergeError::Damaged),
            Some((key, distance)) => Ok(Some((key, self.distance + distance))),
            None => Ok(None),
        }
    }
}
