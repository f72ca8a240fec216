//! Skipping a pillar or forging a proof does not compile; the same code without that one step
//! does.
//!
//! The compiler is given each file of `tests/compile` with the library that was built for this
//! test, so nothing is built for it again. What must not compile fails for the reasons in its
//! `.stderr`, and for no other.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![expect(
    clippy::disallowed_methods,
    reason = "the crate is pure; its tests read files and run the compiler"
)]

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

const CASES: &str = "tests/compile";

#[test]
fn the_proof_chain_holds_at_compile_time() {
    let (sound, unsound) = (cases(".pass.rs"), cases(".fail.rs"));
    assert!(!unsound.is_empty());
    assert_eq!(sound, unsound, "each has its counterpart");
    let ledgers = libraries("countersign_ledger");
    for case in &unsound {
        let sound = format!("{CASES}/{case}.pass.rs");
        // The core was built with one of them, whose types are none of the others'.
        let tried: Vec<_> = ledgers.iter().map(|it| faults(&sound, it)).collect();
        let ledger = tried.iter().position(String::is_empty);
        let ledger = &ledgers[ledger.unwrap_or_else(|| panic!("{sound}: {tried:?}"))];
        let reasons = std::fs::read_to_string(format!("{CASES}/{case}.fail.stderr")).unwrap();
        let found = faults(&format!("{CASES}/{case}.fail.rs"), ledger);
        assert_eq!(found, reasons, "{case}");
    }
}

/// The names of the cases that have a file with this end.
fn cases(end: &str) -> BTreeSet<String> {
    let names = std::fs::read_dir(CASES)
        .unwrap()
        .map(|it| it.unwrap().file_name().into_string().unwrap());
    names
        .filter_map(|name| name.strip_suffix(end).map(str::to_owned))
        .collect()
}

/// What the compiler has against a file: place, code and reason of each error, one a line.
fn faults(file: &str, ledger: &Path) -> String {
    let out = tempfile::tempdir().unwrap();
    let libraries = libraries("countersign_core");
    let newest = libraries.first().unwrap();
    let library = |name: &str, path: &Path| format!("--extern={name}={}", path.display());
    let output = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["--crate-name=case", "--edition=2024", "--emit=metadata"])
        .args(["--cap-lints=allow", "--error-format=short", "--color=never"])
        .arg(library("countersign_core", newest))
        .arg(library("countersign_ledger", ledger))
        .arg(format!("-Ldependency={}", built().display()))
        .arg("--out-dir")
        .arg(out.path())
        .arg(file)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.success(), said.is_empty(), "{file}");
    let errors = said
        .lines()
        .filter(|line| !line.starts_with("error: aborting due to"));
    errors.map(|line| format!("{line}\n")).collect()
}

/// A library as it was built with this test, the newest first: what is newer than what the test
/// was linked with is of no older source.
fn libraries(name: &str) -> Vec<PathBuf> {
    let files = std::fs::read_dir(built()).unwrap();
    let mut found: Vec<_> = files
        .map(|it| it.unwrap().path())
        .filter(|path| {
            let file = path.file_name().unwrap().to_string_lossy();
            file.starts_with(&format!("lib{name}-")) && file.ends_with(".rlib")
        })
        .collect();
    found.sort_by_key(|path| Reverse(path.metadata().unwrap().modified().unwrap()));
    found
}

/// The folder of what was built with this test.
fn built() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().to_owned()
}
