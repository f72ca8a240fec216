//! The libraries that countersign is made of, without countersign: mutual TLS in, mutual TLS out,
//! and nothing looked at. What a request costs here is the floor that they set.
//!
//! With [`Proven`], each request takes an assertion along and leaves its records, too.

pub(crate) mod proven;

use self::proven::Proven;
use crate::tls;
use anyhow::Result;
use http::Request;
use http::Response;
use http::Uri;
use http::Version;
use http::header;
use http::uri::PathAndQuery;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::TlsConnector;

/// The connection to the service.
pub(crate) type Upstream = http2::SendRequest<Incoming>;

/// Forwards from `listen` to `upstream`, over one connection of HTTP/2, until it is ended; with
/// assertions and records in the folder `proven`, if there is one.
pub(crate) async fn serve(
    listen: SocketAddr,
    upstream: SocketAddr,
    identity: &Path,
    proven: Option<&Path>,
) -> Result<()> {
    let proven = proven.map(|folder| Proven::start(folder, upstream));
    let proven = proven.transpose()?;
    let acceptor = TlsAcceptor::from(Arc::new(tls::server(identity)?));
    let connector = TlsConnector::from(Arc::new(tls::client(identity, true, b"h2", None)?));
    let stream = tls::connect(&connector, upstream, tls::HOST).await?;
    let builder = http2::Builder::new(TokioExecutor::new());
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let listener = TcpListener::bind(listen).await?;
    println!("ready");
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (acceptor, sender, proven) = (acceptor.clone(), sender.clone(), proven.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let stream = TokioIo::new(stream);
            let server = auto::Builder::new(TokioExecutor::new());
            // A connection that ends is its client's business.
            let _ = if let Some(proven) = proven {
                let forward = move |request| proven.clone().forward(sender.clone(), request);
                server.serve_connection(stream, service_fn(forward)).await
            } else {
                let forward = move |request| forward(sender.clone(), request);
                server.serve_connection(stream, service_fn(forward)).await
            };
        });
    }
}

/// Forwards a request, and nothing else.
pub(crate) async fn forward(
    mut sender: Upstream,
    mut request: Request<Incoming>,
) -> Result<Response<Incoming>> {
    let path = request.uri().path_and_query().cloned();
    let path = path.unwrap_or(PathAndQuery::from_static("/"));
    let uri = Uri::builder().scheme("https").authority(tls::HOST);
    *request.uri_mut() = uri.path_and_query(path).build()?;
    *request.version_mut() = Version::HTTP_2;
    request.headers_mut().remove(header::HOST);
    sender.ready().await?;
    let mut response = sender.send_request(request).await?;
    *response.version_mut() = Version::default();
    Ok(response)
}
