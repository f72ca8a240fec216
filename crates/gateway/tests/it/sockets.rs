//! Streams and sockets through the mesh door, to their end.

use crate::attacks::dial_mesh;
use crate::attacks::ends;
use crate::attacks::limited;
use crate::attacks::places_come_back;
use crate::support::Answer;
use crate::support::Cast;
use crate::support::PATIENCE;
use crate::support::TestBody;
use crate::support::request;
use bytes::Bytes;
use countersign_core::snapshot::Revocation;
use countersign_core::snapshot::Revoked;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Timestamp;
use countersign_net::SvidSource;
use futures_util::StreamExt as _;
use futures_util::stream;
use http::Request;
use http_body_util::BodyExt;
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

/// A WebSocket on a connection of its own.
async fn opened(cast: &Cast, front: &Arc<SvidSource>, token: &str) -> TokioIo<Upgraded> {
    let headers = [
        ("host", "hms-api"),
        ("authorization", token),
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let mut client = cast.dial_mesh(front, "hms-api", false).await;
    let response = client
        .start(request("GET", "/v1/socket", &headers, ""))
        .await
        .unwrap();
    assert_eq!(response.status().as_u16(), 101);
    TokioIo::new(hyper::upgrade::on(response).await.unwrap())
}

/// Revokes who is asked behind us, which ends the one call under way there.
fn revoke_upstream(cast: &Cast) {
    let line = Revocation {
        at: Timestamp::from_secs(1),
        epoch: 1,
        lifted: false,
        what: Revoked::Identity(cast.pki.id("hms-api")),
    };
    assert_eq!(cast.point.revoke(&[line]), Ok(1));
}

#[tokio::test]
async fn a_websocket_is_a_stream_like_any_other() {
    let cast = Cast::new().await;
    let front = cast.workload("front");
    let token = format!("Bearer {}", cast.token(&front, "hms-api"));
    let headers = [
        ("host", "hms-api"),
        ("authorization", token.as_str()),
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let mut client = cast.dial_mesh(&front, "hms-api", false).await;
    let response = client
        .start(request("GET", "/v1/socket", &headers, ""))
        .await
        .unwrap();
    assert_eq!(response.status().as_u16(), 101);
    let receipt = response.headers()["countersign-receipt"]
        .to_str()
        .unwrap()
        .to_owned();
    let mut socket = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    socket.write_all(b"\x81\x82\0\0\0\0hi").await.unwrap();
    let mut echoed = [0; 8];
    socket.read_exact(&mut echoed).await.unwrap();
    assert_eq!(&echoed, b"\x81\x82\0\0\0\0hi");
    let what = Revoked::Subject("spiffe://local.dev.invalid/front".to_owned());
    cast.point
        .revoke(&[Revocation {
            at: Timestamp::from_secs(1),
            epoch: 1,
            lifted: false,
            what,
        }])
        .unwrap();
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, [0x88, 0x02, 0x03, 0xf0], "close, 1008");
    let completion = cast.completion(&receipt).await;
    assert_eq!(completion["ending"], "cut");
    // A workload is its own subject, and its certificate is looked at first.
    assert_eq!(completion["code"], Code::CERTIFICATE_REVOKED.to_string());
    assert_eq!(completion["messages_in"], 1);
    assert_eq!(completion["messages_out"], 1);
    assert_eq!(
        (&completion["bytes_in"], &completion["attempts"]),
        (&8.into(), &1.into())
    );
}

#[tokio::test]
async fn a_stream_to_an_upstream_that_is_revoked_ends() {
    let cast = Cast::new().await;
    let front = cast.workload("front");
    let token = format!("Bearer {}", cast.token(&front, "hms-api"));
    let headers = [("host", "hms-api"), ("authorization", token.as_str())];
    let mut client = cast.dial_mesh(&front, "hms-api", true).await;
    let mut response = client
        .start(request("GET", "/v1/events", &headers, ""))
        .await
        .unwrap();
    response.frame().await.unwrap().unwrap();
    revoke_upstream(&cast);
    let answer = Answer::read(response).await;
    let receipt = answer.header("countersign-receipt").to_owned();
    assert!(answer.text().contains("event: error"), "{}", answer.text());
    let completion = cast.completion(&receipt).await;
    assert_eq!(completion["ending"], "cut");
    assert_eq!(completion["code"], Code::CERTIFICATE_REVOKED.to_string());
}

#[tokio::test]
async fn a_websocket_is_waited_for_and_then_cut() {
    let mut cast = Cast::new().await;
    let front = cast.workload("front");
    let token = format!("Bearer {}", cast.token(&front, "hms-api"));
    let headers = [
        ("host", "hms-api"),
        ("authorization", token.as_str()),
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let mut client = cast.dial_mesh(&front, "hms-api", false).await;
    let response = client
        .start(request("GET", "/v1/socket", &headers, ""))
        .await
        .unwrap();
    let mut socket = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    let (gateway, started) = (cast.gateway.take().unwrap(), std::time::Instant::now());
    gateway.drain(Duration::from_millis(300)).await;
    assert!(started.elapsed() >= Duration::from_millis(300));
    assert_eq!(cast.point.open(), 0, "a tunnel outlived its gateway");
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, [0x88, 0x02, 0x03, 0xe9], "close, 1001");
}

#[tokio::test]
async fn a_websocket_keeps_its_peers_part_of_the_door() {
    let cast = Cast::new().await;
    limited(&cast, "connections: 40");
    let front = cast.workload("front");
    let token = format!("Bearer {}", cast.token(&front, "hms-api"));
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(opened(&cast, &front, &token).await);
    }
    let mut more = dial_mesh(&cast, &front, "hms-api", false).await;
    assert!(ends(&mut more).await.is_empty());
    // Another peer finds its place, and the first one finds what it gives back.
    let other = cast.workload("front");
    let token = format!("Bearer {}", cast.token(&other, "hms-api"));
    drop(opened(&cast, &other, &token).await);
    drop(held);
    places_come_back(&cast, &front).await;
}

#[tokio::test]
async fn an_upstream_that_is_revoked_before_it_answers_gets_no_more() {
    let cast = Cast::new().await;
    let front = cast.workload("front");
    let token = format!("Bearer {}", cast.token(&front, "hms-api"));
    let mut client = cast.dial_mesh(&front, "hms-api", true).await;
    let first = Ok(Frame::data(Bytes::from_static(b"first")));
    let body: TestBody =
        StreamBody::new(stream::iter([first]).chain(stream::pending())).boxed_unsync();
    let upload = Request::post("/v1/late")
        .header("host", "hms-api")
        .header("authorization", &token)
        .body(body)
        .unwrap();
    let (before, upstream) = (cast.api.seen().len(), cast.api.clone());
    let revoked = async {
        let deadline = Instant::now() + PATIENCE;
        while upstream.seen().len() == before {
            assert!(Instant::now() < deadline, "nothing came upstream");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        revoke_upstream(&cast);
    };
    let (answer, ()) = tokio::join!(client.send(upload), revoked);
    let receipt = answer.header("countersign-receipt").to_owned();
    let completion = cast.completion(&receipt).await;
    assert_eq!(completion["ending"], "cut");
    assert_eq!(completion["code"], Code::CERTIFICATE_REVOKED.to_string());
    cast.nothing_is_open().await;
}

#[tokio::test]
async fn what_ends_with_its_gateway_is_complete_in_the_record() {
    const OPEN: usize = 12;
    let mut cast = Cast::new().await;
    let front = cast.workload("front");
    let token = format!("Bearer {}", cast.token(&front, "hms-api"));
    let mut held = Vec::new();
    for _ in 0..OPEN {
        held.push(opened(&cast, &front, &token).await);
    }
    let gateway = cast.gateway.take().unwrap();
    gateway.drain(Duration::from_millis(10)).await;
    // No waiting: whoever stops the process now loses nothing.
    let records = cast.records();
    let complete = records.iter().filter(|it| it["completion"].is_object());
    assert_eq!(complete.count(), OPEN);
}
