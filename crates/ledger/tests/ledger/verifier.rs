//! `countersign-verify` as an auditor runs it.

use crate::ORIGIN;
use crate::key;
use crate::leaves;
use countersign_ledger::log::Log;
use countersign_ledger::storage::FsStorage;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_countersign-verify"))
        .args(arguments)
        .output();
    let output = output.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

struct Evidence {
    folder: tempfile::TempDir,
    key: String,
}

impl Evidence {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::open(Arc::new(FsStorage::new(folder.path())), ORIGIN, key()).unwrap();
        let a = leaves("a", 270);
        log.append_from("a", 0, &a[..100]).unwrap();
        std::fs::write(
            folder.path().join("old"),
            log.checkpoint().unwrap().to_string(),
        )
        .unwrap();
        log.append_from("a", 100, &a[100..]).unwrap();
        log.checkpoint().unwrap();
        let receipt = log.receipt(33).unwrap().to_json();
        std::fs::write(folder.path().join("receipt.json"), receipt).unwrap();
        let key = log.verifier().to_string();
        Self { folder, key }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn flip(&self, name: &str, at: usize) {
        let path = self.folder.path().join(name);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[at] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }
}

#[test]
fn a_good_receipt_and_a_good_log_are_verified() {
    let evidence = Evidence::new();
    let (receipt, log, old) = (
        evidence.path("receipt.json"),
        evidence.path("log"),
        evidence.path("old"),
    );
    let (code, out, _) = run(&["--key", &evidence.key, &receipt]);
    assert_eq!(code, 0);
    assert!(out.contains(": leaf 33 of 270, path ") && out.contains("VERIFIED with the key of"));
    let (code, out, _) = run(&["--key", &evidence.key, "--log", &log, "--since", &old]);
    assert_eq!(code, 0);
    assert!(
        out.contains("270 leaves, 270 of them in the chains of 1 nodes"),
        "{out}"
    );
    assert!(out.contains("contains the tree of 100 leaves"), "{out}");
    assert!(
        out.ends_with("VERIFIED with the key of audit.test.example/log\n"),
        "{out}"
    );
}

#[test]
fn without_a_key_nothing_is_called_verified() {
    let evidence = Evidence::new();
    for arguments in [
        vec![evidence.path("receipt.json")],
        vec!["--log".into(), evidence.path("log")],
    ] {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let (code, out, _) = run(&arguments);
        assert_eq!(code, 0);
        assert!(
            out.contains("CONSISTENT, NOT ANCHORED") && !out.contains("VERIFIED"),
            "{out}"
        );
    }
}

#[test]
fn what_was_tampered_with_is_named() {
    let evidence = Evidence::new();
    let (key, log) = (evidence.key.as_str(), evidence.path("log"));
    evidence.flip("log/tile/entries/000", 40);
    let (code, out, error) = run(&["--key", key, "--log", &log]);
    assert_eq!((code, out.as_str()), (5, ""));
    assert!(
        error.starts_with("TAMPERED: ") && error.contains("leaf `0`"),
        "{error}"
    );
    evidence.flip("log/tile/entries/000", 40);
    evidence.flip("log/checkpoint", 30);
    assert_eq!(run(&["--key", key, "--log", &log]).0, 5);
    evidence.flip("log/checkpoint", 30);
    assert_eq!(run(&["--key", key, "--log", &log]).0, 0);
    evidence.flip("receipt.json", 200);
    assert_eq!(run(&["--key", key, &evidence.path("receipt.json")]).0, 5);
    // A log that is fine in itself, under a key of the same name that is not the given one.
    let other = countersign_ledger::note::SigningKey::from_seed(ORIGIN, &[1; 32]).unwrap();
    let (code, _, error) = run(&["--key", &other.verifier().to_string(), "--log", &log]);
    assert_eq!(code, 5);
    assert!(error.contains("no signature by a known key"), "{error}");
}

#[test]
fn wrong_usage_and_unreadable_files_have_their_own_codes() {
    let evidence = Evidence::new();
    let (key, receipt) = (evidence.key.as_str(), evidence.path("receipt.json"));
    for arguments in [
        &[][..],
        &["--key", key],
        &["--key"],
        &["--key", "junk", &receipt],
        &["--key", key, "--key", key, &receipt],
        &["--since", &receipt, &receipt],
        &["--log", "x", &receipt],
        &["--what", &receipt],
    ] {
        let (code, out, error) = run(arguments);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}");
        assert!(error.contains("countersign-verify --key KEY"), "{error}");
    }
    assert_eq!(run(&["--key", key, "/nowhere/receipt.json"]).0, 1);
    assert_eq!(run(&["--help"]).0, 0);
    assert!(run(&["--version"]).1.starts_with("countersign-verify "));
    assert!(Path::new(&receipt).exists());
}
