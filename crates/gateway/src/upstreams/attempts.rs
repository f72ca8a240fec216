//! One request, and where it is tried again.

use super::Upstream;
use super::endpoints::Lease;
use super::endpoints::NoneLeft;
use super::pool::How;
use super::pool::SendError;
use super::pool::Unanswered;
use crate::body;
use crate::body::Body;
use crate::body::UplinkFault;
use crate::request::random;
use bytes::Bytes;
use countersign_core::config::Retry;
use countersign_core::snapshot::Revocations;
use countersign_core::vocabulary::Timestamp;
use countersign_enforce::Admitted;
use http::HeaderMap;
use http::Method;
use http::Request;
use http::Response;
use hyper::body::Incoming;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A request as it is sent, as often as it may be.
pub(super) struct Outgoing {
    pub(super) fields: HeaderMap,
    pub(super) method: Method,
    /// From the admission, with the query; the address's own base is put in front of it.
    pub(super) path: String,
    pub(super) payload: Payload,
}

/// The body of a request.
pub(super) enum Payload {
    /// All of it is here, or there is none.
    Whole(Bytes),
    /// It streams, and so can be sent once; `None` when it was.
    Streaming(Option<Body>),
}

/// What a request is sent under.
pub(super) struct Sending<'a> {
    pub(super) admitted: &'a Admitted,
    pub(super) deadline: Instant,
    /// Why the caller's body was not forwarded to its end, if so.
    pub(super) fault: &'a Mutex<Option<UplinkFault>>,
    /// Whether it has to be HTTP/2.
    pub(super) http2: bool,
    pub(super) now: Timestamp,
    pub(super) revocations: &'a Arc<Revocations>,
    /// Whether the connection is to switch protocols.
    pub(super) switch: bool,
}

/// How long a connection to one address may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How often a request is sent at most.
const MOST_TRIES: u32 = 2;

impl Upstream {
    /// An address for the next request, other than the one `tried`.
    pub(super) fn lease(&self, tried: Option<&Lease>) -> Result<Lease, NoneLeft> {
        let draw = || {
            // Chance only spreads load here; without it the first two are compared.
            let [a, b, c, d] = random::<4>().unwrap_or_default();
            let number = |bytes| usize::from(u16::from_be_bytes(bytes));
            (number([a, b]), number([c, d]))
        };
        self.endpoints.pick(tried, Instant::now(), draw)
    }

    /// Sends a request to the address of `lease`, and once more where that is safe: at another
    /// address, or at the same one where a connection that was kept had ended.
    pub(super) async fn send(
        &self,
        mut lease: Lease,
        outgoing: &mut Outgoing,
        sending: &Sending<'_>,
    ) -> Result<(Response<Incoming>, Lease), SendError> {
        let mut request = outgoing.request().ok_or(SendError::Target)?;
        let (mut tries, mut fresh) = (1, false);
        loop {
            let how = How {
                admitted: Some(sending.admitted),
                connect_by: self.connect_by(sending.deadline, tries),
                fresh,
                http2: sending.http2,
                now: sending.now,
                revocations: sending.revocations,
            };
            let (pool, path) = (lease.pool(), outgoing.path.as_str());
            sending.admitted.attempted(pool.to_string());
            let sent = if sending.switch {
                Box::pin(pool.upgrade(path, request, how)).await
            } else {
                pool.send(path, request, how).await
            };
            let unanswered = match sent {
                Ok(answer) => {
                    lease.succeeded();
                    return Ok((answer, lease));
                }
                Err(unanswered) => unanswered,
            };
            let caller = sending.fault.lock().is_some();
            let (kept, broken) = (unanswered.kept, unanswered.error.is_broken());
            if broken && !kept && !caller {
                lease.failed();
            }
            let never = self.service.retry == Retry::Never || tries == MOST_TRIES || caller;
            let (error, again) = outgoing.again(unanswered);
            let Some(again) = again.filter(|_| !never) else {
                return Err(error);
            };
            tracing::debug!(%error, address = %lease.pool(), "a request is sent again");
            if kept && broken {
                fresh = true;
            } else {
                lease = self.lease(Some(&lease)).map_err(|_none_left| error)?;
            }
            request = again;
            tries += 1;
        }
    }

    /// Time for a connection: where there is another address, it has to be left some.
    fn connect_by(&self, deadline: Instant, tries: u32) -> Instant {
        let now = Instant::now();
        let left = deadline.saturating_duration_since(now);
        let others = tries < MOST_TRIES && self.endpoints.all().len() > 1;
        let share = if others { left / 2 } else { left };
        now + share.min(CONNECT)
    }
}

impl Outgoing {
    /// The request, if its body has not gone.
    fn request(&mut self) -> Option<Box<Request<Body>>> {
        let body = match &mut self.payload {
            Payload::Whole(bytes) if bytes.is_empty() => body::empty(),
            Payload::Whole(bytes) => body::full(bytes.clone()),
            Payload::Streaming(body) => body.take()?,
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.headers_mut() = self.fields.clone();
        Some(Box::new(request))
    }

    /// The request once more, if it is safe to send it again: nothing of it left, the upstream says
    /// that it did not begin with it, or to do it twice is the same as once and no answer had begun
    /// (RFC 9110 section 9.2.2).
    fn again(&mut self, unanswered: Unanswered) -> (SendError, Option<Box<Request<Body>>>) {
        let Unanswered { error, unsent, .. } = unanswered;
        if let Some(unsent) = unsent {
            return (error, Some(unsent));
        }
        let safe = error.is_unprocessed() || (self.method.is_idempotent() && error.is_broken());
        let again = if safe { self.request() } else { None };
        (error, again)
    }
}
