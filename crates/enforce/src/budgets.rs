use countersign_core::config::Window;
use countersign_core::pillars::least_privilege::Demand;
use countersign_core::pillars::least_privilege::Outcome;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::Timestamp;
use hashbrown::HashMap;
use parking_lot::Mutex;

/// What has been spent and set aside, by budget, key and window.
///
/// A demand is granted whole or not at all, under one lock, so that concurrent calls can't
/// overdraw together. What is never settled stays spent.
#[derive(Debug, Default)]
pub(crate) struct Budgets {
    spent: Mutex<HashMap<(Name, String), Spent>>,
}

#[derive(Debug, Default)]
struct Spent {
    window: i64,
    micros: u64,
}

impl Budgets {
    /// Sets aside what is demanded; all or nothing over the list.
    pub(crate) fn reserve(&self, demands: &[Demand], now: Timestamp) -> Vec<Outcome> {
        let mut table = self.spent.lock();
        let outcomes: Vec<_> = demands
            .iter()
            .map(|demand| {
                let spent = current(&mut table, demand, now).micros;
                let granted = spent.saturating_add(demand.amount) <= demand.limit;
                Outcome {
                    demand: demand.clone(),
                    granted,
                    spent,
                }
            })
            .collect();
        if outcomes.iter().all(|outcome| outcome.granted) {
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
        let key = (demand.budget.clone(), demand.key.clone());
        if let Some(spent) = table.get_mut(&key).filter(|spent| spent.window == window) {
            spent.micros = spent
                .micros
                .saturating_sub(demand.amount)
                .saturating_add(cost);
        }
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

fn current<'a>(
    table: &'a mut HashMap<(Name, String), Spent>,
    demand: &Demand,
    now: Timestamp,
) -> &'a mut Spent {
    let spent = table
        .entry((demand.budget.clone(), demand.key.clone()))
        .or_default();
    let window = index(demand.window, now);
    if spent.window != window {
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
                .reserve(&[demand(amount, 100)], now)
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
                .reserve(&[demand(60, 100), other], now)
                .iter()
                .all(|it| it.granted)
        );
        assert_eq!(
            budgets
                .reserve(&[demand(100, 100)], now)
                .first()
                .unwrap()
                .spent,
            0
        );
    }

    #[test]
    fn a_new_window_starts_at_nothing() {
        let budgets = Budgets::default();
        let now = Timestamp::from_secs(86_400 * 10);
        assert!(
            budgets
                .reserve(&[demand(100, 100)], now)
                .iter()
                .all(|it| it.granted)
        );
        let later = Timestamp::from_secs(86_400 * 11);
        assert!(
            budgets
                .reserve(&[demand(100, 100)], later)
                .iter()
                .all(|it| it.granted)
        );
        // A late settlement of yesterday's call does not touch today.
        budgets.settle(&demand(100, 100), now, 0);
        assert!(
            !budgets
                .reserve(&[demand(1, 100)], later)
                .iter()
                .all(|it| it.granted)
        );
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
