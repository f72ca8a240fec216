use super::Running;
use super::Stage;
use crate::body::Body;
use crate::body::BodyError;
use crate::connected::Connected;
use crate::phases;
use crate::shared::Shared;
use bytes::Bytes;
use countersign_core::config::Limits;
use http::Request;
use http_body::Frame;
use http_body::SizeHint;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use parking_lot::Mutex;
use std::convert::Infallible;
use std::pin::Pin;
use std::pin::pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::time::Instant;

/// The most header fields of an HTTP/1.1 request.
const MOST_HEADERS: usize = 100;
/// hyper's floor for a read buffer, in bytes.
const LEAST_BUFFER: usize = 8 * 1024;
/// Streams that a peer may have reset before we took notice of them (CVE-2023-44487).
const MOST_RESETS: usize = 20;

/// When something was last under way on a connection.
#[derive(Debug)]
struct Activity {
    state: Mutex<(usize, Instant)>,
}

/// A request under way, until its response has been sent or given up.
#[derive(Debug)]
struct UnderWay(Arc<Activity>);

/// Runs a connection until it ends, is idle for too long, or the gateway drains; the two kinds of
/// connection have the same methods but no trait.
macro_rules! drive {
    ($connection:ident, $running:ident, $activity:ident, $idle:expr) => {{
        let mut running = $running;
        let mut draining = false;
        loop {
            let next = if draining {
                Stage::Cut
            } else {
                Stage::Draining
            };
            let silent = $activity.silent($idle);
            tokio::select! {
                biased;
                outcome = $connection.as_mut() => break outcome,
                () = running.reaches(next) => {
                    if draining {
                        break Ok(());
                    }
                    draining = true;
                    $connection.as_mut().graceful_shutdown();
                }
                () = silent, if !draining => {
                    draining = true;
                    $connection.as_mut().graceful_shutdown();
                }
            }
        }
    }};
}

/// Serves one connection to its end.
pub(super) async fn serve<IO>(
    io: IO,
    http2: bool,
    connected: Connected,
    shared: &Arc<Shared>,
    limits: Limits,
    running: Running,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connected = Arc::new(connected);
    let activity = Arc::new(Activity {
        state: Mutex::new((0, Instant::now())),
    });
    let service = service_fn(|request: Request<Incoming>| {
        let under_way = UnderWay::begin(&activity);
        let (shared, connected) = (shared.clone(), connected.clone());
        async move {
            let response = phases::answer(shared, connected, request).await;
            Ok::<_, Infallible>(response.map(|body| Carried {
                body,
                _under_way: under_way,
            }))
        }
    });
    let io = TokioIo::new(io);
    let outcome = if http2 {
        let connection = h2(limits).serve_connection(io, service);
        let mut connection = pin!(connection);
        drive!(connection, running, activity, limits.idle)
    } else {
        let connection = h1(limits).serve_connection(io, service).with_upgrades();
        let mut connection = pin!(connection);
        drive!(connection, running, activity, limits.idle)
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, source = %connected.source, "a connection ended");
    }
}

fn h1(limits: Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    let buffer = usize::try_from(limits.header)
        .unwrap_or(usize::MAX)
        .max(LEAST_BUFFER);
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time)
        .max_buf_size(buffer)
        .max_headers(MOST_HEADERS);
    builder
}

fn h2(limits: Limits) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(limits.header).unwrap_or(u32::MAX))
        .max_concurrent_streams(limits.streams)
        .max_pending_accept_reset_streams(MOST_RESETS)
        // A peer that is gone without a word is noticed, even with a stream open.
        .keep_alive_interval(limits.idle / 2)
        .keep_alive_timeout(limits.idle / 2);
    builder
}

impl Activity {
    /// Waits until nothing has been under way for `idle`.
    async fn silent(&self, idle: Duration) {
        loop {
            let (under_way, since) = *self.state.lock();
            let end = since + idle;
            if under_way == 0 && Instant::now() >= end {
                return;
            }
            let next = if under_way == 0 {
                end
            } else {
                Instant::now() + idle
            };
            tokio::time::sleep_until(next).await;
        }
    }
}

impl UnderWay {
    fn begin(activity: &Arc<Activity>) -> Self {
        activity.state.lock().0 += 1;
        Self(activity.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        *state = (state.0.saturating_sub(1), Instant::now());
    }
}

/// A response body that keeps its connection from being idle.
struct Carried {
    body: Body,
    _under_way: UnderWay,
}

impl http_body::Body for Carried {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
