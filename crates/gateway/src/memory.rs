//! What a gateway remembers of its server, so that an older server, or an older file, is refused:
//! the highest epoch and serial, the policy, and the log as far as it has witnessed it.

use crate::home::Home;
use aws_lc_rs::signature::ED25519;
use aws_lc_rs::signature::UnparsedPublicKey;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_core::record::Record;
use countersign_core::record::Resource;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Name;
use countersign_enforce::EnforcementPoint;
use countersign_ledger::Hash;
use countersign_ledger::cosignature;
use countersign_ledger::note::NoteError;
use countersign_ledger::note::SigningKey;
use countersign_ledger::note::VerifierKey;
use countersign_ledger::witness::Witness;
use countersign_ledger::witness::WitnessError;
use countersign_wire::control::Continued;
use countersign_wire::control::Said;
use countersign_wire::control::SignedHeartbeat;
use countersign_wire::control::SignedSnapshot;
use parking_lot::Mutex;
use serde::Deserialize;
use serde::Serialize;
use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::sync::OnceLock;

/// The highest that was ever seen; what is lower is from before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct High {
    /// The last line of the revocation log.
    pub(crate) epoch: u64,
    /// The place of the policy in force in the order of activations.
    pub(crate) serial: u64,
}

/// Why something the server says, or something kept, is not believed.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// Older than what is known: the server, or the file, was put back.
    #[error("{what} `{given}` is below `{known}`, which was known before")]
    Rollback {
        /// `epoch` or `serial`.
        what: &'static str,
        /// What it says.
        given: u64,
        /// What is known.
        known: u64,
    },
    /// A heartbeat that is not of this stream, not newer than the last, or not the server's.
    #[error("a heartbeat is not the server's for this stream")]
    Heartbeat,
    /// A file of this gateway can't be read or written.
    #[error("can't use `{name}` of this gateway's folder")]
    File {
        /// Which.
        name: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A file of this gateway is not what it wrote.
    #[error("`{0}` of this gateway's folder is not what was written there")]
    Form(&'static str),
    /// The log is not what it was.
    #[error(transparent)]
    Witness(#[from] WitnessError),
    /// A checkpoint can't be cosigned.
    #[error(transparent)]
    Cosign(#[from] NoteError),
}

impl MemoryError {
    /// Whether it is about the policy that is kept, and nothing else.
    #[must_use]
    pub fn is_of_the_policy(&self) -> bool {
        match self {
            Self::Form(name) => *name == SNAPSHOT,
            Self::Rollback { what, .. } => *what == "serial",
            _ => false,
        }
    }

    /// Whether it is what the server says that is not believed, and not a file here that fails.
    pub(crate) const fn is_of_the_server(&self) -> bool {
        matches!(
            self,
            Self::Rollback { .. } | Self::Witness(_) | Self::Heartbeat
        )
    }
}

/// Why nothing is admitted although policy and revocations are fresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Distrust {
    /// Records don't reach the log.
    Shipping,
    /// The log is not what it was.
    Witness,
}

#[derive(Debug)]
struct Reasons {
    shipping: Option<String>,
    witness: Option<String>,
}

/// What a gateway remembers; nothing of it outlives the process if there is no folder.
#[derive(Debug)]
pub(crate) struct Memory {
    gateway: Name,
    high: Mutex<High>,
    home: Option<Home>,
    point: OnceLock<EnforcementPoint>,
    reasons: Mutex<Reasons>,
    snapshot_key: [u8; 32],
    witness: Mutex<Witness>,
    witness_key: Arc<SigningKey>,
    /// Checkpoints believed by this process.
    witnessed: Mutex<u64>,
}

/// Who the memory is of, and of whom.
pub(crate) struct About {
    pub(crate) gateway: Name,
    pub(crate) log: VerifierKey,
    pub(crate) snapshot_key: [u8; 32],
    /// RFC 8032 seed of the key that cosigns.
    pub(crate) witness_seed: [u8; 32],
}

/// Why a gateway that has a spool admits nothing at first: the spool may have been put back.
pub(crate) const UNASKED: &str =
    "the server has not said yet how many records of this gateway it has";

const HIGH: &str = "high.json";
const SNAPSHOT: &str = "snapshot.json";
const CHECKPOINT: &str = "checkpoint";
const ROOTS: &str = "roots.pem";

impl Memory {
    pub(crate) fn open(home: Option<Home>, about: About) -> Result<Arc<Self>, MemoryError> {
        let read = |name: &'static str| match &home {
            Some(home) => home
                .read(name)
                .map_err(|source| MemoryError::File { name, source }),
            None => Ok(None),
        };
        let high = match read(HIGH)? {
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|_| MemoryError::Form(HIGH))?,
            None => High::default(),
        };
        let name = format!("{}/witness/{}", about.log.name(), about.gateway);
        let witness_key = Arc::new(SigningKey::from_seed(&name, &about.witness_seed)?);
        let witness = Witness::new(about.log, read(CHECKPOINT)?.as_deref())
            .map_err(|_| MemoryError::Form(CHECKPOINT))?;
        let unseen = Some("the server has not shown its log yet".to_owned());
        let unasked = home.is_some().then(|| UNASKED.to_owned());
        Ok(Arc::new(Self {
            gateway: about.gateway,
            high: Mutex::new(high),
            home,
            point: OnceLock::new(),
            reasons: Mutex::new(Reasons {
                shipping: unasked,
                witness: unseen,
            }),
            snapshot_key: about.snapshot_key,
            witness: Mutex::new(witness),
            witness_key,
            witnessed: Mutex::default(),
        }))
    }

    /// Where what can't be believed is told from now on.
    pub(crate) fn attach(&self, point: &EnforcementPoint) {
        let _ = self.point.set(point.clone());
        self.tell(&self.reasons.lock());
    }

    pub(crate) const fn gateway(&self) -> &Name {
        &self.gateway
    }

    /// The key that verifies what this gateway says under checkpoints.
    pub(crate) fn witness_key(&self) -> &VerifierKey {
        self.witness_key.verifier()
    }

    pub(crate) const fn snapshot_key(&self) -> &[u8; 32] {
        &self.snapshot_key
    }

    /// Leaves of the log under the last checkpoint believed.
    pub(crate) fn log_size(&self) -> u64 {
        self.witness.lock().size()
    }

    /// The highest serial of a policy that is known.
    pub(crate) fn serial(&self) -> u64 {
        self.high.lock().serial
    }

    /// How many checkpoints this process has believed.
    pub(crate) fn witnessed(&self) -> u64 {
        *self.witnessed.lock()
    }

    /// Judges a heartbeat of the stream with this nonce, whose last one had the number `last`, and
    /// remembers how far the server is before anything follows from it.
    pub(crate) fn heartbeat(
        &self,
        beat: &SignedHeartbeat,
        nonce: &Digest,
        last: u64,
    ) -> Result<(), MemoryError> {
        let signature = STANDARD
            .decode(&beat.signature)
            .map_err(|_| MemoryError::Heartbeat)?;
        let message = beat.message(&self.gateway, nonce);
        UnparsedPublicKey::new(&ED25519, &self.snapshot_key)
            .verify(message.as_bytes(), &signature)
            .map_err(|_| MemoryError::Heartbeat)?;
        if beat.number <= last {
            return Err(MemoryError::Heartbeat);
        }
        self.raise(High {
            epoch: beat.beat.epoch,
            serial: beat.serial,
        })
    }

    /// Refuses a policy from before the highest known.
    pub(crate) fn check_serial(&self, serial: u64) -> Result<(), MemoryError> {
        let known = self.high.lock().serial;
        not_below("serial", serial, known)
    }

    /// Keeps a policy whose signature was verified, to start with it next time.
    pub(crate) fn keep_snapshot(&self, signed: &SignedSnapshot) -> Result<(), MemoryError> {
        self.check_serial(signed.serial)?;
        let bytes = serde_json::to_vec(signed).map_err(|_| MemoryError::Form(SNAPSHOT))?;
        self.write(SNAPSHOT, &bytes)?;
        let epoch = self.high.lock().epoch;
        self.raise(High {
            epoch,
            serial: signed.serial,
        })
    }

    /// The policy kept; its signature is for whoever puts it in force. One that was put back to
    /// an earlier state is refused.
    pub(crate) fn kept_snapshot(&self) -> Result<Option<SignedSnapshot>, MemoryError> {
        let Some(bytes) = self.read(SNAPSHOT)? else {
            return Ok(None);
        };
        let signed: SignedSnapshot =
            serde_json::from_slice(&bytes).map_err(|_| MemoryError::Form(SNAPSHOT))?;
        self.check_serial(signed.serial)?;
        Ok(Some(signed))
    }

    /// Keeps the trusted roots.
    pub(crate) fn keep_roots(&self, pem: &str) -> Result<(), MemoryError> {
        self.write(ROOTS, pem.as_bytes())
    }

    /// The roots kept, PEM.
    pub(crate) fn kept_roots(&self) -> Result<Option<Vec<u8>>, MemoryError> {
        self.read(ROOTS)
    }

    /// Judges a checkpoint as a witness. Good, it is kept before it counts, and cosigned; not
    /// good, nothing is admitted until one is.
    pub(crate) fn checkpoint(&self, shown: &Continued) -> Result<Said, MemoryError> {
        let judged = self.continue_with(shown);
        match &judged {
            Ok(_) => self.distrust(Distrust::Witness, None),
            Err(error) => {
                let what = if error.is_of_the_server() {
                    "the server's log is not believed"
                } else {
                    "what was witnessed of the server's log can't be kept"
                };
                tracing::error!(%error, "{what}");
                self.distrust(Distrust::Witness, Some(error.to_string()));
            }
        }
        judged
    }

    fn continue_with(&self, shown: &Continued) -> Result<Said, MemoryError> {
        let mut witness = self.witness.lock();
        let proof: Vec<Hash> = shown.proof.iter().map(|it| *it.as_bytes()).collect();
        let believed = witness.judge(shown.checkpoint.as_bytes(), &proof)?;
        let size = believed.claimed().size;
        if witness.last() != Some(&believed) {
            self.write(CHECKPOINT, believed.to_string().as_bytes())?;
        }
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed();
        let time = now.map_or(0, |now| now.as_secs());
        let line = cosignature::cosign(&believed, &self.witness_key, time)?;
        witness.believe(believed);
        *self.witnessed.lock() += 1;
        Ok(Said::Cosigned {
            signature: STANDARD.encode(line.signature),
            size,
        })
    }

    /// Says why nothing may be admitted, or that this is no reason any more; each new reason is
    /// in the record.
    pub(crate) fn distrust(&self, what: Distrust, why: Option<String>) {
        let mut reasons = self.reasons.lock();
        let reason = match what {
            Distrust::Shipping => &mut reasons.shipping,
            Distrust::Witness => &mut reasons.witness,
        };
        if *reason == why {
            return;
        }
        reason.clone_from(&why);
        self.tell(&reasons);
        drop(reasons);
        // What is wrong with the log is told where that is judged.
        if let Some(why) = why.as_deref().filter(|_| what == Distrust::Shipping) {
            tracing::error!(why, "nothing is admitted for the records' sake");
        }
        if let (Some(why), Some(point)) = (why, self.point.get()) {
            let (point, gateway) = (point.clone(), self.gateway.clone());
            tokio::spawn(async move { alarm(&point, &gateway, what, &why).await });
        }
    }

    fn tell(&self, reasons: &Reasons) {
        if let Some(point) = self.point.get() {
            point.distrust_ledger(reasons.witness.clone().or_else(|| reasons.shipping.clone()));
        }
    }

    fn raise(&self, to: High) -> Result<(), MemoryError> {
        let mut high = self.high.lock();
        not_below("epoch", to.epoch, high.epoch)?;
        not_below("serial", to.serial, high.serial)?;
        if *high == to {
            return Ok(());
        }
        let bytes = serde_json::to_vec(&to).map_err(|_| MemoryError::Form(HIGH))?;
        self.write(HIGH, &bytes)?;
        *high = to;
        Ok(())
    }

    fn read(&self, name: &'static str) -> Result<Option<Vec<u8>>, MemoryError> {
        let Some(home) = &self.home else {
            return Ok(None);
        };
        home.read(name)
            .map_err(|source| MemoryError::File { name, source })
    }

    fn write(&self, name: &'static str, bytes: &[u8]) -> Result<(), MemoryError> {
        let Some(home) = &self.home else {
            return Ok(());
        };
        home.write(name, bytes)
            .map_err(|source| MemoryError::File { name, source })
    }
}

fn not_below(what: &'static str, given: u64, known: u64) -> Result<(), MemoryError> {
    if given < known {
        return Err(MemoryError::Rollback { what, given, known });
    }
    Ok(())
}

async fn alarm(point: &EnforcementPoint, gateway: &Name, what: Distrust, why: &str) {
    let event = match what {
        Distrust::Shipping => "ledger.shipping.alarm",
        Distrust::Witness => "ledger.witness.alarm",
    };
    let resource = Resource {
        id: Cow::Borrowed("log"),
        service: Cow::Borrowed("audit"),
    };
    let actor = format!("gateway:{gateway}");
    let mut record = Record::event(event, point.now(), &actor, resource);
    record
        .metadata
        .insert(Cow::Borrowed("why"), Cow::Borrowed(why));
    if let Err(error) = point.record_event(&record).await {
        tracing::error!(%error, "an alarm was not recorded");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::Ed25519KeyPair;
    use aws_lc_rs::signature::KeyPair as _;
    use countersign_core::vocabulary::Timestamp;
    use countersign_ledger::checkpoint::Checkpoint;
    use countersign_ledger::checkpoint::SignedCheckpoint;
    use countersign_ledger::tree::Tree;
    use countersign_ledger::tree::leaf_hash;
    use countersign_wire::control::Heartbeat;

    const NONCE: Digest = Digest::new([5; 32]);

    fn server() -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
    }

    fn log() -> SigningKey {
        SigningKey::from_seed("apart/log", &[8; 32]).unwrap()
    }

    fn about() -> About {
        About {
            gateway: Name::new("gw1").unwrap(),
            log: log().verifier().clone(),
            snapshot_key: server().public_key().as_ref().try_into().unwrap(),
            witness_seed: [9; 32],
        }
    }

    fn home(folder: &tempfile::TempDir) -> Home {
        Home::open(folder.path()).unwrap()
    }

    fn memory(folder: &tempfile::TempDir) -> Result<Arc<Memory>, MemoryError> {
        Memory::open(Some(home(folder)), about())
    }

    fn beat(number: u64, epoch: u64, serial: u64) -> SignedHeartbeat {
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
        let message = beat.message(&Name::new("gw1").unwrap(), &NONCE);
        let signature = STANDARD.encode(server().sign(message.as_bytes()));
        SignedHeartbeat { signature, ..beat }
    }

    fn shown(words: &[&str], from: u64, proof: Vec<Digest>) -> Continued {
        let mut tree = Tree::default();
        words
            .iter()
            .for_each(|word| tree.push(leaf_hash(word.as_bytes())));
        let checkpoint = Checkpoint {
            origin: "apart/log".to_owned(),
            size: tree.size(),
            root: tree.root(),
        };
        let checkpoint = SignedCheckpoint::sign(checkpoint, &log()).unwrap();
        Continued {
            checkpoint: checkpoint.to_string(),
            from,
            proof,
        }
    }

    #[test]
    fn a_heartbeat_counts_once_on_the_stream_it_was_made_for() {
        let folder = tempfile::tempdir().unwrap();
        let memory = memory(&folder).unwrap();
        memory.heartbeat(&beat(1, 0, 1), &NONCE, 0).unwrap();
        let refused = |beat: &SignedHeartbeat, nonce: &Digest, last| {
            matches!(
                memory.heartbeat(beat, nonce, last),
                Err(MemoryError::Heartbeat)
            )
        };
        assert!(refused(&beat(1, 0, 1), &NONCE, 1), "the same again");
        assert!(
            refused(&beat(2, 0, 1), &Digest::new([6; 32]), 1),
            "recorded"
        );
        let forged = SignedHeartbeat {
            number: 3,
            ..beat(2, 0, 1)
        };
        assert!(refused(&forged, &NONCE, 1));
        let mut later = beat(2, 0, 1);
        later.beat.time = Timestamp::from_secs(1_795_600_900);
        assert!(refused(&later, &NONCE, 1), "another time");
        memory.heartbeat(&beat(2, 0, 1), &NONCE, 1).unwrap();
    }

    #[test]
    fn what_is_lower_is_refused_after_a_restart_too() {
        let folder = tempfile::tempdir().unwrap();
        memory(&folder)
            .unwrap()
            .heartbeat(&beat(1, 7, 3), &NONCE, 0)
            .unwrap();
        let again = memory(&folder).unwrap();
        for (older, what) in [(beat(1, 6, 3), "epoch"), (beat(1, 7, 2), "serial")] {
            let refused = again.heartbeat(&older, &NONCE, 0);
            assert!(
                matches!(refused, Err(MemoryError::Rollback { what: it, .. }) if it == what),
                "{refused:?}"
            );
        }
        let old = SignedSnapshot {
            bundle: "{}".to_owned(),
            epoch: 7,
            predecessor: None,
            serial: 2,
            signature: String::new(),
        };
        assert!(again.keep_snapshot(&old).is_err());
        let bytes = serde_json::to_vec(&old).unwrap();
        std::fs::write(folder.path().join(SNAPSHOT), bytes).unwrap();
        assert!(matches!(
            again.kept_snapshot(),
            Err(MemoryError::Rollback {
                what: "serial",
                given: 2,
                known: 3
            })
        ));
        again.heartbeat(&beat(1, 7, 3), &NONCE, 0).unwrap();
        std::fs::write(folder.path().join(HIGH), "{}").unwrap();
        assert!(matches!(memory(&folder), Err(MemoryError::Form(HIGH))));
    }

    #[tokio::test]
    async fn a_log_that_does_not_go_on_is_not_believed_after_a_restart_either() {
        let folder = tempfile::tempdir().unwrap();
        let first = memory(&folder).unwrap();
        assert!(
            first.reasons.lock().witness.is_some(),
            "nothing was shown yet"
        );
        let cosigned = first
            .checkpoint(&shown(&["a", "b"], 0, Vec::new()))
            .unwrap();
        assert!(matches!(cosigned, Said::Cosigned { size: 2, .. }));
        assert_eq!(first.reasons.lock().witness, None);
        drop(first);
        let again = memory(&folder).unwrap();
        assert_eq!(again.log_size(), 2);
        let third = |word: &str| vec![Digest::new(leaf_hash(word.as_bytes()))];
        for wrong in [
            shown(&["a"], 2, Vec::new()),
            shown(&["a", "x"], 2, Vec::new()),
            shown(&["a", "x", "c"], 2, third("c")),
            shown(&["a", "b", "c"], 2, Vec::new()),
        ] {
            assert!(again.checkpoint(&wrong).is_err(), "{wrong:?}");
            assert!(again.reasons.lock().witness.is_some());
        }
        // The real one comes back.
        again
            .checkpoint(&shown(&["a", "b", "c"], 2, third("c")))
            .unwrap();
        assert_eq!(
            (again.log_size(), again.reasons.lock().witness.clone()),
            (3, None)
        );
    }
}
