//! The stream of updates for a gateway in another process: the part of the policy that is its own,
//! heartbeats that can't be replayed, and the log's growth for it to witness.

use super::Plane;
use super::unavailable;
use crate::join;
use crate::snapshots::Snapshots;
use crate::store::GatewayRow;
use countersign_core::snapshot::Bundle;
use countersign_core::snapshot::Snapshot;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Name;
use countersign_ledger::Hash;
use countersign_wire::control::Continued;
use countersign_wire::control::ControlError;
use countersign_wire::control::Heartbeat;
use countersign_wire::control::Known;
use countersign_wire::control::Said;
use countersign_wire::control::SignedHeartbeat;
use countersign_wire::control::SignedSnapshot;
use countersign_wire::control::Update;
use futures_util::StreamExt as _;
use futures_util::stream;
use futures_util::stream::BoxStream;
use std::sync::Arc;
use std::time::Duration;

/// Checkpoints are shown at most so often.
const SHOWN_EVERY: Duration = Duration::from_secs(1);

impl Plane {
    /// What a gateway in another process is told, while what it says is heard.
    pub(super) fn tell(
        self: &Arc<Self>,
        gateway: GatewayRow,
        known: Known,
        nonce: Digest,
        said: BoxStream<'static, Said>,
    ) -> BoxStream<'static, Update> {
        let part = Part {
            known: known.revision.map(|revision| (revision, known.serial)),
            gateway: gateway.clone(),
            nonce,
            number: 0,
            sent: None,
            snapshots: self.snapshots.clone(),
        };
        // Which part it has can't be told from the revision of the whole, so that is looked at here.
        let whole = Known {
            revision: None,
            ..known
        };
        let updates = self.updates.follow(whole).boxed();
        let parts = stream::unfold((updates, part), |(mut updates, mut part)| async move {
            loop {
                match part.of(updates.next().await?) {
                    Ok(Some(update)) => return Some((update, (updates, part))),
                    Ok(None) => {}
                    Err(error) => {
                        // Told nothing it goes stale and refuses, which is what it has to do.
                        let gateway = &part.gateway.name;
                        tracing::error!(%error, %gateway, "a gateway can't be told its policy");
                        return None;
                    }
                }
            }
        });
        let (plane, name) = (self.clone(), gateway.name.clone());
        let heard = said.filter_map(move |said| {
            let (plane, name) = (plane.clone(), name.clone());
            async move {
                if let Err(error) = plane.hear(&name, said).await {
                    tracing::error!(%error, gateway = %name, "what a gateway said is not recorded");
                }
                None
            }
        });
        let growth = self.growth(gateway.name, known.witnessed);
        // When the policy ends all of it does, or when the log is not what the gateway saw; what
        // it says ends as it likes.
        let parts = parts.map(Some).chain(stream::iter([None]));
        let others = stream::select(growth, heard.map(Some));
        stream::select(parts, others)
            .take_while(|update| std::future::ready(update.is_some()))
            .filter_map(std::future::ready)
            .boxed()
    }

    /// The log's checkpoints, each with the proof that it continues the one before; nothing after
    /// one that continues nothing.
    fn growth(
        self: &Arc<Self>,
        gateway: Name,
        witnessed: u64,
    ) -> BoxStream<'static, Option<Update>> {
        let mut signed = self.audit.growth();
        signed.mark_changed();
        let state = (self.clone(), gateway, witnessed, signed, true);
        let growth = stream::unfold(state, |state| async move {
            let (plane, gateway, mut witnessed, mut signed, mut first) = state;
            loop {
                signed.changed().await.ok()?;
                match plane.continued(&gateway, witnessed, first).await {
                    Ok(None) => {}
                    Ok(Some(continued)) => {
                        let ahead = witnessed > continued.size;
                        witnessed = continued.size;
                        first = false;
                        let update = Update::Checkpoint(continued.update);
                        let state = (plane, gateway, witnessed, signed, first);
                        let last = ahead.then_some(None);
                        let updates = [Some(Some(update)), last].into_iter().flatten();
                        return Some((stream::iter(updates), state));
                    }
                    Err(error) => tracing::error!(%error, "no checkpoint can be shown"),
                }
            }
        });
        let mut begun = false;
        growth
            .flatten()
            .then(move |update| {
                let pause = if std::mem::replace(&mut begun, true) {
                    SHOWN_EVERY
                } else {
                    Duration::ZERO
                };
                async move {
                    tokio::time::sleep(pause).await;
                    update
                }
            })
            .boxed()
    }

    async fn continued(
        &self,
        gateway: &Name,
        witnessed: u64,
        first: bool,
    ) -> Result<Option<Shown>, ControlError> {
        let checkpoint = self.audit.signed();
        let size = checkpoint.claimed().size;
        if size == witnessed && !first {
            return Ok(None);
        }
        let proof: Vec<Hash> = if witnessed > size {
            // It has seen more of this log than there is. It is shown what there is all the same,
            // because refusing that is its part.
            let what = [
                ("size", size.to_string()),
                ("witnessed", witnessed.to_string()),
            ];
            if self.nodes.ahead(gateway, Some(witnessed)) {
                self.note(gateway, "ledger.witness.ahead", &what).await?;
            }
            Vec::new()
        } else {
            self.nodes.ahead(gateway, None);
            let log = self.audit.log().clone();
            let proof = tokio::task::spawn_blocking(move || log.consistency_proof(witnessed, size));
            proof.await.map_err(unavailable)?.map_err(unavailable)?
        };
        let update = Continued {
            checkpoint: checkpoint.to_string(),
            from: witnessed,
            proof: proof.into_iter().map(Digest::new).collect(),
        };
        self.nodes.show(gateway, checkpoint);
        Ok(Some(Shown { size, update }))
    }
}

struct Shown {
    size: u64,
    update: Continued,
}

/// A gateway's part of what everybody is told.
struct Part {
    gateway: GatewayRow,
    /// Revision and serial that it said it has.
    known: Option<(Digest, u64)>,
    nonce: Digest,
    number: u64,
    /// Revision and serial of the part it has now.
    sent: Option<(Digest, u64)>,
    snapshots: Arc<Snapshots>,
}

impl Part {
    fn of(&mut self, update: Update) -> Result<Option<Update>, ControlError> {
        match update {
            Update::Snapshot(whole) => self.snapshot(&whole),
            Update::Heartbeat(beat) => Ok(self.beat(&beat)),
            other => Ok(Some(other)),
        }
    }

    fn snapshot(&mut self, whole: &SignedSnapshot) -> Result<Option<Update>, ControlError> {
        let bundle: Bundle = serde_json::from_str(&whole.bundle).map_err(unavailable)?;
        let snapshot = Snapshot::from_bundle(bundle).map_err(unavailable)?;
        let listeners = join::own(&snapshot, self.gateway.listeners.as_ref());
        let part = snapshot
            .project(&self.gateway.name, &listeners)
            .map_err(unavailable)?;
        let revision = *part.revision();
        let signed = self.snapshots.sign_part(whole, part.bundle());
        let signed = signed.map_err(unavailable)?;
        self.sent = Some((revision, whole.serial));
        if self.known.take() == self.sent {
            return Ok(None);
        }
        Ok(Some(Update::Snapshot(signed)))
    }

    fn beat(&mut self, beat: &Heartbeat) -> Option<Update> {
        let (revision, serial) = self.sent?;
        self.number += 1;
        let mut beat = SignedHeartbeat {
            beat: Heartbeat { revision, ..*beat },
            number: self.number,
            serial,
            signature: String::new(),
        };
        let gateway = &self.gateway.name;
        beat.signature = self.snapshots.sign_beat(&beat, gateway, &self.nonce);
        Some(Update::SignedHeartbeat(beat))
    }
}
