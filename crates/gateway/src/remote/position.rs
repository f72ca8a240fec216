//! Where the server's log is with this gateway.

use super::RemotePlane;
use super::unavailable;
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
        // Nothing is delivered by this, but where to go on is said.
        let nothing = Delivery {
            first: 0,
            leaves: Vec::new(),
            node: self.0.memory.gateway().clone(),
        };
        self.ship(&nothing).await
    }

    /// Delivers records, and how far the log is then.
    pub(super) async fn ship(&self, records: &Delivery) -> Result<Head, ControlError> {
        #[derive(Deserialize)]
        struct Delivered {
            hash: Digest,
            next: u64,
        }
        let body = records.encode().map_err(unavailable)?;
        let delivered: Delivered = self.send("records", Delivery::CONTENT_TYPE, body).await?;
        Ok(Head {
            hash: *delivered.hash.as_bytes(),
            next: delivered.next,
        })
    }
}
