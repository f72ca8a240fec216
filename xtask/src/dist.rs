//! `cargo xtask dist`: the programs as they are released.
//!
//! They are built twice: first so that they count what they do, then, after they have done what
//! they are there for, guided by what was counted (profile-guided optimisation, as rustc itself is
//! built). It takes over a third of the CPU time from a request.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::shell;

/// The profile that releases are built with.
const PROFILE: &str = "dist";

/// Builds both programs and says where they are; none if that failed, which cargo has said.
///
/// # Errors
/// When a program can't be started, or LLVM's tools are missing.
pub(crate) fn build() -> Result<Option<PathBuf>> {
    let host = printed(Command::new("rustc").args(["--print", "host-tuple"]))?;
    let merger = merger(&host)?;
    let folder = shell::target().join("guided");
    let counts = folder.join("counts");
    if counts.exists() {
        std::fs::remove_dir_all(&counts)?;
    }
    let flag = format!("-Cprofile-generate={}", counts.display());
    let Some(counting) = programs(&folder.join("counting"), &host, &flag)? else {
        return Ok(None);
    };
    let mut train = Command::new(counting.join("countersign-bench"));
    train.arg("train").arg("--binary");
    train.arg(counting.join("countersign"));
    if !shell::succeeds(&mut train)? {
        return Ok(None);
    }
    let merged = folder.join("merged.profdata");
    let mut merge = Command::new(merger);
    merge.args(["merge", "-o"]).arg(&merged).arg(&counts);
    if !shell::succeeds(&mut merge)? {
        return Ok(None);
    }
    // Cargo goes by the name of the profile, which is the same each time.
    let built = folder.join("built");
    if built.exists() {
        std::fs::remove_dir_all(&built)?;
    }
    let flag = format!("-Cprofile-use={}", merged.display());
    programs(&built, &host, &flag)
}

/// Builds both programs with a flag for what is linked into them, and for nothing that only helps
/// to build them.
fn programs(target: &Path, host: &str, flag: &str) -> Result<Option<PathBuf>> {
    let build = ["build", "--locked", "--profile", PROFILE, "--target", host];
    let packages = ["-p", "countersign", "-p", "countersign-bench"];
    let mut command = shell::cargo(&[&build[..], &packages[..]].concat());
    command.env("CARGO_TARGET_DIR", target);
    // Beside what whoever builds wants for all programs.
    let asked = match std::env::var("CARGO_ENCODED_RUSTFLAGS") {
        Ok(encoded) => encoded.split('\x1f').map(str::to_owned).collect(),
        Err(_) => std::env::var("RUSTFLAGS").map_or(Vec::new(), |flags| {
            flags.split_whitespace().map(str::to_owned).collect()
        }),
    };
    let flags: Vec<String> = asked.into_iter().chain([flag.to_owned()]).collect();
    command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    let good = shell::succeeds(&mut command)?;
    Ok(good.then(|| target.join(host).join(PROFILE)))
}

/// The tool that merges counts, of the same LLVM as rustc's.
fn merger(host: &str) -> Result<PathBuf> {
    let sysroot = printed(Command::new("rustc").args(["--print", "sysroot"]))?;
    let folder = Path::new(&sysroot).join("lib/rustlib").join(host);
    let program = folder.join("bin/llvm-profdata");
    let remedy = "run `rustup component add llvm-tools`";
    ensure!(
        program.exists(),
        "{} is missing: {remedy}",
        program.display()
    );
    Ok(program)
}

fn printed(command: &mut Command) -> Result<String> {
    let output = command.output().context("can't start rustc")?;
    ensure!(output.status.success(), "rustc does not say where it is");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
