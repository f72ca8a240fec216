//! A spool that can't be read: going on without the damaged files, on the record.

use super::ServerError;
use super::ServerOptions;
use super::folder;
use crate::keys;
use crate::keys::FileSeal;
use crate::keys::KeyFolder;
use crate::reload;
use countersign_enforce::Clock;
use countersign_enforce::damage_record;
use countersign_ledger::log::Log;
use countersign_ledger::log::LogError;
use countersign_ledger::spool;
use countersign_ledger::spool::Head;
use countersign_ledger::spool::SetAside;
use countersign_ledger::storage::FsStorage;
use countersign_ledger::storage::Storage;
use std::sync::Arc;

/// In the record, who did it: whoever starts the process.
const STARTER: &str = "start";

pub(super) async fn set_aside(
    options: &ServerOptions,
    clock: &dyn Clock,
) -> Result<Option<SetAside>, ServerError> {
    let draft = reload::compile(options.bundle.clone())?;
    let (domain, environment) = (
        draft.config().trust_domain.clone(),
        draft.config().environment,
    );
    let _lock = folder::claim(&options.data, &domain, environment)?;
    let sealed = options.data.join("keys");
    let keys = KeyFolder::open(&sealed, &FileSeal::new(sealed.join("root.key")))?;
    let key = keys::log_key(&keys, &domain)?;
    let origin = keys::log_name(&domain);
    let (data, node, now) = (options.data.clone(), options.node.clone(), clock.now());
    let work = move || {
        let storage: Arc<dyn Storage> = Arc::new(FsStorage::new(data));
        let log = Log::open(storage.clone(), &origin, key);
        let position = log.map_err(Failed::Log)?.position(node.as_str());
        let logged = position.map(|it| Head {
            hash: it.hash,
            next: it.next,
        });
        let alarm = |done: &SetAside| damage_record(done, now, STARTER).to_bytes();
        spool::set_aside(&*storage, node.as_str(), logged, alarm).map_err(Failed::Spool)
    };
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| ServerError::NotStarted)?
        .map_err(|error| match error {
            Failed::Log(error) => ServerError::Audit(error.into()),
            Failed::Spool(error) => ServerError::Spool(error),
        })
}

enum Failed {
    Log(LogError),
    Spool(spool::SpoolError),
}
