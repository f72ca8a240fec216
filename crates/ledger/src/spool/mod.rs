//! The spool: one node's records, durable before they are acknowledged, chained, and kept until
//! the log has them.
//!
//! A record is one JSON object. Its *leaf* is that object in an envelope with the node's name,
//! its sequence from 0 on, and the hash of the leaf before, so that a missing, changed or
//! reordered record is seen by anyone who holds a later one. What a caller gets for a record is a
//! [`Promise`], and nobody else can make one.
//!
//! When things go wrong:
//!
//! * A write that fails gives no promise. The torn bytes are cut off before the next append, so a
//!   full disk ends by itself when space returns.
//! * A sync that fails gives no promise to its batch, and the segment is never written again: the
//!   kernel may have dropped the pages and marked them clean, so a later sync that succeeds would
//!   prove nothing ("fsyncgate"). The next append starts a new segment at the last promised
//!   record, which supersedes whatever lies behind that record in the old one.
//! * On opening, a torn tail is cut off and counted. A record that can't be read although a later
//!   one shows that it had been promised is [`SpoolError::Corrupt`], never dropped.
//!
//! A record without a promise may still be found after a crash, never the other way round.
//!
//! A record that nobody waits for ([`Spool::append_late`]) goes to the disk with the next one, or a
//! few milliseconds later. `kill -9` in that time loses it; the clean end of a process does not.

mod core;
mod damage;
mod frame;
mod lane;
mod read;
mod recent;

pub use self::damage::AsideFile;
pub use self::damage::SetAside;
pub use self::damage::set_aside;

use self::core::Core;
use self::core::View;
use self::lane::Lane;
use self::recent::Recent;
use crate::Hash;
use crate::ReceiptId;
use crate::envelope;
use crate::object::JsonObject;
use crate::object::NotAnObject;
use crate::storage::Storage;
use crate::storage::StorageError;
use bytes::Bytes;
use parking_lot::Mutex;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::watch;

/// When an append is as good as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Commit {
    /// When the disk says so: survives a power cut. Records that arrive during a flush share the
    /// next one, and so do those of tasks that come one after the other, for some milliseconds at
    /// most; whoever is alone waits for nobody.
    #[default]
    Fsync,
    /// When the operating system has it: survives `kill -9`, not a power cut. Written by the
    /// calling task itself, once the others that are ready have had their turn and with what these
    /// append, or by another one that does so.
    Os,
}

/// How a spool is kept.
#[derive(Debug, Clone)]
pub struct SpoolOptions {
    /// When an append is as good as done.
    pub commit: Commit,
    /// A new segment file is started at this size, in bytes.
    pub segment_bytes: u64,
    /// The most the spool may take on disk, in bytes.
    pub max_bytes: u64,
    /// How much of `max_bytes` only [`Spool::append_reserved`] may use.
    pub reserve_bytes: u64,
    /// The most records one flush covers.
    pub batch_records: usize,
    /// There is little room ([`Room::is_low`]) when fewer bytes are left, on the disk or of
    /// `max_bytes`.
    pub warn_bytes: u64,
}

impl Default for SpoolOptions {
    fn default() -> Self {
        Self {
            commit: Commit::Fsync,
            segment_bytes: 64 << 20,
            max_bytes: 4 << 30,
            reserve_bytes: 64 << 20,
            batch_records: 1024,
            warn_bytes: 256 << 20,
        }
    }
}

/// Why a spool could not take, find or give a record.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SpoolError {
    /// The node name can't name a folder.
    #[error(
        "`{0}` is no node name: 1 to 128 letters, digits, `-`, `_` and `.`, not starting with `.`"
    )]
    NodeName(String),
    /// The record is not one JSON object.
    #[error("the record is not a JSON object")]
    NotAnObject,
    /// The record would make a leaf of more than 65,535 bytes.
    #[error("a record of `{length}` bytes is over this node's limit of `{limit}`")]
    TooLarge {
        /// Bytes of the record.
        length: usize,
        /// The most a record of this node may have.
        limit: usize,
    },
    /// The disk, or what the spool may take of it, is full. Nothing else is wrong.
    #[error("the spool is full")]
    Full,
    /// A record that had been promised can't be read, or does not follow the one before.
    #[error("segment `{segment}` is corrupt at byte `{offset}`, record `{seq}`")]
    Corrupt {
        /// The segment's path.
        segment: String,
        /// Where in it the unreadable frame starts, in bytes.
        offset: u64,
        /// The sequence of the record that should be there.
        seq: u64,
    },
    /// The record was shipped and its segment removed.
    #[error("records before `{first}` are no longer in the spool")]
    Forgotten {
        /// The first record that still is.
        first: u64,
    },
    /// The spool is being closed.
    #[error("the spool is closed")]
    Closed,
    /// The storage failed.
    #[error(transparent)]
    Storage(StorageError),
}

impl From<NotAnObject> for SpoolError {
    fn from(_: NotAnObject) -> Self {
        Self::NotAnObject
    }
}

impl From<Infallible> for SpoolError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl From<StorageError> for SpoolError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::NoSpace { .. } => Self::Full,
            other => Self::Storage(other),
        }
    }
}

/// What opening a spool found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovered {
    /// Records in the spool.
    pub records: u64,
    /// Bytes of a torn tail that were cut off: none of them had been promised.
    pub truncated_bytes: u64,
    /// Where the chain stands.
    pub head: Head,
}

/// How much more a spool can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes, the reserve among them.
    pub left: u64,
    /// Bytes that only [`Spool::append_reserved`] may use.
    pub reserve: u64,
    /// Below so many there is reason to warn.
    pub warn: u64,
}

impl Room {
    /// Whether it is time to make space: nothing is refused yet.
    #[must_use]
    pub const fn is_low(&self) -> bool {
        self.left < self.warn
    }

    /// Whether only the reserve is left.
    #[must_use]
    pub const fn is_reserve_only(&self) -> bool {
        self.left < self.reserve
    }
}

/// Where a spool's chain stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The sequence the next record gets, which is also how many there have ever been.
    pub next: u64,
    /// The leaf hash of the last record; zeros before the first.
    pub hash: Hash,
}

/// A record that is as durable as the spool's [`Commit`] says.
///
/// Only the spool makes one, after the write (and the sync) returned, and only of the bytes that it
/// wrote: the promise holds them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a promise is what allows the call that was recorded"]
pub struct Promise {
    node: Arc<str>,
    record: JsonObject,
    seq: u64,
    leaf_hash: Hash,
    leaf_len: usize,
}

impl Promise {
    /// The node whose spool holds the record.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The record's sequence on its node, from 0.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The RFC 6962 hash of the leaf.
    #[must_use]
    pub fn leaf_hash(&self) -> &Hash {
        &self.leaf_hash
    }

    /// The leaf's length in bytes.
    #[must_use]
    pub fn leaf_len(&self) -> usize {
        self.leaf_len
    }

    /// The record's short name.
    #[must_use]
    pub fn receipt(&self) -> ReceiptId {
        ReceiptId::from(&self.leaf_hash)
    }

    /// Whether this promise is for exactly these bytes.
    #[must_use]
    pub fn covers(&self, record: &[u8]) -> bool {
        *self.record == *record
    }
}

/// A leaf on its way to the log. Only a spool makes one: of a frame that it read and whose check
/// agreed, or of one that it wrote itself moments ago and kept in memory. Either way it is known to
/// be this record's envelope, and the hash to be its own.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpooledLeaf {
    /// Its sequence on this node.
    pub seq: u64,
    /// The RFC 6962 hash of its bytes.
    pub leaf_hash: Hash,
    /// Its bytes, the canonical JSON envelope. They may be part of more, which stays in memory for as
    /// long as this does.
    pub leaf: Bytes,
}

/// One node's spool. Clones share it; the last one to go flushes and closes it.
#[derive(Debug, Clone)]
pub struct Spool {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    limit: usize,
    head: watch::Receiver<Head>,
    lane: Lane,
    /// The options that say how much may be written.
    bounds: Bounds,
    cursor: Mutex<Option<read::Cursor>>,
}

#[derive(Debug, Clone, Copy)]
struct Bounds {
    max: u64,
    reserve: u64,
    warn: u64,
}

/// What appending tasks, the writer thread and readers share.
#[derive(Debug)]
struct Shared {
    storage: Arc<dyn Storage>,
    node: Arc<str>,
    core: Mutex<Core>,
    view: Arc<Mutex<View>>,
    recent: Arc<Mutex<Recent>>,
}

impl Spool {
    /// Opens the spool of a node in `spool/<node>/`, and repairs what a crash may have torn.
    ///
    /// Reads the newest segment only; see [`Spool::verify`] for all of them.
    ///
    /// # Errors
    /// [`SpoolError::NodeName`], [`SpoolError::Corrupt`], [`SpoolError::Full`],
    /// [`SpoolError::Storage`], among it [`StorageError::Locked`] while another process has it.
    pub fn open(
        storage: Arc<dyn Storage>,
        node: &str,
        options: SpoolOptions,
    ) -> Result<(Self, Recovered), SpoolError> {
        if !envelope::is_node_name(node) {
            return Err(SpoolError::NodeName(
                node.escape_debug().take(256).collect(),
            ));
        }
        let node: Arc<str> = node.into();
        let commit = options.commit;
        let batch = options.batch_records.max(1);
        let bounds = Bounds {
            max: options.max_bytes,
            reserve: options.reserve_bytes,
            warn: options.warn_bytes,
        };
        let (core, recovered) = Core::open(Arc::clone(&storage), Arc::clone(&node), options)?;
        let (head, view, recent) = (core.subscribe(), core.view(), core.recent());
        let limit = crate::MAX_LEAF.saturating_sub(envelope::overhead(&node));
        let shared = Arc::new(Shared {
            storage,
            node,
            core: Mutex::new(core),
            view,
            recent,
        });
        let lane = Lane::start(Arc::clone(&shared), commit, batch)?;
        let inner = Inner {
            shared,
            limit,
            head,
            lane,
            bounds,
            cursor: Mutex::new(None),
        };
        Ok((
            Self {
                inner: Arc::new(inner),
            },
            recovered,
        ))
    }

    /// The node's name.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.inner.shared.node
    }

    /// The most bytes a record of this node may have.
    #[must_use]
    pub fn max_record_len(&self) -> usize {
        self.inner.limit
    }

    /// Appends one canonical JSON object and returns when it is durable. Bytes are parsed before
    /// they are taken, a [`JsonObject`] is taken as it is.
    ///
    /// If the caller goes away meanwhile, the record is written all the same.
    ///
    /// # Errors
    /// [`SpoolError`]; the record is then not promised, and the spool usable as before.
    pub async fn append<R>(&self, record: R) -> Result<Promise, SpoolError>
    where
        R: TryInto<JsonObject, Error: Into<SpoolError>>,
    {
        let record = self.checked(record)?;
        self.inner.lane.append(record, false).await
    }

    /// As [`Spool::append`], with the right to use the reserve: for calls already admitted,
    /// refusals of proven callers, and administration.
    ///
    /// # Errors
    /// As [`Spool::append`].
    pub async fn append_reserved<R>(&self, record: R) -> Result<Promise, SpoolError>
    where
        R: TryInto<JsonObject, Error: Into<SpoolError>>,
    {
        let record = self.checked(record)?;
        self.inner.lane.append(record, true).await
    }

    /// As [`Spool::append`], for callers outside an asynchronous runtime.
    ///
    /// # Errors
    /// As [`Spool::append`].
    pub fn append_blocking<R>(&self, record: R) -> Result<Promise, SpoolError>
    where
        R: TryInto<JsonObject, Error: Into<SpoolError>>,
    {
        let record = self.checked(record)?;
        self.inner.lane.append_blocking(record, false)
    }

    /// Takes a record that nobody waits for, with the right to use the reserve: it is written with
    /// the next one, within a few milliseconds, before [`Spool::flush`] returns, and before the last
    /// clone of this spool is gone. Under [`Commit::Os`] it is written before anything is read, too.
    /// If it can't be written, `failed` is told.
    ///
    /// # Errors
    /// [`SpoolError::NotAnObject`], [`SpoolError::TooLarge`]; nothing is taken then.
    pub fn append_late<R>(&self, record: R, failed: fn(&SpoolError)) -> Result<(), SpoolError>
    where
        R: TryInto<JsonObject, Error: Into<SpoolError>>,
    {
        let record = self.checked(record)?;
        self.inner.lane.append_late(record, failed);
        Ok(())
    }

    /// Waits until everything that was appended before is written, or can't be. Never returns if the
    /// disk hangs.
    ///
    /// # Errors
    /// [`SpoolError::Closed`] if there is no writer any more.
    pub async fn flush(&self) -> Result<(), SpoolError> {
        let flushed = self.inner.lane.flushed();
        flushed.await.map_err(|_| SpoolError::Closed)
    }

    /// Where the chain stands: only durable records count.
    #[must_use]
    pub fn head(&self) -> Head {
        self.inner.lane.before_reading();
        *self.inner.head.borrow()
    }

    /// Wakes whoever ships records: the head after each append.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Head> {
        self.inner.head.clone()
    }

    /// What the spool takes on disk, in bytes.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.inner.shared.view.lock().used_bytes()
    }

    /// How much more it can take: what it may use, or what the disk has if that is less.
    ///
    /// # Errors
    /// [`SpoolError::Storage`] if the disk does not say.
    pub fn room(&self) -> Result<Room, SpoolError> {
        let bounds = self.inner.bounds;
        let allowed = bounds.max.saturating_sub(self.used_bytes());
        let free = self.inner.shared.storage.free()?;
        Ok(Room {
            left: free.map_or(allowed, |free| free.min(allowed)),
            reserve: bounds.reserve,
            warn: bounds.warn,
        })
    }

    /// The first record that is still in the spool.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.inner.shared.view.lock().first()
    }

    /// Waits until the writer has come round once, whatever its disk says: a full disk is an answer
    /// too. Never returns if the writer hangs, on a disk that does not answer above all.
    ///
    /// # Errors
    /// [`SpoolError::Closed`] if there is no writer any more.
    pub async fn turn(&self) -> Result<(), SpoolError> {
        let turned = self.inner.lane.turn();
        turned.await.map_err(|_| SpoolError::Closed)
    }

    /// Removes the segments that hold only records before `seq`; the newest one stays. What of those
    /// records was still in memory goes in any case.
    ///
    /// # Errors
    /// [`SpoolError::Storage`].
    pub fn forget_before(&self, seq: u64) -> Result<(), SpoolError> {
        self.inner.shared.core.lock().forget_before(seq)
    }

    /// A record the log can't read would hold up all those behind it for ever, so none gets in.
    fn checked<R>(&self, record: R) -> Result<JsonObject, SpoolError>
    where
        R: TryInto<JsonObject, Error: Into<SpoolError>>,
    {
        let record = record.try_into().map_err(Into::into)?;
        if record.len() > self.inner.limit {
            let (length, limit) = (record.len(), self.inner.limit);
            return Err(SpoolError::TooLarge { length, limit });
        }
        Ok(record)
    }
}
