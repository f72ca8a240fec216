use crate::flood::Both;
use countersign_core::vocabulary::Code;
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::collections::BTreeMap;

/// Keeps what proven callers are refused for calling too often from filling the ledger: a caller
/// who is out of calls is refused as often as it likes, and each refusal would be a durable record.
///
/// The first [`PER_CALLER`] of a second are kept one by one; beyond that they are counted, and the
/// counts are recorded once a second, one line for each caller and code.
#[derive(Debug, Default)]
pub(crate) struct Excess {
    state: Mutex<State>,
}

/// Refusals of one caller that were counted instead of kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Over {
    pub(crate) code: Code,
    /// As records name it; [`OTHERS`] for all that there was no place to tell apart.
    pub(crate) caller: String,
    pub(crate) refusals: u64,
    pub(crate) second: i64,
}

#[derive(Debug, Default)]
struct State {
    at: u64,
    wall: i64,
    /// How many were refused in this second.
    seen: HashMap<(String, Code), u64>,
    /// Refusals in no record: of this second, and of earlier ones for want of room.
    unwritten: BTreeMap<(String, Code), u64>,
    writing: bool,
}

/// Records of one caller and code in one second.
const PER_CALLER: u64 = 10;
/// Callers told apart at once; the rest share one line.
const CALLERS: usize = 4096;
/// Who is not told apart. No caller is spelled like this.
const OTHERS: &str = "others";

impl Excess {
    /// Whether this refusal gets a record of its own. The second value are the counts of seconds
    /// gone by, to be recorded now.
    pub(crate) fn admit(&self, caller: &str, code: Code, now: Both) -> (bool, Vec<Over>) {
        let mut state = self.state.lock();
        let over = state.turn(now);
        let key = told_apart(
            state.seen.len(),
            |key| state.seen.contains_key(key),
            caller,
            code,
        );
        let seen = state.seen.entry(key).or_default();
        *seen = seen.saturating_add(1);
        let keep = *seen <= PER_CALLER;
        if !keep {
            state.count(caller, code, 1);
        }
        (keep, over)
    }

    /// Counts a refusal that was to be kept, but for which there is no room.
    pub(crate) fn count(&self, caller: &str, code: Code) {
        self.state.lock().count(caller, code, 1);
    }

    /// The counts of seconds gone by.
    pub(crate) fn turn(&self, now: Both) -> Vec<Over> {
        self.state.lock().turn(now)
    }

    /// Keeps in mind what could not be written; it comes back with a later second.
    pub(crate) fn put_back(&self, counts: impl IntoIterator<Item = Over>) {
        let mut state = self.state.lock();
        for count in counts {
            state.count(&count.caller, count.code, count.refusals);
        }
    }

    /// Whether counts may be written now: one second's at a time, so that a slow disk does not
    /// pile up writers.
    pub(crate) fn begin_writing(&self) -> bool {
        !std::mem::replace(&mut self.state.lock().writing, true)
    }

    /// The other end of [`begin_writing`](Self::begin_writing).
    pub(crate) fn end_writing(&self) {
        self.state.lock().writing = false;
    }
}

impl State {
    fn turn(&mut self, now: Both) -> Vec<Over> {
        let at = now.boot.as_secs();
        if at <= self.at {
            return Vec::new();
        }
        let second = std::mem::replace(&mut self.wall, now.wall.as_secs());
        self.at = at;
        self.seen.clear();
        let unwritten = std::mem::take(&mut self.unwritten).into_iter();
        let line = |((caller, code), refusals)| Over {
            code,
            caller,
            refusals,
            second,
        };
        unwritten.map(line).collect()
    }

    fn count(&mut self, caller: &str, code: Code, refusals: u64) {
        let known = |key: &(String, Code)| self.unwritten.contains_key(key);
        let key = told_apart(self.unwritten.len(), known, caller, code);
        let all = self.unwritten.entry(key).or_default();
        *all = all.saturating_add(refusals);
    }
}

/// Under what a refusal is counted, where so many are counted apart already.
fn told_apart(
    apart: usize,
    known: impl Fn(&(String, Code)) -> bool,
    caller: &str,
    code: Code,
) -> (String, Code) {
    let key = (caller.to_owned(), code);
    if apart >= CALLERS && !known(&key) {
        return (OTHERS.to_owned(), code);
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_core::vocabulary::Timestamp;
    use std::time::Duration;

    const CODE: Code = Code::RATE_EXCEEDED;

    const fn at(secs: u64) -> Both {
        Both {
            boot: Duration::from_secs(secs),
            wall: Timestamp::from_secs(1_000),
        }
    }

    fn kept(excess: &Excess, caller: &str, times: usize, now: Both) -> usize {
        let admit = |_: &usize| excess.admit(caller, CODE, now).0;
        (0..times).filter(admit).count()
    }

    fn over(caller: &str, refusals: u64) -> Over {
        Over {
            code: CODE,
            caller: caller.to_owned(),
            refusals,
            second: 1_000,
        }
    }

    #[test]
    fn ten_of_each_caller_are_kept_and_the_rest_counted() {
        let excess = Excess::default();
        assert_eq!(excess.turn(at(5)), []);
        assert_eq!(kept(&excess, "a", 50, at(5)), 10);
        assert_eq!(kept(&excess, "b", 12, at(5)), 10);
        assert_eq!(kept(&excess, "c", 3, at(5)), 3);
        assert_eq!(excess.turn(at(6)), [over("a", 40), over("b", 2)]);
        assert_eq!(excess.turn(at(6)), []);
        assert_eq!(kept(&excess, "a", 50, at(6)), 10);
        // A second never comes again.
        assert_eq!(kept(&excess, "a", 50, at(5)), 0);
        assert_eq!(excess.turn(at(7)), [over("a", 90)]);
    }

    #[test]
    fn many_callers_take_bounded_room() {
        let excess = Excess::default();
        let mut records = 0;
        for caller in 0..2 * CALLERS {
            records += kept(&excess, &caller.to_string(), 11, at(5));
        }
        assert_eq!(records, (CALLERS + 1) * 10);
        let counts = excess.turn(at(6));
        assert_eq!(counts.len(), CALLERS + 1);
        let refused: u64 = counts.iter().map(|it| it.refusals).sum();
        assert_eq!(refused as usize + records, 2 * CALLERS * 11);
    }

    #[test]
    fn what_could_not_be_written_is_not_forgotten() {
        let excess = Excess::default();
        kept(&excess, "a", 15, at(5));
        assert!(excess.begin_writing() && !excess.begin_writing());
        excess.put_back(excess.turn(at(6)));
        excess.end_writing();
        excess.count("a", CODE);
        assert!(excess.begin_writing());
        assert_eq!(excess.turn(at(7)), [over("a", 6)]);
    }
}
