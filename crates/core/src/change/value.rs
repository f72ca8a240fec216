//! What a key says, and what more or less of it does to who may what.

use super::Effect;
use crate::config::Hours;
use crate::config::Rate;
use crate::pillars::least_privilege::wildcard;
use crate::vocabulary::OperationPattern;
use std::time::Duration;

/// What a key says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// A list of which any entry allows something.
    Grants(Vec<String>),
    /// Operations of which any is allowed.
    Operations(Vec<OperationPattern>),
    /// A list of which every entry asks for something.
    Demands(Vec<String>),
    /// A list of which one entry suffices, `*` as a wildcard; an empty one asks for nothing.
    OneOf(Vec<String>),
    /// A ceiling; no number is no ceiling.
    AtMost(Option<u64>, Unit),
    /// A floor; no number is no floor.
    AtLeast(Option<u64>, Unit),
    /// A ceiling on calls.
    Rate(Option<Rate>),
    /// A window of time; none is always.
    Hours(Option<Hours>),
    /// Something asked for; another can't be compared with it.
    Demand(Option<Text>),
    /// Nothing can be said about another one.
    Other(Option<Text>),
    /// It says nothing about who may what.
    Indifferent(Option<String>),
    /// How often by way of a role, if it says so; `elsewhere`: another role may say so too.
    Tier {
        tier: Option<(String, Rate)>,
        elsewhere: bool,
    },
}

/// A text that is shown otherwise than it is compared.
#[derive(Clone, Debug)]
pub(super) struct Text {
    compared: String,
    shown: String,
}

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Bytes,
    Count,
    Dollars,
    Millis,
}

impl Text {
    pub(super) fn new(text: impl Into<String>) -> Self {
        let compared = text.into();
        Self {
            shown: compared.clone(),
            compared,
        }
    }

    /// A file, by its text.
    pub(super) fn file(it: &crate::config::Attached) -> Self {
        Self {
            compared: it.text.to_string(),
            shown: it.path.clone(),
        }
    }

    pub(super) fn shown_as(compared: impl Into<String>, shown: impl Into<String>) -> Self {
        Self {
            compared: compared.into(),
            shown: shown.into(),
        }
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.compared == other.compared
    }
}

impl Value {
    pub(super) fn yes(it: bool) -> Self {
        Self::Grants(it.then(|| "yes".to_owned()).into_iter().collect())
    }

    pub(super) fn text(it: Option<impl Into<String>>) -> Self {
        Self::Other(it.map(Text::new))
    }

    pub(super) fn demand(it: Option<impl Into<String>>) -> Self {
        Self::Demand(it.map(Text::new))
    }

    pub(super) fn time(it: Duration) -> Self {
        Self::AtMost(Some(millis(it)), Unit::Millis)
    }

    pub(super) fn list<T: ToString>(items: &[T]) -> Vec<String> {
        items.iter().map(ToString::to_string).collect()
    }

    /// What another value does; nothing if it means the same. A key that is absent says what an
    /// empty one says.
    pub(super) fn effect(before: Option<&Self>, after: Option<&Self>) -> Option<Effect> {
        let (before, after) = match (before, after) {
            (Some(before), Some(after)) => (before.clone(), after.clone()),
            (Some(before), None) => (before.clone(), before.emptied()),
            (None, Some(after)) => (after.emptied(), after.clone()),
            (None, None) => return None,
        };
        before.against(&after)
    }

    fn emptied(&self) -> Self {
        match self {
            Self::Grants(_) => Self::Grants(Vec::new()),
            Self::Operations(_) => Self::Operations(Vec::new()),
            Self::Demands(_) => Self::Demands(Vec::new()),
            Self::OneOf(_) => Self::OneOf(Vec::new()),
            Self::AtMost(_, unit) => Self::AtMost(None, *unit),
            Self::AtLeast(_, unit) => Self::AtLeast(None, *unit),
            Self::Rate(_) => Self::Rate(None),
            Self::Hours(_) => Self::Hours(None),
            Self::Demand(_) => Self::Demand(None),
            Self::Other(_) => Self::Other(None),
            Self::Indifferent(_) => Self::Indifferent(None),
            Self::Tier { elsewhere, .. } => Self::Tier {
                tier: None,
                elsewhere: *elsewhere,
            },
        }
    }

    fn against(&self, after: &Self) -> Option<Effect> {
        let effect = match (self, after) {
            (Self::Grants(old), Self::Grants(new)) => grants(old, new)?,
            (Self::Operations(old), Self::Operations(new)) => operations(old, new)?,
            (Self::Demands(old), Self::Demands(new)) => {
                let more = grants(old, new)?;
                Effect::of(more.tightens, more.loosens)
            }
            (Self::OneOf(old), Self::OneOf(new)) => one_of(old, new)?,
            (Self::AtMost(old, _), Self::AtMost(new, _)) => {
                ordered(old.unwrap_or(u64::MAX), new.unwrap_or(u64::MAX), old == new)?
            }
            (Self::AtLeast(old, _), Self::AtLeast(new, _)) => {
                ordered(new.unwrap_or(0), old.unwrap_or(0), old == new)?
            }
            (Self::Rate(old), Self::Rate(new)) => rate(*old, *new)?,
            (Self::Hours(old), Self::Hours(new)) => hours(*old, *new)?,
            (Self::Demand(old), Self::Demand(new)) => match (old, new) {
                (old, new) if old == new => return None,
                (None, Some(_)) => Effect::TIGHTENS,
                _ => Effect::LOOSENS,
            },
            (Self::Indifferent(old), Self::Indifferent(new)) if old != new => Effect::NONE,
            (
                Self::Tier {
                    tier: old,
                    elsewhere,
                },
                Self::Tier { tier: new, .. },
            ) => tier(old.as_ref(), new.as_ref(), *elsewhere)?,
            (old, new) if old == new => return None,
            _ => Effect::LOOSENS,
        };
        Some(effect)
    }

    /// As the file would say it; nothing if it says nothing.
    pub(super) fn shown(&self) -> Option<String> {
        let joined = |list: &[String]| (!list.is_empty()).then(|| list.join(", "));
        match self {
            Self::Grants(list) | Self::Demands(list) | Self::OneOf(list) => joined(list),
            Self::Operations(list) => joined(&Self::list(list)),
            Self::AtMost(number, unit) | Self::AtLeast(number, unit) => {
                number.map(|number| unit.shown(number))
            }
            Self::Rate(rate) => rate.map(|rate| rate_text(&rate)),
            Self::Hours(hours) => hours.as_ref().map(hours_text),
            Self::Demand(text) | Self::Other(text) => text.as_ref().map(|it| it.shown.clone()),
            Self::Indifferent(text) => text.clone(),
            Self::Tier { tier, .. } => tier.as_ref().map(|(name, _)| name.clone()),
        }
    }
}

impl Unit {
    fn shown(self, number: u64) -> String {
        let in_units = |units: &[(&str, u64)]| {
            let fits = units
                .iter()
                .find(|(_, size)| number >= *size && number.is_multiple_of(*size));
            fits.map_or_else(
                || number.to_string(),
                |(unit, size)| format!("{}{unit}", number / size),
            )
        };
        match self {
            Self::Bytes => in_units(&[("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)]),
            Self::Count => number.to_string(),
            Self::Dollars => format!("${}", micro_dollars(number)),
            Self::Millis if number == 0 => "0s".to_owned(),
            Self::Millis => in_units(&[
                ("d", 86_400_000),
                ("h", 3_600_000),
                ("m", 60_000),
                ("s", 1000),
                ("ms", 1),
            ]),
        }
    }
}

/// Milliseconds, the finest that the language can say.
pub(super) fn millis(it: Duration) -> u64 {
    u64::try_from(it.as_millis()).unwrap_or(u64::MAX)
}

/// `100/min burst 150`.
pub(crate) fn rate_text(rate: &Rate) -> String {
    let per = match rate.per.as_secs() {
        1 => "s".to_owned(),
        60 => "min".to_owned(),
        3600 => "h".to_owned(),
        86_400 => "day".to_owned(),
        other => format!("{other}s"),
    };
    let burst = if rate.burst == rate.count {
        String::new()
    } else {
        format!(" burst {}", rate.burst)
    };
    format!("{}/{per}{burst}", rate.count)
}

/// `mon-fri 08:00-18:00`.
pub(crate) fn hours_text(hours: &Hours) -> String {
    const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let day = |day: u8| DAYS.get(usize::from(day)).copied().unwrap_or("?");
    let time = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
    let days = if hours.first_day == hours.last_day {
        day(hours.first_day).to_owned()
    } else {
        format!("{}-{}", day(hours.first_day), day(hours.last_day))
    };
    format!("{days} {}-{}", time(hours.from), time(hours.to))
}

/// Micro-dollars as dollars, without needless zeros: `50`, `2.5`.
pub(crate) fn micro_dollars(number: u64) -> String {
    let text = format!("{}.{:06}", number / 1_000_000, number % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Entries that the other side has not.
fn grants(old: &[String], new: &[String]) -> Option<Effect> {
    let beyond = |these: &[String], those: &[String]| these.iter().any(|it| !those.contains(it));
    moved(beyond(new, old), beyond(old, new))
}

fn operations(old: &[OperationPattern], new: &[OperationPattern]) -> Option<Effect> {
    let beyond = |these: &[OperationPattern], those: &[OperationPattern]| {
        these
            .iter()
            .any(|it| !those.iter().any(|other| other.covers(it)))
    };
    moved(beyond(new, old), beyond(old, new))
}

/// An empty list asks for nothing, so it is the widest.
fn one_of(old: &[String], new: &[String]) -> Option<Effect> {
    match (old.is_empty(), new.is_empty()) {
        (true, true) => None,
        (true, false) => Some(Effect::TIGHTENS),
        (false, true) => Some(Effect::LOOSENS),
        (false, false) => {
            // Where a wildcard takes in a text with a wildcard, it takes in all that one does.
            let beyond = |these: &[String], those: &[String]| {
                these
                    .iter()
                    .any(|it| !those.iter().any(|other| wildcard(other, it)))
            };
            moved(beyond(new, old), beyond(old, new))
        }
    }
}

fn moved(more: bool, less: bool) -> Option<Effect> {
    (more || less).then_some(Effect::of(more, less))
}

fn ordered(old: u64, new: u64, same: bool) -> Option<Effect> {
    // `None` and the greatest number are the same ceiling, but not the same text.
    (!same).then_some(Effect::of(new > old, new < old))
}

fn rate(old: Option<Rate>, new: Option<Rate>) -> Option<Effect> {
    match (old, new) {
        (None, None) => None,
        (None, Some(_)) => Some(Effect::TIGHTENS),
        (Some(_), None) => Some(Effect::LOOSENS),
        (Some(old), Some(new)) => moved(exceeds(new, old), exceeds(old, new)),
    }
}

/// Whether one lets something through that the other does not: more on average, or more at once.
fn exceeds(one: Rate, other: Rate) -> bool {
    let per = |rate: Rate, window: Duration| u128::from(rate.count) * window.as_nanos();
    per(one, other.per) > per(other, one.per) || one.burst > other.burst
}

fn tier(
    old: Option<&(String, Rate)>,
    new: Option<&(String, Rate)>,
    elsewhere: bool,
) -> Option<Effect> {
    match (old, new) {
        (None, None) => None,
        // Who has several roles may call as often as the best of them says.
        (None, Some(_)) => Some(Effect::of(elsewhere, true)),
        (Some(_), None) => Some(Effect::LOOSENS),
        (Some((name, old)), Some((other, new))) => {
            let same = (name != other).then_some(Effect::NONE);
            moved(exceeds(*new, *old), exceeds(*old, *new)).or(same)
        }
    }
}

/// Stricter only if it lies plainly within: the same days or fewer, and no turn over midnight.
fn hours(old: Option<Hours>, new: Option<Hours>) -> Option<Effect> {
    match (old, new) {
        (old, new) if old == new => None,
        (None, Some(_)) => Some(Effect::TIGHTENS),
        (Some(_), None) | (None, None) => Some(Effect::LOOSENS),
        (Some(old), Some(new)) => {
            let (wider, narrower) = (!within(new, old), within(new, old) || !within(old, new));
            Some(Effect::of(wider, narrower))
        }
    }
}

fn within(inner: Hours, outer: Hours) -> bool {
    let plain = |it: Hours| it.from < it.to && it.first_day <= it.last_day;
    plain(inner)
        && plain(outer)
        && inner.first_day >= outer.first_day
        && inner.last_day <= outer.last_day
        && inner.from >= outer.from
        && inner.to <= outer.to
}
