//! What a stopped or killed server left on disk, read without it.

use crate::site::Site;
use countersign_ledger::ReceiptId;
use countersign_ledger::checkpoint::SignedCheckpoint;
use countersign_ledger::log::recompute;
use countersign_ledger::note::VerifierKey;
use countersign_ledger::spool::Spool;
use countersign_ledger::spool::SpoolOptions;
use countersign_ledger::storage::FsStorage;
use countersign_ledger::tiles;
use countersign_ledger::tiles::WIDTH;
use countersign_ledger::tree;
use serde_json::Value;
use std::collections::HashMap;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

/// Every record so far, in the order of the node's chain.
#[derive(Default)]
pub(crate) struct Records {
    /// The hash of each leaf, by its sequence.
    chain: Vec<countersign_ledger::Hash>,
    by_receipt: HashMap<String, usize>,
    /// Decisions by what they were about (`api/items/7`), and whether it was allowed.
    decisions: HashMap<String, Vec<Decision>>,
}

pub(crate) struct Decision {
    pub(crate) allowed: bool,
    pub(crate) receipt: String,
}

impl Records {
    /// Reads what a killed server left, before the next one repairs it: the spool in a copy, so
    /// that nothing is repaired here. Returns how many records are new.
    ///
    /// The log's leaves must be the start of the spool's, and what was read an earlier time must
    /// still be there.
    pub(crate) fn read(&mut self, site: &Site, key: &str) -> usize {
        let copy = tempfile::tempdir().unwrap();
        let spool = Path::new("spool/main");
        std::fs::create_dir_all(copy.path().join(spool)).unwrap();
        for entry in std::fs::read_dir(site.data().join(spool)).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(
                entry.path(),
                copy.path().join(spool).join(entry.file_name()),
            )
            .unwrap();
        }
        let storage = Arc::new(FsStorage::new(copy.path()));
        let (spool, _) = Spool::open(storage, "main", SpoolOptions::default()).unwrap();
        let head = spool.verify().expect("the spool's chain is broken");
        let before = self.chain.len();
        if let Some(last) = before.checked_sub(1) {
            let kept = spool.read_from(last as u64, 1).unwrap();
            let kept = kept.first().map(|leaf| leaf.leaf_hash);
            assert_eq!(
                kept,
                self.chain.last().copied(),
                "records were lost or changed"
            );
        }
        for leaf in spool.read_from(before as u64, usize::MAX).unwrap() {
            assert_eq!(leaf.seq, self.chain.len() as u64);
            self.add(leaf.leaf_hash, &leaf.leaf);
        }
        assert_eq!(head.next, self.chain.len() as u64);
        let log = Merged::read(&site.data().join("log"), key);
        assert!(
            log.leaves.len() <= self.chain.len(),
            "the log has more than the spool"
        );
        assert_eq!(
            log.leaves,
            self.chain[..log.leaves.len()],
            "log and spool differ"
        );
        self.chain.len() - before
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.chain.len()
    }

    /// Checks that the log has all of them, each once and in order.
    pub(crate) fn are_all_in(&self, log: &Merged) {
        assert_eq!(
            log.leaves.len(),
            self.chain.len(),
            "records are missing in the log"
        );
        assert_eq!(log.leaves, self.chain);
    }

    /// Whether there is a record with this receipt.
    pub(crate) fn has(&self, receipt: &str) -> bool {
        self.by_receipt.contains_key(receipt)
    }

    /// The decisions about a resource.
    pub(crate) fn decisions(&self, resource: &str) -> &[Decision] {
        self.decisions.get(resource).map_or(&[], Vec::as_slice)
    }

    fn add(&mut self, hash: countersign_ledger::Hash, leaf: &[u8]) {
        let receipt = ReceiptId::from(&hash).to_string();
        let before = self.by_receipt.insert(receipt.clone(), self.chain.len());
        assert_eq!(before, None, "record {receipt} is there twice");
        self.chain.push(hash);
        let leaf: Value = serde_json::from_slice(leaf).unwrap();
        let record = &leaf["record"];
        if record["kind"] == "decision" {
            let resource = record["resource"]["id"].as_str().unwrap().to_owned();
            let allowed = record["status"] == "success";
            assert_eq!(allowed, record["code"].is_null(), "{record}");
            let decision = Decision { allowed, receipt };
            self.decisions.entry(resource).or_default().push(decision);
        }
    }
}

/// What the log holds under its signed checkpoint.
pub(crate) struct Merged {
    leaves: Vec<countersign_ledger::Hash>,
}

impl Merged {
    /// Reads a log, of which every hash and chain must be right.
    pub(crate) fn read(folder: &Path, key: &str) -> Self {
        let key: VerifierKey = key.parse().unwrap();
        let Ok(signed) = std::fs::read(folder.join("checkpoint")) else {
            // Killed before the first checkpoint.
            return Self { leaves: Vec::new() };
        };
        let signed = SignedCheckpoint::parse(&signed).unwrap();
        signed
            .verify(&key)
            .expect("the checkpoint is not signed by the log's key");
        let checkpoint = signed.claimed();
        let report = recompute(&FsStorage::new(folder), "", checkpoint, &[], |_, _| {});
        let report = report.expect("the log is not what its checkpoint says");
        assert_eq!(
            report.chained, checkpoint.size,
            "a leaf is outside its node's chain"
        );
        let mut leaves = Vec::new();
        for n in 0..checkpoint.size.div_ceil(WIDTH) {
            let width = (checkpoint.size - n * WIDTH).min(WIDTH);
            let bytes = bundle(&folder.join("tile/entries"), n, width);
            let hash = |entry: Result<&[u8], _>| tree::leaf_hash(entry.unwrap());
            let entries = tiles::entries(&bytes).map(hash);
            leaves.extend(entries.take(usize::try_from(width).unwrap()));
        }
        assert_eq!(leaves.len() as u64, checkpoint.size);
        Self { leaves }
    }

    /// The receipts of its leaves.
    pub(crate) fn receipts(&self) -> HashSet<String> {
        let receipts = self
            .leaves
            .iter()
            .map(|hash| ReceiptId::from(hash).to_string());
        receipts.collect()
    }
}

/// A bundle of entries of this width, or the full one that has replaced it. A log of these tests
/// has fewer than 256,000 leaves, so the names are `000` to `999`, partial ones `000.p/1` to
/// `000.p/255`.
fn bundle(folder: &Path, n: u64, width: u64) -> Vec<u8> {
    let partial = std::fs::read(folder.join(format!("{n:03}.p/{width}")));
    partial.unwrap_or_else(|_| std::fs::read(folder.join(format!("{n:03}"))).unwrap())
}
