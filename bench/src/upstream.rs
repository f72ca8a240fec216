//! The service behind the proxies: fixed answers over mutual TLS, HTTP/1.1 and HTTP/2.

use crate::tls;
use anyhow::Result;
use bytes::Bytes;
use countersign_net::assertion;
use http::Request;
use http::Response;
use http::StatusCode;
use http_body_util::BodyExt as _;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Where an answer of 1 KiB is.
pub(crate) const SMALL: &str = "/v1/reports/42";
/// Where an answer of 1 MiB is.
pub(crate) const BIG: &str = "/v1/files/42";
/// Where the answer is the assertion that the request brought.
pub(crate) const ASSERTION: &str = "/v1/assertion";
/// The sizes of the first two.
pub(crate) const SIZES: [usize; 2] = [1 << 10, 1 << 20];

/// Serves until it is ended.
pub(crate) async fn serve(listen: SocketAddr, identity: &Path) -> Result<()> {
    let acceptor = TlsAcceptor::from(Arc::new(tls::server(identity)?));
    let listener = TcpListener::bind(listen).await?;
    let bodies = SIZES.map(|size| Bytes::from(vec![b'x'; size]));
    println!("ready");
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let acceptor = acceptor.clone();
        let bodies = bodies.clone();
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let service = service_fn(move |request| answer(request, bodies.clone()));
            let server = auto::Builder::new(TokioExecutor::new());
            // A connection that ends is the proxy's business.
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    bodies: [Bytes; 2],
) -> Result<Response<Full<Bytes>>, Infallible> {
    let [small, big] = bodies;
    let path = request.uri().path();
    let (status, body) = if path.starts_with("/v1/reports/") {
        (StatusCode::OK, small)
    } else if path.starts_with("/v1/files/") {
        (StatusCode::OK, big)
    } else if path == ASSERTION {
        let brought = request.headers().get(assertion::HEADER);
        let brought = brought.map_or(&[][..], |it| it.as_bytes());
        (StatusCode::OK, Bytes::copy_from_slice(brought))
    } else {
        (StatusCode::NOT_FOUND, Bytes::new())
    };
    let _ = request.into_body().collect().await;
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    Ok(response)
}
