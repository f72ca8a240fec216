//! What can be measured of a server.

use super::Server;
use countersign_core::vocabulary::Timestamp;

impl Server {
    /// Our own certificates and when they end: `intermediate`, `server`, and `gateway/<name>` for
    /// each gateway of this process.
    #[must_use]
    pub fn certificates(&self) -> Vec<(String, Timestamp)> {
        let parts = &self.parts;
        let mut ends = vec![
            ("intermediate".to_owned(), parts.ca.intermediate_ends()),
            ("server".to_owned(), parts.svid.current().not_after()),
        ];
        let gateways = parts.gateways.lock();
        ends.extend(
            gateways
                .iter()
                .map(|(name, svid)| (format!("gateway/{name}"), svid.current().not_after())),
        );
        ends
    }

    /// Leaves under the last signed checkpoint of the log.
    #[must_use]
    pub fn log_size(&self) -> u64 {
        self.parts.audit.signed().claimed().size
    }

    /// How many records of this node are durable and not in the log yet.
    #[must_use]
    pub fn unshipped(&self) -> u64 {
        let spool = self.parts.point.spool();
        let position = self.parts.audit.log().position(spool.node());
        let taken = position.map_or(0, |position| position.next);
        spool.head().next.saturating_sub(taken)
    }

    /// Whether the last attempt to change the configuration did not fail; true before the first.
    #[must_use]
    pub fn last_reload_succeeded(&self) -> bool {
        self.parts.desk.reloader.last_succeeded()
    }
}
