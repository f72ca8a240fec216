use crate::body::Body;
use countersign_core::snapshot::Revocations;
use countersign_core::vocabulary::Timestamp;
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
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::client::conn::http2;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::time::Instant;

/// The connections to one upstream.
///
/// A connection carries a request only while what it was opened with still holds: our leaf is the
/// one we show now, the peer's has not ended and is not revoked, its root is trusted. So a pool
/// never outlives our identity, the peer's or the trust bundle.
pub(crate) struct Pool {
    authority: String,
    dialer: Dialer,
    idle: Arc<Mutex<Vec<Open>>>,
    shared: Mutex<Option<Open>>,
    target: Target,
    tls: Option<Tls>,
}

/// How an upstream is reached by TLS.
pub(crate) struct Tls {
    pub(crate) connector: Connector,
    /// For a WebSocket, which is opened by HTTP/1.1.
    pub(crate) http1: Connector,
    /// The server name.
    pub(crate) name: String,
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    Tls(#[from] ConnectError),
    #[error("the exchange broke")]
    Http(#[from] hyper::Error),
    #[error("the upstream's certificate is revoked")]
    Revoked,
    #[error("the request has no usable target")]
    Target,
}

struct Open {
    connection: Option<countersign_net::Connection>,
    sender: Sender,
    since: Instant,
}

enum Sender {
    H1(http1::SendRequest<Body>),
    H2(http2::SendRequest<Body>),
}

/// Not sent, and so free to be sent again; or failed.
enum Unsent {
    Again(Box<Request<Body>>),
    Failed(SendError),
}

/// The largest header block of an answer, in bytes.
const MAX_HEADERS: u32 = 64 * 1024;
/// Idle HTTP/1.1 connections kept for one upstream.
const MOST_IDLE: usize = 64;
/// How long they are kept.
const IDLE: Duration = Duration::from_secs(30);

impl Pool {
    /// A pool of connections to `target`, called `authority` in requests.
    pub(crate) fn new(authority: String, target: Target, tls: Option<Tls>) -> Self {
        let (idle, shared) = (Arc::default(), Mutex::default());
        Self {
            authority,
            dialer: Dialer,
            idle,
            shared,
            target,
            tls,
        }
    }

    /// Sends a request and waits for the head of its answer. A request is sent again only if not a
    /// byte of it had left.
    pub(crate) async fn send(
        &self,
        mut request: Request<Body>,
        deadline: Instant,
        now: Timestamp,
        revocations: &Revocations,
    ) -> Result<Response<Incoming>, SendError> {
        while let Some(open) = self.take(now, revocations) {
            match self.exchange(open, request).await {
                Ok(response) => return Ok(response),
                Err(Unsent::Again(unsent)) => request = *unsent,
                Err(Unsent::Failed(error)) => return Err(error),
            }
        }
        let open = self.open(deadline).await?;
        not_revoked(open.connection.as_ref(), revocations)?;
        self.finish(self.exchange(open, request).await)
    }

    /// Sends a request to switch protocols, on a connection of its own.
    pub(crate) async fn upgrade(
        &self,
        request: Request<Body>,
        deadline: Instant,
        revocations: &Revocations,
    ) -> Result<Response<Incoming>, SendError> {
        let stream = self.dialer.connect(&self.target, deadline).await?;
        let open = match &self.tls {
            None => start_h1(stream, None).await?,
            Some(tls) => {
                let (stream, connection) = tls.http1.connect(stream, &tls.name, deadline).await?;
                not_revoked(Some(&connection), revocations)?;
                start_h1(stream, Some(connection)).await?
            }
        };
        self.finish(self.exchange(open, request).await)
    }

    fn finish(
        &self,
        sent: Result<Response<Incoming>, Unsent>,
    ) -> Result<Response<Incoming>, SendError> {
        sent.map_err(|unsent| match unsent {
            Unsent::Failed(error) => error,
            // A connection that closes at once is not tried again.
            Unsent::Again(_) => SendError::Dial(DialError::NoAddress(self.authority.clone())),
        })
    }

    fn take(&self, now: Timestamp, revocations: &Revocations) -> Option<Open> {
        let usable = |open: &Open| {
            let closed = match &open.sender {
                Sender::H1(sender) => sender.is_closed(),
                Sender::H2(sender) => sender.is_closed(),
            };
            let revoked = not_revoked(open.connection.as_ref(), revocations).is_err();
            !closed && !revoked && self.still_good(open, now)
        };
        let mut shared = self.shared.lock();
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
        drop(shared);
        let mut idle = self.idle.lock();
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
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, Unsent> {
        let Open {
            connection, sender, ..
        } = open;
        self.address(&mut request, matches!(sender, Sender::H2(_)))
            .map_err(Unsent::Failed)?;
        let sent = match sender {
            Sender::H1(mut sender) => {
                if sender.ready().await.is_err() {
                    return Err(Unsent::Again(Box::new(request)));
                }
                let sent = sender.try_send_request(request).await;
                if sent.is_ok() {
                    self.keep(sender, connection);
                }
                sent
            }
            Sender::H2(mut sender) => {
                if sender.ready().await.is_err() {
                    return Err(Unsent::Again(Box::new(request)));
                }
                sender.try_send_request(request).await
            }
        };
        sent.map_err(|mut error| match error.take_message() {
            Some(request) => Unsent::Again(Box::new(request)),
            None => Unsent::Failed(error.into_error().into()),
        })
    }

    /// Keeps a connection for later, once its answer has been read; one whose answer is not read
    /// to the end never becomes ready.
    fn keep(
        &self,
        mut sender: http1::SendRequest<Body>,
        connection: Option<countersign_net::Connection>,
    ) {
        let idle = self.idle.clone();
        tokio::spawn(async move {
            if sender.ready().await.is_ok() {
                let mut idle = idle.lock();
                if idle.len() < MOST_IDLE {
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
    fn address(&self, request: &mut Request<Body>, http2: bool) -> Result<(), SendError> {
        let path = request
            .uri()
            .path_and_query()
            .cloned()
            .ok_or(SendError::Target)?;
        let headers = request.headers_mut();
        headers.remove(header::HOST);
        if http2 {
            *request.version_mut() = Version::HTTP_2;
            let uri = Uri::builder()
                .scheme("https")
                .authority(self.authority.as_str());
            *request.uri_mut() = uri
                .path_and_query(path)
                .build()
                .map_err(|_| SendError::Target)?;
        } else {
            let host = HeaderValue::from_str(&self.authority).map_err(|_| SendError::Target)?;
            headers.insert(header::HOST, host);
            *request.version_mut() = Version::HTTP_11;
            *request.uri_mut() = Uri::from(path);
        }
        Ok(())
    }

    async fn open(&self, deadline: Instant) -> Result<Open, SendError> {
        let stream = self.dialer.connect(&self.target, deadline).await?;
        let Some(tls) = &self.tls else {
            return start_h1(stream, None).await;
        };
        let (stream, connection) = tls.connector.connect(stream, &tls.name, deadline).await?;
        if connection.alpn.as_deref() != Some(b"h2") {
            return start_h1(stream, Some(connection)).await;
        }
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_header_list_size(MAX_HEADERS);
        builder.keep_alive_interval(IDLE);
        let (sender, task) = builder.handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move { ended(task.await) });
        let open = |sender| Open {
            connection: Some(connection.clone()),
            sender: Sender::H2(sender),
            since: Instant::now(),
        };
        *self.shared.lock() = Some(open(sender.clone()));
        Ok(open(sender))
    }
}

async fn start_h1<IO>(
    stream: IO,
    connection: Option<countersign_net::Connection>,
) -> Result<Open, SendError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
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

/// A handshake knows nothing of revocations, and a connection that is kept knows less every minute.
fn not_revoked(
    connection: Option<&countersign_net::Connection>,
    revocations: &Revocations,
) -> Result<(), SendError> {
    let revoked = connection.and_then(|it| it.peer.as_ref()).and_then(|peer| {
        let leaf = revocations.certificate(&peer.leaf);
        leaf.or_else(|| revocations.issuer(&peer.issuer))
            .or_else(|| revocations.workload(&peer.spiffe_id))
    });
    if revoked.is_some() {
        Err(SendError::Revoked)
    } else {
        Ok(())
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connections to {}", self.authority)
    }
}
