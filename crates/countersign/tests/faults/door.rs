//! A caller of its own making at a door: plain rustls and hyper, so that it decides itself which
//! protocol, connection, session and token it uses.

use crate::site::DOMAIN;
use bytes::Bytes;
use countersign_testkit::program::caller;
use http::Request;
use http::Response;
use http_body_util::BodyExt;
use http_body_util::Full;
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
use std::time::Duration;
use tokio::net::TcpStream;

/// A way to one door, with one certificate or none; keeps TLS sessions for resumption.
pub(crate) struct Door {
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    name: String,
    port: u16,
}

/// An open connection.
pub(crate) struct Connection {
    name: String,
    sender: Sender,
    /// Whether its TLS session was resumed.
    pub(crate) resumed: bool,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// Why there is no response.
pub(crate) type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Ends what hangs; no measure of how fast anything is.
const LIMIT: Duration = Duration::from_secs(60);

impl Door {
    /// The mesh door of a service, with the identity in a folder.
    pub(crate) fn mesh(identity: &Path, service: &str, port: u16) -> Self {
        let name = format!("{service}.mesh.{DOMAIN}");
        Self::new(identity, true, name, port)
    }

    /// A browser door, trusting the roots in the folder of some identity.
    pub(crate) fn browser(identity: &Path, port: u16) -> Self {
        Self::new(identity, false, "localhost".to_owned(), port)
    }

    fn new(identity: &Path, certified: bool, name: String, port: u16) -> Self {
        let config = |protocol: &[u8]| caller(identity, certified, protocol);
        let (http1, http2) = (config(b"http/1.1"), config(b"h2"));
        Self {
            http1,
            http2,
            name,
            port,
        }
    }

    /// Opens a connection that speaks HTTP/1.1.
    pub(crate) async fn http1(&self) -> Result<Connection, Failed> {
        let (io, resumed) = self.tls(&self.http1).await?;
        let (sender, connection) = http1::handshake(io).await?;
        tokio::spawn(connection);
        Ok(self.connected(Sender::Http1(sender), resumed))
    }

    /// Opens a connection that speaks HTTP/2.
    pub(crate) async fn http2(&self) -> Result<Connection, Failed> {
        let (io, resumed) = self.tls(&self.http2).await?;
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
        tokio::spawn(connection);
        Ok(self.connected(Sender::Http2(sender), resumed))
    }

    fn connected(&self, sender: Sender, resumed: bool) -> Connection {
        let name = match self.name.as_str() {
            "localhost" => format!("localhost:{}", self.port),
            name => name.to_owned(),
        };
        Connection {
            name,
            sender,
            resumed,
        }
    }

    async fn tls(
        &self,
        config: &Arc<ClientConfig>,
    ) -> Result<(TokioIo<tokio_rustls::client::TlsStream<TcpStream>>, bool), Failed> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let name = ServerName::try_from(self.name.clone())?;
        let tls = tokio_rustls::TlsConnector::from(config.clone());
        let stream = tokio::time::timeout(LIMIT, tls.connect(name, stream)).await??;
        let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
        Ok((TokioIo::new(stream), resumed))
    }
}

impl Connection {
    /// Sends a request and waits for the head of its response.
    pub(crate) async fn begin(
        &mut self,
        (method, path): (&str, &str),
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Response<Incoming>, Failed> {
        let mut request = Request::builder().method(method);
        request = match self.sender {
            Sender::Http1(_) => request.uri(path).header("host", &self.name),
            Sender::Http2(_) => request.uri(format!("https://{}{path}", self.name)),
        };
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body.to_owned())))?;
        let response = async {
            match &mut self.sender {
                Sender::Http1(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await
                }
                Sender::Http2(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await
                }
            }
        };
        Ok(tokio::time::timeout(LIMIT, response).await??)
    }

    /// Sends a request and waits for the whole response.
    pub(crate) async fn ask(
        &mut self,
        what: (&str, &str),
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Response<Bytes>, Failed> {
        let (head, body) = self.begin(what, headers, body).await?.into_parts();
        let body = tokio::time::timeout(LIMIT, body.collect()).await??;
        Ok(Response::from_parts(head, body.to_bytes()))
    }

    /// `GET` with a token.
    pub(crate) async fn get(&mut self, path: &str, token: &str) -> Result<Response<Bytes>, Failed> {
        let bearer = format!("Bearer {token}");
        self.ask(("GET", path), &[("authorization", &bearer)], "")
            .await
    }
}

/// The code of a refusal, or nothing for an answer that was let through.
pub(crate) fn code(response: &Response<Bytes>) -> Option<String> {
    let refused = response.headers().contains_key("countersign-pillar");
    refused.then(|| {
        let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        body["code"].as_str().unwrap().to_owned()
    })
}

/// The receipt of an answer.
pub(crate) fn receipt(response: &Response<Bytes>) -> String {
    let receipt = response.headers().get("countersign-receipt");
    receipt.expect("no receipt").to_str().unwrap().to_owned()
}
