//! Exchanges that end before their end, and those that go slowly: nothing of one gets into another.

use crate::support::Backend;
use crate::support::Cast;
use crate::support::Handler;
use crate::support::More;
use crate::support::PATIENCE;
use crate::support::TestBody;
use crate::support::handler;
use crate::support::request;
use crate::support::text;
use bytes::Bytes;
use countersign_core::vocabulary::Code;
use countersign_testkit::pki::Pki;
use http::Request;
use http::Response;
use http_body_util::BodyExt;
use http_body_util::StreamBody;
use hyper::body::Frame;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

fn pki() -> Arc<Pki> {
    Arc::new(Pki::new("local.dev.invalid"))
}

async fn with(backend: &Backend) -> Cast {
    let keys = format!("url: \"http://{}\"", backend.address);
    Cast::with(pki(), &More::service("one", &keys)).await
}

/// Reads the head of a request.
async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

/// Waits until a number stands still, and gives it.
pub(crate) async fn settled(number: &AtomicUsize) -> usize {
    let deadline = Instant::now() + PATIENCE;
    let mut last = number.load(Ordering::SeqCst);
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = number.load(Ordering::SeqCst);
        if now == last && now > 0 {
            return now;
        }
        assert!(Instant::now() < deadline, "it never stood still: {now}");
        last = now;
    }
}

const CHUNK: usize = 64 << 10;
/// What sockets and the windows of HTTP/2 may hold between two ends; a gateway that read ahead
/// would hold all there is.
const HELD: usize = 24 << 20;

/// Answers without an end, and counts the bytes that somebody took.
pub(crate) fn flood(written: &Arc<AtomicUsize>) -> Handler {
    let count = written.clone();
    handler(move |_| {
        let count = count.clone();
        async move {
            let all = futures_util::stream::unfold((), move |()| {
                count.fetch_add(CHUNK, Ordering::SeqCst);
                // Bounded, so that a gateway that does buffer ends the test and not the machine.
                let more = count.load(Ordering::SeqCst) < 8 * HELD;
                let chunk = Frame::data(Bytes::from_static(&[b'x'; CHUNK]));
                std::future::ready(more.then_some((Ok(chunk), ())))
            });
            Response::new(StreamBody::new(all).boxed_unsync())
        }
    })
}

#[tokio::test]
async fn a_slow_reader_slows_its_upstream() {
    let written = Arc::new(AtomicUsize::new(0));
    let pki = pki();
    let backend = Backend::mutual(&pki, "app", flood(&written)).await;
    let keys = format!(
        "url: \"https://{}\", network: private, identity: app",
        backend.address
    );
    let cast = Cast::with(pki, &More::service("one", &keys)).await;
    let front = cast.workload("front");
    let token = format!("Bearer {}", cast.token(&front, "one"));
    let headers = [("host", "one"), ("authorization", token.as_str())];
    for http2 in [false, true] {
        written.store(0, Ordering::SeqCst);
        let mut client = cast.dial_mesh(&front, "one", http2).await;
        let mut response = client
            .start(request("GET", "/x", &headers, ""))
            .await
            .unwrap();
        let held = settled(&written).await;
        assert!(
            held < HELD,
            "{held} bytes are on their way to somebody who does not read"
        );
        // It was held, not lost.
        let first = response
            .frame()
            .await
            .unwrap()
            .unwrap()
            .into_data()
            .unwrap();
        assert!(first.iter().all(|it| *it == b'x'));
    }
}

#[tokio::test]
async fn a_slow_upstream_slows_its_caller() {
    let pki = pki();
    // Takes the request, and reads nothing of it.
    let deaf = handler(|request: Request<_>| async move {
        std::future::pending::<()>().await;
        drop(request);
        text(200, "")
    });
    let backend = Backend::mutual(&pki, "app", deaf).await;
    let mut more = More::service(
        "one",
        &format!(
            "url: \"https://{}\", network: private, identity: app",
            backend.address
        ),
    );
    more.services = more.services.replace(
        "\"POST /**\": { needs: edge }",
        "\"POST /**\": { needs: edge, body: { max: 1GiB } }",
    );
    let cast = Cast::with(pki, &more).await;
    let front = cast.workload("front");
    let token = format!("Bearer {}", cast.token(&front, "one"));
    for http2 in [false, true] {
        let sent = Arc::new(AtomicUsize::new(0));
        let count = sent.clone();
        let all = futures_util::stream::unfold((), move |()| {
            let so_far = count.fetch_add(CHUNK, Ordering::SeqCst);
            let chunk = Frame::data(Bytes::from_static(&[b'x'; CHUNK]));
            std::future::ready((so_far < 8 * HELD).then_some((Ok(chunk), ())))
        });
        let post = Request::post("/x")
            .header("host", "one")
            .header("authorization", &token)
            .body(StreamBody::new(all).boxed_unsync())
            .unwrap();
        let mut client = cast.dial_mesh(&front, "one", http2).await;
        let call = tokio::spawn(async move { client.start(post).await.map(drop) });
        let held = settled(&sent).await;
        assert!(
            held < HELD,
            "{held} bytes are on their way to somebody who does not read"
        );
        call.abort();
    }
}

/// A backend that sends with each answer more than it announced.
async fn talkative(extra: &'static [u8], apart: bool) -> Backend {
    Backend::raw(move |mut stream, requests| async move {
        while head(&mut stream).await.is_some() {
            requests.fetch_add(1, Ordering::SeqCst);
            let mut answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nmine".to_vec();
            if !apart {
                answer.extend_from_slice(extra);
            }
            if stream.write_all(&answer).await.is_err() {
                return;
            }
            if apart {
                tokio::time::sleep(Duration::from_millis(20)).await;
                let _ = stream.write_all(extra).await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn what_follows_an_answer_is_nobodys_answer() {
    let second: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nCANARY";
    for (extra, apart) in [
        (second, false),
        (second, true),
        (b"CANARY".as_slice(), false),
    ] {
        let backend = talkative(extra, apart).await;
        let cast = with(&backend).await;
        for _ in 0..10 {
            let answer = cast.call("one", "GET", "/x").await;
            assert_eq!((answer.status, answer.text().as_str()), (200, "mine"));
            tokio::time::sleep(Duration::from_millis(if apart { 60 } else { 0 })).await;
        }
        assert_eq!(backend.requests(), 10);
        assert_eq!(
            backend.connections(),
            10,
            "a poisoned connection was used again"
        );
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_ends_for_its_caller_alone() {
    let backend = Backend::raw(|mut stream, _| async move {
        while let Some(head) = head(&mut stream).await {
            let broken = head.starts_with("GET /broken");
            let answer: &[u8] = if broken {
                b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nCANARY"
            } else {
                b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nmine"
            };
            stream.write_all(answer).await.unwrap();
            if broken {
                return;
            }
        }
    })
    .await;
    let cast = with(&backend).await;
    let front = cast.workload("front");
    let token = format!("Bearer {}", cast.token(&front, "one"));
    let headers = [("host", "one"), ("authorization", token.as_str())];
    for http2 in [false, true] {
        for _ in 0..5 {
            let mut client = cast.dial_mesh(&front, "one", http2).await;
            let answer = client.send(request("GET", "/broken", &headers, "")).await;
            assert!(answer.body.is_err(), "half an answer came to a proper end");
            let receipt = answer.header("countersign-receipt").to_owned();
            assert_eq!(cast.completion(&receipt).await["ending"], "upstream-failed");
            let answer = cast.call("one", "GET", "/x").await;
            assert_eq!(answer.text(), "mine");
        }
    }
}

/// The same words again and again, as long as anybody takes them.
fn endless(words: &'static [u8]) -> TestBody {
    let words =
        futures_util::stream::repeat_with(move || Ok(Frame::data(Bytes::from_static(words))));
    StreamBody::new(words).boxed_unsync()
}

/// Waits until one more request is there than `before`.
async fn arrives(backend: &Backend, before: usize) {
    let deadline = Instant::now() + PATIENCE;
    while backend.requests() == before {
        assert!(Instant::now() < deadline, "the request did not begin");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_caller_who_goes_away_leaves_nothing_behind() {
    let whole = Arc::new(AtomicUsize::new(0));
    let count = whole.clone();
    // Gives every request its own path back, after it has read all of its body.
    let backend = Backend::plain(
        false,
        handler(move |request| {
            let count = count.clone();
            async move {
                let path = request.uri().path().to_owned();
                if path == "/slow" {
                    return std::future::pending().await;
                }
                if path == "/long" {
                    return Response::new(endless(b"CANARY of somebody else's answer "));
                }
                match request.into_body().collect().await {
                    Ok(body) => {
                        count.fetch_add(usize::from(path == "/part"), Ordering::SeqCst);
                        text(200, &format!("{path} {}", body.to_bytes().len()))
                    }
                    Err(_) => text(400, "broken"),
                }
            }
        }),
    )
    .await;
    let cast = with(&backend).await;
    let front = cast.workload("front");
    let token = format!("Bearer {}", cast.token(&front, "one"));
    for (round, http2) in [false, true, false, true].into_iter().enumerate() {
        // In the middle of its request.
        let mut client = cast.dial_mesh(&front, "one", http2).await;
        let first = Ok(Frame::data(Bytes::from_static(
            b"GET /CANARY HTTP/1.1\r\n\r\n",
        )));
        let part = futures_util::stream::iter([first]);
        let part = futures_util::StreamExt::chain(part, futures_util::stream::pending());
        let body: TestBody = StreamBody::new(part).boxed_unsync();
        let post = Request::post("/part")
            .header("host", "one")
            .header("authorization", &token);
        let before = backend.requests();
        let started = tokio::spawn(async move {
            let _ = client.start(post.body(body).unwrap()).await;
        });
        arrives(&backend, before).await;
        started.abort();
        // While it waits for the answer.
        let headers = [("host", "one"), ("authorization", token.as_str())];
        let mut client = cast.dial_mesh(&front, "one", http2).await;
        let (before, slow) = (backend.requests(), request("GET", "/slow", &headers, ""));
        let started = tokio::spawn(async move {
            let _ = client.start(slow).await;
        });
        arrives(&backend, before).await;
        started.abort();
        // In the middle of the answer.
        let mut client = cast.dial_mesh(&front, "one", http2).await;
        let mut long = client
            .start(request("GET", "/long", &headers, ""))
            .await
            .unwrap();
        long.frame().await.unwrap().unwrap();
        drop((long, client));
        for nth in 0..5 {
            let path = format!("/next-{round}-{nth}");
            let answer = cast.call("one", "GET", &path).await;
            assert_eq!((answer.status, answer.text()), (200, format!("{path} 0")));
        }
    }
    // Each of the twelve that were left has its record.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let records = cast.records();
        let aborted = records
            .iter()
            .filter(|it| it["completion"]["ending"] == "aborted");
        if aborted.count() == 12 {
            break;
        }
        assert!(Instant::now() < deadline, "{records:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    cast.nothing_is_open().await;
    assert_eq!(
        whole.load(Ordering::SeqCst),
        0,
        "half a request came to a proper end"
    );
}

#[tokio::test]
async fn whoever_leaves_while_a_body_is_held_is_recorded() {
    let cast = Cast::new().await;
    let front = cast.workload("front");
    let token = format!("Bearer {}", cast.token(&front, "openai"));
    for http2 in [false, true] {
        let before = cast.records().len();
        let mut client = cast.dial_mesh(&front, "openai", http2).await;
        let first = Ok(Frame::data(Bytes::from_static(br#"{"model":"gpt-"#)));
        let part = futures_util::stream::iter([first]);
        let part = futures_util::StreamExt::chain(part, futures_util::stream::pending());
        let post = Request::post("/v1/chat/completions")
            .header("host", "openai")
            .header("authorization", &token)
            .header("content-type", "application/json")
            .body(StreamBody::new(part).boxed_unsync())
            .unwrap();
        let call = client.start(post);
        assert!(
            tokio::time::timeout(Duration::from_millis(300), call)
                .await
                .is_err()
        );
        assert_eq!(cast.records().len(), before, "decided on half a body");
        drop(client);
        let deadline = Instant::now() + PATIENCE;
        let refused = |record: &serde_json::Value| {
            record["code"] == Code::BODY_UNREADABLE.to_string() && record["status"] == "denied"
        };
        while !cast.records().iter().skip(before).any(refused) {
            assert!(Instant::now() < deadline, "h2: {http2}: it left no record");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    assert!(cast.model.seen().is_empty());
}
