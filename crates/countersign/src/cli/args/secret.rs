//! Secrets of the vault.

use super::AsIdentity;
use clap::Args;
use clap::Subcommand;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(crate) struct SecretArgs {
    #[command(subcommand)]
    pub(crate) command: SecretCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SecretCommand {
    /// List secrets, never their values
    Ls,
    /// Write a secret; its value comes from standard input or a file, never from the command line
    Put(PutArgs),
    /// Read a secret as an identity; it needs the grant and is recorded
    Get(GetArgs),
}

#[derive(Args, Debug)]
pub(crate) struct PutArgs {
    /// Secret of the configuration
    pub(crate) name: String,
    /// File to read the value from [default: standard input]
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Keep a line break at the end of the value
    #[arg(long)]
    pub(crate) exact: bool,
}

#[derive(Args, Debug)]
pub(crate) struct GetArgs {
    /// Secret to read
    pub(crate) name: String,
    /// Permission that the secret needs
    #[arg(long, value_name = "PERMISSION", default_value = "secret:read")]
    pub(crate) scope: String,
    #[command(flatten)]
    pub(crate) by: AsIdentity,
}
