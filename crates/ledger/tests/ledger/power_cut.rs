//! `kill -9` keeps the page cache, so it passes without any sync. This does not.

use crate::append_many;
use crate::disk::Disk;
use crate::disk::Fault;
use crate::disk::Random;
use crate::leaves;
use crate::open_log;
use crate::open_spool;
use crate::record;
use countersign_ledger::checkpoint::Checkpoint;
use countersign_ledger::log::Log;
use countersign_ledger::spool::Commit;
use countersign_ledger::tree::verify_consistency;
use std::sync::Arc;

const SEEDS: u64 = 1000;

/// Every record that was ever promised, by its sequence.
type Promised = std::collections::BTreeMap<u64, Vec<u8>>;

#[test]
fn every_promised_record_of_a_spool_survives() {
    let (mut promised_at_all, mut torn) = (0, 0);
    for seed in 0..SEEDS {
        let mut random = Random::new(seed);
        let mut disk = Disk::new(seed);
        let mut promised = Promised::new();
        for life in 0..3 {
            disk.fail_at(5 + random.below(60), Fault::PowerCut);
            if random.below(3) == 0 {
                disk.fail_at(random.below(30), Fault::Broken);
            }
            if random.below(3) == 0 {
                disk.fail_at(random.below(30), Fault::NoSpace);
            }
            // The fault may strike while opening.
            if let Ok((spool, recovered)) = open_spool(&disk, Commit::Fsync) {
                torn += recovered.truncated_bytes;
                for round in 0..6 {
                    let first = seed * 100 + life * 30 + round * 5;
                    let answers = append_many(&spool, first..first + 1 + random.below(5));
                    for (n, answer) in (first..).zip(answers) {
                        if let Ok(promise) = answer {
                            assert!(promise.covers(&record(n)));
                            promised.insert(promise.seq(), record(n));
                        }
                    }
                }
            }
            disk = disk.after_power_cut(&mut random);
            check_spool(&disk, &promised, seed);
        }
        promised_at_all += promised.len();
    }
    // The model must have let things through, and torn some.
    assert!(promised_at_all > 5_000, "{promised_at_all}");
    assert!(torn > 1_000, "{torn}");
}

fn check_spool(disk: &Arc<Disk>, promised: &Promised, seed: u64) {
    let (spool, _) = match open_spool(&disk.after_kill(), Commit::Fsync) {
        Ok(opened) => opened,
        Err(error) => panic!("seed {seed}: {error}"),
    };
    let head = spool.verify().unwrap();
    assert_eq!(head, spool.head(), "seed {seed}");
    let found = spool.read_from(0, usize::MAX).unwrap();
    assert_eq!(found.len() as u64, head.next);
    for (seq, record) in promised {
        let leaf = found
            .get(*seq as usize)
            .map(|leaf| String::from_utf8_lossy(&leaf.leaf));
        let record = String::from_utf8_lossy(record);
        assert!(
            leaf.is_some_and(|leaf| leaf.contains(&*record)),
            "seed {seed}, record {seq}"
        );
    }
}

#[test]
fn a_log_never_signs_two_trees_that_contradict_one_another() {
    let nodes = ["a", "b"].map(|node| (node, leaves(node, 400)));
    let (mut signed_at_all, mut added) = (0, 0);
    for seed in 0..SEEDS {
        let mut random = Random::new(seed);
        let mut disk = Disk::new(seed);
        let mut signed: Vec<Checkpoint> = Vec::new();
        let mut acknowledged = [0_u64; 2];
        for _ in 0..3 {
            disk.fail_at(3 + random.below(150), Fault::PowerCut);
            if random.below(3) == 0 {
                disk.fail_at(random.below(60), Fault::Broken);
            }
            if random.below(3) == 0 {
                disk.fail_at(random.below(60), Fault::NoSpace);
            }
            if let Ok(log) = open_log(&disk) {
                for _ in 0..6 {
                    let which = random.below(2) as usize;
                    let (node, leaves) = &nodes[which];
                    let first = acknowledged[which].saturating_sub(random.below(3));
                    let count = 1 + random.below(50);
                    let last = (first + count).min(leaves.len() as u64);
                    let batch = &leaves[first as usize..last as usize];
                    if log.append_from(node, first, batch).is_ok() {
                        acknowledged[which] = acknowledged[which].max(last);
                    }
                    if random.below(2) == 0
                        && let Ok(checkpoint) = log.checkpoint()
                    {
                        signed.push(checkpoint.claimed().clone());
                    }
                }
                // Also what was signed and could not be published.
                signed.push(log.signed().claimed().clone());
            }
            disk = disk.after_power_cut(&mut random);
            let log = match open_log(&disk.after_kill()) {
                Ok(log) => log,
                Err(error) => panic!("seed {seed}: {error}"),
            };
            check_log(&log, &signed, seed);
            for (which, (node, _)) in nodes.iter().enumerate() {
                let next = log.position(node).map_or(0, |position| position.next);
                assert!(next >= acknowledged[which], "seed {seed}, node {node}");
                acknowledged[which] = next;
            }
        }
        signed_at_all += signed.len();
        added += acknowledged.iter().sum::<u64>();
    }
    assert!(signed_at_all > 3_000, "{signed_at_all}");
    assert!(added > 50_000, "{added}");
}

fn check_log(log: &Log, signed: &[Checkpoint], seed: u64) {
    log.verify(|_, _| ())
        .unwrap_or_else(|finding| panic!("seed {seed}: {finding}"));
    let now = log.checkpoint().unwrap();
    let now = now.verify(log.verifier()).unwrap();
    for old in signed {
        assert!(
            old.size <= now.size,
            "seed {seed}: {} of {}",
            old.size,
            now.size
        );
        let proof = log.consistency_proof(old.size, now.size).unwrap();
        verify_consistency(old.size, &old.root, now.size, &now.root, &proof)
            .unwrap_or_else(|error| panic!("seed {seed}, size {}: {error}", old.size));
    }
}
