use crate::clock::Clock;
use countersign_core::hop::Freshness;
use countersign_core::snapshot::Revocations;
use countersign_core::snapshot::Snapshot;
use countersign_core::snapshot::State;
use countersign_core::vocabulary::Timestamp;
use std::sync::Arc;
use std::time::Duration;

/// What this enforcement point knows at a moment; replaced whole, never changed.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) revocations: Arc<Revocations>,
    pub(crate) heard: Heard,
}

/// The last heartbeat.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard {
    /// When it came, by the boot-time clock.
    boot: Duration,
    /// The server's wall clock in it.
    server: Timestamp,
}

impl Heard {
    pub(crate) fn now(clock: &dyn Clock, server: Timestamp) -> Self {
        Self {
            boot: clock.boot(),
            server,
        }
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
    pub(crate) fn freshness(&self, clock: &dyn Clock, now: Timestamp) -> Freshness {
        let age = clock.boot().saturating_sub(self.heard.boot);
        let expected = self.heard.server.plus(age);
        let skew = now.since(expected).max(expected.since(now));
        let age = millis(age);
        Freshness {
            clock_skew_ms: millis(skew),
            policy_age_ms: age,
            revocations_age_ms: age,
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
