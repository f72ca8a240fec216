use crate::body::Body;
use crate::workers::Each;
use countersign_core::snapshot::Revocations;
use countersign_core::vocabulary::Timestamp;
use countersign_enforce::Admitted;
use countersign_net::ConnectError;
use countersign_net::Connector;
use countersign_net::Dialer;
use countersign_net::dial::DialError;
use countersign_net::dial::Target;
use http::HeaderValue;
use http::Request;
use http::Response;
use http::Uri;
use http::Version;
use http::header;
use http::uri;
use http::uri::Authority;
use http::uri::PathAndQuery;
use http::uri::Scheme;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::client::conn::http2;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use parking_lot::Mutex;
use std::error::Error as _;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::time::Instant;

/// The connections to one address.
///
/// A connection carries a request only while what it was opened with still holds: our leaf is the
/// one we show now, the peer's has not ended and is not revoked, its root is trusted. So a pool
/// never outlives our identity, the peer's or the trust bundle.
pub(super) struct Pool {
    authority: String,
    /// The same, read once; none if it can't be one.
    parsed: Option<Authority>,
    /// Put in front of every path.
    base: String,
    dialer: Dialer,
    kept: Each<Kept>,
    reach: Reach,
    tls: Option<Tls>,
}

/// Connections that are kept, for whoever is on the thread that they were opened on: a request that
/// goes out on another one would wait for that thread to turn to it.
#[derive(Default)]
struct Kept {
    idle: Arc<Mutex<Vec<Open>>>,
    shared: Mutex<Option<Open>>,
}

/// Where an address is.
#[derive(Debug)]
pub(super) enum Reach {
    Tcp(Target),
    /// A socket on this machine, without TLS.
    Unix(PathBuf),
}

/// How an upstream is reached by TLS.
pub(super) struct Tls {
    pub(super) connector: Connector,
    /// For a WebSocket, which is opened by HTTP/1.1.
    pub(super) http1: Connector,
    /// The server name.
    pub(super) name: String,
}

/// Under what a request is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct How<'a> {
    /// The hop that it is sent for; a probe is nobody's.
    pub(super) admitted: Option<&'a Admitted>,
    /// Until when a new connection has to be there.
    pub(super) connect_by: Instant,
    /// Whether a connection that was kept will not do.
    pub(super) fresh: bool,
    /// Whether it has to be HTTP/2, which is known beforehand where no handshake agrees on it (RFC
    /// 9113 section 3.3).
    pub(super) http2: bool,
    pub(super) now: Timestamp,
    pub(super) revocations: &'a Revocations,
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    Tls(#[from] ConnectError),
    #[error("the exchange broke")]
    Http(#[from] hyper::Error),
    #[error("the connection closed before the request was sent")]
    Closed,
    #[error("the upstream's certificate is revoked")]
    Revoked,
    #[error("the request has no usable target")]
    Target,
}

/// No answer, and how far the request got.
#[derive(Debug)]
pub(super) struct Unanswered {
    pub(super) error: SendError,
    /// Whether the connection had carried a request before: its end may have crossed this one.
    pub(super) kept: bool,
    /// The request, if not a byte of it has left.
    pub(super) unsent: Option<Box<Request<Body>>>,
}

/// A stream of bytes to an upstream. In a box, since hyper makes a task for each request that has
/// room for the connection's own.
pub(super) trait Bytes: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Bytes for T {}

struct Open {
    connection: Option<countersign_net::Connection>,
    sender: Sender,
    since: Instant,
}

enum Sender {
    H1(http1::SendRequest<Body>),
    H2(http2::SendRequest<Body>),
}

/// The largest header block of an answer, in bytes.
const MAX_HEADERS: u32 = 64 * 1024;
/// Idle HTTP/1.1 connections kept for one upstream, shared out among the threads.
const MOST_IDLE: usize = 64;
/// How long they are kept.
const IDLE: Duration = Duration::from_secs(30);

impl SendError {
    /// Whether the upstream said that it did not begin with this request, whatever its method (RFC
    /// 9113 section 8.7).
    pub(super) fn is_unprocessed(&self) -> bool {
        self.h2().is_some_and(|it| {
            let refused = it.is_reset() && it.reason() == Some(h2::Reason::REFUSED_STREAM);
            it.is_remote() && (refused || it.is_go_away())
        })
    }

    /// Whether the connection ended without a byte of an answer that could be understood.
    pub(super) fn is_broken(&self) -> bool {
        match self {
            Self::Http(error) => {
                let reset = self.h2().is_some_and(h2::Error::is_reset);
                !reset && !error.is_parse() && !error.is_user() && !error.is_timeout()
            }
            Self::Dial(_) | Self::Tls(_) | Self::Closed => true,
            Self::Revoked | Self::Target => false,
        }
    }

    /// Whether the time for connecting was over.
    pub(super) fn is_late(&self) -> bool {
        matches!(self, Self::Dial(DialError::TimedOut(_)))
    }

    fn h2(&self) -> Option<&h2::Error> {
        match self {
            Self::Http(error) => error.source()?.downcast_ref(),
            _ => None,
        }
    }
}

impl Pool {
    /// A pool of connections to `reach`, called `authority` in requests.
    pub(super) fn new(authority: String, base: String, reach: Reach, tls: Option<Tls>) -> Self {
        Self {
            parsed: authority.parse().ok(),
            authority,
            base,
            dialer: Dialer,
            kept: Each::default(),
            reach,
            tls,
        }
    }

    /// Sends a request for `path` and waits for the head of its answer. It is sent again only if
    /// not a byte of it had left.
    pub(super) async fn send(
        &self,
        path: &str,
        mut request: Box<Request<Body>>,
        how: How<'_>,
    ) -> Result<Response<Incoming>, Unanswered> {
        while let Some(open) = self.take(how).filter(|_| !how.fresh) {
            match self.exchange(open, path, request, (how, true)).await {
                Err(Unanswered {
                    unsent: Some(unsent),
                    ..
                }) => request = unsent,
                sent => return sent,
            }
        }
        match Box::pin(self.open(how)).await {
            Ok(open) => self.exchange(open, path, request, (how, false)).await,
            Err(error) => Err(Unanswered::unsent(error, request)),
        }
    }

    /// Sends a request to switch protocols, on a connection of its own.
    pub(super) async fn upgrade(
        &self,
        path: &str,
        request: Box<Request<Body>>,
        how: How<'_>,
    ) -> Result<Response<Incoming>, Unanswered> {
        match self.open_http1(how).await {
            Ok(open) => self.exchange(open, path, request, (how, false)).await,
            Err(error) => Err(Unanswered::unsent(error, request)),
        }
    }

    /// The bare connection, for whoever speaks to the upstream through a tunnel.
    pub(super) async fn dial(&self, by: Instant) -> Result<Box<dyn Bytes>, SendError> {
        Ok(match &self.reach {
            Reach::Tcp(target) => Box::new(self.dialer.connect(target, by).await?),
            Reach::Unix(path) => Box::new(self.dialer.connect_unix(path, by).await?),
        })
    }

    fn take(&self, how: How<'_>) -> Option<Open> {
        let usable = |open: &Open| {
            let closed = match &open.sender {
                Sender::H1(sender) => sender.is_closed(),
                Sender::H2(sender) => sender.is_closed(),
            };
            let revoked = not_revoked(open.connection.as_ref(), how.revocations).is_err();
            !closed && !revoked && self.still_good(open, how.now)
        };
        // Without TLS both protocols may be in use side by side.
        if self.tls.is_some() || how.http2 {
            let mut shared = self.kept.mine().shared.lock();
            match shared.as_ref().filter(|open| usable(open)) {
                Some(Open {
                    connection,
                    sender: Sender::H2(sender),
                    since,
                }) => {
                    let sender = Sender::H2(sender.clone());
                    return Some(Open {
                        connection: connection.clone(),
                        sender,
                        since: *since,
                    });
                }
                _ => *shared = None,
            }
        }
        if self.tls.is_none() && how.http2 {
            return None;
        }
        let mut idle = self.kept.mine().idle.lock();
        while let Some(open) = idle.pop() {
            if open.since.elapsed() < IDLE && usable(&open) {
                return Some(open);
            }
        }
        None
    }

    fn still_good(&self, open: &Open, now: Timestamp) -> bool {
        match (&self.tls, &open.connection) {
            (Some(tls), Some(connection)) => tls.connector.still_good(connection, now),
            (None, None) => true,
            _ => false,
        }
    }

    async fn exchange(
        &self,
        open: Open,
        path: &str,
        mut request: Box<Request<Body>>,
        (how, kept): (How<'_>, bool),
    ) -> Result<Response<Incoming>, Unanswered> {
        let Open {
            connection, sender, ..
        } = open;
        let unsent = |error, request, kept| Unanswered {
            error,
            kept,
            unsent: Some(request),
        };
        if let Err(error) = self.address(&mut request, path, matches!(sender, Sender::H2(_))) {
            return Err(unsent(error, request, kept));
        }
        let sent = match sender {
            Sender::H1(mut sender) => {
                if sender.ready().await.is_err() {
                    return Err(unsent(SendError::Closed, request, kept));
                }
                if !reaches(connection.as_ref(), how) {
                    return Err(unsent(SendError::Revoked, request, kept));
                }
                let sent = sender.try_send_request(*request).await;
                if sent.is_ok() {
                    self.keep(sender, connection);
                }
                sent
            }
            Sender::H2(mut sender) => {
                if sender.ready().await.is_err() {
                    return Err(unsent(SendError::Closed, request, kept));
                }
                if !reaches(connection.as_ref(), how) {
                    return Err(unsent(SendError::Revoked, request, kept));
                }
                sender.try_send_request(*request).await
            }
        };
        sent.map_err(|mut error| Unanswered {
            kept,
            unsent: error.take_message().map(Box::new),
            error: error.into_error().into(),
        })
    }

    /// Keeps a connection for later, once its answer has been read; one whose answer is not read
    /// to the end never becomes ready.
    fn keep(
        &self,
        mut sender: http1::SendRequest<Body>,
        connection: Option<countersign_net::Connection>,
    ) {
        let idle = self.kept.mine().idle.clone();
        let most = self.kept.share(MOST_IDLE);
        tokio::spawn(async move {
            if sender.ready().await.is_ok() {
                let mut idle = idle.lock();
                // The oldest are in front, and it may be long before somebody asks for one.
                idle.retain(|open| open.since.elapsed() < IDLE);
                if idle.len() < most {
                    idle.push(Open {
                        connection,
                        sender: Sender::H1(sender),
                        since: Instant::now(),
                    });
                }
            }
        });
    }

    /// Origin form with `Host` for HTTP/1.1, all parts in the target for HTTP/2.
    fn address(
        &self,
        request: &mut Request<Body>,
        path: &str,
        http2: bool,
    ) -> Result<(), SendError> {
        let path = bytes::Bytes::from([&self.base, path].concat());
        let path = PathAndQuery::from_maybe_shared(path).map_err(|_| SendError::Target)?;
        let headers = request.headers_mut();
        headers.remove(header::HOST);
        if http2 {
            headers.remove(header::CONNECTION);
            *request.version_mut() = Version::HTTP_2;
            let mut parts = uri::Parts::default();
            parts.scheme = Some(match self.tls {
                Some(_) => Scheme::HTTPS,
                None => Scheme::HTTP,
            });
            parts.authority.clone_from(&self.parsed);
            parts.path_and_query = Some(path);
            *request.uri_mut() = Uri::from_parts(parts).map_err(|_| SendError::Target)?;
        } else {
            let host = HeaderValue::from_str(&self.authority).map_err(|_| SendError::Target)?;
            headers.insert(header::HOST, host);
            // `TE` is for the next hop only, and says so (RFC 9110 section 10.1.4).
            if headers.contains_key(header::TE) {
                headers
                    .entry(header::CONNECTION)
                    .or_insert(HeaderValue::from_static("te"));
            }
            *request.version_mut() = Version::HTTP_11;
            *request.uri_mut() = Uri::from(path);
        }
        Ok(())
    }

    async fn open(&self, how: How<'_>) -> Result<Open, SendError> {
        let (target, tls) = match (&self.reach, &self.tls) {
            (Reach::Tcp(target), Some(tls)) => (target, tls),
            _ => {
                let stream = self.dial(how.connect_by).await?;
                return if how.http2 {
                    self.start_h2(stream, None).await
                } else {
                    start_h1(stream, None).await
                };
            }
        };
        let stream = self.dialer.connect(target, how.connect_by).await?;
        let connected = tls.connector.connect(stream, &tls.name, how.connect_by);
        let (stream, connection) = connected.await?;
        not_revoked(Some(&connection), how.revocations)?;
        if connection.alpn.as_deref() == Some(b"h2") {
            self.start_h2(Box::new(stream), Some(connection)).await
        } else {
            start_h1(Box::new(stream), Some(connection)).await
        }
    }

    async fn open_http1(&self, how: How<'_>) -> Result<Open, SendError> {
        let (Reach::Tcp(target), Some(tls)) = (&self.reach, &self.tls) else {
            return self
                .open(How {
                    http2: false,
                    ..how
                })
                .await;
        };
        let stream = self.dialer.connect(target, how.connect_by).await?;
        let connected = tls.http1.connect(stream, &tls.name, how.connect_by);
        let (stream, connection) = connected.await?;
        not_revoked(Some(&connection), how.revocations)?;
        start_h1(Box::new(stream), Some(connection)).await
    }

    async fn start_h2(
        &self,
        stream: Box<dyn Bytes>,
        connection: Option<countersign_net::Connection>,
    ) -> Result<Open, SendError> {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_header_list_size(MAX_HEADERS);
        builder.keep_alive_interval(IDLE);
        let (sender, task) = builder.handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move { ended(task.await) });
        let open = |sender| Open {
            connection: connection.clone(),
            sender: Sender::H2(sender),
            since: Instant::now(),
        };
        *self.kept.mine().shared.lock() = Some(open(sender.clone()));
        Ok(open(sender))
    }
}

impl Unanswered {
    fn unsent(error: SendError, request: Box<Request<Body>>) -> Self {
        Self {
            error,
            kept: false,
            unsent: Some(request),
        }
    }
}

async fn start_h1(
    stream: Box<dyn Bytes>,
    connection: Option<countersign_net::Connection>,
) -> Result<Open, SendError> {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEADERS as usize);
    let (sender, task) = builder.handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move { ended(task.with_upgrades().await) });
    Ok(Open {
        connection,
        sender: Sender::H1(sender),
        since: Instant::now(),
    })
}

fn ended(outcome: Result<(), hyper::Error>) {
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection to an upstream ended");
    }
}

/// Tells the hop who is asked, before a byte of it goes there: whoever is revoked while they let us
/// wait gets no more of it. Whether it may go there at all.
fn reaches(connection: Option<&countersign_net::Connection>, how: How<'_>) -> bool {
    let Some(admitted) = how.admitted else {
        return true;
    };
    if let Some(peer) = connection.and_then(|it| it.peer.clone()) {
        admitted.reached(peer);
    }
    admitted.cut().code().is_none()
}

/// A handshake knows nothing of revocations, and a connection that is kept knows less every minute.
fn not_revoked(
    connection: Option<&countersign_net::Connection>,
    revocations: &Revocations,
) -> Result<(), SendError> {
    let revoked = connection.and_then(|it| it.peer.as_ref()).and_then(|peer| {
        let leaf = revocations.certificate(&peer.leaf);
        leaf.or_else(|| revocations.path(&peer.issuer, &peer.issuers_above))
            .or_else(|| revocations.workload(&peer.spiffe_id))
    });
    if revoked.is_some() {
        Err(SendError::Revoked)
    } else {
        Ok(())
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reach {
            Reach::Unix(path) if self.tls.is_none() && self.authority == "localhost" => {
                write!(f, "unix:{}", path.display())
            }
            _ => f.write_str(&self.authority),
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connections to {self}")
    }
}
