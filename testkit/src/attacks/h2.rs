//! HTTP/2: frames there, and what they set off.

use super::Outcome;
use super::PATIENCE;
use super::Target;
use super::fill;
use super::latin;
use serde_json::Value;
use std::collections::BTreeMap;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt as _;

const PREFACE: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const KINDS: [&str; 10] = [
    "DATA",
    "HEADERS",
    "PRIORITY",
    "RST_STREAM",
    "SETTINGS",
    "PUSH_PROMISE",
    "PING",
    "GOAWAY",
    "WINDOW_UPDATE",
    "CONTINUATION",
];
/// RFC 9113 section 7.
const ERRORS: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];
/// The largest payload of a frame that a peer has to take.
const MOST: usize = 16 << 10;

/// All that is sent.
pub(super) fn bytes(preface: Option<&str>, send: &Value, target: &Target) -> Vec<u8> {
    let Some(text) = preface else {
        let mut bytes = PREFACE.as_bytes().to_vec();
        frame(&mut bytes, 4, 0, 0, &[]);
        append(&mut bytes, send, 0, target);
        return bytes;
    };
    latin(text)
}

/// Appends what a list describes; `further` is how much higher its streams are.
fn append(bytes: &mut Vec<u8>, list: &Value, further: u32, target: &Target) {
    for one in list.as_array().unwrap() {
        if let Some(times) = one["repeat"].as_u64() {
            for time in 0..u32::try_from(times).unwrap() {
                append(bytes, &one["of"], further + 2 * time, target);
            }
        } else if !one["frame"].is_null() {
            raw(bytes, one, further);
        } else if one["block"] == "bomb" {
            headers(bytes, 1, true, &bomb());
        } else {
            let stream = one["request"].as_u64().or(one["stream"].as_u64()).unwrap();
            let stream = u32::try_from(stream).unwrap() + further;
            let block = match one["fields"].as_array() {
                Some(fields) => block(&pairs(fields, target)),
                None => block(&request(one, target)),
            };
            headers(bytes, stream, one["end"] == true, &block);
        }
    }
}

fn raw(bytes: &mut Vec<u8>, one: &Value, further: u32) {
    let kind = match one["frame"].as_str() {
        Some(name) => KINDS.iter().position(|it| *it == name).unwrap() as u64,
        None => one["frame"].as_u64().unwrap(),
    };
    let payload = match one["fill"].as_u64() {
        Some(size) => vec![0; usize::try_from(size).unwrap()],
        None => hex::decode(one["payload"].as_str().unwrap()).unwrap(),
    };
    let stream = u32::try_from(one["stream"].as_u64().unwrap()).unwrap();
    // The connection's own frames, and those of one stream, stay where they are.
    let fixed = stream == 0 || one["same"] == true;
    let stream = if fixed { stream } else { stream + further };
    let flags = u8::try_from(one["flags"].as_u64().unwrap()).unwrap();
    frame(bytes, u8::try_from(kind).unwrap(), flags, stream, &payload);
}

fn frame(bytes: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    bytes.extend_from_slice(&length[1..]);
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
}

/// A header block in as many frames as it needs.
fn headers(bytes: &mut Vec<u8>, stream: u32, end: bool, block: &[u8]) {
    let mut parts = block.chunks(MOST).peekable();
    let mut kind = 1;
    while let Some(part) = parts.next() {
        let last = if parts.peek().is_none() { 4 } else { 0 };
        let end = u8::from(end && kind == 1);
        frame(bytes, kind, last | end, stream, part);
        kind = 9;
    }
}

/// The fields of a good request, changed as it says.
fn request(one: &Value, target: &Target) -> Vec<(String, String)> {
    let method = one["method"].as_str().unwrap_or("GET");
    let mut fields = vec![
        (":method".to_owned(), method.to_owned()),
        (":scheme".to_owned(), "https".to_owned()),
        (":authority".to_owned(), target.host.clone()),
        (":path".to_owned(), target.path.clone()),
    ];
    for (name, value) in &mut fields {
        if let Some(instead) = one["replace"][name.as_str()].as_str() {
            *value = fill(instead, target);
        }
    }
    if let Some(without) = one["without"].as_array() {
        fields.retain(|(name, _)| !without.iter().any(|it| it == name.as_str()));
    }
    if let Some(first) = one["first"].as_array() {
        fields.extend(pairs(first, target));
    }
    fields.extend(target.fields.iter().cloned());
    if let Some(more) = one["more"].as_array() {
        fields.extend(pairs(more, target));
    }
    fields
}

fn pairs(fields: &[Value], target: &Target) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for field in fields {
        if let Some(times) = field["times"].as_u64() {
            let value = "x".repeat(usize::try_from(field["fill"].as_u64().unwrap()).unwrap());
            for _ in 0..times {
                pairs.push((field["name"].as_str().unwrap().to_owned(), value.clone()));
            }
        } else {
            let text = |index: usize| fill(field[index].as_str().unwrap(), target);
            pairs.push((text(0), text(1)));
        }
    }
    pairs
}

/// Literals that are not indexed, without Huffman's code (RFC 7541 section 6.2.2).
fn block(fields: &[(String, String)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        string(&mut block, &latin(name));
        string(&mut block, &latin(value));
    }
    block
}

fn string(block: &mut Vec<u8>, text: &[u8]) {
    integer(block, 7, 0, text.len());
    block.extend_from_slice(text);
}

/// RFC 7541 section 5.1.
fn integer(block: &mut Vec<u8>, bits: u32, flags: u8, mut value: usize) {
    let most = (1_usize << bits) - 1;
    if value < most {
        block.push(flags | u8::try_from(value).unwrap());
        return;
    }
    block.push(flags | u8::try_from(most).unwrap());
    value -= most;
    while value >= 128 {
        block.push(u8::try_from(value % 128).unwrap() | 128);
        value /= 128;
    }
    block.push(u8::try_from(value).unwrap());
}

/// One large field in the table, and then that field by its index again and again.
fn bomb() -> Vec<u8> {
    let mut block = vec![0x40];
    string(&mut block, b"x-bomb");
    string(&mut block, &[b'x'; 3_900]);
    block.extend(std::iter::repeat_n(0xbe, 15_000));
    block
}

/// What was seen of one stream.
#[derive(Clone, Debug, Default)]
struct Stream {
    /// The first field of its header block begins with this byte.
    head: Option<u8>,
    body: Vec<u8>,
    ended: bool,
    reset: Option<u32>,
}

#[derive(Debug, Default)]
struct Seen {
    streams: BTreeMap<u32, Stream>,
    goaway: Option<u32>,
    closed: bool,
}

/// Sends, and reads until one of the things that must come has come, or nothing else can.
pub(super) async fn play<IO>(io: IO, bytes: Vec<u8>, must: &[Value]) -> Result<Outcome, String>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (mut from, mut to) = tokio::io::split(io);
    let writing = async {
        // The door may be closed before all is written.
        let _ = to.write_all(&bytes).await;
        let _ = to.flush().await;
        std::future::pending::<()>().await;
    };
    let mut seen = Seen::default();
    let reading = async {
        while !seen.satisfies(must) && !seen.closed {
            match next(&mut from).await {
                Some((head, payload)) => seen.take(&head, &payload),
                None => seen.closed = true,
            }
        }
        // After a fatal error the door closes by itself.
        while seen.is_fatal() && !seen.closed {
            seen.closed = next(&mut from).await.is_none();
        }
    };
    let played = async {
        tokio::select! {
            () = reading => {}
            () = writing => {}
        }
    };
    let late = tokio::time::timeout(PATIENCE, played).await.is_err();
    if late || !seen.satisfies(must) {
        return Err(format!("late: {late}, {seen:?}"));
    }
    Ok(seen.outcome())
}

async fn next<R: AsyncRead + Unpin>(from: &mut R) -> Option<([u8; 9], Vec<u8>)> {
    let mut head = [0; 9];
    from.read_exact(&mut head).await.ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    from.read_exact(&mut payload).await.ok()?;
    Some((head, payload))
}

impl Seen {
    fn take(&mut self, head: &[u8; 9], payload: &[u8]) {
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let number = |at: usize| {
            let bytes: [u8; 4] = payload[at..at + 4].try_into().unwrap();
            u32::from_be_bytes(bytes)
        };
        match head[3] {
            3 => self.streams.entry(stream).or_default().reset = Some(number(0)),
            7 => self.goaway = Some(number(4)),
            kind @ (0 | 1) => {
                let seen = self.streams.entry(stream).or_default();
                if kind == 1 {
                    // Behind updates of the table's size (RFC 7541 section 6.3).
                    let field = payload.iter().find(|it| *it & 0xe0 != 0x20);
                    seen.head = seen.head.or(field.copied());
                } else {
                    seen.body.extend_from_slice(payload);
                }
                seen.ended |= head[4] & 1 == 1;
            }
            _ => {}
        }
    }

    fn is_fatal(&self) -> bool {
        self.goaway.is_some_and(|it| it != 0)
    }

    fn satisfies(&self, must: &[Value]) -> bool {
        must.iter().any(|must| {
            let named = |name: &str| must[name].as_str().map(error);
            let reset = named("reset");
            let answer = must["answer"].as_str();
            (must == "closed" && self.closed)
                || (self.goaway.is_some() && self.goaway == named("goaway"))
                || (reset.is_some() && self.streams.values().any(|it| it.reset == reset))
                || answer.is_some_and(|it| self.streams.values().any(|seen| seen.is(it)))
        })
    }

    fn outcome(&self) -> Outcome {
        let good = self.streams.values().filter(|it| it.is("200")).count();
        let receipts = self.streams.values().filter_map(|it| {
            let document: Value = serde_json::from_slice(&it.body).ok()?;
            document["receipt"].as_str().map(str::to_owned)
        });
        Outcome {
            receipts: receipts.collect(),
            admitted: good,
            cut: self.is_fatal() || self.streams.values().any(|it| it.reset.is_some()),
            flood: self.goaway == Some(error("ENHANCE_YOUR_CALM")),
        }
    }
}

impl Stream {
    /// Whether it was answered so: `200`, `431` without a body, or `400 CSD221`.
    fn is(&self, answer: &str) -> bool {
        if !self.ended {
            return false;
        }
        if answer == "200" {
            // `:status: 200` is entry 8 of the static table (RFC 7541 appendix A).
            return self.head == Some(0x88);
        }
        let Some((status, code)) = answer.split_once(' ') else {
            // A status without a document is the library's own.
            return self.body.is_empty() && self.head.is_some() && self.head != Some(0x88);
        };
        let document: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        document["code"] == code && document["status"].as_u64() == status.parse().ok()
    }
}

fn error(name: &str) -> u32 {
    let found = ERRORS.iter().position(|it| *it == name);
    u32::try_from(found.unwrap_or_else(|| panic!("`{name}` is no error"))).unwrap()
}
