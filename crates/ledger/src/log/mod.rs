//! The log: one append-only Merkle tree per deployment, fed from the spools.
//!
//! On disk, below one storage:
//!
//! ```text
//! log/checkpoint   the published checkpoint        log/tile/...  C2SP tlog-tiles: the truth
//! log-head         the last checkpoint signed      log-state     size, root, position of each node
//! log-index/...    from leaf hash to leaf index, derived        log-lock
//! ```
//!
//! An append writes and syncs its tiles, then replaces `log-state`: that is the moment it has
//! happened. [`Log::checkpoint`] signs only what `log-state` already holds durably, writes
//! `log-head`, then publishes, so whatever fails in between, no two signed trees contradict one
//! another. `log-head` lies outside `log/`, so a `log/` put back from yesterday is found on
//! opening; that everything was put back is found by whoever kept a checkpoint.

mod audit;
mod edge;
mod index;
mod load;
mod state;
mod taking;

pub use self::audit::Finding;
pub use self::audit::Report;
pub use self::audit::recompute;
pub use self::edge::SourceError;
pub use self::index::IndexShape;
pub use self::state::Position;
pub use self::taking::ReadLeaf;

use self::edge::TileSource;
use self::load::Loaded;
use crate::Hash;
use crate::MAX_LEAF;
use crate::ReceiptId;
use crate::ReceiptPrefix;
use crate::checkpoint::Checkpoint;
use crate::checkpoint::CheckpointError;
use crate::checkpoint::SignedCheckpoint;
use crate::envelope::Envelope;
use crate::note::SigningKey;
use crate::note::VerifierKey;
use crate::receipt::Receipt;
use crate::storage::Lock;
use crate::storage::Storage;
use crate::storage::StorageError;
use crate::storage::parent;
use crate::tiles::TileError;
use crate::tiles::WIDTH;
use crate::tree;
use crate::tree::leaf_hash;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

const PREFIX: &str = "log/";
const PUBLISHED: &str = "log/checkpoint";
const HEAD: &str = "log-head";
const STATE: &str = "log-state";
const LOCK: &str = "log-lock";

/// Why the log refused to open, take or prove something.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The disk is full. Nothing else is wrong.
    #[error("the disk of the log is full")]
    Full,
    /// The storage failed.
    #[error(transparent)]
    Storage(StorageError),
    /// A tile can't be read as its size says.
    #[error(transparent)]
    Tiles(SourceError),
    /// The key is of another log than the origin, or signing failed.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// There is a log, but no `log-head`: it was removed, perhaps to hide a rollback.
    #[error("`log-head` is missing although there is a log")]
    HeadMissing,
    /// A checkpoint on disk was not signed by this log's key.
    #[error("`{path}` is no checkpoint of this log: {source}")]
    NotOurs {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: CheckpointError,
    },
    /// The state file is not one of this log.
    #[error("`log-state` is not the state of this log")]
    State,
    /// The tiles hold fewer leaves than were accepted: the log was rolled back.
    #[error("the log was rolled back: `{what}` says `{size}` leaves, but {source}")]
    RolledBack {
        /// The file that knows of more.
        what: String,
        /// The leaves it knows of.
        size: u64,
        /// What is missing.
        source: SourceError,
    },
    /// The tiles make another root than was accepted: the log was changed.
    #[error("the tiles of the first `{size}` leaves do not make the root in `{what}`")]
    Inconsistent {
        /// The file that says otherwise.
        what: String,
        /// The size of the tree in question.
        size: u64,
    },
    /// Records of a node are missing between the last one here and these.
    #[error("node `{node}` sends record `{first}`, but `{expected}` is next")]
    Gap {
        /// The node.
        node: String,
        /// The sequence that is next.
        expected: u64,
        /// The first sequence sent.
        first: u64,
    },
    /// The node has sent another record with this sequence before.
    #[error("node `{node}` has sent another record `{seq}` before")]
    Forked {
        /// The node.
        node: String,
        /// The sequence in question.
        seq: u64,
    },
    /// The record does not point back to the node's previous one.
    #[error("record `{seq}` of node `{node}` does not follow the one before")]
    BrokenChain {
        /// The node.
        node: String,
        /// The sequence in question.
        seq: u64,
    },
    /// The bytes are not the envelope of this node and sequence.
    #[error("what node `{node}` sends as record `{seq}` is not that record's leaf")]
    NotALeaf {
        /// The node.
        node: String,
        /// The sequence in question.
        seq: u64,
    },
    /// The leaf is longer than 65,535 bytes.
    #[error("a leaf of `{0}` bytes is over the limit of 65535")]
    TooLarge(usize),
    /// There is no such leaf or tree (yet).
    #[error("leaf or size `{index}` is beyond the log's `{size}` leaves")]
    OutOfRange {
        /// The index or size asked for.
        index: u64,
        /// How many leaves there are, or are signed.
        size: u64,
    },
}

impl From<StorageError> for LogError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::NoSpace { .. } => Self::Full,
            other => Self::Storage(other),
        }
    }
}

impl From<SourceError> for LogError {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Storage(error) => error.into(),
            other => Self::Tiles(other),
        }
    }
}

impl From<TileError> for LogError {
    fn from(error: TileError) -> Self {
        Self::Tiles(error.into())
    }
}

/// The log of a deployment. Its methods block; share it behind an `Arc`.
#[derive(Debug)]
pub struct Log {
    storage: Arc<dyn Storage>,
    origin: String,
    key: SigningKey,
    shape: IndexShape,
    inner: Mutex<Inner>,
    _lock: Box<dyn Lock>,
}

#[derive(Debug)]
struct Inner {
    loaded: Loaded,
    /// Whether a write to `log-state` failed, so that only the disk knows what it holds.
    uncertain: bool,
    /// What `log/checkpoint` is known to hold.
    published: Option<SignedCheckpoint>,
}

/// A leaf that is about to be added.
type Fresh<'a> = (&'a [u8], Hash);

impl Log {
    /// Opens the log, or starts an empty one where there is none, and repairs what a crash left.
    ///
    /// Reads the right edge of the tree only; see [`Log::verify`] for all of it.
    ///
    /// # Errors
    /// [`LogError::HeadMissing`], [`LogError::NotOurs`], [`LogError::State`],
    /// [`LogError::RolledBack`] and [`LogError::Inconsistent`] say that someone changed the files;
    /// besides [`LogError::Checkpoint`] for a key of another name, [`LogError::Full`] and
    /// [`LogError::Storage`].
    pub fn open(
        storage: Arc<dyn Storage>,
        origin: &str,
        key: SigningKey,
    ) -> Result<Self, LogError> {
        Self::open_with(storage, origin, key, IndexShape::default())
    }

    /// As [`Log::open`], with tables of other sizes below `log-index/`: for those who want to see
    /// what becomes of many without adding millions of leaves.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn open_with(
        storage: Arc<dyn Storage>,
        origin: &str,
        key: SigningKey,
        shape: IndexShape,
    ) -> Result<Self, LogError> {
        let lock = storage.lock(LOCK)?;
        let loaded = load::load(&*storage, origin, &key, shape)?;
        let inner = Mutex::new(Inner {
            loaded,
            uncertain: false,
            published: None,
        });
        Ok(Self {
            storage,
            origin: origin.to_owned(),
            key,
            shape,
            inner,
            _lock: lock,
        })
    }

    /// The log's name.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The key that verifies its checkpoints, to be handed out some other way.
    #[must_use]
    pub fn verifier(&self) -> &VerifierKey {
        self.key.verifier()
    }

    /// The number of leaves, signed or not.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.inner.lock().loaded.state.size
    }

    /// How far the log is with a node; nothing if it has none of its records.
    #[must_use]
    pub fn position(&self, node: &str) -> Option<Position> {
        self.inner.lock().loaded.state.nodes.get(node).copied()
    }

    /// How far the log is with each node.
    #[must_use]
    pub fn positions(&self) -> BTreeMap<String, Position> {
        self.inner.lock().loaded.state.nodes.clone()
    }

    /// Adds a node's leaves, of which the first has the sequence `first_seq`, and returns when
    /// they are durable. Leaves that are here already are skipped, so sending again is safe.
    /// All of them are taken or none.
    ///
    /// Returns the indexes of the leaves that were added now.
    ///
    /// # Errors
    /// [`LogError::Gap`], [`LogError::Forked`], [`LogError::BrokenChain`], [`LogError::NotALeaf`]
    /// and [`LogError::TooLarge`] are the node's fault; [`LogError::Full`] and
    /// [`LogError::Storage`] are not.
    pub fn append_from<L: AsRef<[u8]>>(
        &self,
        node: &str,
        first_seq: u64,
        leaves: &[L],
    ) -> Result<Range<u64>, LogError> {
        let leaves = leaves.iter().map(AsRef::as_ref);
        let envelope = |leaf| Some((Envelope::parse(leaf)?, leaf_hash(leaf)));
        self.take(node, first_seq, leaves.map(|leaf| (leaf, envelope(leaf))))
    }

    /// Adds entries that come from no spool, as they are. Sending them twice adds them twice.
    ///
    /// # Errors
    /// [`LogError::TooLarge`], [`LogError::Full`], [`LogError::Storage`].
    pub fn append_raw<L: AsRef<[u8]>>(&self, entries: &[L]) -> Result<Range<u64>, LogError> {
        let mut inner = self.certain()?;
        let fresh: Vec<_> = entries
            .iter()
            .map(AsRef::as_ref)
            .map(|entry| (entry, leaf_hash(entry)))
            .collect();
        self.commit(&mut inner, &fresh, None)
    }

    /// Signs the tree as it is, publishes the checkpoint at `log/checkpoint` and returns it.
    /// Writes nothing when nothing was added since the last.
    ///
    /// # Errors
    /// [`LogError::Full`], [`LogError::Storage`]; what was published before stays published.
    pub fn checkpoint(&self) -> Result<SignedCheckpoint, LogError> {
        let mut inner = self.certain()?;
        let state = &inner.loaded.state;
        if inner.loaded.head.claimed().size < state.size {
            let checkpoint = Checkpoint {
                origin: self.origin.clone(),
                size: state.size,
                root: state.root,
            };
            let signed = SignedCheckpoint::sign(checkpoint, &self.key)?;
            self.storage.replace(HEAD, signed.to_string().as_bytes())?;
            inner.loaded.head = signed;
        }
        let head = inner.loaded.head.clone();
        if inner.published.as_ref() != Some(&head) {
            self.storage
                .replace(PUBLISHED, head.to_string().as_bytes())?;
            inner.published = Some(head.clone());
        }
        Ok(head)
    }

    /// The last checkpoint signed, without signing a new one.
    #[must_use]
    pub fn signed(&self) -> SignedCheckpoint {
        self.inner.lock().loaded.head.clone()
    }

    /// The path that proves leaf `index` in the tree of the first `size` leaves.
    ///
    /// # Errors
    /// [`LogError::OutOfRange`], [`LogError::Tiles`], [`LogError::Storage`].
    pub fn inclusion_proof(&self, index: u64, size: u64) -> Result<Vec<Hash>, LogError> {
        let source = self.source(size)?;
        if index >= size {
            return Err(LogError::OutOfRange { index, size });
        }
        Ok(tree::inclusion_path(&source, index, size)?)
    }

    /// The proof that the tree of `new` leaves extends the tree of `old` leaves.
    ///
    /// # Errors
    /// [`LogError::OutOfRange`], [`LogError::Tiles`], [`LogError::Storage`].
    pub fn consistency_proof(&self, old: u64, new: u64) -> Result<Vec<Hash>, LogError> {
        let source = self.source(new)?;
        if old > new {
            return Err(LogError::OutOfRange {
                index: old,
                size: new,
            });
        }
        Ok(tree::consistency_path(&source, old, new)?)
    }

    /// The bytes of a leaf.
    ///
    /// # Errors
    /// [`LogError::OutOfRange`], [`LogError::Tiles`], [`LogError::Storage`].
    pub fn entry(&self, index: u64) -> Result<Vec<u8>, LogError> {
        let size = self.size();
        let out_of_range = LogError::OutOfRange { index, size };
        if index >= size {
            return Err(out_of_range);
        }
        let entries = self.source(size)?.entries(index / WIDTH)?;
        entries
            .into_iter()
            .nth((index % WIDTH) as usize)
            .ok_or(out_of_range)
    }

    /// The leaf with this hash.
    ///
    /// # Errors
    /// [`LogError::Tiles`], [`LogError::Storage`].
    pub fn index_of(&self, leaf_hash: &Hash) -> Result<Option<u64>, LogError> {
        self.locate(&self.inner.lock(), leaf_hash)
    }

    /// The leaves whose receipts start like this, oldest first.
    ///
    /// # Errors
    /// [`LogError::Tiles`], [`LogError::Storage`].
    pub fn find(&self, prefix: &ReceiptPrefix) -> Result<Vec<u64>, LogError> {
        let inner = self.inner.lock();
        let (low, high) = prefix.hash_range();
        let mut found = Vec::new();
        for index in inner.loaded.index.find(&*self.storage, low, high)? {
            let hash = self.hash_at(&inner, index)?;
            if hash.is_some_and(|hash| prefix.matches(&ReceiptId::from(&hash))) {
                found.push(index);
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// A portable proof of a leaf under the last checkpoint signed.
    ///
    /// # Errors
    /// [`LogError::OutOfRange`] for a leaf that no checkpoint covers yet, [`LogError::Tiles`],
    /// [`LogError::Storage`].
    pub fn receipt(&self, index: u64) -> Result<Receipt, LogError> {
        let checkpoint = self.signed();
        let proof = self.inclusion_proof(index, checkpoint.claimed().size)?;
        Ok(Receipt::new(self.entry(index)?, index, proof, checkpoint))
    }

    /// Recomputes the whole log from its entries, and compares tiles, state and last checkpoint.
    /// Appending goes on meanwhile. `progress` hears how many leaves are done, of how many.
    ///
    /// # Errors
    /// The first [`Finding`].
    pub fn verify(&self, progress: impl FnMut(u64, u64)) -> Result<Report, Finding> {
        let (state, head) = {
            let inner = self.inner.lock();
            (
                inner.loaded.state.clone(),
                inner.loaded.head.claimed().clone(),
            )
        };
        let now = Checkpoint {
            origin: state.origin,
            size: state.size,
            root: state.root,
        };
        let report = recompute(&*self.storage, PREFIX, &now, &[head], progress)?;
        let differs =
            |(node, position): &(&String, &Position)| report.nodes.get(*node) != Some(position);
        if let Some((node, position)) = state.nodes.iter().find(differs) {
            return Err(Finding::Position {
                node: node.clone(),
                seq: position.next,
            });
        }
        Ok(report)
    }

    /// The state, after finding out what a failed write left of it.
    fn certain(&self) -> Result<parking_lot::MutexGuard<'_, Inner>, LogError> {
        let mut inner = self.inner.lock();
        if inner.uncertain {
            inner.loaded = load::load(&*self.storage, &self.origin, &self.key, self.shape)?;
            inner.uncertain = false;
        }
        Ok(inner)
    }

    fn commit(
        &self,
        inner: &mut Inner,
        fresh: &[Fresh<'_>],
        position: Option<(&str, Position)>,
    ) -> Result<Range<u64>, LogError> {
        let before = inner.loaded.state.size;
        if fresh.is_empty() {
            return Ok(before..before);
        }
        if let Some((leaf, _)) = fresh.iter().find(|(leaf, _)| leaf.len() > MAX_LEAF) {
            return Err(LogError::TooLarge(leaf.len()));
        }
        let mut edge = inner.loaded.edge.clone();
        let mut full = Vec::new();
        for (leaf, hash) in fresh {
            edge.push(leaf, *hash, &mut full)?;
        }
        self.write_tiles(&full)?;
        self.write_tiles(&edge.partials(before)?)?;
        let mut state = inner.loaded.state.clone();
        state.size = edge.size;
        state.root = load::root_of(&edge)?;
        if let Some((node, position)) = position {
            state.nodes.insert(node.to_owned(), position);
        }
        if let Err(error) = load::save(&*self.storage, &state) {
            inner.uncertain = true;
            return Err(error);
        }
        let after = state.size;
        inner.loaded.state = state;
        inner.loaded.edge = edge;
        let hashes: Vec<_> = fresh.iter().map(|(_, hash)| *hash).collect();
        // What follows is derived or superfluous: if the disk fails here, the next append or the
        // next opening does it.
        let _ = inner.loaded.index.add(&*self.storage, &hashes);
        for (path, _) in &full {
            let _ = self.storage.remove(&format!("{PREFIX}{}", path.partials()));
        }
        Ok(before..after)
    }

    fn write_tiles(&self, tiles: &[edge::Tile]) -> Result<(), LogError> {
        let mut folders = BTreeSet::new();
        for (path, bytes) in tiles {
            let path = format!("{PREFIX}{path}");
            self.storage.write(&path, bytes)?;
            folders.insert(parent(&path).to_owned());
        }
        for folder in folders {
            self.storage.sync_dir(&folder)?;
        }
        Ok(())
    }

    /// The stored tree, for reading the tree of the first `size` leaves.
    fn source(&self, size: u64) -> Result<TileSource<'_>, LogError> {
        let present = self.size();
        if size > present {
            return Err(LogError::OutOfRange {
                index: size,
                size: present,
            });
        }
        Ok(TileSource {
            storage: &*self.storage,
            prefix: PREFIX,
            size: present,
        })
    }

    fn locate(&self, inner: &Inner, hash: &Hash) -> Result<Option<u64>, LogError> {
        let key = index::key(hash);
        for index in inner.loaded.index.find(&*self.storage, key, key)? {
            if self.hash_at(inner, index)?.as_ref() == Some(hash) {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    fn hash_at(&self, inner: &Inner, index: u64) -> Result<Option<Hash>, LogError> {
        let size = inner.loaded.state.size;
        let source = TileSource {
            storage: &*self.storage,
            prefix: PREFIX,
            size,
        };
        if index >= size {
            return Ok(None);
        }
        let hashes = source.hashes(0, index / WIDTH)?;
        Ok(hashes.get((index % WIDTH) as usize).copied())
    }
}
