//! What stands behind the gateway.

use super::PATIENCE;
use super::TestBody;
use super::piecewise;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use countersign_ledger::spool::Spool;
use countersign_net::Acceptor;
use countersign_net::Listener;
use http::HeaderMap;
use http::Request;
use http::Response;
use http_body_util::BodyExt;
use hyper::body::Frame;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::Value;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::Instant;

/// What an upstream got.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) headers: HeaderMap,
    pub(crate) method: String,
    pub(crate) target: String,
    /// Whether the record of an allowed call to this service was there when the request arrived.
    pub(crate) recorded: bool,
    pub(crate) body: Arc<Mutex<Vec<u8>>>,
}

#[derive(Clone)]
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Upstream {
    pub(crate) async fn start(tls: Option<Listener>, service: &'static str, spool: &Spool) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = Self {
            address: socket.local_addr().unwrap(),
            seen: Arc::default(),
        };
        let acceptor = tls.map(|tls| Arc::new(Acceptor::new(tls).unwrap()));
        let (seen, spool) = (upstream.seen.clone(), spool.clone());
        tokio::spawn(async move {
            loop {
                let (stream, _) = socket.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let (acceptor, seen, spool) = (acceptor.clone(), seen.clone(), spool.clone());
                tokio::spawn(async move {
                    let service = service_fn(move |request: Request<Incoming>| {
                        let late = request.uri().path().ends_with("/late");
                        let answer = answer(request, service, &seen, &spool);
                        async move {
                            if late {
                                tokio::time::sleep(Duration::from_secs(30)).await;
                            }
                            Ok::<_, Infallible>(answer)
                        }
                    });
                    let Some(acceptor) = acceptor else {
                        let connection = hyper::server::conn::http1::Builder::new();
                        let serving = connection.serve_connection(TokioIo::new(stream), service);
                        let _ = serving.with_upgrades().await;
                        return;
                    };
                    let deadline = Instant::now() + PATIENCE;
                    let Ok((stream, established)) = acceptor.accept(stream, deadline).await else {
                        return;
                    };
                    if established.alpn.as_deref() == Some(b"h2") {
                        let connection =
                            hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                        let _ = connection
                            .serve_connection(TokioIo::new(stream), service)
                            .await;
                    } else {
                        let connection = hyper::server::conn::http1::Builder::new();
                        let serving = connection.serve_connection(TokioIo::new(stream), service);
                        let _ = serving.with_upgrades().await;
                    }
                });
            }
        });
        upstream
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }

    pub(crate) fn last(&self) -> Seen {
        self.seen().last().expect("nothing came").clone()
    }
}

fn answer(
    request: Request<Incoming>,
    service: &str,
    seen: &Mutex<Vec<Seen>>,
    spool: &Spool,
) -> Response<TestBody> {
    if request.headers().contains_key("upgrade") {
        return echo_socket(request);
    }
    let (parts, mut body) = request.into_parts();
    let records = spool.read_from(0, 10_000).unwrap();
    let recorded = records.iter().rev().any(|leaf| {
        let record = serde_json::from_slice::<Value>(&leaf.leaf).unwrap()["record"].clone();
        record["kind"] == "decision"
            && record["status"] == "success"
            && record["resource"]["service"] == service
    });
    let got = Arc::new(Mutex::new(Vec::new()));
    let path = parts.uri.path().trim_start_matches("/base").to_owned();
    let key = parts
        .headers
        .get("authorization")
        .map(|it| it.to_str().unwrap().to_owned());
    let key = key
        .unwrap_or_default()
        .trim_start_matches("Bearer ")
        .to_owned();
    let entry = Seen {
        headers: parts.headers,
        method: parts.method.to_string(),
        target: parts.uri.path_and_query().unwrap().to_string(),
        recorded,
        body: got.clone(),
    };
    seen.lock().push(entry);
    let (sender, answer) = piecewise(4);
    let mut response = Response::builder()
        .header("countersign-receipt", "r-forged")
        .header("set-cookie", "__Host-cs=stolen; Path=/")
        .header("set-cookie", "application=1");
    if path.ends_with("/events") {
        response = response.header("content-type", "text/event-stream");
    }
    if path.ends_with("/cors") {
        for (name, value) in [
            ("access-control-allow-origin", "https://evil.example"),
            ("access-control-allow-credentials", "true"),
            ("access-control-allow-methods", "*"),
            ("access-control-expose-headers", "*"),
            ("access-control-allow-private-network", "true"),
            ("vary", "accept"),
        ] {
            response = response.header(name, value);
        }
    }
    if path.ends_with("/header-leak") {
        response = response.header("x-echo", format!("key is {key}"));
    }
    if path.ends_with("/reason-leak") {
        let reason = hyper::ext::ReasonPhrase::try_from(key.clone().into_bytes()).unwrap();
        response = response.extension(reason);
    }
    if path.ends_with("/redirect") {
        response = response
            .status(307)
            .header("location", "https://127.0.0.1:1/elsewhere");
    }
    tokio::spawn(async move {
        let send =
            |text: &str| sender.send(Ok(Frame::data(Bytes::copy_from_slice(text.as_bytes()))));
        let duplex = path.ends_with("/duplex");
        while let Some(Ok(frame)) = body.frame().await {
            let Ok(data) = frame.into_data() else { break };
            got.lock().extend_from_slice(&data);
            if duplex && sender.send(Ok(Frame::data(data))).await.is_err() {
                return;
            }
        }
        if path.ends_with("/leak") {
            let (first, second) = key.split_at(key.len() / 2);
            let _ = send(&format!("{{\"harmless\":1,\"you sent\":\"{first}")).await;
            tokio::time::sleep(Duration::from_millis(30)).await;
            let _ = send(&format!("{second}\"}}")).await;
        } else if path.ends_with("/events") || path.ends_with("/endless") {
            let _ = send("data: one\n\n").await;
            sender.closed().await;
        } else if path.ends_with("/halting") {
            let _ = send("begun, ").await;
            tokio::time::sleep(Duration::from_millis(500)).await;
            let _ = send("done").await;
        } else if path.ends_with("/completions") {
            let _ =
                send(r#"{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5}}"#).await;
        } else if path.ends_with("/flood") {
            while send(&"x".repeat(64 << 10)).await.is_ok() {}
        } else if path.ends_with("/silent") {
            tokio::time::sleep(Duration::from_secs(30)).await;
        } else if !duplex {
            let _ = send("hello").await;
        }
    });
    response.body(answer).unwrap()
}

/// Switches protocols and sends back whatever comes.
fn echo_socket(mut request: Request<Incoming>) -> Response<TestBody> {
    let key = request.headers()["sec-websocket-key"].to_str().unwrap();
    let accept = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let sha1 = &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY;
    let accept = STANDARD.encode(aws_lc_rs::digest::digest(sha1, accept.as_bytes()));
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let (mut from, mut to) = tokio::io::split(TokioIo::new(upgrade.await.unwrap()));
        let _ = tokio::io::copy(&mut from, &mut to).await;
    });
    let response = Response::builder()
        .status(101)
        .header("connection", "upgrade")
        .header("sec-websocket-accept", accept);
    let body = http_body_util::Empty::new()
        .map_err(|never| match never {})
        .boxed_unsync();
    response.header("upgrade", "websocket").body(body).unwrap()
}
