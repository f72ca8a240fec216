//! Those who wait for the file at the same moment share a write. Here the file is held until all of
//! them wait, so that there is nothing to chance.

use super::*;
use crate::spool::Spool;
use crate::spool::SpoolOptions;
use crate::storage::File;
use crate::storage::FsStorage;
use crate::storage::Lock;
use crate::storage::Open;
use crate::storage::Storage;
use std::sync::atomic::AtomicBool;

/// A disk that counts writes, and fails them when told to.
#[derive(Debug)]
struct Disk {
    below: FsStorage,
    told: Arc<Told>,
    _folder: tempfile::TempDir,
}

#[derive(Debug, Default)]
struct Told {
    broken: AtomicBool,
    writes: AtomicUsize,
}

#[derive(Debug)]
struct Counted {
    below: Arc<dyn File>,
    told: Arc<Told>,
}

impl Disk {
    fn new() -> (Arc<Self>, Arc<Told>) {
        let folder = tempfile::tempdir().unwrap();
        let told = Arc::new(Told::default());
        let disk = Self {
            below: FsStorage::new(folder.path()),
            told: told.clone(),
            _folder: folder,
        };
        (Arc::new(disk), told)
    }
}

impl Storage for Disk {
    fn open(&self, path: &str, how: Open) -> Result<Arc<dyn File>, StorageError> {
        Ok(Arc::new(Counted {
            below: self.below.open(path, how)?,
            told: self.told.clone(),
        }))
    }

    fn list(&self, folder: &str) -> Result<Vec<String>, StorageError> {
        self.below.list(folder)
    }

    fn remove(&self, path: &str) -> Result<(), StorageError> {
        self.below.remove(path)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), StorageError> {
        self.below.rename(from, to)
    }

    fn sync_dir(&self, folder: &str) -> Result<(), StorageError> {
        self.below.sync_dir(folder)
    }

    fn lock(&self, path: &str) -> Result<Box<dyn Lock>, StorageError> {
        self.below.lock(path)
    }
}

impl File for Counted {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.told.writes.fetch_add(1, Ordering::SeqCst);
        if self.told.broken.load(Ordering::SeqCst) {
            let error = std::io::Error::other("broken");
            return Err(StorageError::from_io("write", "segment", error));
        }
        self.below.write_at(offset, bytes)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StorageError> {
        self.below.read_at(offset, buffer)
    }

    fn len(&self) -> Result<u64, StorageError> {
        self.below.len()
    }

    fn truncate(&self, length: u64) -> Result<(), StorageError> {
        self.below.truncate(length)
    }

    fn sync_data(&self) -> Result<(), StorageError> {
        self.below.sync_data()
    }
}

const WAITING: usize = 6;

/// Has so many append while nobody can write, and gives what they were answered.
fn together(spool: &Spool) -> Vec<Written> {
    let lane = &spool.inner.lane;
    let held = lane.shared.core.lock();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..WAITING)
            .map(|n| {
                let record = format!("{{\"n\":{n}}}").into_bytes();
                scope.spawn(move || spool.append_blocking(record))
            })
            .collect();
        while lane.queue.state.lock().awaited < WAITING {
            thread::yield_now();
        }
        drop(held);
        threads.into_iter().map(|it| it.join().unwrap()).collect()
    })
}

fn open(disk: Arc<Disk>) -> Spool {
    let options = SpoolOptions {
        commit: Commit::Os,
        ..SpoolOptions::default()
    };
    Spool::open(disk, "gw-1", options).unwrap().0
}

#[test]
fn one_writes_for_all_who_wait() {
    let (disk, told) = Disk::new();
    let spool = open(disk);
    let before = told.writes.load(Ordering::SeqCst);
    let promises: Vec<_> = together(&spool).into_iter().map(Result::unwrap).collect();
    assert_eq!(told.writes.load(Ordering::SeqCst), before + 1);
    let found = spool.read_from(0, 100).unwrap();
    assert_eq!(found.len(), WAITING);
    for (n, promise) in promises.iter().enumerate() {
        assert!(promise.covers(format!("{{\"n\":{n}}}").as_bytes()));
        let leaf = found.iter().find(|leaf| leaf.seq == promise.seq()).unwrap();
        assert_eq!(leaf.leaf_hash, *promise.leaf_hash());
    }
    assert_eq!(spool.verify().unwrap().next, WAITING as u64);
}

#[test]
fn when_the_write_fails_each_of_them_hears_it_and_nothing_is_promised() {
    let (disk, told) = Disk::new();
    let spool = open(disk);
    told.broken.store(true, Ordering::SeqCst);
    let before = told.writes.load(Ordering::SeqCst);
    for written in together(&spool) {
        assert!(
            matches!(written, Err(SpoolError::Storage(_))),
            "{written:?}"
        );
    }
    assert_eq!(told.writes.load(Ordering::SeqCst), before + 1);
    assert_eq!(spool.head().next, 0);
    told.broken.store(false, Ordering::SeqCst);
    assert_eq!(spool.append_blocking(b"{}".to_vec()).unwrap().seq(), 0);
    assert_eq!(spool.read_from(0, 100).unwrap().len(), 1);
}
