use super::args::Globals;
use super::args::LogForm;
use crate::operate::Failure;
use tracing::Level;
use tracing::Metadata;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::FilterExt as _;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

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
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        // A standard error that takes no line, such as a file on a full disk, can't be told so:
        // trying to panics, and would take down whoever has something to say.
        .log_internal_errors(false)
        .with_ansi(
            super::ui::colour_allowed() && std::io::IsTerminal::is_terminal(&std::io::stderr()),
        );
    let filter = filter.and(filter_fn(discreet));
    // Set already when a test runs several commands in one process; the first one stays.
    let _ = match globals.log {
        LogForm::Text => tracing_subscriber::registry()
            .with(lines.with_filter(filter))
            .try_init(),
        LogForm::Json => tracing_subscriber::registry()
            .with(lines.json().with_filter(filter))
            .try_init(),
    };
    Ok(())
}

/// Whether something may be logged at all, whatever `RUST_LOG` asks for. Below `info` the libraries
/// that carry requests write out what they carry (hyper and h2 their header fields, credentials
/// among them); our own crates never do.
fn discreet(of: &Metadata<'_>) -> bool {
    let target = of.target();
    let ours = target == "countersign"
        || target.starts_with("countersign::")
        || target.starts_with("countersign_");
    ours || *of.level() <= Level::INFO
}
