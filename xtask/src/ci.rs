//! `cargo xtask ci`: every check of `.ci/run`, in order, each step timed.
//!
//! A failed step does not stop the next: one run tells everything that is wrong. The tests'
//! summary is printed again as the very last line.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::bench;
use crate::judges;
use crate::shell;
use crate::test;
use crate::tidy;

/// Runs all steps; true when each one passed.
///
/// # Errors
/// When a tool can't be started.
pub(crate) fn run() -> Result<bool> {
    let mut steps = Steps::default();
    steps.run("fmt", || cargo(&["fmt", "--all", "--check"]))?;
    steps.run("tidy", tidy::run)?;
    steps.run("clippy", clippy)?;
    let mut summary = String::new();
    steps.run("test", || {
        let passed;
        (summary, passed) = test::run_and_summarise(true)?;
        println!("{summary}");
        Ok(passed)
    })?;
    steps.run("docs", docs)?;
    steps.run("release build", || {
        cargo(&["build", "--release", "--locked"])
    })?;
    steps.run("demo", || {
        cargo(&["run", "--release", "--locked", "--", "demo"])
    })?;
    steps.run("attacks on the release binary", attacks)?;
    steps.run("judges", || judges::run(true))?;
    steps.run("examples", examples)?;
    steps.run("bench", || bench::run(&["--smoke"]))?;
    steps.run("verifier alone", verifier)?;
    steps.run("deny", || {
        cargo(&["deny", "--locked", "check", "licenses", "bans", "sources"])
    })?;
    let passed = steps.print();
    println!("{summary}");
    Ok(passed)
}

/// The end-to-end runs again, against the program as it is shipped.
fn attacks() -> Result<bool> {
    // Of the whole workspace, with whose features everything is built already.
    let mut tests = shell::cargo(&["test", "--locked", "--workspace", "--test", "e2e"]);
    shell::succeeds(tests.env("COUNTERSIGN_BIN", shell::target().join(PROGRAM)))
}

/// The stories of the documentation as separate processes.
const EXAMPLES: [&str; 5] = [
    "examples/three-line/run.sh",
    "examples/front/run.sh",
    "examples/mesh/run.sh",
    "examples/hms/run.sh",
    "examples/partner/run.sh",
];
/// The program as it is shipped.
const PROGRAM: &str = "release/countersign";

#[derive(Default)]
struct Steps {
    done: Vec<(&'static str, Duration, bool)>,
}

impl Steps {
    fn run(&mut self, name: &'static str, step: impl FnOnce() -> Result<bool>) -> Result<()> {
        println!("== {name}");
        let start = Instant::now();
        let passed = step()?;
        let took = start.elapsed();
        println!("== {}", line(name, took, passed));
        println!();
        self.done.push((name, took, passed));
        Ok(())
    }

    /// All steps with their times; true when each one passed.
    fn print(&self) -> bool {
        for (name, took, passed) in &self.done {
            println!("{}", line(name, *took, *passed));
        }
        let total = self.done.iter().map(|(_, took, _)| *took).sum();
        let passed = self.done.iter().all(|(_, _, passed)| *passed);
        println!("{}", line("all", total, passed));
        passed
    }
}

fn line(name: &str, took: Duration, passed: bool) -> String {
    let verdict = if passed { "ok" } else { "FAILED" };
    format!("{name:<16}{:>8.1} s  {verdict}", took.as_secs_f64())
}

fn cargo(arguments: &[&str]) -> Result<bool> {
    shell::succeeds(&mut shell::cargo(arguments))
}

fn clippy() -> Result<bool> {
    cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ])
}

fn docs() -> Result<bool> {
    let mut command = shell::cargo(&["doc", "--workspace", "--no-deps", "--locked"]);
    shell::succeeds(command.env("RUSTDOCFLAGS", "-D warnings"))
}

fn examples() -> Result<bool> {
    for example in EXAMPLES {
        let mut command = Command::new(Path::new("bash"));
        let held = shell::succeeds(
            command
                .args([example, "--check"])
                .env("COUNTERSIGN", shell::target().join(PROGRAM))
                .current_dir(shell::root()),
        )?;
        if !held {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What an auditor builds: the verifier, without the rest of the workspace.
fn verifier() -> Result<bool> {
    let name = "countersign-verify";
    cargo(&[
        "build",
        "--release",
        "--locked",
        "--package",
        "countersign-ledger",
        "--bin",
        name,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_does_not_stop_the_next_and_fails_the_whole() {
        let mut steps = Steps::default();
        steps.run("one", || Ok(false)).expect("runs");
        steps.run("two", || Ok(true)).expect("runs");
        let names: Vec<_> = steps
            .done
            .iter()
            .map(|(name, _, passed)| (*name, *passed))
            .collect();
        assert_eq!(names, [("one", false), ("two", true)]);
        assert!(!steps.print());
    }

    #[test]
    fn a_step_shows_its_time() {
        let text = line("fmt", Duration::from_millis(1250), true);
        assert_eq!(text, "fmt                  1.2 s  ok");
    }
}
