//! `cargo xtask test`: every test of the workspace, and an honest count of them.
//!
//! A test that lacks root, a package or a service appends a line with its reason to the file
//! that `COUNTERSIGN_NOT_RUN` names and returns. It then counts as skipped, not as passed, and
//! with `--require-all` the whole run fails: what CI did not see is not proved.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::shell;

/// The environment variable that names the file of tests that could not run.
const NOT_RUN: &str = "COUNTERSIGN_NOT_RUN";

/// Runs all tests and prints the summary; true when nothing failed.
///
/// # Errors
/// When cargo can't be started or the file of reasons can't be made or read.
pub(crate) fn run(require_all: bool) -> Result<bool> {
    let (summary, passed) = run_and_summarise(require_all)?;
    println!("{summary}");
    Ok(passed)
}

/// Runs all tests; prints everything but the last line, which is returned with the verdict.
///
/// # Errors
/// As [`run`].
pub(crate) fn run_and_summarise(require_all: bool) -> Result<(String, bool)> {
    let reasons = fresh_file()?;
    let mut counts = Counts::default();
    if shell::has("nextest") {
        let arguments = [
            "nextest",
            "run",
            "--workspace",
            "--no-fail-fast",
            "--color",
            "never",
        ];
        counts.add(tests(&arguments, &reasons, nextest_counts)?);
        let arguments = ["test", "--workspace", "--doc", "--no-fail-fast"];
        counts.add(tests(&arguments, &reasons, libtest_counts)?);
    } else {
        let arguments = ["test", "--workspace", "--no-fail-fast"];
        counts.add(tests(&arguments, &reasons, libtest_counts)?);
    }
    let reasons = read_reasons(&reasons)?;
    println!();
    for reason in &reasons {
        println!("{reason}");
    }
    if require_all && !reasons.is_empty() {
        println!(
            "error: {} not run, and `--require-all` was given",
            reasons.len()
        );
    }
    let counts = counts.without_not_run(reasons.len() as u64);
    let passed = counts.failed == 0 && (reasons.is_empty() || !require_all);
    Ok((counts.to_string(), passed))
}

/// How many tests passed, failed, and were skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// The runner saw a test that could not run return normally; it proved nothing.
    fn without_not_run(self, not_run: u64) -> Self {
        Self {
            passed: self.passed.saturating_sub(not_run),
            skipped: self.skipped + not_run,
            ..self
        }
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            passed,
            failed,
            skipped,
        } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

fn tests(arguments: &[&str], reasons: &Path, count: fn(&str) -> Counts) -> Result<Counts> {
    let mut command = shell::cargo(arguments);
    command.env(NOT_RUN, reasons);
    let shown = shell::show(&mut command)?;
    let mut counts = count(&shown.text);
    if !shown.success && counts.failed == 0 {
        // The build broke, or the runner did: no test of it counts as good.
        println!(
            "error: `cargo {}` failed without a failed test",
            arguments.join(" ")
        );
        counts.failed = 1;
    }
    Ok(counts)
}

/// An empty file under the target folder: one run never reads the reasons of another.
fn fresh_file() -> Result<PathBuf> {
    let path = shell::target().join("not-run.txt");
    fs::create_dir_all(shell::target())
        .and_then(|()| fs::write(&path, ""))
        .with_context(|| format!("can't write {}", path.display()))?;
    Ok(path)
}

/// One reason a line, sorted, each once: a retried test gives its reason twice.
fn read_reasons(path: &Path) -> Result<Vec<String>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?;
    let mut reasons: Vec<String> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|line| match line.strip_prefix("NOT RUN: ") {
            Some(_) => line.to_owned(),
            None => format!("NOT RUN: {line}"),
        })
        .collect();
    reasons.sort();
    reasons.dedup();
    Ok(reasons)
}

/// Sums libtest's closing lines: `test result: ok. 3 passed; 0 failed; 1 ignored; ..`.
fn libtest_counts(text: &str) -> Counts {
    let mut counts = Counts::default();
    for line in text.lines() {
        let Some(rest) = line.trim().strip_prefix("test result: ") else {
            continue;
        };
        let rest = rest.split_once(". ").map_or(rest, |(_, numbers)| numbers);
        for (number, what) in numbers(rest, ';') {
            match what {
                "passed" => counts.passed += number,
                "failed" => counts.failed += number,
                "ignored" => counts.skipped += number,
                _ => {}
            }
        }
    }
    counts
}

/// Reads nextest's closing line:
/// `Summary [ 1.2s] 9/10 tests run: 7 passed (1 slow), 1 failed, 1 timed out, 2 skipped`.
fn nextest_counts(text: &str) -> Counts {
    let mut counts = Counts::default();
    for line in text.lines() {
        let Some(rest) = line.trim().strip_prefix("Summary [") else {
            continue;
        };
        let Some((_, rest)) = rest.split_once(" run: ") else {
            continue;
        };
        for (number, what) in numbers(rest, ',') {
            match what {
                "passed" => counts.passed += number,
                "failed" | "timed out" | "exec failed" => counts.failed += number,
                "skipped" => counts.skipped += number,
                _ => {}
            }
        }
    }
    counts
}

/// The pairs of `1 this; 2 that (note)`, without the notes.
fn numbers(text: &str, separator: char) -> impl Iterator<Item = (u64, &str)> {
    text.split(separator).filter_map(|part| {
        let (number, what) = part.trim().split_once(' ')?;
        let what = what.split(" (").next().unwrap_or(what).trim();
        Some((number.parse().ok()?, what))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtest_lines_are_summed() {
        let text = "running 4 tests\n\
            test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.1s\n\
            test result: FAILED. 5 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s\n";
        let expect = Counts {
            passed: 8,
            failed: 2,
            skipped: 1,
        };
        assert_eq!(libtest_counts(text), expect);
    }

    #[test]
    fn nextest_summary_is_read_with_its_notes() {
        let text = "     Summary [   1.2s] 10/11 tests run: 7 passed (1 slow, 1 flaky), \
            1 failed, 1 timed out, 1 exec failed, 2 skipped\n";
        let expect = Counts {
            passed: 7,
            failed: 3,
            skipped: 2,
        };
        assert_eq!(nextest_counts(text), expect);
    }

    #[test]
    fn a_note_of_several_parts_is_not_counted() {
        let text = "Summary [ 1s] 3 tests run: 3 passed (2 slow, 5 leaky), 0 skipped";
        let expect = Counts {
            passed: 3,
            failed: 0,
            skipped: 0,
        };
        assert_eq!(nextest_counts(text), expect);
    }

    #[test]
    fn a_test_that_could_not_run_is_skipped_and_not_passed() {
        let counts = Counts {
            passed: 5,
            failed: 1,
            skipped: 1,
        }
        .without_not_run(2);
        assert_eq!(counts.to_string(), "3 passed, 1 failed, 3 skipped");
    }

    #[test]
    fn reasons_are_read_once_each() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(
            file.path(),
            "NOT RUN: t: needs root\n\nu: no openssl\nNOT RUN: t: needs root\n",
        )
        .expect("written");
        let reasons = read_reasons(file.path()).expect("read");
        assert_eq!(
            reasons,
            ["NOT RUN: t: needs root", "NOT RUN: u: no openssl"]
        );
    }
}
