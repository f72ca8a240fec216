//! The built-in vault: named secrets with versions (Vault's KV version 2), sealed at rest.
//!
//! A path has a data key of its own, wrapped under the root key; each version is AES-256-GCM under
//! that key and bound to path and version, so a row that is moved does not open; and what is in
//! the store is compared with codes that only the root key makes (`heads`), so a row that is
//! edited, put back or removed is found when it is read. Who may read is decided elsewhere.

mod data;
mod heads;

pub use data::SecretData;
pub use data::VALUE;

use self::heads::Codes;
use self::heads::Heads;
use crate::keys::Cipher;
use crate::keys::RootKey;
use crate::keys::SealError;
use crate::keys::binding;
use crate::store;
use crate::store::HeadRow;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::VersionRow;
use aws_lc_rs::digest;
use aws_lc_rs::rand;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Timestamp;
use std::fmt;
use std::sync::Arc;
use tokio::sync::OwnedRwLockReadGuard;
use tokio::sync::OwnedRwLockWriteGuard;
use tokio::sync::RwLock;
use zeroize::Zeroizing;

/// How many versions of a secret are kept.
pub const MAX_VERSIONS: usize = 10;

/// The longest path.
const MAX_PATH: usize = 512;

/// Why a secret can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// There is no such secret, or no such version of it.
    #[error("no such secret or version")]
    NotFound,
    /// Another version is the newest. The words are Vault's.
    #[error("check-and-set parameter did not match the current version")]
    CasMismatch,
    /// No fields, or not an object of them. The words are Vault's.
    #[error("no data provided")]
    NoData,
    /// More than 512 KiB.
    #[error("a secret has at most 512 KiB")]
    TooLarge,
    /// No path of a secret.
    #[error("`{0}` is no name of a secret")]
    Path(String),
    /// What is in the store is not what was written there.
    #[error("the store of secrets was changed behind the vault's back: {0}")]
    Tampered(Tampering),
    /// The process is ending.
    #[error("interrupted: the process is ending")]
    Interrupted,
    /// Sealing or opening failed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Which change was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Tampering {
    /// The head of this path is another one than was written last, or gone.
    #[error("the head of `{0}` was edited, put back or removed")]
    Head(String),
    /// A version of this path is another one than was written.
    #[error("version `{version}` of `{path}` was edited, moved or removed")]
    Version {
        /// The path.
        path: String,
        /// The version.
        version: u64,
    },
    /// Rows were put back, added or removed while no server ran.
    #[error("rows were put back, added or removed while no server ran")]
    Table,
}

/// A version of a secret, in the clear.
#[derive(Clone, Debug)]
pub struct Secret {
    /// Its fields.
    pub data: SecretData,
    /// Which version.
    pub version: u64,
    /// When it was written.
    pub created: Timestamp,
}

/// A secret was written. All of it goes into the log, and none of it is secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The version it got.
    pub version: u64,
    /// When.
    pub created: Timestamp,
    /// A name for the path that only the root key makes.
    pub path_commitment: Digest,
    /// SHA-256 of the ciphertext.
    pub ciphertext: Digest,
}

/// What is known of a secret without opening it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Its path.
    pub path: String,
    /// The newest version.
    pub version: u64,
    /// When that was written.
    pub updated: Timestamp,
    /// The versions kept and when they were written, oldest first.
    pub versions: Vec<(u64, Timestamp)>,
}

/// The vault.
pub struct Vault {
    store: Store,
    codes: Codes,
    wrapping: Cipher,
    heads: Arc<RwLock<State>>,
}

struct State {
    heads: Heads,
    /// Whether a write failed, so that only the database knows what it holds.
    uncertain: bool,
}

/// A head that is genuine, and its versions.
type Genuine = (HeadRow, Vec<VersionRow>);

impl Vault {
    /// The vault in this store.
    ///
    /// It opens even if its rows were tampered with, so that the rest of the server runs; reading
    /// then says so. See [`Self::is_intact`].
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn open(store: Store, root: &RootKey) -> Result<Self, VaultError> {
        let codes = Codes::new(root)?;
        let heads = Heads::load(&store, &codes).await?;
        if heads.broken {
            tracing::error!("{}", VaultError::Tampered(Tampering::Table));
        }
        let heads = Arc::new(RwLock::new(State {
            heads,
            uncertain: false,
        }));
        let wrapping = root.cipher("vault data key/v1")?;
        Ok(Self {
            store,
            codes,
            wrapping,
            heads,
        })
    }

    /// Whether the rows on disk were those that had been written, when the vault was opened.
    pub async fn is_intact(&self) -> bool {
        !self.heads.read().await.heads.broken
    }

    /// Writes a new version. With `cas`, only if that is the newest version now; 0 is for a secret
    /// that does not exist.
    ///
    /// # Errors
    /// [`VaultError`]; nothing has changed then.
    pub async fn put(
        &self,
        path: &str,
        data: &SecretData,
        cas: Option<u64>,
        now: Timestamp,
    ) -> Result<Written, VaultError> {
        check_path(path)?;
        let mut state = self.certain().await?;
        let before = self.genuine(&state.heads, path).await?;
        let current = before.as_ref().map_or(0, |(head, _)| head.version);
        if cas.is_some_and(|cas| cas != current) {
            return Err(VaultError::CasMismatch);
        }
        let (data_key, mut versions) = match before {
            Some((head, versions)) => (head.data_key, versions),
            None => (self.new_data_key(path)?, Vec::new()),
        };
        let version = current + 1;
        let cipher = self.data_cipher(path, &data_key)?;
        let ciphertext = cipher.seal(&version_binding(path, version), data.expose_json())?;
        let row = VersionRow {
            version,
            created: now,
            digest: sha256(&ciphertext),
        };
        versions.push(row.clone());
        let surplus = versions.len().saturating_sub(MAX_VERSIONS);
        versions.drain(..surplus);
        let oldest = versions.first().map_or(version, |first| first.version);
        let mut head = HeadRow {
            path: path.to_owned(),
            version,
            updated: now,
            data_key,
            mac: Digest::new([0; 32]),
        };
        head.mac = self.codes.head(&head, &versions);
        let (heads, table) = state.heads.after(path, head.mac, &self.codes);
        let (store, digest) = (self.store.clone(), row.digest);
        // In a task of its own, so that a caller who goes away does not leave the codes behind
        // what the database is still writing.
        let write = async move {
            state.uncertain = true;
            let mut transaction = store.begin().await?;
            store::write_secret(&mut transaction, &head, &row, &ciphertext, oldest, &table).await?;
            transaction.commit().await.map_err(StoreError::from)?;
            *state = State {
                heads,
                uncertain: false,
            };
            Ok::<(), VaultError>(())
        };
        tokio::spawn(write)
            .await
            .map_err(|_| VaultError::Interrupted)??;
        let path_commitment = self.codes.path(path);
        Ok(Written {
            version,
            created: now,
            path_commitment,
            ciphertext: digest,
        })
    }

    /// Reads a version; the newest if none is asked for (or 0, as Vault has it).
    ///
    /// # Errors
    /// [`VaultError::NotFound`], [`VaultError::Tampered`] and the others.
    pub async fn get(&self, path: &str, version: Option<u64>) -> Result<Secret, VaultError> {
        let state = self.known().await?;
        let (head, versions) = self
            .genuine(&state.heads, path)
            .await?
            .ok_or(VaultError::NotFound)?;
        let version = version
            .filter(|version| *version > 0)
            .unwrap_or(head.version);
        let row = versions
            .iter()
            .find(|row| row.version == version)
            .ok_or(VaultError::NotFound)?;
        let tampered = || {
            let path = path.to_owned();
            VaultError::Tampered(Tampering::Version { path, version })
        };
        let ciphertext = self.store.secret_ciphertext(path, version).await?;
        drop(state);
        let ciphertext = ciphertext.ok_or_else(tampered)?;
        if sha256(&ciphertext) != row.digest {
            return Err(tampered());
        }
        let cipher = self.data_cipher(path, &head.data_key)?;
        let plain = cipher.open(&version_binding(path, version), &ciphertext);
        let data = SecretData::from_json(plain.ok_or_else(tampered)?)?;
        Ok(Secret {
            data,
            version,
            created: row.created,
        })
    }

    /// What is known of a secret without opening it.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn metadata(&self, path: &str) -> Result<Metadata, VaultError> {
        let state = self.known().await?;
        let (head, versions) = self
            .genuine(&state.heads, path)
            .await?
            .ok_or(VaultError::NotFound)?;
        Ok(Metadata {
            path: head.path,
            version: head.version,
            updated: head.updated,
            versions: versions
                .into_iter()
                .map(|row| (row.version, row.created))
                .collect(),
        })
    }

    /// All secrets, without opening any.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn list(&self) -> Result<Vec<Metadata>, VaultError> {
        let paths: Vec<String> = self.known().await?.heads.codes.keys().cloned().collect();
        let mut list = Vec::with_capacity(paths.len());
        for path in paths {
            list.push(self.metadata(&path).await?);
        }
        Ok(list)
    }

    /// The rows of a path, if they are what was written last.
    async fn genuine(&self, heads: &Heads, path: &str) -> Result<Option<Genuine>, VaultError> {
        if heads.broken {
            return Err(VaultError::Tampered(Tampering::Table));
        }
        let tampered = || VaultError::Tampered(Tampering::Head(path.to_owned()));
        match (heads.codes.get(path), self.store.secret(path).await?) {
            (None, None) => Ok(None),
            (Some(code), Some((head, versions)))
                if *code == head.mac && self.codes.head(&head, &versions) == *code =>
            {
                Ok(Some((head, versions)))
            }
            _ => Err(tampered()),
        }
    }

    fn new_data_key(&self, path: &str) -> Result<Vec<u8>, VaultError> {
        let mut key = Zeroizing::new([0; 32]);
        rand::fill(key.as_mut()).map_err(|_| SealError::Crypto)?;
        Ok(self
            .wrapping
            .seal(&binding(&["data key", path]), key.as_ref())?)
    }

    fn data_cipher(&self, path: &str, wrapped: &[u8]) -> Result<Cipher, VaultError> {
        let tampered = || VaultError::Tampered(Tampering::Head(path.to_owned()));
        let opened = self.wrapping.open(&binding(&["data key", path]), wrapped);
        let opened = opened.ok_or_else(tampered)?;
        let mut key = Zeroizing::new([0; 32]);
        if opened.len() != key.len() {
            return Err(tampered());
        }
        key.copy_from_slice(&opened);
        Ok(Cipher::new(&key)?)
    }

    /// The codes, for reading. They are right as long as the guard is held.
    async fn known(&self) -> Result<OwnedRwLockReadGuard<State>, VaultError> {
        let state = self.heads.clone().read_owned().await;
        if !state.uncertain {
            return Ok(state);
        }
        drop(state);
        Ok(self.certain().await?.downgrade())
    }

    /// The codes, for writing, read again after a write that failed.
    async fn certain(&self) -> Result<OwnedRwLockWriteGuard<State>, VaultError> {
        let mut state = self.heads.clone().write_owned().await;
        if state.uncertain {
            state.heads = Heads::load(&self.store, &self.codes).await?;
            state.uncertain = false;
        }
        Ok(state)
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault")
    }
}

/// Segments of letters, digits, `-`, `_` and `.`, none of them `.` or `..`.
fn check_path(path: &str) -> Result<(), VaultError> {
    let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let segment =
        |part: &str| !part.is_empty() && !matches!(part, "." | "..") && part.bytes().all(word);
    if path.len() <= MAX_PATH && path.split('/').all(segment) {
        Ok(())
    } else {
        let shown = path.escape_debug().take(128).collect();
        Err(VaultError::Path(shown))
    }
}

fn version_binding(path: &str, version: u64) -> Vec<u8> {
    binding(&["version", path, &version.to_string()])
}

fn sha256(bytes: &[u8]) -> Digest {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    Digest::new(hash)
}
