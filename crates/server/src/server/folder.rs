//! The data folder: whose it is, and that nobody else's process uses it.

use super::ServerError;
use countersign_core::config::Environment;
use countersign_core::vocabulary::TrustDomain;
use countersign_ledger::storage::FsStorage;
use countersign_ledger::storage::Lock;
use countersign_ledger::storage::Storage as _;
use countersign_ledger::storage::StorageError;
use serde::Deserialize;
use serde::Serialize;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

/// What a data folder remembers of its deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Deployment {
    environment: Environment,
    trust_domain: String,
}

const FILE: &str = "deployment.json";
const LOCK: &str = "lock";

/// Makes the folder, or finds in it the same deployment as last time. It is this process's alone
/// for as long as what this returns is held.
pub(super) fn claim(
    data: &Path,
    domain: &TrustDomain,
    environment: Environment,
) -> Result<Box<dyn Lock>, ServerError> {
    let lock = lock(data)?;
    belongs(data, domain, environment)?;
    Ok(lock)
}

fn lock(data: &Path) -> Result<Box<dyn Lock>, ServerError> {
    let failed = |source| ServerError::Folder {
        path: data.to_owned(),
        source,
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .map_err(failed)?;
    FsStorage::new(data)
        .lock(LOCK)
        .map_err(|error| match error {
            StorageError::Locked { .. } => ServerError::InUse(data.to_owned()),
            other => failed(io::Error::other(other)),
        })
}

fn belongs(data: &Path, domain: &TrustDomain, environment: Environment) -> Result<(), ServerError> {
    let failed = |source| ServerError::Folder {
        path: data.to_owned(),
        source,
    };
    let ours = Deployment {
        environment,
        trust_domain: domain.as_str().to_owned(),
    };
    let path = data.join(FILE);
    match std::fs::read(&path) {
        Ok(bytes) => {
            let found: Deployment = serde_json::from_slice(&bytes)
                .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error)))?;
            if found == ours {
                return Ok(());
            }
            Err(ServerError::OtherDeployment {
                path: data.to_owned(),
                found: named(&found),
                wanted: named(&ours),
            })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let text = serde_json::to_vec(&ours)
                .map_err(io::Error::from)
                .map_err(failed)?;
            let fresh = data.join(format!("{FILE}.new"));
            std::fs::write(&fresh, text).map_err(failed)?;
            std::fs::rename(&fresh, &path).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

fn named(deployment: &Deployment) -> String {
    let environment = match deployment.environment {
        Environment::Dev => "dev",
        Environment::Prod => "prod",
    };
    format!("{} ({environment})", deployment.trust_domain)
}
