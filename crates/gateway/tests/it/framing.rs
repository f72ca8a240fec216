//! Messages that can be read in two ways: each is refused by name and recorded, nothing of it goes
//! on, and what came before it on the connection is answered.

use super::support::Answer;
use super::support::Cast;
use countersign_core::vocabulary::Code;
use countersign_net::SvidSource;
use http::HeaderMap;
use std::sync::Arc;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;

/// Sends bytes on a connection of its own and reads until the door closes it.
async fn said(cast: &Cast, front: &Arc<SvidSource>, bytes: &[u8]) -> Vec<u8> {
    let mut stream = cast.raw_mesh(front, "hms-api").await;
    stream.write_all(bytes).await.unwrap();
    let mut heard = Vec::new();
    // A reset after the answer is an end as well.
    let _ = stream.read_to_end(&mut heard).await;
    heard
}

/// The answers in a conversation, by a reader that shares no code with the library.
fn answers(mut heard: &[u8]) -> Vec<Answer> {
    let mut answers = Vec::new();
    while let Some(at) = heard.windows(4).position(|it| it == b"\r\n\r\n") {
        let head = std::str::from_utf8(&heard[..at]).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines
            .next()
            .unwrap()
            .split(' ')
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
            headers.insert(
                http::HeaderName::try_from(name).unwrap(),
                value.parse().unwrap(),
            );
        }
        let rest = &heard[at + 4..];
        let (body, length) = match headers.get("content-length") {
            Some(length) => {
                let length: usize = length.to_str().unwrap().parse().unwrap();
                (rest[..length].to_vec(), length)
            }
            None => chunks(rest),
        };
        heard = &rest[length..];
        answers.push(Answer {
            body: Ok(body),
            headers,
            status,
        });
    }
    answers
}

/// The body of a chunked answer, and where it ends.
fn chunks(bytes: &[u8]) -> (Vec<u8>, usize) {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let line = bytes[at..].windows(2).position(|it| it == b"\r\n").unwrap();
        let size = std::str::from_utf8(&bytes[at..at + line]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        let start = at + line + 2;
        body.extend_from_slice(&bytes[start..start + size]);
        at = start + size + 2;
        if size == 0 {
            return (body, at);
        }
    }
}

/// What the head of a good request has beside its faults.
fn with(cast: &Cast, front: &SvidSource, fields: &str, body: &str) -> String {
    let token = cast.token(front, "hms-api");
    format!(
        "POST /v1/reports HTTP/1.1\r\nHost: hms-api\r\nAuthorization: Bearer {token}\r\n{fields}\r\n{body}"
    )
}

#[tokio::test]
async fn what_can_be_read_in_two_ways_is_refused_and_recorded() {
    let cast = Cast::new().await;
    let front = cast.workload("front");
    let smuggled = "GET /v1/reports/1 HTTP/1.1\r\nHost: hms-api\r\n\r\n";
    let cases = [
        ("both lengths", with(&cast, &front, "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", &format!("0\r\n\r\n{smuggled}"))),
        ("two lengths", with(&cast, &front, "Content-Length: 0\r\nContent-Length: 44\r\n", smuggled)),
        ("a list of lengths", with(&cast, &front, "Content-Length: 0, 44\r\n", smuggled)),
        ("a signed length", with(&cast, &front, "Content-Length: +4\r\n", "abcd")),
        ("two codings", with(&cast, &front, "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n")),
        ("another coding", with(&cast, &front, "Transfer-Encoding: xchunked\r\n", "0\r\n\r\n")),
        ("a blank before the colon", with(&cast, &front, "Transfer-Encoding : chunked\r\n", "0\r\n\r\n")),
        ("a folded field", with(&cast, &front, "X-A: b\r\n Transfer-Encoding: chunked\r\n", "")),
        ("a bare line feed", with(&cast, &front, "X-A: b\nTransfer-Encoding: chunked\r\n", "")),
        ("a bare carriage return", with(&cast, &front, "X-A: b\rTransfer-Encoding: chunked\r\n", "")),
        ("a null in a value", with(&cast, &front, "X-A: b\0\r\n", "")),
        ("two blanks", "GET  /v1/reports/1 HTTP/1.1\r\nHost: hms-api\r\n\r\n".to_owned()),
        ("a version that is none", "GET /v1/reports/1 HTTP/1.2\r\nHost: hms-api\r\n\r\n".to_owned()),
        ("chunked in HTTP/1.0", "POST /v1/reports HTTP/1.0\r\nHost: hms-api\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned()),
        ("a preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
    ];
    for (name, bytes) in cases {
        let before = cast.api.seen().len();
        let heard = answers(&said(&cast, &front, bytes.as_bytes()).await);
        assert_eq!(heard.len(), 1, "{name}");
        assert_eq!(heard[0].headers["connection"], "close", "{name}");
        cast.refused(&heard[0], Code::MESSAGE_AMBIGUOUS, &cast.api, before)
            .await;
    }
}

#[tokio::test]
async fn too_large_a_head_is_refused_and_recorded() {
    let cast = Cast::new().await;
    let front = cast.workload("front");
    for fields in [
        format!("X-A: {}\r\n", "b".repeat(40_000)),
        "X-A: b\r\n".repeat(101),
    ] {
        let before = cast.api.seen().len();
        let heard =
            answers(&said(&cast, &front, with(&cast, &front, &fields, "").as_bytes()).await);
        assert_eq!(heard.len(), 1);
        assert_eq!(heard[0].status, 431);
        cast.refused(&heard[0], Code::HEAD_TOO_LARGE, &cast.api, before)
            .await;
    }
}

#[tokio::test]
async fn what_came_before_is_answered_and_what_comes_behind_is_not() {
    let cast = Cast::new().await;
    let front = cast.workload("front");
    let token = cast.token(&front, "hms-api");
    let good = format!(
        "GET /v1/reports/1 HTTP/1.1\r\nHost: hms-api\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    let bad = with(
        &cast,
        &front,
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "0\r\n\r\n",
    );
    let heard = answers(&said(&cast, &front, format!("{good}{bad}{good}").as_bytes()).await);
    let statuses: Vec<_> = heard.iter().map(|it| it.status).collect();
    assert_eq!(statuses, [200, 400]);
    cast.refused(&heard[1], Code::MESSAGE_AMBIGUOUS, &cast.api, 1)
        .await;
}

#[tokio::test]
async fn a_chunk_that_breaks_the_grammar_ends_the_request() {
    let cast = Cast::new().await;
    let front = cast.workload("front");
    let bytes = with(
        &cast,
        &front,
        "Transfer-Encoding: chunked\r\n",
        "5\r\nhello\r\n5\nhello\r\n0\r\n\r\n",
    );
    let heard = answers(&said(&cast, &front, bytes.as_bytes()).await);
    assert!(
        heard.iter().all(|it| it.status != 200),
        "{:?}",
        heard[0].status
    );
    let completion = cast.record(|it| it["kind"] == "completion").await;
    assert_ne!(completion["completion"]["ending"], "complete");
    // Whatever the upstream saw of it was no whole request.
    assert!(
        cast.api
            .seen()
            .iter()
            .all(|it| !it.body.lock().windows(10).any(|it| it == b"hellohello"))
    );
}

#[tokio::test]
async fn nothing_is_read_behind_a_request_for_another_protocol_that_was_refused() {
    let cast = Cast::new().await;
    let front = cast.workload("front");
    let ask = "GET /v1/none HTTP/1.1\r\nHost: hms-api\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
               Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let token = cast.token(&front, "hms-api");
    let smuggled = format!(
        "GET /v1/reports/1 HTTP/1.1\r\nHost: hms-api\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    let heard = answers(&said(&cast, &front, format!("{ask}{smuggled}").as_bytes()).await);
    assert_eq!(heard.len(), 1);
    assert_eq!(heard[0].headers["connection"], "close");
    cast.refused(&heard[0], Code::TOKEN_ABSENT, &cast.api, 0)
        .await;
}

#[tokio::test]
async fn a_refusal_reaches_whoever_still_sends() {
    let cast = Cast::new().await;
    let front = cast.workload("front");
    let mut stream = cast.raw_mesh(&front, "hms-api").await;
    let head = b"GET /v1/x HTTP/1.1\r\nhost: hms-api\r\nx-long: ";
    stream.write_all(head).await.unwrap();
    // A socket that is closed with bytes unread is reset, and what was sent last is lost.
    for _ in 0..32 {
        stream.write_all(&[b'x'; 64 * 1024]).await.unwrap();
    }
    stream.flush().await.unwrap();
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).await.unwrap();
    let answers = answers(&heard);
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].status, 431);
}
