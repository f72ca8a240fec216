//! Rows for operations of configured services.

use super::Because;
use super::Found;
use super::Walk;
use super::hold::Subject;
use crate::change::hours_text;
use crate::change::micro_dollars;
use crate::change::rate_text;
use crate::config::Config;
use crate::config::Edge;
use crate::config::Needs;
use crate::config::OperationRule;
use crate::config::Service;
use crate::vocabulary::OperationPattern;

pub(super) fn rows(
    walk: &Walk<'_>,
    subject: &Subject,
    edge: &Edge,
    service: &Service,
) -> Vec<Found> {
    let folded;
    let service = if service.fold_case {
        folded = fold(service);
        &folded
    } else {
        service
    };
    let mut found = Vec::new();
    for asked in &edge.operations {
        let asked = if service.fold_case {
            lower(asked)
        } else {
            asked.clone()
        };
        for rule in &service.operations {
            // What a rule leaves out may be what another one is about.
            let apart = rule.except.iter().map(Some);
            for pattern in std::iter::once(rule.pattern.as_ref()).chain(apart) {
                let Some(region) = common(&asked, pattern) else {
                    continue;
                };
                found.extend(row(walk, subject, edge, service, &region));
            }
        }
    }
    found
}

/// The service with its patterns in lower case, where case does not count.
fn fold(service: &Service) -> Service {
    let mut service = service.clone();
    for rule in &mut service.operations {
        let patterns = rule.pattern.iter_mut().chain(&mut rule.except);
        patterns.for_each(|it| *it = lower(it));
    }
    service
}

fn lower(pattern: &OperationPattern) -> OperationPattern {
    let text = format!(
        "{} {}",
        pattern.verb(),
        pattern.object().to_ascii_lowercase()
    );
    OperationPattern::parse(&text).unwrap_or_else(|_| pattern.clone())
}

/// The operations that an edge and a rule have in common.
#[derive(Debug)]
struct Region {
    /// The narrower of the two, or either if neither holds the other.
    pattern: OperationPattern,
    /// The other, if neither holds the other.
    within: Option<OperationPattern>,
}

fn common(asked: &OperationPattern, rule: Option<&OperationPattern>) -> Option<Region> {
    let whole = |pattern: &OperationPattern| Region {
        pattern: pattern.clone(),
        within: None,
    };
    match rule {
        None => Some(whole(asked)),
        Some(rule) if asked.covers(rule) => Some(whole(rule)),
        Some(rule) if rule.covers(asked) => Some(whole(asked)),
        Some(rule) if rule.overlaps(asked) => Some(Region {
            pattern: rule.clone(),
            within: Some(asked.clone()),
        }),
        Some(_) => None,
    }
}

/// All rules that an operation falls under apply together.
fn row(
    walk: &Walk<'_>,
    subject: &Subject,
    edge: &Edge,
    service: &Service,
    region: &Region,
) -> Option<Found> {
    let mut because = vec![Because::at("edge", edge.place)];
    let mut conditions = Vec::new();
    let (mut needs_nothing, mut known) = (true, false);
    conditions.extend(region.within.as_ref().map(|it| format!("as far as {it}")));
    for rule in &service.operations {
        let pattern = rule.pattern.as_ref();
        let whole = pattern.is_none_or(|it| it.covers(&region.pattern));
        if !whole && pattern.is_some_and(|it| !it.overlaps(&region.pattern)) {
            continue;
        }
        if rule.except.iter().any(|it| it.covers(&region.pattern)) {
            continue;
        }
        let granted = grant(walk, subject, rule);
        if whole {
            known = true;
            needs_nothing &= rule.needs == Needs::Edge;
            because.extend(granted?);
            demands(walk.config, rule, &mut because, &mut conditions);
            conditions.extend(carved_out(rule, service, region));
        } else if let (None, Some(pattern)) = (granted, pattern) {
            conditions.push(format!("not {pattern}, which asks for more"));
        }
    }
    // What falls under no rule is no operation.
    known.then(|| Found {
        because,
        conditions,
        needs_nothing,
        operation: region.pattern.to_string(),
        service: edge.to.to_string(),
    })
}

/// The lines that give the subject what a rule needs; nothing if none do.
fn grant(walk: &Walk<'_>, subject: &Subject, rule: &OperationRule) -> Option<Vec<Because>> {
    if rule.person && !subject.is_person() {
        return None;
    }
    let Needs::Permission(permission) = &rule.needs else {
        return Some(Vec::new());
    };
    let (name, role) = walk.holders.role(subject, permission.as_str())?;
    let mut because = vec![
        Because::at(permission.as_str(), rule.place),
        Because::at(format!("role {name}"), role.place),
    ];
    if let Some((tier, rate)) = walk.holders.tier(subject) {
        let what = format!("tier {tier} {}", rate_text(&rate));
        because.push(Because::built_in(what));
    }
    Some(because)
}

/// What else a rule asks for: lines that decide are reasons, what a request must be a condition.
fn demands(
    config: &Config,
    rule: &OperationRule,
    because: &mut Vec<Because>,
    conditions: &mut Vec<String>,
) {
    if let Some(name) = &rule.budget {
        let budget = config.budgets.get(name).map(|it| {
            let window = match it.window {
                crate::config::Window::Hour => "hour",
                crate::config::Window::Day => "day",
                crate::config::Window::Week => "week",
                crate::config::Window::Month => "month",
            };
            format!(" ${}/{window}", micro_dollars(it.limit_microusd))
        });
        let what = format!("budget {name}{}", budget.unwrap_or_default());
        because.push(Because::built_in(what));
    }
    let policy = rule.policy.as_ref().map(|it| format!("policy {it}"));
    because.extend(policy.map(Because::built_in));
    if !rule.approve.is_empty() {
        let roles: Vec<_> = rule.approve.iter().map(ToString::to_string).collect();
        because.push(Because::built_in(format!("approve {}", roles.join(" or "))));
        conditions.push("needs approval".to_owned());
    }
    if !rule.models.is_empty() {
        conditions.push(format!("models {}", rule.models.join(" ")));
    }
    conditions.extend(rule.hours.as_ref().map(hours_text));
    conditions.extend(rule.rate.as_ref().map(rate_text));
    conditions.extend(rule.body_max.map(|it| format!("body up to {it} bytes")));
    let schema = rule.body_schema.as_ref().or(rule.input.as_ref());
    conditions.extend(schema.map(|it| format!("as {} says", it.path)));
    if !rule.screens.is_empty() {
        conditions.push("screened".to_owned());
    }
    if rule.person {
        conditions.push("by a person".to_owned());
    }
}

/// What a rule leaves out and no other takes in is no operation at all.
fn carved_out(rule: &OperationRule, service: &Service, region: &Region) -> Option<String> {
    let alone = |except: &&OperationPattern| {
        let mut others = service.operations.iter();
        !others.any(|other| {
            other.place != rule.place && other.pattern.as_ref().is_none_or(|it| it.covers(except))
        })
    };
    let inside = rule
        .except
        .iter()
        .filter(|it| region.pattern.overlaps(it))
        .filter(alone);
    let told: Vec<_> = inside.map(ToString::to_string).collect();
    (!told.is_empty()).then(|| format!("not {}", told.join(", ")))
}
