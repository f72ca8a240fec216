//! `audit verify`, offline: nothing is running, nothing is asked.

use crate::support::Place;
use countersign_ledger::checkpoint::Checkpoint;
use countersign_ledger::checkpoint::SignedCheckpoint;
use countersign_ledger::cosignature;
use countersign_ledger::log::Log;
use countersign_ledger::note::SigningKey;
use countersign_ledger::storage::FsStorage;
use std::sync::Arc;

/// A place with a log of 300 leaves in `log/`, a receipt, an earlier checkpoint, and the key.
fn evidence() -> (Place, String) {
    let place = Place::new();
    let key = SigningKey::generate("acme.internal/log").unwrap();
    let storage = Arc::new(FsStorage::new(place.path()));
    let log = Log::open(storage, "acme.internal/log", key).unwrap();
    let leaves: Vec<_> = (0..300)
        .map(|n| format!("{{\"n\":{n}}}").into_bytes())
        .collect();
    log.append_raw(&leaves[..100]).unwrap();
    place.write("earlier", &log.checkpoint().unwrap().to_string());
    log.append_raw(&leaves[100..]).unwrap();
    log.checkpoint().unwrap();
    place.write("proof.json", &log.receipt(33).unwrap().to_json());
    let key = log.verifier().to_string();
    (place, key)
}

#[test]
fn with_the_key_it_is_verified() {
    let (place, key) = evidence();
    let done = place
        .run(&["audit", "verify", "proof.json", "--key", &key])
        .ok();
    assert!(done.out.contains("leaf 33 of 300"), "{}", done.out);
    assert!(
        done.out
            .ends_with("VERIFIED with the key of acme.internal/log\n"),
        "{}",
        done.out
    );
    let whole = place
        .run(&[
            "audit", "verify", "log", "--key", &key, "--since", "earlier",
        ])
        .ok();
    assert!(
        whole.out.contains("contains the tree of 100 leaves"),
        "{}",
        whole.out
    );
    let json = place
        .run(&["audit", "verify", "log", "--key", &key, "-o", "json"])
        .ok();
    let document = json.document("countersign.verification/v1");
    assert_eq!(
        (&document["anchored"], &document["leaves"]),
        (&true.into(), &300.into())
    );
}

/// A witness's line under the tree of this many leaves, and the key that verifies it.
fn witnessed(place: &Place, checkpoint: &str, file: &str) -> String {
    let witness = SigningKey::generate("acme.internal/log/witness/gw1").unwrap();
    let bytes = std::fs::read(place.path().join(checkpoint)).unwrap();
    let mut signed = SignedCheckpoint::parse(&bytes).unwrap();
    let line = cosignature::cosign(&signed, &witness, 1_795_600_800).unwrap();
    signed.note_mut().add(line).unwrap();
    place.write(file, &signed.to_string());
    witness.verifier().to_string()
}

#[test]
fn a_witness_vouches_for_what_it_saw_and_for_no_more() {
    let (place, key) = evidence();
    let early = witnessed(&place, "earlier", "early");
    let late = witnessed(&place, "log/checkpoint", "late");
    let run = |more: &[&str]| place.run(&[&["audit", "verify", "log"], more].concat());
    let by = |file, key| ["--witness", file, "--witness-key", key];

    let part = run(&by("early", &early)).ok();
    let anchored = "CONSISTENT, ANCHORED TO 100 OF 300 LEAVES by acme.internal/log/witness/gw1\n";
    assert!(part.out.ends_with(anchored), "{}", part.out);
    assert!(!part.out.contains("VERIFIED"), "{}", part.out);
    let whole = run(&by("late", &late)).ok();
    let verified = "VERIFIED by the witness acme.internal/log/witness/gw1\n";
    assert!(whole.out.ends_with(verified), "{}", whole.out);
    assert!(whole.out.contains("saw at 2026-11-25T"), "{}", whole.out);
    let both = [&by("early", &early)[..], &["--key", &key, "-o", "json"]].concat();
    let document = run(&both).ok().document("countersign.verification/v1");
    assert_eq!(document["witness"]["leaves"], 100);
    assert_eq!(document["anchored"], true);

    // Another witness's line, none at all, and a tree that the log does not continue.
    assert_eq!(run(&by("early", &late)).code, 5);
    assert_eq!(run(&by("earlier", &early)).code, 5);
    let elsewhere = SigningKey::generate("acme.internal/log").unwrap();
    let forked = Checkpoint {
        origin: "acme.internal/log".to_owned(),
        size: 100,
        root: [7; 32],
    };
    let forked = SignedCheckpoint::sign(forked, &elsewhere).unwrap();
    place.write("forked-tree", &forked.to_string());
    let fork = witnessed(&place, "forked-tree", "forked");
    assert_eq!(run(&by("forked", &fork)).code, 5);
    // Each without the other, or with a receipt, is not understood.
    assert_eq!(run(&["--witness", "early"]).code, 2);
    assert_eq!(run(&["--witness-key", &early]).code, 2);
    let receipt = [&["audit", "verify", "proof.json"], &by("early", &early)[..]].concat();
    assert_eq!(place.run(&receipt).code, 2);
}

#[test]
fn without_a_key_nothing_is_anchored() {
    let (place, _) = evidence();
    for path in ["proof.json", "log"] {
        let done = place.run(&["audit", "verify", path]).ok();
        assert!(
            done.out.ends_with("CONSISTENT, NOT ANCHORED\n"),
            "{}",
            done.out
        );
        assert!(!done.out.contains("VERIFIED"), "{}", done.out);
    }
}

#[test]
fn another_key_or_a_changed_byte_is_5() {
    let (place, key) = evidence();
    let other = SigningKey::generate("acme.internal/log")
        .unwrap()
        .verifier()
        .to_string();
    for path in ["proof.json", "log"] {
        let done = place.run(&["audit", "verify", path, "--key", &other]);
        assert_eq!((done.code, done.out.as_str()), (5, ""), "{path}: {done:?}");
        assert!(done.err.contains("TAMPERED"), "{}", done.err);
    }
    let tile = place.path().join("log/tile/entries/000");
    let mut bytes = std::fs::read(&tile).unwrap();
    bytes[500] ^= 1;
    std::fs::write(&tile, bytes).unwrap();
    let done = place.run(&["audit", "verify", "log", "--key", &key]);
    assert_eq!(done.code, 5, "{done:?}");
    assert!(done.err.contains("leaf"), "{}", done.err);
}

#[test]
fn what_is_no_evidence_is_not_tampering() {
    let (place, key) = evidence();
    assert_eq!(
        place
            .run(&["audit", "verify", "nowhere", "--key", &key])
            .code,
        1
    );
    assert_eq!(
        place
            .run(&["audit", "verify", "proof.json", "--key", "rubbish"])
            .code,
        2
    );
    let mixed = [
        "audit",
        "verify",
        "proof.json",
        "--key",
        &key,
        "--since",
        "earlier",
    ];
    assert_eq!(place.run(&mixed).code, 2);
}
