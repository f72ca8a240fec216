//! A clock that stands still until it is told.

use countersign_core::vocabulary::Timestamp;
use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::SystemTime;

/// The time of a test; clones share it.
#[derive(Clone, Debug)]
pub struct FakeClock(Arc<AtomicU64>);

impl FakeClock {
    /// Starts at this moment (whole seconds).
    #[must_use]
    pub fn at(moment: SystemTime) -> Self {
        let since = moment
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Self(Arc::new(AtomicU64::new(since.as_secs())))
    }

    /// Moves on.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_secs(), Ordering::SeqCst);
    }

    /// What it shows.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::from_secs(0).plus(self.since_epoch())
    }

    fn since_epoch(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::SeqCst))
    }
}

impl TimeProvider for FakeClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(self.since_epoch()))
    }
}
