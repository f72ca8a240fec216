//! An application on loopback, by HTTP/1.1 or HTTP/2 as it is spoken to, with answers of every kind
//! that never end by themselves.

use crate::pipe::Pipe;
use crate::pipe::pipe;
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderMap;
use http::HeaderValue;
use http::Request;
use http::Response;
use http::header;
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::TcpListener;

/// An application that runs as long as its runtime.
pub(crate) struct Upstream {
    pub(crate) port: u16,
    /// Calls of gRPC that have sent their first message and go on.
    pub(crate) listening: Arc<AtomicUsize>,
}

/// A message of gRPC.
pub(crate) const MESSAGE: &[u8] = b"\0\0\0\0\x02hi";
/// How often an endless answer says something.
const BEAT: Duration = Duration::from_millis(20);

impl Upstream {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let listening: Arc<AtomicUsize> = Arc::default();
        let counting = listening.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let counting = counting.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let counting = counting.clone();
                        async move { Ok::<_, Infallible>(answer(request, counting).await) }
                    });
                    let builder = auto::Builder::new(TokioExecutor::new());
                    // Its caller may go at any moment.
                    let _ = builder
                        .serve_connection_with_upgrades(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { port, listening }
    }
}

async fn answer(mut request: Request<Incoming>, listening: Arc<AtomicUsize>) -> Response<Pipe> {
    let path = request.uri().path().to_owned();
    match path.as_str() {
        "/events" => endless("text/event-stream", b"data: 1\n\n"),
        "/slow" => endless("application/octet-stream", b"some bytes, "),
        "/socket" => socket(&mut request),
        "/rpc/server" => endless("application/grpc", MESSAGE),
        "/rpc/client" | "/rpc/unary" => {
            let mut body = request.into_body();
            while let Some(Ok(frame)) = body.frame().await {
                if path == "/rpc/client" && frame.is_data() {
                    listening.fetch_add(1, Ordering::SeqCst);
                }
            }
            let message = Frame::data(Bytes::from_static(MESSAGE));
            said("application/grpc", Pipe::whole([message, well()]))
        }
        "/rpc/both" => {
            let (back, body) = pipe();
            let mut said_by_caller = request.into_body();
            tokio::spawn(async move {
                while let Some(Ok(frame)) = said_by_caller.frame().await {
                    if frame.is_data() && back.send(frame).await.is_err() {
                        return;
                    }
                }
            });
            said("application/grpc", body)
        }
        _ => {
            let text = Bytes::from(format!("{{\"path\":\"{path}\"}}"));
            said("application/json", Pipe::whole([Frame::data(text)]))
        }
    }
}

fn said(kind: &'static str, body: Pipe) -> Response<Pipe> {
    let response = Response::builder().header(header::CONTENT_TYPE, kind);
    response.body(body).unwrap()
}

/// The trailers of a call that went well.
fn well() -> Frame<Bytes> {
    let mut fields = HeaderMap::new();
    fields.insert("grpc-status", HeaderValue::from_static("0"));
    Frame::trailers(fields)
}

fn endless(kind: &'static str, words: &'static [u8]) -> Response<Pipe> {
    let (sender, body) = pipe();
    tokio::spawn(async move {
        let words = || Frame::data(Bytes::from_static(words));
        while sender.send(words()).await.is_ok() {
            tokio::time::sleep(BEAT).await;
        }
    });
    said(kind, body)
}

/// A WebSocket that gives back what it gets.
fn socket(request: &mut Request<Incoming>) -> Response<Pipe> {
    let key = request.headers()["sec-websocket-key"].to_str().unwrap();
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    let accept = STANDARD.encode(hash);
    let upgrade = hyper::upgrade::on(request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let (mut from, mut to) = tokio::io::split(TokioIo::new(upgraded));
        let _ = tokio::io::copy(&mut from, &mut to).await;
    });
    Response::builder()
        .status(101)
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_ACCEPT, accept)
        .body(Pipe::empty())
        .unwrap()
}
