//! Running cargo and scripts from the root of the workspace.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result};

/// The root of the workspace: the folder above this package.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// The folder cargo builds into, as `CARGO_TARGET_DIR` or the default says.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root().join("target"), |folder| root().join(folder))
}

/// A `cargo` command with these arguments, in the root of the workspace.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root());
    // What cargo told *this* process about xtask's own package must not reach another build,
    // where build scripts would see it change and run again.
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if name_text.starts_with("CARGO_PKG_") || name_text.starts_with("CARGO_MANIFEST") {
            command.env_remove(name);
        }
    }
    command
}

/// Whether `cargo <subcommand>` is installed.
pub(crate) fn has(subcommand: &str) -> bool {
    cargo(&[subcommand, "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Runs a command and tells whether it succeeded.
///
/// # Errors
/// When the command can't be started.
pub(crate) fn succeeds(command: &mut Command) -> Result<bool> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("can't start {}", name_of(command)))?;
    Ok(status.success())
}

/// What a command printed while it was also shown, and whether it succeeded.
pub(crate) struct Shown {
    /// Standard output, then standard error.
    pub(crate) text: String,
    /// The exit status was 0.
    pub(crate) success: bool,
}

/// Runs a command, shows its output as it comes, and keeps a copy of it.
///
/// # Errors
/// When the command can't be started or its output can't be read.
pub(crate) fn show(command: &mut Command) -> Result<Shown> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("can't start {}", name_of(command)))?;
    let stdout = child.stdout.take().context("no stdout")?;
    let stderr = child.stderr.take().context("no stderr")?;
    let errors = thread::spawn(move || tee(stderr, std::io::stderr()));
    let mut text = tee(stdout, std::io::stdout())?;
    let errors = errors.join();
    text.push_str(&errors.unwrap_or_else(|_| Ok(String::new()))?);
    let success = child.wait()?.success();
    Ok(Shown { text, success })
}

fn tee(from: impl Read, mut to: impl Write) -> std::io::Result<String> {
    let mut from = BufReader::new(from);
    let mut kept = String::new();
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line)? > 0 {
        to.write_all(&line)?;
        to.flush()?;
        kept.push_str(&String::from_utf8_lossy(&line));
        line.clear();
    }
    Ok(kept)
}

fn name_of(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_streams_and_the_status_are_kept() {
        let shown = show(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"]))
            .expect("sh runs");
        assert!(shown.text.contains("out\n"), "{}", shown.text);
        assert!(shown.text.contains("err\n"), "{}", shown.text);
        assert!(!shown.success);
    }

    #[test]
    fn a_command_that_does_not_exist_is_an_error() {
        let error = succeeds(&mut Command::new("countersign-no-such-program"));
        assert!(error.is_err());
    }
}
