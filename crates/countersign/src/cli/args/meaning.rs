//! Flags of the commands that say what a configuration means.

use clap::Args;
use clap::Subcommand;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(crate) struct DiffArgs {
    /// The configuration that would be put in force [default: the one of `-c`]
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// What it is compared with: a file, `running`, or a revision
    #[arg(long, value_name = "FILE|running|REVISION", default_value = "running")]
    pub(crate) against: String,
    /// Exit with 4 if there is a difference
    #[arg(long)]
    pub(crate) exit_code: bool,
    /// Both are for development
    #[arg(long, env = "COUNTERSIGN_DEV", hide_env = true)]
    pub(crate) dev: bool,
}

#[derive(Args, Debug)]
pub(crate) struct PolicyArgs {
    #[command(subcommand)]
    pub(crate) command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Ask one question: may this one do that?
    Eval(EvalArgs),
    /// Run the tests of a configuration
    Test(PolicyTestArgs),
}

#[derive(Args, Debug)]
pub(crate) struct EvalArgs {
    /// Who asks: an identity, `user:alice`, `group:analysts`
    #[arg(long = "as", value_name = "WHO")]
    pub(crate) subject: String,
    /// The door and the workloads it comes by: `web > frontend`
    #[arg(long, value_name = "WAY")]
    pub(crate) via: Option<String>,
    /// What is asked: `GET hms-api/v1/reports/42`, `read mailer`, `connect reports-db`
    #[arg(long, value_name = "CALL")]
    pub(crate) call: String,
    /// What the request says; repeat for more
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) with: Vec<String>,
    /// Ask the configuration in force, not the file
    #[arg(long)]
    pub(crate) running: bool,
    /// The file is for development
    #[arg(long, env = "COUNTERSIGN_DEV", hide_env = true)]
    pub(crate) dev: bool,
}

#[derive(Args, Debug)]
pub(crate) struct PolicyTestArgs {
    /// The configuration [default: the one of `-c`]
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// A test that can't be decided in this build is a failure
    #[arg(long, env = "COUNTERSIGN_STRICT", hide_env = true)]
    pub(crate) strict: bool,
    /// The file is for development
    #[arg(long, env = "COUNTERSIGN_DEV", hide_env = true)]
    pub(crate) dev: bool,
}

#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    /// Show who may do what, and because of which lines
    #[arg(long)]
    pub(crate) explain: bool,
    /// With --explain, only the rows of this member or identity
    #[arg(long, value_name = "WHO", requires = "explain")]
    pub(crate) who: Option<String>,
    /// With --explain, only the rows to this service
    #[arg(long, value_name = "SERVICE", requires = "explain")]
    pub(crate) service: Option<String>,
    /// Warnings are errors
    #[arg(long, env = "COUNTERSIGN_STRICT", hide_env = true)]
    pub(crate) strict: bool,
    /// Check for development
    #[arg(long, env = "COUNTERSIGN_DEV", hide_env = true)]
    pub(crate) dev: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ExplainArgs {
    /// A code such as CS0203 or CSD401, a key such as listeners.limits.header_time, or a receipt
    /// such as r-4f2k9q7xw3bt
    #[arg(value_name = "CODE|KEY|RECEIPT")]
    pub(crate) what: String,
}
