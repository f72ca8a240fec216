//! The figures, the table of them, and what is promised.

use crate::site::FRESH;
use crate::site::TOKENS;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Who was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    Whole,
    Gateway,
    Synced,
    Haproxy,
    HaproxyTls,
    Nginx,
    Envoy,
    EnvoyTls,
    Bare,
    Proven,
}

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    One,
    Kept,
    Many,
    Http2,
    Big,
    Http2Big,
    First,
    Assertion,
    KeptThroughput,
    ManyThroughput,
    Paced,
    Half,
    NinetyNine,
    Last,
    Full,
    Resumed,
    AtRest,
    Idle,
}

impl Who {
    const ALL: [Self; 10] = [
        Self::Whole,
        Self::Gateway,
        Self::Synced,
        Self::Haproxy,
        Self::HaproxyTls,
        Self::Nginx,
        Self::Envoy,
        Self::EnvoyTls,
        Self::Bare,
        Self::Proven,
    ];

    /// Those of countersign, whose assertions have a line of their own.
    pub(crate) const OWN: [Self; 3] = [Self::Whole, Self::Gateway, Self::Synced];

    /// What it is called.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Whole => "countersign `up`",
            Self::Gateway => "countersign `gateway`",
            Self::Synced => "countersign `up`, `commit: fsync`",
            Self::Haproxy => "HAProxy",
            Self::HaproxyTls => "HAProxy, mTLS only",
            Self::Nginx => "nginx, mTLS only",
            Self::Envoy => "Envoy, token cache",
            Self::EnvoyTls => "Envoy, mTLS only",
            Self::Bare => "our libraries, mTLS only",
            Self::Proven => "our libraries, with assertion and records",
        }
    }

    /// Whether it signs an assertion for the service with each request.
    fn signs(self) -> bool {
        Self::OWN.contains(&self) || self == Self::Proven
    }

    /// Whether connections as such are measured: what is behind them makes no difference.
    pub(crate) const fn front(self) -> bool {
        matches!(
            self,
            Self::Whole | Self::Haproxy | Self::Nginx | Self::Envoy
        )
    }
}

impl What {
    const ALL: [Self; 18] = [
        Self::One,
        Self::Kept,
        Self::Many,
        Self::Http2,
        Self::Big,
        Self::Http2Big,
        Self::First,
        Self::Assertion,
        Self::KeptThroughput,
        Self::ManyThroughput,
        Self::Paced,
        Self::Half,
        Self::NinetyNine,
        Self::Last,
        Self::Full,
        Self::Resumed,
        Self::AtRest,
        Self::Idle,
    ];

    /// The percentiles of a [`Report`](crate::load::Report), in its order.
    pub(crate) const PERCENTILES: [Self; 3] = [Self::Half, Self::NinetyNine, Self::Last];

    /// What it is, with its unit.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::One => "1 connection, CPU µs/request",
            Self::Kept => "32 connections, CPU µs/request",
            Self::Many => "256 connections, CPU µs/request",
            Self::Http2 => "HTTP/2, 4 × 8 streams, CPU µs/request",
            Self::Big => "32 connections, 1 MiB, CPU µs/request",
            Self::Http2Big => "HTTP/2, 4 × 8 streams, 1 MiB, CPU µs/request",
            Self::First => "every token new, CPU µs/request",
            Self::Assertion => "of each of these: signing the assertion, CPU µs",
            Self::KeptThroughput => "32 connections, requests/s",
            Self::ManyThroughput => "256 connections, requests/s",
            Self::Paced => "at 2,000/s, CPU µs/request",
            Self::Half => "at 2,000/s, p50 µs",
            Self::NinetyNine => "at 2,000/s, p99 µs",
            Self::Last => "at 2,000/s, p99.9 µs",
            Self::Full => "handshake, full, CPU µs",
            Self::Resumed => "handshake, resumed, CPU µs",
            Self::AtRest => "memory at rest, MiB",
            Self::Idle => "memory per idle connection, KiB",
        }
    }

    /// The throughput that is read off the same run.
    pub(crate) const fn throughput(self) -> Self {
        match self {
            Self::Many => Self::ManyThroughput,
            _ => Self::KeptThroughput,
        }
    }

    /// Whether it is of requests, each of which takes an assertion along.
    const fn is_signed(self) -> bool {
        matches!(
            self,
            Self::One
                | Self::Kept
                | Self::Many
                | Self::Http2
                | Self::Big
                | Self::Http2Big
                | Self::First
                | Self::Paced
        )
    }

    /// Whether it says anything about this one.
    pub(crate) const fn concerns(self, who: Who) -> bool {
        match self {
            Self::Kept | Self::Many | Self::Http2 => true,
            _ if matches!(who, Who::Proven) => false,
            Self::First => matches!(who, Who::Whole | Who::Gateway | Who::Haproxy | Who::Envoy),
            Self::Assertion => matches!(who, Who::Whole | Who::Gateway | Who::Synced),
            _ => true,
        }
    }
}

/// Every figure of every round, and what is to be said about them.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    notes: BTreeSet<String>,
    of: BTreeMap<(What, Who), Vec<f64>>,
}

impl Figures {
    pub(crate) fn add(&mut self, what: What, who: Who, value: f64) {
        self.of.entry((what, who)).or_default().push(value);
    }

    /// Something to be said below the table, once.
    pub(crate) fn note(&mut self, text: String) {
        self.notes.insert(text);
    }

    /// The median of the rounds.
    pub(crate) fn median(&self, what: What, who: Who) -> Option<f64> {
        median(self.of.get(&(what, who))?.clone())
    }

    /// The median of the rounds' ratios.
    fn ratio(&self, what: What, above: Who, below: Who) -> Option<f64> {
        let above = self.of.get(&(what, above))?;
        let below = self.of.get(&(what, below))?;
        median(above.iter().zip(below).map(|(a, b)| a / b).collect())
    }

    /// The same without what signing an assertion costs, which only one of the two does.
    fn ratio_without_assertion(&self, what: What, above: Who, below: Who) -> Option<f64> {
        if !what.is_signed() || below.signs() {
            return None;
        }
        let signing = self.of.get(&(What::Assertion, above))?;
        let above = self.of.get(&(what, above))?;
        let below = self.of.get(&(what, below))?;
        let rounds = above.iter().zip(signing).zip(below);
        median(rounds.map(|((a, signing), b)| (a - signing) / b).collect())
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *values.get(middle.checked_sub(1)?)?;
    Some(f64::midpoint(lower, upper))
}

/// What the first page shows, and of whom.
const SHORT: [What; 6] = [
    What::Kept,
    What::First,
    What::Full,
    What::Resumed,
    What::AtRest,
    What::Idle,
];
const FEW: [Who; 6] = [
    Who::Whole,
    Who::Gateway,
    Who::Haproxy,
    Who::HaproxyTls,
    Who::Nginx,
    Who::Envoy,
];

/// All that was measured.
pub(crate) fn markdown(figures: &Figures, about: &[String]) -> String {
    let mut text = rows(figures, &What::ALL, &Who::ALL);
    let _ = write!(
        text,
        "\n{TOKENS} tokens in rotation, so that a cache of verified tokens has each of them already; \
         with \"every token new\" {FRESH} are used once each. A dash: not measured there."
    );
    for note in &figures.notes {
        let _ = write!(text, " {note}.");
    }
    let _ = write!(text, "\n\n{}.\n", about.join("; "));
    text
}

/// What a first look should see.
pub(crate) fn short(figures: &Figures, about: &[String]) -> String {
    let mut text = rows(figures, &SHORT, &FEW);
    let _ = write!(text, "\n{}.\n", about.join("; "));
    text
}

fn rows(figures: &Figures, what: &[What], who: &[Who]) -> String {
    let mut text = String::from("|");
    for who in who {
        let _ = write!(text, " | {}", who.title());
    }
    text.push_str(" |\n|---");
    text.push_str(&"|---:".repeat(who.len()));
    text.push_str("|\n");
    for what in what {
        let cells = who.iter().map(|who| figures.median(*what, *who));
        let cells: Vec<_> = cells.collect();
        if cells.iter().all(Option::is_none) {
            continue;
        }
        let _ = write!(text, "| {}", what.title());
        for cell in cells {
            let cell = cell.map_or_else(|| "–".to_owned(), number);
            let _ = write!(text, " | {cell}");
        }
        text.push_str(" |\n");
    }
    text
}

fn number(value: f64) -> String {
    if value < 100.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

/// What is promised, and whether it is kept.
pub(crate) struct Kept {
    /// All of it.
    pub(crate) all: bool,
    /// A line each.
    pub(crate) text: String,
}

/// A ratio that is promised not to be above a bound.
struct Promise(What, Who, Who, f64);

const PROMISES: [Promise; 9] = [
    Promise(What::Kept, Who::Whole, Who::Haproxy, 0.30),
    Promise(What::Kept, Who::Whole, Who::HaproxyTls, 1.5),
    Promise(What::Kept, Who::Whole, Who::Envoy, 0.40),
    Promise(What::Kept, Who::Gateway, Who::Haproxy, 0.30),
    Promise(What::Kept, Who::Gateway, Who::HaproxyTls, 1.5),
    Promise(What::Many, Who::Synced, Who::Whole, 1.2),
    Promise(What::First, Who::Whole, Who::Haproxy, 0.75),
    Promise(What::Full, Who::Whole, Who::Envoy, 0.7),
    Promise(What::Resumed, Who::Whole, Who::Envoy, 0.8),
];

/// A figure that is promised, and which side of it is good.
struct Bound(What, Who, f64, bool);

const BOUNDS: [Bound; 3] = [
    Bound(What::AtRest, Who::Whole, 30.0, false),
    Bound(What::Idle, Who::Whole, 30.0, false),
    Bound(What::ManyThroughput, Who::Synced, 10_000.0, true),
];

/// Compares the figures with what is promised.
pub(crate) fn promises(figures: &Figures) -> Kept {
    let mut kept = Kept {
        all: true,
        text: String::new(),
    };
    for Promise(what, above, below, bound) in PROMISES {
        let title = format!("{}: {} / {}", what.title(), above.title(), below.title());
        let Some(ratio) = figures.ratio(what, above, below) else {
            kept.missing(&title);
            continue;
        };
        let without = figures.ratio_without_assertion(what, above, below);
        let without = without.map_or_else(String::new, |it| {
            format!("; {it:.2} without signing the assertion")
        });
        kept.line(
            ratio <= bound,
            &title,
            ratio,
            &format!("≤ {bound}{without}"),
        );
    }
    for Bound(what, who, bound, least) in BOUNDS {
        let title = format!("{}: {}", what.title(), who.title());
        let Some(value) = figures.median(what, who) else {
            kept.missing(&title);
            continue;
        };
        let good = if least {
            value >= bound
        } else {
            value <= bound
        };
        let sign = if least { '≥' } else { '≤' };
        kept.line(good, &title, value, &format!("{sign} {bound}"));
    }
    kept
}

impl Kept {
    /// What was not measured is not kept.
    fn missing(&mut self, what: &str) {
        self.all = false;
        let _ = writeln!(self.text, "✘ {what}  not measured");
    }

    fn line(&mut self, good: bool, what: &str, value: f64, bound: &str) {
        self.all &= good;
        let mark = if good { "✔" } else { "✘" };
        let _ = writeln!(self.text, "{mark} {what}  {value:.2}  ({bound})");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures() -> Figures {
        let mut figures = Figures::default();
        for (own, other) in [(30.0, 200.0), (90.0, 300.0), (20.0, 100.0)] {
            figures.add(What::Kept, Who::Whole, own);
            figures.add(What::Kept, Who::Haproxy, other);
        }
        figures
    }

    #[test]
    fn a_ratio_is_the_median_of_the_rounds() {
        let ratio = figures().ratio(What::Kept, Who::Whole, Who::Haproxy);
        assert_eq!(ratio, Some(0.2));
        assert_eq!(figures().median(What::Kept, Who::Haproxy), Some(200.0));
        assert_eq!(figures().ratio(What::Kept, Who::Whole, Who::Nginx), None);
    }

    /// A run in which everything that is promised is kept.
    fn kept() -> Figures {
        let mut figures = Figures::default();
        for what in What::ALL {
            for who in Who::ALL {
                let own = Who::OWN.contains(&who);
                figures.add(what, who, if own { 20.0 } else { 100.0 });
            }
        }
        figures.of.insert((What::Assertion, Who::Whole), vec![10.0]);
        figures
            .of
            .insert((What::ManyThroughput, Who::Synced), vec![10_000.0]);
        figures
    }

    #[test]
    fn the_short_table_has_a_column_for_each_and_no_row_of_nothing() {
        let text = short(&figures(), &["a machine".to_owned()]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 5, "{text}");
        assert!(lines[2].starts_with("| 32 connections, CPU µs/request | 30.0 | – | 200 |"));
        for line in &lines[..3] {
            assert_eq!(line.matches('|').count(), FEW.len() + 2, "{line}");
        }
    }

    #[test]
    fn a_broken_promise_shows() {
        let mut figures = kept();
        let before = promises(&figures);
        assert!(before.all, "{}", before.text);
        figures.of.insert((What::Idle, Who::Whole), vec![31.0]);
        let after = promises(&figures);
        assert!(!after.all);
        let broken: Vec<_> = after.text.lines().filter(|it| it.contains('✘')).collect();
        assert_eq!(broken.len(), 1, "{broken:?}");
        assert!(broken[0].contains("memory per idle connection"));
    }

    #[test]
    fn what_was_not_measured_is_not_kept() {
        let mut figures = kept();
        figures.of.remove(&(What::Resumed, Who::Envoy));
        let after = promises(&figures);
        assert!(!after.all);
        assert!(after.text.contains("not measured"), "{}", after.text);
    }

    #[test]
    fn the_assertion_is_told_apart() {
        let figures = kept();
        let ratio = figures.ratio_without_assertion(What::Kept, Who::Whole, Who::Envoy);
        assert_eq!(ratio, Some(0.1));
        let both = figures.ratio_without_assertion(What::Many, Who::Synced, Who::Whole);
        assert_eq!(both, None, "both sign");
        let floor = figures.ratio_without_assertion(What::Kept, Who::Whole, Who::Proven);
        assert_eq!(floor, None, "both sign");
        let handshakes = figures.ratio_without_assertion(What::Full, Who::Whole, Who::Envoy);
        assert_eq!(handshakes, None, "nothing is signed for");
        let text = promises(&figures).text;
        assert!(text.contains("0.10 without signing"), "{text}");
    }
}
