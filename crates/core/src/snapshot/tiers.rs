use super::Holder;
use crate::config::Config;
use crate::config::Member;
use crate::config::Rate;
use crate::vocabulary::Name;
use hashbrown::HashMap;
use hashbrown::HashSet;
use std::cmp::Ordering;

/// Who may call how often.
///
/// A member of a role has its tier and those of the roles it includes. Of several tiers the one
/// with the highest average counts, then the one with the largest burst, then the one that stands
/// first in the configuration.
#[derive(Clone, Debug, Default)]
pub struct Tiers {
    /// Best first; a place in here is a rank.
    ranked: Vec<(Name, Rate)>,
    /// The best rank of each member.
    identities: HashMap<Name, usize>,
    /// By `<login>/<name>`, as tokens carry them.
    groups: HashMap<String, usize>,
    /// By `<login>:<sub>`, as tokens carry them.
    users: HashMap<String, usize>,
}

impl Tiers {
    /// Ranks the tiers of a configuration, and gives each member of a role the best of theirs.
    #[must_use]
    pub fn compile(config: &Config) -> Self {
        let mut tiers = Self::default();
        if config.tiers.is_empty() {
            return tiers;
        }
        let all = config.tiers.iter();
        tiers.ranked = all.map(|(name, tier)| (name.clone(), tier.rate)).collect();
        // Stable: of equals the first in the configuration stays first.
        tiers
            .ranked
            .sort_by(|(_, one), (_, other)| compared(*other, *one));
        for (name, role) in &config.roles {
            let Some(rank) = tiers.rank_of_role(config, name) else {
                continue;
            };
            for member in &role.members {
                let best = match member {
                    Member::Identity(name) => tiers.identities.entry(name.clone()).or_insert(rank),
                    Member::Group { login, name } => tiers
                        .groups
                        .entry(format!("{login}/{name}"))
                        .or_insert(rank),
                    Member::User { login, sub } => {
                        tiers.users.entry(format!("{login}:{sub}")).or_insert(rank)
                    }
                };
                *best = rank.min(*best);
            }
        }
        tiers
    }

    /// The tier that counts for somebody, if any does.
    pub(crate) fn of(&self, holder: Holder<'_>) -> Option<(&Name, Rate)> {
        let rank = match holder {
            Holder::Identity(name) => self.identities.get(name),
            Holder::Person { user, groups } => {
                let groups = groups.iter().map(|group| self.groups.get(group.as_str()));
                std::iter::once(self.users.get(user))
                    .chain(groups)
                    .flatten()
                    .min()
            }
        };
        self.ranked(*rank?)
    }

    /// The tier that a member has by what it is alone: of a person, without their groups.
    pub(crate) fn of_member(&self, member: &Member) -> Option<(&Name, Rate)> {
        let rank = match member {
            Member::Identity(name) => self.identities.get(name),
            Member::Group { login, name } => self.groups.get(&format!("{login}/{name}")),
            Member::User { login, sub } => self.users.get(&format!("{login}:{sub}")),
        };
        self.ranked(*rank?)
    }

    fn ranked(&self, rank: usize) -> Option<(&Name, Rate)> {
        let (name, rate) = self.ranked.get(rank)?;
        Some((name, *rate))
    }

    /// The best rank of a role and those it includes.
    fn rank_of_role(&self, config: &Config, role: &Name) -> Option<usize> {
        let mut seen: HashSet<&Name> = [role].into();
        let mut ahead = vec![role];
        let mut best = None;
        while let Some(role) = ahead.pop().and_then(|name| config.roles.get(name)) {
            let named = |tier: &Name| self.ranked.iter().position(|(name, _)| name == tier);
            let rank = role.tier.as_ref().and_then(named);
            best = best.into_iter().chain(rank).min();
            ahead.extend(role.includes.iter().filter(|name| seen.insert(*name)));
        }
        best
    }
}

/// By average, then by burst.
fn compared(one: Rate, other: Rate) -> Ordering {
    let average = |rate: Rate, per: Rate| u128::from(rate.count) * per.per.as_nanos();
    average(one, other)
        .cmp(&average(other, one))
        .then(one.burst.cmp(&other.burst))
}
