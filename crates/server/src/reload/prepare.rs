//! What has to be ready before a policy is in force.

use countersign_core::snapshot::Snapshot;
use futures_util::future::BoxFuture;
use std::fmt;
use std::sync::Arc;

/// Somebody who has to get ready for a policy, such as a gateway in this process whose sockets it
/// names.
///
/// Preparing does everything that can fail, and changes nothing that is in use: a reload prepares
/// everybody before anything is in force, and any failure leaves all as it was.
pub trait Prepare: fmt::Debug + Send + Sync {
    /// Gets ready for `next`, or says in words why that can't be.
    fn prepare(&self, next: Arc<Snapshot>) -> BoxFuture<'_, Result<Prepared, String>>;
}

/// Everything is ready. Dropped, it was never there.
pub struct Prepared(Box<dyn FnOnce() + Send>);

impl Prepared {
    /// What is left to do, and can't fail, once the policy is in force.
    pub fn new(commit: impl FnOnce() + Send + 'static) -> Self {
        Self(Box::new(commit))
    }

    /// Does it.
    pub(crate) fn commit(self) {
        (self.0)();
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("prepared")
    }
}
