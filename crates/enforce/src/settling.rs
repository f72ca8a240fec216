//! What is still to be written when a process ends.

use crate::point::EnforcementPoint;
use std::time::Duration;

impl EnforcementPoint {
    /// Waits until the spool has what nobody waited for: the completions of hops that have ended, and
    /// counts of refusals. Meant for the end of a process, once nothing is under way any more; whoever
    /// ended the process before would lose them.
    ///
    /// Waits for `limit` at most, and tells whether all of it was written or can't be.
    pub async fn settled(&self, limit: Duration) -> bool {
        let mut late = self.inner.late.subscribe();
        let settled = async {
            // What is late may still bring something, and completions wait in the spool.
            let none = late.wait_for(|late| *late == 0).await.is_ok();
            none && self.inner.spool.flush().await.is_ok()
        };
        let settled = tokio::time::timeout(limit, settled).await == Ok(true);
        if !settled {
            tracing::error!("the ledger did not take the last records in time");
        }
        settled
    }
}
