//! From leaf hash to leaf: as a search through everything would, whatever became of the tables.

use crate::ORIGIN;
use crate::disk::Disk;
use crate::disk::Fault;
use crate::disk::Random;
use crate::key;
use countersign_ledger::Hash;
use countersign_ledger::ReceiptId;
use countersign_ledger::ReceiptPrefix;
use countersign_ledger::log::IndexShape;
use countersign_ledger::log::Log;
use countersign_ledger::log::LogError;
use countersign_ledger::storage::Storage;
use countersign_ledger::tree::leaf_hash;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

const ROW: u64 = 12;

fn shape(leaves: u32, fan_out: u32) -> IndexShape {
    IndexShape { leaves, fan_out }
}

fn open(disk: &Arc<Disk>, shape: IndexShape) -> Result<Log, LogError> {
    Log::open_with(Arc::clone(disk) as Arc<dyn Storage>, ORIGIN, key(), shape)
}

/// Adds as many leaves; some are the same as ones before.
fn add(log: &Log, count: u64) -> Result<(), LogError> {
    let first = log.size();
    let entry = |n: u64| (if n % 13 == 12 { n / 2 } else { n }).to_be_bytes();
    let entries: Vec<_> = (first..first + count).map(entry).collect();
    log.append_raw(&entries).map(drop)
}

/// Compares every answer with a search through all entries.
fn check(log: &Log, about: &str) {
    let mut naive: BTreeMap<Hash, Vec<u64>> = BTreeMap::new();
    for index in 0..log.size() {
        let hash = leaf_hash(&log.entry(index).unwrap());
        naive.entry(hash).or_default().push(index);
    }
    for (hash, indexes) in &naive {
        let found = log.index_of(hash).unwrap();
        assert!(
            found.is_some_and(|it| indexes.contains(&it)),
            "{about}: {indexes:?}"
        );
        let all = log.find(&ReceiptId::from(hash).into()).unwrap();
        assert_eq!(&all, indexes, "{about}");
    }
    assert_eq!(log.index_of(&leaf_hash(b"not there")).unwrap(), None);
    for prefix in ["r-0", "r-7z", "r-zz"] {
        let prefix: ReceiptPrefix = prefix.parse().unwrap();
        let matching = naive
            .iter()
            .filter(|it| prefix.matches(&ReceiptId::from(it.0)));
        let mut expected: Vec<_> = matching.flat_map(|it| it.1).copied().collect();
        expected.sort_unstable();
        assert_eq!(log.find(&prefix).unwrap(), expected, "{about}");
    }
}

/// The tables on a disk as level and number, and the levels that are being made.
fn tables(disk: &Disk) -> (Vec<(u32, u64)>, Vec<u32>) {
    let (mut tables, mut making) = (Vec::new(), Vec::new());
    for file in disk.files() {
        let Some(name) = file.strip_prefix("log-index/") else {
            continue;
        };
        let (level, number) = name.split_once('-').unwrap();
        let level = level.parse().unwrap();
        match number.strip_suffix(".tmp") {
            Some(_) => making.push(level),
            None => tables.push((level, number.parse().unwrap())),
        }
    }
    (tables, making)
}

/// Whether exactly the files are there that cover each sealed leaf once.
fn check_files(disk: &Disk, size: u64, shape: IndexShape, about: &str) {
    let (tables, making) = tables(disk);
    assert!(making.is_empty(), "{about}: {:?}", disk.files());
    let mut ranges = Vec::new();
    for (level, number) in tables {
        let span = u64::from(shape.leaves) * u64::from(shape.fan_out).pow(level);
        ranges.push((number * span, (number + 1) * span));
        let content = disk.content(&format!("log-index/{level}-{number:06}"));
        assert_eq!(content.len() as u64, span * ROW, "{about}");
    }
    ranges.sort_unstable();
    let mut at = 0;
    for (from, to) in ranges {
        assert_eq!(from, at, "{about}: {:?}", disk.files());
        at = to;
    }
    assert_eq!(at, size - size % u64::from(shape.leaves), "{about}");
}

/// How many tables the fullest level has, and whether all full levels are being merged.
fn fullest(disk: &Disk, shape: IndexShape) -> (usize, bool) {
    let (tables, making) = tables(disk);
    let mut levels: BTreeMap<u32, usize> = BTreeMap::new();
    tables
        .iter()
        .for_each(|(level, _)| *levels.entry(*level).or_default() += 1);
    let mut full = levels.iter().filter(|it| *it.1 >= shape.fan_out as usize);
    let merging = full.all(|(level, _)| making.contains(&(level + 1)));
    (levels.into_values().max().unwrap_or(0), merging)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn every_leaf_is_found_and_few_tables_are_asked(
        leaves in 1_u32..40,
        fan_out in 2_u32..7,
        steps in proptest::collection::vec((1_u64..120, 0_u8..8), 1..25),
    ) {
        let (disk, shape) = (Disk::new(0), shape(leaves, fan_out));
        let mut log = open(&disk, shape).unwrap();
        let mut limit = fan_out as usize;
        for (count, what) in steps {
            add(&log, count).unwrap();
            let (most, merging) = fullest(&disk, shape);
            prop_assert!(merging, "{:?}", disk.files());
            prop_assert!(most <= limit, "{most} of {limit}");
            if what == 0 {
                drop(log);
                log = open(&disk, shape).unwrap();
                check_files(&disk, log.size(), shape, "open");
                limit = 2 * fan_out as usize;
            }
        }
        check(&log, "end");
    }
}

#[test]
fn one_leaf_at_a_time_never_asks_more_than_a_full_level() {
    let (disk, shape) = (Disk::new(0), shape(3, 4));
    let log = open(&disk, shape).unwrap();
    let mut merged = 0;
    for _ in 0..1_000 {
        add(&log, 1).unwrap();
        let (most, merging) = fullest(&disk, shape);
        assert!(most <= 4 && merging, "{:?}", disk.files());
        merged += u64::from(most == 4);
    }
    // Some merges took more than one leaf.
    assert!(merged > 0);
    let (tables, _) = tables(&disk);
    assert!(tables.contains(&(4, 0)), "{tables:?}");
    check(&log, "one at a time");
}

#[test]
fn a_merge_is_spread_over_the_appends() {
    let (disk, shape) = (Disk::new(0), shape(1_024, 16));
    let log = open(&disk, shape).unwrap();
    let mut took = 0;
    for _ in 0..72 {
        let before = disk.operations() as usize;
        add(&log, 256).unwrap();
        let trace = disk.trace();
        let writes = trace[before..]
            .iter()
            .filter(|it| it.starts_with("write log-index/1-"));
        let writes = writes.count();
        // 256 * 32 rows are 96 KiB; 64 KiB are written at once.
        assert!(writes <= 2, "{writes} writes in one append");
        took += u64::from(writes > 0);
    }
    // 16,384 rows, of which an append merges 8,192.
    assert_eq!(took, 2);
    // The parts go when the whole is durable: its bytes, then its name.
    let trace = disk.trace();
    let named = trace
        .iter()
        .position(|it| it == "rename log-index/1-000000.tmp");
    let named = named.unwrap();
    assert_eq!(trace[named - 1], "sync log-index/1-000000.tmp");
    assert_eq!(trace[named + 1], "sync-dir log-index");
    assert_eq!(trace[named + 2], "remove log-index/0-000000");
    assert!(disk.files().contains(&"log-index/1-000000".to_owned()));
    check_files(&disk, log.size(), shape, "merged");
}

/// Adds leaves until 35 are there or the disk is dead; whatever fails is tried again.
fn live(disk: &Arc<Disk>, shape: IndexShape) -> Option<Log> {
    let log = open(disk, shape).or_else(|_| open(disk, shape)).ok()?;
    for _ in 0..7 {
        let _ = add(&log, 5);
    }
    Some(log)
}

#[test]
fn whatever_write_fails_or_is_torn_the_next_opening_answers_and_cleans_up() {
    let shape = shape(2, 2);
    let whole = Disk::new(0);
    assert!(live(&whole, shape).is_some());
    let (merged, _) = tables(&whole);
    assert!(merged.contains(&(3, 0)), "{merged:?}");
    let merging = whole
        .trace()
        .iter()
        .filter(|it| it.contains("-000000.tmp"))
        .count();
    assert!(merging > 20, "{merging}");
    let mut dirty = 0;
    for at in 0..whole.operations() {
        for fault in [Fault::NoSpace, Fault::Broken, Fault::PowerCut] {
            let about = format!("{fault:?} at {at}: {}", whole.trace()[at as usize]);
            let (disk, mut random) = (Disk::new(at), Random::new(at));
            disk.fail_at(at, fault);
            let log = live(&disk, shape);
            if let Some(log) = log.filter(|_| fault != Fault::PowerCut) {
                let _ = log.checkpoint();
                check(&log, &about);
            }
            let disk = match fault {
                Fault::PowerCut => disk.after_power_cut(&mut random),
                _ => disk.after_kill(),
            };
            dirty += tables(&disk).1.len();
            let log = open(&disk, shape).unwrap();
            check_files(&disk, log.size(), shape, &about);
            check(&log, &about);
            add(&log, 3).unwrap();
            add(&log, 20).unwrap();
            check(&log, &about);
            let (most, merging) = fullest(&disk, shape);
            assert!(most <= 4 && merging, "{about}: {:?}", disk.files());
        }
    }
    // The faults must have left something to clean.
    assert!(dirty > 20, "{dirty}");
}

#[test]
fn missing_cut_and_foreign_files_are_healed() {
    let shape = shape(8, 3);
    let healthy = Disk::new(0);
    let log = open(&healthy, shape).unwrap();
    add(&log, 500).unwrap();
    drop(log);
    let files: Vec<_> = healthy
        .files()
        .into_iter()
        .filter(|it| it.starts_with("log-index/"))
        .collect();
    assert!(
        files.contains(&"log-index/3-000001".to_owned()),
        "{files:?}"
    );
    let heals = |disk: &Arc<Disk>, about: &str| {
        let log = open(disk, shape).unwrap();
        check_files(disk, 500, shape, about);
        let (most, _) = fullest(disk, shape);
        assert!(most < 6, "{about}: {:?}", disk.files());
        check(&log, about);
    };
    for file in &files {
        let disk = healthy.after_kill();
        disk.erase(file);
        heals(&disk, &format!("without {file}"));
        let whole = healthy.content(file);
        let longer = [&*whole, &[0; ROW as usize]].concat();
        for content in [&whole[1..], &whole[..ROW as usize], &[], &longer] {
            let disk = healthy.after_kill();
            disk.overwrite(file, content);
            heals(&disk, &format!("{file} of {} bytes", content.len()));
        }
    }
    let disk = healthy.after_kill();
    disk.erase("log-index");
    heals(&disk, "without any");
    let table = healthy.content("log-index/1-000018");
    let disk = healthy.after_kill();
    for extra in [
        "000000",
        "0-000000",
        "1-000003",
        "1-000018.tmp",
        "1-18",
        "0-000099",
        "junk/a",
        "40-000000",
    ] {
        disk.write(&format!("log-index/{extra}"), &table).unwrap();
    }
    heals(&disk, "with others");
}

#[test]
fn a_folder_opens_with_any_shape() {
    let disk = Disk::new(0);
    for (leaves, fan_out) in [(8, 3), (5, 2), (8, 2), (0, 0), (65_536, 16), (2, 16)] {
        let shape = shape(leaves, fan_out);
        let log = open(&disk, shape).unwrap();
        add(&log, 77).unwrap();
        check(&log, &format!("{shape:?}"));
    }
}

#[test]
fn a_table_that_is_not_sorted_is_not_merged() {
    let (disk, shape) = (Disk::new(0), shape(4, 3));
    let log = open(&disk, shape).unwrap();
    add(&log, 9).unwrap();
    let table = "log-index/0-000001";
    let rows = disk.content(table);
    let reversed: Vec<_> = rows.chunks(ROW as usize).rev().flatten().copied().collect();
    disk.overwrite(table, &reversed);
    add(&log, 28).unwrap();
    let look_up = |log: &Log| {
        for index in (0..4).chain(8..log.size()).filter(|it| it % 13 != 12) {
            let hash = leaf_hash(&log.entry(index).unwrap());
            assert_eq!(log.index_of(&hash).unwrap(), Some(index));
        }
        for index in 4..8 {
            let hash = leaf_hash(&log.entry(index).unwrap());
            let found = log.index_of(&hash).unwrap();
            assert!(found.is_none_or(|it| log.entry(it).unwrap() == log.entry(index).unwrap()));
        }
        let (tables, making) = tables(&disk);
        assert_eq!(tables, [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2)]);
        assert!(making.is_empty());
    };
    look_up(&log);
    drop(log);
    let log = open(&disk, shape).unwrap();
    look_up(&log);
    drop(log);
    disk.erase(table);
    let log = open(&disk, shape).unwrap();
    add(&log, 40).unwrap();
    check(&log, "healed");
    let (tables, _) = tables(&disk);
    assert!(tables.iter().all(|it| *it != (0, 1)), "{tables:?}");
}
