//! gRPC, trailers, and answers in between.

use crate::support::Backend;
use crate::support::Cast;
use crate::support::More;
use crate::support::PATIENCE;
use crate::support::TestBody;
use crate::support::handler;
use crate::support::text;
use bytes::Bytes;
use countersign_core::snapshot::Revocation;
use countersign_core::snapshot::Revoked;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Timestamp;
use countersign_testkit::pki::Pki;
use http::HeaderMap;
use http::Request;
use http::Response;
use http_body_util::BodyExt;
use http_body_util::StreamBody;
use hyper::body::Frame;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;

pub(crate) fn pki() -> Arc<Pki> {
    Arc::new(Pki::new("local.dev.invalid"))
}

fn fields(lines: &[(&'static str, &str)]) -> HeaderMap {
    let lines = lines.iter();
    lines
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
        .collect()
}

pub(crate) fn frames(frames: Vec<Frame<Bytes>>) -> TestBody {
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

pub(crate) fn at(backend: &Backend) -> String {
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
    // Of trailers that may not pass nothing is left, and an empty block is not sent for them. They
    // come behind what is forwarded already.
    let message = Frame::data(Bytes::from_static(b"\0\0\0\0\x02hi"));
    let trailers = Frame::trailers(fields(&[("authorization", "Bearer x")]));
    let sent = [message, trailers].into_iter().map(|frame| async move {
        if frame.is_trailers() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(frame)
    });
    let body = futures_util::StreamExt::then(futures_util::stream::iter(sent), |frame| frame);
    let sent = call("/s/echo", &token, StreamBody::new(body).boxed_unsync());
    let response = client.start(sent).await.unwrap();
    assert_eq!(response.status(), 200);
    let got = response.into_body().collect().await.unwrap();
    assert_eq!(got.trailers().unwrap().len(), 1);
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
