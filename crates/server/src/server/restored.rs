//! A data folder that was brought back from a backup: a break, and on the record as one.
//!
//! What happened after the backup is gone from here and nobody here can say what it was. Gateways
//! that saw it don't believe this log any more, and they are right: a server that could talk them
//! out of that could make anything not have happened. So nothing is asked of them. The break is
//! recorded with the tree from which the log goes on, every gateway that was known by then is
//! revoked, which begins a new epoch, and whoever runs them lets them join anew, by a token and
//! under another name.
//!
//! Nor can anybody say which sessions were ended since, or which join tokens were used: all of them
//! are over. What was drawn from a session is bound to a gateway that is revoked.

use super::Parts;
use super::ServerError;
use countersign_core::record::Record;
use countersign_core::record::Resource;
use countersign_core::snapshot::Revoked;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::SpiffeId;
use std::borrow::Cow;

/// Who says that it was brought back: whoever starts the process.
const STARTER: &str = "start";

/// A recorded break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The epoch of revocations that it began.
    pub epoch: u64,
    /// The gateways that have to join anew, under other names.
    pub gateways: Vec<Name>,
    /// The root of the tree from which the log goes on.
    pub root: Digest,
    /// Its leaves.
    pub size: u64,
}

pub(super) async fn record(parts: &Parts) -> Result<Restored, ServerError> {
    let checkpoint = parts.audit.signed();
    let tree = checkpoint.claimed();
    let (root, size) = (Digest::new(tree.root), tree.size);
    let gateways = parts.store.gateways().await?;
    // On the record before anything follows from it.
    let resource = Resource {
        id: Cow::Borrowed("log"),
        service: Cow::Borrowed("audit"),
    };
    let mut event = Record::event("ledger.restore.alarm", parts.point.now(), STARTER, resource);
    let names: Vec<_> = gateways.iter().map(Name::as_str).collect();
    for (name, value) in [
        ("epoch", parts.point.state().revocations.epoch().to_string()),
        ("gateways", names.join(" ")),
        ("root", root.to_string()),
        ("size", size.to_string()),
    ] {
        event
            .metadata
            .insert(Cow::Borrowed(name), Cow::Owned(value));
    }
    let _promise = parts.point.record_event(&event).await?;
    let ended = parts.store.end_sessions(parts.point.now()).await?;
    let void = parts.store.void_joins(parts.point.now()).await?;
    tracing::info!(
        ended,
        void,
        "sessions and join tokens from before the restore are over"
    );
    let domain = parts.point.snapshot().config().trust_domain.clone();
    for name in &gateways {
        let id = SpiffeId::of_process(&domain, "gateway", name);
        let revoked = parts.point.state().revocations.workload(&id).is_some();
        if !revoked {
            let what = Revoked::Identity(id);
            parts.desk.revoker.revoke(what, false, STARTER).await?;
        }
    }
    Ok(Restored {
        epoch: parts.point.state().revocations.epoch(),
        gateways,
        root,
        size,
    })
}
