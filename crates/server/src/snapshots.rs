//! Policy snapshots: every bundle that ever decided something, by its hash.
//!
//! `snapshots/<sha256>` is written once and never changed. Which revision is active is in the
//! store, where one replaces another by compare-and-swap; what goes to enforcement points is
//! signed, with the epoch of revocations and the predecessor.

use crate::keys::SnapshotKey;
use crate::store::Activation;
use crate::store::Store;
use crate::store::StoreError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_core::snapshot::Bundle;
use countersign_core::snapshot::BundleError;
use countersign_core::snapshot::Snapshot;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::Timestamp;
use countersign_ledger::storage::Storage;
use countersign_ledger::storage::StorageError;
use countersign_wire::control::SignedHeartbeat;
use countersign_wire::control::SignedSnapshot;
use std::sync::Arc;

/// The number in the store that signed epochs never fall below.
const EPOCH: &str = "snapshot-epoch";

/// Why a snapshot can't be kept, read, activated or signed.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// No bundle of this revision is kept.
    #[error("no bundle of revision `{0}` is kept")]
    Unknown(Digest),
    /// The kept file is not what its name says.
    #[error("the kept bundle is not usable: {0}")]
    Bundle(#[from] BundleError),
    /// Another revision has become active meanwhile.
    #[error("revision `{active}` has become active meanwhile")]
    Superseded {
        /// The one that is active.
        active: Digest,
    },
    /// No revision is active.
    #[error("no revision is active")]
    Inactive,
    /// A higher epoch was signed before.
    #[error("epoch `{0}` is lower than one signed before")]
    Epoch(u64),
    /// The folder can't be read or written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The kept snapshots.
#[derive(Debug)]
pub struct Snapshots {
    storage: Arc<dyn Storage>,
    store: Store,
    key: SnapshotKey,
    turn: tokio::sync::Mutex<()>,
}

impl Snapshots {
    /// Below this storage, in `snapshots/`.
    #[must_use]
    pub fn new(storage: Arc<dyn Storage>, store: Store, key: SnapshotKey) -> Self {
        Self {
            storage,
            store,
            key,
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// Held while a policy or a revocation is put in force, so that everybody is told of both in
    /// one order, and nothing is signed that is active and not yet in force.
    pub(crate) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// The public key that verifies signed snapshots, 32 bytes (Ed25519).
    #[must_use]
    pub fn public_key(&self) -> &[u8] {
        self.key.public()
    }

    /// Keeps a bundle and returns its revision when it is durable.
    ///
    /// # Errors
    /// [`SnapshotError::Bundle`] if what is kept under this name is something else, and
    /// [`SnapshotError::Storage`].
    pub fn keep(&self, bundle: &Bundle) -> Result<Digest, SnapshotError> {
        let bytes = bundle.bytes();
        let revision = bundle.revision();
        match self.storage.read(&path(&revision))? {
            Some(kept) => {
                Bundle::read(&kept, &revision)?;
            }
            None => self.storage.replace(&path(&revision), &bytes)?,
        }
        Ok(revision)
    }

    /// A kept bundle.
    ///
    /// # Errors
    /// [`SnapshotError::Unknown`], [`SnapshotError::Bundle`] if it was changed.
    pub fn read(&self, revision: &Digest) -> Result<Bundle, SnapshotError> {
        let bytes = self.storage.read(&path(revision))?;
        let bytes = bytes.ok_or(SnapshotError::Unknown(*revision))?;
        Ok(Bundle::read(&bytes, revision)?)
    }

    /// The active revision.
    ///
    /// # Errors
    /// [`SnapshotError::Store`].
    pub async fn active(&self) -> Result<Option<Activation>, SnapshotError> {
        Ok(self.store.active().await?)
    }

    /// Makes a kept revision active in place of `expected`.
    ///
    /// # Errors
    /// [`SnapshotError::Unknown`] if it is not kept, [`SnapshotError::Superseded`] if another one
    /// than expected is active.
    pub async fn activate(
        &self,
        expected: Option<&Digest>,
        revision: &Digest,
        actor: &str,
        now: Timestamp,
    ) -> Result<Activation, SnapshotError> {
        self.read(revision)?;
        if let Some(activation) = self.store.activate(expected, revision, actor, now).await? {
            return Ok(activation);
        }
        let active = self.store.active().await?.ok_or(SnapshotError::Inactive)?;
        Err(SnapshotError::Superseded {
            active: active.revision,
        })
    }

    /// Notes what a start has to know of a policy that is about to be active, should its bundle be
    /// lost or no longer be understood: whether changes of it need a second person.
    ///
    /// # Errors
    /// [`SnapshotError::Store`].
    pub(crate) async fn note(&self, snapshot: &Snapshot) -> Result<(), SnapshotError> {
        let governed = !snapshot.config().change.approve.is_empty();
        let revision = snapshot.revision();
        Ok(self.store.note_governed(revision, governed).await?)
    }

    /// Signs the active revision at this epoch.
    ///
    /// # Errors
    /// [`SnapshotError::Epoch`] for an epoch below one that was signed before.
    pub async fn sign(&self, epoch: u64) -> Result<SignedSnapshot, SnapshotError> {
        let active = self.store.active().await?.ok_or(SnapshotError::Inactive)?;
        self.sign_as(epoch, active.predecessor, &active.revision)
            .await
    }

    /// Signs a kept revision, about to be active in place of `predecessor`, at this epoch.
    ///
    /// # Errors
    /// [`SnapshotError::Unknown`] if it is not kept, and those of [`Self::sign`].
    pub(crate) async fn sign_as(
        &self,
        epoch: u64,
        predecessor: Option<Digest>,
        revision: &Digest,
    ) -> Result<SignedSnapshot, SnapshotError> {
        let bundle = self.read(revision)?.bytes();
        if !self.store.raise(EPOCH, epoch).await? {
            return Err(SnapshotError::Epoch(epoch));
        }
        let serial = match self.store.active().await? {
            Some(active) if active.revision == *revision => active.serial,
            active => active.map_or(0, |active| active.serial) + 1,
        };
        let place = Place {
            epoch,
            predecessor,
            serial,
        };
        Ok(self.signed(&bundle, revision, &place))
    }

    /// Keeps the part of a signed snapshot that one gateway gets, and signs it in the same place.
    ///
    /// # Errors
    /// As [`Self::keep`].
    pub(crate) fn sign_part(
        &self,
        whole: &SignedSnapshot,
        part: &Bundle,
    ) -> Result<SignedSnapshot, SnapshotError> {
        let revision = self.keep(part)?;
        let place = Place {
            epoch: whole.epoch,
            predecessor: whole.predecessor,
            serial: whole.serial,
        };
        Ok(self.signed(&part.bytes(), &revision, &place))
    }

    /// The signature of a heartbeat of one gateway's stream, base64.
    pub(crate) fn sign_beat(
        &self,
        beat: &SignedHeartbeat,
        gateway: &Name,
        nonce: &Digest,
    ) -> String {
        let message = beat.message(gateway, nonce);
        STANDARD.encode(self.key.sign(message.as_bytes()))
    }

    fn signed(&self, bundle: &[u8], revision: &Digest, place: &Place) -> SignedSnapshot {
        let message = signed_message(place, revision);
        let Place {
            epoch,
            predecessor,
            serial,
        } = *place;
        SignedSnapshot {
            bundle: String::from_utf8_lossy(bundle).into_owned(),
            epoch,
            predecessor,
            serial,
            signature: STANDARD.encode(self.key.sign(message.as_bytes())),
        }
    }
}

/// Where a snapshot stands among the others.
struct Place {
    epoch: u64,
    predecessor: Option<Digest>,
    serial: u64,
}

/// What the signature of a snapshot is over.
fn signed_message(place: &Place, revision: &Digest) -> String {
    let Place {
        epoch,
        predecessor,
        serial,
    } = place;
    let predecessor = predecessor.map_or_else(|| "-".to_owned(), |it| it.to_string());
    format!("countersign-snapshot/v1\n{serial}\n{epoch}\n{predecessor}\n{revision}\n")
}

fn path(revision: &Digest) -> String {
    format!("snapshots/{revision}")
}
