//! Partners at doors of their own, by programs that share no code with this one.

use crate::support::Place;
use countersign_testkit::not_run;
use std::path::Path;
use std::process::Command;

/// Whether Python can do cryptography and curl is here; says so if not.
fn others() -> bool {
    let here = |program: &str, arguments: &[&str]| {
        let ran = Command::new(program).args(arguments).output();
        ran.is_ok_and(|output| output.status.success())
    };
    let tools = here("curl", &["--version"]) && here("openssl", &["version"]);
    if tools && here("python3", &["-c", "import cryptography"]) {
        return true;
    }
    not_run("curl, openssl and python3 with the package `cryptography` are not installed");
    false
}

#[test]
fn partners_get_tokens_at_their_own_doors_and_nobody_else_does() {
    if !others() {
        return;
    }
    let place = Place::new();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/partners.py");
    let mut python = Command::new("python3");
    python.arg("-B").arg(script);
    python
        .arg(env!("CARGO_BIN_EXE_countersign"))
        .arg(place.path());
    let output = python.output().unwrap();
    let log = std::fs::read_to_string(place.path().join("up.log")).unwrap_or_default();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{err}\n{out}\n{log}");
    assert!(out.trim_end().ends_with("OK"), "{out}");
    // Each code of a refusal that partners alone have, and each they share with workloads.
    for code in [
        "CSD201", "CSD202", "CSD203", "CSD204", "CSD205", "CSD216", "CSD225", "CSD303",
    ] {
        assert!(out.contains(&format!("refused  {code}")), "{code}: {out}");
    }
}
