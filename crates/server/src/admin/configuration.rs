//! The configurations that were in force, as they were written.

use super::AdminError;
use super::Operator;
use super::done;
use countersign_core::snapshot::Bundle;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Operation;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;

/// `GET /v1/admin/configuration[/REVISION]`: the files of a configuration. They hold no secret:
/// secrets come into a configuration by name only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// Whether it decides in development only.
    pub dev: bool,
    /// The file to start from.
    pub entry: String,
    /// The files by name.
    pub files: BTreeMap<String, String>,
    /// Its revision.
    pub revision: Digest,
}

/// The fewest digits of a revision that name it.
const DIGITS: usize = 8;

impl Operator {
    /// The configuration in force, or the kept one of a revision, whose first digits suffice for
    /// the one in force. Decided, and so recorded, as `admin configuration` of `console`.
    ///
    /// # Errors
    /// [`AdminError::NotFound`] if no such revision is kept, and the others.
    pub async fn configuration(&self, revision: Option<&str>) -> Result<Configuration, AdminError> {
        let admitted = self
            .ask("console", Operation::named("admin", "configuration"))
            .await?;
        let found = self.kept(revision);
        done(&admitted, found)
    }

    fn kept(&self, revision: Option<&str>) -> Result<Configuration, AdminError> {
        let running = self.desk.point.snapshot();
        let is_running = revision
            .is_none_or(|it| it.len() >= DIGITS && running.revision().to_string().starts_with(it));
        if is_running {
            return Ok(Configuration::of(running.bundle(), *running.revision()));
        }
        let revision = revision.unwrap_or_default();
        let digest = Digest::from_hex(revision).map_err(|_| {
            AdminError::Invalid(
                "a revision is 64 hex digits, or the first of the running one".to_owned(),
            )
        })?;
        let bundle = self.desk.snapshots.read(&digest)?;
        Ok(Configuration::of(&bundle, digest))
    }
}

impl Configuration {
    fn of(bundle: &Bundle, revision: Digest) -> Self {
        Self {
            dev: bundle.dev,
            entry: bundle.entry.clone(),
            files: bundle.files.clone(),
            revision,
        }
    }
}
