//! A difference as people read it.

use super::Change;
use super::Difference;
use super::Key;
use super::Kind;
use super::Section;
use std::fmt;

impl Section {
    /// What one of its entries is called.
    #[must_use]
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Top => "setting",
            Self::Listener => "listener",
            Self::Login => "login",
            Self::Identity => "identity",
            Self::Role => "role",
            Self::Tier => "tier",
            Self::Service => "service",
            Self::Operation => "operation",
            Self::Edge => "edge",
            Self::Secret => "secret",
            Self::Budget => "budget",
            Self::Policy => "policy",
            Self::Audit => "audit setting",
            Self::Sink => "sink",
            Self::Test => "test",
        }
    }

    const fn plural(self) -> &'static str {
        match self {
            Self::Identity => "identities",
            Self::Policy => "policies",
            Self::Top => "settings",
            Self::Listener => "listeners",
            Self::Login => "logins",
            Self::Role => "roles",
            Self::Tier => "tiers",
            Self::Service => "services",
            Self::Operation => "operations",
            Self::Edge => "edges",
            Self::Secret => "secrets",
            Self::Budget => "budgets",
            Self::Audit => "audit settings",
            Self::Sink => "sinks",
            Self::Test => "tests",
        }
    }
}

impl Kind {
    /// `+`, `~` or `-`.
    #[must_use]
    pub const fn sign(self) -> char {
        match self {
            Self::Added => '+',
            Self::Changed => '~',
            Self::Removed => '-',
        }
    }
}

impl Difference {
    /// `+ 1 edge  ~ 1 tier  - 0`.
    #[must_use]
    pub fn summary(&self) -> String {
        let of = |kind: Kind| {
            let counts = self.counts(kind).into_iter().map(|(section, count)| {
                let noun = if count == 1 {
                    section.noun()
                } else {
                    section.plural()
                };
                format!("{count} {noun}")
            });
            let counts: Vec<_> = counts.collect();
            let told = if counts.is_empty() {
                "0".to_owned()
            } else {
                counts.join(", ")
            };
            format!("{} {told}", kind.sign())
        };
        [Kind::Added, Kind::Changed, Kind::Removed]
            .map(of)
            .join("  ")
    }
}

impl Key {
    /// What it allows more, or else less, than before.
    pub(super) fn what(&self, more: bool) -> String {
        let (key, effect) = (&self.key, self.effect);
        match (&self.before, &self.after) {
            (None, Some(after)) => format!("`{key}` is new: {after}"),
            (Some(before), None) => format!("`{key}` is gone: {before}"),
            (Some(before), Some(after)) if before == after => format!("`{key}` has other contents"),
            (before, after) => {
                let (before, after) = (
                    before.as_deref().unwrap_or_default(),
                    after.as_deref().unwrap_or_default(),
                );
                let both = effect.loosens && effect.tightens;
                let aside = match (both, more) {
                    (false, _) => "",
                    (true, true) => " (more in part)",
                    (true, false) => " (less in part)",
                };
                format!("`{key}` {before} -> {after}{aside}")
            }
        }
    }
}

impl Change {
    /// What an entry that came or went says.
    pub(super) fn whole(&self) -> String {
        let said = self.keys.iter().filter_map(|key| {
            let text = key.after.as_ref().or(key.before.as_ref())?;
            Some(format!("{} {text}", key.key))
        });
        let said: Vec<_> = said.take(4).collect();
        let verb = match self.kind {
            Kind::Added => "added",
            Kind::Changed => "changed",
            Kind::Removed => "removed",
        };
        if said.is_empty() {
            verb.to_owned()
        } else {
            format!("{verb} ({})", said.join("; "))
        }
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.noun())
    }
}
