//! Budgets, tiers, policies, the ledger, and who agrees to a loosening.

use super::Resolver;
use crate::config::Audit;
use crate::config::Budget;
use crate::config::Change;
use crate::config::Policy;
use crate::config::Sink;
use crate::config::Tier;
use crate::config::parse;
use crate::vocabulary::Name;
use indexmap::IndexMap;

impl Resolver<'_> {
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

    pub(super) fn change(&self) -> Change {
        let Some(approve) = self.document.change.spanned() else {
            return Change::default();
        };
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
