//! Flags of the commands about the record.

use clap::Args;
use clap::Subcommand;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(crate) struct AuditArgs {
    #[command(subcommand)]
    pub(crate) command: AuditCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Show the newest records
    Tail(TailArgs),
    /// Show one record
    Show(ReceiptArgs),
    /// Verify a receipt or a whole log, offline
    Verify(VerifyArgs),
    /// Prove that a record is in the log; `-o FILE` writes the receipt there
    Prove(ReceiptArgs),
}

#[derive(Args, Debug)]
pub(crate) struct TailArgs {
    /// How many records
    #[arg(short = 'n', long, default_value_t = 20, value_name = "COUNT")]
    pub(crate) lines: u64,
    /// Keep showing new ones
    #[arg(short, long)]
    pub(crate) follow: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ReceiptArgs {
    /// Receipt of the record
    pub(crate) receipt: String,
}

#[derive(Args, Debug)]
pub(crate) struct VerifyArgs {
    /// A receipt, or the folder of a log [default: the log of the data folder]
    pub(crate) path: Option<PathBuf>,
    /// Key of the log, got some other way than with the log: `<name>+<8 hex digits>+<base64>`
    #[arg(long, value_name = "VKEY", env = "COUNTERSIGN_KEY", hide_env = true)]
    pub(crate) key: Option<String>,
    /// Checkpoint of the same log that you kept from before
    #[arg(long, value_name = "CHECKPOINT")]
    pub(crate) since: Option<PathBuf>,
    /// Checkpoint with a witness's line under it, such as `witness/NAME` of the server's data
    /// folder; the log has to continue it
    #[arg(long, value_name = "FILE", requires = "witness_key")]
    pub(crate) witness: Option<PathBuf>,
    /// Key of that witness, got from it: a gateway says it when it starts
    #[arg(long, value_name = "VKEY", requires = "witness")]
    pub(crate) witness_key: Option<String>,
}
