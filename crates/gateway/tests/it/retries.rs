//! What is sent twice, and what never is.

use crate::support::Backend;
use crate::support::Cast;
use crate::support::More;
use crate::support::PATIENCE;
use crate::support::handler;
use crate::support::request;
use crate::support::text;
use bytes::Bytes;
use countersign_testkit::pki::Pki;
use http::Response;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

fn pki() -> Arc<Pki> {
    Arc::new(Pki::new("local.dev.invalid"))
}

/// Reads the head of a request.
async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

/// Reads a request and hangs up.
async fn hangs_up() -> Backend {
    Backend::raw(|mut stream, requests| async move {
        if head(&mut stream).await.is_some() {
            requests.fetch_add(1, Ordering::SeqCst);
        }
    })
    .await
}

async fn good() -> Backend {
    Backend::plain(false, handler(|_| async { text(200, "good") })).await
}

/// In turn, the first first.
fn two(first: &Backend, second: &Backend) -> String {
    format!(
        "urls: [\"http://{}\", \"http://{}\"], balance: round-robin",
        first.address, second.address
    )
}

#[tokio::test]
async fn only_what_may_be_done_twice_is_sent_twice() {
    for (method, body, retry, status, at_second) in [
        ("GET", "", "", 200, 1),
        // It may have been done.
        ("POST", "", "", 502, 0),
        ("POST", "x", "", 502, 0),
        ("GET", "", ", retry: never", 502, 0),
    ] {
        let (first, second) = (hangs_up().await, good().await);
        let keys = format!("{}{retry}", two(&first, &second));
        let cast = Cast::with(pki(), &More::service("many", &keys)).await;
        let front = cast.workload("front");
        let token = format!("Bearer {}", cast.token(&front, "many"));
        let headers = [("host", "many"), ("authorization", token.as_str())];
        let mut client = cast.dial_mesh(&front, "many", true).await;
        let answer = client.send(request(method, "/x", &headers, body)).await;
        let case = format!("{method} `{body}`{retry}");
        assert_eq!(answer.status, status, "{case}");
        assert_eq!(first.requests(), 1, "{case}");
        assert_eq!(second.requests(), at_second, "{case}");
        let receipt = answer.header("countersign-receipt").to_owned();
        let ending = if status == 200 {
            "done"
        } else {
            "upstream-failed"
        };
        let completion = cast.completion(&receipt).await;
        assert_eq!(completion["ending"], ending, "{case}");
        assert_eq!(completion["attempts"], 1 + at_second, "{case}");
        let last = if at_second == 0 { &first } else { &second };
        assert_eq!(completion["upstream"], last.address.to_string(), "{case}");
    }
}

#[tokio::test]
async fn what_did_not_leave_is_sent_elsewhere_whatever_it_is() {
    let gone = good().await;
    let second = good().await;
    let keys = two(&gone, &second);
    drop(gone);
    let cast = Cast::with(pki(), &More::service("many", &keys)).await;
    let front = cast.workload("front");
    let token = format!("Bearer {}", cast.token(&front, "many"));
    let headers = [("host", "many"), ("authorization", token.as_str())];
    let mut client = cast.dial_mesh(&front, "many", true).await;
    let answer = client.send(request("POST", "/x", &headers, "a body")).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "good"));
    assert_eq!(second.requests(), 1);
}

#[tokio::test]
async fn no_more_than_one_further_address() {
    let (a, b, c) = (hangs_up().await, hangs_up().await, good().await);
    let keys = format!(
        "urls: [\"http://{}\", \"http://{}\", \"http://{}\"], balance: round-robin",
        a.address, b.address, c.address
    );
    let cast = Cast::with(pki(), &More::service("many", &keys)).await;
    let answer = cast.call("many", "GET", "/x").await;
    let asked = a.requests() + b.requests() + c.requests();
    assert!(asked == 2, "asked {asked} times: {}", answer.status);
}

#[tokio::test]
async fn an_answer_that_has_begun_is_not_asked_for_again() {
    let first = Backend::raw(|mut stream, requests| async move {
        if head(&mut stream).await.is_some() {
            requests.fetch_add(1, Ordering::SeqCst);
            let begun = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nbegun";
            stream.write_all(begun).await.unwrap();
        }
    })
    .await;
    let second = good().await;
    let cast = Cast::with(pki(), &More::service("many", &two(&first, &second))).await;
    let answer = cast.call("many", "GET", "/x").await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.is_err(), "half an answer came to a proper end");
    assert_eq!(second.requests(), 0);
    let receipt = answer.header("countersign-receipt").to_owned();
    assert_eq!(cast.completion(&receipt).await["ending"], "upstream-failed");
}

#[tokio::test]
async fn a_kept_connection_that_ended_is_replaced() {
    let answered = Arc::new(AtomicUsize::new(0));
    let count = answered.clone();
    // Answers one request on each connection, and hangs up on the next without a word.
    let backend = Backend::raw(move |mut stream, requests| {
        let count = count.clone();
        async move {
            while head(&mut stream).await.is_some() {
                requests.fetch_add(1, Ordering::SeqCst);
                if count.fetch_add(1, Ordering::SeqCst) == 1 {
                    return;
                }
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                stream.write_all(answer).await.unwrap();
            }
        }
    })
    .await;
    let keys = format!("url: \"http://{}\"", backend.address);
    let cast = Cast::with(pki(), &More::service("one", &keys)).await;
    let front = cast.workload("front");
    let token = format!("Bearer {}", cast.token(&front, "one"));
    let headers = [("host", "one"), ("authorization", token.as_str())];
    // What is kept is kept by the thread that a caller's connection is on.
    let mut client = cast.dial_mesh(&front, "one", true).await;
    let first = client.send(request("GET", "/1", &headers, "")).await;
    assert_eq!(first.text(), "ok");
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let second = client.send(request("GET", "/2", &headers, "")).await;
    assert_eq!(second.text(), "ok");
    assert_eq!((backend.requests(), backend.connections()), (3, 2));
}

/// Reads whole frames of HTTP/2 until one of this kind; its stream (RFC 9113 section 4.1).
async fn frame_of(stream: &mut TcpStream, kind: u8) -> Option<u32> {
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).await.ok()?;
        if head[3] == kind {
            return Some(u32::from_be_bytes([head[5], head[6], head[7], head[8]]));
        }
    }
}

/// Says goodbye to its first two requests: it began with the first alone (RFC 9113 section 6.8).
/// On its next connection it answers.
async fn says_goodbye() -> Backend {
    Backend::raw(|stream, requests| async move {
        if requests.load(Ordering::SeqCst) == 0 {
            return goodbye(stream, &requests).await;
        }
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            requests.fetch_add(1, Ordering::SeqCst);
            let mut body = respond.send_response(Response::new(()), false).unwrap();
            body.send_data(Bytes::from_static(b"again"), true).unwrap();
        }
    })
    .await
}

async fn goodbye(mut stream: TcpStream, requests: &AtomicUsize) {
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await.unwrap();
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    stream.write_all(&settings).await.unwrap();
    for expect in [1, 3] {
        let Some(id) = frame_of(&mut stream, 1).await else {
            return;
        };
        assert_eq!(id, expect);
        requests.fetch_add(1, Ordering::SeqCst);
    }
    let goodbye = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    stream.write_all(&goodbye).await.unwrap();
    // The connection ends with it, so the first one gets no answer either.
    let _ = stream.shutdown().await;
}

#[tokio::test]
async fn goodbye_is_asked_again_only_what_it_says_did_not_begin() {
    let (first, second) = (
        says_goodbye().await,
        Backend::plain(true, handler(|_| async { text(200, "good") })).await,
    );
    let cast = Cast::with(pki(), &More::service("many", &two(&first, &second))).await;
    let front = cast.workload("front");
    let token = format!("Bearer {}", cast.token(&front, "many"));
    let headers = [
        ("host", "many"),
        ("authorization", token.as_str()),
        ("content-type", "application/grpc"),
    ];
    // In turn: the first and the third go to the address that says goodbye, by one connection, since
    // they come by one.
    let client = cast.dial_mesh(&front, "many", true).await;
    let mut answers = tokio::task::JoinSet::new();
    for nth in 0..3 {
        let mut client = client.another();
        let before = first.requests() + second.requests();
        let post = request("POST", &format!("/s/{nth}"), &headers, "");
        answers.spawn(async move { (nth, client.send(post).await) });
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while first.requests() + second.requests() == before {
            assert!(tokio::time::Instant::now() < deadline, "{nth} went nowhere");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
    let mut answers = answers.join_all().await;
    answers.sort_by_key(|(nth, _)| *nth);
    let said: Vec<_> = answers.iter().map(|(_, it)| it.text()).collect();
    // What may have begun is not sent twice: 14 says that it failed, not that it was not done.
    assert_eq!(answers[0].1.header("grpc-status"), "14", "{said:?}");
    assert_eq!(said, ["", "good", "again"]);
    assert_eq!((first.requests(), second.requests()), (3, 1));
    for ((_, answer), attempts) in answers.iter().zip([1, 1, 2]) {
        let receipt = answer.header("countersign-receipt").to_owned();
        assert_eq!(cast.completion(&receipt).await["attempts"], attempts);
    }
}

#[tokio::test]
async fn what_was_refused_before_it_began_is_sent_elsewhere() {
    let first = Backend::raw(|stream, requests| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            requests.fetch_add(1, Ordering::SeqCst);
            respond.send_reset(h2::Reason::REFUSED_STREAM);
        }
    })
    .await;
    let second = Backend::plain(true, handler(|_| async { text(200, "good") })).await;
    let cast = Cast::with(pki(), &More::service("many", &two(&first, &second))).await;
    let front = cast.workload("front");
    let token = format!("Bearer {}", cast.token(&front, "many"));
    let headers = [
        ("host", "many"),
        ("authorization", token.as_str()),
        ("content-type", "application/grpc"),
    ];
    let mut client = cast.dial_mesh(&front, "many", true).await;
    let answer = client.send(request("POST", "/s/m", &headers, "")).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "good"));
    assert_eq!((first.requests(), second.requests()), (1, 1));
}
