//! The one writer of a spool's files: appending, rotation, repair, recovery.

use super::Commit;
use super::Head;
use super::Promise;
use super::Recovered;
use super::SpoolError;
use super::SpoolOptions;
use super::frame;
use super::frame::Link;
use super::frame::Reader;
use super::frame::Stop;
use super::lane::Pending;
use super::recent::Batch;
use super::recent::Recent;
use crate::envelope::NO_PREVIOUS;
use crate::storage::File;
use crate::storage::Lock;
use crate::storage::Open;
use crate::storage::Storage;
use crate::storage::StorageError;
use crate::storage::read_full;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use tokio::sync::watch;

/// The name of a segment: where it starts, and which attempt to start there it is. A higher
/// attempt supersedes a lower one whose sync failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SegmentName {
    pub(super) first: u64,
    pub(super) attempt: u32,
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:020}-{:04}.seg", self.first, self.attempt)
    }
}

impl SegmentName {
    fn parse(name: &str) -> Option<Self> {
        let (first, attempt) = name.strip_suffix(".seg")?.split_once('-')?;
        let parsed = Self {
            first: first.parse().ok()?,
            attempt: attempt.parse().ok()?,
        };
        (parsed.to_string() == name).then_some(parsed)
    }
}

/// A segment as readers see it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    pub(super) name: SegmentName,
    /// Bytes of it that count; for the newest, up to the last durable record.
    pub(super) length: u64,
}

/// What is durable, kept apart from [`Core`] so that readers never wait for a flush.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) segments: Vec<Segment>,
    pub(super) next: u64,
}

impl View {
    pub(super) fn used_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.length).sum()
    }

    pub(super) fn first(&self) -> u64 {
        self.segments
            .first()
            .map_or(0, |segment| segment.name.first)
    }
}

/// What has to happen before the next append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repair {
    Nothing,
    /// A write failed: cut off what it may have left.
    Truncate,
    /// A sync failed: never touch this segment again.
    Rotate,
}

#[derive(Debug)]
pub(super) struct Core {
    storage: Arc<dyn Storage>,
    folder: String,
    node: Arc<str>,
    options: SpoolOptions,
    view: Arc<Mutex<View>>,
    recent: Arc<Mutex<Recent>>,
    head: watch::Sender<Head>,
    file: Arc<dyn File>,
    name: SegmentName,
    length: u64,
    link: Link,
    used: u64,
    repair: Repair,
    /// Empty between writes; here so that its room is kept.
    pub(super) batch: Vec<Pending>,
    buffer: Vec<u8>,
    promises: Vec<(usize, Promise)>,
    _lock: Box<dyn Lock>,
}

impl Core {
    pub(super) fn open(
        storage: Arc<dyn Storage>,
        node: Arc<str>,
        options: SpoolOptions,
    ) -> Result<(Self, Recovered), SpoolError> {
        let folder = folder(&node);
        let lock = storage.lock(&format!("{folder}/lock"))?;
        let mut names = segments(&*storage, &folder)?;
        let newest = recover(&storage, &folder, &node, &mut names, options.commit)?;
        let mut segments = Vec::with_capacity(names.len());
        for name in names {
            let length = storage
                .open(&format!("{folder}/{name}"), Open::Read)?
                .len()?;
            segments.push(Segment { name, length });
        }
        let view = View {
            segments,
            next: newest.link.next,
        };
        let head = Head {
            next: newest.link.next,
            hash: newest.link.hash,
        };
        let recovered = Recovered {
            records: view.next - view.first(),
            truncated_bytes: newest.truncated,
            head,
        };
        let core = Self {
            used: view.used_bytes(),
            view: Arc::new(Mutex::new(view)),
            recent: Arc::default(),
            head: watch::Sender::new(head),
            file: newest.file,
            name: newest.name,
            length: newest.length,
            link: newest.link,
            repair: Repair::Nothing,
            batch: Vec::new(),
            buffer: Vec::new(),
            promises: Vec::new(),
            _lock: lock,
            storage,
            folder,
            node,
            options,
        };
        Ok((core, recovered))
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Head> {
        self.head.subscribe()
    }

    pub(super) fn view(&self) -> Arc<Mutex<View>> {
        Arc::clone(&self.view)
    }

    pub(super) fn recent(&self) -> Arc<Mutex<Recent>> {
        Arc::clone(&self.recent)
    }

    /// Writes a batch in one go and answers each record, in order of their durability.
    pub(super) fn append(
        &mut self,
        batch: &mut [Pending],
        mut answer: impl FnMut(&mut Pending, Result<Promise, SpoolError>),
    ) {
        self.buffer.clear();
        self.promises.clear();
        if let Err(error) = self.prepare() {
            return batch
                .iter_mut()
                .for_each(|pending| answer(pending, Err(error.clone())));
        }
        let mut link = self.link;
        for (index, pending) in batch.iter_mut().enumerate() {
            match self.frame(&mut link, pending) {
                Ok(promise) => self.promises.push((index, promise)),
                Err(error) => answer(pending, Err(error)),
            }
        }
        if self.promises.is_empty() {
            return;
        }
        let committed = self.commit();
        if committed.is_ok() {
            self.show(link);
        }
        for (index, promise) in self.promises.drain(..) {
            if let Some(pending) = batch.get_mut(index) {
                answer(pending, committed.clone().map(|()| promise));
            }
        }
    }

    /// Shows readers what is in the buffer, which is written (and synced), up to a new end.
    fn show(&mut self, end: Link) {
        let leaves = self.promises.iter();
        let leaves = leaves.map(|(_, promise)| (promise.leaf_hash, promise.leaf_len));
        let first = self.link.next;
        let batch = Batch::new(self.name, self.length, first, &self.buffer, leaves);
        self.recent.lock().keep(batch);
        self.length += self.buffer.len() as u64;
        self.used += self.buffer.len() as u64;
        self.link = end;
        let mut view = self.view.lock();
        view.next = end.next;
        if let Some(newest) = view.segments.last_mut() {
            newest.length = self.length;
        }
        drop(view);
        self.head.send_replace(Head {
            next: end.next,
            hash: end.hash,
        });
    }

    /// Removes segments whose records all come before `seq`.
    pub(super) fn forget_before(&mut self, seq: u64) -> Result<(), SpoolError> {
        self.recent.lock().forget_before(seq);
        let segments = self.view.lock().segments.clone();
        // The segment after it says where one ends.
        let ends = segments.iter().zip(segments.iter().skip(1));
        let old: Vec<_> = ends
            .take_while(|(_, after)| after.name.first <= seq)
            .map(|(s, _)| *s)
            .collect();
        for segment in &old {
            // Durably one by one from the oldest on: what a crash leaves is still one chain.
            self.view
                .lock()
                .segments
                .retain(|kept| kept.name != segment.name);
            self.used -= segment.length;
            self.storage.remove(&self.path(segment.name))?;
            self.storage.sync_dir(&self.folder)?;
        }
        Ok(())
    }

    /// Repairs what the last append broke, and starts a new segment when it is time.
    fn prepare(&mut self) -> Result<(), SpoolError> {
        match self.repair {
            Repair::Truncate => {
                self.file.truncate(self.length)?;
                self.repair = Repair::Nothing;
            }
            Repair::Rotate => self.rotate()?,
            Repair::Nothing if self.length >= self.options.segment_bytes => self.rotate()?,
            Repair::Nothing => {}
        }
        Ok(())
    }

    /// Puts the frame of one record into the buffer, unless it would take too much of the disk.
    fn frame(&mut self, link: &mut Link, pending: &Pending) -> Result<Promise, SpoolError> {
        let before = self.buffer.len();
        // What was promised before this batch.
        let mark = self.link.next;
        let (leaf_hash, leaf_len) =
            frame::write_frame(&mut self.buffer, &self.node, *link, &pending.record, mark);
        let reserve = if pending.reserved {
            0
        } else {
            self.options.reserve_bytes
        };
        let allowed = self.options.max_bytes.saturating_sub(reserve);
        if self.used + self.buffer.len() as u64 > allowed {
            self.buffer.truncate(before);
            return Err(SpoolError::Full);
        }
        let promise = Promise {
            node: Arc::clone(&self.node),
            record: pending.record.clone(),
            seq: link.next,
            leaf_hash,
            leaf_len,
        };
        *link = Link {
            next: link.next + 1,
            hash: leaf_hash,
        };
        Ok(promise)
    }

    fn commit(&mut self) -> Result<(), SpoolError> {
        if let Err(error) = self.file.write_at(self.length, &self.buffer) {
            self.repair = Repair::Truncate;
            return Err(error.into());
        }
        if self.options.commit == Commit::Fsync
            && let Err(error) = self.file.sync_data()
        {
            self.repair = Repair::Rotate;
            return Err(error.into());
        }
        Ok(())
    }

    fn rotate(&mut self) -> Result<(), SpoolError> {
        let attempt = if self.name.first == self.link.next {
            self.name.attempt + 1
        } else {
            0
        };
        let name = SegmentName {
            first: self.link.next,
            attempt,
        };
        // If this fails, the file may be there: the next attempt needs another name.
        self.name = name;
        self.repair = Repair::Rotate;
        self.file = create(&*self.storage, &self.path(name), &self.folder, self.link)?;
        self.repair = Repair::Nothing;
        self.length = frame::SEGMENT_HEADER;
        self.used += self.length;
        self.view.lock().segments.push(Segment {
            name,
            length: self.length,
        });
        Ok(())
    }

    fn path(&self, name: SegmentName) -> String {
        format!("{}/{name}", self.folder)
    }
}

/// The folder of a node's spool.
pub(super) fn folder(node: &str) -> String {
    format!("spool/{node}")
}

/// The segments of a folder, in order.
pub(super) fn segments(
    storage: &dyn Storage,
    folder: &str,
) -> Result<Vec<SegmentName>, StorageError> {
    let names = storage.list(folder)?;
    let mut names: Vec<_> = names
        .iter()
        .filter_map(|name| SegmentName::parse(name))
        .collect();
    names.sort_unstable();
    Ok(names)
}

/// The newest segment, as recovered.
struct Newest {
    file: Arc<dyn File>,
    name: SegmentName,
    length: u64,
    link: Link,
    truncated: u64,
}

/// Finds where the chain stands, cuts off a torn tail, and leaves in `names` what is in use.
fn recover(
    storage: &Arc<dyn Storage>,
    folder: &str,
    node: &Arc<str>,
    names: &mut Vec<SegmentName>,
    commit: Commit,
) -> Result<Newest, SpoolError> {
    while let Some(name) = names.last().copied() {
        let path = format!("{folder}/{name}");
        let file = storage.open(&path, Open::Write)?;
        let start = frame::read_segment_header(&*file)?.filter(|link| link.next == name.first);
        let Some(start) = start else {
            // A header is durable before anything is written behind it, so a broken one with
            // records behind it was not torn by a crash.
            if highest_mark(&*file, 0)?.is_some() {
                return Err(SpoolError::Corrupt {
                    segment: path,
                    offset: 0,
                    seq: name.first,
                });
            }
            storage.remove(&path)?;
            storage.sync_dir(folder)?;
            names.pop();
            continue;
        };
        // The process that made the segment may have died before its name was durable.
        storage.sync_dir(folder)?;
        return recover_tail(file, name, path, Arc::clone(node), start, commit);
    }
    let name = SegmentName {
        first: 0,
        attempt: 0,
    };
    let link = Link {
        next: 0,
        hash: NO_PREVIOUS,
    };
    let file = create(&**storage, &format!("{folder}/{name}"), folder, link)?;
    names.push(name);
    Ok(Newest {
        file,
        name,
        length: frame::SEGMENT_HEADER,
        link,
        truncated: 0,
    })
}

fn recover_tail(
    file: Arc<dyn File>,
    name: SegmentName,
    path: String,
    node: Arc<str>,
    start: Link,
    commit: Commit,
) -> Result<Newest, SpoolError> {
    let end = file.len()?;
    let mut reader = Reader::new(Arc::clone(&file), node, start);
    // Where the last batch starts: records from its mark on may not have been synced.
    let (mut mark, mut batch) = (0, reader.offset);
    let stop = loop {
        let offset = reader.offset;
        match reader.next(end) {
            Ok(frame) if frame.mark > mark => (mark, batch) = (frame.mark, offset),
            Ok(_) => {}
            Err(stop) => break stop,
        }
    };
    let (length, link) = (reader.offset, reader.link);
    match stop {
        Stop::End => {}
        Stop::Storage(error) => return Err(error.into()),
        Stop::Bad => {
            if highest_mark(&*file, length)?.is_some_and(|mark| mark > link.next) {
                return Err(SpoolError::Corrupt {
                    segment: path,
                    offset: length,
                    seq: link.next,
                });
            }
            file.truncate(length)?;
        }
    }
    if commit == Commit::Fsync {
        // Pages of the header or of a batch whose sync failed may be clean in memory and absent
        // on the disk. Writing the same bytes again makes the sync below mean something.
        file.write_at(0, &frame::segment_header(start))?;
        let mut bytes = vec![0; (length - batch) as usize];
        let read = read_full(&*file, batch, &mut bytes)?;
        bytes.truncate(read);
        file.write_at(batch, &bytes)?;
        file.sync_data()?;
    }
    Ok(Newest {
        file,
        name,
        length,
        link,
        truncated: end.saturating_sub(length),
    })
}

/// Makes a segment file, durable with its name before it is used.
fn create(
    storage: &dyn Storage,
    path: &str,
    folder: &str,
    start: Link,
) -> Result<Arc<dyn File>, StorageError> {
    let file = storage.open(path, Open::Create)?;
    file.truncate(0)?;
    file.write_at(0, &frame::segment_header(start))?;
    file.sync_data()?;
    storage.sync_dir(folder)?;
    Ok(file)
}

pub(super) fn highest_mark(file: &dyn File, offset: u64) -> Result<Option<u64>, StorageError> {
    let mut rest = vec![0; file.len()?.saturating_sub(offset) as usize];
    let read = read_full(file, offset, &mut rest)?;
    rest.truncate(read);
    Ok(frame::highest_mark(&rest))
}
