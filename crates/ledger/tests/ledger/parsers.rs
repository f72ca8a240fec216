//! No input makes a parser panic, and what is written reads back.

use crate::disk::Disk;
use crate::leaves;
use crate::open_log;
use countersign_ledger::ReceiptId;
use countersign_ledger::ReceiptPrefix;
use countersign_ledger::canonical;
use countersign_ledger::checkpoint::Checkpoint;
use countersign_ledger::checkpoint::SignedCheckpoint;
use countersign_ledger::note::Note;
use countersign_ledger::note::SigningKey;
use countersign_ledger::note::VerifierKey;
use countersign_ledger::receipt::Receipt;
use countersign_ledger::tiles;
use countersign_ledger::tiles::Kind;
use countersign_ledger::tiles::TilePath;
use proptest::prelude::*;
use std::sync::LazyLock;

static RECEIPT: LazyLock<Receipt> = LazyLock::new(|| {
    let log = open_log(&Disk::new(0)).unwrap();
    log.append_from("a", 0, &leaves("a", 20)).unwrap();
    log.checkpoint().unwrap();
    log.receipt(7).unwrap()
});

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Entries), (0_u8..=63).prop_map(Kind::Hashes)]
}

/// A document with one piece replaced by rubbish: much of it gets deep into the parser.
fn damaged(document: String) -> impl Strategy<Value = Vec<u8>> {
    let bytes = document.into_bytes();
    (0..bytes.len(), 0_usize..20, any::<Vec<u8>>()).prop_map(move |(at, length, rubbish)| {
        let end = bytes.len().min(at + length);
        [&bytes[..at], &rubbish, &bytes[end..]].concat()
    })
}

proptest! {
    #[test]
    fn tile_paths_read_back(kind in kind(), n: u64, width in 1_u64..=256) {
        let path = TilePath::new(kind, n, width).unwrap();
        prop_assert_eq!(path.to_string().parse(), Ok(path));
    }

    #[test]
    fn a_tile_path_is_its_own_spelling(text in "tile/(entries|[0-9]{1,2})/(x[0-9]{3}/){0,3}[0-9]{1,4}(.p/[0-9]{1,3})?") {
        if let Ok(path) = text.parse::<TilePath>() {
            prop_assert_eq!(path.to_string(), text);
        }
    }

    #[test]
    fn bundles_read_back(entries: Vec<Vec<u8>>) {
        let mut bundle = Vec::new();
        for entry in &entries {
            tiles::encode_entry(entry, &mut bundle).unwrap();
        }
        prop_assert_eq!(tiles::decode_bundle(&bundle).unwrap(), entries);
    }

    #[test]
    fn rubbish_is_a_bundle_only_as_it_is(bytes: Vec<u8>) {
        if let Ok(entries) = tiles::decode_bundle(&bytes) {
            let mut bundle = Vec::new();
            for entry in entries {
                tiles::encode_entry(entry, &mut bundle).unwrap();
            }
            prop_assert_eq!(bundle, bytes.clone());
        }
        let _ = tiles::decode_hashes(&bytes);
    }

    #[test]
    fn notes_read_back(lines in prop::collection::vec("[^\\p{Cc}]{0,30}", 1..6), name in "[a-z./]{1,20}", seed: [u8; 32]) {
        let key = SigningKey::from_seed(&name, &seed).unwrap();
        let note = key.sign(&(lines.join("\n") + "\n")).unwrap();
        let read = Note::parse(note.to_string().as_bytes()).unwrap();
        prop_assert!(read.verify(std::slice::from_ref(key.verifier())).is_ok());
        prop_assert_eq!(read, note);
        let verifier: VerifierKey = key.verifier().to_string().parse().unwrap();
        prop_assert_eq!(&verifier, key.verifier());
    }

    #[test]
    fn checkpoints_read_back(origin in "[^\\p{Cc}]{1,40}", size: u64, root: [u8; 32]) {
        let checkpoint = Checkpoint { origin, size, root };
        prop_assert_eq!(checkpoint.to_string().parse(), Ok(checkpoint));
    }

    #[test]
    fn damaged_checkpoints_and_notes_do_not_panic(bytes in damaged(RECEIPT.checkpoint().to_string())) {
        if let Ok(signed) = SignedCheckpoint::parse(&bytes) {
            prop_assert_eq!(signed.to_string().into_bytes(), bytes);
        }
    }

    #[test]
    fn damaged_receipts_do_not_panic(bytes in damaged(RECEIPT.to_json())) {
        if let Ok(receipt) = Receipt::from_json(&bytes) {
            prop_assert_eq!(Receipt::from_json(receipt.to_json().as_bytes()), Ok(receipt));
        }
    }

    #[test]
    fn damaged_proofs_do_not_panic(bytes in damaged(RECEIPT.to_tlog_proof())) {
        let text = String::from_utf8_lossy(&bytes);
        if let Ok(receipt) = Receipt::from_tlog_proof(&text, b"leaf".to_vec()) {
            let again = Receipt::from_tlog_proof(&receipt.to_tlog_proof(), b"leaf".to_vec());
            prop_assert_eq!(again, Ok(receipt));
        }
    }

    #[test]
    fn rubbish_does_not_panic(bytes: Vec<u8>, text: String) {
        let _ = Note::parse(&bytes);
        let _ = SignedCheckpoint::parse(&bytes);
        let _ = Receipt::from_json(&bytes);
        let _ = text.parse::<VerifierKey>();
        let _ = text.parse::<Checkpoint>();
        let _ = text.parse::<TilePath>();
        let _ = text.parse::<ReceiptPrefix>();
        let _ = Receipt::from_tlog_proof(&text, bytes.clone());
        let _ = canonical::is_canonical(&bytes);
    }

    #[test]
    fn receipts_ids_read_back(hash: [u8; 32]) {
        let id = ReceiptId::from(&hash);
        prop_assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn canonical_form_is_a_fixed_point(text in "\\PC{0,20}", number: i32, float: f64) {
        let value = serde_json::json!({ "b": [text.clone(), number, float], text: { "z": null, "a": true } });
        let canonical = canonical::to_canonical(&value).unwrap();
        prop_assert!(canonical::is_canonical(&canonical));
        prop_assert!(!canonical::is_canonical(&[&canonical[..], b"\n"].concat()));
    }
}
