//! What the control plane says, put in force.
//!
//! In one process with the server all of it is in force already, and saying it again changes
//! nothing.

use aws_lc_rs::signature::ED25519;
use aws_lc_rs::signature::UnparsedPublicKey;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_core::snapshot::Bundle;
use countersign_core::snapshot::Snapshot;
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
use std::sync::Arc;
use std::time::Duration;

/// What updates are put into.
#[derive(Debug)]
pub(crate) struct Sinks {
    pub(crate) keys: Arc<Keys>,
    pub(crate) point: EnforcementPoint,
    pub(crate) roots: Arc<Roots>,
    pub(crate) snapshot_key: Option<[u8; 32]>,
}

/// Why a snapshot is not put in force.
#[derive(Debug, thiserror::Error)]
enum SnapshotError {
    #[error("its epoch `{given}` is below `{known}`")]
    Epoch { given: u64, known: u64 },
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
}

impl Next {
    const fn is_again(&self) -> bool {
        matches!(self, Self::Again)
    }
}

/// How long to wait before asking again where the stream of updates ended.
const AGAIN: Duration = Duration::from_millis(250);

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
    loop {
        let state = sinks.point.state();
        let revision = Some(*state.snapshot.revision());
        let known = Known {
            epoch: state.revocations.epoch(),
            revision,
        };
        drop(state);
        let mut updates = control.updates(known);
        while let Some(update) = updates.next().await {
            if sinks.apply(update).is_again() {
                break;
            }
        }
        tracing::warn!("the control plane is away");
        tokio::time::sleep(AGAIN).await;
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
                Ok(ended) => tracing::info!(ended, "another policy is in force"),
                Err(error) => tracing::error!(%error, "a snapshot was refused"),
            },
            Update::Keys(document) => self.keys(&document),
            Update::Roots(pem) => self.roots(&pem),
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
        if bundle.revision() == *state.snapshot.revision() {
            return Ok(0);
        }
        let key = self.snapshot_key.ok_or(SnapshotError::NoKey)?;
        let signature = STANDARD
            .decode(&signed.signature)
            .map_err(|_| SnapshotError::Signature)?;
        let verified = UnparsedPublicKey::new(&ED25519, key).verify(&message(signed), &signature);
        verified.map_err(|_| SnapshotError::Signature)?;
        Ok(self
            .point
            .install(&Arc::new(Snapshot::from_bundle(bundle)?)))
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
            Ok(next) => self.roots.replace(next),
            Err(error) => tracing::error!(%error, "a trust bundle was refused"),
        }
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
        "countersign-snapshot/v1\n{}\n{predecessor}\n{hash}\n",
        signed.epoch
    )
    .into_bytes()
}
