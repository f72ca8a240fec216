use crate::budgets::Budgets;
use crate::clock::Clock;
use crate::excess::Excess;
use crate::flood::Flood;
use crate::observe::Observer;
use crate::rates::Rates;
use crate::streams::Streams;
use crate::tasks::Tasks;
use crate::view::View;
use crate::view::Wall;
use arc_swap::ArcSwap;
use arc_swap::ArcSwapOption;
use countersign_core::vocabulary::Timestamp;
use countersign_ledger::spool::Spool;
use std::future::Future;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use tokio::sync::watch;

/// What an enforcement point and the hops admitted at it share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) streams: Streams,
    pub(crate) budgets: Arc<Budgets>,
    pub(crate) rates: Rates,
    pub(crate) view: ArcSwap<View>,
    pub(crate) wall: Wall,
    pub(crate) excess: Excess,
    pub(crate) flood: Flood,
    pub(crate) spool: Spool,
    /// Why nothing is admitted although the spool takes records.
    pub(crate) unsound: ArcSwapOption<String>,
    pub(crate) admitted: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) unrecorded: AtomicU64,
    /// Whether the ledger took no record the last time it was asked.
    pub(crate) failing: AtomicBool,
    /// Whether the ledger had little room left when it was looked at last.
    pub(crate) low: AtomicBool,
    /// Whether it had its reserve only.
    pub(crate) reserve_only: AtomicBool,
    pub(crate) observer: OnceLock<Arc<dyn Observer>>,
    /// How much is still to be written that nobody waits for.
    pub(crate) late: watch::Sender<usize>,
    /// When this process began to decide.
    pub(crate) since: Timestamp,
    pub(crate) tasks: Tasks,
}

/// Something that is still to be written, until it is or can't be.
#[derive(Debug)]
pub(crate) struct Late(watch::Sender<usize>);

impl Drop for Late {
    fn drop(&mut self) {
        self.0.send_modify(|late| *late = late.saturating_sub(1));
    }
}

impl Inner {
    /// Has the end of this process wait for something.
    pub(crate) fn late(&self) -> Late {
        self.late.send_modify(|late| *late += 1);
        Late(self.late.clone())
    }

    /// The ledger takes records, or does so again.
    pub(crate) fn took_a_record(&self) {
        // Read first: a store for each hop would be contended by all of them.
        if self.failing.load(Ordering::Relaxed) {
            self.failing.store(false, Ordering::Relaxed);
        }
    }

    /// Does something on the runtime, or here and now where there is none.
    pub(crate) fn later(&self, work: impl Future<Output = ()> + Send + 'static) {
        let late = self.late();
        let work = async move {
            work.await;
            drop(late);
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(work);
            return;
        }
        match tokio::runtime::Builder::new_current_thread().build() {
            Ok(runtime) => runtime.block_on(work),
            Err(error) => tracing::error!(%error, "the ledger can't take a record"),
        }
    }
}
