//! Calls to somebody else's API.

use crate::support::CANARY;
use crate::support::Cast;
use crate::support::Client;
use crate::support::request;
use countersign_core::vocabulary::Code;
use http_body_util::BodyExt;

const CHAT: &str = "/v1/chat/completions";

async fn front(cast: &Cast, http2: bool) -> (Client, String) {
    let front = cast.workload("front");
    let token = format!("Bearer {}", cast.token(&front, "openai"));
    (cast.dial_mesh(&front, "openai", http2).await, token)
}

#[tokio::test]
async fn the_credential_goes_in_and_nothing_of_the_callers() {
    let cast = Cast::new().await;
    for http2 in [false, true] {
        let (mut client, token) = front(&cast, http2).await;
        let headers = [
            ("host", "openai"),
            ("authorization", token.as_str()),
            ("content-type", "application/json"),
            ("openai-beta", "x"),
            ("cookie", "a=1"),
            ("user-agent", "sdk"),
            ("x-api-key", "callers-own"),
            ("accept-encoding", "gzip"),
            (
                "traceparent",
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            ),
        ];
        let body = r#"{"model":"gpt-4o","max_tokens":100,"messages":[]}"#;
        let answer = client.send(request("POST", CHAT, &headers, body)).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        let seen = cast.model.last();
        assert!(seen.recorded);
        assert_eq!(seen.target, "/base/v1/chat/completions");
        assert_eq!(
            *seen.body.lock(),
            body.as_bytes(),
            "the bytes decided are the bytes forwarded"
        );
        let mut names: Vec<_> = seen.headers.keys().map(http::HeaderName::as_str).collect();
        names.retain(|name| !matches!(*name, "host" | "content-length"));
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "accept-encoding",
                "authorization",
                "content-type",
                "openai-beta"
            ]
        );
        assert_eq!(seen.headers["authorization"], format!("Bearer {CANARY}"));
        assert_eq!(seen.headers["accept-encoding"], "identity");
        assert!(!answer.headers.contains_key("set-cookie"));
        cast.no_canary(&answer.text());
        let completion = cast.completion(answer.header("countersign-receipt")).await;
        assert_eq!(
            completion["cost"], 20,
            "10 tokens in, 5 out at twice the price"
        );
        assert!(completion["body"].is_string());
        let used = cast.record(|it| it["event_type"] == "secret.inject").await;
        assert_eq!(used["metadata"]["version"], "3");
        assert_eq!(used["resource"]["id"], "vault/openai");
    }
}

#[tokio::test]
async fn rules_see_the_model_or_refuse() {
    let cast = Cast::new().await;
    let (mut client, token) = front(&cast, true).await;
    let host = ("host", "openai");
    let auth = ("authorization", token.as_str());
    let large = format!(r#"{{"model":"gpt-4o","x":"{}"}}"#, "x".repeat(16 << 10));
    let dear = r#"{"model":"gpt-4o","max_tokens":600000}"#;
    for (body, extra, code) in [
        (
            r#"{"model":"o1","max_tokens":1}"#,
            None,
            Code::MODEL_REFUSED,
        ),
        (
            r#"{"model":"gpt-4o","model":"o1"}"#,
            None,
            Code::BODY_UNREADABLE,
        ),
        ("not json", None, Code::BODY_UNREADABLE),
        (
            r#"{"model":"gpt-4o"}"#,
            Some(("content-encoding", "gzip")),
            Code::BODY_CODING,
        ),
        (large.as_str(), None, Code::BODY_TOO_LARGE),
        (dear, None, Code::BUDGET_SPENT),
    ] {
        let headers: Vec<_> = [host, auth].into_iter().chain(extra).collect();
        let answer = client.send(request("POST", CHAT, &headers, body)).await;
        cast.refused(&answer, code, &cast.model, 0).await;
        if matches!(code, Code::MODEL_REFUSED | Code::BUDGET_SPENT) {
            assert_eq!(answer.header("x-should-retry"), "false");
        }
    }
    // A stranger's body is not even read.
    let answer = client
        .send(request("POST", CHAT, &[host], "not json"))
        .await;
    cast.refused(&answer, Code::TOKEN_ABSENT, &cast.model, 0)
        .await;
}

#[tokio::test]
async fn no_credential_of_the_callers_in_the_query() {
    let cast = Cast::new().await;
    let (mut client, token) = front(&cast, false).await;
    let headers = [("host", "openai"), ("authorization", token.as_str())];
    for query in ["api_key=x", "a=1&API-Key=x", "%6bey=x"] {
        let answer = client
            .send(request("GET", &format!("/v1/models?{query}"), &headers, ""))
            .await;
        cast.refused(&answer, Code::REQUEST_CREDENTIAL, &cast.model, 0)
            .await;
    }
}

#[tokio::test]
async fn a_credential_that_comes_back_is_cut() {
    let cast = Cast::new().await;
    for http2 in [false, true] {
        let (mut client, token) = front(&cast, http2).await;
        let headers = [("host", "openai"), ("authorization", token.as_str())];
        let answer = client.send(request("GET", "/v1/leak", &headers, "")).await;
        assert!(answer.body.is_err(), "the answer came to a proper end");
        let receipt = answer.header("countersign-receipt").to_owned();
        assert_eq!(cast.completion(&receipt).await["ending"], "cut");
        let told = cast
            .record(|it| {
                it["event_type"] == "secret.leak.cut" && it["metadata"]["decision"] == receipt
            })
            .await;
        assert_eq!(told["resource"]["service"], "openai");
        let (mut client, token) = front(&cast, http2).await;
        let headers = [("host", "openai"), ("authorization", token.as_str())];
        let answer = client
            .send(request("GET", "/v1/header-leak", &headers, ""))
            .await;
        assert_eq!(answer.status, 502);
        assert!(!answer.headers.contains_key("x-echo"));
        cast.no_canary(&answer.text());
    }
}

#[tokio::test]
async fn no_part_of_a_returned_credential_passes() {
    let cast = Cast::new().await;
    let (mut client, token) = front(&cast, true).await;
    let headers = [("host", "openai"), ("authorization", token.as_str())];
    let mut response = client
        .start(request("GET", "/v1/leak", &headers, ""))
        .await
        .unwrap();
    let mut got = Vec::new();
    while let Some(Ok(frame)) = response.frame().await {
        got.extend_from_slice(&frame.into_data().unwrap_or_default());
    }
    let text = String::from_utf8(got).unwrap();
    assert!(
        text.starts_with("{\"harmless\":1"),
        "what came before it passes: {text}"
    );
    assert!(!text.contains("sk-"), "{text}");
}

#[tokio::test]
async fn redirects_are_the_callers_to_follow() {
    let cast = Cast::new().await;
    let (mut client, token) = front(&cast, true).await;
    let headers = [("host", "openai"), ("authorization", token.as_str())];
    let answer = client
        .send(request("GET", "/v1/redirect", &headers, ""))
        .await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (307, "https://127.0.0.1:1/elsewhere")
    );
    assert_eq!(cast.model.seen().len(), 1);
}
