//! Health, metrics and traces of the processes that serve.

use super::args::MetricsAt;
use super::args::TelemetryArgs;
use super::ui::Ui;
use crate::operate::Failure;
use crate::telemetry::DEFAULT;
use crate::telemetry::Measured;
use crate::telemetry::Telemetry;
use countersign_core::vocabulary::Timestamp;
use countersign_enforce::EnforcementPoint;
use countersign_gateway::Apart;
use countersign_net::Sockets;
use countersign_net::SvidSource;
use countersign_server::Server;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// Opens the socket for health and metrics before anything else is opened, so that from the first
/// moment on somebody can ask.
///
/// The default port is a convenience: where another instance has it, this one goes without and
/// says so. A port that was asked for is had, or nothing starts.
pub(crate) fn open(
    args: &TelemetryArgs,
    role: &'static str,
    sockets: &Sockets,
    dev: bool,
    ui: &mut Ui<'_>,
) -> Result<Telemetry, Failure> {
    let mut telemetry =
        Telemetry::start(role).map_err(|error| Failure::usage(error.to_string()))?;
    let passed = sockets.address("metrics").map(MetricsAt::Address);
    match args.metrics.or(passed) {
        Some(MetricsAt::Off) => {}
        Some(MetricsAt::Address(address)) => {
            elsewhere(address, dev, ui)?;
            telemetry.listen(sockets, address).map_err(|error| {
                Failure::failed(format!(
                    "can't listen on `{address}` for health and metrics: {error}"
                ))
            })?;
        }
        None => {
            if let Err(error) = telemetry.listen(sockets, DEFAULT) {
                ui.warn(&format!(
                    "no health and metrics: can't listen on `{DEFAULT}`: {error}; `--metrics` \
                     puts them elsewhere"
                ));
            }
        }
    }
    Ok(telemetry)
}

/// Nothing there is secret, but nothing there is asked for proof either.
fn elsewhere(address: SocketAddr, dev: bool, ui: &mut Ui<'_>) -> Result<(), Failure> {
    if address.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    if dev {
        let text = format!("`--metrics {address}`: in development a door is on loopback");
        return Err(Failure::usage(text));
    }
    ui.warn(&format!(
        "health and metrics on `{address}` are read by whoever reaches it, without proof"
    ));
    Ok(())
}

/// What is measured of a server, with or without a gateway in its process.
#[derive(Debug)]
pub(crate) struct OfServer(pub(crate) Arc<Server>);

/// What is measured of a gateway of its own.
#[derive(Debug)]
pub(crate) struct OfGateway {
    name: String,
    point: EnforcementPoint,
    shipped: Arc<AtomicU64>,
    svid: Arc<SvidSource>,
}

impl OfGateway {
    pub(crate) fn new(gateway: &Apart) -> Self {
        Self {
            name: format!("gateway/{}", gateway.name()),
            point: gateway.point().clone(),
            shipped: gateway.shipped().clone(),
            svid: gateway.svid().clone(),
        }
    }
}

impl Measured for OfServer {
    fn point(&self) -> &EnforcementPoint {
        self.0.point()
    }

    fn certificates(&self) -> Vec<(String, Timestamp)> {
        self.0.certificates()
    }

    fn unshipped(&self) -> u64 {
        self.0.unshipped()
    }

    fn log_size(&self) -> Option<u64> {
        Some(self.0.log_size())
    }

    fn reloaded(&self) -> Option<bool> {
        Some(self.0.last_reload_succeeded())
    }
}

impl Measured for OfGateway {
    fn point(&self) -> &EnforcementPoint {
        &self.point
    }

    fn certificates(&self) -> Vec<(String, Timestamp)> {
        vec![(self.name.clone(), self.svid.current().not_after())]
    }

    fn unshipped(&self) -> u64 {
        let shipped = self.shipped.load(Ordering::Relaxed);
        self.point.spool().head().next.saturating_sub(shipped)
    }

    fn log_size(&self) -> Option<u64> {
        None
    }

    fn reloaded(&self) -> Option<bool> {
        None
    }
}
