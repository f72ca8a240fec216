//! Every kind of stream: how it is opened, and how it was ended.

use crate::caller::Connection;
use crate::caller::Door;
use crate::pipe::Pipe;
use crate::pipe::pipe;
use crate::place::PATIENCE;
use crate::upstream::MESSAGE;
use crate::upstream::Upstream;
use bytes::Bytes;
use http::HeaderMap;
use http::Request;
use http::Response;
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper_util::rt::TokioIo;
use std::error::Error as _;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A long answer; over HTTP/2 if so.
    Long(bool),
    /// Server-sent events.
    Events(bool),
    WebSocket(bool),
    GrpcServer,
    GrpcClient,
    GrpcBoth,
    Tunnel(bool),
}

pub(crate) const ALL: [Kind; 11] = [
    Kind::Long(false),
    Kind::Long(true),
    Kind::Events(false),
    Kind::Events(true),
    Kind::WebSocket(false),
    Kind::WebSocket(true),
    Kind::GrpcServer,
    Kind::GrpcClient,
    Kind::GrpcBoth,
    Kind::Tunnel(false),
    Kind::Tunnel(true),
];

/// Those that a browser has.
pub(crate) const BROWSER: [Kind; 6] = [
    Kind::Long(false),
    Kind::Long(true),
    Kind::Events(false),
    Kind::Events(true),
    Kind::WebSocket(false),
    Kind::WebSocket(true),
];

/// An open stream.
pub(crate) struct Stream {
    pub(crate) kind: Kind,
    pub(crate) following: JoinHandle<Ended>,
}

/// How a stream ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) at: Instant,
    pub(crate) how: How,
    pub(crate) receipt: String,
}

#[derive(Debug)]
pub(crate) enum How {
    /// Without a proper end.
    Broken(String),
    /// Properly; its last bytes, and trailers.
    Whole(Vec<u8>, HeaderMap),
    /// The bytes since it was opened, and that there are no more.
    Closed(Vec<u8>),
}

/// A masked frame of text with `hi`, by a mask of zeros.
pub(crate) const FRAME: [u8; 8] = [0x81, 0x82, 0, 0, 0, 0, b'h', b'i'];
/// Close, with status 1008.
const CLOSE: [u8; 4] = [0x88, 0x02, 0x03, 0xf0];

impl Kind {
    const fn is_http2(self) -> bool {
        match self {
            Self::Long(http2) | Self::Events(http2) | Self::WebSocket(http2) => http2,
            Self::Tunnel(http2) => http2,
            Self::GrpcServer | Self::GrpcClient | Self::GrpcBoth => true,
        }
    }

    /// Whether it is a stream for the policy, and no request that finishes on the policy it began
    /// on.
    pub(crate) const fn is_stream(self) -> bool {
        !matches!(self, Self::Long(_) | Self::GrpcClient)
    }

    /// Whether its record counts messages.
    pub(crate) const fn has_messages(self) -> bool {
        !matches!(self, Self::Long(_) | Self::Tunnel(_))
    }

    /// Checks that it ended as its protocol has it, by a refusal with one of these codes.
    pub(crate) fn check(self, how: &How, codes: &[&str]) {
        let told = |text: &str| codes.iter().any(|code| text.contains(code));
        let good = match (self, how) {
            // Never by a last chunk, which would say that it is whole.
            (Self::Long(false), How::Broken(_)) => true,
            // Not NO_ERROR, which some take for a proper end, nor REFUSED_STREAM, which asks to come
            // again.
            (Self::Long(true), How::Broken(why)) => why.contains("internal error"),
            (Self::Events(_), How::Whole(last, _)) => {
                let last = String::from_utf8_lossy(last);
                last.contains("event: error\ndata: {") && told(&last)
            }
            (Self::WebSocket(_), How::Closed(bytes)) => bytes.ends_with(&CLOSE),
            (Self::GrpcServer | Self::GrpcClient | Self::GrpcBoth, How::Whole(_, fields)) => {
                let message = fields["grpc-message"].to_str().unwrap();
                fields["grpc-status"] == "7" && told(message)
            }
            // What flows in it has its own end.
            (Self::Tunnel(_), How::Closed(_) | How::Broken(_)) => true,
            _ => false,
        };
        assert!(good, "{self:?} ended by {how:?}, not by one of {codes:?}");
    }
}

impl Stream {
    /// Opens one on a connection of its own; it flows when this returns. `fields` prove who asks.
    pub(crate) async fn open(
        kind: Kind,
        door: &Door,
        fields: &[(&str, &str)],
        upstream: &Upstream,
    ) -> Self {
        let mut connection = door.open(kind.is_http2()).await.unwrap();
        let following = match kind {
            Kind::Long(_) => plain(connection, "/slow", fields).await,
            Kind::Events(_) => plain(connection, "/events", fields).await,
            Kind::WebSocket(_) => {
                let (receipt, io) = websocket(&mut connection, fields).await.unwrap();
                echoing(connection, receipt, io, &FRAME, &FRAME).await
            }
            Kind::GrpcServer => grpc(connection, "/rpc/server", fields, None).await,
            Kind::GrpcClient => grpc(connection, "/rpc/client", fields, Some(upstream)).await,
            Kind::GrpcBoth => grpc(connection, "/rpc/both", fields, None).await,
            Kind::Tunnel(_) => tunnel(connection, door, fields, upstream.port).await,
        };
        Self { kind, following }
    }

    /// Waits for its end.
    pub(crate) async fn ended(self) -> (Kind, Ended) {
        let ended = tokio::time::timeout(PATIENCE, self.following).await;
        let ended = ended.unwrap_or_else(|_| panic!("{:?} goes on", self.kind));
        (self.kind, ended.unwrap())
    }
}

pub(crate) fn receipt(fields: &HeaderMap) -> String {
    let receipt = fields.get("countersign-receipt").expect("no receipt");
    receipt.to_str().unwrap().to_owned()
}

async fn plain(
    mut connection: Connection,
    path: &str,
    fields: &[(&str, &str)],
) -> JoinHandle<Ended> {
    let request = connection.request("GET", path, fields);
    let answer = connection.send(request.body(Pipe::empty()).unwrap()).await;
    let answer = answer.unwrap();
    assert_eq!(answer.status(), 200, "{answer:?}");
    follow(answer, connection, None).await
}

/// Reads an answer to its end, whatever that is; returns once it flows. Says something now and
/// then, where there is somewhere to say it.
async fn follow(
    answer: Response<Incoming>,
    keep: Connection,
    saying: Option<mpsc::Sender<Frame<Bytes>>>,
) -> JoinHandle<Ended> {
    let (flows, flowing) = oneshot::channel();
    let following = tokio::spawn(async move {
        let (head, mut body) = answer.into_parts();
        let saying = saying.map(|saying| tokio::spawn(say(saying)));
        let (mut flows, mut last, mut trailers) = (Some(flows), Vec::new(), HeaderMap::new());
        let how = loop {
            match body.frame().await {
                None => break How::Whole(last, trailers),
                Some(Err(error)) => break How::Broken(chain(&error)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => last = data.to_vec(),
                    Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
                },
            }
            if let Some(flows) = flows.take() {
                flows.send(()).unwrap();
            }
        };
        let at = Instant::now();
        if let Some(saying) = saying {
            saying.abort();
        }
        drop(keep);
        let receipt = receipt(&head.headers);
        Ended { at, how, receipt }
    });
    flowing.await.unwrap();
    following
}

fn chain(error: &hyper::Error) -> String {
    let cause = error.source().map(ToString::to_string);
    format!("{error}: {}", cause.unwrap_or_default())
}

/// Says the same again and again, until nobody listens.
async fn say(saying: mpsc::Sender<Frame<Bytes>>) {
    let message = || Frame::data(Bytes::from_static(MESSAGE));
    while saying.send(message()).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A call of gRPC. One whose answer comes only at its end is opened when the `upstream` listens.
async fn grpc(
    mut connection: Connection,
    path: &str,
    fields: &[(&str, &str)],
    upstream: Option<&Upstream>,
) -> JoinHandle<Ended> {
    let grpc = [("content-type", "application/grpc"), ("te", "trailers")];
    let request = connection.request("POST", path, &[fields, &grpc].concat());
    let (saying, body) = pipe();
    let request = request.body(body).unwrap();
    let Some(upstream) = upstream else {
        let message = Frame::data(Bytes::from_static(MESSAGE));
        saying.send(message).await.unwrap();
        let answer = connection.send(request).await.unwrap();
        assert_eq!(answer.status(), 200, "{answer:?}");
        return follow(answer, connection, Some(saying)).await;
    };
    let before = upstream.listening.load(Ordering::SeqCst);
    let following = tokio::spawn(async move {
        let saying = tokio::spawn(say(saying));
        let answer = connection.send(request).await;
        let at = Instant::now();
        saying.abort();
        let (head, body) = answer.unwrap().into_parts();
        let whole = body.collect().await.unwrap();
        let mut end = head.headers.clone();
        end.extend(whole.trailers().cloned().unwrap_or_default());
        let (how, receipt) = (How::Whole(Vec::new(), end), receipt(&head.headers));
        Ended { at, how, receipt }
    });
    let until = Instant::now() + PATIENCE;
    while upstream.listening.load(Ordering::SeqCst) == before {
        assert!(
            Instant::now() < until,
            "the call does not reach the upstream"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    following
}

/// Bytes both ways.
pub(crate) type Upgraded = TokioIo<hyper::upgrade::Upgraded>;

/// Opens a WebSocket; its receipt, and the bytes of it.
pub(crate) async fn websocket(
    connection: &mut Connection,
    fields: &[(&str, &str)],
) -> Result<(String, Upgraded), hyper::Error> {
    let version = ("sec-websocket-version", "13");
    let request = if connection.is_http2() {
        // That it is offered is known with the first answer at the latest (RFC 8441 section 3).
        let first = connection.request("GET", "/items/first", fields);
        let first = connection.send(first.body(Pipe::empty()).unwrap()).await?;
        assert_eq!(first.status(), 200, "{first:?}");
        let request = connection.request("CONNECT", "/socket", &[fields, &[version]].concat());
        request.extension(Protocol::from_static("websocket"))
    } else {
        let upgrade = [
            version,
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        connection.request("GET", "/socket", &[fields, &upgrade].concat())
    };
    let answer = connection
        .send(request.body(Pipe::empty()).unwrap())
        .await?;
    let expect = if connection.is_http2() { 200 } else { 101 };
    assert_eq!(answer.status(), expect, "{answer:?}");
    let receipt = receipt(answer.headers());
    let upgraded = hyper::upgrade::on(answer).await?;
    Ok((receipt, TokioIo::new(upgraded)))
}

async fn tunnel(
    mut connection: Connection,
    door: &Door,
    fields: &[(&str, &str)],
    port: u16,
) -> JoinHandle<Ended> {
    let authority = format!("{}:{port}", door.name);
    let mut request = Request::connect(&authority);
    if !connection.is_http2() {
        request = request.header("host", &authority);
    }
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let answer = connection.send(request.body(Pipe::empty()).unwrap()).await;
    let answer = answer.unwrap();
    assert_eq!(answer.status(), 200, "{answer:?}");
    let receipt = receipt(answer.headers());
    let io = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
    let asked = b"GET /slow HTTP/1.1\r\nhost: inner\r\n\r\n";
    echoing(connection, receipt, io, asked, b"HTTP/1.1 200 OK").await
}

/// Says something, hears what it `expects`, and then listens to the end.
async fn echoing(
    keep: Connection,
    receipt: String,
    mut io: Upgraded,
    say: &[u8],
    expects: &[u8],
) -> JoinHandle<Ended> {
    io.write_all(say).await.unwrap();
    let mut heard = vec![0; expects.len()];
    let read = tokio::time::timeout(PATIENCE, io.read_exact(&mut heard)).await;
    read.expect("nothing comes").unwrap();
    assert_eq!(heard, expects);
    tokio::spawn(async move {
        let mut rest = Vec::new();
        let how = match io.read_to_end(&mut rest).await {
            Ok(_) => How::Closed(rest),
            Err(error) => How::Broken(format!("{error} after {rest:?}")),
        };
        let at = Instant::now();
        drop(keep);
        Ended { at, how, receipt }
    })
}
