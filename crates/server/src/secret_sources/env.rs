//! `env: VARIABLE`: an environment variable of the server.

use super::Reading;
use super::Source;
use super::SourceError;
use super::unversioned;
use secrecy::SecretString;

pub(super) struct Variable {
    pub(super) name: String,
}

impl Source for Variable {
    fn read(&self, version: Option<u64>) -> Reading<'_> {
        Box::pin(async move {
            let value = std::env::var(&self.name);
            let value = value.map_err(|_| SourceError::Env(self.name.clone()))?;
            unversioned(SecretString::from(value), version)
        })
    }
}
