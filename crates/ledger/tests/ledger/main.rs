//! What the ledger promises, on disks that fail in every way they may.
#![expect(
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests outside test functions"
)]

mod conformance;
mod damage;
mod disk;
mod faults;
mod index;
mod json_traps;
mod late;
mod log;
mod parsers;
mod power_cut;
mod recent;
mod spool;
mod tamper;
mod verifier;

use countersign_ledger::log::Log;
use countersign_ledger::note::SigningKey;
use countersign_ledger::spool::Commit;
use countersign_ledger::spool::Promise;
use countersign_ledger::spool::Recovered;
use countersign_ledger::spool::Spool;
use countersign_ledger::spool::SpoolError;
use countersign_ledger::spool::SpoolOptions;
use countersign_ledger::storage::Storage;
use std::sync::Arc;

const ORIGIN: &str = "audit.test.example/log";

fn key() -> SigningKey {
    SigningKey::from_seed(ORIGIN, &[7; 32]).unwrap()
}

fn record(n: u64) -> Vec<u8> {
    format!(
        "{{\"n\":{n},\"text\":\"{}\"}}",
        "r".repeat((n * 37 % 300) as usize)
    )
    .into_bytes()
}

/// Small segments, so that rotation is part of every test.
fn options(commit: Commit) -> SpoolOptions {
    SpoolOptions {
        commit,
        segment_bytes: 4096,
        batch_records: 8,
        ..SpoolOptions::default()
    }
}

fn open_spool(disk: &Arc<disk::Disk>, commit: Commit) -> Result<(Spool, Recovered), SpoolError> {
    Spool::open(
        Arc::clone(disk) as Arc<dyn Storage>,
        "gw-1",
        options(commit),
    )
}

fn open_log(disk: &Arc<disk::Disk>) -> Result<Log, countersign_ledger::log::LogError> {
    Log::open(Arc::clone(disk) as Arc<dyn Storage>, ORIGIN, key())
}

/// Appends numbered records at once and returns what each was answered.
fn append_many(spool: &Spool, numbers: std::ops::Range<u64>) -> Vec<Result<Promise, SpoolError>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut waiting = tokio::task::JoinSet::new();
        for n in numbers.clone() {
            let spool = spool.clone();
            waiting.spawn(async move { (n, spool.append(record(n)).await) });
        }
        let mut answers = waiting.join_all().await;
        answers.sort_by_key(|(n, _)| *n);
        answers.into_iter().map(|(_, answer)| answer).collect()
    })
}

/// The leaves of a node of its own making, as its spool would chain them.
fn leaves(node: &str, count: u64) -> Vec<Vec<u8>> {
    let disk = disk::Disk::new(0);
    let storage = Arc::clone(&disk) as Arc<dyn Storage>;
    let (spool, _) = Spool::open(storage, node, options(Commit::Os)).unwrap();
    for n in 0..count {
        let _promise = spool.append_blocking(record(n)).unwrap();
    }
    let leaves = spool.read_from(0, count as usize).unwrap();
    leaves.into_iter().map(|leaf| leaf.leaf.to_vec()).collect()
}
