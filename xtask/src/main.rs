//! The tasks of this repository: `cargo xtask <task>`.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a task talks to the terminal"
)]

mod bench;
mod ci;
mod dist;
mod judges;
mod shell;
mod test;
mod tidy;

use std::process::ExitCode;

use anyhow::Result;

const USAGE: &str = "\
usage: cargo xtask <task>

  test [--require-all]   every test, then a closing summary; `--require-all` makes a
                         test that could not run (`NOT RUN: <why>`) a failure
  docs                   write `docs/reference` anew, from what the program declares
  judges [--require-all] testssl.sh, sslyze and schemathesis judge the release binary
  bench [OPTIONS]        CPU per request beside HAProxy, nginx and Envoy; `bench --help`
  dist                   the programs as they are released, guided by a profile of theirs
  tidy                   the rules of this repository that rustc and clippy can't see
  ci                     everything `.ci/run` checks, each step timed";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.as_slice() {
        ["test"] => test::run(false),
        ["test", "--require-all"] => test::run(true),
        ["docs"] => docs(),
        ["judges"] => judges::run(false),
        ["judges", "--require-all"] => judges::run(true),
        ["dist"] => dist(),
        ["bench", options @ ..] => bench::run(options),
        ["tidy"] => tidy::run(),
        ["ci"] => ci::run(),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dist() -> Result<bool> {
    let folder = dist::build()?;
    if let Some(folder) = &folder {
        println!("{}", folder.join("countersign").display());
    }
    Ok(folder.is_some())
}

/// The pages come from the program; a test compares them with those that are checked in.
fn docs() -> Result<bool> {
    let package = ["run", "--quiet", "--package", "countersign", "--"];
    let command = ["reference", "docs/reference"];
    shell::succeeds(&mut shell::cargo(&[&package[..], &command[..]].concat()))
}
