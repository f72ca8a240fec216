//! Which rate limits a call counts against, and for whom.

use super::super::Case;
use super::super::identity::Caller;
use super::super::identity::Subject;
use crate::config::OperationRule;
use crate::record::Charge;
use crate::record::Charged;
use crate::record::Limit;
use crate::record::RateResult;
use crate::vocabulary::Name;
use std::sync::Arc;

/// The limits of a call that everything else agreed to: its listener's, its subject's tier, and
/// those of its operations.
pub(super) fn charges<'a>(
    case: &Case,
    caller: &Caller,
    subject: &Subject,
    rules: impl Iterator<Item = &'a OperationRule>,
) -> Vec<Charge> {
    let snapshot = &case.state.snapshot;
    let mut charges: Vec<_> = listener(case, caller, subject).into_iter().collect();
    let tier = subject.holder().and_then(|it| snapshot.tiers().of(it));
    if let Some((name, rate)) = tier {
        let limit = Limit::Tier(name.clone());
        charges.push(Charge::new(limit, rate, key(subject)));
    }
    let service = snapshot
        .config()
        .services
        .get_key_value(case.hop.service.as_str());
    for rule in rules {
        if let (Some(rate), Some((service, _))) = (rule.rate, service) {
            charges.push(Charge::new(operation(service, rule), rate, key(subject)));
        }
    }
    charges
}

/// The limit of the listener that a call came in by. Our own doors have none.
pub(super) fn listener(case: &Case, caller: &Caller, subject: &Subject) -> Option<Charge> {
    let listeners = &case.state.snapshot.config().listeners;
    let rate = listeners.get(&case.hop.door)?.rate?;
    let limit = Limit::Listener(case.hop.door.clone());
    Some(Charge::new(limit, rate, by(caller, subject)))
}

/// Whether every charge was answered, and granted.
pub(super) fn answer(charged: &[Charged], charges: &[Charge]) -> Result<(), String> {
    let answered = charged.iter().map(|it| &it.charge).eq(charges);
    if !answered {
        return Err("the calls that were counted are not those of this hop".to_owned());
    }
    match charged.iter().find(|it| !it.is_granted()) {
        None => Ok(()),
        Some(refused) => Err(why(refused)),
    }
}

fn why(refused: &Charged) -> String {
    let Charge {
        burst,
        count,
        key,
        limit,
        window,
    } = &refused.charge;
    match refused.result {
        RateResult::Crowded => format!("too many callers to count another, `{key}`, for {limit}"),
        _ => format!(
            "{limit} allows {count} calls in {window} s and {burst} at once, and `{key}` may call again in {} ms",
            refused.reset_ms
        ),
    }
}

/// Whose calls a listener counts together: a workload's, whichever of its certificates it shows; at
/// a browser door, which has no callers of its own, those of each person.
fn by(caller: &Caller, subject: &Subject) -> Arc<str> {
    match caller {
        Caller::Door(_) => key(subject),
        _ => caller.to_string().into(),
    }
}

/// Workloads, people and our own processes are spelled differently, so none stands for another.
fn key(subject: &Subject) -> Arc<str> {
    subject.to_string().into()
}

/// Known by its pattern, which a service has once: another order of the rules is no other limit.
fn operation(service: &Name, rule: &OperationRule) -> Limit {
    let pattern = rule.pattern.as_ref().map(ToString::to_string);
    Limit::Operation {
        pattern: pattern.unwrap_or_default().into(),
        service: service.clone(),
    }
}
