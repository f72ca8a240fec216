//! Spool and log with more and more records: adding, proving, verifying, starting again.

use super::Table;
use super::micros;
use super::once;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use countersign_ledger::log::Log;
use countersign_ledger::note::SigningKey;
use countersign_ledger::spool::Commit;
use countersign_ledger::spool::Spool;
use countersign_ledger::spool::SpoolOptions;
use countersign_ledger::storage::FsStorage;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

const ORIGIN: &str = "bench.internal/log";
const NODE: &str = "bench";
/// Bytes of a record: less than a real one has, so that ten million fit on a disk.
const RECORD: usize = 300;
/// Records that go to the log at a time.
const BATCH: usize = 4_096;

pub(super) fn curve(quick: bool, budget: Duration) -> Result<String> {
    let sizes: &[u64] = if quick {
        &[1_000, 10_000]
    } else {
        &[10_000, 100_000, 1_000_000, 10_000_000]
    };
    let folder = tempfile::tempdir()?;
    let storage = Arc::new(FsStorage::new(folder.path()));
    let mut table = Table::new(&[
        "records",
        "spool, µs each",
        "log, µs each",
        "prove one, µs",
        "verify the proof, µs",
        "find by receipt, µs",
        "verify all, µs each",
        "start the spool, ms",
        "start the log, ms",
    ]);
    let until = Instant::now() + budget;
    let (mut had, mut note) = (0, String::new());
    for &size in sizes {
        let (reached, figures) = point(&storage, size.saturating_sub(had), until)?;
        table.line(reached, &figures);
        had = reached;
        if reached < size {
            note = format!(
                "\nThe time for adding ({} s) was over at {} records.\n",
                budget.as_secs(),
                super::thousands(reached)
            );
            break;
        }
    }
    Ok(table.0 + &note)
}

/// Adds `more` records and measures what is there then. Gives how many that are.
fn point(storage: &Arc<FsStorage>, more: u64, until: Instant) -> Result<(u64, [f64; 8])> {
    let key = || SigningKey::from_seed(ORIGIN, &[7; 32]);
    let options = SpoolOptions {
        commit: Commit::Os,
        ..SpoolOptions::default()
    };
    let spool = Spool::open(storage.clone(), NODE, options.clone())?.0;
    let log = Log::open(storage.clone(), ORIGIN, key()?)?;
    let had = log.size();
    let added = add(&spool, &log, more, until)?;
    let reached = log.size();
    #[expect(clippy::cast_precision_loss, reason = "a count")]
    let each = |micros: f64, count: u64| micros / count.max(1) as f64;
    let [prove, verify, find] = proofs(&log)?;
    let (all, verified) = once(|| log.verify(|_, _| ()));
    all.context("the log does not verify")?;
    drop((spool, log));
    let key = key()?;
    let (log, log_opened) = once(|| Log::open(storage.clone(), ORIGIN, key));
    ensure!(log?.size() == reached, "records are gone after a start");
    let (spool, spool_opened) = once(|| Spool::open(storage.clone(), NODE, options));
    drop(spool?);
    let figures = [
        each(added[0], reached - had),
        each(added[1], reached - had),
        prove,
        verify,
        find,
        each(verified, reached),
        spool_opened / 1e3,
        log_opened / 1e3,
    ];
    Ok((reached, figures))
}

/// Appends records to the spool and ships them to the log, as a node does. Gives the microseconds
/// of the two.
fn add(spool: &Spool, log: &Log, count: u64, until: Instant) -> Result<[f64; 2]> {
    let (mut spooling, mut logging) = (0.0, 0.0);
    let mut left = count;
    while left > 0 && Instant::now() < until {
        let batch = left.min(BATCH as u64);
        let records: Vec<_> = (0..batch).map(|at| record(left - at)).collect();
        let (done, took) = once(|| {
            records
                .into_iter()
                .try_for_each(|record| spool.append_blocking(record).map(drop))
        });
        done?;
        spooling += took;
        let (done, took) = once(|| ship(spool, log));
        done?;
        logging += took;
        left -= batch;
    }
    Ok([spooling, logging])
}

fn ship(spool: &Spool, log: &Log) -> Result<()> {
    loop {
        let next = log.position(NODE).map_or(0, |position| position.next);
        let leaves = spool.read_from(next, BATCH)?;
        if leaves.is_empty() {
            break;
        }
        let leaves: Vec<_> = leaves.into_iter().map(|it| it.leaf).collect();
        log.append_from(NODE, next, &leaves)?;
    }
    log.checkpoint()?;
    let next = log.position(NODE).map_or(0, |position| position.next);
    Ok(spool.forget_before(next)?)
}

fn record(number: u64) -> Vec<u8> {
    let filling = "x".repeat(RECORD.saturating_sub(40));
    format!("{{\"facts\":\"{filling}\",\"number\":{number}}}").into_bytes()
}

/// What proofs of leaves all over the log cost: to make, to verify, to find.
fn proofs(log: &Log) -> Result<[f64; 3]> {
    let size = log.size();
    let mut at = 0_u64;
    // A stride that visits leaves far from each other (the golden ratio of 64 bits).
    let mut next = || {
        at = at.wrapping_add(0x9E37_79B9_7F4A_7C15);
        at % size
    };
    let one = log.receipt(size / 2)?;
    one.verify(log.verifier(), None)?;
    let prove = micros(&mut next, |index| log.receipt(index).is_ok());
    let verify = micros(|| (), |()| one.verify(log.verifier(), None).is_ok());
    let hash = countersign_ledger::tree::leaf_hash(one.leaf());
    ensure!(log.index_of(&hash)? == Some(size / 2), "not found");
    let mut hashes = Vec::with_capacity(256);
    for _ in 0..256 {
        hashes.push(countersign_ledger::tree::leaf_hash(&log.entry(next())?));
    }
    let mut hashes = hashes.iter().cycle();
    let find = micros(
        || hashes.next(),
        |hash| hash.is_some_and(|hash| log.index_of(hash).is_ok()),
    );
    Ok([prove, verify, find])
}
