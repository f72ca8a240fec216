use countersign_core::config::Window;
use countersign_core::pillars::least_privilege::Demand;
use countersign_core::pillars::least_privilege::Outcome;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::Timestamp;
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::sync::Arc;

/// What has been spent and set aside, by budget, key and window.
///
/// A demand is granted whole or not at all, under one lock, so that concurrent calls can't
/// overdraw together. What is never settled stays spent.
#[derive(Debug, Default)]
pub(crate) struct Budgets {
    spent: Mutex<HashMap<Key, Spent>>,
}

/// Budget, whose spending, and kind of window: windows of two kinds can't be compared.
type Key = (Name, String, u8);

/// The largest integer of canonical JSON (RFC 8785 section 3.2.2.3): nothing larger is recorded.
pub(crate) const EXACT: u64 = (1 << 53) - 1;

#[derive(Debug, Default)]
struct Spent {
    window: i64,
    micros: u64,
}

impl Budgets {
    /// Sets aside what is demanded; all or nothing over the list, in which demands on the same
    /// budget add up, and nothing if the rest of what is asked for was `refused`.
    fn reserve(&self, demands: &[Demand], now: Timestamp, refused: bool) -> Vec<Outcome> {
        let mut table = self.spent.lock();
        let mut before: HashMap<Key, u64> = HashMap::new();
        let outcomes: Vec<_> = demands
            .iter()
            .map(|demand| {
                let earlier = before.entry(key(demand)).or_default();
                let spent = current(&mut table, demand, now).micros;
                let spent = spent.saturating_add(*earlier).min(EXACT);
                *earlier = earlier.saturating_add(demand.amount);
                let granted = spent.saturating_add(demand.amount) <= demand.limit;
                Outcome {
                    demand: demand.clone(),
                    granted,
                    spent,
                }
            })
            .collect();
        if !refused && outcomes.iter().all(|outcome| outcome.granted) {
            for demand in demands {
                let spent = current(&mut table, demand, now);
                spent.micros = spent.micros.saturating_add(demand.amount);
            }
        }
        outcomes
    }

    /// Gives back what a call did not use.
    pub(crate) fn settle(&self, demand: &Demand, reserved_at: Timestamp, cost: u64) {
        let mut table = self.spent.lock();
        let window = index(demand.window, reserved_at);
        if let Some(spent) = table
            .get_mut(&key(demand))
            .filter(|spent| spent.window == window)
        {
            spent.micros = spent
                .micros
                .saturating_sub(demand.amount)
                .saturating_add(cost);
        }
    }

    /// The most that was spent of a budget in the window of now, by whoever spent most of it.
    pub(crate) fn most(&self, budget: &str, window: Window, now: Timestamp) -> u64 {
        let (kind, now) = (kind(window), index(window, now));
        let table = self.spent.lock();
        let of_it = table.iter().filter(|((name, _, of), spent)| {
            name.as_str() == budget && *of == kind && spent.window >= now
        });
        of_it.map(|(_, spent)| spent.micros).max().unwrap_or(0)
    }

    /// Takes in what an earlier process spent, from its records.
    pub(crate) fn restore(
        &self,
        demand: &Demand,
        reserved_at: Timestamp,
        cost: u64,
        now: Timestamp,
    ) {
        if index(demand.window, reserved_at) != index(demand.window, now) {
            return;
        }
        let mut table = self.spent.lock();
        let spent = current(&mut table, demand, now);
        spent.micros = spent.micros.saturating_add(cost);
    }
}

/// What was set aside and not yet admitted: given back unless it is [kept](Self::keep), however the
/// call ends.
#[derive(Debug)]
pub(crate) struct Reserved {
    budgets: Arc<Budgets>,
    demands: Vec<Demand>,
    at: Timestamp,
}

impl Reserved {
    /// Sets aside what is demanded, if all of it can be and nothing else was `refused`.
    pub(crate) fn new(
        budgets: &Arc<Budgets>,
        demands: &[Demand],
        at: Timestamp,
        refused: bool,
    ) -> (Self, Vec<Outcome>) {
        let outcomes = budgets.reserve(demands, at, refused);
        let granted = !refused && outcomes.iter().all(|outcome| outcome.granted);
        let reserved = Self {
            budgets: budgets.clone(),
            demands: if granted {
                demands.to_vec()
            } else {
                Vec::new()
            },
            at,
        };
        (reserved, outcomes)
    }

    /// The call is admitted: from here on it is the admission's to settle.
    pub(crate) fn keep(mut self) {
        self.demands.clear();
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        for demand in &self.demands {
            self.budgets.settle(demand, self.at, 0);
        }
    }
}

fn key(demand: &Demand) -> Key {
    (
        demand.budget.clone(),
        demand.key.clone(),
        kind(demand.window),
    )
}

const fn kind(window: Window) -> u8 {
    match window {
        Window::Hour => 0,
        Window::Day => 1,
        Window::Week => 2,
        Window::Month => 3,
    }
}

/// The window a moment lies in. It turns only forwards: a clock that goes back opens no window
/// again.
fn current<'a>(
    table: &'a mut HashMap<Key, Spent>,
    demand: &Demand,
    now: Timestamp,
) -> &'a mut Spent {
    let spent = table.entry(key(demand)).or_default();
    let window = index(demand.window, now);
    if spent.window < window {
        *spent = Spent { window, micros: 0 };
    }
    spent
}

/// Which window of its kind a moment lies in, by the calendar in UTC.
fn index(window: Window, at: Timestamp) -> i64 {
    let day = at.as_secs().div_euclid(86_400);
    match window {
        Window::Hour => at.as_secs().div_euclid(3600),
        Window::Day => day,
        // 1970-01-05 was a Monday.
        Window::Week => (day - 4).div_euclid(7),
        Window::Month => month(at),
    }
}

fn month(at: Timestamp) -> i64 {
    let text = at.to_string();
    let mut parts = text.split('-').map(|part| part.parse::<i64>().unwrap_or(0));
    let (year, month) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    year * 12 + month
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(amount: u64, limit: u64) -> Demand {
        Demand {
            amount,
            budget: Name::new("llm").unwrap(),
            key: "dev:alice".into(),
            limit,
            window: Window::Day,
        }
    }

    #[test]
    fn never_overdrawn_and_given_back() {
        let budgets = Budgets::default();
        let now = Timestamp::from_secs(1_000_000);
        let granted = |amount| {
            budgets
                .reserve(&[demand(amount, 100)], now, false)
                .iter()
                .all(|it| it.granted)
        };
        assert!(granted(60));
        assert!(!granted(60));
        assert!(granted(40));
        budgets.settle(&demand(60, 100), now, 10);
        assert!(granted(50));
        assert!(!granted(1));
    }

    #[test]
    fn a_list_is_all_or_nothing() {
        let budgets = Budgets::default();
        let now = Timestamp::from_secs(1_000_000);
        let mut other = demand(200, 100);
        other.budget = Name::new("other").unwrap();
        assert!(
            !budgets
                .reserve(&[demand(60, 100), other], now, false)
                .iter()
                .all(|it| it.granted)
        );
        assert_eq!(
            budgets
                .reserve(&[demand(100, 100)], now, false)
                .first()
                .unwrap()
                .spent,
            0
        );
    }

    #[test]
    fn what_is_refused_for_something_else_sets_nothing_aside() {
        let budgets = Arc::new(Budgets::default());
        let now = Timestamp::from_secs(1_000_000);
        for refused in [true, true, false, false] {
            let (reserved, outcomes) = Reserved::new(&budgets, &[demand(60, 100)], now, refused);
            let spent = outcomes.first().unwrap().spent;
            assert_eq!(spent, 0, "{refused}");
            drop(reserved);
        }
    }

    #[test]
    fn a_new_window_starts_at_nothing() {
        let budgets = Budgets::default();
        let now = Timestamp::from_secs(86_400 * 10);
        assert!(
            budgets
                .reserve(&[demand(100, 100)], now, false)
                .iter()
                .all(|it| it.granted)
        );
        let later = Timestamp::from_secs(86_400 * 11);
        assert!(
            budgets
                .reserve(&[demand(100, 100)], later, false)
                .iter()
                .all(|it| it.granted)
        );
        // A late settlement of yesterday's call does not touch today.
        budgets.settle(&demand(100, 100), now, 0);
        assert!(
            !budgets
                .reserve(&[demand(1, 100)], later, false)
                .iter()
                .all(|it| it.granted)
        );
    }

    #[test]
    fn demands_on_one_budget_add_up() {
        let budgets = Budgets::default();
        let now = Timestamp::from_secs(1_000_000);
        let outcomes = budgets.reserve(&[demand(60, 100), demand(60, 100)], now, false);
        let granted: Vec<_> = outcomes.iter().map(|it| (it.granted, it.spent)).collect();
        assert_eq!(granted, [(true, 0), (false, 60)]);
        let outcomes = budgets.reserve(&[demand(60, 100), demand(40, 100)], now, false);
        assert!(outcomes.iter().all(|it| it.granted));
        let outcomes = budgets.reserve(&[demand(1, 100)], now, false);
        assert!(!outcomes.first().unwrap().granted);
    }

    #[test]
    fn a_clock_that_goes_back_opens_no_window_again() {
        let budgets = Budgets::default();
        let (yesterday, today) = (
            Timestamp::from_secs(86_400 * 10),
            Timestamp::from_secs(86_400 * 11),
        );
        let granted = |at| {
            let outcomes = budgets.reserve(&[demand(100, 100)], at, false);
            outcomes.first().unwrap().granted
        };
        assert!(granted(today));
        assert!(!granted(yesterday));
        assert!(!granted(today));
    }

    #[test]
    fn another_kind_of_window_is_another_account() {
        let budgets = Budgets::default();
        let now = Timestamp::from_secs(86_400 * 10);
        let mut hourly = demand(100, 100);
        hourly.window = Window::Hour;
        let spent = |demand: Demand| {
            budgets
                .reserve(&[demand], now, false)
                .first()
                .unwrap()
                .granted
        };
        assert!(spent(hourly.clone()) && !spent(hourly));
        assert!(spent(demand(100, 100)) && !spent(demand(1, 100)));
    }

    #[test]
    fn windows_follow_the_calendar() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let monday = at("2026-11-23T00:00:00.000000Z");
        let sunday = at("2026-11-22T23:59:59.999999Z");
        assert_eq!(index(Window::Week, monday), index(Window::Week, sunday) + 1);
        let first = at("2026-12-01T00:00:00.000000Z");
        let last = at("2026-11-30T23:59:59.999999Z");
        assert_eq!(index(Window::Month, first), index(Window::Month, last) + 1);
    }
}
