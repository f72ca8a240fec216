//! Active health checks: asking each address of a service whether it is well.
//!
//! A probe is ours and no caller's hop: nothing of a caller travels with it, no token, no
//! credential, no assertion, and so it is not decided or recorded. It goes by connections of the same
//! kind, with the same identities on both sides; an address that can't prove who it is, is not well.

use super::Upstream;
use super::endpoints::Endpoint;
use super::pool::How;
use crate::body;
use countersign_core::config::Health;
use countersign_core::vocabulary::Name;
use countersign_enforce::EnforcementPoint;
use http::HeaderValue;
use http::Request;
use http::header;
use std::sync::Arc;
use std::sync::Weak;
use tokio::time::Instant;

/// Failed probes in a row after which an address is not well; one good probe is enough.
const MOST_FAILURES: u32 = 2;
/// The most bytes of an answer that are read so that its connection can be kept.
const MOST_READ: usize = 64 * 1024;

/// Probes every address of `upstream` for as long as it is in force.
pub(super) fn start(upstream: &Arc<Upstream>, name: &Name, point: &EnforcementPoint) {
    let Some(health) = &upstream.service.health else {
        return;
    };
    for endpoint in upstream.endpoints.all() {
        let watched = Watched {
            endpoint: endpoint.clone(),
            health: health.clone(),
            name: name.clone(),
            point: point.clone(),
            upstream: Arc::downgrade(upstream),
        };
        tokio::spawn(watched.watch());
    }
}

struct Watched {
    endpoint: Arc<Endpoint>,
    health: Health,
    name: Name,
    point: EnforcementPoint,
    upstream: Weak<Upstream>,
}

impl Watched {
    async fn watch(self) {
        let mut failures = 0;
        while self.is_in_force() {
            let started = Instant::now();
            let probed = tokio::time::timeout(self.health.timeout, self.probe(started)).await;
            failures = if probed.unwrap_or(false) {
                0
            } else {
                MOST_FAILURES.min(failures + 1)
            };
            match failures {
                0 => self.endpoint.probed(true),
                MOST_FAILURES => self.endpoint.probed(false),
                _ => {}
            }
            tokio::time::sleep_until(started + self.health.every).await;
        }
    }

    /// Whether this is still what policy says of the service.
    fn is_in_force(&self) -> bool {
        let state = self.point.state();
        let services = &state.snapshot.config().services;
        self.upstream
            .upgrade()
            .is_some_and(|it| services.get(self.name.as_str()) == Some(&it.service))
    }

    /// Whether it says that it is well.
    async fn probe(&self, started: Instant) -> bool {
        let mut request = Request::new(body::empty());
        let agent = HeaderValue::from_static("countersign-health");
        request.headers_mut().insert(header::USER_AGENT, agent);
        let revocations = self.point.state().revocations.clone();
        let how = How {
            admitted: None,
            connect_by: started + self.health.timeout,
            fresh: false,
            http2: false,
            now: self.point.now(),
            revocations: &revocations,
        };
        let pool = &self.endpoint.pool;
        match pool.send(&self.health.path, Box::new(request), how).await {
            Ok(answer) => {
                let well = answer.status().is_success();
                // Read, so that the connection can be kept.
                let _ = body::own(answer.into_body(), MOST_READ).await;
                well
            }
            Err(unanswered) => {
                tracing::debug!(error = %unanswered.error, address = %pool, "a probe failed");
                false
            }
        }
    }
}
