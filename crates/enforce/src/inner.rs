use crate::budgets::Budgets;
use crate::clock::Clock;
use crate::flood::Flood;
use crate::streams::Streams;
use crate::view::View;
use arc_swap::ArcSwap;
use countersign_ledger::spool::Spool;
use countersign_ledger::spool::SpoolError;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// What an enforcement point and the hops admitted at it share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) streams: Streams,
    pub(crate) budgets: Budgets,
    pub(crate) view: ArcSwap<View>,
    pub(crate) flood: Flood,
    pub(crate) spool: Spool,
    pub(crate) admitted: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) unrecorded: AtomicU64,
}

impl Inner {
    /// Appends without making anybody wait; a failure is logged, since nobody is left to tell.
    pub(crate) fn append_later(&self, record: Vec<u8>) {
        let failed =
            |error: SpoolError| tracing::error!(%error, "the ledger can't take a completion");
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            let _ = self.spool.append_blocking(record).map_err(failed);
            return;
        };
        let spool = self.spool.clone();
        runtime.spawn(async move { spool.append_reserved(record).await.map_err(failed) });
    }
}
