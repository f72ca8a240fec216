//! A connection's place at its listener, and how far the end of the gateway has come.

use tokio::sync::Notify;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc;
use tokio::sync::watch;

/// How far the end of a gateway has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Serving,
    /// No new connections; each ends after what is under way on it.
    Draining,
    /// Everything ends now.
    Cut,
}

/// What each task of a listener holds: hears of the end, and keeps it waiting.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    _here: mpsc::Sender<()>,
    stage: watch::Receiver<Stage>,
}

/// A connection's place at its listener, kept by all that is left of it: a WebSocket, too, counts
/// among the connections and is waited for.
#[derive(Debug)]
pub(crate) struct Place {
    abort: Notify,
    _permit: OwnedSemaphorePermit,
    running: Running,
}

impl Running {
    /// What a task holds that hears of the end by `stage`.
    pub(crate) const fn new(here: mpsc::Sender<()>, stage: watch::Receiver<Stage>) -> Self {
        Self { _here: here, stage }
    }

    /// Waits until the end has come this far.
    pub(crate) async fn reaches(&mut self, stage: Stage) {
        // The sender lives as long as the gateway; gone, it can only mean the end.
        let _ = self
            .stage
            .wait_for(|now| *now == stage || *now == Stage::Cut)
            .await;
    }
}

impl Place {
    /// A place among the connections of a listener.
    pub(crate) fn new(permit: OwnedSemaphorePermit, running: Running) -> Self {
        Self {
            abort: Notify::new(),
            _permit: permit,
            running,
        }
    }

    /// What hears of the end for it.
    pub(crate) fn running(&self) -> Running {
        self.running.clone()
    }

    /// Ends the connection at once, with whatever is under way on it.
    pub(crate) fn abort(&self) {
        self.abort.notify_one();
    }

    /// Waits until somebody ends it.
    pub(crate) async fn aborted(&self) {
        self.abort.notified().await;
    }

    /// Waits until everything has to end.
    pub(crate) async fn cut(&self) {
        self.running.clone().reaches(Stage::Cut).await;
    }
}
