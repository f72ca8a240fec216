//! A spool that can't be read: going on without the damaged files, on the record.

use super::Apart;
use super::ApartError;
use super::Parts;
use super::lock;
use super::opened;
use super::parts;
use countersign_enforce::Clock;
use countersign_enforce::damage_record;
use countersign_ledger::spool;
use countersign_ledger::spool::SetAside;
use countersign_ledger::storage::FsStorage;
use futures_util::future::BoxFuture;
use std::path::Path;

impl Apart {
    /// Sets damaged files of this gateway's spool aside, where there are any, so that it can be
    /// started again; the first record after that says so. For when a start fails with
    /// [`SpoolError::Corrupt`](countersign_ledger::spool::SpoolError::Corrupt), and somebody
    /// decides to go on without what can't be read. The server is asked how much of it the log
    /// has.
    ///
    /// # Errors
    /// [`ApartError`].
    pub fn set_aside_damaged<'a>(
        folder: &'a Path,
        clock: &'a dyn Clock,
    ) -> BoxFuture<'a, Result<Option<SetAside>, ApartError>> {
        Box::pin(Self::set_aside(folder, clock))
    }

    async fn set_aside(folder: &Path, clock: &dyn Clock) -> Result<Option<SetAside>, ApartError> {
        let (home, join) = opened(folder)?;
        let _lock = lock(&home)?;
        let Parts { memory, plane, .. } = parts(&home, &join, clock)?;
        let logged = plane.position().await?;
        let (node, now) = (memory.gateway().clone(), clock.now());
        let work = move || {
            let actor = format!("gateway:{node}");
            let alarm = |done: &SetAside| damage_record(done, now, &actor).to_bytes();
            let storage = FsStorage::new(home.path());
            spool::set_aside(&storage, node.as_str(), Some(logged), alarm)
        };
        let done = tokio::task::spawn_blocking(work).await;
        Ok(done.map_err(|_| ApartError::Kept)??)
    }
}
