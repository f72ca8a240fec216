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

/// What a connection is held to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes of a request's head.
    pub(super) header: u32,
    /// Time for it to arrive, for the preface of HTTP/2, and for a connection of HTTP/1.1 to be kept
    /// without a request.
    pub(super) header_time: Duration,
    /// Time a connection may be without a request, and once more after it was told to end.
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

/// How long a peer may leave what we have for it unread, and an answer that is there whole.
const STALL: Duration = Duration::from_secs(30);
/// Bytes that every connection of HTTP/2 begins with (RFC 9113 section 3.4).
const PREFACE: usize = 24;

/// Runs a connection to its end; the two kinds of connection have the same methods but no trait.
/// Nothing may be under way for ever but streams, and those end with the process.
macro_rules! drive {
    ($connection:ident, $stop:ident, $activity:ident, $limits:ident) => {{
        let mut stop = pin!($stop);
        let mut told = None;
        loop {
            tokio::select! {
                biased;
                ended = $connection.as_mut() => break ended,
                () = stop.as_mut(), if told.is_none() => {}
                over = $activity.over($limits, told) => {
                    // HTTP/2 says goodbye only after a preface, and waits for the other side to
                    // hear it: whoever stays silent is not waited for again.
                    if over == Over::Stuck || told.is_some() {
                        break Ok(());
                    }
                }
            }
            told = Some(Instant::now());
            $connection.as_mut().graceful_shutdown();
        }
    }};
}

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
    let activity = Arc::new(Activity::new(STALL));
    let io = Watched::new(io, &activity, 0);
    let Some((io, guard)) = guarded(io, limits) else {
        tracing::error!("no randomness: a connection can't be served");
        return;
    };
    let service = service_fn(|request: Request<Incoming>| {
        let under_way = UnderWay::begin(&activity);
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
            Ok::<_, Infallible>(under_way.carries(response))
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
    let ended = drive!(connection, stop, activity, limits);
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
    let activity = Arc::new(Activity::new(STALL));
    let io = Watched::new(io, &activity, PREFACE);
    let (io, floods) = Metered::new(io, limits.header);
    let service = service_fn(|request: Request<Incoming>| {
        let under_way = UnderWay::begin(&activity);
        let answered = answer(request, None);
        async move { Ok::<_, Infallible>(under_way.carries(answered.await)) }
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
    let ended = drive!(connection, stop, activity, limits);
    let error = ended.err()?;
    tracing::debug!(%error, "a connection broke off");
    let flood = floods.flood().map(|flood| flood.to_string());
    flood.or_else(|| is_flood(&error).then(|| "too many frames or fields".to_owned()))
}

/// What goes on on a connection.
#[derive(Debug)]
struct Activity {
    changed: Notify,
    /// How long what is there for the peer may stay unread.
    stall: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Since when the peer takes no more bytes.
    blocked: Option<Instant>,
    /// Since when the preface of HTTP/2 is on its way.
    preface: Option<Instant>,
    /// When something was last under way.
    since: Instant,
    under_way: usize,
    /// Since when answers that are there whole are to be taken.
    whole: BTreeSet<(Instant, u64)>,
    /// How many of those there were.
    wholes: u64,
}

/// Why a connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    /// Nothing was under way for too long.
    Silent,
    /// It does not begin, or nothing is read of what is sent.
    Stuck,
}

/// A request under way.
struct UnderWay {
    activity: Arc<Activity>,
    /// Where its answer is there whole.
    whole: Option<(Instant, u64)>,
}

impl Activity {
    fn new(stall: Duration) -> Self {
        let state = State {
            blocked: None,
            preface: None,
            since: Instant::now(),
            under_way: 0,
            whole: BTreeSet::new(),
            wholes: 0,
        };
        Self {
            changed: Notify::new(),
            stall,
            state: Mutex::new(state),
        }
    }

    /// Waits until the connection has to end; silence counts anew from when it was `told` to end.
    async fn over(&self, limits: Limits, told: Option<Instant>) -> Over {
        loop {
            let (stuck, silent) = self.ends(limits, told);
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

    /// When it is stuck, and when silent, if it goes on like this.
    fn ends(&self, limits: Limits, told: Option<Instant>) -> (Option<Instant>, Option<Instant>) {
        let state = self.state.lock();
        let preface = state.preface.map(|since| since + limits.header_time);
        let whole = state.whole.first().map(|(since, _)| *since);
        let unread = [state.blocked, whole].into_iter().flatten().min();
        let unread = unread.map(|since| since + self.stall);
        let stuck = [preface, unread].into_iter().flatten().min();
        let since = told.map_or(state.since, |told| told.max(state.since));
        let silent = (state.under_way == 0).then(|| since + limits.idle);
        (stuck, silent)
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
    fn begin(activity: &Arc<Activity>) -> Self {
        activity.state.lock().under_way += 1;
        Self {
            activity: activity.clone(),
            whole: None,
        }
    }

    /// It is under way as long as its answer is. One that is there whole has to be taken in time: by
    /// HTTP/2 a peer may leave a body unread whose connection it reads (RFC 9113 section 6.9.1). What
    /// streams has no length, and lasts.
    fn carries(mut self, response: Response<Body>) -> Response<Carried> {
        let body = response.body();
        if !body.is_end_stream() && body.size_hint().exact().is_some() {
            let mut state = self.activity.state.lock();
            let whole = (Instant::now(), state.wholes);
            state.wholes += 1;
            state.whole.insert(whole);
            drop(state);
            self.whole = Some(whole);
            self.activity.changed.notify_one();
        }
        response.map(|body| Carried {
            body,
            _under_way: self,
        })
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.activity.state.lock();
        if let Some(whole) = self.whole {
            state.whole.remove(&whole);
        }
        state.since = Instant::now();
        state.under_way = state.under_way.saturating_sub(1);
    }
}

/// A stream that tells what goes on on it.
struct Watched<IO> {
    activity: Arc<Activity>,
    io: IO,
    /// Bytes of the preface of HTTP/2 that are still to come.
    preface: usize,
}

impl<IO> Watched<IO> {
    fn new(io: IO, activity: &Arc<Activity>, preface: usize) -> Self {
        activity.state.lock().preface = (preface > 0).then(Instant::now);
        Self {
            activity: activity.clone(),
            io,
            preface,
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Watched<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buffer);
        if self.preface > 0 {
            let read = buffer.filled().len().saturating_sub(before);
            self.preface = self.preface.saturating_sub(read);
            if self.preface == 0 {
                self.activity.state.lock().preface = None;
            }
        }
        polled
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Watched<IO> {
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
        let polled = Pin::new(&mut self.io).poll_shutdown(cx);
        self.activity.wrote(polled.is_pending());
        polled
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
    use super::super::full;
    use super::*;
    use http_body_util::BodyExt as _;
    use tokio::io::AsyncReadExt as _;
    use tokio::io::AsyncWriteExt as _;
    use tokio::io::DuplexStream;

    const SHORT: Limits = Limits {
        header: 8 * 1024,
        header_time: Duration::from_millis(50),
        idle: Duration::from_millis(50),
        keep: true,
        streams: 10,
    };

    #[tokio::test]
    async fn a_connection_is_idle_only_when_nothing_is_under_way() {
        let activity = Arc::new(Activity::new(STALL));
        let one = UnderWay::begin(&activity);
        let two = UnderWay::begin(&activity);
        assert_eq!(activity.ends(SHORT, None), (None, None));
        drop(one);
        assert_eq!(activity.ends(SHORT, None), (None, None));
        drop(two);
        assert_eq!(activity.over(SHORT, None).await, Over::Silent);
        // And once more after it was told to end.
        let told = Instant::now();
        assert_eq!(activity.over(SHORT, Some(told)).await, Over::Silent);
        assert!(told.elapsed() >= SHORT.idle);
    }

    #[tokio::test]
    async fn an_answer_that_is_there_whole_has_to_be_taken_and_a_stream_has_not() {
        let activity = Arc::new(Activity::new(Duration::from_millis(50)));
        let streaming = http_body_util::StreamBody::new(futures_util::stream::pending());
        let streaming = Response::new(streaming.boxed_unsync());
        let streaming = UnderWay::begin(&activity).carries(streaming);
        assert_eq!(activity.ends(SHORT, None), (None, None));
        let taken = UnderWay::begin(&activity).carries(Response::new(full("taken")));
        drop(taken);
        assert_eq!(activity.ends(SHORT, None), (None, None));
        let left = UnderWay::begin(&activity).carries(Response::new(full("left")));
        assert_eq!(activity.over(SHORT, None).await, Over::Stuck);
        drop((left, streaming));
        assert!(activity.state.lock().whole.is_empty());
    }

    async fn served(io: DuplexStream, http2: bool) {
        let answer = |_: Request<Incoming>, _| async { Response::new(full("hello")) };
        let ended = serve(io, http2, SHORT, answer, std::future::pending()).await;
        assert_eq!(ended, None);
    }

    #[tokio::test]
    async fn whoever_never_says_anything_is_not_waited_for() {
        for (http2, says) in [
            (false, ""),
            (true, ""),
            (true, "PRI * HTTP/2.0"),
            // It begins, and never hears that it has to end.
            (true, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"),
        ] {
            let (mut peer, ours) = tokio::io::duplex(64 * 1024);
            peer.write_all(says.as_bytes()).await.unwrap();
            let served = tokio::spawn(served(ours, http2));
            let mut heard = Vec::new();
            let read = peer.read_to_end(&mut heard);
            let ended = tokio::time::timeout(Duration::from_secs(60), read).await;
            let _ = ended.expect("the connection was kept");
            served.await.unwrap();
        }
    }
}
