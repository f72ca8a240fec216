//! What is opened and then left to its two ends: WebSockets over HTTP/2, and tunnels.

use crate::protocols::at;
use crate::protocols::frames;
use crate::protocols::pki;
use crate::support::Backend;
use crate::support::Cast;
use crate::support::Client;
use crate::support::More;
use crate::support::PATIENCE;
use crate::support::handler;
use crate::support::request;
use crate::support::text;
use countersign_core::snapshot::Revocation;
use countersign_core::snapshot::Revoked;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Timestamp;
use countersign_net::Connector;
use http::Request;
use hyper_util::rt::TokioIo;
use std::sync::atomic::Ordering;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;

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
    nowhere_else(&cast, &echo).await;
}

async fn nowhere_else(cast: &Cast, echo: &Backend) {
    let (front, port) = (cast.workload("front"), echo.address.port());
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
