//! Listeners of a gateway whose policy comes from another process.
//!
//! There the policy is in force whether or not its listeners can be bound: to keep the old one
//! because a port is taken would keep permissions that were withdrawn. What can't be bound is
//! recorded, and tried again.

use super::Doors;
use countersign_core::record::Record;
use countersign_core::record::Resource;
use countersign_core::record::Status;
use countersign_core::vocabulary::clip;
use countersign_enforce::EnforcementPoint;
use std::borrow::Cow;
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// How long to wait before what could not be bound is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// The most of a reason that is recorded, in bytes.
const REASON: usize = 256;

/// Opens the listeners of each policy that is `installed`, for as long as the gateway lives.
pub(crate) async fn keep_open(doors: Doors, point: EnforcementPoint, installed: Arc<Notify>) {
    let mut missing: Vec<String> = Vec::new();
    loop {
        if missing.is_empty() {
            installed.notified().await;
        } else {
            let _ = tokio::time::timeout(AGAIN, installed.notified()).await;
        }
        let failed = doors.follow(&point.snapshot());
        let reasons = failed.iter().map(|error| {
            let cause = error.source().map(|cause| format!(": {cause}"));
            format!("{error}{}", cause.unwrap_or_default())
        });
        let reasons: Vec<_> = reasons.collect();
        for reason in reasons.iter().filter(|it| !missing.contains(it)) {
            tracing::error!(reason, "a listener is not open");
            alarm(&point, reason).await;
        }
        missing = reasons;
    }
}

async fn alarm(point: &EnforcementPoint, reason: &str) {
    let resource = Resource {
        id: Cow::Borrowed("listener"),
        service: Cow::Borrowed("console"),
    };
    let mut record = Record::event("gateway.listener.closed", point.now(), "gateway", resource);
    record.reason = Some(Cow::Borrowed(clip(reason, REASON)));
    record.status = Status::Failure;
    if let Err(error) = point.record_event(&record).await {
        tracing::error!(%error, "a listener that is not open was not recorded");
    }
}
