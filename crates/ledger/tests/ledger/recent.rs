//! What was written last is read from memory, and is what the files say.

use crate::disk::Disk;
use crate::disk::Fault;
use crate::disk::Random;
use crate::open_spool;
use crate::options;
use countersign_ledger::spool::Commit;
use countersign_ledger::spool::Promise;
use countersign_ledger::spool::Spool;
use countersign_ledger::spool::SpoolError;
use countersign_ledger::spool::SpoolOptions;
use countersign_ledger::spool::SpooledLeaf;
use countersign_ledger::tree::leaf_hash;
use proptest::prelude::*;
use std::sync::Arc;

/// What the spool says that it keeps in memory.
const MOST: usize = 1 << 20;

fn record(n: u64, length: usize) -> Vec<u8> {
    format!("{{\"n\":{n},\"text\":\"{}\"}}", "x".repeat(length)).into_bytes()
}

fn open(disk: &Arc<Disk>, commit: Commit, segment_bytes: u64) -> Spool {
    let options = SpoolOptions {
        segment_bytes,
        ..options(commit)
    };
    Spool::open(disk.clone(), "gw-1", options).unwrap().0
}

/// Appends so many at once, and gives what each was promised.
fn append(spool: &Spool, count: u64, length: usize) -> Vec<Promise> {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..count {
            let spool = spool.clone();
            tasks.spawn(async move { spool.append(record(n, length)).await.unwrap() });
        }
        let mut promises = tasks.join_all().await;
        promises.sort_by_key(Promise::seq);
        promises
    })
}

/// Takes away what reading from the files would need.
fn erase(disk: &Disk) {
    let files = disk.files().into_iter();
    for file in files.filter(|name| name.ends_with(".seg")) {
        disk.erase(&file);
    }
}

/// What another process reads, which has written nothing.
fn from_files(disk: &Disk, seq: u64, max: usize) -> Result<Vec<SpooledLeaf>, SpoolError> {
    let (spool, _) = open_spool(&disk.after_kill(), Commit::Os).unwrap();
    spool.read_from(seq, max)
}

fn are_promised(leaves: &[SpooledLeaf], promises: &[Promise]) {
    assert_eq!(leaves.len(), promises.len());
    for (leaf, promise) in leaves.iter().zip(promises) {
        assert_eq!(leaf.seq, promise.seq());
        assert_eq!(leaf.leaf_hash, *promise.leaf_hash());
        assert_eq!(leaf.leaf_hash, leaf_hash(&leaf.leaf));
    }
}

#[test]
fn what_was_just_written_needs_no_file() {
    for commit in [Commit::Os, Commit::Fsync] {
        let disk = Disk::new(0);
        let (spool, _) = open_spool(&disk, commit).unwrap();
        let mut promises = append(&spool, 20, 300);
        promises.extend(append(&spool, 3, 10));
        promises.extend(append(&spool, 30, 400));
        assert!(disk.files().len() > 1, "no rotation");
        let expected = from_files(&disk, 0, 100).unwrap();
        erase(&disk);
        assert!(spool.verify().is_err());
        for (seq, max) in [
            (0, 100),
            (0, 1),
            (19, 2),
            (20, 3),
            (22, 20),
            (52, 5),
            (53, 5),
        ] {
            let leaves = spool.read_from(seq as u64, max).unwrap();
            let end = promises.len().min(seq + max);
            are_promised(&leaves, &promises[seq..end]);
            assert_eq!(leaves, expected[seq..end]);
        }
        // Nor is anything copied.
        let again = [0, 1].map(|_| spool.read_from(7, 1).unwrap().remove(0));
        assert_eq!(again[0].leaf.as_ptr(), again[1].leaf.as_ptr());
    }
}

#[test]
fn what_is_older_comes_from_the_files_for_memory_has_an_end() {
    for commit in [Commit::Os, Commit::Fsync] {
        let disk = Disk::new(0);
        let spool = open(&disk, commit, 100_000);
        let mut promises = Vec::new();
        for _ in 0..20 {
            promises.extend(append(&spool, 3, 40_000));
        }
        are_promised(&spool.read_from(0, 100).unwrap(), &promises);
        erase(&disk);
        assert!(spool.read_from(0, 100).is_err());
        let read = |seq: usize| spool.read_from(seq as u64, 100);
        let first = (0..60).find(|seq| read(*seq).is_ok()).unwrap();
        let kept = read(first).unwrap();
        are_promised(&kept, &promises[first..]);
        let bytes: usize = kept.iter().map(|leaf| leaf.leaf.len()).sum();
        assert!((MOST / 2..=MOST).contains(&bytes), "{bytes}");
    }
}

#[test]
fn what_was_not_promised_is_never_read() {
    for (commit, fault) in [
        (Commit::Os, Fault::NoSpace),
        (Commit::Os, Fault::Broken),
        (Commit::Fsync, Fault::NoSpace),
        (Commit::Fsync, Fault::Broken),
    ] {
        // With `Fsync`, the write or the sync.
        for operation in 0..=u64::from(commit == Commit::Fsync) {
            let disk = Disk::new(3);
            let (spool, _) = open_spool(&disk, commit).unwrap();
            let mut promises = append(&spool, 1, 10);
            disk.fail_at(disk.operations() + operation, fault);
            assert!(spool.append_blocking(record(1, 20)).is_err());
            are_promised(&spool.read_from(0, 10).unwrap(), &promises);
            assert!(spool.read_from(1, 10).unwrap().is_empty());
            promises.extend(append(&spool, 1, 30));
            are_promised(&spool.read_from(0, 10).unwrap(), &promises);
            are_promised(&spool.read_from(1, 10).unwrap(), &promises[1..]);
            assert_eq!(from_files(&disk, 0, 10).unwrap().len(), 2);
        }
    }
}

#[test]
fn a_file_is_read_on_from_where_memory_ended() {
    let disk = Disk::new(0);
    let spool = open(&disk, Commit::Os, 1 << 30);
    let mut promises = append(&spool, 5, 1000);
    are_promised(&spool.read_from(0, 3).unwrap(), &promises[..3]);
    for _ in 0..20 {
        promises.extend(append(&spool, 3, 40_000));
    }
    // If it began at the start, it would come across this.
    let segment = disk.files().into_iter().find(|it| it.ends_with(".seg"));
    let segment = segment.unwrap();
    let mut bytes = disk.content(&segment);
    bytes[200] ^= 1;
    disk.overwrite(&segment, &bytes);
    are_promised(&spool.read_from(3, 100).unwrap(), &promises[3..]);
    are_promised(&spool.read_from(63, 100).unwrap(), &promises[63..]);
    let damaged = spool.read_from(0, 1);
    assert!(matches!(damaged, Err(SpoolError::Corrupt { seq: 0, .. })));
}

#[test]
fn what_is_forgotten_does_not_stay_in_memory() {
    let disk = Disk::new(0);
    let spool = open(&disk, Commit::Os, 1 << 30);
    let mut promises = Vec::new();
    for _ in 0..10 {
        promises.extend(append(&spool, 1, 10));
    }
    spool.forget_before(5).unwrap();
    // Its segment is the newest, and stays.
    are_promised(&spool.read_from(0, 100).unwrap(), &promises);
    erase(&disk);
    are_promised(&spool.read_from(5, 100).unwrap(), &promises[5..]);
    let gone = spool.read_from(4, 100);
    assert!(matches!(gone, Err(SpoolError::Storage(_))), "{gone:?}");
}

#[test]
fn a_reader_beside_writers_sees_one_chain() {
    const RECORDS: u64 = 3000;
    let disk = Disk::new(0);
    let spool = open(&disk, Commit::Os, 300_000);
    std::thread::scope(|scope| {
        let writer = spool.clone();
        scope.spawn(move || {
            let mut random = Random::new(1);
            let mut left = RECORDS;
            while left > 0 {
                let count = left.min(1 + random.below(70));
                let _promises = append(&writer, count, random.below(2000) as usize);
                left -= count;
            }
        });
        let mut random = Random::new(2);
        let mut prev = [0; 32];
        let mut next = 0;
        while next < RECORDS {
            for leaf in spool.read_from(next, random.below(200) as usize).unwrap() {
                assert_eq!((leaf.seq, leaf.leaf_hash), (next, leaf_hash(&leaf.leaf)));
                let text: serde_json::Value = serde_json::from_slice(&leaf.leaf).unwrap();
                assert_eq!(text["prev"], hex::encode(prev));
                prev = leaf.leaf_hash;
                next += 1;
            }
            if random.below(5) == 0 {
                spool.forget_before(next).unwrap();
            }
        }
        assert_eq!(spool.head().hash, prev);
    });
}

#[derive(Debug, Clone)]
enum Step {
    Append {
        count: u64,
        length: usize,
    },
    /// In hundredths of what there is.
    Forget {
        before: u64,
    },
    Read {
        from: u64,
        max: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (1_u64..100, 0_usize..900).prop_map(|(count, length)| Step::Append { count, length }),
        2 => (1_u64..8, 0_usize..60_000).prop_map(|(count, length)| Step::Append { count, length }),
        1 => (0_u64..100).prop_map(|before| Step::Forget { before }),
        5 => (0_u64..=100, 0_usize..300).prop_map(|(from, max)| Step::Read { from, max }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn memory_and_files_say_the_same(
        steps in proptest::collection::vec(step(), 1..40),
        segment_bytes in prop_oneof![Just(4096_u64), Just(200_000), Just(8 << 20)],
        commit in prop_oneof![Just(Commit::Os), Just(Commit::Fsync)],
    ) {
        let disk = Disk::new(0);
        let spool = open(&disk, commit, segment_bytes);
        for step in steps {
            let next = spool.head().next;
            match step {
                Step::Append { count, length } => drop(append(&spool, count, length)),
                Step::Forget { before } => spool.forget_before(next * before / 100).unwrap(),
                Step::Read { from, max } => {
                    let from = next * from / 100;
                    match (spool.read_from(from, max), from_files(&disk, from, max)) {
                        (
                            Err(SpoolError::Forgotten { first }),
                            Err(SpoolError::Forgotten { first: expected }),
                        ) => prop_assert_eq!(first, expected),
                        (found, expected) => prop_assert_eq!(found.unwrap(), expected.unwrap()),
                    }
                }
            }
        }
    }
}
