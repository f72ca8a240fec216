//! Rate limits, as callers see them.

use crate::support::Answer;
use crate::support::Backend;
use crate::support::Cast;
use crate::support::More;
use crate::support::handler;
use crate::support::request;
use crate::support::text;
use countersign_core::snapshot::Snapshot;
use countersign_core::vocabulary::Code;
use countersign_testkit::pki::Pki;
use std::sync::Arc;

const ROLES: &str = "roles:\n";
const FRONT: &str = "\"user:dev/alice\", front], may:";
const MESH: &str = "mesh: { bind: \"127.0.0.1:9443\", peer: service }";

/// Puts the policy in force with some of its lines written otherwise.
fn install(cast: &Cast, edits: &[(&str, &str)]) {
    let mut bundle = cast.point.snapshot().bundle().clone();
    for text in bundle.files.values_mut() {
        for (from, to) in edits {
            assert!(text.contains(from), "{from}");
            *text = text.replace(from, to);
        }
    }
    let next = Arc::new(Snapshot::from_bundle(bundle).unwrap());
    cast.point.install(&next);
}

/// Who calls hms-api, for whom, with a connection of their own.
async fn get(cast: &Cast, subject: Option<&str>, http2: bool) -> Answer {
    let front = cast.workload("front");
    let leaf = front.current().leaf();
    let token = match subject {
        Some(person) => cast.control.token(leaf, person, "hms-api", &[], None),
        None => cast.token(&front, "hms-api"),
    };
    let token = format!("Bearer {token}");
    let headers = [("host", "hms-api"), ("authorization", token.as_str())];
    let mut client = cast.dial_mesh(&front, "hms-api", http2).await;
    client.send(request("GET", "/v1/x", &headers, "")).await
}

/// The seconds after which to come again, within what a slow test leaves of them.
fn seconds(answer: &Answer, name: &str, most: u64) -> u64 {
    let seconds = answer.header(name).parse().unwrap();
    assert!((1..=most).contains(&seconds), "{name}: {seconds}");
    seconds
}

#[tokio::test]
async fn each_subject_by_its_tier_and_told_what_is_left() {
    let cast = Cast::new().await;
    // A day is longer than any test.
    let roles = "tiers: { free: 2/day, pro: 3/day burst 4 }\nroles:\n  paying: { members: [\"user:dev/alice\"], tier: pro }\n";
    install(
        &cast,
        &[
            (ROLES, roles),
            (FRONT, "\"user:dev/alice\", front], tier: free, may:"),
        ],
    );
    for left in [1, 0] {
        let answer = get(&cast, None, true).await;
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.header("ratelimit-policy"),
            "\"tier free\";q=2;w=86400"
        );
        let told = answer.header("ratelimit");
        assert!(
            told.starts_with(&format!("\"tier free\";r={left};t=")),
            "{told}"
        );
        assert_eq!(answer.header("x-ratelimit-limit"), "2");
        assert_eq!(answer.header("x-ratelimit-remaining"), left.to_string());
        seconds(&answer, "x-ratelimit-reset", 86_400);
        assert!(!answer.headers.contains_key("retry-after"));
    }
    let sent = cast.api.seen().len();
    for http2 in [true, false] {
        let answer = get(&cast, None, http2).await;
        cast.refused(&answer, Code::RATE_EXCEEDED, &cast.api, sent)
            .await;
        assert_eq!(answer.status, 429);
        assert_eq!(
            answer.header("ratelimit-policy"),
            "\"tier free\";q=2;w=86400"
        );
        let wait = seconds(&answer, "retry-after", 43_200);
        let told = answer.header("ratelimit");
        assert_eq!(told, format!("\"tier free\";r=0;t={wait}"));
        let receipt = answer.header("countersign-receipt").to_owned();
        let record = cast.point.spool().find(&receipt.parse().unwrap());
        let record: serde_json::Value =
            serde_json::from_slice(&record.unwrap().unwrap().leaf).unwrap();
        let counted = &record["record"]["rates"][0];
        assert_eq!(counted["result"], "exceeded");
        assert_eq!(counted["charge"]["key"], "front");
        assert_eq!(counted["charge"]["limit"]["tier"], "free");
    }
    // alice is a member of both roles, and the better of her tiers is her own.
    for _ in 0..4 {
        let answer = get(&cast, Some("dev:alice"), true).await;
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.header("ratelimit-policy"),
            "\"tier pro\";q=4;w=115200"
        );
    }
    let answer = get(&cast, Some("dev:alice"), true).await;
    cast.refused(&answer, Code::RATE_EXCEEDED, &cast.api, sent + 4)
        .await;
}

#[tokio::test]
async fn without_a_limit_nothing_is_told_and_what_is_refused_counts_nothing() {
    let cast = Cast::new().await;
    let answer = get(&cast, None, true).await;
    assert_eq!(answer.status, 200);
    let names = answer.headers.keys().map(http::HeaderName::as_str);
    let told: Vec<_> = names.filter(|it| it.contains("ratelimit")).collect();
    assert_eq!(told, <[&str; 0]>::default());
    install(
        &cast,
        &[(MESH, &MESH.replace("peer:", "rate: 1/day, peer:"))],
    );
    let sent = cast.api.seen().len();
    let front = cast.workload("front");
    let mut client = cast.dial_mesh(&front, "hms-api", true).await;
    for _ in 0..5 {
        let bare = request("GET", "/v1/x", &[("host", "hms-api")], "");
        let answer = client.send(bare).await;
        cast.refused(&answer, Code::TOKEN_ABSENT, &cast.api, sent)
            .await;
    }
    assert_eq!(get(&cast, None, true).await.status, 200);
    let answer = get(&cast, None, true).await;
    cast.refused(&answer, Code::RATE_EXCEEDED, &cast.api, sent + 1)
        .await;
    assert_eq!(
        answer.header("ratelimit-policy"),
        "\"listener mesh\";q=1;w=86400"
    );
}

#[tokio::test]
async fn grpc_hears_that_a_resource_is_exhausted() {
    let cast = Cast::new().await;
    install(
        &cast,
        &[(MESH, &MESH.replace("peer:", "rate: 1/day, peer:"))],
    );
    assert_eq!(get(&cast, None, true).await.status, 200);
    let front = cast.workload("front");
    let token = format!("Bearer {}", cast.token(&front, "hms-api"));
    let headers = [
        ("host", "hms-api"),
        ("authorization", token.as_str()),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let mut client = cast.dial_mesh(&front, "hms-api", true).await;
    let answer = client.send(request("POST", "/v1/x", &headers, "")).await;
    assert_eq!((answer.status, answer.header("grpc-status")), (200, "8"));
    let message = "AccessDenied: pillar least-privilege failed (CSD514)";
    assert_eq!(answer.header("grpc-message"), message);
    seconds(&answer, "retry-after", 86_400);
    assert!(
        answer
            .header("ratelimit")
            .starts_with("\"listener mesh\";r=0;t=")
    );
    assert_eq!(cast.api.seen().len(), 1);
}

#[tokio::test]
async fn an_sdk_of_a_model_may_come_again_when_it_is_told() {
    let cast = Cast::new().await;
    let chat = "POST /v1/chat/completions: { ";
    install(&cast, &[(chat, &format!("{chat}rate: 1/day, "))]);
    let front = cast.workload("front");
    let token = format!("Bearer {}", cast.token(&front, "openai"));
    let headers = [("host", "openai"), ("authorization", token.as_str())];
    let mut client = cast.dial_mesh(&front, "openai", true).await;
    let body = r#"{"model":"gpt-4o","max_tokens":100,"messages":[]}"#;
    let ask = || request("POST", "/v1/chat/completions", &headers, body);
    let answer = client.send(ask()).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    assert_eq!(
        answer.header("ratelimit-policy"),
        "\"POST /v1/chat/completions of openai\";q=1;w=86400"
    );
    let answer = client.send(ask()).await;
    cast.refused(&answer, Code::RATE_EXCEEDED, &cast.model, 1)
        .await;
    seconds(&answer, "retry-after", 86_400);
    assert!(!answer.headers.contains_key("x-should-retry"));
}

#[tokio::test]
async fn what_an_upstream_says_of_its_own_limits_stays() {
    let backend = Backend::plain(
        false,
        handler(|_| async {
            let mut answer = text(429, "slowly");
            for (name, value) in [
                ("ratelimit", "\"theirs\";r=0;t=9"),
                ("ratelimit-policy", "\"theirs\";q=5;w=10"),
                ("retry-after", "9"),
                ("x-ratelimit-remaining", "0"),
            ] {
                answer.headers_mut().insert(name, value.parse().unwrap());
            }
            answer
        }),
    )
    .await;
    let keys = format!("url: \"http://{}\", identity: app", backend.address);
    let pki = Arc::new(Pki::new("local.dev.invalid"));
    let cast = Cast::with(pki, &More::service("metered", &keys)).await;
    install(
        &cast,
        &[(MESH, &MESH.replace("peer:", "rate: 9/day, peer:"))],
    );
    let answer = cast.call("metered", "GET", "/x").await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, "9"));
    let both = answer.headers.get_all("ratelimit-policy").iter();
    let both: Vec<_> = both.map(|it| it.to_str().unwrap()).collect();
    assert_eq!(
        both,
        ["\"theirs\";q=5;w=10", "\"listener mesh\";q=9;w=86400"]
    );
    assert_eq!(answer.headers.get_all("ratelimit").iter().count(), 2);
    assert_eq!(answer.header("x-ratelimit-remaining"), "0");
    assert!(!answer.headers.contains_key("x-ratelimit-limit"));
}
