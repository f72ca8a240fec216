//! One changed byte anywhere is found, and the place is named.

use crate::disk::Disk;
use crate::leaves;
use crate::open_log;
use countersign_ledger::checkpoint::Checkpoint;
use countersign_ledger::checkpoint::SignedCheckpoint;
use countersign_ledger::log::Finding;
use countersign_ledger::log::Report;
use countersign_ledger::log::recompute;
use countersign_ledger::receipt::Receipt;
use std::sync::Arc;

fn recorded() -> (Arc<Disk>, Checkpoint) {
    let disk = Disk::new(0);
    let log = open_log(&disk).unwrap();
    log.append_from("a", 0, &leaves("a", 270)).unwrap();
    let checkpoint = log.checkpoint().unwrap().claimed().clone();
    (disk, checkpoint)
}

fn verify(disk: &Disk, checkpoint: &Checkpoint) -> Result<Report, Finding> {
    recompute(disk, "log/", checkpoint, &[], |_, _| ())
}

#[test]
fn a_changed_byte_of_a_bundle_names_its_leaf() {
    let (disk, checkpoint) = recorded();
    for (path, first) in [
        ("log/tile/entries/000", 0),
        ("log/tile/entries/001.p/14", 256),
    ] {
        let content = disk.content(path);
        let mut ends = Vec::new();
        let mut end = 0;
        while end < content.len() {
            end += 2 + usize::from(u16::from_be_bytes([content[end], content[end + 1]]));
            ends.push(end);
        }
        for at in (0..content.len()).filter(|at| *at < 800 || at % 211 == 0) {
            let mut bytes = content.clone();
            bytes[at] ^= 1;
            disk.overwrite(path, &bytes);
            let leaf = first + ends.iter().position(|end| at < *end).unwrap() as u64;
            match verify(&disk, &checkpoint) {
                Err(Finding::Leaf { index, .. }) => assert_eq!(index, leaf, "{path}, byte {at}"),
                other => panic!("{path}, byte {at}: {other:?}"),
            }
        }
        disk.overwrite(path, &content);
    }
    verify(&disk, &checkpoint).unwrap();
}

#[test]
fn a_changed_byte_of_a_hash_tile_names_it() {
    let (disk, checkpoint) = recorded();
    for path in [
        "log/tile/0/000",
        "log/tile/0/001.p/14",
        "log/tile/1/000.p/1",
    ] {
        let content = disk.content(path);
        for at in (0..content.len()).step_by(7) {
            let mut bytes = content.clone();
            bytes[at] ^= 0x80;
            disk.overwrite(path, &bytes);
            let element = at as u64 / 32;
            match verify(&disk, &checkpoint) {
                Err(Finding::Leaf { index, tile }) => {
                    assert_eq!(format!("log/{tile}"), path);
                    assert_eq!(index % 256, element);
                }
                Err(Finding::Node {
                    tile,
                    element: e,
                    first,
                    last,
                }) => {
                    assert_eq!((format!("log/{tile}").as_str(), e), (path, element));
                    assert_eq!((first, last), (0, 255));
                }
                other => panic!("{path}, byte {at}: {other:?}"),
            }
        }
        disk.overwrite(path, &content);
    }
}

#[test]
fn a_tile_missing_shortened_or_lengthened_is_found() {
    let (disk, checkpoint) = recorded();
    let tiles: Vec<_> = disk
        .files()
        .into_iter()
        .filter(|path| path.starts_with("log/tile/"))
        .collect();
    assert_eq!(tiles.len(), 5);
    for path in &tiles {
        let content = disk.content(path);
        for changed in [
            &content[..content.len() - 1],
            &[&content[..], &[0]].concat(),
            &[],
        ] {
            disk.overwrite(path, changed);
            assert!(
                verify(&disk, &checkpoint).is_err(),
                "{path}, {} bytes",
                changed.len()
            );
        }
        disk.overwrite(path, &content);
        let gone = disk.after_kill();
        gone.erase(path);
        let finding = verify(&gone, &checkpoint).unwrap_err();
        assert!(matches!(&finding, Finding::Tile { tile } if path.ends_with(tile.as_str())));
    }
    verify(&disk, &checkpoint).unwrap();
}

#[test]
fn a_leaf_changed_with_its_tiles_is_found_by_the_root() {
    let (disk, checkpoint) = recorded();
    // All of it written again by someone who holds the disk: another record 3, honest tiles.
    let forged = Disk::new(0);
    let log = open_log(&forged).unwrap();
    let mut entries = leaves("a", 270);
    let text = String::from_utf8(entries[3].clone()).unwrap();
    entries[3] = text.replace("\"n\":3", "\"n\":4").into_bytes();
    log.append_raw(&entries).unwrap();
    // The forger forgot that the next record points back.
    let finding = verify(&forged, &checkpoint).unwrap_err();
    assert!(
        matches!(
            finding,
            Finding::Chain {
                index: 4,
                seq: 4,
                ..
            }
        ),
        "{finding}"
    );
    // With the chain left out of it, the root says so.
    let raw = Disk::new(0);
    let log = open_log(&raw).unwrap();
    let plain: Vec<_> = (0..270_u32).map(u32::to_be_bytes).collect();
    log.append_raw(&plain).unwrap();
    assert!(matches!(
        verify(&raw, &checkpoint),
        Err(Finding::Root { size: 270 })
    ));
    // And the kept checkpoint: a log that is fine in itself is not the one from before.
    let current = log.checkpoint().unwrap().claimed().clone();
    let kept = [Checkpoint {
        size: 5,
        ..checkpoint.clone()
    }];
    let finding = recompute(&*raw, "log/", &current, &kept, |_, _| ()).unwrap_err();
    assert!(matches!(finding, Finding::Root { size: 5 }));
    let larger = [Checkpoint {
        size: 271,
        ..checkpoint
    }];
    let finding = recompute(&*disk, "log/", &current, &larger, |_, _| ()).unwrap_err();
    assert!(matches!(
        finding,
        Finding::Smaller {
            size: 270,
            earlier: 271
        }
    ));
}

#[test]
fn opening_refuses_to_build_on_a_changed_edge() {
    let (disk, _) = recorded();
    for path in [
        "log/tile/entries/001.p/14",
        "log/tile/0/001.p/14",
        "log/tile/1/000.p/1",
        "log/checkpoint",
        "log-head",
    ] {
        let content = disk.content(path);
        for at in (0..content.len()).step_by(content.len() / 40 + 1) {
            let changed = disk.after_kill();
            let mut bytes = content.clone();
            bytes[at] ^= 1;
            changed.overwrite(path, &bytes);
            assert!(open_log(&changed).is_err(), "{path}, byte {at}");
        }
    }
    open_log(&disk.after_kill()).unwrap();
}

#[test]
fn a_changed_position_of_a_node_is_found() {
    let (disk, _) = recorded();
    let text = String::from_utf8(disk.content("log-state")).unwrap();
    disk.overwrite(
        "log-state",
        text.replace("\"next\":270", "\"next\":269").as_bytes(),
    );
    let log = open_log(&disk).unwrap();
    let finding = log.verify(|_, _| ()).unwrap_err();
    assert!(
        matches!(finding, Finding::Position { seq: 269, .. }),
        "{finding}"
    );
}

#[test]
fn every_changed_byte_of_a_checkpoint_is_refused() {
    let (disk, _) = recorded();
    let key = crate::key();
    let content = disk.content("log/checkpoint");
    for at in 0..content.len() {
        for bit in 0..8 {
            let mut bytes = content.clone();
            bytes[at] ^= 1 << bit;
            let verified = SignedCheckpoint::parse(&bytes)
                .and_then(|signed| signed.verify(key.verifier()).cloned());
            assert!(verified.is_err(), "byte {at}, bit {bit}");
        }
    }
}

#[test]
fn every_changed_byte_of_a_receipt_is_refused() {
    let (disk, _) = recorded();
    let log = open_log(&disk).unwrap();
    let document = log.receipt(200).unwrap().to_json().into_bytes();
    let expected = log.receipt(200).unwrap();
    for at in 0..document.len() {
        let mut bytes = document.clone();
        bytes[at] ^= 1;
        // White space between members is the one thing that may change.
        if let Ok(receipt) = Receipt::from_json(&bytes)
            && receipt.verify(log.verifier(), None).is_ok()
        {
            assert_eq!(receipt, expected, "byte {at}");
            assert!(document[at].is_ascii_whitespace(), "byte {at}");
        }
    }
}
