//! Callers that send everything once: what is sent and not answered is lost.

use crate::caller::Door;
use crate::pipe::Pipe;
use crate::place::PATIENCE;
use crate::stream::FRAME;
use crate::stream::websocket;
use crate::upstream::MESSAGE;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use parking_lot::Mutex;
use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinHandle;

/// What a caller does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Does {
    /// Asks, over HTTP/2 if so.
    Asks(bool),
    /// Calls by gRPC.
    Calls,
    /// Has one WebSocket and hears itself in it.
    Echoes,
}

/// One caller, until it is told to stop.
pub(crate) struct Caller {
    pub(crate) what: String,
    seen: Arc<Seen>,
    calling: JoinHandle<()>,
}

/// What a caller has seen.
#[derive(Default)]
struct Seen {
    answers: AtomicUsize,
    connections: AtomicUsize,
    /// What came instead of an answer.
    lost: Mutex<Vec<String>>,
    stop: AtomicBool,
}

/// The token that callers show, which is drawn anew now and then.
#[derive(Clone)]
pub(crate) struct Token(Arc<Mutex<String>>);

impl Token {
    pub(crate) fn new(token: String) -> Self {
        Self(Arc::new(Mutex::new(token)))
    }

    pub(crate) fn set(&self, token: String) {
        *self.0.lock() = token;
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.0.lock())
    }
}

impl Caller {
    /// Starts at a door that may move between `ports`.
    pub(crate) fn start(does: Does, door: &Door, ports: Vec<u16>, token: &Token) -> Self {
        let seen: Arc<Seen> = Arc::default();
        let what = format!("{does:?} at {ports:?}");
        let doors: Vec<Door> = ports.into_iter().map(|port| door.at(port)).collect();
        let (here, token) = (seen.clone(), token.clone());
        let calling = tokio::spawn(async move {
            match does {
                Does::Echoes => echo(&doors, &token, &here).await,
                _ => ask(does, &doors, &token, &here).await,
            }
        });
        Self {
            what,
            seen,
            calling,
        }
    }

    /// Answers so far.
    pub(crate) fn answers(&self) -> usize {
        self.seen.answers.load(Ordering::SeqCst)
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// Waits until it has got so many answers more.
    pub(crate) async fn gets(&self, more: usize) {
        let (before, until) = (self.answers(), Instant::now() + PATIENCE);
        while self.answers() < before + more {
            let lost = self.seen.lost.lock().clone();
            assert!(
                Instant::now() < until,
                "{} gets nothing: {lost:?}",
                self.what
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Has it stop; what it was doing is done to its end.
    pub(crate) fn stop(&self) {
        self.seen.stop.store(true, Ordering::SeqCst);
    }

    /// Waits until it has stopped; nothing may have been lost.
    pub(crate) async fn lost_nothing(self) -> usize {
        self.stop();
        let calling = tokio::time::timeout(PATIENCE, self.calling).await;
        calling.expect("a caller does not stop").unwrap();
        let lost = self.seen.lost.lock();
        assert!(lost.is_empty(), "{} lost: {lost:?}", self.what);
        self.seen.answers.load(Ordering::SeqCst)
    }
}

impl Seen {
    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    fn lose(&self, what: String) {
        let mut lost = self.lost.lock();
        if lost.len() < 10 {
            lost.push(what);
        }
    }
}

/// Asks again and again, on one connection as long as the other side keeps it.
async fn ask(does: Does, doors: &[Door], token: &Token, seen: &Seen) {
    let http2 = does != Does::Asks(false);
    let mut turn = 0;
    'connections: while !seen.is_stopped() {
        // No request was sent where there is no connection; the door may be at its other port.
        let Ok(mut connection) = doors[turn % doors.len()].open(http2).await else {
            turn += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        seen.connections.fetch_add(1, Ordering::SeqCst);
        while !seen.is_stopped() {
            if !connection.is_open().await {
                continue 'connections;
            }
            let bearer = token.bearer();
            let shown = [("authorization", bearer.as_str())];
            let call = [("content-type", "application/grpc"), ("te", "trailers")];
            let request = match does {
                Does::Calls => {
                    let message = Frame::data(Bytes::from_static(MESSAGE));
                    connection
                        .request("POST", "/rpc/unary", &[&shown[..], &call].concat())
                        .body(Pipe::whole([message]))
                }
                _ => connection
                    .request("GET", "/items/load", &shown)
                    .body(Pipe::empty()),
            };
            let answer = match connection.send(request.unwrap()).await {
                Ok(answer) => answer,
                Err(error) if is_unheard(&error) => continue 'connections,
                Err(error) => {
                    seen.lose(format!("{error:?}"));
                    continue 'connections;
                }
            };
            let (head, body) = answer.into_parts();
            let body = match body.collect().await {
                Ok(body) => body,
                Err(error) => {
                    seen.lose(format!("{head:?} {error:?}"));
                    continue 'connections;
                }
            };
            let status = body.trailers().and_then(|it| it.get("grpc-status"));
            let well = does != Does::Calls || status.is_some_and(|it| it == "0");
            let close = head
                .headers
                .get("connection")
                .is_some_and(|it| it == "close");
            if head.status == 200 && well {
                seen.answers.fetch_add(1, Ordering::SeqCst);
            } else {
                let text = body.to_bytes();
                seen.lose(format!("{head:?} {}", String::from_utf8_lossy(&text)));
            }
            if close {
                continue 'connections;
            }
        }
    }
}

/// Whether it was not sent, since the other side had said that it takes no more, or that side says
/// that it has not begun with it: streams above the last one that GOAWAY names (RFC 9113 section
/// 6.8). A stream that ends in the middle is neither.
fn is_unheard(error: &hyper::Error) -> bool {
    let source = error.source().and_then(|it| it.downcast_ref::<h2::Error>());
    let gone = source.is_some_and(|it| {
        it.is_go_away() && it.is_remote() && it.reason() == Some(h2::Reason::NO_ERROR)
    });
    gone || error.is_canceled() || error.is_closed()
}

/// Hears itself in one WebSocket, to whose end it has the only say.
async fn echo(doors: &[Door], token: &Token, seen: &Seen) {
    let mut connection = doors[0].open(false).await.unwrap();
    seen.connections.fetch_add(1, Ordering::SeqCst);
    let bearer = token.bearer();
    let opened = websocket(&mut connection, &[("authorization", &bearer)]).await;
    let (_, mut io) = opened.unwrap();
    while !seen.is_stopped() {
        let mut back = [0; FRAME.len()];
        let said = io.write_all(&FRAME).await;
        let heard = io.read_exact(&mut back).await;
        if said.is_err() || heard.is_err() || back != FRAME {
            return seen.lose(format!("{said:?} {heard:?} {back:?}"));
        }
        seen.answers.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let _ = io.shutdown().await;
}
