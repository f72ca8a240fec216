use crate::config::Rate;
use crate::vocabulary::Name;
use serde::Deserialize;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

/// One call that must be counted against a rate limit before a hop is admitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    /// How many calls at once.
    pub burst: u32,
    /// How many calls in a window, on average.
    pub count: u32,
    /// Whose calls are counted together.
    pub key: Arc<str>,
    /// Which limit.
    pub limit: Limit,
    /// The window, in seconds.
    pub window: u64,
}

/// What in the configuration bounds how often somebody may call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// The `rate` of a listener, for each of its callers.
    Listener(Name),
    /// The `rate` of an operation, for each subject.
    Operation {
        /// The operation's pattern.
        pattern: Arc<str>,
        /// The service.
        service: Name,
    },
    /// The tier of a subject.
    Tier(Name),
}

/// What came of one charge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charged {
    /// What was to be counted.
    pub charge: Charge,
    /// How many calls could follow at once.
    pub remaining: u32,
    /// Milliseconds, rounded up and at most 2^53-1: if it was counted, until as many calls could be
    /// made at once as the limit ever allows; if not, until this one could.
    pub reset_ms: u64,
    /// Whether it was counted.
    pub result: RateResult,
}

/// Whether a call was counted against a rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RateResult {
    /// There was room for it, and it was counted unless the hop was refused for something else.
    Granted,
    /// There was no room for it.
    Exceeded,
    /// So many others are being counted that there is no place to count for this key.
    Crowded,
}

impl Charge {
    /// One call against `rate`.
    #[must_use]
    pub const fn new(limit: Limit, rate: Rate, key: Arc<str>) -> Self {
        let Rate { count, per, burst } = rate;
        Self {
            burst,
            count,
            key,
            limit,
            window: per.as_secs(),
        }
    }

    /// How long it takes until a limit that was used up is whole again.
    #[must_use]
    pub fn refill(&self) -> Duration {
        let nanos = u128::from(self.burst) * u128::from(self.window) * 1_000_000_000;
        let nanos = nanos.div_ceil(u128::from(self.count.max(1)));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// The same with its outcome where nobody has called before.
    #[must_use]
    pub fn first(self) -> Charged {
        Charged {
            remaining: self.burst.saturating_sub(1),
            charge: self,
            reset_ms: 0,
            result: RateResult::Granted,
        }
    }
}

impl Limit {
    /// The name in the configuration that callers know it by: a listener, a service or a tier.
    #[must_use]
    pub const fn name(&self) -> &Name {
        match self {
            Self::Listener(name) | Self::Operation { service: name, .. } | Self::Tier(name) => name,
        }
    }
}

impl Charged {
    /// Whether there was room for the call.
    #[must_use]
    pub fn is_granted(&self) -> bool {
        self.result == RateResult::Granted
    }

    /// How long until [`reset_ms`](Self::reset_ms) is over.
    #[must_use]
    pub const fn reset(&self) -> Duration {
        Duration::from_millis(self.reset_ms)
    }
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Listener(name) => write!(f, "the rate of listener `{name}`"),
            Self::Operation { pattern, service } => {
                write!(f, "the rate of `{pattern}` of service `{service}`")
            }
            Self::Tier(name) => write!(f, "tier `{name}`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn charge(count: u32, per: u64, burst: u32) -> Charge {
        let per = Duration::from_secs(per);
        let rate = Rate { count, per, burst };
        let limit = Limit::Tier(Name::new("free").unwrap());
        Charge::new(limit, rate, "dev:alice".into())
    }

    #[test]
    fn what_was_used_up_is_whole_again_after_the_burst_at_the_average() {
        assert_eq!(charge(10, 60, 10).refill(), Duration::from_secs(60));
        assert_eq!(charge(100, 60, 150).refill(), Duration::from_secs(90));
        assert_eq!(charge(1000, 1, 1).refill(), Duration::from_millis(1));
        let longest = charge(1, 86_400, u32::MAX).refill();
        assert_eq!(longest, Duration::from_nanos(u64::MAX), "584 years");
    }

    #[test]
    fn the_first_call_leaves_the_rest_of_the_burst() {
        let charged = charge(10, 60, 3).first();
        assert!(charged.is_granted());
        assert_eq!((charged.remaining, charged.reset()), (2, Duration::ZERO));
    }
}
