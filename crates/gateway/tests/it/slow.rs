//! Slowness as an attack: whoever takes for ever to ask, to send or to read is not waited for.

use crate::attacks::cast;
use crate::attacks::dial_mesh;
use crate::attacks::dial_next;
use crate::attacks::ends;
use crate::attacks::limited;
use crate::attacks::mesh_target;
use crate::attacks::next_is_served;
use crate::support::Answer;
use crate::support::Backend;
use crate::support::Cast;
use crate::support::More;
use crate::support::PATIENCE;
use crate::support::TestBody;
use crate::support::handler;
use crate::support::request;
use crate::support::text;
use bytes::Bytes;
use countersign_core::vocabulary::Code;
use countersign_testkit::pki::Pki;
use futures_util::stream;
use http::Request;
use http_body_util::BodyExt as _;
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;

#[tokio::test]
async fn a_head_that_does_not_come_and_a_connection_that_says_nothing_end() {
    let cast = cast().await;
    limited(&cast, "header_time: 1s, idle: 2s");
    let front = cast.workload("front");
    let mut silent = dial_mesh(&cast, &front, "hms-api", false).await;
    let mut second = dial_mesh(&cast, &front, "hms-api", true).await;
    let mut slow = dial_mesh(&cast, &front, "hms-api", false).await;
    // Of HTTP/2, and without the preface that everything there begins with, or with a part of it.
    let mut wordless = dial_mesh(&cast, &front, "hms-api", true).await;
    let mut begun = dial_mesh(&cast, &front, "hms-api", true).await;
    begun.write_all(b"PRI * HTTP/2.0").await.unwrap();
    begun.flush().await.unwrap();
    // A byte now and then, as a slow loris does.
    let dripping = async {
        let drops = b"GET /v1/reports/1 HTTP/1.1\r\nHost: hms-api\r\n"
            .iter()
            .cycle();
        for byte in drops {
            if slow.write_all(&[*byte]).await.is_err() || slow.flush().await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, dripping).await.unwrap();
    assert!(ends(&mut silent).await.is_empty());
    ends(&mut wordless).await;
    ends(&mut begun).await;
    second
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    ends(&mut second).await;
    let target = mesh_target(&cast, &front);
    next_is_served(dial_next(&cast, &target, &front, true).await, &target).await;
}

/// A byte now and then, for ever.
fn dripping() -> TestBody {
    let drops = stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Some((Ok(Frame::data(Bytes::from_static(b"x"))), ()))
    });
    StreamBody::new(drops).boxed_unsync()
}

#[tokio::test]
async fn a_body_that_drips_has_its_services_time_and_no_more() {
    // Reads to the end before it answers.
    let patient = handler(|request: Request<_>| async move {
        let _ = request.into_body().collect().await;
        text(200, "whole")
    });
    let backend = Backend::plain(false, patient).await;
    let keys = format!("url: \"http://{}\", timeout: 1s", backend.address);
    let pki = Arc::new(Pki::new("local.dev.invalid"));
    let cast = Cast::with(pki, &More::service("one", &keys)).await;
    let front = cast.workload("front");
    let token = format!("Bearer {}", cast.token(&front, "one"));
    for http2 in [false, true] {
        let mut client = cast.dial_mesh(&front, "one", http2).await;
        let headers = [("host", "one"), ("authorization", token.as_str())];
        let request = request("POST", "/x", &headers, "").map(|_| dripping());
        let answer = client.send(request).await;
        assert_eq!(answer.status, 504);
        let completion = cast.completion(answer.header("countersign-receipt")).await;
        assert_eq!(completion["ending"], "upstream-failed");
        assert!(completion["bytes_in"].as_u64().unwrap() > 0);
    }
    cast.nothing_is_open().await;
}

/// A window of nothing lets the answer's head through and none of its body (RFC 9113 section
/// 6.9.2), on a connection that is otherwise alive.
#[tokio::test]
async fn whoever_opens_no_window_has_its_services_time_and_no_more() {
    let long = handler(|_| async { text(200, &"x".repeat(1 << 20)) });
    let backend = Backend::plain(false, long).await;
    let keys = format!("url: \"http://{}\", max_stream: 1s", backend.address);
    let pki = Arc::new(Pki::new("local.dev.invalid"));
    let cast = Cast::with(pki, &More::service("one", &keys)).await;
    let front = cast.workload("front");
    let token = format!("Bearer {}", cast.token(&front, "one"));
    let stream = dial_mesh(&cast, &front, "one", true).await;
    let (mut sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(0)
        .handshake::<_, TestBody>(TokioIo::new(stream))
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let headers = [("authorization", token.as_str())];
    let asked = request("GET", "https://one/x", &headers, "");
    let response = sender.send_request(asked).await.unwrap();
    assert_eq!(response.status(), 200);
    let receipt = response.headers()["countersign-receipt"].to_str().unwrap();
    let completion = cast.completion(receipt).await;
    assert_ne!(completion["ending"], "done");
    // Not the stream alone: nobody was asked for what is next on it.
    let ended = tokio::time::timeout(PATIENCE, connection).await;
    let _ = ended.expect("the connection was kept").unwrap();
    cast.nothing_is_open().await;
}

/// Some clients lose an answer whose stream is reset behind it, which it is where the rest of a body
/// is not wanted (RFC 9113 section 8.1).
#[tokio::test]
async fn a_refusal_stands_though_the_body_it_refuses_is_still_to_come() {
    let cast = cast().await;
    let front = cast.workload("front");
    let stream = dial_mesh(&cast, &front, "hms-api", true).await;
    let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let ask = || {
        let asked = Request::post("https://hms-api/v1/reports/1");
        asked.body(()).unwrap()
    };
    let before = cast.api.seen().len();
    let (response, mut body) = sender.send_request(ask(), false).unwrap();
    let answer = Answer::read_h2(response.await.unwrap()).await;
    cast.refused(&answer, Code::TOKEN_ABSENT, &cast.api, before)
        .await;
    // Whatever was said of the first stream has come when the second is answered.
    let (response, _) = sender.send_request(ask(), true).unwrap();
    assert_eq!(response.await.unwrap().status(), 401);
    let reset = poll_fn(|cx| Poll::Ready(body.poll_reset(cx).is_ready())).await;
    assert!(!reset, "the stream was reset behind its answer");
    body.send_data(Bytes::from_static(b"{}"), true).unwrap();
    // And nobody can go on for ever.
    let (response, mut body) = sender.send_request(ask(), false).unwrap();
    assert_eq!(response.await.unwrap().status(), 401);
    let reset = tokio::time::timeout(PATIENCE, poll_fn(|cx| body.poll_reset(cx)));
    assert_eq!(reset.await.unwrap().unwrap(), h2::Reason::NO_ERROR);
    connection.abort();
}
