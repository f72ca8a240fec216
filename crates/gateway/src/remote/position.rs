//! Where the server's log is with this gateway.

use super::RemotePlane;
use countersign_core::vocabulary::Digest;
use countersign_ledger::spool::Head;
use countersign_wire::control::ControlError;
use countersign_wire::control::Delivery;
use serde::Deserialize;

impl RemotePlane {
    /// How far the server's log is with this gateway's records.
    ///
    /// # Errors
    /// [`ControlError`].
    pub(crate) async fn position(&self) -> Result<Head, ControlError> {
        #[derive(Deserialize)]
        struct Delivered {
            hash: Digest,
            next: u64,
        }
        // Nothing is delivered by this, but where to go on is said.
        let nothing = Delivery {
            first: 0,
            leaves: Vec::new(),
            node: self.0.memory.gateway().clone(),
        };
        let delivered: Delivered = self.call("records", &nothing).await?;
        Ok(Head {
            hash: *delivered.hash.as_bytes(),
            next: delivered.next,
        })
    }
}
