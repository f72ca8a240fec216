//! `cargo xtask judges`: programs that others wrote judge the binary as it is shipped.
//!
//! A judge that is not installed proves nothing: it is named, and with `--require-all` that is a
//! failure.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::shell;

/// Each a script of its own; its last line says what was judged.
const SUITES: [&str; 2] = ["conformance/tls/run.py", "conformance/api/run.py"];
/// The status of a script that lacks something, as in automake.
const NOT_RUN: i32 = 77;

/// Builds the program and has it judged; true when nobody found anything.
///
/// # Errors
/// When cargo or Python can't be started.
pub(crate) fn run(require_all: bool) -> Result<bool> {
    let built = shell::succeeds(&mut shell::cargo(&[
        "build",
        "--release",
        "--locked",
        "--package",
        "countersign",
    ]))?;
    let mut passed = built;
    for suite in SUITES.into_iter().filter(|_| built) {
        println!("-- {suite}");
        let verdict = Verdict::of(judged(suite)?);
        println!("-- {suite}: {verdict:?}");
        passed &= verdict.is_good(require_all);
    }
    Ok(passed)
}

/// What came of a suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Failed,
    NotRun,
    Passed,
}

impl Verdict {
    const fn of(status: Option<i32>) -> Self {
        match status {
            Some(0) => Self::Passed,
            Some(NOT_RUN) => Self::NotRun,
            _ => Self::Failed,
        }
    }

    fn is_good(self, require_all: bool) -> bool {
        self == Self::Passed || (self == Self::NotRun && !require_all)
    }
}

fn judged(suite: &str) -> Result<Option<i32>> {
    let mut python = Command::new("python3");
    python
        .args(["-B", suite])
        .current_dir(shell::root())
        .env("COUNTERSIGN_BIN", program())
        .stdin(Stdio::null());
    let status = python.status().context("can't start python3")?;
    Ok(status.code())
}

/// The program as it is shipped.
fn program() -> PathBuf {
    shell::target().join("release/countersign")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_judged_is_good_where_all_is_required() {
        let good = |status, require_all| Verdict::of(status).is_good(require_all);
        assert!(good(Some(0), true) && good(Some(0), false));
        assert!(good(Some(NOT_RUN), false) && !good(Some(NOT_RUN), true));
        assert!(!good(Some(1), false) && !good(None, false));
    }

    #[test]
    fn every_suite_is_there() {
        for suite in SUITES {
            assert!(shell::root().join(suite).is_file(), "{suite}");
        }
    }
}
