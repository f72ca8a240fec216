//! Where secrets come from, a file per kind.
//!
//! A new kind is one file here, its arm in `SecretSources::of`, and its form in the
//! configuration.

mod env;
mod file;
mod store;

use crate::vault::SecretData;
use crate::vault::Vault;
use crate::vault::VaultError;
use countersign_core::config::SecretSource;
use countersign_core::vocabulary::Timestamp;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

/// One kind of source, for one secret.
trait Source: Send {
    /// Reads it now. Kinds without versions refuse any but the newest.
    fn read(&self, version: Option<u64>) -> Reading<'_>;
}

/// A secret on its way out of a source.
type Reading<'a> = Pin<Box<dyn Future<Output = Result<Sourced, SourceError>> + Send + 'a>>;

/// A secret as its source has it now.
#[derive(Clone, Debug)]
pub struct Sourced {
    /// Its fields.
    pub data: SecretData,
    /// Its version; 0 where the source keeps none.
    pub version: u64,
    /// When it was written, where the source knows.
    pub created: Option<Timestamp>,
}

/// Why a source does not give a secret. None of it tells anything of the value.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The vault's reason.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The environment variable is not set, or not text.
    #[error("environment variable `{0}` is not set to a text")]
    Env(String),
    /// The file can't be read.
    #[error("can't read `{path}`")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A kind of source that is not in this build.
    #[error("secrets of another store are not in this build")]
    NotInBuild,
    /// The file is not text, or too long.
    #[error("`{0}` is not a text of at most 64 KiB")]
    Text(String),
}

impl SourceError {
    /// Whether there is just no such secret or version, as opposed to a failure.
    #[must_use]
    pub const fn is_not_found(&self) -> bool {
        matches!(self, Self::Vault(VaultError::NotFound) | Self::Env(_))
    }
}

/// Reads secrets wherever the configuration says they are.
#[derive(Clone, Debug)]
pub struct SecretSources {
    vault: Arc<Vault>,
}

impl SecretSources {
    /// With this vault for `store:`.
    #[must_use]
    pub const fn new(vault: Arc<Vault>) -> Self {
        Self { vault }
    }

    /// Reads a secret; the newest version if none is asked for.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn read(
        &self,
        source: &SecretSource,
        version: Option<u64>,
    ) -> Result<Sourced, SourceError> {
        let source = self.of(source)?;
        source.read(version).await
    }

    fn of(&self, source: &SecretSource) -> Result<Box<dyn Source>, SourceError> {
        Ok(match source {
            SecretSource::Store(path) => Box::new(store::Stored {
                vault: self.vault.clone(),
                path: path.clone(),
            }),
            SecretSource::Env(variable) => Box::new(env::Variable {
                name: variable.clone(),
            }),
            SecretSource::File(path) => Box::new(file::TextFile { path: path.clone() }),
            SecretSource::Vault(_) | SecretSource::Aws(_) | SecretSource::K8s(_) => {
                return Err(SourceError::NotInBuild);
            }
        })
    }
}

/// A single value without versions.
fn unversioned(value: secrecy::SecretString, version: Option<u64>) -> Result<Sourced, SourceError> {
    if version.is_some_and(|version| version > 0) {
        return Err(VaultError::NotFound.into());
    }
    Ok(Sourced {
        data: SecretData::from_value(value)?,
        version: 0,
        created: None,
    })
}
