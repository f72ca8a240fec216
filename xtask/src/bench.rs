//! `cargo xtask bench`: builds what is measured and runs the measurement.

use std::process::Command;

use anyhow::{Context, Result};

use crate::shell;

/// The profile that releases are built with.
const PROFILE: &str = "dist";

/// Builds both programs as they are shipped and hands `options` to `countersign-bench run`; true
/// when it is content.
///
/// # Errors
/// When a program can't be started.
pub(crate) fn run(options: &[&str]) -> Result<bool> {
    let packages = ["-p", "countersign", "-p", "countersign-bench"];
    let build = [&["build", "--locked", "--profile", PROFILE], &packages[..]].concat();
    if !shell::succeeds(&mut shell::cargo(&build))? {
        return Ok(false);
    }
    let program = shell::target().join(PROFILE).join("countersign-bench");
    let mut command = Command::new(&program);
    command.arg("run").args(options);
    shell::succeeds(&mut command).with_context(|| program.display().to_string())
}
