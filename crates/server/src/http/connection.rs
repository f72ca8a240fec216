//! One connection to the server, from its first byte to its end.

use super::Body;
use bytes::Bytes;
use countersign_net::framing::FramingFault;
use countersign_net::framing::Guard;
use countersign_net::framing::Guarded;
use countersign_net::framing::HeadLimits;
use countersign_net::framing::Metered;
use countersign_net::framing::is_flood;
use http::HeaderValue;
use http::Request;
use http::Response;
use http::header;
use http_body::Frame;
use http_body::SizeHint;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use std::convert::Infallible;
use std::pin::Pin;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::sync::Notify;

/// What a connection is held to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes of a request's head.
    pub(super) header: u32,
    /// Time for it to arrive, and for a connection of HTTP/1.1 to be kept without a request.
    pub(super) header_time: Duration,
    /// Time a connection of HTTP/2 may be without a request.
    pub(super) idle: Duration,
    /// Whether a connection takes more than one request.
    pub(super) keep: bool,
    /// Requests at once on a connection of HTTP/2.
    pub(super) streams: u32,
}

/// Fields of a request.
const FIELDS: usize = 100;
/// hyper's floor for a read buffer, in bytes.
const LEAST_BUFFER: usize = 8 * 1024;
/// Streams that a peer may have reset before we took notice of them (CVE-2023-44487).
const RESETS: usize = 20;
/// Streams that we may have to reset for what the peer did on them (CVE-2025-8671).
const OWN_RESETS: usize = 100;
/// How long a peer may leave a question for a sign of life unanswered.
const PING: Duration = Duration::from_secs(20);

/// Serves a connection until it ends, is idle for too long, or `stop` is done: what is under way
/// then may end. `answer` is told why a request stands for one that could not be read.
///
/// Returns what its peer flooded it with, if it did.
pub(super) async fn serve<IO, A, R>(
    io: IO,
    http2: bool,
    limits: Limits,
    answer: A,
    stop: impl Future<Output = ()>,
) -> Option<String>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Fn(Request<Incoming>, Option<FramingFault>) -> R + Clone,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    if http2 {
        second(io, limits, answer, stop).await
    } else {
        first(io, limits, answer, stop).await;
        None
    }
}

async fn first<IO, A, R>(io: IO, limits: Limits, answer: A, stop: impl Future<Output = ()>)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Fn(Request<Incoming>, Option<FramingFault>) -> R + Clone,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    let Some((io, guard)) = guarded(io, limits) else {
        tracing::error!("no randomness: a connection can't be served");
        return;
    };
    let service = service_fn(|request: Request<Incoming>| {
        let fault = guard.fault(&request);
        // Another protocol is never spoken here, so nothing that follows such a request is read.
        let last = fault.is_some() || request.headers().contains_key(header::UPGRADE);
        let answered = answer(request, fault);
        async move {
            let mut response = answered.await;
            if last {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            Ok::<_, Infallible>(response)
        }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time)
        .keep_alive(limits.keep)
        .max_headers(FIELDS)
        .max_buf_size((limits.header as usize).max(LEAST_BUFFER));
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke off");
    }
}

fn guarded<IO>(io: IO, limits: Limits) -> Option<(Guarded<IO>, Guard)> {
    let head = HeadLimits {
        bytes: limits.header as usize,
        fields: FIELDS,
    };
    let nonce = crate::ids::nonce()?;
    Some(Guarded::new(io, head, nonce))
}

async fn second<IO, A, R>(
    io: IO,
    limits: Limits,
    answer: A,
    stop: impl Future<Output = ()>,
) -> Option<String>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Fn(Request<Incoming>, Option<FramingFault>) -> R + Clone,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    let (io, floods) = Metered::new(io, limits.header);
    let activity = Arc::new(Activity::default());
    let service = service_fn(|request: Request<Incoming>| {
        let under_way = UnderWay::begin(&activity);
        let answered = answer(request, None);
        async move {
            let response = answered.await;
            Ok::<_, Infallible>(response.map(|body| Carried {
                body,
                _under_way: under_way,
            }))
        }
    });
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_header_list_size(limits.header)
        .max_concurrent_streams(limits.streams)
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(OWN_RESETS)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = either(stop, activity.idle(limits.idle)) => {
            connection.as_mut().graceful_shutdown();
            // Nothing may be under way for ever; control streams end with the process.
            connection.await
        }
    };
    let error = ended.err()?;
    tracing::debug!(%error, "a connection broke off");
    let flood = floods.flood().map(|flood| flood.to_string());
    flood.or_else(|| is_flood(&error).then(|| "too many frames or fields".to_owned()))
}

async fn either(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    tokio::select! {
        () = one => {}
        () = other => {}
    }
}

/// How many requests are under way on a connection.
#[derive(Debug, Default)]
struct Activity {
    changed: Notify,
    under_way: AtomicUsize,
}

/// One of them.
struct UnderWay(Arc<Activity>);

impl Activity {
    /// Waits until nothing was under way for so long.
    async fn idle(&self, time: Duration) {
        loop {
            let changed = self.changed.notified();
            if self.under_way.load(Ordering::SeqCst) > 0 {
                changed.await;
            } else if tokio::time::timeout(time, changed).await.is_err() {
                return;
            }
        }
    }
}

impl UnderWay {
    fn begin(activity: &Arc<Activity>) -> Self {
        activity.under_way.fetch_add(1, Ordering::SeqCst);
        activity.changed.notify_one();
        Self(activity.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
        self.0.changed.notify_one();
    }
}

/// A body that is under way until its last byte is.
struct Carried {
    body: Body,
    _under_way: UnderWay,
}

impl http_body::Body for Carried {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_is_idle_only_when_nothing_is_under_way() {
        let activity = Arc::new(Activity::default());
        let one = UnderWay::begin(&activity);
        let two = UnderWay::begin(&activity);
        let short = Duration::from_millis(20);
        let busy = tokio::time::timeout(short * 5, activity.idle(short));
        assert!(busy.await.is_err());
        drop(one);
        let busy = tokio::time::timeout(short * 5, activity.idle(short));
        assert!(busy.await.is_err());
        drop(two);
        activity.idle(short).await;
    }
}
