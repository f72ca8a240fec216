use super::args::Globals;
use super::args::LogForm;
use crate::operate::Failure;
use tracing_subscriber::EnvFilter;

/// Sends log lines to standard error: warnings, or what `RUST_LOG` and `-v` ask for.
pub(crate) fn start(globals: &Globals) -> Result<(), Failure> {
    let level = match (globals.quiet, globals.verbose) {
        (_, 2..) => "trace",
        (_, 1) => "debug",
        (true, 0) => "error",
        (false, 0) => "warn",
    };
    let filter = match std::env::var("RUST_LOG")
        .ok()
        .filter(|value| !value.is_empty())
    {
        Some(directives) => EnvFilter::try_new(&directives).map_err(|_| {
            Failure::usage(format!("`RUST_LOG` is `{directives}`, which is no filter"))
        })?,
        None => EnvFilter::new(level),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A standard error that takes no line, such as a file on a full disk, can't be told so:
        // trying to panics, and would take down whoever has something to say.
        .log_internal_errors(false)
        .with_ansi(
            super::ui::colour_allowed() && std::io::IsTerminal::is_terminal(&std::io::stderr()),
        );
    // Set already when a test runs several commands in one process; the first one stays.
    let _ = match globals.log {
        LogForm::Text => builder.try_init(),
        LogForm::Json => builder.json().try_init(),
    };
    Ok(())
}
