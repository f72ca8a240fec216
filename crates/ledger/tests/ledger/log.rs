//! The log: exactly once, proofs at every size, what opening finds.

use crate::ORIGIN;
use crate::disk::Disk;
use crate::key;
use crate::leaves;
use crate::open_log;
use countersign_ledger::ReceiptId;
use countersign_ledger::ReceiptPrefix;
use countersign_ledger::log::Log;
use countersign_ledger::log::LogError;
use countersign_ledger::log::ReadLeaf;
use countersign_ledger::note::SigningKey;
use countersign_ledger::receipt::Earlier;
use countersign_ledger::receipt::Receipt;
use countersign_ledger::receipt::ReceiptError;
use countersign_ledger::storage::FsStorage;
use countersign_ledger::tree::Tree;
use countersign_ledger::tree::leaf_hash;
use countersign_ledger::tree::root;
use countersign_ledger::tree::verify_consistency;
use countersign_ledger::tree::verify_inclusion;
use std::sync::Arc;

#[test]
fn leaves_are_taken_exactly_once() {
    let (a, b) = (leaves("a", 30), leaves("b", 10));
    let log = open_log(&Disk::new(0)).unwrap();
    assert_eq!(log.append_from("a", 0, &a[..10]).unwrap(), 0..10);
    assert_eq!(log.append_from("b", 0, &b).unwrap(), 10..20);
    assert_eq!(log.append_from("a", 0, &a[..10]).unwrap(), 20..20);
    assert_eq!(log.append_from("a", 5, &a[5..15]).unwrap(), 20..25);
    assert_eq!(log.append_from("a", 15, &a[15..]).unwrap(), 25..40);
    assert_eq!(log.position("a").unwrap().next, 30);
    assert_eq!(log.position("a").unwrap().hash, leaf_hash(&a[29]));
    assert_eq!(log.positions().len(), 2);
    assert!(log.position("c").is_none());
    let empty: [Vec<u8>; 0] = [];
    assert_eq!(log.append_from("a", 30, &empty).unwrap(), 40..40);
    let report = log.verify(|_, _| ()).unwrap();
    assert_eq!(
        (report.leaves, report.chained, report.nodes),
        (40, 40, log.positions())
    );
}

#[test]
fn gaps_forks_and_broken_chains_are_refused_and_leave_no_trace() {
    let a = leaves("a", 10);
    let log = open_log(&Disk::new(0)).unwrap();
    let gap = log.append_from("a", 1, &a[1..2]);
    assert!(matches!(
        gap,
        Err(LogError::Gap {
            expected: 0,
            first: 1,
            ..
        })
    ));
    log.append_from("a", 0, &a[..5]).unwrap();
    let gap = log.append_from("a", 6, &a[6..]);
    assert!(matches!(
        gap,
        Err(LogError::Gap {
            expected: 5,
            first: 6,
            ..
        })
    ));
    let text = String::from_utf8(a[3].clone()).unwrap();
    let other = text.replace("\"n\":3", "\"n\":4").into_bytes();
    let forked = log.append_from("a", 3, &[other.clone(), a[4].clone(), a[5].clone()]);
    assert!(matches!(forked, Err(LogError::Forked { seq: 3, .. })));
    let text = String::from_utf8(a[5].clone()).unwrap();
    let prev = hex::encode(leaf_hash(&a[4]));
    let broken = text.replace(&prev, &hex::encode([9; 32])).into_bytes();
    let broken = log.append_from("a", 5, &[broken]);
    assert!(matches!(broken, Err(LogError::BrokenChain { seq: 5, .. })));
    // The second leaf of a batch is no better than the first.
    let changed = String::from_utf8(a[5].clone())
        .unwrap()
        .replace("\"n\":5", "\"n\":6");
    let broken = log.append_from("a", 5, &[changed.into_bytes(), a[6].clone()]);
    assert!(matches!(broken, Err(LogError::BrokenChain { seq: 6, .. })));
    for (node, seq, leaf) in [
        ("b", 0, a[0].clone()),
        ("a", 5, a[6].clone()),
        ("a", 5, b"{}".to_vec()),
        ("a", 5, [&a[5][..], b" "].concat()),
    ] {
        let refused = log.append_from(node, seq, &[leaf]);
        assert!(matches!(refused, Err(LogError::NotALeaf { .. })));
    }
    assert!(matches!(
        log.append_raw(&[vec![0; 65_536]]),
        Err(LogError::TooLarge(65_536))
    ));
    assert_eq!(log.size(), 5);
    assert_eq!(log.append_from("a", 5, &a[5..]).unwrap(), 5..10);
}

/// What is read on the way is no other check.
#[test]
fn leaves_that_were_read_are_taken_as_others_are() {
    #[derive(Debug, serde::Deserialize)]
    struct Numbered {
        n: u64,
    }
    let a = leaves("a", 10);
    let (plain, reading) = (Disk::new(0), Disk::new(0));
    let (plain, reading) = (open_log(&plain).unwrap(), open_log(&reading).unwrap());
    let change = |leaf: &[u8], from: &str, to: &str| {
        let text = std::str::from_utf8(leaf).unwrap();
        assert!(text.contains(from));
        text.replace(from, to).into_bytes()
    };
    let prev = hex::encode(leaf_hash(&a[4]));
    let attempts = [
        (1, vec![a[1].clone()]),
        (0, a[..5].to_vec()),
        (6, a[6..].to_vec()),
        (3, vec![change(&a[3], "\"n\":3", "\"n\":4"), a[4].clone()]),
        (5, vec![change(&a[5], &prev, &hex::encode([9; 32]))]),
        (5, vec![change(&a[5], "\"n\":5", "\"n\":6"), a[6].clone()]),
        (5, vec![change(&a[5], "\"n\":5", "\"n\":")]),
        (5, vec![change(&a[5], "\"node\":\"a\"", "\"node\":\"b\"")]),
        (5, vec![a[6].clone()]),
        (5, vec![b"{}".to_vec()]),
        (5, vec![[&a[5][..], b" "].concat()]),
        (5, vec![a[5].clone(), Vec::new()]),
        // No `Numbered`, and a record all the same.
        (5, vec![change(&a[5], "\"n\":5", "\"n\":\"five\"")]),
        (3, a[3..5].to_vec()),
    ];
    for (first, leaves) in attempts {
        let read: Vec<_> = leaves
            .iter()
            .map(|it| ReadLeaf::<Numbered>::new(it))
            .collect();
        let expected = format!("{:?}", plain.append_from("a", first, &leaves));
        let got = format!("{:?}", reading.append_read("a", first, &read));
        assert_eq!(got, expected);
        assert_eq!(reading.positions(), plain.positions());
    }
    assert_eq!(reading.size(), 6);
    reading.verify(|_, _| ()).unwrap();
    let read = ReadLeaf::<Numbered>::new(&a[3]);
    assert_eq!(read.hash(), leaf_hash(&a[3]));
    assert!(read.is_leaf());
    let (node, seq, record) = read.into_parts().unwrap();
    assert_eq!((node, seq, record.unwrap().n), ("a", 3, 3));
    let none = ReadLeaf::<Numbered>::new(b"{}");
    assert!(!none.is_leaf() && none.into_parts().is_none());
}

#[test]
fn proofs_hold_at_every_size_across_tiles_and_restarts() {
    let disk = Disk::new(0);
    let count = 700_u64;
    let entries: Vec<_> = (0..count).map(|n| n.to_be_bytes().to_vec()).collect();
    let hashes: Vec<_> = entries.iter().map(|entry| leaf_hash(entry)).collect();
    let tree: Tree = hashes.iter().copied().collect();
    let mut done = 0;
    for step in [1, 254, 1, 1, 250, 5, 188] {
        let log = open_log(&disk).unwrap();
        assert_eq!(log.size(), done as u64);
        log.append_raw(&entries[done..done + step]).unwrap();
        done += step;
        let checkpoint = log.checkpoint().unwrap();
        assert_eq!(
            checkpoint.claimed().root,
            root(&hashes[..done]),
            "size {done}"
        );
        log.verify(|_, _| ()).unwrap();
    }
    assert_eq!((done as u64, tree.root()), (count, root(&hashes)));
    let log = open_log(&disk).unwrap();
    for size in [1, 2, 3, 255, 256, 257, 511, 512, 513, 699, 700] {
        let tree_root = root(&hashes[..size as usize]);
        for index in [0, size / 3, size / 2, size - 1] {
            let path = log.inclusion_proof(index, size).unwrap();
            verify_inclusion(index, size, &hashes[index as usize], &path, &tree_root).unwrap();
        }
        let proof = log.consistency_proof(size, count).unwrap();
        verify_consistency(size, &tree_root, count, &root(&hashes), &proof).unwrap();
    }
    for index in 0..count {
        assert_eq!(log.entry(index).unwrap(), entries[index as usize]);
        assert_eq!(log.index_of(&hashes[index as usize]).unwrap(), Some(index));
    }
    assert_eq!(log.index_of(&[0; 32]).unwrap(), None);
    assert!(log.entry(count).is_err());
    assert!(log.inclusion_proof(5, 5).is_err());
    assert!(log.inclusion_proof(0, count + 1).is_err());
    assert!(log.consistency_proof(5, 4).is_err());
    let partials = disk
        .files()
        .iter()
        .filter(|name| name.contains("000.p/"))
        .count();
    assert_eq!(
        partials,
        2,
        "only the level above has a partial first tile: {:?}",
        disk.files()
    );
}

#[test]
fn leaves_are_found_by_hash_and_receipt_in_sealed_chunks() {
    let disk = Disk::new(0);
    let log = open_log(&disk).unwrap();
    let count = 66_000_u64;
    let entries: Vec<_> = (0..count).map(|n| n.to_be_bytes()).collect();
    for batch in entries.chunks(20_000) {
        log.append_raw(batch).unwrap();
    }
    assert!(disk.files().contains(&"log-index/0-000000".to_owned()));
    let look_up = |log: &Log| {
        for index in [0, 1, 7, 255, 256, 65_535, 65_536, 65_999]
            .into_iter()
            .chain((0..count).step_by(997))
        {
            let hash = leaf_hash(&entries[index as usize]);
            assert_eq!(log.index_of(&hash).unwrap(), Some(index));
            let receipt = ReceiptId::from(&hash);
            assert_eq!(log.find(&receipt.into()).unwrap(), [index]);
            let prefix: ReceiptPrefix = receipt.to_string().get(..6).unwrap().parse().unwrap();
            assert!(log.find(&prefix).unwrap().contains(&index));
        }
        assert_eq!(log.index_of(&leaf_hash(b"not there")).unwrap(), None);
        let everything: Vec<_> = ["r-0", "r-7", "r-z"]
            .iter()
            .map(|prefix| log.find(&prefix.parse().unwrap()).unwrap().len())
            .collect();
        assert!(
            everything
                .iter()
                .all(|found| (1_800..2_400).contains(found)),
            "{everything:?}"
        );
    };
    look_up(&log);
    drop(log);
    look_up(&open_log(&disk).unwrap());
    disk.erase("log-index");
    look_up(&open_log(&disk).unwrap());
}

#[test]
fn receipts_verify_with_the_key_and_since_a_kept_checkpoint() {
    let a = leaves("a", 300);
    let log = open_log(&Disk::new(0)).unwrap();
    log.append_from("a", 0, &a[..100]).unwrap();
    assert!(
        matches!(log.receipt(0), Err(LogError::OutOfRange { .. })),
        "nothing is signed yet"
    );
    let kept = log.checkpoint().unwrap();
    log.append_from("a", 100, &a[100..]).unwrap();
    log.checkpoint().unwrap();
    let receipt = log.receipt(42).unwrap();
    let read = Receipt::from_json(receipt.to_json().as_bytes()).unwrap();
    assert_eq!(read, receipt);
    let verified = read.verify(log.verifier(), None).unwrap();
    assert_eq!(
        (verified.index, verified.size, verified.since),
        (42, 300, None)
    );
    assert_eq!(verified.receipt, receipt.id());
    assert_eq!(read.leaf(), a[42]);
    let text = receipt.to_tlog_proof();
    assert_eq!(
        Receipt::from_tlog_proof(&text, a[42].clone()).unwrap(),
        receipt
    );
    let proof = log.consistency_proof(100, 300).unwrap();
    let earlier = Earlier {
        checkpoint: kept,
        proof,
    };
    assert_eq!(
        read.verify(log.verifier(), Some(&earlier)).unwrap().since,
        Some(100)
    );
    let mut forged = earlier.clone();
    forged.proof[0][0] ^= 1;
    let refused = read.verify(log.verifier(), Some(&forged));
    assert!(matches!(refused, Err(ReceiptError::NotConsistent(_))));
    let other = SigningKey::from_seed(ORIGIN, &[8; 32]).unwrap();
    assert!(matches!(
        read.verify(other.verifier(), None),
        Err(ReceiptError::Checkpoint(_))
    ));
    assert!(read.included().is_ok());
}

/// A log of 300 leaves, signed and published.
fn signed_log() -> Arc<Disk> {
    let disk = Disk::new(0);
    let log = open_log(&disk).unwrap();
    let a = leaves("a", 300);
    log.append_from("a", 0, &a[..40]).unwrap();
    log.checkpoint().unwrap();
    log.append_from("a", 40, &a[40..]).unwrap();
    log.checkpoint().unwrap();
    disk
}

#[test]
fn a_log_folder_put_back_from_yesterday_is_found() {
    let disk = signed_log();
    let yesterday = Disk::new(0);
    let log = open_log(&yesterday).unwrap();
    log.append_from("a", 0, &leaves("a", 40)).unwrap();
    log.checkpoint().unwrap();
    drop(log);
    let restored = disk.after_kill();
    restored.erase("log");
    for path in yesterday
        .files()
        .iter()
        .filter(|path| path.starts_with("log/"))
    {
        use countersign_ledger::storage::Storage;
        restored.write(path, &yesterday.content(path)).unwrap();
    }
    assert!(matches!(
        open_log(&restored),
        Err(LogError::RolledBack { size: 300, .. })
    ));
    // The state put back as well does not help.
    restored.overwrite("log-state", &yesterday.content("log-state"));
    assert!(matches!(
        open_log(&restored),
        Err(LogError::RolledBack { .. })
    ));
    restored.erase("log-head");
    assert!(matches!(open_log(&restored), Err(LogError::HeadMissing)));
}

#[test]
fn what_lies_behind_is_brought_up_to_what_was_signed() {
    let expected = open_log(&signed_log()).unwrap().checkpoint().unwrap();
    let empty = Disk::new(0);
    drop(open_log(&empty).unwrap());
    for (path, old) in [
        ("log-state", empty.content("log-state")),
        ("log-head", empty.content("log-head")),
    ] {
        let disk = signed_log();
        disk.overwrite(path, &old);
        let log = open_log(&disk).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(log.checkpoint().unwrap(), expected);
        assert_eq!(log.position("a").unwrap().next, 300);
        log.verify(|_, _| ()).unwrap();
    }
    let disk = signed_log();
    disk.erase("log-state");
    assert_eq!(open_log(&disk).unwrap().position("a").unwrap().next, 300);
    let disk = signed_log();
    disk.erase("log/checkpoint");
    assert_eq!(open_log(&disk).unwrap().checkpoint().unwrap(), expected);
}

#[test]
fn files_of_another_log_are_refused() {
    let disk = signed_log();
    disk.overwrite("log-state", b"{}");
    assert!(matches!(open_log(&disk), Err(LogError::State)));
    for path in ["log-head", "log/checkpoint"] {
        let disk = signed_log();
        let forged = SigningKey::from_seed(ORIGIN, &[9; 32]).unwrap();
        let other = Disk::new(0);
        let log = Log::open(Arc::clone(&other) as _, ORIGIN, forged).unwrap();
        log.append_raw(&["x"]).unwrap();
        log.checkpoint().unwrap();
        disk.overwrite(path, &other.content(path));
        assert!(matches!(open_log(&disk), Err(LogError::NotOurs { path: p, .. }) if p == path));
        disk.overwrite(path, b"junk");
        assert!(matches!(open_log(&disk), Err(LogError::NotOurs { .. })));
    }
    let wrong = Log::open(Disk::new(0), "another.example/log", key());
    assert!(matches!(wrong, Err(LogError::Checkpoint(_))));
}

#[test]
fn a_checkpoint_of_a_fork_by_the_same_key_is_refused() {
    let fork = Disk::new(0);
    let log = open_log(&fork).unwrap();
    log.append_from("b", 0, &leaves("b", 40)).unwrap();
    log.checkpoint().unwrap();
    for path in ["log-head", "log/checkpoint"] {
        let disk = signed_log();
        disk.overwrite(path, &fork.content(path));
        let opened = open_log(&disk);
        assert!(
            matches!(&opened, Err(LogError::Inconsistent { what, size: 40 }) if what == path),
            "{path}: {opened:?}"
        );
    }
    let disk = signed_log();
    let state = String::from_utf8(disk.content("log-state")).unwrap();
    let state = state.replace("\"size\":300", "\"size\":299");
    disk.overwrite("log-state", state.as_bytes());
    assert!(matches!(
        open_log(&disk),
        Err(LogError::Inconsistent { size: 299, .. })
    ));
}

#[test]
fn one_process_at_a_time_on_real_files() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Log::open(Arc::new(FsStorage::new(folder.path())), ORIGIN, key());
    let log = open().unwrap();
    assert!(matches!(open(), Err(LogError::Storage(_))));
    log.append_from("a", 0, &leaves("a", 300)).unwrap();
    let checkpoint = log.checkpoint().unwrap();
    let published = std::fs::read(folder.path().join("log/checkpoint")).unwrap();
    assert_eq!(checkpoint.to_string().as_bytes(), published);
    assert!(folder.path().join("log/tile/0/000").exists());
    assert!(folder.path().join("log/tile/entries/001.p/44").exists());
    assert!(folder.path().join("log/tile/1/000.p/1").exists());
    drop(log);
    let log = open().unwrap();
    assert_eq!(log.checkpoint().unwrap(), checkpoint);
    log.verify(|_, _| ()).unwrap();
}
