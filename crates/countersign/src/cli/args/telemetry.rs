//! Where a running process tells how it is.

use clap::Args;
use std::net::SocketAddr;
use std::str::FromStr;

#[derive(Args, Debug)]
pub(crate) struct TelemetryArgs {
    /// Address of health and metrics, plain HTTP, or `off` [default: 127.0.0.1:9464, if it is free]
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "COUNTERSIGN_METRICS",
        hide_env = true
    )]
    pub(crate) metrics: Option<MetricsAt>,
}

/// Where health and metrics are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetricsAt {
    /// Nowhere.
    Off,
    /// There.
    Address(SocketAddr),
}

impl FromStr for MetricsAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let address = text.parse().map(Self::Address);
        address.map_err(|_| "write an address, such as `127.0.0.1:9464`, or `off`".to_owned())
    }
}
