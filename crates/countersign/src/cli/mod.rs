//! The command line: one declaration of flags and commands, a file per noun.

mod activation;
mod announce;
mod args;
mod audit;
mod call;
mod change;
mod check;
mod damage;
mod demo;
mod diff;
mod doctor;
mod explain;
mod gateway;
mod generate;
mod identity;
mod init;
mod logging;
mod map;
mod notify;
mod pages;
mod policy;
mod reference;
mod reload;
mod schema;
mod scrape;
mod secret;
mod status;
mod telemetry;
mod top;
mod ui;
mod up;
mod verify;
mod watchdog;

pub use ui::Streams;

use crate::operate::Failure;
use args::Cli;
use args::Command;
use args::Output;
use clap::CommandFactory;
use clap::FromArgMatches;
use clap::error::ErrorKind;
use countersign_net::Sockets;
use std::ffi::OsString;
use ui::Ui;

/// Runs one command line; see [`crate::run`].
pub(crate) fn run(args: impl IntoIterator<Item = OsString>, streams: Streams<'_>) -> u8 {
    let parsed = Cli::command().try_get_matches_from(args);
    let parsed = parsed.and_then(|matches| Cli::from_arg_matches(&matches));
    match parsed {
        Ok(cli) => dispatch(cli, streams),
        Err(error) => {
            let text = error.render();
            let asked = matches!(
                error.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
            );
            let (to, colour) = if asked {
                (streams.out, streams.out_terminal)
            } else {
                (streams.err, streams.err_terminal)
            };
            // Where even this can't be written, the exit code still says it.
            let _ = if colour && ui::colour_allowed() {
                write!(to, "{}", text.ansi())
            } else {
                write!(to, "{text}")
            };
            if asked { 0 } else { 2 }
        }
    }
}

fn dispatch(cli: Cli, streams: Streams<'_>) -> u8 {
    let mut ui = Ui::new(&cli.globals, streams);
    let outcome = match &cli.globals.output {
        Output::File(_) if !cli.command.writes_a_file() => Err(Failure::usage(
            "`--output` is `table`, `json`, `yaml` or `short`",
        )),
        Output::Svg if !cli.command.draws() => Err(Failure::usage(
            "only `countersign map` has a drawing: `--output svg`",
        )),
        _ => perform(cli, &mut ui),
    };
    match outcome {
        Ok(()) => 0,
        Err(failure) => {
            ui.failed(&failure);
            failure.exit_code()
        }
    }
}

/// Starts what everything needs, then the command, which the user may interrupt.
fn perform(cli: Cli, ui: &mut Ui<'_>) -> Result<(), Failure> {
    logging::start(&cli.globals)?;
    let sockets = if cli.command.serves() {
        activation::sockets()?
    } else {
        Sockets::default()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("can't start: {error}")))?;
    // A server has its own way of stopping: it drains.
    if cli.command.serves() {
        return runtime.block_on(command(cli, sockets, ui));
    }
    runtime.block_on(async {
        tokio::select! {
            outcome = command(cli, sockets, ui) => outcome,
            Ok(()) = tokio::signal::ctrl_c() => Err(Failure::Interrupted),
        }
    })
}

async fn command(cli: Cli, sockets: Sockets, ui: &mut Ui<'_>) -> Result<(), Failure> {
    let globals = &cli.globals;
    match cli.command {
        Command::Demo(args) => demo::run(&args, ui).await,
        Command::Init => init::run(globals, ui).await,
        Command::Up(args) => up::up(args, sockets, globals, ui).await,
        Command::Server(args) => up::server(args, sockets, globals, ui).await,
        Command::Check(args) => check::run(&args, globals, ui).await,
        Command::Diff(args) => diff::run(&args, globals, ui).await,
        Command::Policy(args) => policy::run(&args, globals, ui).await,
        Command::Map => map::run(globals, ui),
        Command::Gateway(args) => gateway::run(args, sockets, globals, ui).await,
        Command::Call(args) => call::call(&args, globals, ui).await,
        Command::Token(args) => call::token(&args, globals, ui).await,
        Command::Reload(args) => reload::run(&args, globals, ui).await,
        Command::Change(args) => change::run(args, globals, ui).await,
        Command::Explain(args) => explain::run(&args, globals, ui).await,
        Command::Identity(args) => identity::run(args, globals, ui).await,
        Command::Secret(args) => secret::run(args, globals, ui).await,
        Command::Audit(args) => audit::run(args, globals, ui).await,
        Command::Doctor(args) => doctor::run(&args, globals, ui).await,
        Command::Status => status::run(globals, ui).await,
        Command::Top(args) => top::run(&args, globals, ui).await,
        Command::Version => status::version(ui),
        Command::Completions(args) => generate::completions(&args, ui),
        Command::Man(args) => generate::man(&args, ui),
        Command::Schema => schema::run(ui),
        Command::Reference(args) => reference::run(&args, ui),
    }
}
