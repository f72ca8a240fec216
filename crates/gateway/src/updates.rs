//! What the control plane says, put in force.
//!
//! In one process with the server all of it is in force already, and saying it again changes
//! nothing.

use crate::memory::Memory;
use crate::memory::MemoryError;
use aws_lc_rs::signature::ED25519;
use aws_lc_rs::signature::UnparsedPublicKey;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_core::snapshot::Bundle;
use countersign_core::snapshot::Snapshot;
use countersign_core::vocabulary::Name;
use countersign_enforce::EnforcementPoint;
use countersign_net::KeySet;
use countersign_net::Keys;
use countersign_net::Roots;
use countersign_net::TrustBundle;
use countersign_wire::control::ControlPlane;
use countersign_wire::control::Known;
use countersign_wire::control::SignedSnapshot;
use countersign_wire::control::Update;
use futures_util::StreamExt;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// What updates are put into.
#[derive(Debug)]
pub(crate) struct Sinks {
    /// Told of each policy that is put in force here.
    pub(crate) installed: Arc<Notify>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) point: EnforcementPoint,
    /// What is remembered of a server in another process.
    pub(crate) memory: Option<Arc<Memory>>,
    pub(crate) roots: Arc<Roots>,
    /// The highest serial that this process has put in force.
    pub(crate) serial: Mutex<u64>,
    pub(crate) snapshot_key: Option<[u8; 32]>,
}

/// Why a snapshot is not put in force.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    #[error("its epoch `{given}` is below `{known}`")]
    Epoch { given: u64, known: u64 },
    #[error("its serial `{given}` is below `{known}`")]
    Serial { given: u64, known: u64 },
    #[error("it is another gateway's")]
    Another,
    #[error(transparent)]
    Memory(#[from] MemoryError),
    #[error("it is for development, or what is in force is")]
    Development,
    #[error("it is for another trust domain")]
    TrustDomain,
    #[error("its signature is not the server's")]
    Signature,
    #[error("no key to verify it with")]
    NoKey,
    #[error("it can't be read")]
    Form(#[from] serde_json::Error),
    #[error(transparent)]
    Compile(#[from] countersign_core::snapshot::CompileError),
}

/// What to do with the stream of updates.
enum Next {
    /// Read on.
    Go,
    /// Ask from what is known: something was missing.
    Again,
    /// Ask again, and ever later: it was refused and may be so again.
    Later,
}

/// How long to wait before asking again where the stream of updates ended.
const AGAIN: Duration = Duration::from_millis(250);
/// The longest wait where what comes is refused.
const LATEST: Duration = Duration::from_secs(16);

/// How often open streams are decided again, whatever the control plane says or doesn't.
const DECIDE_AGAIN: Duration = Duration::from_secs(30);

/// Decides open streams again and again for as long as the gateway lives: time alone ends some.
pub(crate) async fn decide_again(point: EnforcementPoint) {
    loop {
        tokio::time::sleep(DECIDE_AGAIN).await;
        let ended = point.again();
        tracing::debug!(ended, "open streams were decided again");
    }
}

/// Follows the control plane for as long as the gateway lives.
pub(crate) async fn follow(control: Arc<dyn ControlPlane>, sinks: Sinks) {
    let mut wait = AGAIN;
    loop {
        let state = sinks.point.state();
        let revision = Some(*state.snapshot.revision());
        let known = Known {
            epoch: state.revocations.epoch(),
            revision,
            serial: *sinks.serial.lock(),
            ..Known::default()
        };
        drop(state);
        let mut updates = control.updates(known);
        while let Some(update) = updates.next().await {
            match sinks.apply(update) {
                Next::Go => {}
                Next::Again => {
                    wait = AGAIN;
                    break;
                }
                Next::Later => {
                    wait = LATEST.min(wait * 2);
                    break;
                }
            }
        }
        tracing::warn!("the control plane is asked again");
        tokio::time::sleep(wait).await;
    }
}

impl Sinks {
    fn apply(&self, update: Update) -> Next {
        match update {
            Update::Heartbeat(heart) => {
                self.point
                    .heartbeat(heart.epoch, &heart.revision, heart.time);
            }
            Update::Revocations(lines) => match self.point.revoke(&lines) {
                Ok(ended) => tracing::info!(lines = lines.len(), ended, "revoked"),
                Err(gap) => {
                    tracing::error!(%gap, "asking for the revocation log again");
                    return Next::Again;
                }
            },
            Update::Snapshot(signed) => match self.snapshot(&signed) {
                Ok(ended) => tracing::info!(ended, "a policy is in force"),
                Err(error) => {
                    tracing::error!(%error, "a snapshot was refused");
                    return Next::Later;
                }
            },
            Update::Keys(document) => self.keys(&document),
            Update::Roots(pem) => self.roots(&pem),
            // Judged where the stream is known that they are of, or for nobody in one process.
            Update::Checkpoint(_) | Update::SignedHeartbeat(_) => {}
        }
        Next::Go
    }

    fn snapshot(&self, signed: &SignedSnapshot) -> Result<usize, SnapshotError> {
        let state = self.point.state();
        let known = state.revocations.epoch();
        if signed.epoch < known {
            return Err(SnapshotError::Epoch {
                given: signed.epoch,
                known,
            });
        }
        let bundle: Bundle = serde_json::from_str(&signed.bundle)?;
        let same = bundle.revision() == *state.snapshot.revision();
        // In one process with the server: nothing to verify with, and nothing that would change.
        if same && self.snapshot_key.is_none() {
            return Ok(0);
        }
        let key = self.snapshot_key.ok_or(SnapshotError::NoKey)?;
        verify(signed, &key)?;
        let running = &state.snapshot;
        if bundle.dev != running.is_development() || (bundle.zt_off && !bundle.dev) {
            return Err(SnapshotError::Development);
        }
        if let Some(memory) = &self.memory {
            check_gateway(&bundle, memory.gateway())?;
        }
        // Back to an earlier revision as a decision of today is a serial of its own; what was in
        // force before is not in force again because somebody says it once more.
        let mut serial = self.serial.lock();
        if signed.serial < *serial {
            return Err(SnapshotError::Serial {
                given: signed.serial,
                known: *serial,
            });
        }
        // What was left and came back while this gateway was away has another serial, under which
        // it has to be kept: heartbeats say that one, and what is on disk must not be below.
        if same {
            if let Some(memory) = &self.memory {
                memory.keep_snapshot(signed)?;
            }
            *serial = signed.serial;
            return Ok(0);
        }
        let next = Arc::new(Snapshot::from_bundle(bundle)?);
        if next.config().trust_domain != running.config().trust_domain {
            return Err(SnapshotError::TrustDomain);
        }
        if let Some(memory) = &self.memory {
            memory.keep_snapshot(signed)?;
        }
        *serial = signed.serial;
        let ended = self.point.install(&next);
        self.installed.notify_one();
        Ok(ended)
    }

    fn keys(&self, document: &serde_json::Value) {
        let known = self.keys.current();
        if known.to_jwks() == *document {
            return;
        }
        match KeySet::from_jwks(document.to_string().as_bytes(), known.generation() + 1) {
            Ok(next) => self.keys.replace(next),
            Err(error) => tracing::error!(%error, "a key set was refused"),
        }
    }

    fn roots(&self, pem: &str) {
        let known = self.roots.current();
        let next = TrustBundle::from_pem(
            known.domain().clone(),
            pem.as_bytes(),
            known.generation() + 1,
        );
        match next {
            Ok(next) if next.digests().eq(known.digests()) => {}
            Ok(next) => {
                let kept = self.memory.as_ref().map(|memory| memory.keep_roots(pem));
                if let Some(Err(error)) = kept {
                    tracing::error!(%error, "a trust bundle is not kept");
                }
                self.roots.replace(next);
            }
            Err(error) => tracing::error!(%error, "a trust bundle was refused"),
        }
    }
}

/// Whether the server signed it.
pub(crate) fn verify(signed: &SignedSnapshot, key: &[u8; 32]) -> Result<(), SnapshotError> {
    let signature = STANDARD
        .decode(&signed.signature)
        .map_err(|_| SnapshotError::Signature)?;
    UnparsedPublicKey::new(&ED25519, key)
        .verify(&message(signed), &signature)
        .map_err(|_| SnapshotError::Signature)
}

/// Whether it was signed for this gateway: another one's has other listeners and services.
pub(crate) fn check_gateway(bundle: &Bundle, gateway: &Name) -> Result<(), SnapshotError> {
    match &bundle.projection {
        Some(projection) if projection.gateway == *gateway => Ok(()),
        _ => Err(SnapshotError::Another),
    }
}

/// What the server signed.
fn message(signed: &SignedSnapshot) -> Vec<u8> {
    let predecessor = signed
        .predecessor
        .map_or_else(|| "-".to_owned(), |it| it.to_string());
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, signed.bundle.as_bytes());
    let hash = hex::encode(digest.as_ref());
    format!(
        "countersign-snapshot/v1\n{}\n{}\n{predecessor}\n{hash}\n",
        signed.serial, signed.epoch
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::Home;
    use crate::memory::About;
    use aws_lc_rs::signature::Ed25519KeyPair;
    use aws_lc_rs::signature::KeyPair as _;
    use countersign_core::snapshot::Projection;
    use countersign_core::snapshot::Revocation;
    use countersign_core::snapshot::Revoked;
    use countersign_core::vocabulary::Timestamp;
    use countersign_enforce::SystemClock;
    use countersign_ledger::spool::Spool;
    use countersign_ledger::spool::SpoolOptions;
    use countersign_ledger::storage::FsStorage;
    use countersign_testkit::pki::Pki;

    fn bundle(name: &str) -> Bundle {
        let text = format!("identities: {{ {name}: {{}} }}\n");
        Bundle {
            dev: true,
            entry: "countersign.yaml".into(),
            files: [("countersign.yaml".to_owned(), text)].into(),
            ..Bundle::default()
        }
    }

    fn key() -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
    }

    fn sinks(folder: &tempfile::TempDir) -> Sinks {
        let storage = Arc::new(FsStorage::new(folder.path()));
        let (spool, _) = Spool::open(storage, "gw", SpoolOptions::default()).unwrap();
        let snapshot = Arc::new(Snapshot::from_bundle(bundle("one")).unwrap());
        let public = key().public_key().as_ref().try_into().unwrap();
        Sinks {
            installed: Arc::default(),
            keys: Keys::new(KeySet::empty(0)),
            point: EnforcementPoint::new(spool, snapshot, Arc::new(SystemClock)),
            memory: None,
            roots: Roots::new(Pki::new("local.dev.invalid").bundle(1)),
            serial: Mutex::default(),
            snapshot_key: Some(public),
        }
    }

    fn memory(folder: &tempfile::TempDir, gateway: &Name) -> Arc<Memory> {
        let log = countersign_ledger::note::SigningKey::from_seed("apart/log", &[8; 32]);
        let about = About {
            gateway: gateway.clone(),
            log: log.unwrap().verifier().clone(),
            snapshot_key: key().public_key().as_ref().try_into().unwrap(),
            witness_seed: [9; 32],
        };
        Memory::open(
            Some(Home::open(&folder.path().join("home")).unwrap()),
            about,
        )
        .unwrap()
    }

    fn signed(
        bundle: &Bundle,
        (serial, epoch): (u64, u64),
        predecessor: Option<&Bundle>,
    ) -> SignedSnapshot {
        let mut signed = SignedSnapshot {
            bundle: String::from_utf8(bundle.bytes()).unwrap(),
            epoch,
            predecessor: predecessor.map(Bundle::revision),
            serial,
            signature: String::new(),
        };
        signed.signature = STANDARD.encode(key().sign(&message(&signed)));
        signed
    }

    #[tokio::test]
    async fn a_successor_is_put_in_force_and_what_was_replaced_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let sinks = sinks(&folder);
        let (one, two, four) = (bundle("one"), bundle("two"), bundle("four"));
        let next = signed(&two, (2, 0), Some(&one));
        assert!(matches!(
            sinks.apply(Update::Snapshot(next.clone())),
            Next::Go
        ));
        // One in between was missed.
        sinks
            .snapshot(&signed(&four, (4, 0), Some(&bundle("three"))))
            .unwrap();
        assert!(matches!(
            sinks.snapshot(&next),
            Err(SnapshotError::Serial { given: 2, known: 4 })
        ));
        assert!(matches!(sinks.apply(Update::Snapshot(next)), Next::Later));
        assert_eq!(*sinks.point.snapshot().revision(), four.revision());
        // Back to it as a decision of today.
        sinks.snapshot(&signed(&two, (5, 0), Some(&four))).unwrap();
        assert_eq!(*sinks.point.snapshot().revision(), two.revision());
    }

    #[tokio::test]
    async fn what_is_not_ours_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut sinks = sinks(&folder);
        let (one, two) = (bundle("one"), bundle("two"));
        let good = signed(&two, (2, 1), Some(&one));
        let others = [
            SignedSnapshot {
                epoch: 2,
                ..good.clone()
            },
            SignedSnapshot {
                serial: 3,
                ..good.clone()
            },
            SignedSnapshot {
                predecessor: None,
                ..good.clone()
            },
            SignedSnapshot {
                bundle: String::from_utf8(bundle("three").bytes()).unwrap(),
                ..good.clone()
            },
        ];
        for other in others {
            assert!(matches!(
                sinks.snapshot(&other),
                Err(SnapshotError::Signature)
            ));
        }
        let production = Bundle {
            dev: false,
            ..bundle("two")
        };
        assert!(matches!(
            sinks.snapshot(&signed(&production, (2, 1), Some(&one))),
            Err(SnapshotError::Development)
        ));
        let line = |epoch| Revocation {
            at: Timestamp::from_secs(1),
            epoch,
            lifted: false,
            what: Revoked::Token("t".to_owned()),
        };
        sinks.point.revoke(&[line(1), line(2)]).unwrap();
        assert!(matches!(
            sinks.snapshot(&good),
            Err(SnapshotError::Epoch { given: 1, known: 2 })
        ));
        sinks.snapshot_key = None;
        assert!(matches!(
            sinks.snapshot(&signed(&two, (2, 2), Some(&one))),
            Err(SnapshotError::NoKey)
        ));
        assert_eq!(*sinks.point.snapshot().revision(), one.revision());
    }

    /// It was left and came back while nobody here listened.
    #[tokio::test]
    async fn a_policy_that_came_back_is_kept_under_the_serial_it_has_now() {
        let folder = tempfile::tempdir().unwrap();
        let mut sinks = sinks(&folder);
        let gateway = Name::new("gw1").unwrap();
        let one = Bundle {
            projection: Some(Projection {
                gateway: gateway.clone(),
                logins: Vec::new(),
                of: bundle("whole").revision(),
            }),
            ..bundle("one")
        };
        let snapshot = Arc::new(Snapshot::from_bundle(one.clone()).unwrap());
        sinks.point.install(&snapshot);
        let memory = memory(&folder, &gateway);
        memory.keep_snapshot(&signed(&one, (5, 0), None)).unwrap();
        sinks.memory = Some(memory);
        *sinks.serial.lock() = 5;
        let came_back = signed(&one, (7, 0), Some(&bundle("two")));
        let forged = SignedSnapshot {
            serial: 8,
            ..came_back.clone()
        };
        assert!(matches!(
            sinks.snapshot(&forged),
            Err(SnapshotError::Signature)
        ));
        assert_eq!(sinks.snapshot(&came_back).unwrap(), 0);
        assert_eq!(*sinks.serial.lock(), 7);
        // The next start finds what heartbeats say.
        let memory = self::memory(&folder, &gateway);
        assert_eq!(memory.serial(), 7);
        let kept = memory.kept_snapshot().unwrap().unwrap();
        assert_eq!(kept, came_back);
        assert!(matches!(
            sinks.snapshot(&signed(&one, (6, 0), None)),
            Err(SnapshotError::Serial { given: 6, known: 7 })
        ));
    }
}
