//! What was spent before the process began: budgets are in the ledger, not in memory.

use crate::audit::Audit;
use crate::audit::AuditError;
use crate::store::Search;
use countersign_core::config::Config;
use countersign_core::record::Record;
use countersign_core::vocabulary::Timestamp;
use countersign_enforce::EnforcementPoint;
use countersign_wire::admin::RecordEntry;
use std::collections::HashMap;
use std::time::Duration;

/// The longest window of a budget.
const MONTH: Duration = Duration::from_secs(31 * 24 * 3600);
const PAGE: u32 = 1000;

/// Takes in what the records of the longest window say. A decision without a completion counts
/// with all that was set aside for it.
pub(super) async fn restore(point: &EnforcementPoint, audit: &Audit) -> Result<(), AuditError> {
    let snapshot = point.snapshot();
    let since = Timestamp::from_micros(
        point
            .now()
            .as_micros()
            .saturating_sub(i64::try_from(MONTH.as_micros()).unwrap_or(i64::MAX)),
    );
    for service in budgeted(snapshot.config()) {
        let mut costs = HashMap::new();
        each(audit, service, "completion", since, |entry| {
            let record: Option<Record<'_>> = serde_json::from_value(entry.record).ok();
            let completion = record.and_then(|record| record.completion);
            if let Some(completion) = completion {
                costs.insert(completion.decision, completion.cost);
            }
        })
        .await?;
        each(audit, service, "decision", since, |entry| {
            let cost = costs.get(&entry.receipt).copied().flatten();
            if let Ok(record) = serde_json::from_value::<Record<'_>>(entry.record) {
                point.restore_spending(&record, cost);
            }
        })
        .await?;
    }
    Ok(())
}

fn budgeted(config: &Config) -> impl Iterator<Item = &str> {
    let services = config.services.iter().filter(|(_, service)| {
        let mut rules = service.operations.iter();
        rules.any(|rule| rule.budget.is_some())
    });
    services.map(|(name, _)| name.as_str())
}

async fn each(
    audit: &Audit,
    service: &str,
    kind: &str,
    since: Timestamp,
    mut take: impl FnMut(RecordEntry),
) -> Result<(), AuditError> {
    let newest = Search {
        kind: Some(kind.to_owned()),
        limit: PAGE,
        service: Some(service.to_owned()),
        since: Some(since),
        ..Search::default()
    };
    let mut page = audit.search(&newest).await?;
    let full = |page: &Vec<RecordEntry>| page.len() >= PAGE as usize;
    if full(&page) {
        // More than the newest page: all of them, from the oldest on. Leaf 0 is no call: a token
        // comes before any.
        let all = Search {
            after: Some(0),
            ..newest.clone()
        };
        page = audit.search(&all).await?;
    }
    loop {
        let last = page.last().and_then(|entry| entry.index);
        let more = full(&page);
        page.into_iter().for_each(&mut take);
        let Some(after) = last.filter(|_| more) else {
            return Ok(());
        };
        let next = Search {
            after: Some(after),
            ..newest.clone()
        };
        page = audit.search(&next).await?;
    }
}
