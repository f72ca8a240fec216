//! Full disks and broken ones, at every point in turn.

use crate::append_many;
use crate::disk::Disk;
use crate::disk::Fault;
use crate::disk::Random;
use crate::leaves;
use crate::open_log;
use crate::open_spool;
use crate::options;
use crate::record;
use countersign_ledger::log::LogError;
use countersign_ledger::spool::Commit;
use countersign_ledger::spool::Spool;
use countersign_ledger::spool::SpoolError;
use countersign_ledger::spool::SpoolOptions;
use std::sync::Arc;

/// One append after the other, with one fault at each operation in turn.
fn spool_with_a_fault_at_each_operation(commit: Commit, fault: Fault) {
    let quiet = Disk::new(0);
    let (spool, _) = open_spool(&quiet, commit).unwrap();
    for n in 0..40 {
        let _promise = spool.append_blocking(record(n)).unwrap();
    }
    let operations = quiet.operations();
    assert!(quiet.files().len() > 2, "no rotation");
    for at in 0..operations {
        let disk = Disk::new(at);
        disk.fail_at(at, fault);
        let (spool, _) = open_spool(&disk, commit)
            .or_else(|_| open_spool(&disk, commit))
            .unwrap_or_else(|error| panic!("operation {at}: {error}"));
        let mut refused = 0;
        let mut expected = Vec::new();
        for n in 0..40 {
            match spool.append_blocking(record(n)) {
                Ok(promise) => {
                    assert_eq!(promise.seq(), expected.len() as u64);
                    expected.push(*promise.leaf_hash());
                }
                Err(error) => {
                    let full = matches!(error, SpoolError::Full);
                    assert_eq!(full, fault == Fault::NoSpace, "operation {at}: {error}");
                    refused += 1;
                }
            }
        }
        assert!(
            refused <= 1,
            "operation {at}: the spool did not recover by itself"
        );
        assert_eq!(spool.verify().unwrap(), spool.head());
        let found: Vec<_> = spool.read_from(0, 100).unwrap();
        let hashes: Vec<_> = found.iter().map(|leaf| leaf.leaf_hash).collect();
        assert_eq!(hashes, expected, "operation {at}");
        drop(spool);
        let after = match commit {
            Commit::Fsync => disk.after_power_cut(&mut Random::new(at)),
            Commit::Os => disk.after_kill(),
        };
        let (spool, _) = open_spool(&after, commit).unwrap();
        let hashes: Vec<_> = spool
            .read_from(0, 100)
            .unwrap()
            .iter()
            .map(|leaf| leaf.leaf_hash)
            .collect();
        assert!(
            hashes.starts_with(&expected),
            "operation {at}, after a crash"
        );
    }
}

#[test]
fn no_space_at_any_operation_with_fsync() {
    spool_with_a_fault_at_each_operation(Commit::Fsync, Fault::NoSpace);
}

#[test]
fn an_input_output_error_at_any_operation_with_fsync() {
    spool_with_a_fault_at_each_operation(Commit::Fsync, Fault::Broken);
}

#[test]
fn no_space_at_any_operation_without_fsync() {
    spool_with_a_fault_at_each_operation(Commit::Os, Fault::NoSpace);
}

#[test]
fn an_input_output_error_at_any_operation_without_fsync() {
    spool_with_a_fault_at_each_operation(Commit::Os, Fault::Broken);
}

#[test]
fn a_full_disk_refuses_until_there_is_space_again() {
    for commit in [Commit::Fsync, Commit::Os] {
        let disk = Disk::new(3);
        let (spool, _) = open_spool(&disk, commit).unwrap();
        let _promise = spool.append_blocking(record(0)).unwrap();
        disk.set_full(true);
        for n in 1..20 {
            assert!(matches!(
                spool.append_blocking(record(n)),
                Err(SpoolError::Full)
            ));
        }
        for answer in append_many(&spool, 1..20) {
            assert!(matches!(answer, Err(SpoolError::Full)), "{answer:?}");
        }
        assert_eq!(spool.head().next, 1);
        disk.set_full(false);
        for answer in append_many(&spool, 20..40) {
            assert!(answer.is_ok());
        }
        assert_eq!(spool.verify().unwrap().next, 21);
    }
}

#[test]
fn after_a_failed_sync_the_segment_is_not_written_again() {
    let disk = Disk::new(1);
    let (spool, _) = open_spool(&disk, Commit::Fsync).unwrap();
    let _promise = spool.append_blocking(record(0)).unwrap();
    let old = disk
        .files()
        .into_iter()
        .find(|name| name.ends_with(".seg"))
        .unwrap();
    let before = disk.operations();
    disk.fail_at(before + 1, Fault::Broken);
    assert!(matches!(
        spool.append_blocking(record(1)),
        Err(SpoolError::Storage(_))
    ));
    assert_eq!(disk.trace()[before as usize + 1], format!("sync {old}"));
    let promise = spool.append_blocking(record(2)).unwrap();
    assert_eq!(promise.seq(), 1);
    let touched = disk.trace()[before as usize + 2..]
        .iter()
        .any(|line| line.contains(&old));
    assert!(!touched, "{:?}", disk.trace());
    assert_eq!(spool.verify().unwrap().next, 2);
    // The refused record lies readable in the old segment, and is superseded.
    drop(spool);
    let (spool, recovered) = open_spool(&disk, Commit::Fsync).unwrap();
    assert_eq!(recovered.records, 2);
    let leaves = spool.read_from(0, 10).unwrap();
    assert_eq!(leaves[1].leaf_hash, *promise.leaf_hash());
}

#[test]
fn what_a_failed_sync_left_in_the_cache_is_not_believed_after_a_restart() {
    let mut found_unpromised = 0;
    for seed in 0..50 {
        let disk = Disk::new(seed);
        let (spool, _) = open_spool(&disk, Commit::Fsync).unwrap();
        let _promise = spool.append_blocking(record(0)).unwrap();
        disk.fail_at(disk.operations() + 1, Fault::Broken);
        assert!(spool.append_blocking(record(1)).is_err());
        drop(spool);
        // The record without a promise is readable, clean in the cache, and not on the disk.
        let disk = disk.after_kill();
        let (spool, recovered) = open_spool(&disk, Commit::Fsync).unwrap();
        found_unpromised += recovered.records - 1;
        let _promise = spool.append_blocking(record(2)).unwrap();
        let head = spool.head();
        let after = disk.after_power_cut(&mut Random::new(seed));
        let (spool, _) = open_spool(&after, Commit::Fsync).unwrap();
        assert_eq!(spool.verify().unwrap(), head, "seed {seed}");
    }
    assert_eq!(found_unpromised, 50);
}

#[test]
fn what_a_failed_write_left_is_cut_off_before_the_next() {
    for commit in [Commit::Fsync, Commit::Os] {
        let mut torn = 0;
        for seed in 0..20 {
            let disk = Disk::new(seed);
            let (spool, _) = open_spool(&disk, commit).unwrap();
            let _promise = spool.append_blocking(record(8)).unwrap();
            let path = disk
                .files()
                .into_iter()
                .find(|name| name.ends_with(".seg"))
                .unwrap();
            let whole = disk.content(&path).len() as u64;
            disk.fail_at(disk.operations(), Fault::NoSpace);
            assert!(matches!(
                spool.append_blocking(record(8)),
                Err(SpoolError::Full)
            ));
            torn += disk.content(&path).len() as u64 - whole;
            let _promise = spool.append_blocking(record(0)).unwrap();
            assert_eq!(disk.content(&path).len() as u64, spool.used_bytes());
        }
        assert!(torn > 0);
    }
}

#[test]
fn the_reserve_is_for_those_who_may_use_it() {
    let disk = Disk::new(1);
    let limits = SpoolOptions {
        max_bytes: 4_000,
        reserve_bytes: 1_000,
        segment_bytes: 1 << 20,
        ..options(Commit::Os)
    };
    let (spool, _) = Spool::open(disk, "gw-1", limits).unwrap();
    let mut n = 0;
    let ordinary = |n| spool.append_blocking(record(n)).is_ok();
    while ordinary(n) {
        n += 1;
    }
    assert!(
        (2_400..=3_000).contains(&spool.used_bytes()),
        "{}",
        spool.used_bytes()
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let mut reserved = 0;
    let error = loop {
        match runtime.block_on(spool.append_reserved(record(0))) {
            Ok(_) => reserved += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, SpoolError::Full));
    assert!(reserved >= 3 && spool.used_bytes() <= 4_000);
    assert_eq!(spool.verify().unwrap().next, n + reserved);
}

/// One append and checkpoint after the other, with one fault at each operation in turn.
fn log_with_a_fault_at_each_operation(fault: Fault) {
    let node = leaves("gw-1", 300);
    let feed = |log: &countersign_ledger::log::Log| {
        let mut failed = 0;
        for (first, batch) in [(0, &node[..3]), (3, &node[3..250]), (250, &node[250..])] {
            for _ in 0..2 {
                match log.append_from("gw-1", first, batch) {
                    Ok(_) => break,
                    Err(LogError::Full) => assert_eq!(fault, Fault::NoSpace),
                    Err(LogError::Storage(_)) => assert_eq!(fault, Fault::Broken),
                    Err(error) => panic!("{error}"),
                }
                failed += 1;
            }
            if log.checkpoint().is_err() {
                failed += 1;
                log.checkpoint().unwrap();
            }
        }
        failed
    };
    let quiet = Disk::new(0);
    assert_eq!(feed(&open_log(&quiet).unwrap()), 0);
    let expected = open_log(&quiet).unwrap().checkpoint().unwrap();
    for at in 0..quiet.operations() {
        let disk = Disk::new(at);
        disk.fail_at(at, fault);
        let log = open_log(&disk).or_else(|_| open_log(&disk)).unwrap();
        assert!(feed(&log) <= 1, "operation {at}");
        assert_eq!(log.checkpoint().unwrap(), expected, "operation {at}");
        log.verify(|_, _| ()).unwrap();
        drop(log);
        let after = disk.after_power_cut(&mut Random::new(at));
        let log = open_log(&after).unwrap();
        assert_eq!(
            log.checkpoint().unwrap(),
            expected,
            "operation {at}, after a crash"
        );
        log.verify(|_, _| ()).unwrap();
    }
}

#[test]
fn no_space_at_any_operation_of_the_log() {
    log_with_a_fault_at_each_operation(Fault::NoSpace);
}

#[test]
fn an_input_output_error_at_any_operation_of_the_log() {
    log_with_a_fault_at_each_operation(Fault::Broken);
}

#[test]
fn a_log_that_does_not_know_what_it_saved_finds_out_before_it_goes_on() {
    let (a, b) = (leaves("a", 5), leaves("b", 5));
    let disk = Disk::new(0);
    let log = open_log(&disk).unwrap();
    let before = disk.operations();
    log.append_from("a", 0, &a).unwrap();
    let operations = disk.operations() - before;
    // One append fails at any operation; another, of other leaves and the same tiles, is cut
    // short by a power cut at any operation.
    for (failed, cut) in (0..operations).flat_map(|f| (0..2 * operations).map(move |c| (f, c))) {
        let disk = Disk::new(failed * 100 + cut);
        let log = open_log(&disk).unwrap();
        disk.fail_at(disk.operations() + failed, Fault::Broken);
        assert!(log.append_from("a", 0, &a).is_err());
        disk.fail_at(disk.operations() + cut, Fault::PowerCut);
        let taken = log.append_from("b", 0, &b).is_ok();
        let after = disk.after_power_cut(&mut Random::new(cut));
        let log = open_log(&after).unwrap_or_else(|error| panic!("{failed}, {cut}: {error}"));
        log.verify(|_, _| ()).unwrap();
        assert!(!taken || log.position("b").is_some_and(|position| position.next == 5));
    }
}

#[test]
fn the_sync_returns_before_the_promise() {
    let disk = Disk::new(0);
    let (spool, _) = open_spool(&disk, Commit::Fsync).unwrap();
    for n in 0..20 {
        let before = disk.operations() as usize;
        let promise = spool.append_blocking(record(n)).unwrap();
        let trace = disk.trace();
        let last = trace.last().unwrap();
        assert!(
            trace.len() > before && last.starts_with("sync spool/gw-1/"),
            "{last}"
        );
        let leaf = &spool.read_from(promise.seq(), 1).unwrap()[0];
        assert_eq!(leaf.leaf_hash, *promise.leaf_hash());
        // Whatever the disk loses now, it is not this.
        let (other, _) =
            open_spool(&disk.after_power_cut(&mut Random::new(n)), Commit::Fsync).unwrap();
        assert_eq!(other.head(), spool.head());
    }
    // Without fsync the write alone comes before the promise, and no sync at all.
    let disk = Disk::new(0);
    let (spool, _) = open_spool(&disk, Commit::Os).unwrap();
    let before = disk.operations() as usize;
    let _promise = spool.append_blocking(record(0)).unwrap();
    assert_eq!(disk.trace()[before..].len(), 1);
    assert!(disk.trace()[before].starts_with("write "));
}

#[test]
fn records_that_arrive_during_a_flush_share_the_next() {
    let disk = Disk::new(0);
    let (spool, _) = open_spool(&disk, Commit::Fsync).unwrap();
    let before = disk.operations();
    let answers = append_many(&spool, 0..8);
    assert!(answers.iter().all(Result::is_ok));
    let syncs = disk.trace()[before as usize..]
        .iter()
        .filter(|l| l.starts_with("sync "))
        .count();
    assert!((1..=8).contains(&syncs), "{syncs}");
    let head = spool.head();
    drop(spool);
    assert_eq!(open_spool(&disk, Commit::Fsync).unwrap().0.head(), head);
    assert_eq!(
        Arc::strong_count(&disk),
        1,
        "the writer thread is still there"
    );
}
