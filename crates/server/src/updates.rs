//! What enforcement points are told: policy, revocations, keys, roots, and that the server lives.
//!
//! There is one state and everybody follows it. A follower compares what it has sent with what is
//! there now, so a slow one skips states but never a line of the revocation log, and nothing has
//! to be kept for those who lag.

use countersign_core::snapshot::Revocation;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Timestamp;
use countersign_wire::control::Heartbeat;
use countersign_wire::control::Known;
use countersign_wire::control::SignedSnapshot;
use countersign_wire::control::Update;
use futures_util::Stream;
use serde_json::Value;
use std::collections::VecDeque;
use tokio::sync::watch;

/// The state that enforcement points follow.
#[derive(Debug)]
pub struct Updates {
    published: watch::Sender<Published>,
}

/// A value with the number of its change.
#[derive(Clone, Debug)]
struct Counted<T> {
    number: u64,
    value: T,
}

#[derive(Clone, Debug)]
struct Published {
    heard: Timestamp,
    keys: Counted<Value>,
    revision: Digest,
    revocations: Vec<Revocation>,
    roots: Counted<String>,
    snapshot: SignedSnapshot,
}

/// What the first follower is told.
#[derive(Clone, Debug)]
pub struct Beginning {
    /// The server's wall clock.
    pub at: Timestamp,
    /// The keys that sign tokens (a JWK Set).
    pub keys: Value,
    /// The revision in force.
    pub revision: Digest,
    /// The whole revocation log, in order.
    pub revocations: Vec<Revocation>,
    /// The trusted roots, PEM.
    pub roots: String,
    /// The policy in force.
    pub snapshot: SignedSnapshot,
}

impl Updates {
    /// Starts with what is in force.
    #[must_use]
    pub fn new(beginning: Beginning) -> Self {
        let first = |value| Counted { number: 1, value };
        let published = Published {
            heard: beginning.at,
            keys: first(beginning.keys),
            revision: beginning.revision,
            revocations: beginning.revocations,
            roots: Counted {
                number: 1,
                value: beginning.roots,
            },
            snapshot: beginning.snapshot,
        };
        Self {
            published: watch::Sender::new(published),
        }
    }

    /// The server is there.
    pub fn beat(&self, now: Timestamp) {
        self.published.send_modify(|it| it.heard = now);
    }

    /// Another revision is in force.
    pub fn policy(&self, revision: Digest, snapshot: SignedSnapshot) {
        self.published.send_modify(|it| {
            it.revision = revision;
            it.snapshot = snapshot;
        });
    }

    /// A line was added to the revocation log.
    pub fn revoked(&self, line: Revocation) {
        self.published.send_modify(|it| it.revocations.push(line));
    }

    /// Other keys sign tokens.
    pub fn keys(&self, keys: Value) {
        self.published
            .send_modify(|it| it.keys = it.keys.next(keys));
    }

    /// The policy in force was signed at a newer epoch; who has it needs it no second time.
    pub fn signed_again(&self, snapshot: SignedSnapshot) {
        self.published.send_modify(|it| {
            // A reload may have been faster.
            if it.snapshot.bundle == snapshot.bundle {
                it.snapshot = snapshot;
            }
        });
    }

    /// The revocation log up to an epoch.
    #[must_use]
    pub fn revocations_up_to(&self, epoch: u64) -> Vec<Revocation> {
        let published = self.published.borrow();
        let lines = published.revocations.iter();
        lines
            .take_while(|line| line.epoch <= epoch)
            .cloned()
            .collect()
    }

    /// Everything newer than what is known, then every change.
    pub fn follow(&self, known: Known) -> impl Stream<Item = Update> + Send + use<> {
        let mut published = self.published.subscribe();
        published.mark_changed();
        let follower = Follower {
            keys: 0,
            known,
            pending: VecDeque::new(),
            published,
            roots: 0,
        };
        futures_util::stream::unfold(follower, |mut follower| async move {
            loop {
                if let Some(update) = follower.pending.pop_front() {
                    return Some((update, follower));
                }
                follower.published.changed().await.ok()?;
                follower.compare();
            }
        })
    }
}

impl<T> Counted<T> {
    fn next(&self, value: T) -> Self {
        Self {
            number: self.number + 1,
            value,
        }
    }
}

struct Follower {
    keys: u64,
    known: Known,
    pending: VecDeque<Update>,
    published: watch::Receiver<Published>,
    roots: u64,
}

impl Follower {
    /// Keys and roots go first: what comes after is proved with them.
    fn compare(&mut self) {
        let now = self.published.borrow_and_update();
        if now.keys.number != self.keys {
            self.keys = now.keys.number;
            self.pending.push_back(Update::Keys(now.keys.value.clone()));
        }
        if now.roots.number != self.roots {
            self.roots = now.roots.number;
            self.pending
                .push_back(Update::Roots(now.roots.value.clone()));
        }
        if self.known.revision != Some(now.revision) {
            self.known.revision = Some(now.revision);
            self.pending
                .push_back(Update::Snapshot(now.snapshot.clone()));
        }
        let known = self.known.epoch;
        let from = now.revocations.partition_point(|line| line.epoch <= known);
        let lines = now.revocations.get(from..).unwrap_or_default();
        if let Some(last) = lines.last() {
            self.known.epoch = last.epoch;
            self.pending.push_back(Update::Revocations(lines.to_vec()));
        }
        self.pending.push_back(Update::Heartbeat(Heartbeat {
            epoch: now.revocations.last().map_or(0, |line| line.epoch),
            revision: now.revision,
            time: now.heard,
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_core::snapshot::Revoked;
    use futures_util::StreamExt;

    fn line(epoch: u64) -> Revocation {
        let what = Revoked::Token(format!("t{epoch}"));
        Revocation {
            at: Timestamp::from_secs(1),
            epoch,
            lifted: false,
            what,
        }
    }

    fn snapshot(text: &str) -> SignedSnapshot {
        SignedSnapshot {
            bundle: text.to_owned(),
            epoch: 0,
            predecessor: None,
            serial: 1,
            signature: String::new(),
        }
    }

    fn updates() -> Updates {
        Updates::new(Beginning {
            at: Timestamp::from_secs(1),
            keys: serde_json::json!({ "keys": [] }),
            revision: Digest::new([1; 32]),
            revocations: vec![line(1), line(2)],
            roots: "pem".to_owned(),
            snapshot: snapshot("one"),
        })
    }

    #[tokio::test]
    async fn a_newcomer_is_told_everything_in_order() {
        let updates = updates();
        let told: Vec<_> = updates.follow(Known::default()).take(5).collect().await;
        assert!(matches!(
            told.as_slice(),
            [
                Update::Keys(_),
                Update::Roots(_),
                Update::Snapshot(_),
                Update::Revocations(_),
                Update::Heartbeat(_)
            ]
        ));
        assert_eq!(told[3], Update::Revocations(vec![line(1), line(2)]));
    }

    #[tokio::test]
    async fn a_slow_follower_misses_no_revocation() {
        let updates = updates();
        let known = Known {
            epoch: 1,
            revision: Some(Digest::new([1; 32])),
            ..Known::default()
        };
        let mut follower = Box::pin(updates.follow(known));
        let first: Vec<_> = follower.by_ref().take(4).collect().await;
        assert_eq!(
            first[2],
            Update::Revocations(vec![line(2)]),
            "only what is new"
        );
        updates.revoked(line(3));
        updates.beat(Timestamp::from_secs(2));
        updates.revoked(line(4));
        updates.policy(Digest::new([2; 32]), snapshot("two"));
        let next: Vec<_> = follower.take(3).collect().await;
        assert_eq!(next[0], Update::Snapshot(snapshot("two")));
        assert_eq!(next[1], Update::Revocations(vec![line(3), line(4)]));
        let Update::Heartbeat(beat) = next[2] else {
            panic!("{next:?}")
        };
        assert_eq!((beat.epoch, beat.time), (4, Timestamp::from_secs(2)));
        assert_eq!(updates.revocations_up_to(3), [line(1), line(2), line(3)]);
    }
}
