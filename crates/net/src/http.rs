//! A small HTTP client for our own control calls: one peer, HTTP/1.1 or HTTP/2 as negotiated,
//! limits on size and time, no redirects.

use crate::client_tls::ConnectError;
use crate::client_tls::Connection;
use crate::client_tls::Connector;
use crate::dial::DialError;
use crate::dial::Dialer;
use crate::dial::Network;
use crate::dial::Target;
use ::http::Request;
use ::http::Response;
use ::http::Uri;
use ::http::Version;
use ::http::header;
use bytes::Bytes;
use countersign_core::vocabulary::Timestamp;
use http_body_util::BodyExt;
use http_body_util::Full;
use http_body_util::LengthLimitError;
use http_body_util::Limited;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::client::conn::http2;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use parking_lot::Mutex;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::time::Instant;

/// Calls one peer. Connections are kept and reused for as long as
/// [`Connector::still_good`] holds; clones share them.
#[derive(Clone, Debug)]
pub struct Client(Arc<Inner>);

/// Bounds of one call.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The largest response body, in bytes.
    pub body: usize,
    /// How long the whole call may take, connecting included.
    pub time: Duration,
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// No TLS.
    #[error(transparent)]
    Tls(#[from] ConnectError),
    /// The exchange broke.
    #[error("the exchange with `{peer}` failed")]
    Http {
        /// Whom we called.
        peer: String,
        /// What broke.
        source: hyper::Error,
    },
    /// The response is larger than the limit.
    #[error("the response of `{0}` is too large")]
    TooLarge(String),
    /// The call took too long.
    #[error("no response from `{0}` in time")]
    TimedOut(String),
    /// The request has no path, or the peer's name is no authority.
    #[error("the request to `{0}` has no usable path")]
    Request(String),
}

#[derive(Debug)]
struct Inner {
    authority: String,
    dialer: Dialer,
    idle: Mutex<Option<Open>>,
    route: Route,
}

#[derive(Debug)]
enum Route {
    Tls {
        connector: Connector,
        name: String,
        target: Target,
    },
    Unix(PathBuf),
    Loopback(Target),
}

#[derive(Debug)]
struct Open {
    connection: Option<Connection>,
    sender: Sender,
}

#[derive(Debug)]
enum Sender {
    H1(http1::SendRequest<Full<Bytes>>),
    H2(http2::SendRequest<Full<Bytes>>),
}

/// What a request comes to. Boxed: the code of a future is generated wherever it is polled, and
/// all of HTTP/1.1 and HTTP/2 need not be in every crate that asks for something.
type Answer<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, ClientError>> + Send + 'a>>;

/// Small responses have small headers.
const MAX_HEADERS: u32 = 64 * 1024;

impl Client {
    /// Calls `target` over TLS. `name` is sent as SNI and `Host`.
    #[must_use]
    pub fn tls(dialer: Dialer, connector: Connector, name: &str, target: Target) -> Self {
        let authority = if target.port == 443 {
            name.to_owned()
        } else {
            format!("{name}:{}", target.port)
        };
        let route = Route::Tls {
            connector,
            name: name.to_owned(),
            target,
        };
        Self(Arc::new(Inner {
            authority,
            dialer,
            idle: Mutex::new(None),
            route,
        }))
    }

    /// Calls `target` without TLS, HTTP/1.1, if it is on loopback.
    #[must_use]
    pub fn loopback(dialer: Dialer, target: Target) -> Self {
        let host = if target.host.contains(':') {
            format!("[{}]", target.host)
        } else {
            target.host.clone()
        };
        let route = Route::Loopback(Target {
            network: Network::Loopback,
            ..target
        });
        Self(Arc::new(Inner {
            authority: format!("{host}:{}", target.port),
            dialer,
            idle: Mutex::new(None),
            route,
        }))
    }

    /// Calls a unix socket, HTTP/1.1 without TLS.
    #[must_use]
    pub fn unix(dialer: Dialer, path: PathBuf) -> Self {
        let route = Route::Unix(path);
        let authority = "localhost".to_owned();
        Self(Arc::new(Inner {
            authority,
            dialer,
            idle: Mutex::new(None),
            route,
        }))
    }

    /// Sends one request; of its URI only path and query count. A redirect is a response like any
    /// other: it is not followed.
    ///
    /// # Errors
    /// [`ClientError`] says what failed. Whether the peer acted on the request is unknown then.
    pub fn request(&self, request: Request<Bytes>, limits: Limits) -> Answer<'_> {
        Box::pin(async move {
            let deadline = Instant::now() + limits.time;
            let call = self.call(request, limits.body, deadline);
            match tokio::time::timeout_at(deadline, call).await {
                Ok(result) => result,
                Err(_elapsed) => Err(ClientError::TimedOut(self.0.authority.clone())),
            }
        })
    }

    async fn call(
        &self,
        request: Request<Bytes>,
        limit: usize,
        deadline: Instant,
    ) -> Result<Response<Bytes>, ClientError> {
        let mut kept = self.take_idle();
        loop {
            let reused = kept.is_some();
            let mut open = match kept.take() {
                Some(open) => open,
                None => self.open(deadline).await?,
            };
            match self.exchange(&mut open, request.clone()).await {
                // The peer closed a kept connection before the request left: it was not seen.
                Err(error) if reused && error.is_canceled() => {}
                Err(source) => {
                    return Err(ClientError::Http {
                        peer: self.0.authority.clone(),
                        source,
                    });
                }
                Ok(None) => return Err(ClientError::Request(self.0.authority.clone())),
                Ok(Some(response)) => {
                    let response = self.collect(response, limit).await?;
                    self.keep(open);
                    return Ok(response);
                }
            }
        }
    }

    async fn exchange(
        &self,
        open: &mut Open,
        request: Request<Bytes>,
    ) -> Result<Option<Response<Incoming>>, hyper::Error> {
        let http2 = matches!(open.sender, Sender::H2(_));
        let Some(request) = self.addressed(request, http2) else {
            return Ok(None);
        };
        match &mut open.sender {
            Sender::H1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await.map(Some)
            }
            Sender::H2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await.map(Some)
            }
        }
    }

    /// HTTP/1.1 names the host in a header (RFC 9112 section 3.2), HTTP/2 in `:authority`.
    fn addressed(&self, request: Request<Bytes>, http2: bool) -> Option<Request<Full<Bytes>>> {
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().cloned()?;
        parts.headers.remove(header::HOST);
        parts.uri = if http2 {
            parts.version = Version::HTTP_2;
            let uri = Uri::builder()
                .scheme("https")
                .authority(self.0.authority.as_str());
            uri.path_and_query(path).build().ok()?
        } else {
            parts.version = Version::HTTP_11;
            parts
                .headers
                .insert(header::HOST, self.0.authority.parse().ok()?);
            Uri::from(path)
        };
        Some(Request::from_parts(parts, Full::new(body)))
    }

    async fn collect(
        &self,
        response: Response<Incoming>,
        limit: usize,
    ) -> Result<Response<Bytes>, ClientError> {
        let (parts, body) = response.into_parts();
        let peer = || self.0.authority.clone();
        match Limited::new(body, limit).collect().await {
            Ok(body) => Ok(Response::from_parts(parts, body.to_bytes())),
            Err(error) => match error.downcast::<hyper::Error>() {
                Ok(source) => Err(ClientError::Http {
                    peer: peer(),
                    source: *source,
                }),
                Err(error) if error.is::<LengthLimitError>() => Err(ClientError::TooLarge(peer())),
                Err(_) => Err(ClientError::TimedOut(peer())),
            },
        }
    }

    async fn open(&self, deadline: Instant) -> Result<Open, ClientError> {
        match &self.0.route {
            Route::Unix(path) => {
                let stream = self.0.dialer.connect_unix(path, deadline).await?;
                let sender = self.start_http1(stream).await?;
                Ok(Open {
                    connection: None,
                    sender,
                })
            }
            Route::Loopback(target) => {
                let stream = self.0.dialer.connect(target, deadline).await?;
                let sender = self.start_http1(stream).await?;
                Ok(Open {
                    connection: None,
                    sender,
                })
            }
            Route::Tls {
                connector,
                name,
                target,
            } => {
                let stream = self.0.dialer.connect(target, deadline).await?;
                let (stream, connection) = connector.connect(stream, name, deadline).await?;
                let sender = if connection.alpn.as_deref() == Some(b"h2") {
                    self.start_http2(stream).await?
                } else {
                    self.start_http1(stream).await?
                };
                Ok(Open {
                    connection: Some(connection),
                    sender,
                })
            }
        }
    }

    async fn start_http1<IO>(&self, stream: IO) -> Result<Sender, ClientError>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(MAX_HEADERS as usize);
        let started = builder.handshake(TokioIo::new(stream)).await;
        let (sender, task) = started.map_err(|source| self.broken(source))?;
        tokio::spawn(async move { report(task.await) });
        Ok(Sender::H1(sender))
    }

    async fn start_http2<IO>(&self, stream: IO) -> Result<Sender, ClientError>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_header_list_size(MAX_HEADERS);
        let started = builder.handshake(TokioIo::new(stream)).await;
        let (sender, task) = started.map_err(|source| self.broken(source))?;
        tokio::spawn(async move { report(task.await) });
        Ok(Sender::H2(sender))
    }

    fn broken(&self, source: hyper::Error) -> ClientError {
        ClientError::Http {
            peer: self.0.authority.clone(),
            source,
        }
    }

    /// A kept connection that may carry one more request. One of HTTP/2 is shared.
    fn take_idle(&self) -> Option<Open> {
        let mut idle = self.0.idle.lock();
        let open = idle.take().filter(|open| self.is_good(open))?;
        if let Sender::H2(sender) = &open.sender {
            let (connection, sender) = (open.connection.clone(), Sender::H2(sender.clone()));
            *idle = Some(Open { connection, sender });
        }
        Some(open)
    }

    fn keep(&self, open: Open) {
        if self.is_good(&open) {
            *self.0.idle.lock() = Some(open);
        }
    }

    fn is_good(&self, open: &Open) -> bool {
        let closed = match &open.sender {
            Sender::H1(sender) => sender.is_closed(),
            Sender::H2(sender) => sender.is_closed(),
        };
        let trusted = match (&self.0.route, &open.connection) {
            (Route::Tls { connector, .. }, Some(connection)) => {
                connector.still_good(connection, now())
            }
            (Route::Unix(_) | Route::Loopback(_), None) => true,
            _ => false,
        };
        trusted && !closed
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_secs(0).plus(since)
}

fn report(ended: Result<(), hyper::Error>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection of the control client ended");
    }
}
