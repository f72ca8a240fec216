use parking_lot::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// Whether an address is tried, from what became of those who tried it.
///
/// Failures in a row take it out for a while; then a single call tries it, and either brings it
/// back or takes it out for twice as long. Only what no caller can provoke counts as a failure: an
/// answer, whatever its status, is a sign of life. Otherwise one caller who makes an upstream say
/// 500 would take it from all others.
#[derive(Debug, Default)]
pub(super) struct Circuit(Mutex<State>);

#[derive(Clone, Copy, Debug)]
enum State {
    /// In use; so many failures in a row.
    Closed(u32),
    /// Out of use until then, for so many times in a row.
    Open(Instant, u32),
    /// One call tries it.
    Trying(u32),
}

/// Leave to use an address once, and the duty to say what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// One of many.
    Ordinary,
    /// The one that tries whether it is back.
    Trial,
}

/// Failures in a row that take an address out.
const MOST_FAILURES: u32 = 5;
/// For how long, the first time.
const SHORTEST: Duration = Duration::from_secs(1);
/// For how long at most.
const LONGEST: Duration = Duration::from_secs(60);

impl Default for State {
    fn default() -> Self {
        Self::Closed(0)
    }
}

impl Circuit {
    /// How long it is out of use; zero if it may be tried now.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        match *self.0.lock() {
            State::Closed(_) => Duration::ZERO,
            State::Open(until, _) => until.saturating_duration_since(now),
            State::Trying(_) => SHORTEST,
        }
    }

    /// Leave to use it now, if it is not out of use.
    pub(super) fn enter(&self, now: Instant) -> Option<Leave> {
        let mut state = self.0.lock();
        match *state {
            State::Closed(_) => Some(Leave::Ordinary),
            State::Open(until, times) if until <= now => {
                *state = State::Trying(times);
                Some(Leave::Trial)
            }
            State::Open(..) | State::Trying(_) => None,
        }
    }

    /// There was an answer.
    pub(super) fn succeeded(&self) {
        *self.0.lock() = State::Closed(0);
    }

    /// There was no connection, or it broke without an answer. Tells whether this took it out.
    pub(super) fn failed(&self, leave: Leave, now: Instant) -> bool {
        let mut state = self.0.lock();
        *state = match (*state, leave) {
            (State::Closed(failures), _) if failures + 1 < MOST_FAILURES => {
                State::Closed(failures + 1)
            }
            (State::Closed(_), _) => State::Open(now + SHORTEST, 1),
            (State::Trying(times), Leave::Trial) => {
                let longer = SHORTEST.saturating_mul(1 << times.min(6)).min(LONGEST);
                State::Open(now + longer, times.saturating_add(1))
            }
            // A call that began before says nothing new.
            (State::Open(..) | State::Trying(_), _) => return false,
        };
        matches!(*state, State::Open(..))
    }

    /// It was not found out, such as when the caller went away: the next call tries.
    pub(super) fn abandoned(&self, leave: Leave, now: Instant) {
        let mut state = self.0.lock();
        if let (State::Trying(times), Leave::Trial) = (*state, leave) {
            *state = State::Open(now, times);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn out(now: Instant) -> Circuit {
        let circuit = Circuit::default();
        for nth in 1..=MOST_FAILURES {
            assert_eq!(circuit.enter(now), Some(Leave::Ordinary));
            assert_eq!(circuit.failed(Leave::Ordinary, now), nth == MOST_FAILURES);
        }
        circuit
    }

    #[test]
    fn failures_in_a_row_take_it_out_and_one_call_tries_it() {
        let now = Instant::now();
        let circuit = out(now);
        assert_eq!(circuit.enter(now), None);
        assert_eq!(circuit.wait(now), SHORTEST);
        let later = now + SHORTEST;
        assert_eq!(circuit.enter(later), Some(Leave::Trial));
        assert_eq!(circuit.enter(later), None, "a second trial");
        circuit.succeeded();
        assert_eq!(circuit.enter(later), Some(Leave::Ordinary));
    }

    #[test]
    fn an_answer_in_between_starts_the_count_anew() {
        let (circuit, now) = (Circuit::default(), Instant::now());
        for _ in 0..10 {
            for _ in 1..MOST_FAILURES {
                assert!(!circuit.failed(Leave::Ordinary, now));
            }
            circuit.succeeded();
        }
        assert_eq!(circuit.enter(now), Some(Leave::Ordinary));
    }

    #[test]
    fn each_failed_trial_doubles_the_time_up_to_a_minute() {
        let mut now = Instant::now();
        let circuit = out(now);
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(circuit.wait(now), Duration::from_secs(seconds));
            now += Duration::from_secs(seconds);
            assert_eq!(circuit.enter(now), Some(Leave::Trial));
            assert!(circuit.failed(Leave::Trial, now));
        }
    }

    #[test]
    fn a_trial_that_came_to_nothing_is_made_again() {
        let now = Instant::now();
        let circuit = out(now);
        let later = now + SHORTEST;
        assert_eq!(circuit.enter(later), Some(Leave::Trial));
        // One that began before it was taken out.
        assert!(!circuit.failed(Leave::Ordinary, later));
        circuit.abandoned(Leave::Ordinary, later);
        assert_eq!(circuit.enter(later), None);
        circuit.abandoned(Leave::Trial, later);
        assert_eq!(circuit.enter(later), Some(Leave::Trial));
    }

    proptest! {
        #[test]
        fn whatever_happens_it_comes_back_within_a_minute(steps in proptest::collection::vec(0u8..4, 0..60)) {
            let (circuit, mut now) = (Circuit::default(), Instant::now());
            let mut leave = None;
            for step in steps {
                match step {
                    0 => leave = circuit.enter(now).or(leave),
                    1 => { circuit.failed(leave.take().unwrap_or(Leave::Ordinary), now); }
                    2 => if let Some(leave) = leave.take() { circuit.abandoned(leave, now) },
                    _ => now += Duration::from_secs(1),
                }
            }
            if leave == Some(Leave::Trial) {
                circuit.abandoned(Leave::Trial, now);
            }
            prop_assert!(circuit.wait(now) <= LONGEST);
            now += LONGEST;
            prop_assert!(circuit.enter(now).is_some());
        }
    }
}
