//! Every hop proves six things, or is refused by name.
//!
//! This is the command `countersign`: [`cli`] has a file per noun, [`boot`] turns files and
//! environment into what a server starts from, [`demo`] is the tour. The work is done in the other
//! crates.

pub mod boot;
pub mod cli;
pub mod demo;
mod operate;
mod telemetry;

use std::ffi::OsString;

/// Runs one command line and returns its exit code.
///
/// 0 done or allowed, 1 failed, 2 usage, 3 denied by policy, 4 a check or test failed, 5
/// verification failed, 6 server unreachable, 130 interrupted.
pub fn run(args: impl IntoIterator<Item = OsString>, streams: cli::Streams<'_>) -> u8 {
    cli::run(args, streams)
}
