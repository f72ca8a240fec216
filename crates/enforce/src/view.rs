use countersign_core::hop::Freshness;
use countersign_core::snapshot::Revocations;
use countersign_core::snapshot::Snapshot;
use countersign_core::snapshot::State;
use countersign_core::vocabulary::Timestamp;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What this enforcement point knows at a moment; replaced whole, never changed.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) revocations: Arc<Revocations>,
    pub(crate) heard: Heard,
}

/// When, by the boot-time clock, the server last said that what is known is all there is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Heard {
    policy: Option<Duration>,
    revocations: Option<Duration>,
    /// When it last said anything, and its wall clock then.
    server: Option<(Duration, Timestamp)>,
}

/// The wall clock as it was seen, to notice when it goes back.
#[derive(Debug)]
pub(crate) struct Wall {
    /// The latest seen since the last heartbeat, in microseconds since the epoch.
    latest: AtomicI64,
    /// The furthest it was seen behind that, in microseconds.
    back: AtomicI64,
}

/// What has never been heard is this old: the largest integer of canonical JSON.
const NEVER_MS: u64 = (1 << 53) - 1;
/// Threads may see the time in another order than they say so; that is no step.
const JITTER_MICROS: i64 = 1_000_000;

impl Heard {
    /// All of it, now.
    pub(crate) const fn all(boot: Duration, server: Timestamp) -> Self {
        Self {
            policy: Some(boot),
            revocations: Some(boot),
            server: Some((boot, server)),
        }
    }

    /// A heartbeat: policy and revocations are renewed only where ours are the server's.
    pub(crate) const fn renew(
        mut self,
        (policy, revocations): (bool, bool),
        boot: Duration,
        server: Timestamp,
    ) -> Self {
        if policy {
            self.policy = Some(boot);
        }
        if revocations {
            self.revocations = Some(boot);
        }
        self.server = Some((boot, server));
        self
    }
}

impl View {
    pub(crate) fn state(&self) -> State {
        State {
            snapshot: self.snapshot.clone(),
            revocations: self.revocations.clone(),
        }
    }

    /// How old all this is. Ages go by the boot-time clock; where the wall clock should be by now
    /// follows from the heartbeat, so a stepped clock shows as skew at once.
    pub(crate) fn freshness(&self, boot: Duration, now: Timestamp, back: Duration) -> Freshness {
        let age = |heard: Option<Duration>| {
            heard.map_or(NEVER_MS, |heard| millis(boot.saturating_sub(heard)))
        };
        let skew = self.heard.server.map_or(Duration::ZERO, |(heard, server)| {
            let expected = server.plus(boot.saturating_sub(heard));
            now.since(expected).max(expected.since(now))
        });
        Freshness {
            clock_skew_ms: millis(skew),
            clock_stepped_back_ms: millis(back),
            policy_age_ms: age(self.heard.policy),
            revocations_age_ms: age(self.heard.revocations),
        }
    }
}

impl Wall {
    pub(crate) const fn new(now: Timestamp) -> Self {
        Self {
            latest: AtomicI64::new(now.as_micros()),
            back: AtomicI64::new(0),
        }
    }

    /// How far it stepped back since the last heartbeat, this time included.
    pub(crate) fn see(&self, now: Timestamp) -> Duration {
        let now = now.as_micros();
        let behind = self.latest.fetch_max(now, Ordering::Relaxed) - now;
        let back = if behind > JITTER_MICROS {
            self.back.fetch_max(behind, Ordering::Relaxed).max(behind)
        } else {
            self.back.load(Ordering::Relaxed)
        };
        Duration::from_micros(u64::try_from(back).unwrap_or(0))
    }

    /// A heartbeat: from here on the clock is compared with the server's again.
    pub(crate) fn heard(&self, now: Timestamp) {
        self.latest.store(now.as_micros(), Ordering::Relaxed);
        self.back.store(0, Ordering::Relaxed);
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).map_or(NEVER_MS, |ms| ms.min(NEVER_MS))
}
