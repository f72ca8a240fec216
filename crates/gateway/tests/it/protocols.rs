//! gRPC, trailers, WebSockets over HTTP/2, tunnels, and answers in between.

use crate::support::Backend;
use crate::support::Cast;
use crate::support::Client;
use crate::support::More;
use crate::support::PATIENCE;
use crate::support::TestBody;
use crate::support::handler;
use crate::support::request;
use crate::support::text;
use bytes::Bytes;
use countersign_core::snapshot::Revocation;
use countersign_core::snapshot::Revoked;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Timestamp;
use countersign_net::Connector;
use countersign_testkit::pki::Pki;
use http::HeaderMap;
use http::Request;
use http::Response;
use http_body_util::BodyExt;
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;

fn pki() -> Arc<Pki> {
    Arc::new(Pki::new("local.dev.invalid"))
}

fn fields(lines: &[(&'static str, &str)]) -> HeaderMap {
    let lines = lines.iter();
    lines
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
        .collect()
}

fn frames(frames: Vec<Frame<Bytes>>) -> TestBody {
    StreamBody::new(futures_util::stream::iter(frames.into_iter().map(Ok))).boxed_unsync()
}

/// A gRPC service: `/echo` gives back message and trailers, `/error` has trailers only, `/stream`
/// never ends, `/break` breaks off.
async fn grpc(pki: &Pki) -> Backend {
    Backend::mutual(
        pki,
        "app",
        handler(|request| async move {
            let path = request.uri().path().to_owned();
            let te = request.headers().get("te").cloned();
            let answer = Response::builder().header("content-type", "application/grpc");
            let begun = || Frame::data(Bytes::from_static(b"\0\0\0\0\x02hi"));
            match path.as_str() {
                "/s/echo" => {
                    assert_eq!(te.unwrap(), "trailers");
                    let sent = request.into_body().collect().await.unwrap();
                    let mut trailers = sent.trailers().cloned().unwrap_or_default();
                    trailers.insert("grpc-status", "0".parse().unwrap());
                    trailers.insert("countersign-receipt", "r-forged".parse().unwrap());
                    let body = frames(vec![
                        Frame::data(sent.to_bytes()),
                        Frame::trailers(trailers),
                    ]);
                    answer.body(body).unwrap()
                }
                "/s/error" => answer
                    .header("grpc-status", "5")
                    .header("grpc-message", "none")
                    .body(text(200, "").into_body())
                    .unwrap(),
                "/s/stream" => {
                    let first = futures_util::stream::iter([Ok(begun())]);
                    let all =
                        futures_util::StreamExt::chain(first, futures_util::stream::pending());
                    answer.body(StreamBody::new(all).boxed_unsync()).unwrap()
                }
                _ => {
                    // A reset takes along what has not been sent yet.
                    let broken = futures_util::stream::once(async {
                        tokio::time::sleep(Duration::from_millis(200)).await;
                        Err(std::io::Error::other("broken"))
                    });
                    let first = futures_util::stream::iter([Ok(begun())]);
                    let all = futures_util::StreamExt::chain(first, broken);
                    answer.body(StreamBody::new(all).boxed_unsync()).unwrap()
                }
            }
        }),
    )
    .await
}

fn at(backend: &Backend) -> String {
    format!(
        "url: \"https://{}\", network: private, identity: app",
        backend.address
    )
}

fn call(path: &str, token: &str, body: TestBody) -> Request<TestBody> {
    let request = Request::post(path)
        .header("host", "rpc")
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let request = if token.is_empty() {
        request
    } else {
        request.header("authorization", format!("Bearer {token}"))
    };
    request.body(body).unwrap()
}

#[tokio::test]
async fn grpc_has_its_trailers_both_ways() {
    let pki = pki();
    let backend = grpc(&pki).await;
    let cast = Cast::with(pki, &More::service("rpc", &at(&backend))).await;
    let front = cast.workload("front");
    let token = cast.token(&front, "rpc");
    let mut client = cast.dial_mesh(&front, "rpc", true).await;
    let message = Frame::data(Bytes::from_static(b"\0\0\0\0\x02hi"));
    let trailers = Frame::trailers(fields(&[("x-sum", "7"), ("authorization", "Bearer x")]));
    let sent = call("/s/echo", &token, frames(vec![message, trailers]));
    let response = client.start(sent).await.unwrap();
    assert_eq!(response.status(), 200);
    let receipt = response.headers()["countersign-receipt"]
        .to_str()
        .unwrap()
        .to_owned();
    let got = response.into_body().collect().await.unwrap();
    let trailers = got.trailers().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!(trailers["x-sum"], "7");
    assert!(!trailers.contains_key("authorization"));
    assert!(
        !trailers.contains_key("countersign-receipt"),
        "the upstream spoke for us"
    );
    assert_eq!(got.to_bytes(), &b"\0\0\0\0\x02hi"[..]);
    assert_eq!(cast.completion(&receipt).await["ending"], "done");
    // An error has no body at all.
    let response = client
        .start(call("/s/error", &token, frames(vec![])))
        .await
        .unwrap();
    assert_eq!(response.headers()["grpc-status"], "5");
    assert_eq!(response.headers()["grpc-message"], "none");
    assert!(http_body::Body::is_end_stream(response.body()));
}

#[tokio::test]
async fn grpc_is_refused_in_its_own_words() {
    let pki = pki();
    let backend = grpc(&pki).await;
    let cast = Cast::with(pki, &More::service("rpc", &at(&backend))).await;
    let front = cast.workload("front");
    let outsider = cast.workload("outsider");
    for (who, token, code, status) in [
        (&front, String::new(), Code::TOKEN_ABSENT, "16"),
        (
            &front,
            cast.token(&front, "app"),
            Code::TOKEN_AUDIENCE,
            "16",
        ),
        (&outsider, cast.token(&outsider, "rpc"), Code::NO_EDGE, "7"),
    ] {
        let mut client = cast.dial_mesh(who, "rpc", true).await;
        let response = client
            .start(call("/s/echo", &token, frames(vec![])))
            .await
            .unwrap();
        assert_eq!(response.status(), 200, "{code}");
        let headers = response.headers().clone();
        assert_eq!(headers["content-type"], "application/grpc");
        assert_eq!(headers["grpc-status"], status, "{code}");
        let message = format!("AccessDenied: pillar {} failed ({code})", code.pillar());
        assert_eq!(headers["grpc-message"], message.as_str());
        assert_eq!(headers["countersign-pillar"], code.pillar().word());
        assert!(http_body::Body::is_end_stream(response.body()));
        let receipt = headers["countersign-receipt"].to_str().unwrap().to_owned();
        let leaf = cast
            .point
            .spool()
            .find(&receipt.parse().unwrap())
            .unwrap()
            .unwrap();
        let leaf: serde_json::Value = serde_json::from_slice(&leaf.leaf).unwrap();
        assert_eq!(leaf["record"]["code"], code.to_string());
        assert_eq!(leaf["record"]["status"], "denied");
    }
    assert_eq!(backend.requests(), 0, "something went upstream");
    // Over HTTP/1.1 there is no gRPC, and a 200 would say that all is well.
    let mut client = cast.dial_mesh(&front, "rpc", false).await;
    let answer = client.send(call("/s/echo", "", frames(vec![]))).await;
    assert_eq!(answer.status, Code::TOKEN_ABSENT.status());
}

#[tokio::test]
async fn grpc_learns_why_a_call_ends() {
    let pki = pki();
    let backend = grpc(&pki).await;
    let cast = Cast::with(pki, &More::service("rpc", &at(&backend))).await;
    let front = cast.workload("front");
    let token = cast.token(&front, "rpc");
    let mut client = cast.dial_mesh(&front, "rpc", true).await;
    let broken = client
        .start(call("/s/break", &token, frames(vec![])))
        .await
        .unwrap();
    let receipt = broken.headers()["countersign-receipt"]
        .to_str()
        .unwrap()
        .to_owned();
    let broken = broken.into_body().collect().await.unwrap();
    assert_eq!(broken.trailers().unwrap()["grpc-status"], "14");
    assert_eq!(cast.completion(&receipt).await["ending"], "upstream-failed");
    let mut stream = client
        .start(call("/s/stream", &token, frames(vec![])))
        .await
        .unwrap();
    let receipt = stream.headers()["countersign-receipt"]
        .to_str()
        .unwrap()
        .to_owned();
    stream.frame().await.unwrap().unwrap();
    let line = Revocation {
        at: Timestamp::from_secs(1),
        epoch: 1,
        lifted: false,
        what: Revoked::Subject("spiffe://local.dev.invalid/front".to_owned()),
    };
    assert_eq!(cast.point.revoke(&[line]), Ok(1));
    let rest = stream.into_body().collect().await.unwrap();
    let trailers = rest.trailers().unwrap();
    assert_eq!(trailers["grpc-status"], "7", "{trailers:?}");
    assert!(
        trailers["grpc-message"]
            .to_str()
            .unwrap()
            .contains("continuous-verification")
    );
    assert_eq!(cast.completion(&receipt).await["ending"], "cut");
}

#[tokio::test]
async fn grpc_without_tls_beside_us_and_its_own_time() {
    let backend = Backend::plain(
        true,
        handler(|request| async move {
            if request.uri().path() == "/s/late" {
                tokio::time::sleep(PATIENCE).await;
            }
            let trailers = Frame::trailers(fields(&[("grpc-status", "0")]));
            Response::new(frames(vec![trailers]))
        }),
    )
    .await;
    let keys = format!("url: \"http://{}\"", backend.address);
    let cast = Cast::with(pki(), &More::service("rpc", &keys)).await;
    let front = cast.workload("front");
    let token = cast.token(&front, "rpc");
    let mut client = cast.dial_mesh(&front, "rpc", true).await;
    let response = client
        .start(call("/s/m", &token, frames(vec![])))
        .await
        .unwrap();
    let got = response.into_body().collect().await.unwrap();
    assert_eq!(got.trailers().unwrap()["grpc-status"], "0");
    let mut late = call("/s/late", &token, frames(vec![]));
    late.headers_mut()
        .insert("grpc-timeout", "200m".parse().unwrap());
    let response = client.start(late).await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "4");
}

#[tokio::test]
async fn a_stream_that_is_reset_is_not_whole_even_without_an_error() {
    let backend = Backend::raw(|stream, _| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            let head = Response::builder().header("content-type", "application/grpc");
            let mut body = respond
                .send_response(head.body(()).unwrap(), false)
                .unwrap();
            body.send_data(Bytes::from_static(b"\0\0\0\0\x02hi"), false)
                .unwrap();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(200)).await;
                body.send_reset(h2::Reason::NO_ERROR);
            });
        }
    })
    .await;
    let keys = format!("url: \"http://{}\"", backend.address);
    let cast = Cast::with(pki(), &More::service("rpc", &keys)).await;
    let front = cast.workload("front");
    let token = cast.token(&front, "rpc");
    let mut client = cast.dial_mesh(&front, "rpc", true).await;
    let response = client
        .start(call("/s/m", &token, frames(vec![])))
        .await
        .unwrap();
    let receipt = response.headers()["countersign-receipt"]
        .to_str()
        .unwrap()
        .to_owned();
    let got = response.into_body().collect().await.unwrap();
    assert_eq!(got.trailers().unwrap()["grpc-status"], "14");
    assert_eq!(cast.completion(&receipt).await["ending"], "upstream-failed");
}

#[tokio::test]
async fn announced_trailers_pass_over_http1() {
    let backend = Backend::plain(
        false,
        handler(|request| async move {
            let sent = request.into_body().collect().await.unwrap();
            let sum = sent.trailers().and_then(|it| it.get("x-sum")).cloned();
            let mut trailers =
                fields(&[("x-mark", "end"), ("x-silent", "no"), ("set-cookie", "a=b")]);
            trailers.insert("x-back", sum.unwrap_or("none".parse().unwrap()));
            let body = frames(vec![
                Frame::data(Bytes::from_static(b"body")),
                Frame::trailers(trailers),
            ]);
            let response = Response::builder().header("trailer", "x-mark, x-back, set-cookie");
            response.body(body).unwrap()
        }),
    )
    .await;
    let keys = format!("url: \"http://{}\"", backend.address);
    let cast = Cast::with(pki(), &More::service("one", &keys)).await;
    let front = cast.workload("front");
    let token = cast.token(&front, "one");
    let mut stream = cast.raw_mesh(&front, "one").await;
    let text = format!(
        "POST /x HTTP/1.1\r\nhost: one\r\nauthorization: Bearer {token}\r\nte: trailers\r\n\
         connection: te\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
         2\r\nhi\r\n0\r\nx-sum: 7\r\n\r\n"
    );
    stream.write_all(text.as_bytes()).await.unwrap();
    let answer = chunked(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("x-mark: end"), "{answer}");
    assert!(answer.contains("x-back: 7"), "{answer}");
    assert!(!answer.contains("x-silent"), "{answer}");
    assert!(!answer.contains("a=b"), "{answer}");
}

/// Reads a chunked answer to the end of its trailers.
async fn chunked<S: tokio::io::AsyncRead + Unpin>(stream: &mut S) -> String {
    let mut text = String::new();
    loop {
        let next = line(stream).await;
        let trailers = text.contains("\r\n0\r\n");
        text += &next;
        text += "\r\n";
        if trailers && next.is_empty() {
            return text;
        }
    }
}

#[tokio::test]
async fn a_websocket_on_a_stream_of_http2() {
    let cast = Cast::new().await;
    let front = cast.workload("front");
    let token = format!("Bearer {}", cast.token(&front, "hms-api"));
    let mut client = cast.dial_mesh(&front, "hms-api", true).await;
    // That it is offered is known with the first answer at the latest (RFC 8441 section 3).
    let headers = [("host", "hms-api"), ("authorization", token.as_str())];
    let answer = client.send(request("GET", "/v1/x", &headers, "")).await;
    assert_eq!(answer.status, 200);
    let Client::H2(sender) = &mut client else {
        panic!("asked for HTTP/2");
    };
    let open = |path: &str, protocol: &'static str| {
        Request::connect(format!("https://hms-api{path}"))
            .extension(hyper::ext::Protocol::from_static(protocol))
            .header("authorization", &token)
            .header("sec-websocket-version", "13")
            .body(frames(vec![]))
            .unwrap()
    };
    let response = sender
        .send_request(open("/v1/socket", "websocket"))
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    assert!(!response.headers().contains_key("sec-websocket-accept"));
    let receipt = response.headers()["countersign-receipt"]
        .to_str()
        .unwrap()
        .to_owned();
    let mut socket = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    socket.write_all(b"\x81\x82\0\0\0\0hi").await.unwrap();
    let mut echoed = [0; 8];
    socket.read_exact(&mut echoed).await.unwrap();
    assert_eq!(&echoed, b"\x81\x82\0\0\0\0hi");
    let before = cast.api.seen().len();
    // Another protocol is another thing, and a path without an edge has none here either.
    for (path, protocol) in [("/v1/socket", "connect-udp"), ("/v2/socket", "websocket")] {
        let response = sender.send_request(open(path, protocol)).await.unwrap();
        let answer = crate::support::Answer::read(response).await;
        cast.refused(&answer, Code::NO_EDGE, &cast.api, before)
            .await;
    }
    let what = Revoked::Subject("spiffe://local.dev.invalid/front".to_owned());
    let line = Revocation {
        at: Timestamp::from_secs(1),
        epoch: 1,
        lifted: false,
        what,
    };
    cast.point.revoke(&[line]).unwrap();
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, [0x88, 0x02, 0x03, 0xf0], "close, 1008");
    assert_eq!(cast.completion(&receipt).await["ending"], "cut");
}

#[tokio::test]
async fn an_upstream_that_does_not_switch_opens_nothing() {
    let backend = Backend::plain(false, handler(|_| async { text(200, "no socket") })).await;
    let keys = format!("url: \"http://{}\"", backend.address);
    let cast = Cast::with(pki(), &More::service("one", &keys)).await;
    let front = cast.workload("front");
    let token = format!("Bearer {}", cast.token(&front, "one"));
    let mut client = cast.dial_mesh(&front, "one", true).await;
    let headers = [("host", "one"), ("authorization", token.as_str())];
    let answer = client.send(request("GET", "/x", &headers, "")).await;
    assert_eq!(answer.text(), "no socket");
    let Client::H2(sender) = &mut client else {
        panic!("asked for HTTP/2");
    };
    let request = Request::connect("https://one/x")
        .extension(hyper::ext::Protocol::from_static("websocket"))
        .header("authorization", &token)
        .header("sec-websocket-version", "13")
        .body(frames(vec![]))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 502);
}

#[tokio::test]
async fn a_tunnel_leads_to_the_service_and_nowhere_else() {
    let echo = Backend::raw(|mut stream, requests| async move {
        requests.fetch_add(1, Ordering::SeqCst);
        let (mut from, mut to) = stream.split();
        let _ = tokio::io::copy(&mut from, &mut to).await;
    })
    .await;
    let port = echo.address.port();
    let keys = format!("url: \"http://{}\"", echo.address);
    let cast = Cast::with(pki(), &More::service("deep", &keys)).await;
    let front = cast.workload("front");
    for http2 in [false, true] {
        let token = format!("Bearer {}", cast.token(&front, "deep"));
        let mut client = cast.dial_mesh(&front, "deep", http2).await;
        let connect = |authority: String| {
            let request = Request::connect(&authority).header("authorization", &token);
            let request = if http2 {
                request
            } else {
                request.header("host", authority)
            };
            request.body(frames(vec![])).unwrap()
        };
        let send = async |client: &mut Client, request| match client {
            Client::H1(sender) => sender.send_request(request).await,
            Client::H2(sender) => sender.send_request(request).await,
        };
        let response = send(&mut client, connect(format!("deep:{port}")))
            .await
            .unwrap();
        assert_eq!(response.status(), 200, "h2: {http2}");
        let receipt = response.headers()["countersign-receipt"]
            .to_str()
            .unwrap()
            .to_owned();
        let mut tunnel = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        tunnel.write_all(b"through").await.unwrap();
        let mut back = [0; 7];
        tunnel.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"through");
        tunnel.shutdown().await.unwrap();
        drop(tunnel);
        let completion = cast.completion(&receipt).await;
        assert_eq!(completion["ending"], "done");
        assert_eq!(
            (&completion["bytes_in"], &completion["bytes_out"]),
            (&7.into(), &7.into())
        );
        let record = cast
            .record(|it| it["kind"] == "decision" && it["status"] == "success")
            .await;
        assert!(record.to_string().contains("connect"), "{record}");
    }
    let before = echo.requests();
    for (name, port, code) in [
        ("deep", port.wrapping_add(1), Code::NO_EDGE),
        ("hms-api", cast.api.address.port(), Code::NO_EDGE),
    ] {
        let token = format!("Bearer {}", cast.token(&front, name));
        let mut client = cast.dial_mesh(&front, name, true).await;
        let Client::H2(sender) = &mut client else {
            panic!("asked for HTTP/2");
        };
        let request = Request::connect(format!("{name}:{port}")).header("authorization", token);
        let response = sender
            .send_request(request.body(frames(vec![])).unwrap())
            .await;
        let answer = crate::support::Answer::read(response.unwrap()).await;
        cast.refused(&answer, code, &cast.api, 0).await;
    }
    assert_eq!(echo.requests(), before, "a refused tunnel was dialled");
}

#[tokio::test]
async fn a_tunnel_to_a_service_with_tls_is_between_caller_and_service() {
    let pki = pki();
    let backend = Backend::mutual(
        &pki,
        "app",
        handler(|request| async move {
            let bearer = request.headers().contains_key("authorization");
            text(200, &format!("{} {bearer}", request.uri().path()))
        }),
    )
    .await;
    let port = backend.address.port();
    let cast = Cast::with(pki.clone(), &More::service("deep", &at(&backend))).await;
    let front = cast.workload("front");
    for http2 in [false, true] {
        let token = format!("Bearer {}", cast.token(&front, "deep"));
        let mut client = cast.dial_mesh(&front, "deep", http2).await;
        let authority = format!("deep:{port}");
        let mut connect = Request::connect(&authority).header("authorization", &token);
        if !http2 {
            connect = connect.header("host", &authority);
        }
        let connect = connect.body(frames(vec![])).unwrap();
        let response = match &mut client {
            Client::H1(sender) => sender.send_request(connect).await,
            Client::H2(sender) => sender.send_request(connect).await,
        };
        let response = response.unwrap();
        assert_eq!(response.status(), 200, "h2: {http2}");
        let receipt = response.headers()["countersign-receipt"]
            .to_str()
            .unwrap()
            .to_owned();
        let tunnel = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        // The service proves itself to the caller, through a gateway that sees neither.
        let connector = Connector::mutual(front.clone(), cast.roots.clone(), pki.id("app"));
        let connector = connector.unwrap().with_alpn(&["http/1.1"]).unwrap();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let (stream, proved) = connector.connect(tunnel, "app", deadline).await.unwrap();
        assert_eq!(proved.peer.unwrap().spiffe_id, pki.id("app"));
        let (mut sender, task) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        let task = tokio::spawn(task);
        let inner = request("GET", "/inner-CANARY", &[("host", "app")], "");
        let answer = crate::support::Answer::read(sender.send_request(inner).await.unwrap()).await;
        assert_eq!(answer.text(), "/inner-CANARY false");
        drop(sender);
        task.await.unwrap().unwrap();
        let completion = cast.completion(&receipt).await;
        assert_eq!(completion["ending"], "done");
        assert_eq!(completion["upstream"], backend.address.to_string());
        let seen = cast
            .records()
            .iter()
            .any(|it| it.to_string().contains("CANARY"));
        assert!(!seen, "it is not for us to read");
    }
}

#[tokio::test]
async fn whoever_waits_to_send_hears_the_decision_first() {
    let cast = Cast::new().await;
    let front = cast.workload("front");
    let token = cast.token(&front, "hms-api");
    let head = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: hms-api\r\nauthorization: Bearer {token}\r\n\
             content-length: 4\r\nexpect: 100-continue\r\n\r\n"
        )
    };
    let mut refused = cast.raw_mesh(&front, "hms-api").await;
    refused.write_all(head("/v2/x").as_bytes()).await.unwrap();
    let first = line(&mut refused).await;
    assert!(first.starts_with("HTTP/1.1 403"), "{first}");
    let mut admitted = cast.raw_mesh(&front, "hms-api").await;
    admitted.write_all(head("/v1/x").as_bytes()).await.unwrap();
    assert_eq!(line(&mut admitted).await, "HTTP/1.1 100 Continue");
    let decided = cast
        .records()
        .iter()
        .any(|it| it["kind"] == "decision" && it["status"] == "success");
    assert!(decided, "it was told to go on before it was decided");
    assert_eq!(line(&mut admitted).await, "");
    admitted.write_all(b"body").await.unwrap();
    assert_eq!(line(&mut admitted).await, "HTTP/1.1 200 OK");
    assert!(!cast.api.last().headers.contains_key("expect"));
}

async fn line<S: tokio::io::AsyncRead + Unpin>(stream: &mut S) -> String {
    let mut text = String::new();
    while !text.ends_with("\r\n") {
        let byte = tokio::time::timeout(PATIENCE, stream.read_u8()).await;
        text.push(char::from(byte.unwrap().unwrap()));
    }
    text.trim_end().to_owned()
}

#[tokio::test]
async fn early_hints_are_not_passed_on() {
    let backend = Backend::raw(|mut stream, _| async move {
        let mut buffer = [0; 4096];
        let _ = stream.read(&mut buffer).await;
        let hints = b"HTTP/1.1 103 Early Hints\r\nlink: </secret>\r\n\r\n";
        stream.write_all(hints).await.unwrap();
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        stream.write_all(answer).await.unwrap();
    })
    .await;
    let keys = format!("url: \"http://{}\"", backend.address);
    let cast = Cast::with(pki(), &More::service("one", &keys)).await;
    let front = cast.workload("front");
    let token = cast.token(&front, "one");
    let mut stream = cast.raw_mesh(&front, "one").await;
    let text = format!("GET /x HTTP/1.1\r\nhost: one\r\nauthorization: Bearer {token}\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    assert_eq!(line(&mut stream).await, "HTTP/1.1 200 OK");
    let answer = cast.call("one", "GET", "/x").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
}
