//! What another configuration would change, and whether it allows more.
//!
//! [`difference`] compares two checked configurations by what they mean: the order of entries,
//! spaces and comments are nothing, a pattern that another already covers is nothing new. Every
//! part of the model says once (`entries`, `services`) what more or less of it does; whatever can't
//! be told to be stricter counts as looser, so that nothing slips by a second pair of eyes.

mod doors;
mod entries;
mod render;
mod services;
mod value;

pub(crate) use value::hours_text;
pub(crate) use value::micro_dollars;
pub(crate) use value::rate_text;

use crate::config::Config;
use crate::config::Place;
use entries::Entry;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;
use value::Value;

/// What is different between two configurations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Entry by entry: in the order of the sections, added and changed ones as the new
    /// configuration has them, then removed ones.
    pub changes: Vec<Change>,
    /// What allows more than before, or can't be told not to.
    pub loosens: Vec<Finding>,
    /// What allows less than before.
    pub tightens: Vec<Finding>,
    /// Tests that are gone, by name.
    pub tests_removed: Vec<String>,
    /// Tests that ask or expect something else than before.
    pub tests_weakened: Vec<String>,
}

/// What became of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Where it is written in the new configuration.
    pub after: Option<Place>,
    /// Where it was written in the old one.
    pub before: Option<Place>,
    /// What it does to who may what, all in all.
    pub effect: Effect,
    /// Its keys, as far as they differ.
    pub keys: Vec<Key>,
    /// Whether it came, changed or went.
    pub kind: Kind,
    /// Its name; for an operation the service and the pattern.
    pub name: String,
    /// Where in the configuration it belongs.
    pub section: Section,
}

/// What became of a key of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// What it says now; nothing if it is gone.
    pub after: Option<String>,
    /// What it said before; nothing if it is new.
    pub before: Option<String>,
    /// What that does to who may what.
    pub effect: Effect,
    /// The key.
    pub key: String,
}

/// A change that allows more, or less.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The entry.
    pub name: String,
    /// Where: in the new configuration, or in the old one if it is gone.
    pub place: Place,
    /// The section of the entry.
    pub section: Section,
    /// What changed, in a few words, such as `` `members` gains group:corp/analysts ``.
    pub what: String,
}

/// What a change does to who may what; both, if more of one thing and less of another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// It allows more, or can't be told not to.
    pub loosens: bool,
    /// It allows less.
    pub tightens: bool,
}

/// Whether an entry came, changed or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It is new.
    Added,
    /// It says something else.
    Changed,
    /// It is gone.
    Removed,
}

/// A part of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Section {
    /// The keys beside the sections.
    Top,
    /// `listeners`.
    Listener,
    /// `login`.
    Login,
    /// `identities`.
    Identity,
    /// `roles`.
    Role,
    /// `tiers`.
    Tier,
    /// `services`.
    Service,
    /// `operations` of a service.
    Operation,
    /// `edges`.
    Edge,
    /// `secrets`.
    Secret,
    /// `budgets`.
    Budget,
    /// `policies`.
    Policy,
    /// `audit`.
    Audit,
    /// `sinks` of `audit`.
    Sink,
    /// `tests`.
    Test,
}

/// What is different between a configuration and the one that would replace it.
#[must_use]
pub fn difference(before: &Config, after: &Config) -> Difference {
    let (old, new) = (
        entries::all(before, before, after),
        entries::all(after, before, after),
    );
    let had: BTreeMap<_, _> = old.iter().map(|it| (it.id(), it)).collect();
    let has: BTreeMap<_, _> = new.iter().map(|it| (it.id(), it)).collect();
    let mut changes: Vec<_> = new
        .iter()
        .filter_map(|entry| match had.get(&entry.id()) {
            Some(was) => changed(was, entry),
            None => came(entry, before, &had),
        })
        .collect();
    changes.extend(
        old.iter()
            .filter(|entry| !has.contains_key(&entry.id()))
            .filter_map(|entry| went(entry, after, &has)),
    );
    // Stable: within a section the order of the files stays.
    changes.sort_by_key(|it| it.section);
    let mut difference = Difference::default();
    for change in &changes {
        difference.judge(change);
    }
    difference.changes = changes;
    difference.operator(before, after);
    difference
}

impl Difference {
    /// Whether both configurations mean the same.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Whether the new configuration allows more than the old one, or can't be told not to.
    #[must_use]
    pub fn allows_more(&self) -> bool {
        !self.loosens.is_empty()
    }

    /// How many entries of each section came, changed or went.
    #[must_use]
    pub fn counts(&self, kind: Kind) -> BTreeMap<Section, usize> {
        let mut counts = BTreeMap::new();
        for change in self.changes.iter().filter(|it| it.kind == kind) {
            *counts.entry(change.section).or_insert(0) += 1;
        }
        counts
    }

    fn judge(&mut self, change: &Change) {
        if change.section == Section::Test && change.kind != Kind::Added {
            let list = match change.kind {
                Kind::Removed => &mut self.tests_removed,
                Kind::Added | Kind::Changed => &mut self.tests_weakened,
            };
            list.push(change.name.clone());
        }
        let told = |what: String| Finding {
            name: change.name.clone(),
            place: change.after.or(change.before).unwrap_or_default(),
            section: change.section,
            what,
        };
        if change.kind == Kind::Changed {
            for key in &change.keys {
                if key.effect.loosens {
                    self.loosens.push(told(key.what(true)));
                }
                if key.effect.tightens {
                    self.tightens.push(told(key.what(false)));
                }
            }
            return;
        }
        let what = change.whole();
        if change.effect.loosens {
            self.loosens.push(told(what.clone()));
        }
        if change.effect.tightens {
            self.tightens.push(told(what));
        }
    }

    /// In development whoever runs the server administers it while no identity is a system user.
    fn operator(&mut self, before: &Config, after: &Config) {
        let names_users = |it: &Config| it.identities.values().any(|it| it.unix_user().is_some());
        let dev = after.environment == crate::config::Environment::Dev;
        if dev && names_users(before) && !names_users(after) {
            self.loosens.push(Finding {
                name: "identities".to_owned(),
                place: Place::default(),
                section: Section::Identity,
                what: "no system user is named any more, so whoever runs the server administers it"
                    .to_owned(),
            });
        }
    }
}

impl Effect {
    pub(crate) const LOOSENS: Self = Self {
        loosens: true,
        tightens: false,
    };
    pub(crate) const NONE: Self = Self {
        loosens: false,
        tightens: false,
    };
    pub(crate) const TIGHTENS: Self = Self {
        loosens: false,
        tightens: true,
    };

    pub(crate) const fn of(loosens: bool, tightens: bool) -> Self {
        Self { loosens, tightens }
    }

    const fn and(self, other: Self) -> Self {
        Self {
            loosens: self.loosens || other.loosens,
            tightens: self.tightens || other.tightens,
        }
    }
}

type ById<'a> = BTreeMap<(Section, &'a str), &'a Entry>;

fn changed(was: &Entry, is: &Entry) -> Option<Change> {
    let mut keys = Vec::new();
    for (key, after) in &is.keys {
        let before = was.key(key);
        keys.extend(compare(key, before, Some(after)));
    }
    for (key, before) in &was.keys {
        if is.key(key).is_none() {
            keys.extend(compare(key, Some(before), None));
        }
    }
    if keys.is_empty() {
        return None;
    }
    let effect = keys
        .iter()
        .fold(Effect::NONE, |effect, key| effect.and(key.effect));
    Some(Change {
        after: Some(is.place),
        before: Some(was.place),
        effect,
        keys,
        kind: Kind::Changed,
        name: is.name.clone(),
        section: is.section,
    })
}

fn compare(key: &str, before: Option<&Value>, after: Option<&Value>) -> Option<Key> {
    let effect = Value::effect(before, after)?;
    Some(Key {
        after: after.and_then(Value::shown),
        before: before.and_then(Value::shown),
        effect,
        key: key.to_owned(),
    })
}

fn came(entry: &Entry, before: &Config, had: &ById<'_>) -> Option<Change> {
    // An operation of a service that is new itself came with it.
    if entry.owner().is_some_and(|it| !had.contains_key(&it)) {
        return None;
    }
    Some(Change {
        after: Some(entry.place),
        before: None,
        effect: entry.effect_of_coming(before),
        keys: entry.told(|value| (None, Some(value))),
        kind: Kind::Added,
        name: entry.name.clone(),
        section: entry.section,
    })
}

fn went(entry: &Entry, after: &Config, has: &ById<'_>) -> Option<Change> {
    if entry.owner().is_some_and(|it| !has.contains_key(&it)) {
        return None;
    }
    Some(Change {
        after: None,
        before: Some(entry.place),
        effect: entry.effect_of_going(after),
        keys: entry.told(|value| (Some(value), None)),
        kind: Kind::Removed,
        name: entry.name.clone(),
        section: entry.section,
    })
}
