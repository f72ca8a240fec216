//! `store: NAME`: the built-in vault.

use super::Reading;
use super::Source;
use super::Sourced;
use crate::vault::Vault;
use std::sync::Arc;

pub(super) struct Stored {
    pub(super) vault: Arc<Vault>,
    pub(super) path: String,
}

impl Source for Stored {
    fn read(&self, version: Option<u64>) -> Reading<'_> {
        Box::pin(async move {
            let secret = self.vault.get(&self.path, version).await?;
            let (data, version, created) = (secret.data, secret.version, Some(secret.created));
            Ok(Sourced {
                data,
                version,
                created,
            })
        })
    }
}
