//! The `countersign` command.

use std::io::IsTerminal;
use std::process::ExitCode;

fn main() -> ExitCode {
    let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr());
    let streams = countersign::cli::Streams {
        err_terminal: err.is_terminal(),
        out_terminal: out.is_terminal(),
        err: &mut err,
        out: &mut out,
    };
    ExitCode::from(countersign::run(std::env::args_os(), streams))
}
