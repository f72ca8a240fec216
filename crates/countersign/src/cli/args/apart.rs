//! Server and gateway as processes of their own.

use super::ServeArgs;
use super::TelemetryArgs;
use clap::Args;
use clap::Subcommand;
use countersign_core::vocabulary::Name;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Args, Debug)]
pub(crate) struct ServerArgs {
    #[command(flatten)]
    pub(crate) serve: ServeArgs,
    /// Address where gateways join, and nothing else: who has no certificate yet gets no further
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:7444",
        env = "COUNTERSIGN_JOIN_ADDRESS",
        hide_env = true
    )]
    pub(crate) join: std::net::SocketAddr,
}

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct GatewayArgs {
    #[command(subcommand)]
    pub(crate) command: Option<GatewayCommand>,
    /// Join token, for the first start; whoever lists processes sees it, so prefer a file
    #[arg(
        long,
        value_name = "TOKEN",
        env = "COUNTERSIGN_JOIN",
        hide_env = true,
        hide_env_values = true
    )]
    pub(crate) join: Option<String>,
    /// File with the join token; not read again once this folder is a gateway's
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "join",
        env = "COUNTERSIGN_JOIN_FILE",
        hide_env = true
    )]
    pub(crate) join_file: Option<PathBuf>,
    /// Where the server's join port (7444) is reached from here, if not where the token says; its
    /// control port (7443) is on the same host
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "COUNTERSIGN_SERVER",
        hide_env = true
    )]
    pub(crate) server: Option<String>,
    /// Address to bind a listener to instead of the configured one, such as web=0.0.0.0:8443
    #[arg(long = "listener", value_name = "NAME=ADDRESS", value_parser = listener)]
    pub(crate) listeners: Vec<(Name, std::net::SocketAddr)>,
    /// Start although records that were promised can't be read any more: their files are set aside,
    /// and the record says so; the server has to be there
    #[arg(long, env = "COUNTERSIGN_SET_ASIDE_DAMAGED", hide_env = true)]
    pub(crate) set_aside_damaged: bool,
    /// How long what is under way may take when the process is told to stop
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = super::duration, env = "COUNTERSIGN_DRAIN", hide_env = true)]
    pub(crate) drain: Duration,
    #[command(flatten)]
    pub(crate) telemetry: TelemetryArgs,
    /// Development: trust domains that nothing else accepts
    #[arg(long, env = "COUNTERSIGN_DEV", hide_env = true)]
    pub(crate) dev: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum GatewayCommand {
    /// Make a token by which one gateway joins, once, within ten minutes
    Token(GatewayTokenArgs),
}

#[derive(Args, Debug)]
pub(crate) struct GatewayTokenArgs {
    /// Name of the gateway
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,
    /// Listener it will serve; may be given several times [default: all of the configuration]
    #[arg(long = "listener", value_name = "NAME")]
    pub(crate) listeners: Vec<String>,
}

/// `web=127.0.0.1:8443`.
fn listener(text: &str) -> Result<(Name, std::net::SocketAddr), String> {
    let wrong = || "write the name of a listener and an address: `web=127.0.0.1:8443`".to_owned();
    let (name, address) = text.split_once('=').ok_or_else(wrong)?;
    let name = Name::new(name).map_err(|error| error.to_string())?;
    Ok((name, address.parse().map_err(|_| wrong())?))
}
