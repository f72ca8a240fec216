//! What a stream of updates says, in the order in which it may count.
//!
//! Until the log shown on this stream continues the one that is known, the server is not known to
//! be the one it was, and what it says is held. A server that came up from an old backup would
//! else have its own line of the revocation log, or its own keys, outlive the disbelief: the line
//! that has that place in the real log would look like old news for ever.

use super::Broken;
use crate::memory::Memory;
use countersign_core::vocabulary::Digest;
use countersign_wire::control::Known;
use countersign_wire::control::Said;
use countersign_wire::control::Update;
use std::collections::VecDeque;
use std::sync::Arc;

/// Updates held at once: the log is shown first or nearly so, and a heartbeat comes each second.
const HELD: usize = 64;
/// And their length together, in bytes: a snapshot and a whole revocation log.
const HELD_BYTES: usize = 128 * 1024 * 1024;

/// Our place in what the server tells, kept over its streams.
pub(super) struct Judged {
    held: Vec<Update>,
    held_bytes: usize,
    known: Known,
    memory: Arc<Memory>,
    nonce: Digest,
    /// Of the last heartbeat of this stream.
    number: u64,
    ready: VecDeque<Update>,
    /// Whether the log shown on this stream continues the one we know.
    witnessed: bool,
}

impl Judged {
    pub(super) fn new(memory: Arc<Memory>, known: Known) -> Self {
        Self {
            held: Vec::new(),
            held_bytes: 0,
            known,
            memory,
            nonce: Digest::new([0; 32]),
            number: 0,
            ready: VecDeque::new(),
            witnessed: false,
        }
    }

    /// Begins a stream that is asked for with this nonce; what to tell the server is known.
    pub(super) fn begin(&mut self, nonce: Digest) -> Known {
        self.drop_held();
        self.nonce = nonce;
        self.number = 0;
        self.witnessed = false;
        Known {
            nonce: Some(nonce),
            witnessed: self.memory.log_size(),
            ..self.known
        }
    }

    /// The next update that counts.
    pub(super) fn next(&mut self) -> Option<Update> {
        self.ready.pop_front()
    }

    /// Whether this stream has said, since its log was believed, that the server is there.
    pub(super) const fn is_believed(&self) -> bool {
        self.witnessed && self.number > 0
    }

    /// Takes what the stream says, on a line of so many bytes; what to answer, if anything.
    pub(super) fn take(&mut self, update: Update, bytes: usize) -> Result<Option<Said>, Broken> {
        if let Update::Checkpoint(shown) = update {
            self.witnessed = false;
            let judged = self.memory.checkpoint(&shown);
            let held = self.drop_held();
            let cosigned = judged?;
            self.witnessed = true;
            held.into_iter().try_for_each(|update| self.judge(update))?;
            return Ok(Some(cosigned));
        }
        if self.witnessed {
            self.judge(update)?;
            return Ok(None);
        }
        self.held_bytes = self.held_bytes.saturating_add(bytes);
        if self.held.len() >= HELD || self.held_bytes > HELD_BYTES {
            self.drop_held();
            return Err(Broken::Unshown);
        }
        self.held.push(update);
        Ok(None)
    }

    fn drop_held(&mut self) -> Vec<Update> {
        self.held_bytes = 0;
        std::mem::take(&mut self.held)
    }

    /// Judges what a server says whose log is believed.
    fn judge(&mut self, update: Update) -> Result<(), Broken> {
        let counts = match update {
            Update::Revocations(lines) => {
                self.known.epoch = lines.last().map_or(self.known.epoch, |line| line.epoch);
                Update::Revocations(lines)
            }
            Update::SignedHeartbeat(beat) => {
                self.memory.heartbeat(&beat, &self.nonce, self.number)?;
                self.number = beat.number;
                // It says the revision of the snapshot that came before it.
                self.known.revision = Some(beat.beat.revision);
                self.known.serial = beat.serial;
                Update::Heartbeat(beat.beat)
            }
            Update::Snapshot(signed) => {
                self.memory.check_serial(signed.serial)?;
                Update::Snapshot(signed)
            }
            // Nobody in another process is believed without a signature.
            Update::Heartbeat(_) => return Ok(()),
            // Judged before it comes here.
            Update::Checkpoint(_) => return Ok(()),
            other @ (Update::Keys(_) | Update::Roots(_)) => other,
        };
        self.ready.push_back(counts);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::About;
    use aws_lc_rs::signature::Ed25519KeyPair;
    use aws_lc_rs::signature::KeyPair as _;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use countersign_core::snapshot::Revocation;
    use countersign_core::snapshot::Revoked;
    use countersign_core::vocabulary::Name;
    use countersign_core::vocabulary::Timestamp;
    use countersign_ledger::checkpoint::Checkpoint;
    use countersign_ledger::checkpoint::SignedCheckpoint;
    use countersign_ledger::note::SigningKey;
    use countersign_ledger::tree::Tree;
    use countersign_ledger::tree::leaf_hash;
    use countersign_wire::control::Continued;
    use countersign_wire::control::Heartbeat;
    use countersign_wire::control::SignedHeartbeat;
    use countersign_wire::control::SignedSnapshot;

    const LINE: usize = 100;

    fn server() -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
    }

    fn log() -> SigningKey {
        SigningKey::from_seed("apart/log", &[8; 32]).unwrap()
    }

    fn gateway() -> Name {
        Name::new("gw1").unwrap()
    }

    fn memory() -> Arc<Memory> {
        let about = About {
            gateway: gateway(),
            log: log().verifier().clone(),
            snapshot_key: server().public_key().as_ref().try_into().unwrap(),
            witness_seed: [9; 32],
        };
        Memory::open(None, about).unwrap()
    }

    fn shown(words: &[&str], from: u64, proof: Vec<Digest>) -> Update {
        let mut tree = Tree::default();
        for word in words {
            tree.push(leaf_hash(word.as_bytes()));
        }
        let checkpoint = Checkpoint {
            origin: "apart/log".to_owned(),
            size: tree.size(),
            root: tree.root(),
        };
        let checkpoint = SignedCheckpoint::sign(checkpoint, &log()).unwrap();
        Update::Checkpoint(Continued {
            checkpoint: checkpoint.to_string(),
            from,
            proof,
        })
    }

    fn beat(nonce: u8, number: u64, epoch: u64, serial: u64) -> Update {
        let beat = SignedHeartbeat {
            beat: Heartbeat {
                epoch,
                revision: Digest::new([1; 32]),
                time: Timestamp::from_secs(1_795_600_800),
            },
            number,
            serial,
            signature: String::new(),
        };
        let message = beat.message(&gateway(), &Digest::new([nonce; 32]));
        let signature = STANDARD.encode(server().sign(message.as_bytes()));
        Update::SignedHeartbeat(SignedHeartbeat { signature, ..beat })
    }

    fn line(epoch: u64, token: &str) -> Update {
        Update::Revocations(vec![Revocation {
            at: Timestamp::from_secs(1_795_600_800),
            epoch,
            lifted: false,
            what: Revoked::Token(token.to_owned()),
        }])
    }

    fn policy(serial: u64) -> Update {
        Update::Snapshot(SignedSnapshot {
            bundle: "{}".to_owned(),
            epoch: 10,
            predecessor: None,
            serial,
            signature: String::new(),
        })
    }

    fn all(judged: &mut Judged) -> Vec<Update> {
        std::iter::from_fn(|| judged.next()).collect()
    }

    /// One that has heard of nine lines, and has seen a log with two leaves.
    fn begun() -> Judged {
        let mut judged = Judged::new(memory(), Known::default());
        judged.begin(Digest::new([1; 32]));
        let said = judged.take(shown(&["a", "b"], 0, Vec::new()), LINE);
        assert!(matches!(said, Ok(Some(Said::Cosigned { size: 2, .. }))));
        assert!(!judged.is_believed());
        judged.take(line(9, "ninth"), LINE).unwrap();
        judged.take(beat(1, 1, 9, 3), LINE).unwrap();
        assert!(judged.is_believed());
        assert_eq!(all(&mut judged).len(), 2);
        judged
    }

    #[test]
    fn nothing_of_a_server_that_is_not_believed_outlives_it() {
        let mut judged = begun();
        judged.begin(Digest::new([2; 32]));
        let roots = Update::Roots("another's".to_owned());
        let keys = Update::Keys(serde_json::json!({ "keys": [] }));
        for update in [
            keys,
            roots,
            line(10, "its own"),
            policy(4),
            beat(2, 1, 10, 4),
        ] {
            assert!(matches!(judged.take(update, LINE), Ok(None)));
        }
        assert_eq!(all(&mut judged), [], "before the log was shown");
        let refused = judged.take(shown(&["a", "x"], 2, Vec::new()), LINE);
        assert!(refused.is_err_and(|error| error.is_disbelief()));
        assert_eq!(all(&mut judged), []);
        assert!(!judged.is_believed());

        // The real one comes back with another tenth line, and is where it was before.
        let known = judged.begin(Digest::new([3; 32]));
        assert_eq!((known.epoch, known.serial, known.witnessed), (9, 3, 2));
        judged.take(beat(3, 1, 9, 3), LINE).unwrap();
        judged.take(line(10, "the real one"), LINE).unwrap();
        judged.take(beat(3, 2, 10, 3), LINE).unwrap();
        let third = vec![Digest::new(leaf_hash(b"c"))];
        let said = judged.take(shown(&["a", "b", "c"], 2, third), LINE);
        assert!(matches!(said, Ok(Some(Said::Cosigned { size: 3, .. }))));
        let counted = all(&mut judged);
        let [Update::Heartbeat(_), tenth, Update::Heartbeat(last)] = &counted[..] else {
            panic!("{counted:?}");
        };
        assert_eq!((tenth, last.epoch), (&line(10, "the real one"), 10));
        assert!(judged.is_believed());
        assert_eq!(judged.begin(Digest::new([4; 32])).epoch, 10);
    }

    #[test]
    fn what_was_held_is_judged_like_anything_else() {
        let mut judged = begun();
        judged.begin(Digest::new([2; 32]));
        judged.take(policy(2), LINE).unwrap();
        let refused = judged.take(shown(&["a", "b"], 2, Vec::new()), LINE);
        assert!(
            refused.is_err_and(|error| error.is_disbelief()),
            "an older policy"
        );
        assert_eq!(all(&mut judged), []);
        judged.begin(Digest::new([3; 32]));
        judged.take(beat(2, 1, 9, 3), LINE).unwrap();
        let refused = judged.take(shown(&["a", "b"], 2, Vec::new()), LINE);
        assert!(refused.is_err(), "a heartbeat of another stream");
        assert_eq!(all(&mut judged), []);
    }

    #[test]
    fn a_server_that_does_not_show_its_log_is_not_listened_to_for_ever() {
        let mut judged = begun();
        judged.begin(Digest::new([2; 32]));
        for number in 1..=64 {
            judged.take(beat(2, number, 9, 3), LINE).unwrap();
        }
        let many = judged.take(beat(2, 65, 9, 3), LINE);
        assert!(matches!(many, Err(Broken::Unshown)));
        judged.begin(Digest::new([3; 32]));
        judged.take(policy(3), HELD_BYTES).unwrap();
        let long = judged.take(policy(3), 1);
        assert!(matches!(long, Err(Broken::Unshown)));
        assert_eq!(all(&mut judged), []);
    }
}
