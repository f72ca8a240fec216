//! A service that answers as a test tells it to, and that can be taken away.

use super::PATIENCE;
use super::TestBody;
use bytes::Bytes;
use countersign_net::Acceptor;
use countersign_net::Listener;
use countersign_net::Roots;
use countersign_net::Source;
use countersign_testkit::pki::Pki;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::Request;
use http::Response;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// What answers a request.
pub(crate) type Handler =
    Arc<dyn Fn(Request<Incoming>) -> BoxFuture<'static, Response<TestBody>> + Send + Sync>;

/// A service at an address of its own; gone, with its connections, once it is dropped.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    serving: AbortHandle,
}

impl Backend {
    /// Serves by mTLS as `identity`, with HTTP/2 or HTTP/1.1 as the caller likes.
    pub(crate) async fn mutual(pki: &Pki, identity: &str, handler: Handler) -> Self {
        let listener = Listener::Mutual {
            resumption: true,
            roots: Roots::new(pki.bundle(1)),
            svid: Source::new(pki.svid(identity)),
        };
        let acceptor = Arc::new(Acceptor::new(listener).unwrap());
        Self::start("127.0.0.1:0", move |stream, requests| {
            let (acceptor, handler) = (acceptor.clone(), handler.clone());
            async move {
                let deadline = Instant::now() + PATIENCE;
                let Ok((stream, established)) = acceptor.accept(stream, deadline).await else {
                    return;
                };
                let http2 = established.alpn.as_deref() == Some(b"h2");
                serve(TokioIo::new(stream), http2, handler, requests).await;
            }
            .boxed()
        })
        .await
    }

    /// Serves without TLS: HTTP/1.1, or HTTP/2 with prior knowledge.
    pub(crate) async fn plain(http2: bool, handler: Handler) -> Self {
        Self::start("127.0.0.1:0", move |stream, requests| {
            serve(TokioIo::new(stream), http2, handler.clone(), requests).boxed()
        })
        .await
    }

    /// Does with each connection what a test says.
    pub(crate) async fn raw<F, R>(script: F) -> Self
    where
        F: Fn(TcpStream, Arc<AtomicUsize>) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        Self::start("127.0.0.1:0", move |stream, requests| {
            script(stream, requests).boxed()
        })
        .await
    }

    /// The same, at an address that was another's before.
    pub(crate) async fn plain_at(address: SocketAddr, handler: Handler) -> Self {
        Self::start(address, move |stream, requests| {
            serve(TokioIo::new(stream), false, handler.clone(), requests).boxed()
        })
        .await
    }

    async fn start<F>(at: impl tokio::net::ToSocketAddrs, serve: F) -> Self
    where
        F: Fn(TcpStream, Arc<AtomicUsize>) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    {
        let socket = TcpListener::bind(at).await.unwrap();
        let address = socket.local_addr().unwrap();
        let (connections, requests) =
            (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (accepted, asked) = (connections.clone(), requests.clone());
        let serving = tokio::spawn(async move {
            // Dropped with this task, and every connection with it.
            let mut open = JoinSet::new();
            loop {
                let (stream, _) = socket.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                accepted.fetch_add(1, Ordering::SeqCst);
                open.spawn(serve(stream, asked.clone()));
            }
        });
        Self {
            address,
            connections,
            requests,
            serving: serving.abort_handle(),
        }
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve<IO>(io: TokioIo<IO>, http2: bool, handler: Handler, requests: Arc<AtomicUsize>)
where
    IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        requests.fetch_add(1, Ordering::SeqCst);
        handler(request).map(Ok::<_, Infallible>)
    });
    let _ = if http2 {
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder.serve_connection(io, service).await
    } else {
        let builder = hyper::server::conn::http1::Builder::new();
        builder.serve_connection(io, service).with_upgrades().await
    };
}

/// A handler from a function.
pub(crate) fn handler<F, R>(answer: F) -> Handler
where
    F: Fn(Request<Incoming>) -> R + Send + Sync + 'static,
    R: Future<Output = Response<TestBody>> + Send + 'static,
{
    Arc::new(move |request| answer(request).boxed())
}

/// A whole answer.
pub(crate) fn text(status: u16, body: &str) -> Response<TestBody> {
    let body = http_body_util::Full::new(Bytes::copy_from_slice(body.as_bytes()));
    let body = body.map_err(|never| match never {}).boxed_unsync();
    Response::builder().status(status).body(body).unwrap()
}
