use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Timestamp;
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::time::Duration;

/// Keeps refusals of strangers from filling the ledger: nobody outside can stop the company by
/// knocking.
///
/// Up to [`PER_SOURCE`] a second from one /24 (or /56) and [`PER_NODE`] in all are kept one by
/// one; beyond that they are counted, and the counts are recorded once a second in at most
/// [`LINES`] lines and one more for each code. All of it together gets [`QUOTA`] bytes an hour;
/// what is over stays a number in memory until there is room again.
#[derive(Debug, Default)]
pub(crate) struct Flood {
    state: Mutex<State>,
}

/// A moment by both clocks: seconds and hours pass by the one that never steps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Both {
    pub(crate) boot: Duration,
    pub(crate) wall: Timestamp,
}

/// Refusals that were counted instead of kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    /// The network they came from; unspecified for all the rest.
    pub(crate) source: IpAddr,
    pub(crate) code: Code,
    pub(crate) refusals: u64,
    pub(crate) second: i64,
}

#[derive(Debug, Default)]
struct State {
    second: Second,
    /// The hour of the quota, and what was used of it.
    hour: u64,
    used: u64,
    /// Refusals in no record, for want of room or because an earlier second is still being
    /// written.
    unwritten: BTreeMap<Code, u64>,
    writing: bool,
}

#[derive(Debug, Default)]
struct Second {
    at: u64,
    wall: i64,
    kept: u32,
    by_source: HashMap<IpAddr, u32>,
    counted: HashMap<(IpAddr, Code), u64>,
}

const PER_SOURCE: u32 = 10;
const PER_NODE: u32 = 200;
/// Sources told apart in one second; the rest share one line.
const SOURCES: usize = 4096;
/// Lines that name a source, in one second; the rest are merged.
const LINES: usize = 64;
/// Bytes of strangers' records in an hour.
const QUOTA: u64 = 64 << 20;
const EVERYWHERE: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

impl Flood {
    /// Whether this refusal gets a record of its own. The second value are the counts of seconds
    /// gone by, to be recorded now.
    pub(crate) fn admit(
        &self,
        source: Option<IpAddr>,
        code: Code,
        now: Both,
    ) -> (bool, Vec<Counted>) {
        let mut state = self.state.lock();
        let over = state.turn(now);
        let second = &mut state.second;
        let source = second.told_apart(source);
        let from_there = second.by_source.entry(source).or_default();
        *from_there = from_there.saturating_add(1);
        let keep = *from_there <= PER_SOURCE && second.kept < PER_NODE;
        if keep {
            second.kept += 1;
        } else {
            second.count(source, code);
        }
        (keep, over)
    }

    /// Counts a refusal that was to be kept, but for which there is no room.
    pub(crate) fn count(&self, source: Option<IpAddr>, code: Code) {
        let mut state = self.state.lock();
        let source = state.second.told_apart(source);
        state.second.count(source, code);
    }

    /// The counts of seconds gone by.
    pub(crate) fn turn(&self, now: Both) -> Vec<Counted> {
        self.state.lock().turn(now)
    }

    /// Takes so many bytes out of this hour's quota, if they are in it.
    pub(crate) fn afford(&self, bytes: usize, boot: Duration) -> bool {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let mut state = self.state.lock();
        let hour = boot.as_secs() / 3600;
        if hour > state.hour {
            (state.hour, state.used) = (hour, 0);
        }
        let used = state.used.saturating_add(bytes);
        if used > QUOTA {
            return false;
        }
        state.used = used;
        true
    }

    /// Keeps in mind what could not be written; it comes back with a later second.
    pub(crate) fn put_back(&self, counts: impl IntoIterator<Item = Counted>) {
        let mut state = self.state.lock();
        for count in counts {
            state.keep_in_mind(count.code, count.refusals);
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
    fn turn(&mut self, now: Both) -> Vec<Counted> {
        let at = now.boot.as_secs();
        if at <= self.second.at {
            return Vec::new();
        }
        let next = Second {
            at,
            wall: now.wall.as_secs(),
            ..Second::default()
        };
        let before = std::mem::replace(&mut self.second, next);
        let line = |source, code, refusals| Counted {
            source,
            code,
            refusals,
            second: before.wall,
        };
        let counted = before.counted.into_iter();
        let mut lines: Vec<_> = counted
            .map(|((source, code), refusals)| line(source, code, refusals))
            .collect();
        lines.sort_unstable_by_key(|it| (Reverse(it.refusals), it.source, it.code));
        for rest in lines.split_off(LINES.min(lines.len())) {
            self.keep_in_mind(rest.code, rest.refusals);
        }
        let merged = std::mem::take(&mut self.unwritten).into_iter();
        lines.extend(merged.map(|(code, refusals)| line(EVERYWHERE, code, refusals)));
        lines
    }

    fn keep_in_mind(&mut self, code: Code, refusals: u64) {
        let all = self.unwritten.entry(code).or_default();
        *all = all.saturating_add(refusals);
    }
}

impl Second {
    fn told_apart(&self, source: Option<IpAddr>) -> IpAddr {
        let source = source.map_or(EVERYWHERE, network);
        let full = self.by_source.len() >= SOURCES && !self.by_source.contains_key(&source);
        if full { EVERYWHERE } else { source }
    }

    fn count(&mut self, source: IpAddr, code: Code) {
        let refusals = self.counted.entry((source, code)).or_default();
        *refusals = refusals.saturating_add(1);
    }
}

/// The network that counts as one source: a /24, or a /56 of IPv6.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(it) => {
            let [a, b, c, _] = it.octets();
            IpAddr::from([a, b, c, 0])
        }
        IpAddr::V6(it) => IpAddr::V6(Ipv6Addr::from_bits(it.to_bits() & !((1 << 72) - 1))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(secs: u64) -> Both {
        Both {
            boot: Duration::from_secs(secs),
            wall: Timestamp::from_secs(1_000),
        }
    }

    fn many(sources: u32, flood: &Flood, now: Both) -> usize {
        let each = (0..sources).map(|n| IpAddr::from((n << 8).to_be_bytes()));
        each.filter(|source| flood.admit(Some(*source), Code::TLS_HANDSHAKE, now).0)
            .count()
    }

    fn total(counts: &[Counted]) -> u64 {
        counts.iter().map(|it| it.refusals).sum()
    }

    #[test]
    fn ten_are_kept_and_the_rest_counted() {
        let flood = Flood::default();
        assert_eq!(flood.turn(at(5)), []);
        let from = |last: u8| Some(IpAddr::from([192, 0, 2, last]));
        let kept = (0..50)
            .filter(|n| flood.admit(from(*n), Code::TLS_VERSION, at(5)).0)
            .count();
        assert_eq!(kept, 10);
        let elsewhere = Some(IpAddr::from([198, 51, 100, 1]));
        assert!(flood.admit(elsewhere, Code::TLS_VERSION, at(5)).0);
        assert_eq!(
            flood.turn(at(6)),
            [Counted {
                source: IpAddr::from([192, 0, 2, 0]),
                code: Code::TLS_VERSION,
                refusals: 40,
                second: 1_000
            }]
        );
        assert_eq!(flood.turn(at(6)), []);
    }

    #[test]
    fn many_sources_share_one_bound_and_few_lines() {
        let flood = Flood::default();
        assert_eq!(many(65_536, &flood, at(5)), 200);
        let counts = flood.turn(at(6));
        assert_eq!(total(&counts), 65_536 - 200);
        assert_eq!(counts.len(), LINES + 1);
        let rest: Vec<_> = counts
            .iter()
            .filter(|it| it.source == EVERYWHERE)
            .map(|it| it.code)
            .collect();
        assert!(rest.contains(&Code::TLS_HANDSHAKE));
        assert_eq!(
            network("2001:db8::1:2:3".parse().unwrap()),
            network("2001:db8::9".parse::<IpAddr>().unwrap())
        );
    }

    #[test]
    fn a_second_never_comes_again() {
        let flood = Flood::default();
        let source = Some(IpAddr::from([192, 0, 2, 1]));
        let kept = |now| {
            (0..20)
                .filter(|_| flood.admit(source, Code::TLS_VERSION, now).0)
                .count()
        };
        assert_eq!(kept(at(5)), 10);
        assert_eq!((kept(at(4)), kept(at(5))), (0, 0));
    }

    #[test]
    fn an_hour_has_so_many_bytes() {
        let flood = Flood::default();
        let hour = Duration::from_secs(3600);
        assert!(flood.afford(64 << 20, Duration::ZERO));
        assert!(!flood.afford(1, hour / 2));
        assert!(flood.afford(1 << 20, hour));
        assert!(!flood.afford(64 << 20, hour));
        assert!(!flood.afford(64 << 20, Duration::ZERO));
    }

    #[test]
    fn what_could_not_be_written_is_not_forgotten() {
        let flood = Flood::default();
        many(400, &flood, at(5));
        let counts = flood.turn(at(6));
        assert_eq!(total(&counts), 200);
        assert!(flood.begin_writing() && !flood.begin_writing());
        flood.put_back(counts);
        flood.end_writing();
        assert!(flood.begin_writing());
        let again = flood.turn(at(7));
        assert_eq!((again.len(), total(&again)), (1, 200));
        assert_eq!(flood.turn(at(8)), []);
    }
}
