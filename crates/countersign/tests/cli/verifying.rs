//! `audit verify`, offline: nothing is running, nothing is asked.

use crate::support::Place;
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
