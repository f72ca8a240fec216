//! Exchanges that are broken off anywhere, on connections that many share: nobody ever hears a byte
//! of what was meant for another.

use crate::attacks::still;
use crate::support::Backend;
use crate::support::Cast;
use crate::support::Client;
use crate::support::Handler;
use crate::support::More;
use crate::support::PATIENCE;
use crate::support::TestBody;
use crate::support::handler;
use bytes::Bytes;
use countersign_net::SvidSource;
use countersign_testkit::pki::Pki;
use futures_util::StreamExt;
use http::Request;
use http::Response;
use http_body_util::BodyExt;
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper::body::Incoming;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

const CLIENTS: usize = 8;
const ROUNDS: usize = 25;
/// Pieces of a body.
const PIECES: usize = 12;

/// Where an exchange is broken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Whole,
    /// By the caller.
    InHead,
    InBody,
    Unanswered,
    InAnswer,
    /// By the upstream.
    UpstreamInAnswer,
    UpstreamUnread,
}

/// A generator of numbers that only has to be different each time (Knuth's MMIX).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % below
    }

    fn fate(&mut self) -> Fate {
        [
            Fate::Whole,
            Fate::Whole,
            Fate::InHead,
            Fate::InBody,
            Fate::Unanswered,
            Fate::InAnswer,
            Fate::UpstreamInAnswer,
            Fate::UpstreamUnread,
        ][self.next(8)]
    }
}

fn piece(canary: &str) -> Bytes {
    Bytes::from(format!("[{canary}]").repeat(40))
}

/// What came to a service that was not its caller's. Nobody hears a panic there, and its caller may
/// be gone.
static FOREIGN: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Answers with the caller's canary, after it has seen nothing else in the body; or with that of
/// the exchange before, as it would come over a connection on which an answer was left unread.
fn echo(mixed: bool) -> Handler {
    let before = Arc::new(Mutex::new(None));
    handler(move |request: Request<Incoming>| answer(request, mixed.then(|| before.clone())))
}

async fn answer(
    request: Request<Incoming>,
    before: Option<Arc<Mutex<Option<String>>>>,
) -> Response<TestBody> {
    let (parts, mut body) = request.into_parts();
    let field = |name: &str| {
        let value = parts.headers.get(name).unwrap();
        value.to_str().unwrap().to_owned()
    };
    let (canary, fate) = (field("x-canary"), field("x-fate"));
    if fate != "UpstreamUnread" {
        while let Some(Ok(frame)) = body.frame().await {
            if let Ok(data) = frame.into_data() {
                let text = String::from_utf8(data.to_vec()).unwrap();
                FOREIGN.lock().extend(foreign(&text, &canary));
            }
        }
    }
    let canary = match before {
        Some(before) => before.lock().replace(canary.clone()).unwrap_or(canary),
        None => canary,
    };
    let stops = fate == "UpstreamInAnswer" || fate == "UpstreamUnread";
    let pieces = futures_util::stream::iter(0..PIECES).then(move |number| {
        let piece = piece(&canary);
        async move {
            tokio::task::yield_now().await;
            if stops && number == PIECES / 2 {
                return Err(std::io::Error::other("broken off"));
            }
            Ok(Frame::data(piece))
        }
    });
    Response::new(StreamBody::new(pieces).boxed_unsync())
}

/// What a text has in it beside this canary, which may be in parts at its ends.
fn foreign(text: &str, canary: &str) -> Option<String> {
    let mut parts: Vec<_> = text.split(['[', ']']).filter(|it| !it.is_empty()).collect();
    let last = parts.pop().unwrap_or_default();
    let fine = if parts.is_empty() {
        canary.contains(last)
    } else {
        let first = parts.remove(0);
        canary.ends_with(first) && canary.starts_with(last) && parts.iter().all(|it| *it == canary)
    };
    (!fine).then(|| format!("a foreign canary for {canary}: {text}"))
}

#[track_caller]
fn own(text: &str, canary: &str) {
    if let Some(foreign) = foreign(text, canary) {
        panic!("{foreign}");
    }
}

/// A body of the caller's canaries, that breaks off or not.
fn body(canary: &str, fate: Fate) -> TestBody {
    let canary = canary.to_owned();
    let pieces = futures_util::stream::iter(0..PIECES).then(move |number| {
        let piece = piece(&canary);
        async move {
            tokio::task::yield_now().await;
            if fate == Fate::InBody && number == PIECES / 2 {
                return Err(std::io::Error::other("broken off"));
            }
            Ok(Frame::data(piece))
        }
    });
    StreamBody::new(pieces).boxed_unsync()
}

/// One exchange; whether it went to its end.
async fn exchange(client: &mut Client, token: &str, canary: &str, fate: Fate, wait: u64) -> bool {
    let post = fate != Fate::UpstreamInAnswer;
    let request = Request::builder()
        .method(if post { "POST" } else { "GET" })
        .uri("/x")
        .header("host", "one")
        .header("authorization", token)
        .header("x-canary", canary)
        .header("x-fate", format!("{fate:?}"));
    let empty = http_body_util::Empty::new().map_err(|never| match never {});
    let sent = if post {
        body(canary, fate)
    } else {
        empty.boxed_unsync()
    };
    let started = client.start(request.body(sent).unwrap());
    let response = if fate == Fate::Unanswered {
        let started = tokio::time::timeout(Duration::from_micros(wait), started);
        match started.await {
            Ok(started) => started,
            Err(_) => return false,
        }
    } else {
        tokio::time::timeout(PATIENCE, started).await.unwrap()
    };
    let Ok(response) = response else {
        assert_ne!(fate, Fate::Whole, "a whole exchange was broken off");
        return false;
    };
    if response.status() != 200 {
        assert!(
            matches!(
                fate,
                Fate::InBody | Fate::UpstreamInAnswer | Fate::UpstreamUnread
            ),
            "{} for {fate:?}",
            response.status()
        );
        return false;
    }
    read(response.into_body(), canary, fate).await
}

/// Reads an answer as far as its fate lets it; whether that was to its end.
async fn read(mut body: Incoming, canary: &str, fate: Fate) -> bool {
    let (mut heard, mut frames) = (String::new(), 0);
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            own(&heard, canary);
            assert_ne!(fate, Fate::Whole);
            return false;
        };
        if let Ok(data) = frame.into_data() {
            heard.push_str(std::str::from_utf8(&data).unwrap());
        }
        frames += 1;
        if fate == Fate::InAnswer && frames == 2 {
            own(&heard, canary);
            return false;
        }
    }
    own(&heard, canary);
    if fate == Fate::Whole {
        assert_eq!(heard.len(), PIECES * piece(canary).len());
    }
    // Broken off by the upstream it must never look whole.
    assert_ne!(
        fate,
        Fate::UpstreamInAnswer,
        "{} bytes as if whole",
        heard.len()
    );
    fate == Fate::Whole
}

/// Begins a request and goes away in its head.
async fn in_head(cast: &Cast, front: &Arc<SvidSource>, token: &str, canary: &str, length: usize) {
    let mut stream = cast.raw_mesh(front, "one").await;
    let head = format!(
        "POST /x HTTP/1.1\r\nHost: one\r\nAuthorization: {token}\r\nX-Canary: {canary}\r\n\r\n"
    );
    let length = length % head.len();
    stream.write_all(&head.as_bytes()[..length]).await.unwrap();
    stream.flush().await.unwrap();
}

async fn many(cast: Arc<Cast>, http2: bool) -> usize {
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        let cast = cast.clone();
        clients.spawn(async move {
            let front = cast.workload("front");
            let token = format!("Bearer {}", cast.token(&front, "one"));
            let mut numbers = Numbers(number as u64 + 1);
            let (mut whole, mut open): (usize, Option<Client>) = (0, None);
            for round in 0..ROUNDS {
                let canary = format!("c{number}r{round}p{http2}");
                let fate = numbers.fate();
                if fate == Fate::InHead {
                    in_head(&cast, &front, &token, &canary, numbers.next(400)).await;
                    continue;
                }
                let mut client = match open.take() {
                    Some(client) => client,
                    None => cast.dial_mesh(&front, "one", http2).await,
                };
                let wait = numbers.next(3_000) as u64;
                let done = exchange(&mut client, &token, &canary, fate, wait).await;
                whole += usize::from(done);
                // A stream that is broken off leaves the others of its connection alone.
                if done || (http2 && client.is_open().await) {
                    open = Some(client);
                }
            }
            whole
        });
    }
    let whole = clients.join_all().await.into_iter().sum();
    let foreign = FOREIGN.lock();
    assert!(foreign.is_empty(), "{foreign:?}");
    whole
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_hears_another_whatever_breaks_off_over_http1() {
    let backend = Backend::plain(false, echo(false)).await;
    let keys = format!("url: \"http://{}\"", backend.address);
    let pki = Arc::new(Pki::new("local.dev.invalid"));
    let cast = Arc::new(Cast::by(still(), pki, &More::service("one", &keys)).await);
    for http2 in [false, true] {
        assert!(many(cast.clone(), http2).await > CLIENTS);
    }
    // Whole exchanges share connections: otherwise this would show nothing.
    assert!(backend.connections() < backend.requests());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_hears_another_whatever_breaks_off_over_http2() {
    let pki = Arc::new(Pki::new("local.dev.invalid"));
    let backend = Backend::mutual(&pki, "app", echo(false)).await;
    let keys = format!(
        "url: \"https://{}\", network: private, identity: app",
        backend.address
    );
    let cast = Arc::new(Cast::by(still(), pki, &More::service("one", &keys)).await);
    for http2 in [false, true] {
        assert!(many(cast.clone(), http2).await > CLIENTS);
    }
    assert!(backend.connections() * 4 < backend.requests());
}

/// The tests above would see it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[should_panic(expected = "a foreign canary")]
async fn an_answer_that_was_meant_for_another_is_noticed() {
    let backend = Backend::plain(false, echo(true)).await;
    let keys = format!("url: \"http://{}\"", backend.address);
    let pki = Arc::new(Pki::new("local.dev.invalid"));
    let cast = Arc::new(Cast::by(still(), pki, &More::service("one", &keys)).await);
    many(cast, false).await;
}
