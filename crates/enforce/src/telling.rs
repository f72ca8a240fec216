//! What an enforcement point tells of itself.

use crate::observe::Decided;
use crate::observe::Observer;
use crate::observe::SAMPLE;
use crate::observe::Watch;
use crate::point::EnforcementPoint;
use countersign_core::hop::Freshness;
use countersign_core::pillars::Denial;
use countersign_core::pillars::audit::Admission;
use countersign_core::record::Record;
use countersign_core::record::Resource;
use countersign_core::snapshot::Revocation;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Name;
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How much of a budget is spent.
#[derive(Clone, Debug, PartialEq)]
pub struct Spending {
    /// The budget.
    pub budget: Name,
    /// What was spent and set aside of it in the window of now, where 1 is all; of one that is kept
    /// per subject, by whoever spent most.
    pub ratio: f64,
}

impl EnforcementPoint {
    /// Has somebody hear what is done here; the first one asked stays.
    pub fn observe(&self, observer: Arc<dyn Observer>) {
        // A second observer would count everything twice.
        let _ = self.inner.observer.set(observer);
    }

    /// How old what is known is, and how wrong the clock.
    #[must_use]
    pub fn freshness(&self) -> Freshness {
        self.known(self.inner.clock.now()).1
    }

    /// Why nothing can be recorded, as far as is known; none if records are taken and count.
    #[must_use]
    pub fn unsound(&self) -> Option<String> {
        if let Some(why) = self.inner.unsound.load_full() {
            return Some(String::clone(&why));
        }
        let failing = self.inner.failing.load(Ordering::Relaxed);
        failing.then(|| "the ledger took no record".to_owned())
    }

    /// Where the ledger took no record the last time, asks it again, by recording that it does.
    /// Without this, who asks [`Self::unsound`] before sending us anybody would never send anybody
    /// again.
    pub async fn try_ledger(&self) {
        if !self.inner.failing.load(Ordering::Relaxed) {
            return;
        }
        let resource = Resource {
            id: Cow::Borrowed("ledger"),
            service: Cow::Borrowed("audit"),
        };
        let actor = "countersign";
        let record = Record::event("audit.resumed", self.inner.clock.now(), actor, resource);
        if self.record_event(&record).await.is_ok() {
            self.inner.took_a_record();
        }
    }

    /// How much of each budget of the policy in force is spent.
    #[must_use]
    pub fn spending(&self) -> Vec<Spending> {
        let (snapshot, now) = (self.snapshot(), self.inner.clock.now());
        let budgets = snapshot.config().budgets.iter();
        let spending = budgets.map(|(name, budget)| {
            let spent = self.inner.budgets.most(name.as_str(), budget.window, now);
            Spending {
                budget: name.clone(),
                ratio: ratio(spent, budget.limit_microusd),
            }
        });
        spending.collect()
    }

    /// A watch for one of [`SAMPLE`] decisions, if somebody wants to know.
    pub(crate) fn watch(&self) -> Option<Watch> {
        self.inner.observer.get()?;
        let decided = self.inner.admitted.load(Ordering::Relaxed)
            + self.inner.refused.load(Ordering::Relaxed);
        decided.is_multiple_of(SAMPLE).then(Watch::start)
    }

    pub(crate) fn tell_admitted(
        &self,
        admission: &Admission,
        appended: Duration,
        watch: Option<Watch>,
    ) {
        let decided = Decided {
            hop: admission.hop(),
            snapshot: admission.snapshot(),
            code: None,
            recorded: true,
            appended: Some(appended),
            pillars: None,
        };
        self.tell(&decided, watch);
    }

    pub(crate) fn tell_refused(
        &self,
        denial: &Denial,
        appended: Option<Duration>,
        watch: Option<Watch>,
    ) {
        let decided = Decided {
            hop: denial.hop(),
            snapshot: &denial.state().snapshot,
            code: Some(denial.code()),
            recorded: appended.is_some(),
            appended,
            pillars: None,
        };
        self.tell(&decided, watch);
    }

    /// Whatever it was refused for, it is told that the ledger failed.
    pub(crate) fn tell_unrecorded(&self, denial: &Denial) {
        let decided = Decided {
            hop: denial.hop(),
            snapshot: &denial.state().snapshot,
            code: Some(Code::LEDGER_REFUSED),
            recorded: false,
            appended: None,
            pillars: None,
        };
        self.tell(&decided, None);
    }

    /// Lines that were known at epoch `before` are told by whoever was first, and lines from before
    /// this process began say how long it was away, not how long they took.
    pub(crate) fn tell_revoked(&self, lines: &[Revocation], before: u64) {
        let Some(observer) = self.inner.observer.get() else {
            return;
        };
        let now = self.inner.clock.now();
        for line in lines
            .iter()
            .filter(|line| line.epoch > before && line.at >= self.inner.since)
        {
            observer.revoked(now.since(line.at));
        }
    }

    fn tell(&self, decided: &Decided<'_>, watch: Option<Watch>) {
        if let Some(observer) = self.inner.observer.get() {
            let pillars = watch.map(|watch| watch.read());
            observer.decided(&Decided {
                pillars: pillars.as_deref(),
                ..*decided
            });
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share for a graph")]
fn ratio(spent: u64, limit: u64) -> f64 {
    if limit == 0 {
        return 0.0;
    }
    spent as f64 / limit as f64
}
