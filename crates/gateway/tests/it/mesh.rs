//! Workloads at the mesh door.

use crate::exchanges::flood;
use crate::exchanges::settled;
use crate::support::Answer;
use crate::support::Backend;
use crate::support::Cast;
use crate::support::More;
use crate::support::PATIENCE;
use crate::support::TestBody;
use crate::support::payload;
use crate::support::piecewise;
use crate::support::request;
use bytes::Bytes;
use countersign_core::snapshot::Revocation;
use countersign_core::snapshot::Revoked;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Timestamp;
use countersign_net::Connector;
use countersign_net::KeySet;
use countersign_net::assertion;
use countersign_testkit::pki::Pki;
use http::Request;
use http_body_util::BodyExt;
use http_body_util::StreamBody;
use hyper::body::Frame;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

#[tokio::test]
async fn a_call_goes_through_on_both_protocols() {
    let cast = Cast::new().await;
    let front = cast.workload("front");
    let token = format!("Bearer {}", cast.token(&front, "hms-api"));
    for http2 in [false, true] {
        let mut client = cast.dial_mesh(&front, "hms-api", http2).await;
        let headers = [
            ("host", "hms-api"),
            ("authorization", &token),
            ("x-custom", "kept"),
            ("x-forwarded-for", "6.6.6.6"),
            ("x-request-id", "mine"),
            ("x_custom", "hidden"),
            ("countersign-assertion", "forged"),
            ("x-http-method-override", "DELETE"),
            (
                "traceparent",
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            ),
        ];
        let answer = client
            .send(request("GET", "/v1/%72eports?q=%20a", &headers, ""))
            .await;
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, "hello"),
            "h2: {http2}"
        );
        let seen = cast.api.last();
        assert!(seen.recorded, "forwarded before its record was durable");
        assert_eq!(
            (seen.method.as_str(), seen.target.as_str()),
            ("GET", "/v1/reports?q=%20a")
        );
        let header = |name: &str| seen.headers.get(name).map(|it| it.to_str().unwrap());
        assert_eq!(header("authorization"), Some(token.as_str()));
        assert_eq!(header("x-custom"), Some("kept"));
        assert_eq!(header("x-forwarded-for"), Some("127.0.0.1"));
        assert_eq!(header("x_custom"), None);
        assert_eq!(header("x-http-method-override"), None);
        assert_ne!(header("x-request-id"), Some("mine"));
        assert!(
            header("traceparent")
                .unwrap()
                .starts_with("00-0af7651916cd43dd8448eb211c80319c-")
        );
        let receipt = answer.header("countersign-receipt");
        assert_ne!(receipt, "r-forged");
        let jwk = cast.control.published.lock().clone().unwrap();
        let keys = serde_json::json!({ "keys": [jwk] }).to_string();
        let keys = KeySet::from_jwks(keys.as_bytes(), 1).unwrap();
        let assertion = assertion::verify(&keys, header("countersign-assertion").unwrap()).unwrap();
        assert_eq!(assertion.receipt, receipt);
        assert_eq!(
            (assertion.method.as_str(), assertion.path.as_str()),
            ("GET", "/v1/reports")
        );
        assert_eq!(assertion.sub, "spiffe://local.dev.invalid/front");
        let completion = cast.completion(receipt).await;
        assert_eq!(completion["ending"], "done");
        assert_eq!(completion["status"], 200);
        assert_eq!(completion["bytes_out"], 5);
    }
}

#[tokio::test]
async fn an_address_and_a_marked_path_lead_there_too() {
    let cast = Cast::new().await;
    let front = cast.workload("front");
    let token = format!("Bearer {}", cast.token(&front, "hms-api"));
    let mut client = cast.dial_mesh(&front, "127.0.0.1", false).await;
    let headers = [("host", "127.0.0.1:9443"), ("authorization", &token)];
    let answer = client
        .send(request("GET", "/~/hms-api/v1/x", &headers, ""))
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(cast.api.last().target, "/v1/x");
}

#[tokio::test]
async fn each_refusal_is_seen_recorded_and_not_forwarded() {
    let cast = Cast::new().await;
    let front = cast.workload("front");
    let other = cast.workload("hms-api");
    let good = format!("Bearer {}", cast.token(&front, "hms-api"));
    let elsewhere = format!("Bearer {}", cast.token(&front, "app"));
    let stolen = format!("Bearer {}", cast.token(&other, "hms-api"));
    let host = ("host", "hms-api");
    let auth = |token: &'static str| ("authorization", token);
    let good = ("authorization", good.as_str());
    for (method, path, headers, code) in [
        ("GET", "/v1/x", vec![host], Code::TOKEN_ABSENT),
        (
            "GET",
            "/v1/x",
            vec![host, auth("Basic eDp5")],
            Code::CREDENTIAL_STATIC,
        ),
        (
            "GET",
            "/v1/x",
            vec![host, auth("Bearer eyJhbGciOiJub25lIn0.e30.")],
            Code::TOKEN_MALFORMED,
        ),
        (
            "GET",
            "/v1/x",
            vec![host, good, good],
            Code::TOKEN_MALFORMED,
        ),
        (
            "GET",
            "/v1/x",
            vec![host, ("authorization", &elsewhere)],
            Code::TOKEN_AUDIENCE,
        ),
        (
            "GET",
            "/v1/x",
            vec![host, ("authorization", &stolen)],
            Code::TOKEN_BINDING,
        ),
        ("GET", "/v2/x", vec![host, good], Code::NO_EDGE),
        ("DELETE", "/v1/x", vec![host, good], Code::NO_EDGE),
        ("TRACE", "/v1/x", vec![host, good], Code::NO_EDGE),
        ("get", "/v1/x", vec![host, good], Code::NO_EDGE),
        (
            "GET",
            "/v1/%2e%2e/x",
            vec![host, good],
            Code::PATH_AMBIGUOUS,
        ),
        ("GET", "/v1/a%2fb", vec![host, good], Code::PATH_AMBIGUOUS),
        ("GET", "/v1//x", vec![host, good], Code::PATH_AMBIGUOUS),
        (
            "GET",
            "/v1/x?a=1;b=2",
            vec![host, good],
            Code::PATH_AMBIGUOUS,
        ),
        (
            "GET",
            "/v1/x",
            vec![("host", "app"), good],
            Code::HOST_MISDIRECTED,
        ),
        ("GET", "/~/app/x", vec![host, good], Code::HOST_MISDIRECTED),
        (
            "GET",
            "/v1/x",
            vec![host, host, good],
            Code::HOST_MISDIRECTED,
        ),
    ] {
        let mut client = cast.dial_mesh(&front, "hms-api", false).await;
        let answer = client.send(request(method, path, &headers, "")).await;
        cast.refused(&answer, code, &cast.api, 0).await;
        assert_eq!(
            answer.headers.contains_key("www-authenticate"),
            code.status() == 401
        );
    }
    let outsider = cast.workload("outsider");
    let token = format!("Bearer {}", cast.token(&outsider, "hms-api"));
    let mut client = cast.dial_mesh(&outsider, "hms-api", true).await;
    let answer = client
        .send(request(
            "GET",
            "/v1/x",
            &[host, ("authorization", &token)],
            "",
        ))
        .await;
    cast.refused(&answer, Code::NO_EDGE, &cast.api, 0).await;
    let refused = cast
        .records()
        .iter()
        .filter(|it| it["status"] == "denied")
        .count();
    assert_eq!(refused, 18, "one decision, one record");
}

#[tokio::test]
async fn a_refused_handshake_is_recorded() {
    let cast = Cast::new().await;
    let other = Pki::new("local.dev.invalid");
    let stranger = countersign_net::Source::new(other.svid("front"));
    let gateway = cast.pki.id("countersign/gateway/gw");
    let connector = Connector::mutual(stranger, cast.roots.clone(), gateway).unwrap();
    if let Ok(mut client) =
        crate::support::Client::open(connector, cast.mesh, "hms-api", false).await
    {
        // In TLS 1.3 the client may only hear of it when it reads.
        assert!(
            client
                .start(request("GET", "/v1/x", &[("host", "hms-api")], ""))
                .await
                .is_err()
        );
    }
    let record = cast
        .record(|it| it["code"] == Code::CERTIFICATE_UNTRUSTED.to_string())
        .await;
    assert_eq!(record["pillar"], "identity");
    assert_eq!(record["source_ip"], "127.0.0.1");
    assert!(cast.api.seen().is_empty());
}

/// What is sent back as it comes.
fn duplex(token: &str, body: TestBody) -> Request<TestBody> {
    Request::post("/v1/duplex")
        .header("host", "hms-api")
        .header("authorization", token)
        .body(body)
        .unwrap()
}

#[tokio::test]
async fn bodies_stream_both_ways() {
    let cast = Cast::new().await;
    let front = cast.workload("front");
    let token = format!("Bearer {}", cast.token(&front, "hms-api"));
    for http2 in [false, true] {
        let mut client = cast.dial_mesh(&front, "hms-api", http2).await;
        let (sender, body) = piecewise(1);
        let request = duplex(&token, body);
        let first = || Ok(Frame::data(Bytes::from_static(b"ping")));
        sender.send(first()).await.unwrap();
        let mut response = client.start(request).await.unwrap();
        let receipt = response.headers()["countersign-receipt"]
            .to_str()
            .unwrap()
            .to_owned();
        for _ in 0..3 {
            let frame = tokio::time::timeout(PATIENCE, response.frame()).await;
            let data = frame.unwrap().unwrap().unwrap().into_data().unwrap();
            assert_eq!(data, "ping");
            sender.send(first()).await.unwrap();
        }
        drop(sender);
        while response.frame().await.is_some() {}
        let completion = cast.completion(&receipt).await;
        assert_eq!(completion["ending"], "done", "h2: {http2}");
        assert_eq!(completion["bytes_in"], 16);
        assert_eq!(completion["bytes_out"], 16);
    }
}

#[tokio::test]
async fn a_body_has_its_limit() {
    let cast = Cast::new().await;
    let front = cast.workload("front");
    let token = format!("Bearer {}", cast.token(&front, "hms-api"));
    let headers = [("host", "hms-api"), ("authorization", token.as_str())];
    let large = "x".repeat((64 << 10) + 1);
    let mut client = cast.dial_mesh(&front, "hms-api", true).await;
    // Announced: refused before anything is forwarded.
    let answer = client
        .send(request("POST", "/v1/x", &headers, &large))
        .await;
    cast.refused(&answer, Code::BODY_TOO_LARGE, &cast.api, 0)
        .await;
    let exact = client
        .send(request("POST", "/v1/x", &headers, &large[1..]))
        .await;
    assert_eq!(exact.status, 200);
    // Unannounced: cut when it is over.
    let chunks = large.clone().into_bytes();
    let frames = futures_util::stream::iter(
        chunks
            .chunks(8000)
            .map(|it| Ok(Frame::data(Bytes::copy_from_slice(it))))
            .collect::<Vec<_>>(),
    );
    // An upstream that answered meanwhile would have its answer broken off.
    let mut streamed = Request::post("/v1/late")
        .body(StreamBody::new(frames).boxed_unsync())
        .unwrap();
    for (name, value) in headers {
        streamed.headers_mut().insert(name, value.parse().unwrap());
    }
    let answer = client.send(streamed).await;
    assert_eq!(
        answer.status,
        Code::BODY_TOO_LARGE.status(),
        "{:?}",
        answer.body
    );
    let completion = cast.completion(answer.header("countersign-receipt")).await;
    assert_eq!(completion["ending"], "cut");
    let got = cast.api.last().body.lock().len();
    assert!(got <= 64 << 10, "{got} bytes went upstream");
}

#[tokio::test]
async fn a_body_over_its_limit_ends_what_it_is_answered_with() {
    let cast = Cast::new().await;
    let front = cast.workload("front");
    let token = format!("Bearer {}", cast.token(&front, "hms-api"));
    for http2 in [false, true] {
        let mut client = cast.dial_mesh(&front, "hms-api", http2).await;
        let (sender, body) = piecewise(1);
        let request = duplex(&token, body);
        let bytes = |count| Ok(Frame::data(Bytes::from(vec![b'x'; count])));
        sender.send(bytes(1)).await.unwrap();
        let mut response = client.start(request).await.unwrap();
        let receipt = response.headers()["countersign-receipt"].clone();
        let frame = tokio::time::timeout(PATIENCE, response.frame()).await;
        let data = frame.unwrap().unwrap().unwrap().into_data().unwrap();
        assert_eq!(data, "x");
        sender.send(bytes(64 << 10)).await.unwrap();
        let rest = async { while let Some(Ok(_)) = response.frame().await {} };
        tokio::time::timeout(PATIENCE, rest).await.unwrap();
        let completion = cast.completion(receipt.to_str().unwrap()).await;
        assert_eq!(completion["ending"], "cut", "h2: {http2}");
        assert_eq!(completion["status"], 200);
    }
}

#[tokio::test]
async fn a_caller_who_goes_away_aborts_the_call() {
    let cast = Cast::new().await;
    let front = cast.workload("front");
    let token = format!("Bearer {}", cast.token(&front, "hms-api"));
    let mut client = cast.dial_mesh(&front, "hms-api", false).await;
    let headers = [("host", "hms-api"), ("authorization", token.as_str())];
    let mut response = client
        .start(request("GET", "/v1/endless", &headers, ""))
        .await
        .unwrap();
    let receipt = response.headers()["countersign-receipt"]
        .to_str()
        .unwrap()
        .to_owned();
    response.frame().await.unwrap().unwrap();
    assert_eq!(cast.point.open(), 1);
    drop((response, client));
    assert_eq!(cast.completion(&receipt).await["ending"], "aborted");
    cast.nothing_is_open().await;
}

#[tokio::test]
async fn what_is_revoked_ends() {
    let cast = Cast::new().await;
    let front = cast.workload("front");
    let token = format!("Bearer {}", cast.token(&front, "hms-api"));
    let headers = [("host", "hms-api"), ("authorization", token.as_str())];
    let mut streams = Vec::new();
    for (http2, path) in [
        (false, "/v1/events"),
        (true, "/v1/events"),
        (false, "/v1/endless"),
        (true, "/v1/endless"),
    ] {
        let mut client = cast.dial_mesh(&front, "hms-api", http2).await;
        let mut response = client
            .start(request("GET", path, &headers, ""))
            .await
            .unwrap();
        response.frame().await.unwrap().unwrap();
        streams.push((path, client, response));
    }
    let jti = payload(&token)["jti"].as_str().unwrap().to_owned();
    let line = Revocation {
        at: Timestamp::from_secs(1),
        epoch: 1,
        lifted: false,
        what: Revoked::Token(jti),
    };
    assert_eq!(cast.point.revoke(&[line]), Ok(4));
    for (path, client, response) in streams {
        let answer = Answer::read(response).await;
        let receipt = answer.header("countersign-receipt").to_owned();
        if path.ends_with("events") {
            let text = answer.text();
            assert!(text.contains("event: error\ndata: {"), "{text}");
            assert!(text.contains(&Code::TOKEN_REVOKED.to_string()), "{text}");
        } else {
            assert!(answer.body.is_err(), "an endless body came to a proper end");
        }
        assert_eq!(cast.completion(&receipt).await["ending"], "cut");
        drop(client);
    }
    let mut client = cast.dial_mesh(&front, "hms-api", false).await;
    let before = cast.api.seen().len();
    let answer = client.send(request("GET", "/v1/x", &headers, "")).await;
    cast.refused(&answer, Code::TOKEN_REVOKED, &cast.api, before)
        .await;
}

#[tokio::test]
async fn whoever_does_not_read_is_cut_all_the_same() {
    let written = Arc::new(AtomicUsize::new(0));
    let backend = Backend::plain(false, flood(&written)).await;
    let keys = format!("url: \"http://{}\"", backend.address);
    let pki = Arc::new(Pki::new("local.dev.invalid"));
    let cast = Cast::with(pki, &More::service("one", &keys)).await;
    let front = cast.workload("front");
    let token = format!("Bearer {}", cast.token(&front, "one"));
    let headers = [("host", "one"), ("authorization", token.as_str())];
    let mut unread = Vec::new();
    for http2 in [false, true] {
        written.store(0, Ordering::SeqCst);
        let mut client = cast.dial_mesh(&front, "one", http2).await;
        let endless = request("GET", "/x", &headers, "");
        unread.push((client.start(endless).await.unwrap(), client));
        // All that is between the two is full.
        settled(&written).await;
    }
    let what = Revoked::Token(payload(&token)["jti"].as_str().unwrap().to_owned());
    let line = Revocation {
        at: Timestamp::from_secs(1),
        epoch: 1,
        lifted: false,
        what,
    };
    assert_eq!(cast.point.revoke(&[line]), Ok(2));
    for (response, _client) in &unread {
        let receipt = response.headers()["countersign-receipt"].to_str().unwrap();
        assert_eq!(cast.completion(receipt).await["ending"], "cut");
    }
    cast.nothing_is_open().await;
}

#[tokio::test]
async fn a_revoked_upstream_is_not_called() {
    let cast = Cast::new().await;
    let front = cast.workload("front");
    let token = format!("Bearer {}", cast.token(&front, "hms-api"));
    let headers = [("host", "hms-api"), ("authorization", token.as_str())];
    let mut client = cast.dial_mesh(&front, "hms-api", false).await;
    let answer = client.send(request("GET", "/v1/x", &headers, "")).await;
    assert_eq!(answer.status, 200);
    let line = Revocation {
        at: Timestamp::from_secs(1),
        epoch: 1,
        lifted: false,
        what: Revoked::Identity(cast.pki.id("hms-api")),
    };
    assert_eq!(cast.point.revoke(&[line]), Ok(0));
    // Neither on the connection that is kept, nor on a new one, nor for a WebSocket.
    let socket = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let socket: Vec<_> = headers.into_iter().chain(socket).collect();
    for headers in [&headers[..], &headers, &socket] {
        let answer = client.send(request("GET", "/v1/x", headers, "")).await;
        assert_eq!(answer.status, 502);
    }
    assert_eq!(cast.api.seen().len(), 1, "a revoked upstream was called");
}

#[tokio::test]
async fn an_upstream_that_fails_is_no_refusal() {
    let cast = Cast::new().await;
    let front = cast.workload("front");
    for (service, path, status) in [("dead", "/x", 502), ("hms-api", "/v1/late", 504)] {
        let token = format!("Bearer {}", cast.token(&front, service));
        let mut client = cast.dial_mesh(&front, service, false).await;
        let headers = [("host", service), ("authorization", token.as_str())];
        let answer = client.send(request("GET", path, &headers, "")).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert!(!answer.headers.contains_key("countersign-pillar"));
        let problem: Value = serde_json::from_str(&answer.text()).unwrap();
        assert!(!answer.text().contains("127.0.0.1"), "{problem}");
        let completion = cast.completion(problem["receipt"].as_str().unwrap()).await;
        assert_eq!(completion["ending"], "upstream-failed");
        assert_eq!(completion["status"], status);
    }
}

#[tokio::test]
async fn the_issuer_is_at_every_mesh_door() {
    let cast = Cast::new().await;
    let front = cast.workload("front");
    let mut client = cast.dial_mesh(&front, "127.0.0.1", false).await;
    let headers = [("host", "127.0.0.1")];
    let answer = client
        .send(request("POST", "/oauth2/token", &headers, "grant_type=x"))
        .await;
    let said: Value = serde_json::from_str(&answer.text()).unwrap();
    assert_eq!(said["peer"], "spiffe://local.dev.invalid/front");
    assert_eq!(said["asked"], "POST /oauth2/token");
    assert_eq!(said["form"], "grant_type=x");
}

#[tokio::test]
async fn draining_finishes_what_is_under_way() {
    let mut cast = Cast::new().await;
    let front = cast.workload("front");
    let token = format!("Bearer {}", cast.token(&front, "hms-api"));
    let headers = [("host", "hms-api"), ("authorization", token.as_str())];
    let mut client = cast.dial_mesh(&front, "hms-api", false).await;
    let response = client
        .start(request("GET", "/v1/endless", &headers, ""))
        .await
        .unwrap();
    let gateway = cast.gateway.take().unwrap();
    let started = std::time::Instant::now();
    gateway.drain(Duration::from_millis(300)).await;
    assert!(
        started.elapsed() >= Duration::from_millis(300),
        "what was under way got no time"
    );
    assert!(
        Answer::read(response).await.body.is_err(),
        "over the limit it is cut"
    );
}
