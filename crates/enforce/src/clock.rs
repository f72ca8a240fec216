use countersign_core::vocabulary::Timestamp;
use std::time::Duration;

/// Where the time comes from; tests bring their own.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// The wall clock.
    fn now(&self) -> Timestamp;
    /// Time since boot, sleep included. It never steps, so ages are measured with it.
    fn boot(&self) -> Duration;
}

/// The system's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let spec = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        Timestamp::from_micros(
            spec.tv_sec
                .saturating_mul(1_000_000)
                .saturating_add(spec.tv_nsec / 1000),
        )
    }

    fn boot(&self) -> Duration {
        let spec = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let nanos = u32::try_from(spec.tv_nsec).unwrap_or(0);
        Duration::new(u64::try_from(spec.tv_sec).unwrap_or(0), nanos)
    }
}
