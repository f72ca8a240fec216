//! What a running process tells of itself: health, metrics, traces.
//!
//! The other crates count and time nothing by themselves; they tell an observer, and this is it.
//! Health and metrics are on a socket of their own, on loopback unless it is put elsewhere, which
//! no policy can close.

mod durations;
mod exposition;
mod families;
mod handles;
mod health;
mod listener;
mod metrics;
mod traces;

pub(crate) use health::Check;
pub(crate) use health::Health;
pub(crate) use metrics::Measured;
pub(crate) use traces::TracesError;

use countersign_enforce::EnforcementPoint;
use countersign_net::Sockets;
use listener::Listener;
use metrics::Metrics;
use metrics::Observer;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use traces::Traces;

/// Where health and metrics are by default.
pub(crate) const DEFAULT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9464);
/// How often a ledger that took no record is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// Health, metrics and traces of one process.
#[derive(Debug)]
pub(crate) struct Telemetry {
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    traces: Option<Traces>,
    listener: Option<Listener>,
    again: Option<JoinHandle<()>>,
}

impl Telemetry {
    /// Sends traces if the environment names a collector. Needs a runtime.
    ///
    /// # Errors
    /// [`TracesError`].
    pub(crate) fn start(role: &'static str) -> Result<Self, TracesError> {
        let metrics = Arc::new(Metrics::new(role));
        let variable = |name: &str| std::env::var(name).ok();
        let traces = Traces::start(role, metrics.spans(), variable)?;
        Ok(Self {
            health: Arc::default(),
            metrics,
            traces,
            listener: None,
            again: None,
        })
    }

    /// Answers there, on a socket that was passed or on one of its own.
    ///
    /// # Errors
    /// The system's, if the address can't be bound.
    pub(crate) fn listen(&mut self, sockets: &Sockets, address: SocketAddr) -> io::Result<()> {
        let (health, metrics) = (self.health.clone(), self.metrics.clone());
        self.listener = Some(Listener::open(sockets, address, health, metrics)?);
        Ok(())
    }

    /// Where it answers, if it does.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.listener.as_ref().map(Listener::address)
    }

    /// Whether this process is to be sent anybody.
    pub(crate) const fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// Everything is open: counts what happens at this point from now on.
    pub(crate) fn follow(
        &mut self,
        point: &EnforcementPoint,
        measured: Box<dyn Measured>,
        checks: Vec<Check>,
    ) {
        point.observe(self.observer());
        self.metrics.measure(Some(measured));
        self.health.started(checks);
        let point = point.clone();
        self.again = Some(tokio::spawn(async move {
            loop {
                tokio::time::sleep(AGAIN).await;
                point.try_ledger().await;
            }
        }));
    }

    /// Hears what becomes of requests.
    pub(crate) fn observer(&self) -> Arc<Observer> {
        Arc::new(Observer {
            metrics: self.metrics.clone(),
            traces: self.traces.clone(),
        })
    }

    /// Sends the last spans. Until this returns, health and metrics are answered.
    pub(crate) async fn end(self) {
        if let Some(again) = self.again {
            again.abort();
        }
        if let Some(traces) = &self.traces {
            traces.end().await;
        }
        self.metrics.measure(None);
    }
}
