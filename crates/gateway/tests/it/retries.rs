//! What is sent twice, and what never is.

use crate::support::Backend;
use crate::support::Cast;
use crate::support::More;
use crate::support::handler;
use crate::support::request;
use crate::support::text;
use countersign_testkit::pki::Pki;
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
        assert_eq!(cast.completion(&receipt).await["ending"], ending, "{case}");
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
    assert_eq!(cast.call("one", "GET", "/1").await.text(), "ok");
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert_eq!(cast.call("one", "GET", "/2").await.text(), "ok");
    assert_eq!((backend.requests(), backend.connections()), (3, 2));
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
