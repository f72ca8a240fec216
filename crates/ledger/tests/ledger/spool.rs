//! The spool on real files and in memory: chain, recovery, shipping.

use crate::disk::Disk;
use crate::open_spool;
use crate::options;
use crate::record;
use countersign_ledger::ReceiptPrefix;
use countersign_ledger::canonical::is_canonical;
use countersign_ledger::spool::Commit;
use countersign_ledger::spool::Spool;
use countersign_ledger::spool::SpoolError;
use countersign_ledger::storage::FsStorage;
use countersign_ledger::storage::Storage;
use countersign_ledger::storage::StorageError;
use countersign_ledger::tree::leaf_hash;
use std::sync::Arc;

fn segments(disk: &Disk) -> Vec<String> {
    disk.files()
        .into_iter()
        .filter(|name| name.ends_with(".seg"))
        .collect()
}

#[test]
fn leaves_are_canonical_and_chained() {
    let disk = Disk::new(0);
    let (spool, recovered) = open_spool(&disk, Commit::Os).unwrap();
    assert_eq!((recovered.records, recovered.truncated_bytes), (0, 0));
    let promises: Vec<_> = (0..50)
        .map(|n| spool.append_blocking(record(n)).unwrap())
        .collect();
    let leaves = spool.read_from(0, 100).unwrap();
    assert_eq!(leaves.len(), 50);
    let mut prev = [0; 32];
    for (seq, (leaf, promise)) in leaves.iter().zip(&promises).enumerate() {
        let body = String::from_utf8(record(seq as u64)).unwrap();
        let prev_hex = hex::encode(prev);
        let expected = format!(
            "{{\"node\":\"gw-1\",\"prev\":\"{prev_hex}\",\"record\":{body},\"seq\":{seq}}}"
        );
        assert_eq!(leaf.leaf, expected.as_bytes());
        assert!(is_canonical(&leaf.leaf));
        prev = leaf_hash(&leaf.leaf);
        assert_eq!((leaf.leaf_hash, leaf.seq), (prev, seq as u64));
        assert_eq!((promise.leaf_hash(), promise.seq()), (&prev, seq as u64));
        assert_eq!(
            (promise.leaf_len(), promise.node()),
            (leaf.leaf.len(), "gw-1")
        );
        assert!(promise.covers(&record(seq as u64)));
        assert!(!promise.covers(&record(seq as u64 + 1)));
    }
    assert_eq!((spool.head().next, spool.head().hash), (50, prev));
}

#[test]
fn it_goes_on_where_it_stopped_on_real_files() {
    let folder = tempfile::tempdir().unwrap();
    for (life, commit) in [Commit::Fsync, Commit::Os, Commit::Fsync]
        .into_iter()
        .enumerate()
    {
        let storage: Arc<dyn Storage> = Arc::new(FsStorage::new(folder.path()));
        let (spool, recovered) =
            Spool::open(Arc::clone(&storage), "gw-1", options(commit)).unwrap();
        let before = life as u64 * 40;
        assert_eq!((recovered.records, recovered.head.next), (before, before));
        let again = Spool::open(storage, "gw-1", options(commit));
        assert!(matches!(
            again,
            Err(SpoolError::Storage(StorageError::Locked { .. }))
        ));
        for n in before..before + 40 {
            assert_eq!(spool.append_blocking(record(n)).unwrap().seq(), n);
        }
        assert_eq!(spool.verify().unwrap().next, before + 40);
    }
    let mode = |path: &str| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(folder.path().join(path))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(
        (mode("spool/gw-1"), mode("spool/gw-1/lock")),
        (0o700, 0o600)
    );
}

#[test]
fn what_is_no_record_is_refused() {
    let disk = Disk::new(0);
    let (spool, _) = open_spool(&disk, Commit::Fsync).unwrap();
    for bad in [
        "",
        "1",
        "[]",
        "{",
        "{}{}",
        "{\"a\":}",
        " {}",
        "null",
        "\u{feff}{}",
    ] {
        let error = spool.append_blocking(bad.as_bytes().to_vec()).unwrap_err();
        assert!(matches!(error, SpoolError::NotAnObject), "{bad}");
    }
    let largest = |length: usize| format!("{{\"x\":\"{}\"}}", "y".repeat(length - 8)).into_bytes();
    let limit = spool.max_record_len();
    assert!((65_300..65_500).contains(&limit));
    assert!(spool.append_blocking(largest(limit)).unwrap().leaf_len() <= 65_535);
    assert!(matches!(
        spool.append_blocking(largest(limit + 1)),
        Err(SpoolError::TooLarge { length, .. }) if length == limit + 1
    ));
    assert_eq!(spool.head().next, 1);
    for node in ["", ".", "..", "a/b", "a b", "é", "a\"", &"n".repeat(129)] {
        let opened = Spool::open(Disk::new(0), node, options(Commit::Os));
        assert!(matches!(opened, Err(SpoolError::NodeName(_))), "{node}");
    }
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_off() {
    let disk = Disk::new(0);
    let (spool, _) = open_spool(&disk, Commit::Fsync).unwrap();
    for n in 0..3 {
        let _promise = spool.append_blocking(record(n)).unwrap();
    }
    let whole = spool.used_bytes();
    let _promise = spool.append_blocking(record(3)).unwrap();
    drop(spool);
    let path = &segments(&disk)[0];
    let content = disk.content(path);
    for cut in whole as usize..content.len() {
        let torn = disk.after_kill();
        torn.overwrite(path, &content[..cut]);
        let (spool, recovered) = open_spool(&torn, Commit::Fsync).unwrap();
        assert_eq!(
            (recovered.records, recovered.truncated_bytes),
            (3, cut as u64 - whole)
        );
        assert_eq!(spool.append_blocking(record(9)).unwrap().seq(), 3);
        assert_eq!(spool.verify().unwrap().next, 4);
    }
}

#[test]
fn a_changed_byte_of_a_promised_record_is_corruption_with_its_place() {
    for commit in [Commit::Fsync, Commit::Os] {
        let disk = Disk::new(0);
        let (spool, _) = open_spool(&disk, commit).unwrap();
        let mut starts = Vec::new();
        for n in 0..4 {
            starts.push(spool.used_bytes());
            let _promise = spool.append_blocking(record(n)).unwrap();
        }
        drop(spool);
        let path = &segments(&disk)[0];
        let content = disk.content(path);
        for at in starts[0] as usize..starts[3] as usize {
            let changed = disk.after_kill();
            let mut bytes = content.clone();
            bytes[at] ^= 0x10;
            changed.overwrite(path, &bytes);
            let frame = starts
                .iter()
                .rposition(|start| *start <= at as u64)
                .unwrap();
            match open_spool(&changed, commit) {
                Err(SpoolError::Corrupt {
                    segment,
                    offset,
                    seq,
                }) => {
                    assert_eq!((&segment, offset), (path, starts[frame]), "byte {at}");
                    assert_eq!(seq, frame as u64);
                }
                other => panic!("byte {at}: {other:?}"),
            }
            assert_eq!(
                changed.content(path),
                bytes,
                "corruption must not be repaired away"
            );
        }
        for at in 0..starts[0] as usize {
            let changed = disk.after_kill();
            let mut bytes = content.clone();
            bytes[at] ^= 1;
            changed.overwrite(path, &bytes);
            let opened = open_spool(&changed, commit);
            assert!(
                matches!(opened, Err(SpoolError::Corrupt { offset: 0, .. })),
                "byte {at}"
            );
        }
    }
}

#[test]
fn a_change_in_an_older_segment_is_found_when_it_is_read() {
    let disk = Disk::new(0);
    let (spool, _) = open_spool(&disk, Commit::Os).unwrap();
    for n in 0..60 {
        let _promise = spool.append_blocking(record(n)).unwrap();
    }
    drop(spool);
    let old = &segments(&disk)[1];
    let mut bytes = disk.content(old);
    let at = bytes.len() - 5;
    bytes[at] ^= 1;
    disk.overwrite(old, &bytes);
    let (spool, _) = open_spool(&disk, Commit::Os).unwrap();
    let named = |error: SpoolError| match error {
        SpoolError::Corrupt { segment, .. } => assert_eq!(&segment, old),
        other => panic!("{other:?}"),
    };
    named(spool.verify().unwrap_err());
    named(spool.read_from(0, 100).unwrap_err());
    disk.erase(old);
    assert!(spool.verify().is_err());
}

#[test]
fn shipped_segments_go_and_the_chain_stays() {
    let disk = Disk::new(0);
    let (spool, _) = open_spool(&disk, Commit::Fsync).unwrap();
    let promises: Vec<_> = (0..60)
        .map(|n| spool.append_blocking(record(n)).unwrap())
        .collect();
    let (count, used) = (segments(&disk).len(), spool.used_bytes());
    assert!(count > 3);
    let mut shipped = Vec::new();
    while let Some(last) = spool
        .read_from(shipped.len() as u64, 7)
        .unwrap()
        .into_iter()
        .map(|leaf| {
            shipped.push(leaf.leaf_hash);
            leaf.seq
        })
        .last()
    {
        spool.forget_before(last + 1).unwrap();
    }
    let hashes: Vec<_> = promises
        .iter()
        .map(|promise| *promise.leaf_hash())
        .collect();
    assert_eq!(shipped, hashes);
    assert_eq!(segments(&disk).len(), 1);
    assert!(spool.used_bytes() < used / 2);
    let first = spool.first();
    assert!(matches!(spool.read_from(0, 1), Err(SpoolError::Forgotten { first: f }) if f == first));
    let head = spool.head();
    drop(spool);
    let (spool, recovered) = open_spool(&disk, Commit::Fsync).unwrap();
    assert_eq!((recovered.head, recovered.records), (head, 60 - first));
    assert_eq!(spool.append_blocking(record(60)).unwrap().seq(), 60);
}

#[test]
fn records_are_found_by_receipt_and_shippers_are_woken() {
    let disk = Disk::new(0);
    let (spool, _) = open_spool(&disk, Commit::Fsync).unwrap();
    let mut watch = spool.watch();
    let promises: Vec<_> = (0..60)
        .map(|n| spool.append_blocking(record(n)).unwrap())
        .collect();
    assert!(watch.has_changed().unwrap());
    assert_eq!(watch.borrow_and_update().next, 60);
    for promise in &promises {
        let receipt = promise.receipt();
        let found = spool.find(&receipt).unwrap().unwrap();
        assert_eq!(
            (found.seq, &found.leaf_hash),
            (promise.seq(), promise.leaf_hash())
        );
        let prefix: ReceiptPrefix = receipt.to_string().get(..4).unwrap().parse().unwrap();
        assert!(spool.find_all(&prefix).unwrap().contains(&found));
    }
    assert!(
        spool
            .find(&"r-000000000000".parse().unwrap())
            .unwrap()
            .is_none()
    );
    assert!(spool.read_from(60, 10).unwrap().is_empty());
    assert!(spool.read_from(u64::MAX, 10).unwrap().is_empty());
}

#[test]
fn a_writer_comes_round_unless_its_disk_hangs() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .unwrap();
    for commit in [Commit::Fsync, Commit::Os] {
        let disk = Disk::new(0);
        let (spool, _) = open_spool(&disk, commit).unwrap();
        runtime.block_on(spool.turn()).unwrap();
        let _promise = spool.append_blocking(record(1)).unwrap();
        runtime.block_on(spool.turn()).unwrap();
    }
    let disk = Disk::new(0);
    let (spool, _) = open_spool(&disk, Commit::Fsync).unwrap();
    let hanging = disk.hang();
    let theirs = spool.clone();
    let appending = std::thread::spawn(move || theirs.append_blocking(record(1)));
    let waits = std::time::Duration::from_millis(20);
    // Until the record is with the writer, it still comes round.
    while runtime.block_on(async { tokio::time::timeout(waits, spool.turn()).await.is_ok() }) {}
    drop(hanging);
    runtime.block_on(spool.turn()).unwrap();
    assert_eq!(appending.join().unwrap().unwrap().seq(), 0);
}
