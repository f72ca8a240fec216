//! The audit of a deployment: from the nodes' spools into the one log, and out of it again.
//!
//! One sequencer takes leaves in the order in which each node wrote them, exactly once by (node,
//! sequence); the log itself holds how far it is with each node, so nothing is lost or doubled
//! whatever stops when. A spool forgets a segment only when its leaves are under a signed
//! checkpoint. `zt_audit` in the store follows behind and can always be made again: the entries
//! are the truth.

mod course;
mod entries;
mod fresh;
mod index;
mod rows;

pub use self::course::Course;
use self::entries::Entries;
use self::fresh::Fresh;
use crate::store::Search;
use crate::store::Store;
use crate::store::StoreError;
use countersign_ledger::ReceiptId;
use countersign_ledger::ReceiptPrefix;
use countersign_ledger::checkpoint::SignedCheckpoint;
use countersign_ledger::log::Finding;
use countersign_ledger::log::Log;
use countersign_ledger::log::LogError;
use countersign_ledger::log::ReadLeaf;
use countersign_ledger::log::Report;
use countersign_ledger::note::SigningKey;
use countersign_ledger::note::VerifierKey;
use countersign_ledger::receipt::Receipt;
use countersign_ledger::spool::Spool;
use countersign_ledger::spool::SpoolError;
use countersign_ledger::spool::SpooledLeaf;
use countersign_ledger::storage::Storage;
use countersign_ledger::storage::StorageError;
use countersign_wire::admin::RecordEntry;
use countersign_wire::control::ControlError;
use countersign_wire::control::Delivery;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::Notify;
use tokio::sync::watch;

/// A record is in the log, under a signed checkpoint, at most so long after its promise.
pub const MERGE_BOUND: Duration = Duration::from_secs(5);

/// The sequencer waits so long after a new record for others to share the checkpoint.
const GATHER: Duration = Duration::from_millis(200);

/// How long it waits after a failure.
const RETRY: Duration = Duration::from_secs(1);

/// Leaves taken into the log at once.
const BATCH: usize = 2048;

/// The search index follows when so many leaves are missing in it, or after so long. Whoever searches
/// does not wait for either.
const UNINDEXED: u64 = 4096;
const INDEXED_EVERY: Duration = Duration::from_secs(1);

/// Why the audit can't be kept, searched or proved.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The log refused or failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The spool can't be read.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The folder of the log can't be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The log is not what was signed.
    #[error("the log was changed: {0}")]
    Finding(#[from] Finding),
    /// The search index is not what the log's entries say.
    #[error("the search index was changed: {0}")]
    Difference(#[from] Difference),
    /// The spool has fewer records than the log took from it: it was put back or replaced.
    #[error("the spool of `{node}` is at record `{spool}`, but the log has had `{log}` of it")]
    Regressed {
        /// The node.
        node: String,
        /// The spool's next record.
        spool: u64,
        /// The record the log wants next.
        log: u64,
    },
    /// A remote node delivers records in this node's name.
    #[error("`{0}` is this node, which delivers to nobody")]
    OwnNode(String),
    /// No receipt, and no start of one.
    #[error("`{0}` is no receipt: expected `r-` and up to twelve letters and digits")]
    NotAReceipt(String),
    /// There is no such record.
    #[error("there is no record `{0}`")]
    NotFound(String),
    /// More than one record's receipt starts like this.
    #[error("`{prefix}` is the start of {} receipts: {}", .receipts.len(), .receipts.join(", "))]
    Ambiguous {
        /// What was asked for.
        prefix: String,
        /// What it may mean.
        receipts: Vec<String>,
    },
    /// The record is known, but was not in the log in time.
    #[error("record `{0}` is not in the log yet")]
    NotMerged(String),
    /// The bundle that should hold this leaf can't be read.
    #[error("leaf `{0}` of the log can't be read")]
    Leaf(u64),
    /// The process is ending.
    #[error("interrupted: the process is ending")]
    Interrupted,
}

/// The first place where the search index is not what the log's entries make.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// A row has another value.
    #[error("the row of leaf `{leaf}` (`{receipt}`) has another `{column}` than the log")]
    Column {
        /// The leaf.
        leaf: u64,
        /// Its receipt.
        receipt: String,
        /// The column.
        column: &'static str,
    },
    /// A row has a value that can't be read.
    #[error("the row of leaf `{leaf}` has an unreadable `{column}`")]
    Unreadable {
        /// The leaf.
        leaf: u64,
        /// The column.
        column: &'static str,
    },
    /// A leaf has no row.
    #[error("leaf `{leaf}` (`{receipt}`) has no row")]
    Missing {
        /// The leaf.
        leaf: u64,
        /// Its receipt.
        receipt: String,
    },
    /// A row has no leaf.
    #[error("there is a row for leaf `{leaf}`, which the log does not have")]
    Extra {
        /// The leaf the row claims.
        leaf: u64,
    },
}

/// The log of a deployment with this node's spool and the search index.
#[derive(Debug)]
pub struct Audit {
    log: Arc<Log>,
    storage: Arc<dyn Storage>,
    store: Store,
    spool: Spool,
    /// Held by whoever sequences, indexes or rebuilds.
    sequencing: tokio::sync::Mutex<Indexed>,
    /// Rows that the index does not have yet.
    fresh: Arc<Fresh>,
    /// Leaves under the last signed checkpoint.
    signed: watch::Sender<u64>,
    /// Remote leaves came in.
    delivered: Notify,
}

/// How far the search index is.
#[derive(Debug)]
struct Indexed {
    leaves: u64,
    at: Instant,
}

impl Audit {
    /// Opens the log below `storage`, takes over what the spool still has, and brings the index up
    /// to date.
    ///
    /// # Errors
    /// [`AuditError`]; a log, spool or index that was changed is named. A changed index is only
    /// logged: the log goes on, and [`Self::verify`] says what it is.
    pub async fn open(
        storage: Arc<dyn Storage>,
        origin: &str,
        key: SigningKey,
        spool: Spool,
        store: Store,
    ) -> Result<Self, AuditError> {
        let (below, origin) = (storage.clone(), origin.to_owned());
        let log = blocking(move || Ok(Log::open(below, &origin, key)?)).await?;
        let (node, head) = (spool.node().to_owned(), spool.head().next);
        if let Some(position) = log.position(&node).filter(|position| position.next > head) {
            return Err(AuditError::Regressed {
                node,
                spool: head,
                log: position.next,
            });
        }
        let audit = Self {
            signed: watch::Sender::new(log.signed().claimed().size),
            log: Arc::new(log),
            storage,
            store,
            spool,
            sequencing: tokio::sync::Mutex::new(Indexed {
                leaves: 0,
                at: Instant::now(),
            }),
            fresh: Arc::default(),
            delivered: Notify::new(),
        };
        match audit.advance().await {
            Err(AuditError::Difference(difference)) => tracing::error!(%difference, "search index"),
            advanced => {
                advanced?;
            }
        }
        Ok(audit)
    }

    /// Sequences until `stop` is done, then once more. Failures are logged and tried again.
    pub async fn run(&self, stop: impl Future<Output = ()> + Send) {
        let mut stop = pin!(stop);
        let mut head = self.spool.watch();
        loop {
            let pause = match self.step(false).await {
                Ok(_) => GATHER,
                Err(error) => {
                    tracing::error!(%error, "the log does not advance");
                    RETRY
                }
            };
            let more = async {
                tokio::select! {
                    _ = head.changed() => {}
                    () = self.delivered.notified() => {}
                    // After a failure nothing new may come, but there is still what failed.
                    () = tokio::time::sleep(RETRY) => {}
                }
                tokio::time::sleep(pause).await;
            };
            tokio::select! {
                () = &mut stop => break,
                () = more => {}
            }
        }
        if let Err(error) = self.advance().await {
            tracing::error!(%error, "the log misses the last records; they are in the spool");
        }
    }

    /// Takes what the spool has into the log, signs a checkpoint, lets the spool forget what is
    /// under it, and brings the index up to date. Returns the leaves under the checkpoint.
    ///
    /// # Errors
    /// [`AuditError`]; what was done so far stays.
    pub async fn advance(&self) -> Result<u64, AuditError> {
        self.step(true).await
    }

    /// The same, with the index brought up to date only if it is time or if told to.
    async fn step(&self, up_to_date: bool) -> Result<u64, AuditError> {
        let mut indexed = self.sequencing.lock().await;
        let (log, spool, fresh) = (self.log.clone(), self.spool.clone(), self.fresh.clone());
        let size = blocking(move || sequence(&log, &spool, &fresh)).await?;
        self.signed
            .send_if_modified(|signed| std::mem::replace(signed, size) != size);
        let missing = size.saturating_sub(indexed.leaves);
        if up_to_date || missing >= UNINDEXED || indexed.at.elapsed() >= INDEXED_EVERY {
            self.index(&mut indexed, size).await?;
        }
        Ok(size)
    }

    /// Brings the index up to so many leaves.
    async fn index(&self, indexed: &mut Indexed, size: u64) -> Result<(), AuditError> {
        index::catch_up(&self.store, self.entries(), &self.fresh, size).await?;
        *indexed = Indexed {
            leaves: size,
            at: Instant::now(),
        };
        Ok(())
    }

    /// Brings the index up to what is signed, for whoever searches. Where that can't be done, what
    /// is indexed is found all the same.
    async fn level(&self) {
        let size = *self.signed.borrow();
        let mut indexed = self.sequencing.lock().await;
        if indexed.leaves < size
            && let Err(error) = self.index(&mut indexed, size).await
        {
            tracing::error!(%error, "the search index is behind the log");
        }
    }

    /// Takes records of a remote node's spool. Returns the sequence wanted next; sending again is
    /// safe. That it is that node which sends them is for the caller to know.
    ///
    /// # Errors
    /// [`AuditError::Log`] with [`LogError::Gap`] if records are missing before them, and the
    /// node's other faults.
    pub async fn deliver(&self, records: Delivery) -> Result<u64, AuditError> {
        if records.node.as_str() == self.spool.node() {
            return Err(AuditError::OwnNode(records.node.to_string()));
        }
        let (log, fresh) = (self.log.clone(), self.fresh.clone());
        let next = blocking(move || {
            let Delivery {
                first,
                leaves,
                node,
            } = records;
            // Before the log is held: others are waiting for it.
            let leaves: Vec<_> = leaves.iter().map(|leaf| ReadLeaf::new(leaf)).collect();
            let added = log.append_read(node.as_str(), first, &leaves)?;
            fresh.keep(added, leaves.into_iter(), rows::row_read);
            Ok(log
                .position(node.as_str())
                .map_or(0, |position| position.next))
        });
        let next = next.await?;
        self.delivered.notify_one();
        Ok(next)
    }

    /// The log's name.
    #[must_use]
    pub fn origin(&self) -> &str {
        self.log.origin()
    }

    /// The key that verifies checkpoints, to be handed out some other way.
    #[must_use]
    pub fn verifier(&self) -> &VerifierKey {
        self.log.verifier()
    }

    /// The last signed checkpoint.
    #[must_use]
    pub fn signed(&self) -> SignedCheckpoint {
        self.log.signed()
    }

    /// Wakes whoever shows checkpoints: the leaves under the last one signed.
    #[must_use]
    pub fn growth(&self) -> watch::Receiver<u64> {
        self.signed.subscribe()
    }

    /// The log itself.
    #[must_use]
    pub const fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// The record whose receipt is this, or starts like this; from the spool if it is not in the
    /// log yet.
    ///
    /// # Errors
    /// [`AuditError::NotAReceipt`], [`AuditError::NotFound`], [`AuditError::Ambiguous`].
    pub async fn lookup(&self, receipt: &str) -> Result<RecordEntry, AuditError> {
        let prefix = parse(receipt)?;
        let found = self.find(receipt, prefix).await?;
        found.ok_or_else(|| AuditError::NotFound(receipt.to_owned()))
    }

    /// The records that match, oldest first.
    ///
    /// # Errors
    /// [`AuditError`].
    pub async fn search(&self, search: &Search) -> Result<Vec<RecordEntry>, AuditError> {
        self.level().await;
        let found = self.store.search(search).await?;
        let mut entries = self.entries();
        blocking(move || {
            let entry = |row: &crate::store::IndexRow| {
                Ok(rows::entry(
                    Some(row.leaf_index),
                    entries.at(row.leaf_index)?,
                ))
            };
            found.iter().map(entry).collect()
        })
        .await
    }

    /// The portable proof of a record, by its receipt or a start of it. Waits until the record is
    /// under a signed checkpoint, at most [`MERGE_BOUND`].
    ///
    /// # Errors
    /// [`AuditError::NotFound`], [`AuditError::Ambiguous`]; [`AuditError::NotMerged`] if the time
    /// is over.
    pub async fn prove(&self, receipt: &str) -> Result<Receipt, AuditError> {
        let prefix = parse(receipt)?;
        let mut signed = self.signed.subscribe();
        let deadline = tokio::time::Instant::now() + MERGE_BOUND;
        loop {
            let size = *signed.borrow_and_update();
            let found = self.find(receipt, prefix).await?;
            let found = found.ok_or_else(|| AuditError::NotFound(receipt.to_owned()))?;
            if let Some(index) = found.index.filter(|index| *index < size) {
                let log = self.log.clone();
                return blocking(move || Ok(log.receipt(index)?)).await;
            }
            let changed = tokio::time::timeout_at(deadline, signed.changed()).await;
            if !matches!(changed, Ok(Ok(()))) {
                return Err(AuditError::NotMerged(receipt.to_owned()));
            }
        }
    }

    /// Recomputes the log from its entries, and compares the search index with them.
    ///
    /// # Errors
    /// [`AuditError::Finding`] or [`AuditError::Difference`] naming the first difference.
    pub async fn verify(&self) -> Result<Report, AuditError> {
        let size = self.advance().await?;
        let log = self.log.clone();
        let report = blocking(move || Ok(log.verify(|_, _| {})?)).await?;
        // Rows for leaves that come in meanwhile are not extra.
        let _sequencing = self.sequencing.lock().await;
        let size = size.max(self.store.indexed().await?.min(self.log.size()));
        index::compare(&self.store, self.entries(), size).await?;
        Ok(report)
    }

    /// Makes the search index anew from the entries.
    ///
    /// # Errors
    /// [`AuditError`].
    pub async fn rebuild(&self) -> Result<u64, AuditError> {
        let mut indexed = self.sequencing.lock().await;
        let size = self.log.size();
        self.store.reset_index().await?;
        self.index(&mut indexed, size).await?;
        Ok(size)
    }

    fn entries(&self) -> Entries {
        Entries::new(self.storage.clone(), self.log.clone())
    }

    /// The one record whose receipt starts like this.
    async fn find(
        &self,
        asked: &str,
        prefix: ReceiptPrefix,
    ) -> Result<Option<RecordEntry>, AuditError> {
        let (log, spool, mut entries) = (self.log.clone(), self.spool.clone(), self.entries());
        let found = blocking(move || {
            // The spool first: what leaves it in between is then found in the log.
            let waiting = unsequenced(&log, &spool, &prefix)?;
            let mut found = Vec::new();
            for index in log.find(&prefix)? {
                found.push(rows::entry(Some(index), entries.at(index)?));
            }
            let seen = |receipt: &str, found: &[RecordEntry]| {
                found.iter().any(|entry| entry.receipt == receipt)
            };
            for leaf in waiting {
                let entry = rows::entry(None, &leaf.leaf);
                if !seen(&entry.receipt, &found) {
                    found.push(entry);
                }
            }
            Ok(found)
        });
        let mut found = found.await?;
        if found.len() > 1 {
            let receipts = found.into_iter().map(|entry| entry.receipt).collect();
            return Err(AuditError::Ambiguous {
                prefix: asked.to_owned(),
                receipts,
            });
        }
        Ok(found.pop())
    }
}

impl From<AuditError> for ControlError {
    fn from(error: AuditError) -> Self {
        match error {
            AuditError::Log(LogError::Gap { expected, .. }) => {
                Self::OutOfOrder { wanted: expected }
            }
            other => Self::Unavailable(other.to_string()),
        }
    }
}

/// Takes what is in the spool now into the log and signs it.
fn sequence(log: &Log, spool: &Spool, fresh: &Fresh) -> Result<u64, AuditError> {
    let end = spool.head().next;
    let mut next = log
        .position(spool.node())
        .map_or(0, |position| position.next);
    while next < end {
        let leaves = spool.read_from(next, BATCH)?;
        let added = log.append_spooled(spool.node(), &leaves)?;
        let row = |index, it: &SpooledLeaf| rows::row_of(index, it.leaf_hash, &it.leaf);
        fresh.keep(added, leaves.iter(), row);
        let advanced = next + leaves.len() as u64;
        if advanced == next {
            break;
        }
        next = advanced;
    }
    let size = log.checkpoint()?.claimed().size;
    spool.forget_before(next)?;
    Ok(size)
}

/// The records that match and are in the spool only.
fn unsequenced(
    log: &Log,
    spool: &Spool,
    prefix: &ReceiptPrefix,
) -> Result<Vec<SpooledLeaf>, AuditError> {
    let mut next = log
        .position(spool.node())
        .map_or(0, |position| position.next);
    let mut found = Vec::new();
    loop {
        let leaves = match spool.read_from(next, BATCH) {
            // Sequenced and forgotten in between, so it is in the log.
            Err(SpoolError::Forgotten { first }) => {
                next = first;
                continue;
            }
            leaves => leaves?,
        };
        if leaves.is_empty() {
            return Ok(found);
        }
        next += leaves.len() as u64;
        let matches = |leaf: &SpooledLeaf| prefix.matches(&ReceiptId::from(&leaf.leaf_hash));
        found.extend(leaves.into_iter().filter(matches));
    }
}

fn parse(receipt: &str) -> Result<ReceiptPrefix, AuditError> {
    let shown = || receipt.escape_debug().take(64).collect();
    receipt
        .parse()
        .map_err(|_| AuditError::NotAReceipt(shown()))
}

/// Runs what reads and writes files beside the runtime's own threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AuditError> + Send + 'static,
) -> Result<T, AuditError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| AuditError::Interrupted)?
}
