//! A service at several addresses.

use crate::support::Backend;
use crate::support::Cast;
use crate::support::More;
use crate::support::PATIENCE;
use crate::support::TestBody;
use crate::support::handler;
use crate::support::request;
use crate::support::text;
use countersign_testkit::pki::Pki;
use http::Response;
use http_body_util::BodyExt;
use parking_lot::Mutex;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

fn pki() -> Arc<Pki> {
    Arc::new(Pki::new("local.dev.invalid"))
}

/// A backend that answers with its name.
async fn named(pki: &Pki, identity: &str, name: &'static str) -> Backend {
    Backend::mutual(
        pki,
        identity,
        handler(move |_| async move { text(200, name) }),
    )
    .await
}

fn urls(scheme: &str, backends: &[&Backend]) -> String {
    let urls = backends
        .iter()
        .map(|it| format!("\"{scheme}://{}\"", it.address));
    let urls: Vec<String> = urls.collect();
    format!(
        "urls: [{}], network: private, identity: app",
        urls.join(", ")
    )
}

#[tokio::test]
async fn calls_go_round() {
    let pki = pki();
    let (a, b, c) = (
        named(&pki, "app", "a").await,
        named(&pki, "app", "b").await,
        named(&pki, "app", "c").await,
    );
    let keys = format!("{}, balance: round-robin", urls("https", &[&a, &b, &c]));
    let cast = Cast::with(pki, &More::service("many", &keys)).await;
    let mut said = String::new();
    for _ in 0..6 {
        said += &cast.call("many", "GET", "/x").await.text();
    }
    assert_eq!(said, "abcabc");
    assert_eq!([a.requests(), b.requests(), c.requests()], [2, 2, 2]);
}

#[tokio::test]
async fn the_least_busy_is_called() {
    let pki = pki();
    let stuck = Backend::mutual(
        &pki,
        "app",
        handler(|_| std::future::pending::<Response<TestBody>>()),
    )
    .await;
    let quick = named(&pki, "app", "quick").await;
    let cast = Cast::with(
        pki,
        &More::service("many", &urls("https", &[&stuck, &quick])),
    )
    .await;
    let cast = Arc::new(cast);
    // Until one hangs, either is as good.
    let mut hanging = Vec::new();
    while stuck.requests() == 0 {
        let cast = cast.clone();
        hanging.push(tokio::spawn(
            async move { cast.call("many", "GET", "/x").await },
        ));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let before = stuck.requests();
    for _ in 0..20 {
        assert_eq!(cast.call("many", "GET", "/x").await.text(), "quick");
    }
    assert_eq!(
        stuck.requests(),
        before,
        "a call went where one was pending"
    );
    hanging.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn nobody_notices_an_address_that_is_away() {
    let pki = pki();
    // Accepts and hangs up, before any handshake.
    let away = Backend::raw(|stream, _| async move { drop(stream) }).await;
    let here = named(&pki, "app", "here").await;
    let keys = format!("{}, balance: round-robin", urls("https", &[&away, &here]));
    let cast = Cast::with(pki, &More::service("many", &keys)).await;
    let started = Instant::now();
    for _ in 0..20 {
        let answer = cast.call("many", "POST", "/x").await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "here"));
    }
    // Five in a row, then once after one second, two, four.
    let trials = started.elapsed().as_secs().min(4) as usize;
    assert!(
        away.connections() <= 5 + trials,
        "{} connections to an address that is out",
        away.connections()
    );
    let failed = cast
        .records()
        .iter()
        .any(|it| it["completion"]["ending"] == "upstream-failed");
    assert!(!failed, "a call failed although an address was there");
}

#[tokio::test]
async fn where_all_are_away_calls_fail_at_once_and_it_comes_back() {
    let gone = Backend::plain(false, handler(|_| async { text(200, "never") })).await;
    let address = gone.address;
    drop(gone);
    let keys = format!("url: \"http://{address}\"");
    let cast = Cast::with(pki(), &More::service("one", &keys)).await;
    for _ in 0..5 {
        assert_eq!(cast.call("one", "GET", "/x").await.status, 502);
    }
    let answer = cast.call("one", "GET", "/x").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), "1");
    assert!(!answer.headers.contains_key("countersign-pillar"));
    let problem: Value = serde_json::from_str(&answer.text()).unwrap();
    let receipt = problem["receipt"].as_str().unwrap();
    assert_eq!(answer.header("countersign-receipt"), receipt);
    let completion = cast.completion(receipt).await;
    assert_eq!(completion["ending"], "upstream-failed");
    assert_eq!(completion["status"], 503);
    let back = Backend::plain_at(address, handler(|_| async { text(200, "back") })).await;
    let deadline = Instant::now() + PATIENCE;
    while cast.call("one", "GET", "/x").await.status != 200 {
        assert!(Instant::now() < deadline, "it never came back");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(cast.call("one", "GET", "/x").await.text(), "back");
    assert!(back.requests() >= 2);
}

#[tokio::test]
async fn whoever_is_not_the_service_is_not_called() {
    let pki = pki();
    let other = named(&pki, "outsider", "other").await;
    let right = named(&pki, "app", "right").await;
    let keys = format!("{}, balance: round-robin", urls("https", &[&other, &right]));
    let cast = Cast::with(pki, &More::service("many", &keys)).await;
    for _ in 0..4 {
        assert_eq!(cast.call("many", "GET", "/x").await.text(), "right");
    }
    assert_eq!(other.requests(), 0, "another identity got a request");
    assert!(other.connections() > 0, "it was not even tried");
}

#[tokio::test]
async fn probes_find_out_who_is_well() {
    let pki = pki();
    let ill = Arc::new(AtomicBool::new(true));
    let probes = Arc::new(Mutex::new(Vec::new()));
    let (state, seen) = (ill.clone(), probes.clone());
    let sick = Backend::mutual(
        &pki,
        "app",
        handler(move |request| {
            let status = if request.uri().path() == "/health" {
                seen.lock().push(request.headers().clone());
                if state.load(Ordering::SeqCst) {
                    500
                } else {
                    204
                }
            } else {
                200
            };
            async move { text(status, "") }
        }),
    )
    .await;
    let well = Backend::mutual(&pki, "app", handler(|_| async { text(200, "well") })).await;
    let keys = format!(
        "{}, balance: round-robin, health: {{ path: /health, every: 1s, timeout: 1s }}",
        urls("https", &[&sick, &well])
    );
    let cast = Cast::with(pki, &More::service("many", &keys)).await;
    // They begin with the gateway, not with the first call.
    let deadline = Instant::now() + PATIENCE;
    while probes.lock().len() < 3 {
        assert!(Instant::now() < deadline, "no probes");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(sick.requests(), probes.lock().len(), "it was called");
    for _ in 0..6 {
        assert_eq!(cast.call("many", "GET", "/x").await.text(), "well");
    }
    ill.store(false, Ordering::SeqCst);
    while cast.call("many", "GET", "/x").await.text() == "well" {
        assert!(Instant::now() < deadline, "never well again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for fields in probes.lock().iter() {
        for name in [
            "authorization",
            "countersign-assertion",
            "cookie",
            "x-request-id",
        ] {
            assert!(!fields.contains_key(name), "a probe has `{name}`");
        }
    }
    let recorded = cast
        .records()
        .iter()
        .any(|it| it.to_string().contains("/health"));
    assert!(!recorded, "a probe is no hop");
}

#[tokio::test]
async fn a_socket_on_this_machine() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = hyper::service::service_fn(|request: http::Request<_>| async move {
                let _: &hyper::body::Incoming = request.body();
                let host = request.headers()["host"].to_str().unwrap().to_owned();
                let said = format!("{host} {}", request.uri());
                Ok::<_, std::convert::Infallible>(text(200, &said))
            });
            let builder = hyper::server::conn::http1::Builder::new();
            let serving = builder.serve_connection(hyper_util::rt::TokioIo::new(stream), service);
            tokio::spawn(serving);
        }
    });
    let keys = format!("url: \"unix:{}\"", path.display());
    let cast = Cast::with(pki(), &More::service("beside", &keys)).await;
    let front = cast.workload("front");
    let token = format!("Bearer {}", cast.token(&front, "beside"));
    let headers = [("host", "beside"), ("authorization", token.as_str())];
    let mut client = cast.dial_mesh(&front, "beside", false).await;
    let response = client
        .start(request("GET", "/a?b", &headers, ""))
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "localhost /a?b");
}
