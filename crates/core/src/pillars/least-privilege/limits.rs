use super::super::identity::Subject;
use super::Refusal;
use super::rates;
use crate::config::Budget;
use crate::config::BudgetScope;
use crate::config::OperationRule;
use crate::hop::Hop;
use crate::record::Charge;
use crate::record::Charged;
use crate::record::Demand;
use crate::record::Outcome;
use crate::vocabulary::Code;
use crate::vocabulary::Name;

/// What came of all demands of a hop; part of its record, so that replay is exact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reservation {
    outcomes: Vec<Outcome>,
    charged: Vec<Charged>,
}

/// The largest integer that survives every JSON reader (RFC 8785 section 3.2.2.3).
const EXACT: u64 = (1 << 53) - 1;

/// Tokens a model may answer with when the request does not bound it.
const OUTPUT_BOUND: u64 = 16_384;

impl Reservation {
    /// Gathers what came of the budgets, in the order of the demands.
    #[must_use]
    pub const fn new(outcomes: Vec<Outcome>) -> Self {
        Self {
            outcomes,
            charged: Vec::new(),
        }
    }

    /// Adds what came of the rate limits, in the order of the charges.
    #[must_use]
    pub fn counted(self, charged: Vec<Charged>) -> Self {
        Self { charged, ..self }
    }

    /// What came of the budgets.
    #[must_use]
    pub fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }

    /// What came of the rate limits.
    #[must_use]
    pub fn charged(&self) -> &[Charged] {
        &self.charged
    }

    /// Whether every demand and every charge was answered, and granted. A budget that is spent is
    /// named first: who waits for a rate alone would come in vain.
    pub(super) fn answer(&self, demands: &[Demand], charges: &[Charge]) -> Result<(), Refusal> {
        budgets(&self.outcomes, demands).map_err(|reason| (Code::BUDGET_SPENT, reason))?;
        rates::answer(&self.charged, charges).map_err(|reason| (Code::RATE_EXCEEDED, reason))
    }
}

fn budgets(outcomes: &[Outcome], demands: &[Demand]) -> Result<(), String> {
    let answered = outcomes.iter().map(|it| &it.demand).eq(demands);
    if !answered {
        return Err("the reservations do not answer the demands".to_owned());
    }
    match outcomes.iter().find(|outcome| !outcome.granted) {
        None => Ok(()),
        Some(refused) => Err(format!(
            "budget `{}` has {} of {} micro-dollars left, the call may cost {}",
            refused.demand.budget,
            refused.demand.limit.saturating_sub(refused.spent),
            refused.demand.limit,
            refused.demand.amount
        )),
    }
}

pub(super) fn models(hop: &Hop, rule: &OperationRule) -> Result<(), Refusal> {
    if rule.models.is_empty() {
        return Ok(());
    }
    let Some(model) = &hop.facts.model else {
        return Err((Code::BODY_UNREADABLE, "the body names no model".to_owned()));
    };
    if rule.models.iter().any(|pattern| wildcard(pattern, model)) {
        return Ok(());
    }
    Err((
        Code::MODEL_REFUSED,
        format!("model `{model}` is not among {}", rule.models.join(" ")),
    ))
}

pub(super) fn hours(hop: &Hop, rule: &OperationRule) -> Result<(), Refusal> {
    let Some(hours) = rule.hours else {
        return Ok(());
    };
    let (day, minute) = hop.at.weekday_and_minute();
    let overnight = hours.to <= hours.from;
    // Past midnight the window belongs to the day it began on.
    let (day, within) = if overnight && minute < hours.to {
        ((day + 6) % 7, true)
    } else {
        (
            day,
            minute >= hours.from && (overnight || minute < hours.to),
        )
    };
    let days = if hours.first_day <= hours.last_day {
        (hours.first_day..=hours.last_day).contains(&day)
    } else {
        day >= hours.first_day || day <= hours.last_day
    };
    if within && days {
        Ok(())
    } else {
        Err((
            Code::HOURS,
            "outside the hours of this operation (UTC)".to_owned(),
        ))
    }
}

/// The last word: what no part of this build can judge is refused, when all else agreed.
pub(super) fn judged(rule: &OperationRule) -> Result<(), Refusal> {
    match rule.undecidable() {
        None => Ok(()),
        Some(what) => Err((Code::UNDECIDABLE, format!("{what} is not in this build"))),
    }
}

pub(super) fn demand(
    hop: &Hop,
    subject: &Subject,
    name: &Name,
    budget: &Budget,
) -> Result<Demand, Refusal> {
    let (Some(model), Some(bytes)) = (&hop.facts.model, hop.facts.body_bytes) else {
        return Err((Code::BODY_UNREADABLE, "the body names no model".to_owned()));
    };
    // A token stands for at least one byte, so the bytes bound the tokens.
    let output = hop.facts.max_output_tokens.unwrap_or(OUTPUT_BOUND);
    let Some(amount) = cost(budget, model, bytes, output) else {
        return Err((
            Code::MODEL_REFUSED,
            format!("budget `{name}` has no price for model `{model}`"),
        ));
    };
    Ok(Demand {
        amount,
        budget: name.clone(),
        key: match budget.per {
            BudgetScope::All => String::new(),
            BudgetScope::Subject | BudgetScope::Team => subject.to_string(),
        },
        limit: budget.limit_microusd,
        window: budget.window,
    })
}

/// The entry of a budget's prices that a model falls under, as it is written there.
#[must_use]
pub fn priced_as<'b>(budget: &'b Budget, model: &str) -> Option<&'b str> {
    let mut prices = budget.prices.keys();
    prices.find(|it| wildcard(it, model)).map(String::as_str)
}

/// What tokens of a model cost by a budget's prices, in micro-dollars, rounded up and at most
/// 2^53-1; `None` for a model without a price.
#[must_use]
pub fn cost(budget: &Budget, model: &str, input: u64, output: u64) -> Option<u64> {
    let mut prices = budget.prices.iter();
    let (_, price) = prices.find(|(pattern, _)| wildcard(pattern, model))?;
    let micros =
        u128::from(input) * u128::from(price.input) + u128::from(output) * u128::from(price.output);
    let micros = u64::try_from(micros.div_ceil(1_000_000)).unwrap_or(EXACT);
    Some(micros.min(EXACT))
}

/// `*` stands for any run of characters.
pub(crate) fn wildcard(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let Some(last) = pattern.rsplit('*').next().filter(|_| pattern.contains('*')) else {
        return rest.is_empty();
    };
    let middle: Vec<_> = parts.collect();
    for part in middle.iter().take(middle.len().saturating_sub(1)) {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards() {
        for (pattern, text) in [
            ("gpt-*", "gpt-4o"),
            ("*", ""),
            ("a*b*c", "a-b-c"),
            ("gpt-4o", "gpt-4o"),
            ("*mini", "gpt-mini"),
            ("a*b", "ab"),
        ] {
            assert!(wildcard(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("gpt-*", "o1"),
            ("gpt-4o", "gpt-4o-mini"),
            ("a*b*c", "acb"),
            ("a*a", "a"),
            ("", "x"),
        ] {
            assert!(!wildcard(pattern, text), "{pattern} {text}");
        }
    }
}
