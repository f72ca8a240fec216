use super::linger::Linger;
use crate::body::Body;
use crate::body::BodyError;
use crate::connected::Connected;
use crate::phases;
use crate::place::Stage;
use crate::request::random;
use crate::shared::Shared;
use crate::upstreams::Relayed;
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
use parking_lot::Mutex;
use std::collections::BTreeSet;
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
use tokio::sync::Notify;
use tokio::time::Instant;

/// The most header fields of an HTTP/1.1 request.
const MOST_HEADERS: usize = 100;
/// hyper's floor for a read buffer, in bytes.
const LEAST_BUFFER: usize = 8 * 1024;
/// Streams that a peer may have reset before we took notice of them (CVE-2023-44487).
const MOST_RESETS: usize = 20;
/// Streams of a connection that we may have to reset for what the peer did on them (CVE-2025-8671).
const MOST_OWN_RESETS: usize = 100;

/// How long a caller may leave what we have for it unread: it then holds the response, its hop and
/// its connection for nothing. An answer of our own has no longer to be taken, all of it: by HTTP/2 a
/// caller may leave a body unread whose connection it reads (RFC 9113 section 6.9.1).
const STALL: Duration = Duration::from_secs(30);
/// Bytes that every connection of HTTP/2 begins with (RFC 9113 section 3.4).
const PREFACE: usize = 24;

/// How long a kept HTTP/1.1 connection is listened to when its listener ends. There is no way to
/// say goodbye on one that is idle: closed at once, it would cross the request that its client
/// has just sent. So each client has its next answer say `close`, and what is idle for longer is
/// closed (RFC 9112 section 9.6).
const LINGER: Duration = Duration::from_secs(3);

/// What goes on on a connection.
#[derive(Debug)]
struct Activity {
    changed: Notify,
    /// How long what is there for the peer may stay unread.
    stall: Duration,
    state: Mutex<State>,
}

#[derive(Clone, Debug)]
struct State {
    /// Since when the peer takes no more bytes.
    blocked: Option<Instant>,
    /// Since when the head of a request is on its way (HTTP/1.1), or the preface of the connection
    /// (HTTP/2). hyper counts from the end of the response before it, which would end a connection
    /// that is merely kept, and waits for a preface for ever.
    head: Option<Instant>,
    /// Since when answers of our own are to be taken.
    own: BTreeSet<(Instant, u64)>,
    /// How many of those there were.
    owned: u64,
    /// Whether the last request had a body, which its client may still be sending.
    sends: bool,
    /// When something was last under way.
    since: Instant,
    under_way: usize,
}

/// Why a connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    /// Nothing was under way for too long.
    Silent,
    /// A head takes too long, or nothing is read of what is sent.
    Stuck,
}

/// A request under way, until its response has been sent or given up.
#[derive(Debug)]
struct UnderWay {
    activity: Arc<Activity>,
    /// Where its answer is our own.
    own: Option<(Instant, u64)>,
}

/// Runs a connection until it ends, is idle for too long, or the gateway drains; the two kinds of
/// connection have the same methods but no trait.
macro_rules! drive {
    ($connection:ident, $place:expr, $activity:ident, $limits:expr, $first:expr, $linger:expr) => {{
        let mut running = $place.running();
        let (mut told, mut draining) = (None, None);
        loop {
            let next = if told.is_some() { Stage::Cut } else { $first };
            let lingered = told.unwrap_or_else(Instant::now);
            let over = $activity.over($limits, draining);
            tokio::select! {
                biased;
                outcome = $connection.as_mut() => break outcome,
                () = running.reaches(next) => {
                    if told.is_some() {
                        break Ok(());
                    }
                    told = Some(Instant::now() + $linger);
                }
                () = tokio::time::sleep_until(lingered), if told.is_some() && draining.is_none() => {
                    draining = Some(Instant::now());
                    $connection.as_mut().graceful_shutdown();
                }
                () = $place.aborted() => break Ok(()),
                over = over => {
                    // Whoever was told to end and is silent still would be there for ever: HTTP/2
                    // says goodbye only after a preface, and waits for the other side to hear it.
                    if over == Over::Stuck || draining.is_some() {
                        break Ok(());
                    }
                    draining = Some(Instant::now());
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
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connected = Arc::new(connected);
    let activity = Arc::new(Activity::new());
    let Some((io, guard, floods)) = guarded(io, &activity, http2, limits) else {
        tracing::error!("no randomness: a connection can't be served");
        return;
    };
    let service = service_fn(|request: Request<Incoming>| {
        // Behind a request that could not be read nothing is read, whatever is there.
        let sends = !request.body().is_end_stream() || guard.fault(&request).is_some();
        let mut under_way = UnderWay::begin(&activity, sends);
        let (shared, connected, guard) = (shared.clone(), connected.clone(), guard.clone());
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
    let io = TokioIo::new(io);
    let outcome = if http2 {
        // A box, so that one of HTTP/1.1 has no room for it.
        let mut connection = Box::pin(h2(limits).serve_connection(io, service));
        // GOAWAY names the last stream that is answered, so nothing is lost by saying it early.
        drive!(
            connection,
            connected.place,
            activity,
            limits,
            Stage::Retiring,
            Duration::ZERO
        )
    } else {
        let connection = h1(limits).serve_connection(io, service).with_upgrades();
        let mut connection = pin!(connection);
        drive!(
            connection,
            connected.place,
            activity,
            limits,
            Stage::Draining,
            LINGER
        )
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
    mut request: Request<Incoming>,
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

impl Activity {
    /// A connection that has just begun, with what it begins with on its way.
    fn new() -> Self {
        let since = Instant::now();
        let state = State {
            blocked: None,
            head: Some(since),
            own: BTreeSet::new(),
            owned: 0,
            sends: false,
            since,
            under_way: 0,
        };
        Self {
            changed: Notify::new(),
            stall: STALL,
            state: Mutex::new(state),
        }
    }

    /// Waits until the connection has to end; silence counts anew from when it was told to end.
    async fn over(&self, limits: Limits, draining: Option<Instant>) -> Over {
        loop {
            let state = self.state.lock().clone();
            let head = state.head.map(|since| since + limits.header_time);
            let stalled = state.blocked.map(|since| since + self.stall);
            let own = state.own.first().map(|(since, _)| *since + self.stall);
            let stuck = [head, stalled, own].into_iter().flatten().min();
            let since = draining.map_or(state.since, |told| told.max(state.since));
            let silent = (state.under_way == 0).then(|| since + limits.idle);
            let now = Instant::now();
            if stuck.is_some_and(|end| end <= now) {
                return Over::Stuck;
            }
            if silent.is_some_and(|end| end <= now) {
                return Over::Silent;
            }
            let next = [stuck, silent].into_iter().flatten().min();
            let next = next.unwrap_or(now + limits.idle);
            tokio::select! {
                () = self.changed.notified() => {}
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }

    /// Bytes came; between requests they begin the next one.
    fn read(&self) {
        let mut state = self.state.lock();
        if state.under_way == 0 && state.head.is_none() {
            state.head = Some(Instant::now());
            self.changed.notify_one();
        }
    }

    /// The preface of HTTP/2 is there.
    fn begun(&self) {
        self.state.lock().head = None;
    }

    /// Bytes were to go.
    fn wrote(&self, pending: bool) {
        let mut state = self.state.lock();
        if !pending {
            state.blocked = None;
        } else if state.blocked.is_none() {
            state.blocked = Some(Instant::now());
            self.changed.notify_one();
        }
    }
}

impl UnderWay {
    fn begin(activity: &Arc<Activity>, sends: bool) -> Self {
        let mut state = activity.state.lock();
        state.head = None;
        state.sends = sends;
        state.under_way += 1;
        drop(state);
        Self {
            activity: activity.clone(),
            own: None,
        }
    }

    /// Its answer is our own: there is no upstream whose time it has.
    fn is_own(&mut self) {
        let mut state = self.activity.state.lock();
        let own = (Instant::now(), state.owned);
        state.owned += 1;
        state.own.insert(own);
        drop(state);
        self.own = Some(own);
        self.activity.changed.notify_one();
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.activity.state.lock();
        if let Some(own) = self.own {
            state.own.remove(&own);
        }
        state.since = Instant::now();
        state.under_way = state.under_way.saturating_sub(1);
    }
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
            let sends = this.heads && this.activity.state.lock().sends;
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
