//! Reading the log's entries in order, each bundle once.

use super::AuditError;
use countersign_ledger::log::Log;
use countersign_ledger::storage::Storage;
use countersign_ledger::tiles;
use countersign_ledger::tiles::Kind;
use countersign_ledger::tiles::TilePath;
use countersign_ledger::tiles::WIDTH;
use std::sync::Arc;

/// Where the log keeps its tiles.
const FOLDER: &str = "log";

/// The entries of a log, with the last bundle read at hand.
pub(super) struct Entries {
    storage: Arc<dyn Storage>,
    log: Arc<Log>,
    bundle: Option<Bundle>,
}

struct Bundle {
    n: u64,
    entries: Vec<Vec<u8>>,
}

impl Entries {
    pub(super) fn new(storage: Arc<dyn Storage>, log: Arc<Log>) -> Self {
        Self {
            storage,
            log,
            bundle: None,
        }
    }

    /// The bytes of a leaf.
    pub(super) fn at(&mut self, index: u64) -> Result<&[u8], AuditError> {
        let (n, place) = (
            index / WIDTH,
            usize::try_from(index % WIDTH).unwrap_or(usize::MAX),
        );
        let known = |bundle: &Bundle| bundle.n == n && place < bundle.entries.len();
        if !self.bundle.as_ref().is_some_and(known) {
            self.bundle = Some(Bundle {
                n,
                entries: self.read(n)?,
            });
        }
        let entry = self
            .bundle
            .as_ref()
            .and_then(|bundle| bundle.entries.get(place));
        entry.map(Vec::as_slice).ok_or(AuditError::Leaf(index))
    }

    fn read(&self, n: u64) -> Result<Vec<Vec<u8>>, AuditError> {
        let unreadable = || AuditError::Leaf(n * WIDTH);
        // An append meanwhile may replace a partial tile by a wider one, so ask again.
        for _ in 0..8 {
            let width = tiles::width_at(Kind::Entries, n, self.log.size());
            let path = TilePath::new(Kind::Entries, n, width).map_err(|_| unreadable())?;
            let mut bytes = self.storage.read(&format!("{FOLDER}/{path}"))?;
            if bytes.is_none() && path.is_partial() {
                bytes = self.storage.read(&format!("{FOLDER}/{}", path.full()))?;
            }
            if let Some(bytes) = bytes {
                let entries = tiles::entries(&bytes).map(|entry| entry.map(<[u8]>::to_vec));
                return entries.collect::<Result<_, _>>().map_err(|_| unreadable());
            }
        }
        Err(unreadable())
    }
}
