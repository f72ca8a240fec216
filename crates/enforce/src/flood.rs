use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Timestamp;
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::net::IpAddr;
use std::net::Ipv6Addr;

/// Keeps refusals of strangers from filling the ledger: nobody outside can stop the company by
/// knocking.
///
/// Up to [`PER_SOURCE`] a second from one /24 (or /56) and [`PER_NODE`] in all are kept one by
/// one; beyond that they are counted, and the counts are recorded once a second.
#[derive(Debug, Default)]
pub(crate) struct Flood {
    second: Mutex<Second>,
}

#[derive(Debug, Default)]
struct Second {
    at: i64,
    kept: u32,
    by_source: HashMap<IpAddr, u32>,
    counted: HashMap<(IpAddr, Code), u64>,
}

/// A source whose refusals were counted instead of kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) source: IpAddr,
    pub(crate) code: Code,
    pub(crate) refusals: u64,
    pub(crate) second: i64,
}

const PER_SOURCE: u32 = 10;
const PER_NODE: u32 = 200;
/// Sources told apart in one second; the rest share one line.
const SOURCES: usize = 4096;

impl Flood {
    /// Whether this refusal gets a record of its own. The second value are the counts of seconds
    /// gone by, to be recorded now.
    pub(crate) fn admit(
        &self,
        source: Option<IpAddr>,
        code: Code,
        now: Timestamp,
    ) -> (bool, Vec<Counted>) {
        let source = network(source.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)));
        let mut second = self.second.lock();
        let over = second.turn(now);
        let full = second.by_source.len() >= SOURCES && !second.by_source.contains_key(&source);
        let source = if full {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        } else {
            source
        };
        let from_there = second.by_source.entry(source).or_default();
        *from_there = from_there.saturating_add(1);
        let keep = *from_there <= PER_SOURCE && second.kept < PER_NODE;
        if keep {
            second.kept += 1;
        } else {
            *second.counted.entry((source, code)).or_default() += 1;
        }
        (keep, over)
    }

    /// The counts of seconds gone by.
    pub(crate) fn turn(&self, now: Timestamp) -> Vec<Counted> {
        self.second.lock().turn(now)
    }
}

impl Second {
    fn turn(&mut self, now: Timestamp) -> Vec<Counted> {
        if self.at == now.as_secs() {
            return Vec::new();
        }
        let before = std::mem::replace(
            self,
            Self {
                at: now.as_secs(),
                ..Self::default()
            },
        );
        let lines = before.counted.into_iter();
        lines
            .map(|((source, code), refusals)| Counted {
                source,
                code,
                refusals,
                second: before.at,
            })
            .collect()
    }
}

fn network(address: IpAddr) -> IpAddr {
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

    #[test]
    fn ten_are_kept_and_the_rest_counted() {
        let flood = Flood::default();
        let now = Timestamp::from_secs(5);
        let from = |last: u8| Some(IpAddr::from([192, 0, 2, last]));
        let kept = (0..50)
            .filter(|n| flood.admit(from(*n), Code::TLS_VERSION, now).0)
            .count();
        assert_eq!(kept, 10);
        assert!(
            flood
                .admit(
                    Some(IpAddr::from([198, 51, 100, 1])),
                    Code::TLS_VERSION,
                    now
                )
                .0
        );
        let counts = flood.turn(Timestamp::from_secs(6));
        assert_eq!(
            counts,
            [Counted {
                source: IpAddr::from([192, 0, 2, 0]),
                code: Code::TLS_VERSION,
                refusals: 40,
                second: 5
            }]
        );
        assert_eq!(flood.turn(Timestamp::from_secs(6)), []);
    }

    #[test]
    fn many_sources_share_one_bound() {
        let flood = Flood::default();
        let now = Timestamp::from_secs(5);
        let kept = (0..=255_u8)
            .flat_map(|a| (0..=255_u8).map(move |b| IpAddr::from([10, a, b, 1])))
            .filter(|source| flood.admit(Some(*source), Code::TLS_HANDSHAKE, now).0)
            .count();
        assert_eq!(kept, 200);
        let total: u64 = flood
            .turn(Timestamp::from_secs(6))
            .iter()
            .map(|it| it.refusals)
            .sum();
        assert_eq!(total, 65_536 - 200);
        assert_eq!(
            network("2001:db8::1:2:3".parse().unwrap()),
            network("2001:db8::9".parse::<IpAddr>().unwrap())
        );
    }
}
