use parking_lot::Mutex;
use std::time::Duration;
use std::time::Instant;

/// Lets one line of the process's own log through each second, and counts those between: whoever
/// is refused chooses how often, and would fill the disk with it.
#[derive(Debug)]
pub struct EachSecond(Mutex<Last>);

#[derive(Debug)]
struct Last {
    at: Option<Instant>,
    untold: u64,
}

const SECOND: Duration = Duration::from_secs(1);

impl EachSecond {
    /// Nothing was told yet. One for each reason, for the whole process.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(Last {
            at: None,
            untold: 0,
        }))
    }

    /// How many were not told since the last line, if this one is to be told.
    #[must_use]
    pub fn tell(&self) -> Option<u64> {
        self.tell_at(Instant::now())
    }

    fn tell_at(&self, now: Instant) -> Option<u64> {
        let mut last = self.0.lock();
        let recent = |at: Instant| now.saturating_duration_since(at) < SECOND;
        if last.at.is_some_and(recent) {
            last.untold += 1;
            return None;
        }
        last.at = Some(now);
        Some(std::mem::take(&mut last.untold))
    }
}

impl Default for EachSecond {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_told_each_second_and_the_others_are_counted() {
        let lines = EachSecond::new();
        let begun = Instant::now();
        let after = |millis| lines.tell_at(begun + Duration::from_millis(millis));
        assert_eq!(after(0), Some(0));
        let told: Vec<_> = (1..1000).filter_map(after).collect();
        assert!(told.is_empty(), "within the second: {told:?}");
        assert_eq!(after(1000), Some(999));
        assert_eq!(after(1999), None);
        assert_eq!(after(60_000), Some(1));
        assert_eq!(after(61_000), Some(0));
    }
}
