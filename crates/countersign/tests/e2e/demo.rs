//! The tour can't print canned lines: a Python script recomputes all it claims from what it kept.

use crate::fixture::binary;
use crate::fixture::python;
use crate::fixture::said;
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::process::Output;

fn countersign(arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).output().unwrap()
}

#[test]
fn what_the_tour_claims_is_what_it_kept() {
    let folder = tempfile::tempdir().unwrap();
    let keep = folder.path().join("kept");
    let keep = keep.to_str().unwrap();
    let output = countersign(&["demo", "-o", "json", "--keep", keep]);
    assert!(output.status.success(), "{}", said(&output));
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        printed.get("schema").and_then(Value::as_str),
        Some("countersign.demo/v1")
    );
    assert_eq!(printed.get("holds").and_then(Value::as_bool), Some(true));
    let kept: Value =
        serde_json::from_slice(&std::fs::read(format!("{keep}/demo.json")).unwrap()).unwrap();
    assert_eq!(printed, kept);
    if !python() {
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/verify_demo.py");
    let judged = Command::new("python3")
        .arg(script)
        .arg(keep)
        .output()
        .unwrap();
    assert!(judged.status.success(), "{}", said(&judged));
    assert!(
        String::from_utf8_lossy(&judged.stdout).starts_with("OK: 6 steps"),
        "{}",
        said(&judged)
    );
}

#[test]
fn the_tour_leaves_nothing_behind_and_says_so_on_one_screen() {
    let temporary = tempfile::tempdir().unwrap();
    let output = Command::new(binary())
        .arg("demo")
        .env("TMPDIR", temporary.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    for word in [
        "encryption",
        "identity",
        "continuous-verification",
        "micro-segmentation",
        "least-privilege",
        "audit",
        "VERIFIED",
    ] {
        assert!(text.contains(word), "{word} is missing:\n{text}");
    }
    assert!(text.lines().count() <= 24, "{text}");
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
}

#[test]
fn the_tour_touches_no_folder_that_is_in_use() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mine"), "x").unwrap();
    let output = countersign(&["demo", "--keep", folder.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("is not empty"),
        "{}",
        said(&output)
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
