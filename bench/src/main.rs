//! What a request costs, beside other proxies that do the same work.
//!
//! `run` starts everything and prints the table; `load` and `upstream` are what it starts on the
//! other core. See `README.md` for what is measured and how.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that prints its measurements"
)]

mod assertion;
mod bare;
mod curves;
mod load;
mod machine;
mod plan;
mod process;
mod proof;
mod proxies;
mod site;
mod table;
mod tls;
mod train;
mod upstream;

use anyhow::Result;
use clap::Parser;
use clap::Subcommand;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;

#[derive(Parser)]
#[command(about = "What a request costs, beside other proxies that do the same work")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start everything, measure, print the table
    Run(plan::Options),
    /// How the cost grows with routes, revocations, tokens, connections and records
    Curves(curves::Options),
    /// Have a program do what is measured, for a build that is guided by its profile
    #[command(hide = true)]
    Train {
        /// The countersign to train
        #[arg(long)]
        binary: PathBuf,
        /// Briefly
        #[arg(long)]
        smoke: bool,
    },
    /// Sign assertions and say how many microseconds of CPU each took
    #[command(hide = true)]
    Sign {
        /// How many
        #[arg(long)]
        count: u32,
    },
    /// Generate load as one JSON line on standard input says
    #[command(hide = true)]
    Load,
    /// Forward over mutual TLS with the libraries alone
    #[command(hide = true)]
    Bare {
        /// Where to listen
        #[arg(long)]
        listen: SocketAddr,
        /// Where to forward to
        #[arg(long)]
        upstream: SocketAddr,
        /// Folder with `svid.pem`, `key.pem` and `bundle.pem`
        #[arg(long)]
        identity: PathBuf,
        /// Sign an assertion for each request, and write its decision and its completion to a spool
        /// in this folder
        #[arg(long, value_name = "FOLDER")]
        proven: Option<PathBuf>,
    },
    /// Serve fixed answers over mutual TLS
    #[command(hide = true)]
    Upstream {
        /// Where to listen
        #[arg(long)]
        listen: SocketAddr,
        /// Folder with `svid.pem`, `key.pem` and `bundle.pem`
        #[arg(long)]
        identity: PathBuf,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run(options) => plan::run(&options),
        Command::Curves(options) => curves::run(&options).map(|()| true),
        Command::Train { binary, smoke } => train::run(&binary, smoke).map(|()| true),
        Command::Sign { count } => assertion::sign(count).map(|()| true),
        Command::Load => alone(load::run()).map(|()| true),
        Command::Bare {
            listen,
            upstream,
            identity,
            proven,
        } => {
            let serving = bare::serve(listen, upstream, &identity, proven.as_deref());
            alone(serving).map(|()| true)
        }
        Command::Upstream { listen, identity } => {
            alone(upstream::serve(listen, &identity)).map(|()| true)
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(4),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// On one thread: what generates load must not be two of what is measured.
/// On one thread, until it is done or asked to end.
fn alone(work: impl Future<Output = Result<()>>) -> Result<()> {
    let work = async {
        let mut asked = signal(SignalKind::terminate())?;
        tokio::select! {
            outcome = work => outcome,
            _ = asked.recv() => Ok(()),
        }
    };
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(tokio::task::LocalSet::new().run_until(work))
}
