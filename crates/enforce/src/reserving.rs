//! What an admission needs beside the decision: room in budgets and rate limits, all or nothing.

use crate::budgets::Reserved;
use crate::inner::Inner;
use countersign_core::pillars::least_privilege::Charge;
use countersign_core::pillars::least_privilege::Charged;
use countersign_core::pillars::least_privilege::Pending;
use countersign_core::pillars::least_privilege::Reservation;
use countersign_core::vocabulary::Timestamp;
use std::time::Duration;

/// What was set aside and counted for a hop that is not admitted yet; taken back unless it is kept,
/// however the hop ends.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    pub(crate) budgets: Reserved,
    pub(crate) rates: Counted<'a>,
}

/// A call as it was counted against rate limits.
#[derive(Debug)]
pub(crate) struct Counted<'a> {
    inner: &'a Inner,
    charges: Vec<Charge>,
    at: Duration,
}

impl<'a> Held<'a> {
    /// Takes what `pending` demands, if all of it can be had.
    pub(crate) fn take(inner: &'a Inner, pending: &Pending, now: Timestamp) -> (Self, Reservation) {
        let (demands, charges) = (pending.demands(), pending.charges());
        let at = inner.clock.boot();
        let set_aside = |room: bool| Reserved::new(&inner.budgets, demands, now, !room);
        if charges.is_empty() {
            let (budgets, outcomes) = set_aside(true);
            let rates = Counted::nothing(inner);
            return (Self { budgets, rates }, Reservation::new(outcomes));
        }
        let (charged, (budgets, outcomes)) = inner.rates.charge(charges, at, |room| {
            let (budgets, outcomes) = set_aside(room);
            let granted = outcomes.iter().all(|it| it.granted);
            (granted, (budgets, outcomes))
        });
        let counted =
            charged.iter().all(Charged::is_granted) && outcomes.iter().all(|it| it.granted);
        let rates = Counted {
            charges: if counted {
                charges.to_vec()
            } else {
                Vec::new()
            },
            at,
            ..Counted::nothing(inner)
        };
        let reservation = Reservation::new(outcomes).counted(charged);
        (Self { budgets, rates }, reservation)
    }
}

impl<'a> Counted<'a> {
    const fn nothing(inner: &'a Inner) -> Self {
        Self {
            inner,
            charges: Vec::new(),
            at: Duration::ZERO,
        }
    }

    /// The call is admitted, and counts whatever becomes of it.
    pub(crate) fn keep(mut self) {
        self.charges.clear();
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if !self.charges.is_empty() {
            let now = self.inner.clock.boot();
            self.inner.rates.take_back(&self.charges, self.at, now);
        }
    }
}
