//! A disk in memory that loses whatever it is allowed to lose when its power is cut, and fails on
//! demand.
//!
//! Writes and truncations of a file reach the disk with the next sync of that file, or in any
//! part before; names reach it with the next sync of their folder, or in any part before. A sync
//! that fails drops the writes from the list and keeps them in the cache ("fsyncgate").

use countersign_ledger::storage::File;
use countersign_ledger::storage::Lock;
use countersign_ledger::storage::Open;
use countersign_ledger::storage::Storage;
use countersign_ledger::storage::StorageError;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;

/// A small generator of its own, so that a seed means the same for ever.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound.max(1)
    }
}

/// What an operation does when it is its turn to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    NoSpace,
    Broken,
    /// The power is cut: this and every later operation fails.
    PowerCut,
}

#[derive(Debug, Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Truncate(u64),
}

#[derive(Debug, Default, Clone)]
struct Inode {
    cache: Vec<u8>,
    disk: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Naming {
    Set(String, usize),
    Unset(String),
}

#[derive(Debug, Default)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    disk_names: BTreeMap<String, usize>,
    unsynced_names: Vec<Naming>,
    /// Everything that changes something, in order: `write a/b`, `sync a/b`.
    trace: Vec<String>,
    faults: Vec<(u64, Fault)>,
    full: bool,
    dead: bool,
    locked: Vec<String>,
    random: Option<Random>,
}

#[derive(Debug)]
pub(crate) struct Disk {
    state: Arc<Mutex<State>>,
}

impl Disk {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        let state = State {
            random: Some(Random::new(seed)),
            ..State::default()
        };
        Arc::new(Self {
            state: Arc::new(Mutex::new(state)),
        })
    }

    /// Does not answer anybody until what this gives is dropped.
    pub(crate) fn hang(&self) -> impl Drop + '_ {
        self.state()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Makes the changing operation with this number, counted from 0, fail.
    pub(crate) fn fail_at(&self, operation: u64, fault: Fault) {
        self.state().faults.push((operation, fault));
    }

    /// From now on there is no space, or there is again.
    pub(crate) fn set_full(&self, full: bool) {
        self.state().full = full;
    }

    /// How many changing operations there were.
    pub(crate) fn operations(&self) -> u64 {
        self.state().trace.len() as u64
    }

    pub(crate) fn trace(&self) -> Vec<String> {
        self.state().trace.clone()
    }

    /// What another machine finds on this disk after the power was cut.
    pub(crate) fn after_power_cut(&self, random: &mut Random) -> Arc<Self> {
        let state = self.state();
        let mut names = state.disk_names.clone();
        // Metadata is journalled in order on most file systems, and in none on some.
        let in_order = random.below(2) == 0;
        let kept = random.below(state.unsynced_names.len() as u64 + 1) as usize;
        for (at, naming) in state.unsynced_names.iter().enumerate() {
            if if in_order {
                at < kept
            } else {
                random.below(2) == 0
            } {
                apply_name(&mut names, naming);
            }
        }
        let inodes: Vec<_> = state
            .inodes
            .iter()
            .map(|inode| survive(inode, random))
            .collect();
        let new = State {
            inodes,
            names: names.clone(),
            disk_names: names,
            ..State::default()
        };
        let new = State {
            random: Some(Random::new(random.below(u64::MAX))),
            ..new
        };
        Arc::new(Self {
            state: Arc::new(Mutex::new(new)),
        })
    }

    /// What another process finds after this one was killed: everything written.
    pub(crate) fn after_kill(&self) -> Arc<Self> {
        let state = self.state();
        let new = State {
            inodes: state.inodes.clone(),
            names: state.names.clone(),
            disk_names: state.disk_names.clone(),
            unsynced_names: state.unsynced_names.clone(),
            random: Some(Random::new(5)),
            ..State::default()
        };
        Arc::new(Self {
            state: Arc::new(Mutex::new(new)),
        })
    }

    pub(crate) fn files(&self) -> Vec<String> {
        self.state().names.keys().cloned().collect()
    }

    pub(crate) fn content(&self, path: &str) -> Vec<u8> {
        let state = self.state();
        state.inodes[state.names[path]].cache.clone()
    }

    /// Changes a file behind everybody's back.
    pub(crate) fn overwrite(&self, path: &str, content: &[u8]) {
        let mut state = self.state();
        let inode = state.names[path];
        let content = content.to_vec();
        state.inodes[inode] = Inode {
            cache: content.clone(),
            disk: content,
            unsynced: vec![],
        };
    }

    /// Removes a file or folder behind everybody's back.
    pub(crate) fn erase(&self, path: &str) {
        let mut state = self.state();
        let folder = format!("{path}/");
        let stays = |name: &String| name != path && !name.starts_with(&folder);
        state.names.retain(|name, _| stays(name));
        state.disk_names.retain(|name, _| stays(name));
    }
}

impl State {
    /// Counts an operation, and fails it if it is its turn.
    fn operate(&mut self, what: &'static str, path: &str) -> Result<(), StorageError> {
        let number = self.trace.len() as u64;
        self.trace.push(format!("{what} {path}"));
        let planned = self
            .faults
            .iter()
            .find(|(at, _)| *at == number)
            .map(|(_, fault)| *fault);
        if planned == Some(Fault::PowerCut) {
            self.dead = true;
        }
        let grows = matches!(what, "write" | "create");
        let kind = match planned {
            _ if self.dead => io::ErrorKind::Other,
            Some(Fault::NoSpace) => io::ErrorKind::StorageFull,
            Some(_) => io::ErrorKind::Other,
            None if self.full && grows => io::ErrorKind::StorageFull,
            None => return Ok(()),
        };
        Err(StorageError::from_io(what, path, io::Error::from(kind)))
    }

    fn random(&mut self, bound: u64) -> u64 {
        self.random.as_mut().unwrap().below(bound)
    }

    fn rename(&mut self, naming: Naming) {
        apply_name(&mut self.names, &naming);
        self.unsynced_names.push(naming);
    }
}

impl Storage for Disk {
    fn open(&self, path: &str, how: Open) -> Result<Arc<dyn File>, StorageError> {
        let mut state = self.state();
        let inode = match (state.names.get(path).copied(), how) {
            (Some(inode), _) => inode,
            (None, Open::Create) => {
                state.operate("create", path)?;
                state.inodes.push(Inode::default());
                let inode = state.inodes.len() - 1;
                state.rename(Naming::Set(path.to_owned(), inode));
                inode
            }
            (None, _) => {
                return Err(StorageError::NotFound {
                    path: path.to_owned(),
                });
            }
        };
        drop(state);
        Ok(Arc::new(DiskFile {
            state: Arc::clone(&self.state),
            inode,
            path: path.to_owned(),
        }))
    }

    fn list(&self, folder: &str) -> Result<Vec<String>, StorageError> {
        let folder = if folder.is_empty() {
            String::new()
        } else {
            format!("{folder}/")
        };
        let state = self.state();
        let below = state
            .names
            .keys()
            .filter_map(|name| name.strip_prefix(&folder));
        let mut names: Vec<_> = below
            .filter_map(|name| name.split('/').next())
            .map(str::to_owned)
            .collect();
        names.dedup();
        Ok(names)
    }

    fn remove(&self, path: &str) -> Result<(), StorageError> {
        let mut state = self.state();
        state.operate("remove", path)?;
        let folder = format!("{path}/");
        let gone = |name: &&String| *name == path || name.starts_with(&folder);
        let gone: Vec<_> = state.names.keys().filter(gone).cloned().collect();
        gone.into_iter()
            .for_each(|name| state.rename(Naming::Unset(name)));
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), StorageError> {
        let mut state = self.state();
        state.operate("rename", from)?;
        let inode = state.names[from];
        state.rename(Naming::Set(to.to_owned(), inode));
        state.rename(Naming::Unset(from.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, folder: &str) -> Result<(), StorageError> {
        let mut state = self.state();
        state.operate("sync-dir", folder)?;
        let here = |name: &str| name.rsplit_once('/').map_or("", |(folder, _)| folder) == folder;
        let unsynced = std::mem::take(&mut state.unsynced_names);
        for naming in unsynced {
            let (Naming::Set(name, _) | Naming::Unset(name)) = &naming;
            if here(name) {
                apply_name(&mut state.disk_names, &naming);
            } else {
                state.unsynced_names.push(naming);
            }
        }
        Ok(())
    }

    fn lock(&self, path: &str) -> Result<Box<dyn Lock>, StorageError> {
        let mut state = self.state();
        if state.locked.iter().any(|locked| locked == path) {
            return Err(StorageError::Locked {
                path: path.to_owned(),
            });
        }
        state.locked.push(path.to_owned());
        Ok(Box::new(DiskLock {
            state: Arc::clone(&self.state),
            path: path.to_owned(),
        }))
    }
}

#[derive(Debug)]
struct DiskLock {
    state: Arc<Mutex<State>>,
    path: String,
}

impl Lock for DiskLock {}

impl Drop for DiskLock {
    fn drop(&mut self) {
        self.state
            .lock()
            .unwrap()
            .locked
            .retain(|locked| *locked != self.path);
    }
}

#[derive(Debug)]
struct DiskFile {
    state: Arc<Mutex<State>>,
    inode: usize,
    path: String,
}

impl DiskFile {
    fn change(&self, state: &mut State, change: Change) {
        let inode = &mut state.inodes[self.inode];
        apply(&mut inode.cache, &change);
        inode.unsynced.push(change);
    }
}

impl File for DiskFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        let mut state = self.state.lock().unwrap();
        let done = state.operate("write", &self.path);
        // A write that fails may have written any part.
        let length = if done.is_ok() {
            bytes.len() as u64
        } else {
            state.random(bytes.len() as u64)
        };
        self.change(
            &mut state,
            Change::Write(offset, bytes[..length as usize].to_vec()),
        );
        done
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StorageError> {
        let state = self.state.lock().unwrap();
        let content = &state.inodes[self.inode].cache;
        let from = content.len().min(offset as usize);
        let length = buffer.len().min(content.len() - from);
        buffer[..length].copy_from_slice(&content[from..from + length]);
        Ok(length)
    }

    fn len(&self) -> Result<u64, StorageError> {
        Ok(self.state.lock().unwrap().inodes[self.inode].cache.len() as u64)
    }

    fn truncate(&self, length: u64) -> Result<(), StorageError> {
        let mut state = self.state.lock().unwrap();
        state.operate("truncate", &self.path)?;
        self.change(&mut state, Change::Truncate(length));
        Ok(())
    }

    fn sync_data(&self) -> Result<(), StorageError> {
        let mut state = self.state.lock().unwrap();
        let done = state.operate("sync", &self.path);
        if done.is_err() && state.dead {
            return done;
        }
        let random = &mut state.random.clone().unwrap();
        let inode = &mut state.inodes[self.inode];
        if done.is_ok() {
            for change in std::mem::take(&mut inode.unsynced) {
                apply(&mut inode.disk, &change);
            }
        } else {
            // Some of it arrived; the rest is clean in the cache and will never be written.
            inode.disk = survive(inode, random).disk;
            inode.unsynced.clear();
        }
        done
    }
}

fn apply_name(names: &mut BTreeMap<String, usize>, naming: &Naming) {
    match naming {
        Naming::Set(name, inode) => names.insert(name.clone(), *inode),
        Naming::Unset(name) => names.remove(name),
    };
}

fn apply(content: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Truncate(length) => content.resize(*length as usize, 0),
        Change::Write(offset, bytes) => {
            let (from, to) = (*offset as usize, *offset as usize + bytes.len());
            content.resize(content.len().max(to), 0);
            content[from..to].copy_from_slice(bytes);
        }
    }
}

/// A file as the power cut left it: unsynced changes in full, in part, in blocks or not at all.
fn survive(inode: &Inode, random: &mut Random) -> Inode {
    let mut disk = inode.disk.clone();
    let in_order = random.below(2) == 0;
    let kept = random.below(inode.unsynced.len() as u64 + 1) as usize;
    for (at, change) in inode.unsynced.iter().enumerate() {
        match change {
            _ if in_order && at < kept => apply(&mut disk, change),
            Change::Write(offset, bytes) if !in_order || at == kept => {
                // Blocks of 64 bytes arrive one by one, in any order; the length with any.
                if random.below(2) == 0 {
                    let end = *offset as usize + bytes.len();
                    disk.resize(disk.len().max(end), 0);
                }
                for (block, part) in bytes.chunks(64).enumerate() {
                    if random.below(3) > 0 {
                        apply(
                            &mut disk,
                            &Change::Write(offset + block as u64 * 64, part.to_vec()),
                        );
                    }
                }
            }
            Change::Truncate(_) if !in_order && random.below(2) == 0 => apply(&mut disk, change),
            _ => {}
        }
    }
    Inode {
        cache: disk.clone(),
        disk,
        unsynced: Vec::new(),
    }
}
