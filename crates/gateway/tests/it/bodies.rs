//! Bodies that rules read, that are too large, too slow, or that nobody waits for.

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
use countersign_net::SvidSource;
use countersign_testkit::pki::Pki;
use http::Request;
use http_body_util::BodyExt;
use http_body_util::StreamBody;
use hyper::body::Frame;
use serde_json::Value;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

const FORM: &str = r#"{
  "type": "object", "required": ["items"], "additionalProperties": false,
  "properties": { "items": { "type": "array", "maxItems": 3, "items": {
    "type": "object", "properties": { "title": { "type": "string", "maxLength": 5 }, "of": { "maximum": 9 } }
  } } }
}"#;

/// Gives back what it got, with the coding it got it in.
async fn echo() -> Backend {
    let echo = handler(|request: Request<_>| async move {
        let (parts, body) = request.into_parts();
        let coding = parts.headers.get("content-encoding").cloned();
        let body = body.collect().await;
        let Ok(body) = body else {
            return text(400, "broken");
        };
        let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        let mut answer = text(200, &body);
        if let Some(coding) = coding {
            answer.headers_mut().insert("x-coding", coding);
        }
        answer
    });
    Backend::plain(false, echo).await
}

async fn stage(backend: &Backend, mesh: &str) -> Cast {
    let more = More {
        services: format!(
            "  forms:\n    peer: service\n    url: \"http://{}\"\n    operations:\n      \
             POST /forms/**: {{ needs: edge, body: {{ schema: form.json, max: 16KiB }} }}\n      \
             POST /free/**: {{ needs: edge, body: {{ max: 32KiB }} }}\n",
            backend.address
        ),
        edges: "  front -> forms: [POST /forms/**, POST /free/**]".to_owned(),
        mesh: mesh.to_owned(),
        files: vec![("form.json".to_owned(), FORM.to_owned())],
        ..More::default()
    };
    Cast::with(Arc::new(Pki::new("local.dev.invalid")), &more).await
}

/// A caller, and the token that is bound to its certificate.
fn caller(cast: &Cast) -> (Arc<SvidSource>, String) {
    let front = cast.workload("front");
    let token = format!("Bearer {}", cast.token(&front, "forms"));
    (front, token)
}

/// A POST whose length nobody announced; it ends only if `ends`.
fn streamed(path: &str, token: &str, body: &str, ends: bool) -> Request<TestBody> {
    let chunks: Vec<_> = body
        .as_bytes()
        .chunks(4000)
        .map(|it| Ok(Frame::data(Bytes::copy_from_slice(it))))
        .collect();
    let chunks = futures_util::stream::iter(chunks);
    let body: TestBody = if ends {
        StreamBody::new(chunks).boxed_unsync()
    } else {
        let silence = futures_util::stream::pending();
        StreamBody::new(futures_util::StreamExt::chain(chunks, silence)).boxed_unsync()
    };
    Request::post(path)
        .header("host", "forms")
        .header("authorization", token)
        .header("content-type", "application/json")
        .body(body)
        .unwrap()
}

async fn post(cast: &Cast, http2: bool, extra: &[(&str, &str)], body: &str) -> Answer {
    let (front, token) = caller(cast);
    let own = [("host", "forms"), ("authorization", token.as_str())];
    let headers: Vec<_> = own.into_iter().chain(extra.iter().copied()).collect();
    let mut client = cast.dial_mesh(&front, "forms", http2).await;
    client
        .send(request("POST", "/forms/1", &headers, body))
        .await
}

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn a_body_follows_its_schema_or_is_refused_with_its_faults() {
    let backend = echo().await;
    let cast = stage(&backend, "").await;
    for http2 in [false, true] {
        // What is judged is what is sent, to the byte.
        let good = "{ \"items\" : [ {\"title\":\"short\", \"of\": 9.0} ] }\n";
        let answer = post(&cast, http2, &[JSON], good).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, good));
        let before = backend.requests();
        let bad = r#"{"items":[{"title":"CANARY-7","of":10}],"CANARY-8":1}"#;
        let answer = post(&cast, http2, &[JSON], bad).await;
        cast.refused(&answer, Code::BODY_SCHEMA, &cast.app, 0).await;
        let body: Value = serde_json::from_str(&answer.text()).unwrap();
        let mut errors = body["errors"].as_array().unwrap().clone();
        errors.sort_by_key(ToString::to_string);
        let expected = [
            json!({ "pointer": "", "rule": "additionalProperties" }),
            json!({ "pointer": "/items/0/of", "rule": "maximum" }),
            json!({ "pointer": "/items/0/title", "rule": "maxLength" }),
        ];
        assert_eq!(errors, expected);
        let receipt = answer.header("countersign-receipt").parse().unwrap();
        let leaf = cast.point.spool().find(&receipt).unwrap().unwrap();
        let record: Value = serde_json::from_slice(&leaf.leaf).unwrap();
        let verdict = &record["record"]["hop"]["facts"]["schemas"][0];
        assert_eq!(verdict["valid"], false);
        assert_eq!(verdict["faults"].as_array().unwrap().len(), 3);
        assert!(!record.to_string().contains("CANARY"), "{record}");
        assert!(!answer.text().contains("CANARY"), "{}", answer.text());
        assert_eq!(backend.requests(), before, "it went upstream");
    }
}

#[tokio::test]
async fn what_can_not_be_judged_is_refused_unread() {
    let backend = echo().await;
    let cast = stage(&backend, "").await;
    let good = r#"{"items":[]}"#;
    for http2 in [false, true] {
        for (extra, body, code) in [
            (&[JSON][..], "", Code::BODY_UNREADABLE),
            (&[JSON], "{", Code::BODY_UNREADABLE),
            (
                &[JSON],
                r#"{"items":[],"items":[{"title":"far too long"}]}"#,
                Code::BODY_UNREADABLE,
            ),
            (&[], good, Code::BODY_UNREADABLE),
            (
                &[("content-type", "multipart/form-data; boundary=x")],
                good,
                Code::BODY_UNREADABLE,
            ),
            (
                &[("content-type", "application/json; charset=utf-16")],
                good,
                Code::BODY_UNREADABLE,
            ),
            (
                &[JSON, ("content-encoding", "gzip")],
                good,
                Code::BODY_CODING,
            ),
            (
                &[JSON, ("content-encoding", "identity, x-unknown")],
                good,
                Code::BODY_CODING,
            ),
        ] {
            let answer = post(&cast, http2, extra, body).await;
            cast.refused(&answer, code, &cast.app, 0).await;
            assert_eq!(answer.status, code.status());
            if code == Code::BODY_CODING {
                assert_eq!(answer.header("accept-encoding"), "identity");
            }
        }
        let answer = post(
            &cast,
            http2,
            &[JSON, ("content-encoding", "identity")],
            good,
        )
        .await;
        assert_eq!(answer.status, 200);
    }
    assert_eq!(backend.requests(), 2);
}

#[tokio::test]
async fn where_no_rule_reads_it_a_coding_is_between_caller_and_upstream() {
    let backend = echo().await;
    let cast = stage(&backend, "").await;
    let (front, token) = caller(&cast);
    for http2 in [false, true] {
        let headers = [
            ("host", "forms"),
            ("authorization", token.as_str()),
            ("content-encoding", "x-unknown"),
        ];
        let mut client = cast.dial_mesh(&front, "forms", http2).await;
        let answer = client
            .send(request("POST", "/free/1", &headers, "not for us"))
            .await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "not for us"));
        assert_eq!(answer.header("x-coding"), "x-unknown");
    }
}

#[tokio::test]
async fn a_held_body_has_its_limit_announced_or_not() {
    let backend = echo().await;
    let cast = stage(&backend, "").await;
    let (front, token) = caller(&cast);
    let large = format!("\"{}\"", "x".repeat(16 << 10));
    for http2 in [false, true] {
        let answer = post(&cast, http2, &[JSON], &large).await;
        cast.refused(&answer, Code::BODY_TOO_LARGE, &cast.app, 0)
            .await;
        for ends in [true, false] {
            let mut client = cast.dial_mesh(&front, "forms", http2).await;
            let answer = client
                .send(streamed("/forms/1", &token, &large, ends))
                .await;
            cast.refused(&answer, Code::BODY_TOO_LARGE, &cast.app, 0)
                .await;
        }
    }
    assert_eq!(backend.requests(), 0);
}

#[tokio::test]
async fn a_streamed_body_has_its_limit_over_http1_too() {
    let backend = echo().await;
    let cast = stage(&backend, "").await;
    let (front, token) = caller(&cast);
    let large = "x".repeat((32 << 10) + 1);
    for http2 in [false, true] {
        let mut client = cast.dial_mesh(&front, "forms", http2).await;
        let answer = client.send(streamed("/free/1", &token, &large, true)).await;
        assert_eq!(answer.status, Code::BODY_TOO_LARGE.status());
        let completion = cast.completion(answer.header("countersign-receipt")).await;
        assert_eq!(completion["ending"], "cut");
        assert_eq!(completion["status"], 413);
    }
}

#[tokio::test]
async fn whoever_falls_silent_in_a_body_is_not_waited_for() {
    let backend = echo().await;
    let cast = stage(&backend, ", limits: { idle: 1s }").await;
    let (front, token) = caller(&cast);
    for http2 in [false, true] {
        // Held: no rule has seen it, so it is refused.
        let mut client = cast.dial_mesh(&front, "forms", http2).await;
        let answer = client
            .send(streamed("/forms/1", &token, "{\"items\":", false))
            .await;
        cast.refused(&answer, Code::BODY_UNREADABLE, &cast.app, 0)
            .await;
        // Streamed: it was admitted, and comes to no end.
        let mut client = cast.dial_mesh(&front, "forms", http2).await;
        let answer = client
            .send(streamed("/free/1", &token, "half", false))
            .await;
        assert_eq!(answer.status, 504);
        let completion = cast.completion(answer.header("countersign-receipt")).await;
        assert_eq!(completion["ending"], "aborted");
        assert_eq!(completion["bytes_in"], 4);
    }
}

/// The status line of an answer, and its body by its announced length.
async fn heard<S: tokio::io::AsyncRead + Unpin>(stream: &mut S) -> (String, String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = tokio::time::timeout(PATIENCE, stream.read_u8()).await;
        head.push(byte.unwrap().unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|it| {
        let (name, value) = it.split_once(": ")?;
        let length = name.eq_ignore_ascii_case("content-length");
        length.then(|| value.parse::<usize>().unwrap())
    });
    let mut body = vec![0; length.unwrap_or_default()];
    let read = tokio::time::timeout(PATIENCE, stream.read_exact(&mut body)).await;
    read.unwrap().unwrap();
    let line = head.lines().next().unwrap_or_default().to_owned();
    (line, String::from_utf8(body).unwrap())
}

#[tokio::test]
async fn nobody_is_told_to_send_what_is_refused_unread() {
    let backend = echo().await;
    let cast = stage(&backend, "").await;
    let (front, token) = caller(&cast);
    for (path, fields, status) in [
        (
            "/forms/1",
            "content-type: text/plain\r\ncontent-length: 9",
            422,
        ),
        (
            "/forms/1",
            "content-type: application/json\r\ncontent-encoding: br\r\ncontent-length: 9",
            415,
        ),
        (
            "/forms/1",
            "content-type: application/json\r\ncontent-length: 99999",
            413,
        ),
        ("/free/1", "content-length: 99999", 413),
    ] {
        let mut stream = cast.raw_mesh(&front, "forms").await;
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: forms\r\nauthorization: {token}\r\n{fields}\r\nexpect: 100-continue\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let (line, body) = heard(&mut stream).await;
        assert!(line.starts_with(&format!("HTTP/1.1 {status}")), "{line}");
        let body: Value = serde_json::from_str(&body).unwrap();
        let receipt = body["receipt"].as_str().unwrap().parse().unwrap();
        assert!(cast.point.spool().find(&receipt).unwrap().is_some());
    }
    // A rule has to read this one before it is decided.
    let mut stream = cast.raw_mesh(&front, "forms").await;
    let head = format!(
        "POST /forms/1 HTTP/1.1\r\nhost: forms\r\nauthorization: {token}\r\ncontent-type: application/json\r\ncontent-length: 12\r\nexpect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(heard(&mut stream).await.0, "HTTP/1.1 100 Continue");
    stream.write_all(br#"{"items":[]}"#).await.unwrap();
    let (line, body) = heard(&mut stream).await;
    assert_eq!(
        (line.as_str(), body.as_str()),
        ("HTTP/1.1 200 OK", r#"{"items":[]}"#)
    );
}

#[tokio::test]
async fn who_may_not_call_is_refused_before_its_body_comes() {
    let backend = echo().await;
    let cast = stage(&backend, "").await;
    let (front, _) = caller(&cast);
    let outsider = cast.workload("outsider");
    let other = cast.workload("hms-api");
    for (who, token, code) in [
        // For another service, and of somebody else.
        (&front, cast.token(&front, "hms-api"), Code::TOKEN_AUDIENCE),
        (&front, cast.token(&other, "forms"), Code::TOKEN_BINDING),
        (&outsider, cast.token(&outsider, "forms"), Code::NO_EDGE),
    ] {
        let mut stream = cast.raw_mesh(who, "forms").await;
        let head = format!(
            "POST /forms/1 HTTP/1.1\r\nhost: forms\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: 12\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let (_, body) = heard(&mut stream).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["code"], code.to_string());
        let receipt = body["receipt"].as_str().unwrap().parse().unwrap();
        let leaf = cast.point.spool().find(&receipt).unwrap().unwrap();
        let record: Value = serde_json::from_slice(&leaf.leaf).unwrap();
        assert_eq!(record["record"]["code"], code.to_string());
    }
    assert_eq!(backend.requests(), 0);
}

/// How many bodies were refused for their size.
fn refusals(cast: &Cast) -> usize {
    let records = cast.records();
    let large = Code::BODY_TOO_LARGE.to_string();
    records.iter().filter(|it| it["code"] == large).count()
}

/// A client that does not read before it has written all: closed at once, its connection would be
/// reset, and the answer lost with it.
#[tokio::test]
async fn whoever_still_sends_hears_why_it_is_refused() {
    let backend = echo().await;
    let cast = stage(&backend, "").await;
    let (front, token) = caller(&cast);
    const ALL: usize = 1 << 20;
    let chunk = [b'x'; 1 << 14];
    for chunked in [false, true] {
        for _ in 0..5 {
            let mut stream = cast.raw_mesh(&front, "forms").await;
            let length = if chunked {
                "transfer-encoding: chunked".to_owned()
            } else {
                format!("content-length: {ALL}")
            };
            let head = format!(
                "POST /forms/1 HTTP/1.1\r\nhost: forms\r\nauthorization: {token}\r\ncontent-type: application/json\r\n{length}\r\n\r\n"
            );
            let before = refusals(&cast);
            stream.write_all(head.as_bytes()).await.unwrap();
            for nth in 0..ALL / chunk.len() {
                if nth == 2 {
                    // It is refused by now, and its client does not look.
                    let deadline = Instant::now() + PATIENCE;
                    while refusals(&cast) == before {
                        assert!(Instant::now() < deadline, "it was not refused");
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
                if chunked {
                    stream.write_all(b"4000\r\n").await.unwrap();
                }
                stream.write_all(&chunk).await.unwrap();
                stream.flush().await.unwrap();
                if chunked {
                    stream.write_all(b"\r\n").await.unwrap();
                }
            }
            stream.flush().await.unwrap();
            let (line, body) = heard(&mut stream).await;
            assert!(line.starts_with("HTTP/1.1 413"), "{line}");
            let body: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(body["code"], Code::BODY_TOO_LARGE.to_string());
            let end = tokio::time::timeout(PATIENCE, stream.read(&mut [0; 1])).await;
            assert_eq!(end.unwrap().unwrap_or(0), 0, "more than one answer");
        }
    }
    // A stream of HTTP/2 is ended for itself; its connection goes on.
    let mut client = cast.dial_mesh(&front, "forms", true).await;
    let large = "x".repeat(ALL);
    let answer = client
        .send(streamed("/forms/1", &token, &large, true))
        .await;
    cast.refused(&answer, Code::BODY_TOO_LARGE, &cast.app, 0)
        .await;
    let answer = client
        .send(streamed("/forms/1", &token, r#"{"items":[]}"#, true))
        .await;
    assert_eq!(answer.status, 200);
}
