//! Certificates of gateways in this process, for the names that the next policy has: a listener
//! that answers to a new host shows it from its first connection.

use super::Parts;
use super::open;
use crate::reload::Prepare;
use crate::reload::Prepared;
use countersign_core::snapshot::Snapshot;
use countersign_net::Svid;
use countersign_net::SvidSource;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::fmt;
use std::sync::Arc;
use std::sync::Weak;

/// Renews them before a reload is in force.
pub(super) struct Renewal(Weak<Parts>);

impl Renewal {
    pub(super) fn new(parts: &Arc<Parts>) -> Self {
        Self(Arc::downgrade(parts))
    }

    async fn issued(&self, next: &Snapshot) -> Result<Vec<(Arc<SvidSource>, Svid)>, String> {
        let Some(parts) = self.0.upgrade() else {
            return Err("the server is gone".to_owned());
        };
        let hosts = |snapshot: &Snapshot| open::hosts(snapshot, parts.options.control);
        if hosts(&parts.point.snapshot()) == hosts(next) {
            return Ok(Vec::new());
        }
        let gateways = parts.gateways.lock().clone();
        let mut issued = Vec::new();
        for (name, source) in gateways {
            let svid = parts.issue_for("gateway", &name, next).await;
            let svid = svid.map_err(|error| format!("no certificate for `{name}`: {error}"))?;
            issued.push((source, svid));
        }
        Ok(issued)
    }
}

impl Prepare for Renewal {
    fn prepare(&self, next: Arc<Snapshot>) -> BoxFuture<'_, Result<Prepared, String>> {
        async move {
            let issued = self.issued(&next).await?;
            Ok(Prepared::new(move || {
                for (source, svid) in issued {
                    source.rotate(svid);
                }
            }))
        }
        .boxed()
    }
}

impl fmt::Debug for Renewal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("renewal of certificates")
    }
}
