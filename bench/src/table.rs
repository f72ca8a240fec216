//! The figures, the table of them, and what is promised.

use std::collections::BTreeMap;
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
}

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    One,
    Kept,
    Many,
    Http2,
    Big,
    First,
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
    const ALL: [Self; 8] = [
        Self::Whole,
        Self::Gateway,
        Self::Synced,
        Self::Haproxy,
        Self::HaproxyTls,
        Self::Nginx,
        Self::Envoy,
        Self::EnvoyTls,
    ];

    const fn title(self) -> &'static str {
        match self {
            Self::Whole => "countersign `up`",
            Self::Gateway => "countersign `gateway`",
            Self::Synced => "countersign `up`, `commit: fsync`",
            Self::Haproxy => "HAProxy",
            Self::HaproxyTls => "HAProxy, mTLS only",
            Self::Nginx => "nginx, mTLS only",
            Self::Envoy => "Envoy, token cache",
            Self::EnvoyTls => "Envoy, mTLS only",
        }
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
    const ALL: [Self; 16] = [
        Self::One,
        Self::Kept,
        Self::Many,
        Self::Http2,
        Self::Big,
        Self::First,
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
            Self::First => "every token new, CPU µs/request",
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

    /// Whether it says anything about this one.
    pub(crate) const fn concerns(self, who: Who) -> bool {
        match self {
            Self::First => matches!(who, Who::Whole | Who::Gateway | Who::Haproxy | Who::Envoy),
            _ => true,
        }
    }
}

/// Every figure of every round.
#[derive(Debug, Default)]
pub(crate) struct Figures(BTreeMap<(What, Who), Vec<f64>>);

impl Figures {
    pub(crate) fn add(&mut self, what: What, who: Who, value: f64) {
        self.0.entry((what, who)).or_default().push(value);
    }

    fn median(&self, what: What, who: Who) -> Option<f64> {
        median(self.0.get(&(what, who))?.clone())
    }

    /// The median of the rounds' ratios.
    fn ratio(&self, what: What, above: Who, below: Who) -> Option<f64> {
        let above = self.0.get(&(what, above))?;
        let below = self.0.get(&(what, below))?;
        median(above.iter().zip(below).map(|(a, b)| a / b).collect())
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

/// The table, for the README.
pub(crate) fn markdown(figures: &Figures, about: &[String]) -> String {
    let mut text = String::from("|");
    for who in Who::ALL {
        let _ = write!(text, " | {}", who.title());
    }
    text.push_str(" |\n|---");
    text.push_str(&"|---:".repeat(Who::ALL.len()));
    text.push_str("|\n");
    for what in What::ALL {
        let cells = Who::ALL.map(|who| figures.median(what, who));
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
    let _ = write!(text, "\n{}.\n", about.join("; "));
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
        if let Some(ratio) = figures.ratio(what, above, below) {
            let what = format!("{}: {} / {}", what.title(), above.title(), below.title());
            kept.line(ratio <= bound, &what, ratio, &format!("≤ {bound}"));
        }
    }
    for Bound(what, who, bound, least) in BOUNDS {
        if let Some(value) = figures.median(what, who) {
            let good = if least {
                value >= bound
            } else {
                value <= bound
            };
            let sign = if least { '≥' } else { '≤' };
            let title = format!("{}: {}", what.title(), who.title());
            kept.line(good, &title, value, &format!("{sign} {bound}"));
        }
    }
    kept
}

impl Kept {
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

    #[test]
    fn a_broken_promise_shows() {
        let mut figures = figures();
        assert!(promises(&figures).all);
        figures.add(What::Idle, Who::Whole, 31.0);
        let kept = promises(&figures);
        assert!(!kept.all);
        assert!(
            kept.text.contains("✘ memory per idle connection"),
            "{}",
            kept.text
        );
    }
}
