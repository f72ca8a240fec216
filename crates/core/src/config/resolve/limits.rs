//! Budgets, tiers, policies, the ledger, and who agrees to a loosening.

use super::Resolver;
use crate::config::Audit;
use crate::config::Budget;
use crate::config::Change;
use crate::config::PeerKind;
use crate::config::Policy;
use crate::config::Sink;
use crate::config::Tier;
use crate::config::codes;
use crate::config::parse;
use crate::config::parse::Member;
use crate::config::parse::Spanned;
use crate::config::parse::listed;
use crate::vocabulary::Name;
use hashbrown::HashMap;
use hashbrown::HashSet;
use indexmap::IndexMap;

impl<'a> Resolver<'a> {
    pub(super) fn budgets(&self) -> IndexMap<Name, Budget> {
        let entry = |(name, budget): (&Name, &parse::Budget)| {
            let (limit_microusd, window) = *budget.limit.value()?;
            let place = self.place(budget.name);
            let budget = Budget {
                place,
                limit_microusd,
                window,
                per: budget.per,
                prices: budget.prices.clone(),
                warn: budget.warn.value().copied(),
            };
            Some((name.clone(), budget))
        };
        self.document.budgets.iter().filter_map(entry).collect()
    }

    pub(super) fn tiers(&self) -> IndexMap<Name, Tier> {
        let entry = |(name, tier): (&Name, &parse::Tier)| {
            let place = self.place(tier.name);
            let rate = tier.rate;
            (name.clone(), Tier { place, rate })
        };
        self.document.tiers.iter().map(entry).collect()
    }

    pub(super) fn check_tier(&mut self, role: &parse::Role) {
        let tiers = &self.document.tiers;
        if let Some(tier) = role.tier.spanned()
            && !tiers.knows(&tier.value)
        {
            let names = tiers.keys().map(Name::as_str);
            let otherwise = format!("add `{}: 100/min` to `tiers`", tier.value);
            let help = self.meant(tier.value.as_str(), names, &otherwise);
            let message = format!("no tier is named `{}`", tier.value);
            self.error(codes::UNKNOWN_TIER, tier.span, message, help);
        }
    }

    /// Whether something bounds how often people may call. Development has one caller.
    pub(super) fn check_paces(&mut self) {
        let document = self.document;
        if !self.is_prod() || document.roles.trouble() {
            return;
        }
        let roles = || document.roles.iter();
        let limited = self.with_includers(roles().filter(|(_, it)| !it.tier.is_absent()));
        let unlimited = roles().filter(|(name, it)| has_people(it) && !limited.contains(name));
        let unlimited: Vec<_> = unlimited.map(|(name, _)| name.as_str()).collect();
        if unlimited.is_empty() && roles().any(|(_, it)| has_people(it)) {
            return;
        }
        for (name, listener) in document.listeners.iter() {
            let browser = listener.peer.value() == Some(&PeerKind::Browser);
            if !browser || !listener.rate.is_absent() {
                continue;
            }
            let who = match unlimited.first() {
                Some(_) => format!("people of {}", listed(unlimited.iter().copied())),
                None => "people".to_owned(),
            };
            let message = format!("by `{name}` {who} may call without a limit");
            let help = "give the roles a `tier`, or the listener a `rate`";
            self.warn(codes::NO_TIER, listener.name, message, help);
        }
    }

    /// Some roles, and those that include them: whoever has one of these has what they have.
    fn with_includers(
        &self,
        roles: impl Iterator<Item = (&'a Name, &'a parse::Role)>,
    ) -> HashSet<&'a Name> {
        let mut includers: HashMap<&Name, Vec<&'a Name>> = HashMap::new();
        for (name, role) in self.document.roles.iter() {
            for included in role.includes.items() {
                includers.entry(&included.value).or_default().push(name);
            }
        }
        let mut found: HashSet<&Name> = HashSet::new();
        let mut left: Vec<&Name> = roles.map(|(name, _)| name).collect();
        while let Some(name) = left.pop() {
            if found.insert(name) {
                left.extend(includers.get(name).into_iter().flatten());
            }
        }
        found
    }

    pub(super) fn change(&mut self) -> Change {
        self.check_approvers(
            &self.document.change,
            super::attached::Approvers::PeopleAndSystemUsers,
        );
        let Some(approve) = self.document.change.spanned() else {
            return Change::default();
        };
        self.check_twice(&approve.value);
        Change {
            place: self.place(approve.span),
            approve: approve.value.iter().map(|it| it.value.clone()).collect(),
        }
    }

    pub(super) fn policies(&self) -> IndexMap<Name, Policy> {
        let entry = |(name, policy): (&Name, &parse::Policy)| {
            let policy = Policy {
                place: self.place(policy.name),
                modules: policy.modules.items().to_vec(),
                data: policy.data.clone(),
            };
            (name.clone(), policy)
        };
        self.document.policies.iter().map(entry).collect()
    }

    pub(super) fn audit(&self) -> Audit {
        let default = Audit::default();
        let given = &self.document.audit;
        let sink = |(name, sink): &(Name, parse::Sink)| {
            let place = self.place(sink.name);
            let kind = sink.kind.value()?.clone();
            Some((name.clone(), Sink { place, kind }))
        };
        Audit {
            commit: given.commit.unwrap_or(default.commit),
            keep: given.keep.unwrap_or(default.keep),
            sinks: given.sinks.iter().filter_map(sink).collect(),
        }
    }
}

/// Whether people have the role by itself.
fn has_people(role: &parse::Role) -> bool {
    let person = |it: &Spanned<Member>| !matches!(it.value, Member::Identity(_));
    role.members.items().iter().any(person)
}
