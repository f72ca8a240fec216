mod activity;
mod course;

use super::linger::Linger;
use crate::body::Body;
use crate::body::BodyError;
use crate::connected::Connected;
use crate::phases;
use crate::place::Stage;
use crate::request::random;
use crate::shared::Shared;
use crate::upstreams::Relayed;
use activity::Activity;
use activity::UnderWay;
use bytes::Bytes;
use countersign_core::config::Limits;
use countersign_core::hop::Facts;
use countersign_core::hop::RequestFault;
use countersign_core::record::Context as Recorded;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Operation;
use countersign_enforce::Ask;
use countersign_net::framing::Floods;
use countersign_net::framing::Guard;
use countersign_net::framing::Guarded;
use countersign_net::framing::HeadLimits;
use countersign_net::framing::Metered;
use countersign_net::framing::is_flood;
use course::Course;
use course::Turn;
use futures_util::StreamExt;
use http::HeaderValue;
use http::Method;
use http::Request;
use http::Response;
use http::StatusCode;
use http::Version;
use http::header;
use http_body::Body as _;
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
use std::io;
use std::pin::Pin;
use std::pin::pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::task::coop;

/// The most header fields of an HTTP/1.1 request.
const MOST_HEADERS: usize = 100;
/// hyper's floor for a read buffer, in bytes.
const LEAST_BUFFER: usize = 8 * 1024;
/// Streams that a peer may have reset before we took notice of them (CVE-2023-44487).
const MOST_RESETS: usize = 20;
/// Streams of a connection that we may have to reset for what the peer did on them (CVE-2025-8671).
const MOST_OWN_RESETS: usize = 100;

/// Bytes that every connection of HTTP/2 begins with (RFC 9113 section 3.4).
const PREFACE: usize = 24;

/// How long a kept HTTP/1.1 connection is listened to when its listener ends. There is no way to
/// say goodbye on one that is idle: closed at once, it would cross the request that its client
/// has just sent. So each client has its next answer say `close`, and what is idle for longer is
/// closed (RFC 9112 section 9.6).
const LINGER: Duration = Duration::from_secs(3);

/// Runs a connection until it ends or is told to; the two kinds of connection have the same methods
/// but no trait.
macro_rules! drive {
    ($connection:ident, $turns:expr) => {{
        let mut turns = $turns;
        loop {
            tokio::select! {
                biased;
                outcome = $connection.as_mut() => break outcome,
                // Also when the connection has used up what a task may do at once.
                turn = coop::unconstrained(turns.next()) => match turn {
                    Some(Turn::Finish) => $connection.as_mut().graceful_shutdown(),
                    Some(Turn::End) | None => break Ok(()),
                },
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
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connected = Arc::new(connected);
    let activity = Arc::new(Activity::new(limits));
    let Some((io, guard, floods)) = guarded(io, &activity, http2, limits) else {
        tracing::error!("no randomness: a connection can't be served");
        return;
    };
    let service = service_fn(|request: Request<Incoming>| {
        // Behind a request that could not be read nothing is read, whatever is there.
        let sends = !request.body().is_end_stream() || guard.fault(&request).is_some();
        let mut under_way = UnderWay::begin(&activity, sends);
        let (shared, connected, guard) = (shared.clone(), connected.clone(), guard.clone());
        let request = Box::new(request);
        // A box: while nothing is asked, a connection does not hold the room for it.
        Box::pin(async move {
            let answer = answer(shared, connected, guard, request).await;
            let ours = answer.extensions().get::<Relayed>().is_none();
            if ours && !answer.body().is_end_stream() {
                under_way.is_own();
            }
            Ok::<_, Infallible>(answer.map(|body| Carried {
                body,
                _under_way: under_way,
            }))
        })
    });
    let course = |first, linger| Course::new(&connected.place, &activity, first, linger).turns();
    let io = TokioIo::new(io);
    let outcome = if http2 {
        // A box, so that one of HTTP/1.1 has no room for it.
        let mut connection = Box::pin(h2(limits).serve_connection(io, service));
        // GOAWAY names the last stream that is answered, so nothing is lost by saying it early.
        drive!(connection, course(Stage::Retiring, Duration::ZERO))
    } else {
        let connection = h1(limits).serve_connection(io, service).with_upgrades();
        let mut connection = pin!(connection);
        drive!(connection, course(Stage::Draining, LINGER))
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, source = %connected.source, "a connection ended");
        let flood = floods.flood().map(|flood| flood.to_string());
        let flood = flood.or_else(|| is_flood(&error).then(|| TOO_MUCH.to_owned()));
        if let Some(flood) = flood {
            Box::pin(flooded(shared, &connected, flood)).await;
        }
    }
}

/// What the HTTP library says of a flood that it found itself.
const TOO_MUCH: &str = "too many frames or fields";

/// Records why a connection was ended; there is nobody to tell.
async fn flooded(shared: &Shared, connected: &Connected, detail: String) {
    let fault = RequestFault {
        code: Code::CONNECTION_FLOOD,
        detail,
    };
    let ask = Ask {
        door: connected.door.clone(),
        service: String::new(),
        operation: Operation::named("connect", ""),
        evidence: connected.evidence(),
        facts: Facts {
            fault: Some(fault),
            ..Facts::default()
        },
        context: Recorded {
            source_ip: Some(connected.source_ip()),
            ..Recorded::default()
        },
    };
    let _ = shared.plane.point.enforce(ask).await;
}

/// Answers a request, and says where the connection can't be kept for another.
async fn answer(
    shared: Arc<Shared>,
    connected: Arc<Connected>,
    guard: Guard,
    mut request: Box<Request<Incoming>>,
) -> Response<Body> {
    let place = connected.place.clone();
    let old = request.version() < Version::HTTP_2;
    let tunnel = request.method() == Method::CONNECT;
    let asks = tunnel || request.headers().contains_key(header::UPGRADE);
    let fault = guard.fault(&request);
    if let Some(fault) = fault {
        request.extensions_mut().insert(fault);
    }
    let mut response = phases::answer(shared, connected, request).await;
    let status = response.status();
    if status == StatusCode::SWITCHING_PROTOCOLS || (tunnel && status.is_success()) {
        guard.open();
    } else if old && (place.is_retiring() || fault.is_some() || asks) {
        // HTTP/1.1 has no other way to end a kept connection that can't lose a request (RFC 9112
        // section 9.6). Behind a faulty request, and one for another protocol that was not to be,
        // nothing is read.
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

/// A stream as the HTTP library reads it, and what its guards tell.
type Framed<IO> = (Guarded<Metered<Watched<IO>>>, Guard, Floods);

/// The stream as the HTTP library reads it: HTTP/1.1 only through a guard, HTTP/2 with its frames
/// counted. None if the system has no randomness.
fn guarded<IO: AsyncRead + AsyncWrite + Unpin>(
    io: IO,
    activity: &Arc<Activity>,
    http2: bool,
    limits: Limits,
) -> Option<Framed<IO>> {
    let io = Watched {
        activity: activity.clone(),
        heads: !http2,
        io,
        linger: None,
        preface: if http2 { PREFACE } else { 0 },
    };
    if http2 {
        let header = u32::try_from(limits.header).unwrap_or(u32::MAX);
        let (io, floods) = Metered::new(io, header);
        let (io, guard) = Guarded::transparent(io);
        return Some((io, guard, floods));
    }
    let (io, floods) = Metered::transparent(io);
    let head = HeadLimits {
        bytes: usize::try_from(limits.header).unwrap_or(usize::MAX),
        fields: MOST_HEADERS,
    };
    let nonce = hex::encode(random::<16>().ok()?);
    let (io, guard) = Guarded::new(io, head, nonce);
    Some((io, guard, floods))
}

fn h1(limits: Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    let buffer = usize::try_from(limits.header)
        .unwrap_or(usize::MAX)
        .max(LEAST_BUFFER);
    builder
        .timer(TokioTimer::new())
        // A floor only, see `State::head`.
        .header_read_timeout(limits.header_time + limits.idle)
        // The most of header fields is hyper's own, the same: where it is set, its table is filled and
        // copied for each request.
        .max_buf_size(buffer);
    builder
}

fn h2(limits: Limits) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(limits.header).unwrap_or(u32::MAX))
        .max_concurrent_streams(limits.streams)
        .max_pending_accept_reset_streams(MOST_RESETS)
        .max_local_error_reset_streams(MOST_OWN_RESETS)
        // WebSockets, which are decided like the `GET` they stand for (RFC 8441).
        .enable_connect_protocol()
        // A peer that is gone without a word is noticed, even with a stream open.
        .keep_alive_interval(limits.idle / 2)
        .keep_alive_timeout(limits.idle / 2);
    builder
}

/// A stream that tells what goes on on it.
struct Watched<IO> {
    activity: Arc<Activity>,
    heads: bool,
    io: IO,
    /// Once all that we send is sent.
    linger: Option<Linger>,
    /// Bytes of the preface of HTTP/2 that are still to come.
    preface: usize,
}

impl<IO: AsyncRead + Unpin> AsyncRead for Watched<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buffer);
        let read = buffer.filled().len().saturating_sub(before);
        if self.heads && read > 0 {
            self.activity.read();
        }
        if self.preface > 0 && read > 0 {
            self.preface = self.preface.saturating_sub(read);
            if self.preface == 0 {
                self.activity.begun();
            }
        }
        polled
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.activity.wrote(polled.is_pending());
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.activity.wrote(polled.is_pending());
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_flush(cx);
        self.activity.wrote(polled.is_pending());
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.linger.is_none() {
            let polled = Pin::new(&mut this.io).poll_shutdown(cx);
            this.activity.wrote(polled.is_pending());
            // On a stream of HTTP/2 the rest of a body is given up by a frame.
            let sends = this.heads && this.activity.sends();
            if !sends || !matches!(polled, Poll::Ready(Ok(()))) {
                return polled;
            }
        }
        let linger = this.linger.get_or_insert_with(Linger::new);
        linger.poll(&mut this.io, cx).map(Ok)
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

#[cfg(test)]
mod tests;
