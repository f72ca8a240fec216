//! Damage behind which records had been promised: nothing goes on by itself, and when somebody
//! sets it aside, what happened is the first thing in what goes on.

use crate::disk::Disk;
use crate::open_log;
use crate::open_spool;
use crate::options;
use crate::record;
use countersign_ledger::log::Log;
use countersign_ledger::spool::Commit;
use countersign_ledger::spool::Head;
use countersign_ledger::spool::SetAside;
use countersign_ledger::spool::Spool;
use countersign_ledger::spool::SpoolError;
use countersign_ledger::spool::SpoolOptions;
use countersign_ledger::spool::set_aside;
use std::sync::Arc;

const ALARM: &[u8] = br#"{"alarm":"damaged"}"#;

/// A spool of so many records in one segment; where each begins.
fn written(disk: &Arc<Disk>, records: u64) -> Vec<u64> {
    let (spool, _) = Spool::open(disk.clone(), "gw-1", large()).unwrap();
    let mut starts = Vec::new();
    for n in 0..records {
        starts.push(spool.used_bytes());
        let _promise = spool.append_blocking(record(n)).unwrap();
    }
    starts
}

fn large() -> SpoolOptions {
    SpoolOptions {
        segment_bytes: 1 << 20,
        ..options(Commit::Fsync)
    }
}

fn segments(disk: &Disk) -> Vec<String> {
    let files = disk.files().into_iter();
    files
        .filter(|name| name.starts_with("spool/") && name.ends_with(".seg"))
        .collect()
}

fn flip(disk: &Disk, path: &str, at: u64) {
    let mut bytes = disk.content(path);
    bytes[at as usize] ^= 0x10;
    disk.overwrite(path, &bytes);
}

/// Takes what a spool has into a log, as far as it can be read.
fn ship(log: &Log, spool: &Spool, end: u64) -> Head {
    let next = log.position("gw-1").map_or(0, |it| it.next);
    let leaves = spool.read_from(next, (end - next) as usize).unwrap();
    let bytes: Vec<_> = leaves.iter().map(|leaf| leaf.leaf.as_ref()).collect();
    log.append_from("gw-1", next, &bytes).unwrap();
    logged(log).unwrap()
}

fn logged(log: &Log) -> Option<Head> {
    let position = log.position("gw-1")?;
    Some(Head {
        next: position.next,
        hash: position.hash,
    })
}

fn aside(disk: &Disk, logged: Option<Head>) -> Option<SetAside> {
    set_aside(disk, "gw-1", logged, |_| ALARM.to_vec()).unwrap()
}

fn alarms(spool: &Spool) -> Vec<u64> {
    let leaves = spool.read_from(spool.first(), 1000).unwrap();
    let alarm = leaves
        .iter()
        .filter(|leaf| memchr(&leaf.leaf, br#""alarm":"damaged""#));
    alarm.map(|leaf| leaf.seq).collect()
}

fn memchr(leaf: &[u8], text: &[u8]) -> bool {
    leaf.windows(text.len()).any(|window| window == text)
}

#[test]
fn what_the_log_lacks_is_lost_and_said() {
    let disk = Disk::new(1);
    let starts = written(&disk, 20);
    let log = open_log(&disk).unwrap();
    let (spool, _) = Spool::open(disk.clone(), "gw-1", large()).unwrap();
    let head = ship(&log, &spool, 5);
    drop(spool);
    let path = segments(&disk).remove(0);
    flip(&disk, &path, starts[9] + 40);
    let before = disk.content(&path);
    let refused = Spool::open(disk.clone(), "gw-1", large());
    assert!(matches!(refused, Err(SpoolError::Corrupt { seq: 9, .. })));

    let done = aside(&disk, Some(head)).unwrap();
    assert_eq!((done.broken, done.resumed, done.saved), (9, 9, 0));
    assert_eq!((done.written, done.lost()), (20, 11));
    assert_eq!((done.segment.as_str(), done.offset), (&*path, starts[9]));
    let [file] = done.files.as_slice() else {
        panic!("{done:?}")
    };
    assert_eq!(disk.content(&file.path), before, "nothing is deleted");
    let (spool, _) = Spool::open(disk.clone(), "gw-1", large()).unwrap();
    assert_eq!(spool.verify().unwrap().next, 10);
    assert_eq!(alarms(&spool), [9]);
    // It goes on, and the log takes all of it.
    let _promise = spool.append_blocking(record(3)).unwrap();
    assert_eq!(ship(&log, &spool, 11).next, 11);
    drop(spool);
    assert_eq!(aside(&disk, logged(&log)), None, "nothing is damaged now");
}

#[test]
fn what_the_log_has_is_not_missed_and_what_follows_is_kept() {
    let disk = Disk::new(2);
    let starts = written(&disk, 20);
    let log = open_log(&disk).unwrap();
    let (spool, _) = Spool::open(disk.clone(), "gw-1", large()).unwrap();
    let head = ship(&log, &spool, 15);
    let last = spool.head();
    drop(spool);
    flip(&disk, &segments(&disk)[0], starts[9] + 40);
    let done = aside(&disk, Some(head)).unwrap();
    assert_eq!((done.broken, done.resumed, done.saved), (9, 15, 5));
    assert_eq!(done.lost(), 0);
    let (spool, recovered) = Spool::open(disk.clone(), "gw-1", large()).unwrap();
    assert_eq!((spool.first(), recovered.records), (15, 6));
    assert_eq!(alarms(&spool), [20]);
    let kept = spool.read_from(19, 1).unwrap();
    assert_eq!(kept[0].leaf_hash, last.hash);
    assert_eq!(ship(&log, &spool, 21).next, 21);
}

#[test]
fn a_segment_that_ends_early_or_begins_wrong_is_damage_although_the_newest_opens() {
    for cut in [true, false] {
        let disk = Disk::new(3);
        let (spool, _) = open_spool(&disk, Commit::Fsync).unwrap();
        for n in 0..60 {
            let _promise = spool.append_blocking(record(n)).unwrap();
        }
        drop(spool);
        let names = segments(&disk);
        assert!(names.len() > 2, "no rotation");
        let old = &names[1];
        if cut {
            let mut bytes = disk.content(old);
            bytes.truncate(bytes.len() - 7);
            disk.overwrite(old, &bytes);
        } else {
            flip(&disk, old, 20);
        }
        let (spool, _) = open_spool(&disk, Commit::Fsync).unwrap();
        assert!(matches!(spool.verify(), Err(SpoolError::Corrupt { .. })));
        drop(spool);
        let done = aside(&disk, None).unwrap();
        assert_eq!(&done.segment, old);
        assert_eq!(done.files.len(), names.len() - 1, "and all those behind it");
        assert_eq!(done.written, 60);
        let (spool, _) = open_spool(&disk, Commit::Fsync).unwrap();
        assert_eq!(spool.verify().unwrap().next, done.broken + 1);
        assert_eq!(alarms(&spool), [done.broken]);
    }
}

#[test]
fn without_a_beginning_it_goes_on_where_the_log_is_or_not_at_all() {
    let disk = Disk::new(4);
    let (spool, _) = open_spool(&disk, Commit::Fsync).unwrap();
    let log = open_log(&disk).unwrap();
    for n in 0..60 {
        let _promise = spool.append_blocking(record(n)).unwrap();
    }
    let head = ship(&log, &spool, 60);
    spool.forget_before(60).unwrap();
    drop(spool);
    let only = segments(&disk).remove(0);
    flip(&disk, &only, 3);
    assert!(matches!(
        open_spool(&disk, Commit::Fsync),
        Err(SpoolError::Corrupt { offset: 0, .. })
    ));
    let nowhere = set_aside(&*disk, "gw-1", None, |_| ALARM.to_vec());
    assert!(matches!(nowhere, Err(SpoolError::Corrupt { .. })));
    assert_eq!(segments(&disk), [only], "nothing was touched");
    let done = aside(&disk, Some(head)).unwrap();
    assert_eq!((done.resumed, done.saved, done.lost()), (60, 0, 0));
    let (spool, _) = open_spool(&disk, Commit::Fsync).unwrap();
    assert_eq!(ship(&log, &spool, 61).next, 61);
}

#[test]
fn a_spool_with_fewer_records_than_the_log_has_of_it_goes_on_behind_them() {
    let disk = Disk::new(7);
    written(&disk, 20);
    let log = open_log(&disk).unwrap();
    let (spool, _) = Spool::open(disk.clone(), "gw-1", large()).unwrap();
    let head = ship(&log, &spool, 20);
    drop(spool);
    let path = segments(&disk).remove(0);
    // Less than a header, as if it had just been made: opening begins anew.
    disk.overwrite(&path, &[1; 10]);
    let (spool, _) = Spool::open(disk.clone(), "gw-1", large()).unwrap();
    assert_eq!(spool.head().next, 0);
    drop(spool);
    let done = aside(&disk, Some(head)).unwrap();
    assert_eq!((done.broken, done.resumed, done.lost()), (0, 20, 0));
    let (spool, _) = Spool::open(disk.clone(), "gw-1", large()).unwrap();
    assert_eq!(ship(&log, &spool, 21).next, 21);
    drop(spool);
    // Nothing at all is left of it.
    let rest = segments(&disk);
    rest.iter().for_each(|path| disk.erase(path));
    let done = aside(&disk, logged(&log)).unwrap();
    assert_eq!((done.resumed, done.files.len()), (21, 0));
    let (spool, _) = Spool::open(disk.clone(), "gw-1", large()).unwrap();
    assert_eq!(ship(&log, &spool, 22).next, 22);
}

#[test]
fn a_spool_that_was_put_back_and_has_grown_past_the_log_is_damage() {
    let disk = Disk::new(8);
    written(&disk, 5);
    let path = segments(&disk).remove(0);
    let old = disk.content(&path);
    let log = open_log(&disk).unwrap();
    let more = |from: u64, to: u64| {
        let (spool, _) = Spool::open(disk.clone(), "gw-1", large()).unwrap();
        for n in from..to {
            let _promise = spool.append_blocking(record(n)).unwrap();
        }
        spool
    };
    let spool = more(100, 105);
    let head = ship(&log, &spool, 8);
    assert_eq!(spool.hash_before(8).unwrap(), Some(head.hash));
    assert_eq!(spool.hash_before(10).unwrap(), Some(spool.head().hash));
    assert_eq!(spool.hash_before(0).unwrap(), Some([0; 32]));
    assert_eq!(spool.hash_before(11).unwrap(), None);
    drop(spool);
    assert_eq!(aside(&disk, Some(head)), None);

    disk.overwrite(&path, &old);
    let spool = more(200, 207);
    assert_eq!(spool.head().next, 12);
    assert_ne!(spool.hash_before(8).unwrap(), Some(head.hash));
    drop(spool);
    assert_eq!(aside(&disk, None), None, "by itself it is whole");
    let done = aside(&disk, Some(head)).unwrap();
    assert!(done.forked, "{done:?}");
    assert_eq!((done.broken, done.resumed, done.saved), (7, 8, 0));
    assert_eq!((done.written, done.lost()), (12, 4));
    let (spool, _) = Spool::open(disk.clone(), "gw-1", large()).unwrap();
    assert_eq!(alarms(&spool), [8]);
    assert_eq!(ship(&log, &spool, 9).next, 9);
    drop(spool);
    assert_eq!(aside(&disk, logged(&log)), None, "nothing is damaged now");
}

#[test]
fn a_spool_that_begins_with_what_the_log_has_otherwise_is_damage() {
    let disk = Disk::new(9);
    let (spool, _) = open_spool(&disk, Commit::Fsync).unwrap();
    for n in 0..60 {
        let _promise = spool.append_blocking(record(n)).unwrap();
    }
    spool.forget_before(60).unwrap();
    let first = spool.first();
    let ours = spool.hash_before(first).unwrap().unwrap();
    assert!(spool.hash_before(first - 1).is_err(), "that is forgotten");
    drop(spool);
    let logged = |hash| Some(Head { next: first, hash });
    assert_eq!(aside(&disk, logged(ours)), None);
    let done = aside(&disk, logged([9; 32])).unwrap();
    assert!(done.forked, "{done:?}");
    assert_eq!((done.broken, done.resumed, done.saved), (first, first, 0));
    let (spool, _) = open_spool(&disk, Commit::Fsync).unwrap();
    assert_eq!(spool.hash_before(first).unwrap(), Some([9; 32]));
}

#[test]
fn a_torn_tail_is_no_damage() {
    let disk = Disk::new(5);
    written(&disk, 5);
    let path = segments(&disk).remove(0);
    let mut bytes = disk.content(&path);
    bytes.truncate(bytes.len() - 3);
    disk.overwrite(&path, &bytes);
    assert_eq!(aside(&disk, None), None);
    let (_, recovered) = Spool::open(disk.clone(), "gw-1", large()).unwrap();
    assert_eq!(recovered.records, 4);
    assert!(recovered.truncated_bytes > 0);
}

/// A fault at each operation in turn: what is left is never taken for whole without the alarm.
#[test]
fn a_crash_meanwhile_leaves_damage_or_the_alarm() {
    use crate::disk::Fault;
    let prepare = |seed| {
        let disk = Disk::new(seed);
        let (spool, _) = open_spool(&disk, Commit::Fsync).unwrap();
        for n in 0..60 {
            let _promise = spool.append_blocking(record(n)).unwrap();
        }
        drop(spool);
        let middle = segments(&disk)[1].clone();
        flip(&disk, &middle, 200);
        disk
    };
    let quiet = prepare(0);
    let before = quiet.operations();
    aside(&quiet, None).unwrap();
    let all = quiet.operations() - before;
    assert!(all > 5);
    for at in 0..all {
        let disk = prepare(at);
        disk.fail_at(disk.operations() + at, Fault::PowerCut);
        let failed = set_aside(&*disk, "gw-1", None, |_| ALARM.to_vec());
        assert!(failed.is_err(), "operation {at}");
        let disk = disk.after_power_cut(&mut crate::disk::Random::new(at));
        let again = aside(&disk, None);
        let (spool, _) = open_spool(&disk, Commit::Fsync).unwrap();
        assert!(spool.verify().is_ok(), "operation {at}: {again:?}");
        assert!(!alarms(&spool).is_empty(), "operation {at}: {again:?}");
    }
}

#[test]
fn room_is_what_it_may_use_and_a_warning_comes_before_the_reserve() {
    let disk = Disk::new(6);
    let limits = SpoolOptions {
        max_bytes: 10_000,
        reserve_bytes: 2_000,
        warn_bytes: 4_000,
        segment_bytes: 1 << 20,
        ..options(Commit::Os)
    };
    let (spool, _) = Spool::open(disk, "gw-1", limits).unwrap();
    let mut low = false;
    for n in 0.. {
        let room = spool.room().unwrap();
        assert_eq!(room.left, 10_000 - spool.used_bytes());
        low |= room.is_low() && !room.is_reserve_only();
        if spool.append_blocking(record(n)).is_err() {
            break;
        }
    }
    assert!(low, "the warning comes while records are still taken");
    assert!(spool.room().unwrap().is_low());
}
