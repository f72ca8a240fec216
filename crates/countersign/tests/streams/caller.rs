//! A caller of its own making: plain rustls and hyper, which sends nothing twice.

use crate::pipe::Pipe;
use crate::place::DOMAIN;
use countersign_testkit::program::caller;
use http::Request;
use http::Response;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::client::conn::http2;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::HandshakeKind;
use rustls::pki_types::ServerName;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpStream;

/// A way to one door, with one certificate or none; keeps TLS sessions for resumption.
#[derive(Clone)]
pub(crate) struct Door {
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    pub(crate) name: String,
    pub(crate) port: u16,
}

/// An open connection.
pub(crate) struct Connection {
    /// What requests on it name as their host.
    pub(crate) host: String,
    sender: Sender,
    /// Whether its TLS session was resumed.
    pub(crate) resumed: bool,
}

enum Sender {
    Http1(http1::SendRequest<Pipe>),
    Http2(http2::SendRequest<Pipe>),
}

/// Why there is no connection.
pub(crate) type Failed = Box<dyn std::error::Error + Send + Sync>;

impl Door {
    /// The mesh door of the service `api`, with the identity in a folder.
    pub(crate) fn mesh(identity: &Path, port: u16) -> Self {
        Self::new(identity, true, format!("api.mesh.{DOMAIN}"), port)
    }

    /// A browser door, trusting the roots in the folder of some identity.
    pub(crate) fn web(identity: &Path, port: u16) -> Self {
        Self::new(identity, false, "localhost".to_owned(), port)
    }

    fn new(identity: &Path, certified: bool, name: String, port: u16) -> Self {
        let config = |protocol: &[u8]| caller(identity, certified, protocol);
        Self {
            http1: config(b"http/1.1"),
            http2: config(b"h2"),
            name,
            port,
        }
    }

    /// The same door at another port.
    pub(crate) fn at(&self, port: u16) -> Self {
        Self {
            port,
            ..self.clone()
        }
    }

    /// Opens a connection.
    pub(crate) async fn open(&self, http2: bool) -> Result<Connection, Failed> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.set_nodelay(true)?;
        let config = if http2 { &self.http2 } else { &self.http1 };
        let name = ServerName::try_from(self.name.clone())?;
        let tls = tokio_rustls::TlsConnector::from(config.clone());
        let stream = tls.connect(name, stream).await?;
        let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
        let io = TokioIo::new(stream);
        let sender = if http2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
            tokio::spawn(connection);
            Sender::Http2(sender)
        } else {
            let (sender, connection) = http1::handshake(io).await?;
            tokio::spawn(connection.with_upgrades());
            Sender::Http1(sender)
        };
        let host = match self.name.as_str() {
            "localhost" => format!("localhost:{}", self.port),
            name => name.to_owned(),
        };
        Ok(Connection {
            host,
            sender,
            resumed,
        })
    }
}

impl Connection {
    pub(crate) const fn is_http2(&self) -> bool {
        matches!(self.sender, Sender::Http2(_))
    }

    /// Whether it takes another request.
    pub(crate) async fn is_open(&mut self) -> bool {
        match &mut self.sender {
            Sender::Http1(sender) => sender.ready().await.is_ok(),
            Sender::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    /// A request for a path here.
    pub(crate) fn request(
        &self,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
    ) -> http::request::Builder {
        let mut request = Request::builder().method(method);
        request = if self.is_http2() {
            request.uri(format!("https://{}{path}", self.host))
        } else {
            request.uri(path).header("host", &self.host)
        };
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request
    }

    /// Sends a request once, and waits for the head of its answer.
    pub(crate) async fn send(
        &mut self,
        request: Request<Pipe>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        match &mut self.sender {
            Sender::Http1(sender) => sender.send_request(request).await,
            Sender::Http2(sender) => sender.send_request(request).await,
        }
    }
}
