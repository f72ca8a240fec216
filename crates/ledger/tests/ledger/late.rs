//! Records that nobody waits for, and appends that share a write.

use crate::disk::Disk;
use crate::disk::Fault;
use crate::open_spool;
use crate::record;
use countersign_ledger::JsonObject;
use countersign_ledger::NotAnObject;
use countersign_ledger::spool::Commit;
use countersign_ledger::spool::Spool;
use countersign_ledger::spool::SpoolError;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

fn never(error: &SpoolError) {
    panic!("{error}");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
}

fn writes(disk: &Disk) -> usize {
    let trace = disk.trace();
    trace
        .iter()
        .filter(|line| line.starts_with("write "))
        .count()
}

/// The records of a spool, in order.
fn records(spool: &Spool) -> Vec<String> {
    let leaves = spool.read_from(0, 10_000).unwrap();
    let text = |leaf: &[u8]| String::from_utf8(leaf.to_vec()).unwrap();
    leaves.iter().map(|leaf| text(&leaf.leaf)).collect()
}

#[test]
fn a_late_record_goes_to_the_disk_with_the_next_one() {
    // The thread that would write it by itself may be faster, but not each time.
    let shared = (0..1000).any(|_| {
        let disk = Disk::new(0);
        let (spool, _) = open_spool(&disk, Commit::Os).unwrap();
        let before = writes(&disk);
        spool.append_late(record(0), never).unwrap();
        assert_eq!(spool.append_blocking(record(1)).unwrap().seq(), 1);
        let records = records(&spool);
        assert!(records[0].contains("\"n\":0") && records[1].contains("\"n\":1"));
        writes(&disk) == before + 1
    });
    assert!(shared);
}

#[test]
fn a_late_record_is_there_for_whoever_reads_flushes_or_opens_the_spool_anew() {
    for commit in [Commit::Fsync, Commit::Os] {
        let disk = Disk::new(0);
        let (spool, _) = open_spool(&disk, commit).unwrap();
        for n in 0..300 {
            spool.append_late(record(n), never).unwrap();
        }
        runtime().block_on(spool.flush()).unwrap();
        assert_eq!(spool.head().next, 300);
        spool.append_late(record(300), never).unwrap();
        if commit == Commit::Os {
            assert_eq!(spool.head().next, 301);
            spool.append_late(record(301), never).unwrap();
            assert_eq!(records(&spool).len(), 302);
        }
        spool.append_late(record(302), never).unwrap();
        let next = if commit == Commit::Os { 303 } else { 302 };
        drop(spool);
        let (spool, recovered) = open_spool(&disk.after_kill(), commit).unwrap();
        assert_eq!((recovered.head.next, recovered.truncated_bytes), (next, 0));
        assert_eq!(spool.verify().unwrap().next, next);
    }
}

#[test]
fn a_late_record_is_written_though_nobody_asks() {
    let runtime = runtime();
    for commit in [Commit::Fsync, Commit::Os] {
        let disk = Disk::new(0);
        let (spool, _) = open_spool(&disk, commit).unwrap();
        for n in 0..5 {
            let mut watch = spool.watch();
            watch.mark_unchanged();
            spool.append_late(record(n), never).unwrap();
            let written = watch.wait_for(|head| head.next == n + 1);
            let hang = Duration::from_secs(60);
            let written = runtime.block_on(async { tokio::time::timeout(hang, written).await });
            assert!(written.unwrap().is_ok(), "{commit:?}");
        }
    }
}

#[test]
fn a_late_record_that_can_t_be_written_is_told_of_and_holds_up_nobody() {
    static LOST: AtomicUsize = AtomicUsize::new(0);
    fn lost(error: &SpoolError) {
        assert!(matches!(error, SpoolError::Full), "{error}");
        LOST.fetch_add(1, Ordering::SeqCst);
    }
    for (so_far, commit) in [(0, Commit::Fsync), (3, Commit::Os)] {
        let disk = Disk::new(0);
        let (spool, _) = open_spool(&disk, commit).unwrap();
        disk.set_full(true);
        for n in 0..3 {
            spool.append_late(record(n), lost).unwrap();
        }
        runtime().block_on(spool.flush()).unwrap();
        assert_eq!(LOST.load(Ordering::SeqCst), so_far + 3);
        assert_eq!(spool.head().next, 0);
        disk.set_full(false);
        assert_eq!(spool.append_blocking(record(9)).unwrap().seq(), 0);
        let bad = spool.append_late(b"[]".to_vec(), lost);
        assert!(matches!(bad, Err(SpoolError::NotAnObject)));
    }
}

#[test]
fn what_could_not_be_made_an_object_is_refused_like_what_is_none() {
    let disk = Disk::new(0);
    let (spool, _) = open_spool(&disk, Commit::Os).unwrap();
    let written: Result<JsonObject, NotAnObject> = JsonObject::write(&[1]);
    let refused = spool.append_blocking(written);
    assert!(matches!(refused, Err(SpoolError::NotAnObject)));
    let object = JsonObject::try_from(record(5)).unwrap();
    let promise = spool.append_blocking(object.clone()).unwrap();
    assert!(promise.covers(&object) && promise.covers(&record(5)));
    assert!(!promise.covers(&record(6)));
}

#[test]
fn of_many_at_once_on_a_failing_disk_each_hears_what_became_of_its_own() {
    for (seed, commit) in (0..40).zip([Commit::Os, Commit::Fsync].into_iter().cycle()) {
        let disk = Disk::new(seed);
        let (spool, _) = open_spool(&disk, commit).unwrap();
        for at in 0..30 {
            let fault = if at % 2 == 0 {
                Fault::NoSpace
            } else {
                Fault::Broken
            };
            disk.fail_at(disk.operations() + 3 + at * 7, fault);
        }
        let promised = Mutex::new(BTreeSet::new());
        let refused = AtomicUsize::new(0);
        // All of them wait for the same file.
        let hanging = disk.hang();
        std::thread::scope(|scope| {
            for task in 0..8 {
                let (spool, promised, refused) = (spool.clone(), &promised, &refused);
                scope.spawn(move || {
                    for n in 0..25 {
                        match spool.append_blocking(record(task * 100 + n)) {
                            Ok(promise) => {
                                assert!(promise.covers(&record(task * 100 + n)));
                                let key = (promise.seq(), *promise.leaf_hash());
                                assert!(promised.lock().unwrap().insert(key));
                            }
                            Err(_) => {
                                refused.fetch_add(1, Ordering::SeqCst);
                            }
                        }
                    }
                });
            }
            drop(hanging);
        });
        let promised = promised.into_inner().unwrap();
        let found = spool.read_from(0, 1000).unwrap();
        let found: BTreeSet<_> = found
            .iter()
            .map(|leaf| (leaf.seq, leaf.leaf_hash))
            .collect();
        assert_eq!(found, promised, "seed {seed}");
        assert_eq!(promised.len() + refused.load(Ordering::SeqCst), 200);
        assert!(refused.load(Ordering::SeqCst) > 0, "seed {seed}");
        assert_eq!(spool.verify().unwrap(), spool.head());
        drop(spool);
        let after = Arc::clone(&disk).after_kill();
        let (spool, _) = open_spool(&after, commit).unwrap();
        let again = spool.read_from(0, 1000).unwrap();
        let again: BTreeSet<_> = again
            .iter()
            .map(|leaf| (leaf.seq, leaf.leaf_hash))
            .collect();
        assert!(again.is_superset(&promised), "seed {seed}");
    }
}
