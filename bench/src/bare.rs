//! The libraries that countersign is made of, without countersign: mutual TLS in, mutual TLS out,
//! and nothing looked at. What a request costs here is the floor that they set.

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

/// Forwards from `listen` to `upstream`, over one connection of HTTP/2, until it is ended.
pub(crate) async fn serve(listen: SocketAddr, upstream: SocketAddr, identity: &Path) -> Result<()> {
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
        let (acceptor, sender) = (acceptor.clone(), sender.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let service = service_fn(move |request| forward(sender.clone(), request));
            let server = auto::Builder::new(TokioExecutor::new());
            // A connection that ends is its client's business.
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn forward(
    mut sender: http2::SendRequest<Incoming>,
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
