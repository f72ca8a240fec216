//! A connection's place at its listener, and how far the end of the listener or of the whole
//! gateway has come.

use countersign_net::places::Held;
use countersign_net::token::Presenter;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use tokio::sync::Notify;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio::sync::watch;

/// How far the end of a gateway, or of one of its listeners, has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Serving,
    /// Connections are made by other rules now: one ends where its protocol lets it end without
    /// losing a request.
    Retiring,
    /// No new connections; each ends after what is under way on it.
    Draining,
    /// Everything ends now.
    Cut,
}

/// What each task of a listener holds: hears of the end, and keeps it waiting.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    /// Kept here, so that it is there to be heard as long as anybody listens.
    door: Arc<watch::Sender<Stage>>,
    gateway: watch::Receiver<Stage>,
    _here: mpsc::Sender<()>,
}

/// One of the connections that a listener, or a thread, may have at once.
#[derive(Debug)]
pub(crate) struct Seat(Arc<AtomicU32>);

/// A connection's place at its listener, kept by all that is left of it: a WebSocket, too, counts
/// among the connections and is waited for.
#[derive(Debug)]
pub(crate) struct Place {
    abort: Notify,
    /// What may be decided at once for this connection.
    deciding: Arc<Semaphore>,
    /// What its peer has of the listener's connections, once that has proved who it is.
    part: OnceLock<Held<Presenter>>,
    running: Running,
    _seats: [Seat; 2],
}

impl Running {
    /// What a task holds that hears of the end of the gateway and of one listener.
    pub(crate) const fn new(
        here: mpsc::Sender<()>,
        gateway: watch::Receiver<Stage>,
        door: Arc<watch::Sender<Stage>>,
    ) -> Self {
        Self {
            door,
            gateway,
            _here: here,
        }
    }

    /// Waits until the end has come this far.
    pub(crate) async fn reaches(&mut self, stage: Stage) {
        let mut door = self.door.subscribe();
        // The gateway's sender lives as long as the gateway; gone, it can only mean the end.
        tokio::select! {
            _ = self.gateway.wait_for(|now| *now >= stage) => {}
            _ = door.wait_for(|now| *now >= stage) => {}
        }
    }

    /// How far the end has come.
    fn stage(&self) -> Stage {
        let (gateway, door) = (*self.gateway.borrow(), *self.door.borrow());
        gateway.max(door)
    }
}

impl Seat {
    /// One more than are `taken`, if there are fewer than `most`.
    pub(crate) fn take(taken: &Arc<AtomicU32>, most: u32) -> Option<Self> {
        let more = |count: u32| (count < most).then_some(count + 1);
        let done = taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        done.is_ok().then(|| Self(taken.clone()))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Place {
    /// A place among the connections of a listener and of a thread, for so many requests at once.
    pub(crate) fn new(seats: [Seat; 2], running: Running, streams: u32) -> Self {
        let streams = usize::try_from(streams).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            abort: Notify::new(),
            deciding: Arc::new(Semaphore::new(streams.clamp(1, Semaphore::MAX_PERMITS))),
            part: OnceLock::new(),
            running,
            _seats: seats,
        }
    }

    /// Counts among the connections of a peer from now on, for as long as anything is left of it.
    pub(crate) fn counts_for(&self, part: Held<Presenter>) {
        // A connection proves who it is once; what it had then it keeps.
        let _ = self.part.set(part);
    }

    /// Waits until one more request may be decided, and holds that for it.
    ///
    /// A stream that is reset gives its place among the streams back at once, but what is decided
    /// for it goes on (CVE-2023-44487): so what goes on is counted as well.
    pub(crate) async fn decides(&self) -> Option<OwnedSemaphorePermit> {
        // Never closed.
        self.deciding.clone().acquire_owned().await.ok()
    }

    /// What hears of the end for it.
    pub(crate) fn running(&self) -> Running {
        self.running.clone()
    }

    /// Whether the connection has to end as soon as that loses nothing.
    pub(crate) fn is_retiring(&self) -> bool {
        self.running.stage() >= Stage::Retiring
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_counted_against_the_limit_of_the_moment() {
        let taken = Arc::new(AtomicU32::new(0));
        let first = Seat::take(&taken, 2).unwrap();
        let second = Seat::take(&taken, 2).unwrap();
        assert!(Seat::take(&taken, 2).is_none());
        let third = Seat::take(&taken, 3).unwrap();
        drop((first, second));
        assert!(Seat::take(&taken, 1).is_none(), "the third is still there");
        drop(third);
        assert!(Seat::take(&taken, 1).is_some());
    }
}
