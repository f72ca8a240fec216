//! Secrets as the configuration names them: read wherever their value is, written in the vault.
//!
//! Who may is decided before anybody gets here.

use crate::secret_sources::SecretSources;
use crate::secret_sources::SourceError;
use crate::secret_sources::Sourced;
use crate::vault::SecretData;
use crate::vault::Vault;
use crate::vault::VaultError;
use crate::vault::Written;
use crate::whole::whole;
use countersign_core::config::Secret;
use countersign_core::config::SecretSource;
use countersign_core::record::Record;
use countersign_core::record::Resource;
use countersign_core::snapshot::Snapshot;
use countersign_enforce::EnforcementPoint;
use countersign_ledger::spool::SpoolError;
use countersign_wire::admin::SecretEntry;
use std::borrow::Cow;
use std::sync::Arc;

/// The secrets of this server.
#[derive(Debug)]
pub struct Secrets {
    point: EnforcementPoint,
    sources: SecretSources,
    vault: Arc<Vault>,
}

/// Why a secret was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Its value is in an environment variable or a file.
    #[error("this secret's value is not in the vault")]
    Elsewhere,
    /// The vault's reason.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// It was written, but the log has no record of it.
    #[error("the write was not recorded: {0}")]
    Unrecorded(#[from] SpoolError),
}

impl Secrets {
    pub(crate) fn new(point: EnforcementPoint, vault: Arc<Vault>) -> Self {
        Self {
            point,
            sources: SecretSources::new(vault.clone()),
            vault,
        }
    }

    /// The value now; the newest version if none is asked for.
    ///
    /// # Errors
    /// [`SourceError`]; [`SourceError::is_not_found`] tells what is not there.
    pub async fn read(
        &self,
        secret: &Secret,
        version: Option<u64>,
    ) -> Result<Sourced, SourceError> {
        self.sources.read(&secret.from, version).await
    }

    /// Writes a version, and what the log needs to tell it from any other: never the value. Both,
    /// even if nobody waits for it any more. `actor` is for the record.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn write(
        &self,
        name: &str,
        secret: &Secret,
        data: SecretData,
        cas: Option<u64>,
        actor: &str,
    ) -> Result<Written, WriteError> {
        let SecretSource::Store(path) = &secret.from else {
            return Err(WriteError::Elsewhere);
        };
        let (path, id, actor) = (path.clone(), format!("vault/{name}"), actor.to_owned());
        let (point, vault) = (self.point.clone(), self.vault.clone());
        whole(async move {
            let written = vault.put(&path, &data, cas, point.now()).await?;
            record(&point, &written, &id, &actor).await?;
            Ok(written)
        })
        .await
    }

    /// What the configuration names, without a value.
    ///
    /// # Errors
    /// The vault's.
    pub async fn list(&self, snapshot: &Snapshot) -> Result<Vec<SecretEntry>, VaultError> {
        let mut entries = Vec::new();
        for (name, secret) in &snapshot.config().secrets {
            let mut entry = SecretEntry {
                name: name.to_string(),
                updated: None,
                version: 0,
            };
            if let SecretSource::Store(path) = &secret.from {
                match self.vault.metadata(path).await {
                    Ok(known) => {
                        entry.updated = Some(known.updated);
                        entry.version = known.version;
                    }
                    Err(VaultError::NotFound) => {}
                    Err(error) => return Err(error),
                }
            }
            entries.push(entry);
        }
        Ok(entries)
    }
}

async fn record(
    point: &EnforcementPoint,
    written: &Written,
    id: &str,
    actor: &str,
) -> Result<(), SpoolError> {
    let resource = Resource {
        id: Cow::Borrowed(id),
        service: Cow::Borrowed("vault"),
    };
    let mut record = Record::event("secret.version.write", written.created, actor, resource);
    let metadata = [
        ("ciphertext", written.ciphertext.to_string()),
        ("path_commitment", written.path_commitment.to_string()),
        ("version", written.version.to_string()),
    ];
    for (name, value) in metadata {
        record
            .metadata
            .insert(Cow::Borrowed(name), Cow::Owned(value));
    }
    point.record_event(&record).await.map(|_| ())
}
