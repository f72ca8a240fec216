//! How an installation is, and what it does.

use super::MetricsAt;
use super::duration;
use clap::Args;
use std::time::Duration;

#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// Where health and metrics are [default: 127.0.0.1:9464]
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "COUNTERSIGN_METRICS",
        hide_env = true
    )]
    pub(crate) metrics: Option<MetricsAt>,
    /// It has to run: exit with 6 if nobody answers
    #[arg(long)]
    pub(crate) running: bool,
}

#[derive(Args, Debug)]
pub(crate) struct TopArgs {
    /// How long to look before each picture
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    pub(crate) interval: Duration,
    /// Where health and metrics are [default: 127.0.0.1:9464]
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "COUNTERSIGN_METRICS",
        hide_env = true
    )]
    pub(crate) metrics: Option<MetricsAt>,
    /// Show one picture and end, as without a terminal
    #[arg(long)]
    pub(crate) once: bool,
}
