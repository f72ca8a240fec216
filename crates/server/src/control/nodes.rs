//! What the nodes in other processes say of themselves: how far their spools are, and which
//! checkpoints they have witnessed.

use super::Plane;
use super::unavailable;
use crate::audit::Audit;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_core::record::Record;
use countersign_core::record::Resource;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::Timestamp;
use countersign_ledger::checkpoint::SignedCheckpoint;
use countersign_ledger::cosignature;
use countersign_ledger::log::Position;
use countersign_ledger::note::Signature;
use countersign_ledger::note::VerifierKey;
use countersign_ledger::storage::Storage;
use countersign_wire::control::ControlError;
use countersign_wire::control::Said;
use parking_lot::Mutex;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// The nodes that have said something since the server began.
#[derive(Debug)]
pub(crate) struct Nodes {
    heard: Mutex<HashMap<Name, Heard>>,
    storage: Arc<dyn Storage>,
}

#[derive(Debug, Default)]
struct Heard {
    alarmed: Option<Alarm>,
    /// When it said something last.
    at: Option<Timestamp>,
    /// How much of the log it said it has seen, when there is less.
    ahead: Option<u64>,
    /// How many records the log is to have, and since when: what is written meanwhile is not late.
    behind: Option<(Timestamp, u64)>,
    /// The furthest it said.
    head: Option<Head>,
    /// Whether its last line under a checkpoint was not one.
    miscosigned: bool,
    /// What it said last.
    said: Option<Head>,
    /// The checkpoint it was shown last.
    shown: Option<SignedCheckpoint>,
    /// Why the records that it delivered last were not taken.
    undelivered: Option<ControlError>,
}

/// Where a spool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) hash: Digest,
    pub(crate) next: u64,
}

/// What is wrong with a node's spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alarm {
    /// Its last record is another than it was.
    Forked,
    /// It has records that have not come for too long.
    Gap,
    /// It has fewer records than it had.
    Regressed,
}

/// A record that was written is in the log by then, unless something is in its way.
const LATE: Duration = Duration::from_secs(15);

impl Nodes {
    pub(crate) fn new(storage: Arc<dyn Storage>) -> Self {
        Self {
            heard: Mutex::default(),
            storage,
        }
    }

    /// The checkpoint that a node is shown, which it may cosign.
    pub(super) fn show(&self, node: &Name, checkpoint: SignedCheckpoint) {
        self.heard.lock().entry(node.clone()).or_default().shown = Some(checkpoint);
    }

    /// Takes in a head: whether it is news, and what there is to be alarmed about that was not
    /// known yet.
    fn head(
        &self,
        node: &Name,
        head: Head,
        position: Option<Position>,
        now: Timestamp,
    ) -> (bool, Option<Alarm>) {
        let mut all = self.heard.lock();
        let heard = all.entry(node.clone()).or_default();
        let in_log = position.map_or(0, |it| it.next);
        heard.at = Some(now);
        let behind = heard.behind.filter(|(_, wanted)| *wanted > in_log);
        let newly = (head.next > in_log).then_some((now, head.next));
        heard.behind = behind.filter(|_| newly.is_some()).or(newly);
        let late = heard
            .behind
            .is_some_and(|(since, _)| now.since(since) > LATE);
        let alarm = judge(head, heard.head, position).or_else(|| late.then_some(Alarm::Gap));
        let news = heard.said.replace(head) != Some(head);
        let fresh = alarm.filter(|_| heard.alarmed != alarm);
        heard.alarmed = alarm;
        // What was regressed from is not forgotten by hearing less.
        if heard.head.is_none_or(|known| known.next <= head.next) {
            heard.head = Some(head);
        }
        (news, fresh)
    }

    /// When a node was heard last, and how many records it has said it has; nothing of one that
    /// has said nothing since the server began.
    pub(crate) fn last(&self, node: &Name) -> Option<(Timestamp, u64)> {
        let all = self.heard.lock();
        let heard = all.get(node)?;
        Some((heard.at?, heard.said?.next))
    }

    /// Whether it is news that a node has seen more of the log than there is, or, with nothing,
    /// that is over.
    pub(super) fn ahead(&self, node: &Name, witnessed: Option<u64>) -> bool {
        let mut all = self.heard.lock();
        let heard = all.entry(node.clone()).or_default();
        std::mem::replace(&mut heard.ahead, witnessed) != witnessed
    }

    /// Whether it is news why a node's records are not taken.
    pub(super) fn undelivered(&self, node: &Name, why: &ControlError) -> bool {
        let mut all = self.heard.lock();
        let heard = all.entry(node.clone()).or_default();
        heard.undelivered.replace(why.clone()).as_ref() != Some(why)
    }

    /// A node's records are taken.
    pub(super) fn delivered(&self, node: &Name) {
        if let Some(heard) = self.heard.lock().get_mut(node) {
            heard.undelivered = None;
        }
    }

    /// Whether it is news whether a node's line under a checkpoint is one.
    fn miscosigned(&self, node: &Name, wrong: bool) -> bool {
        let mut all = self.heard.lock();
        let heard = all.entry(node.clone()).or_default();
        std::mem::replace(&mut heard.miscosigned, wrong) != wrong
    }

    /// Keeps a node's line under the checkpoint it was shown, beside the log.
    fn cosigned(&self, node: &Name, size: u64, line: &str, key: &VerifierKey) -> Option<()> {
        let shown = self.heard.lock().get(node)?.shown.clone()?;
        if shown.claimed().size != size {
            return Some(());
        }
        let line = Signature {
            name: key.name().to_owned(),
            key_id: cosignature::key_id(key),
            signature: STANDARD.decode(line).ok()?,
        };
        cosignature::verify(&shown, key, &line).ok()?;
        let mut witnessed = shown;
        witnessed.note_mut().add(line).ok()?;
        let path = format!("witness/{node}");
        let kept = self
            .storage
            .replace(&path, witnessed.to_string().as_bytes());
        if let Err(error) = kept {
            tracing::error!(%error, %node, "a cosignature was not kept");
        }
        Some(())
    }
}

/// Whether a head continues what is known: of the log, and of the head before.
fn judge(head: Head, before: Option<Head>, position: Option<Position>) -> Option<Alarm> {
    let logged = position.map(|it| Head {
        hash: Digest::new(it.hash),
        next: it.next,
    });
    for known in [logged, before].into_iter().flatten() {
        if head.next < known.next {
            return Some(Alarm::Regressed);
        }
        if head.next == known.next && head.hash != known.hash {
            return Some(Alarm::Forked);
        }
    }
    None
}

impl Alarm {
    const fn word(self) -> &'static str {
        match self {
            Self::Forked => "forked",
            Self::Gap => "gap",
            Self::Regressed => "regressed",
        }
    }
}

/// The name under which a gateway cosigns.
pub(crate) fn witness_name(audit: &Audit, gateway: &Name) -> String {
    format!("{}/witness/{gateway}", audit.origin())
}

impl Plane {
    /// How far the log is with a node: at the beginning, if it has none of its records.
    pub(crate) fn position(&self, node: &Name) -> Position {
        let beginning = Position {
            hash: [0; 32],
            next: 0,
        };
        let known = self.audit.log().position(node.as_str());
        known.unwrap_or(beginning)
    }

    /// Takes in what a node says on its stream.
    pub(super) async fn hear(&self, node: &Name, said: Said) -> Result<(), ControlError> {
        match said {
            Said::Head { hash, next } => self.hear_head(node, Head { hash, next }).await,
            Said::Cosigned { signature, size } => {
                let row = self.store.gateway(node).await.map_err(unavailable)?;
                // A gateway that was made by hand is no witness.
                let Some(public) = row.and_then(|row| row.witness) else {
                    return Ok(());
                };
                let name = witness_name(&self.audit, node);
                let key = VerifierKey::new(&name, *public.as_bytes()).map_err(unavailable)?;
                let wrong = self.nodes.cosigned(node, size, &signature, &key).is_none();
                if !self.nodes.miscosigned(node, wrong) || !wrong {
                    return Ok(());
                }
                let what = [("size", size.to_string())];
                self.note(node, "ledger.witness.alarm", &what).await
            }
        }
    }

    async fn hear_head(&self, node: &Name, head: Head) -> Result<(), ControlError> {
        let position = self.audit.log().position(node.as_str());
        let (news, alarm) = self.nodes.head(node, head, position, self.point.now());
        let mut what = vec![
            ("hash", head.hash.to_string()),
            ("next", head.next.to_string()),
        ];
        if news {
            self.note(node, "ledger.head", &what).await?;
        }
        if let Some(alarm) = alarm {
            tracing::error!(%node, alarm = alarm.word(), next = head.next, "a spool is not what it was");
            let logged = position.map_or(0, |it| it.next);
            what.push(("alarm", alarm.word().to_owned()));
            what.push(("logged", logged.to_string()));
            self.note(node, "ledger.head.alarm", &what).await?;
        }
        Ok(())
    }

    /// Records something that a node did or said.
    pub(super) async fn note(
        &self,
        node: &Name,
        event: &str,
        what: &[(&'static str, String)],
    ) -> Result<(), ControlError> {
        let resource = Resource {
            id: Cow::Borrowed(node.as_str()),
            service: Cow::Borrowed("audit"),
        };
        let actor = format!("gateway:{node}");
        let mut record = Record::event(event, self.point.now(), &actor, resource);
        for (name, value) in what {
            record
                .metadata
                .insert(Cow::Borrowed(*name), Cow::Borrowed(value.as_str()));
        }
        let recorded = self.point.record_event(&record).await;
        recorded.map(|_| ()).map_err(unavailable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_ledger::storage::FsStorage;

    fn head(next: u64, hash: u8) -> Head {
        Head {
            hash: Digest::new([hash; 32]),
            next,
        }
    }

    fn position(next: u64, hash: u8) -> Option<Position> {
        Some(Position {
            next,
            hash: [hash; 32],
        })
    }

    #[test]
    fn a_spool_that_is_not_what_it_was_alarms_once() {
        let folder = tempfile::tempdir().unwrap();
        let nodes = Nodes::new(Arc::new(FsStorage::new(folder.path())));
        let node = Name::new("gw1").unwrap();
        let at = Timestamp::from_secs;
        let hear = |it, position, now| nodes.head(&node, it, position, at(now));
        assert_eq!(hear(head(3, 3), position(3, 3), 0), (true, None));
        assert_eq!(hear(head(3, 3), position(3, 3), 1), (false, None));
        // What has not come yet is waited for, then missed.
        assert_eq!(hear(head(5, 5), position(3, 3), 2), (true, None));
        assert_eq!(hear(head(5, 5), position(3, 3), 17), (false, None));
        assert_eq!(
            hear(head(5, 5), position(3, 3), 18),
            (false, Some(Alarm::Gap))
        );
        assert_eq!(hear(head(5, 5), position(3, 3), 19), (false, None), "once");
        assert_eq!(hear(head(5, 5), position(5, 5), 20), (false, None));
        assert_eq!(
            hear(head(5, 6), position(5, 5), 21),
            (true, Some(Alarm::Forked))
        );
        assert_eq!(
            hear(head(4, 4), position(5, 5), 22),
            (true, Some(Alarm::Regressed))
        );
        assert_eq!(hear(head(4, 4), None, 23), (false, None), "the same again");
    }

    #[test]
    fn who_always_has_something_new_is_not_late() {
        let folder = tempfile::tempdir().unwrap();
        let nodes = Nodes::new(Arc::new(FsStorage::new(folder.path())));
        let node = Name::new("gw1").unwrap();
        for next in 4..60_u8 {
            let heard = head(u64::from(next), next);
            let logged = position(u64::from(next) - 1, next - 1);
            let now = Timestamp::from_secs(i64::from(next));
            assert_eq!(nodes.head(&node, heard, logged, now).1, None, "{next}");
        }
        // Unless nothing comes any more.
        let alarms = (60..90_u8).filter_map(|next| {
            let heard = head(u64::from(next), next);
            let now = Timestamp::from_secs(i64::from(next));
            nodes.head(&node, heard, position(58, 58), now).1
        });
        assert_eq!(alarms.collect::<Vec<_>>(), [Alarm::Gap]);
    }

    #[test]
    fn what_goes_on_being_wrong_is_news_once() {
        let folder = tempfile::tempdir().unwrap();
        let nodes = Nodes::new(Arc::new(FsStorage::new(folder.path())));
        let (one, two) = (Name::new("gw1").unwrap(), Name::new("gw2").unwrap());
        let told = |it: &dyn Fn(&Name) -> bool| [it(&one), it(&one), it(&two)];
        assert_eq!(told(&|it| nodes.ahead(it, Some(7))), [true, false, true]);
        assert!(nodes.ahead(&one, None) && nodes.ahead(&one, Some(7)));
        assert_eq!(told(&|it| nodes.miscosigned(it, true)), [true, false, true]);
        assert!(nodes.miscosigned(&one, false) && nodes.miscosigned(&one, true));
        let wanted = |wanted| ControlError::OutOfOrder { wanted };
        let undelivered = |it: &Name| nodes.undelivered(it, &wanted(3));
        assert_eq!(told(&undelivered), [true, false, true]);
        assert!(nodes.undelivered(&one, &wanted(4)), "another reason");
        nodes.delivered(&one);
        assert!(nodes.undelivered(&one, &wanted(4)));
    }
}
