//! The published test log of Tessera, byte for byte: see `conformance/tlog/README.md`.

use crate::disk::Disk;
use countersign_ledger::checkpoint::SignedCheckpoint;
use countersign_ledger::log::Log;
use countersign_ledger::log::recompute;
use countersign_ledger::note::SigningKey;
use countersign_ledger::note::VerifierKey;
use countersign_ledger::storage::FsStorage;
use countersign_ledger::storage::Storage;
use countersign_ledger::tiles;
use countersign_ledger::tiles::Kind;
use countersign_ledger::tiles::TilePath;
use countersign_ledger::tree::Tree;
use countersign_ledger::tree::consistency_path;
use countersign_ledger::tree::inclusion_path;
use countersign_ledger::tree::leaf_hash;
use countersign_ledger::tree::verify_consistency;
use countersign_ledger::tree::verify_inclusion;
use std::path::PathBuf;
use std::sync::Arc;

const KEY: &str = "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx";
const SIZE: u64 = 15;

fn folder() -> PathBuf {
    [
        env!("CARGO_MANIFEST_DIR"),
        "../../conformance/tlog/data/testdata/log",
    ]
    .iter()
    .collect()
}

fn published(path: &str) -> Vec<u8> {
    std::fs::read(folder().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn checkpoints() -> Vec<SignedCheckpoint> {
    let read = |size| SignedCheckpoint::parse(&published(&format!("checkpoint.{size}"))).unwrap();
    (0..=SIZE)
        .filter(|size| folder().join(format!("checkpoint.{size}")).exists())
        .map(read)
        .collect()
}

fn entries() -> Vec<Vec<u8>> {
    let bundle = published("tile/entries/000.p/15");
    tiles::decode_bundle(&bundle)
        .unwrap()
        .into_iter()
        .map(<[u8]>::to_vec)
        .collect()
}

#[test]
fn every_checkpoint_is_signed_and_has_the_root_of_its_entries() {
    let key: VerifierKey = KEY.parse().unwrap();
    let checkpoints = checkpoints();
    assert_eq!(checkpoints.len(), 16);
    let entries = entries();
    for (size, signed) in checkpoints.iter().enumerate() {
        let checkpoint = signed.verify(&key).unwrap();
        assert_eq!(checkpoint.size, size as u64);
        let tree: Tree = entries[..size]
            .iter()
            .map(|entry| leaf_hash(entry))
            .collect();
        assert_eq!(checkpoint.root, tree.root(), "size {size}");
        let bytes = published(&format!("checkpoint.{size}"));
        assert_eq!(signed.to_string().as_bytes(), bytes, "size {size}");
    }
    assert_eq!(published("checkpoint"), published("checkpoint.15"));
}

#[test]
fn every_leaf_is_included_in_and_every_tree_consistent_with_every_later_one() {
    let checkpoints = checkpoints();
    let hashes: Vec<_> = entries().iter().map(|entry| leaf_hash(entry)).collect();
    let tree: Tree = hashes.iter().copied().collect();
    for new in checkpoints.iter().map(SignedCheckpoint::claimed) {
        for index in 0..new.size {
            let path = inclusion_path(&tree, index, new.size).unwrap();
            let leaf = &hashes[index as usize];
            verify_inclusion(index, new.size, leaf, &path, &new.root).unwrap();
        }
        for old in checkpoints.iter().map(SignedCheckpoint::claimed) {
            let proof = consistency_path(&tree, old.size, new.size).unwrap();
            let checked = verify_consistency(old.size, &old.root, new.size, &new.root, &proof);
            assert_eq!(
                checked.is_ok(),
                old.size <= new.size,
                "{} to {}",
                old.size,
                new.size
            );
        }
    }
}

#[test]
fn recomputing_it_finds_nothing_at_any_size() {
    let checkpoints: Vec<_> = checkpoints().iter().map(|c| c.claimed().clone()).collect();
    let storage = FsStorage::new(folder());
    for (at, checkpoint) in checkpoints.iter().enumerate() {
        let report = recompute(&storage, "", checkpoint, &checkpoints[..=at], |_, _| ()).unwrap();
        assert_eq!((report.leaves, report.chained), (at as u64, 0));
    }
}

#[test]
fn our_log_makes_the_same_tiles_and_roots() {
    let origin = "example.com/log/testdata";
    let disk = Disk::new(0);
    let key = SigningKey::from_seed(origin, &[1; 32]).unwrap();
    let log = Log::open(Arc::clone(&disk) as Arc<dyn Storage>, origin, key).unwrap();
    let mut compared = 0;
    for (size, entry) in (1..).zip(entries()) {
        assert_eq!(log.append_raw(&[entry]).unwrap(), size - 1..size);
        let ours = log.checkpoint().unwrap();
        let theirs = SignedCheckpoint::parse(&published(&format!("checkpoint.{size}"))).unwrap();
        assert_eq!(ours.claimed(), theirs.claimed());
        for kind in [Kind::Entries, Kind::Hashes(0)] {
            let path = TilePath::new(kind, 0, size).unwrap().to_string();
            assert_eq!(
                disk.content(&format!("log/{path}")),
                published(&path),
                "{path}"
            );
            compared += 1;
        }
    }
    assert_eq!((log.size(), compared), (SIZE, 30));
}
