//! What runs beside the doors.

use super::Parts;
use super::ServerError;
use crate::http::stopped;
use countersign_core::vocabulary::Timestamp;
use countersign_net::SvidSource;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// How often the server says that it is there.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How often every open stream is decided again.
const AGAIN: Duration = Duration::from_secs(30);
/// How often keys and certificates are looked at.
const ROTATION: Duration = Duration::from_secs(30);
/// An SVID is replaced when less than this is left of its hour.
const RENEWAL: Duration = Duration::from_secs(30 * 60);
/// Sessions are kept a day beyond their end, for whoever asks.
const SESSIONS: Duration = Duration::from_secs(24 * 3600);

pub(super) fn spawn(tasks: &mut JoinSet<()>, parts: &Arc<Parts>, stop: &watch::Receiver<bool>) {
    let each = |every: Duration| (parts.clone(), stop.clone(), every);
    let watch = parts.point.tasks();
    let (audit, mut end) = (parts.audit.clone(), stop.clone());
    let sequencer = async move { audit.run(async move { stopped(&mut end).await }).await };
    tasks.spawn(watch.watched("sequencer", sequencer));
    let heartbeat = repeat(each(HEARTBEAT), async |parts| {
        let now = parts.point.now();
        // The server's own point has what the server has.
        let state = parts.point.state();
        let (epoch, revision) = (state.revocations.epoch(), *state.snapshot.revision());
        parts.point.heartbeat(epoch, &revision, now);
        parts.updates.beat(now);
        parts.point.look_at_room();
    });
    tasks.spawn(watch.watched("heartbeat", heartbeat));
    let again = repeat(each(AGAIN), async |parts| {
        parts.point.again();
    });
    tasks.spawn(watch.watched("streams", again));
    let rotation = repeat(each(ROTATION), async |parts| {
        if let Err(error) = rotate(parts).await {
            tracing::error!(%error, "keys or certificates are not renewed");
        }
    });
    tasks.spawn(watch.watched("rotation", rotation));
}

async fn repeat(
    (parts, mut stop, every): (Arc<Parts>, watch::Receiver<bool>, Duration),
    work: impl AsyncFn(&Parts),
) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stopped(&mut stop) => return,
            _ = ticks.tick() => work(&parts).await,
        }
    }
}

async fn rotate(parts: &Parts) -> Result<(), ServerError> {
    let now = parts.point.now();
    parts.ca.tick(now)?;
    if parts.token_keys.tick(now).await? {
        parts.updates.keys(parts.token_keys.jwks());
    }
    if is_due(&parts.svid, now) {
        parts
            .svid
            .rotate(parts.issue_own("server", &parts.node).await?);
    }
    let gateways = parts.gateways.lock().clone();
    for (name, svid) in gateways {
        if is_due(&svid, now) {
            svid.rotate(parts.issue_own("gateway", &name).await?);
        }
    }
    let gone = Timestamp::from_micros(
        now.as_micros()
            .saturating_sub(i64::try_from(SESSIONS.as_micros()).unwrap_or(i64::MAX)),
    );
    parts.store.forget_sessions(gone).await?;
    Ok(())
}

fn is_due(svid: &SvidSource, now: Timestamp) -> bool {
    svid.current().not_after() < now.plus(RENEWAL)
}
