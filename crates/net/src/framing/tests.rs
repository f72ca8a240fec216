use super::*;
use proptest::prelude::*;
use std::io;
use std::iter::Cycle;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::vec;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::io::ReadBuf;

const LIMITS: HeadLimits = HeadLimits {
    bytes: 1_024,
    fields: 8,
};

const MARK: &str = "countersign-framing-fault";

fn pass(text: &str) -> Result<usize, (usize, FramingFault)> {
    Framing::new(LIMITS).pass(text.as_bytes())
}

/// All of it passes, whole and byte by byte.
#[track_caller]
fn passes(text: &str) {
    assert_eq!(pass(text), Ok(text.len()), "{text:?}");
    let mut framing = Framing::new(LIMITS);
    let mut held = Vec::new();
    for byte in text.bytes() {
        held.push(byte);
        let passed = framing.pass(&held).unwrap();
        held.drain(..passed);
    }
    assert!(held.is_empty(), "{text:?}");
}

/// Faulty, whole and byte by byte.
#[track_caller]
fn refused(text: &str, fault: FramingFault) {
    assert_eq!(pass(text).map_err(|(_, it)| it), Err(fault), "{text:?}");
    let mut framing = Framing::new(LIMITS);
    let mut held = Vec::new();
    for byte in text.bytes() {
        held.push(byte);
        match framing.pass(&held) {
            Ok(passed) => drop(held.drain(..passed)),
            Err((_, it)) => return assert_eq!(it, fault, "{text:?}"),
        }
    }
    panic!("{text:?} passes byte by byte");
}

fn with(fields: &str) -> String {
    format!("POST /a HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n")
}

#[test]
fn what_has_one_reading_passes() {
    for text in [
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET http://x/a?b HTTP/1.1\r\nHost: x\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:x\r\nX-Empty:\r\nX-Tab: a\tb \r\nX-Text: \u{e9}\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n\
         5\r\nhello\r\nA;name=value\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        passes(text);
    }
}

#[test]
fn two_lengths() {
    refused(
        &with("Content-Length: 4\r\nTransfer-Encoding: chunked"),
        FramingFault::TwoLengths,
    );
    refused(
        &with("Transfer-Encoding: chunked\r\nContent-Length: 0"),
        FramingFault::TwoLengths,
    );
    for value in [
        "4, 4",
        "+4",
        "-1",
        "4 4",
        "0x4",
        "",
        " ",
        "4,",
        "9999999999999999999",
    ] {
        refused(
            &with(&format!("Content-Length: {value}")),
            FramingFault::Length,
        );
    }
    refused(
        &with("Content-Length: 4\r\nContent-Length: 4"),
        FramingFault::Length,
    );
    for value in [
        "chunked, chunked",
        "gzip, chunked",
        "identity",
        "xchunked",
        "chunked;q=1",
        "",
        "chun\u{212a}ed",
    ] {
        refused(
            &with(&format!("Transfer-Encoding: {value}")),
            FramingFault::Coding,
        );
    }
    refused(
        &with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        FramingFault::Coding,
    );
    refused(
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        FramingFault::Coding,
    );
}

#[test]
fn line_ends_and_folds() {
    for text in [
        "GET / HTTP/1.1\nHost: x\n\n",
        "GET / HTTP/1.1\r\nHost: x\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nA: b\rContent-Length: 3\r\n\r\n",
        "GET / HTTP/1.1\r\rHost: x\r\n\r\n",
    ] {
        refused(text, FramingFault::LineEnd);
    }
    refused(&with("A: b\r\n c"), FramingFault::Folded);
    refused(
        &with("A: b\r\n\tTransfer-Encoding: chunked"),
        FramingFault::Folded,
    );
}

#[test]
fn fields() {
    for line in [
        "Transfer-Encoding : chunked",
        "Transfer\u{b}-Encoding: chunked",
        ": chunked",
        "no colon",
        "A\0: b",
        "(A): b",
    ] {
        refused(&with(line), FramingFault::FieldName);
    }
    for line in ["A: b\0c", "A: \u{b}chunked", "A: b\u{7f}"] {
        refused(&with(line), FramingFault::FieldValue);
    }
    refused(&with(&"A: b\r\n".repeat(8)), FramingFault::TooManyFields);
    refused(
        &with(&format!("A: {}", "b".repeat(1_100))),
        FramingFault::HeadTooLarge,
    );
    refused(&"A".repeat(1_100), FramingFault::HeadTooLarge);
}

#[test]
fn request_lines() {
    for line in [
        "GET  / HTTP/1.1",
        "GET /",
        "GET / HTTP/1.2",
        "GET / HTTP/2.0",
        "GET / http/1.1",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET a HTTP/1.1",
        "GET * HTTP/1.1",
        "GET ftp://x/ HTTP/1.1",
        "GET /\u{e9} HTTP/1.1",
        "G(T / HTTP/1.1",
        "CONNECT /a HTTP/1.1",
        "GET /a#b HTTP/1.1",
        "GET http:// HTTP/1.1",
        "GET /<a> HTTP/1.1",
        "",
    ] {
        let text = format!("{line}\r\nHost: x\r\n\r\n");
        assert!(matches!(pass(&text), Err((0, _))), "{line:?}");
    }
    refused(
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        FramingFault::RequestLine,
    );
}

#[test]
fn chunks() {
    let chunked = |body: &str| {
        format!("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
    };
    for body in [
        "5 \r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5;a\nhello\r\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "ffffffffffffffff\r\n",
        "0000000000000005\r\nhello",
        "5;\0\r\nhello",
    ] {
        refused(&chunked(body), FramingFault::Chunk);
    }
    refused(
        &chunked(&format!("5;{}\r\n", "a".repeat(130))),
        FramingFault::Chunk,
    );
    refused(
        &chunked("0\r\nContent-Length: 5\r\n\r\n"),
        FramingFault::Trailer,
    );
    refused(
        &chunked("0\r\nAuthorization: Bearer x\r\n\r\n"),
        FramingFault::Trailer,
    );
    refused(&chunked("0\r\n folded: x\r\n\r\n"), FramingFault::Folded);
    refused(&chunked("0\r\nA: b\n\r\n"), FramingFault::LineEnd);
    refused(
        &chunked(&format!("0\r\n{}\r\n", "A: bbbbbbbb\r\n".repeat(1_000))),
        FramingFault::Trailer,
    );
}

#[test]
fn another_protocol_waits_for_its_answer() {
    let ask = "GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    for ask in [ask, "CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n"] {
        let mut framing = Framing::new(LIMITS);
        let smuggled = format!("{ask}GET /admin HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(framing.pass(smuggled.as_bytes()), Ok(ask.len()));
        assert_eq!(framing.pass(b"\x81\x00\n\n"), Ok(0));
        framing.open();
        assert_eq!(framing.pass(b"\x81\x00\n\n"), Ok(4));
    }
}

#[test]
fn another_protocol_has_no_body() {
    for fields in ["Content-Length: 3", "Transfer-Encoding: chunked"] {
        refused(
            &with(&format!("Upgrade: x\r\n{fields}")),
            FramingFault::AskedWithBody,
        );
    }
}

#[tokio::test]
async fn a_peer_that_does_not_wait_is_not_stored() {
    let ask = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n";
    let (mut peer, ours) = tokio::io::duplex(4_096);
    let (mut guarded, guard) = Guarded::new(ours, LIMITS, "f00d".to_owned());
    let sending = tokio::spawn(async move {
        peer.write_all(ask.as_bytes()).await?;
        peer.write_all(&[7; 1 << 20]).await
    });
    let mut seen = vec![0; ask.len()];
    guarded.read_exact(&mut seen).await.unwrap();
    let quiet = std::time::Duration::from_millis(50);
    assert!(
        tokio::time::timeout(quiet, guarded.read_u8())
            .await
            .is_err()
    );
    assert!(
        guarded.stored() < 64 * 1024,
        "{} bytes are stored",
        guarded.stored()
    );
    assert!(!sending.is_finished());
    guard.open();
    let mut rest = vec![0; 1 << 20];
    guarded.read_exact(&mut rest).await.unwrap();
    assert!(rest.iter().all(|byte| *byte == 7));
    sending.await.unwrap().unwrap();
}

#[test]
fn earlier_messages_are_let_through() {
    let good = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    let text = format!("{good}{good}GET / HTTP/1.1\nHost: x\n\n");
    assert_eq!(pass(&text), Err((good.len() * 2, FramingFault::LineEnd)));
}

#[tokio::test]
async fn a_stand_in_takes_the_place_of_a_faulty_head() {
    let good = "GET /first HTTP/1.1\r\nHost: x\r\n\r\n";
    let bad = "POST /second HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (mut peer, ours) = tokio::io::duplex(64);
    let (mut guarded, guard) = Guarded::new(ours, LIMITS, "f00d".to_owned());
    let sent = format!("{good}{bad}GET /third HTTP/1.1\r\nHost: x\r\n\r\n");
    let sending = tokio::spawn(async move { peer.write_all(sent.as_bytes()).await.map(|()| peer) });
    let mut seen = Vec::new();
    while !seen.ends_with(b"f00d\r\n\r\n") {
        assert!(guarded.read_buf(&mut seen).await.unwrap() > 0);
    }
    let text = String::from_utf8(seen).unwrap();
    assert!(text.starts_with(good), "{text}");
    assert!(
        !text.contains("second") && !text.contains("third"),
        "{text}"
    );
    let stand_in = |mark: &str| {
        let request = http::Request::builder().header(MARK, mark);
        guard.fault(&request.body(()).unwrap())
    };
    assert_eq!(stand_in("f00d"), Some(FramingFault::TwoLengths));
    assert_eq!(stand_in("beef"), None);
    assert_eq!(guard.fault(&http::Request::new(())), None);
    // Nothing comes after it, and it is no end either.
    let more = tokio::time::timeout(std::time::Duration::from_millis(50), guarded.read_u8()).await;
    assert!(more.is_err());
    drop(sending);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// How bytes are cut into reads makes no difference, and nothing panics.
    #[test]
    fn cuts_make_no_difference(text in messages(), cuts in prop::collection::vec(1_usize..9, 0..200)) {
        let whole = Framing::new(LIMITS).pass(&text);
        let mut framing = Framing::new(LIMITS);
        let (mut held, mut passed) = (Vec::new(), 0);
        let mut rest = text.as_slice();
        let mut outcome = None;
        for cut in cuts.into_iter().chain(std::iter::repeat(7)) {
            if rest.is_empty() {
                break;
            }
            let (next, after) = rest.split_at(cut.min(rest.len()));
            rest = after;
            held.extend_from_slice(next);
            match framing.pass(&held) {
                Ok(n) => {
                    passed += n;
                    held.drain(..n);
                }
                Err((n, fault)) => {
                    outcome = Some((passed + n, fault));
                    break;
                }
            }
        }
        match (whole, outcome) {
            (Ok(all), None) => prop_assert_eq!(all, passed),
            (Err((at, fault)), Some((here, it))) => {
                prop_assert_eq!(fault, it);
                // A body is let through as it comes, up to the part that is wrong.
                prop_assert_eq!(at, here);
            }
            (whole, cut) => prop_assert!(false, "{:?} {:?}", whole, cut),
        }
    }

    /// Whatever comes at once and however much room there is for it, whoever reads gets what may
    /// pass, and then the end or the request that stands for the faulty one.
    #[test]
    fn room_makes_no_difference(
        text in messages(),
        cuts in prop::collection::vec(1_usize..200, 1..20),
        rooms in prop::collection::vec(prop_oneof![1_usize..40, 40_usize..20_000], 1..20),
    ) {
        let mut framing = Framing::new(LIMITS);
        let (mut wanted, fault) = match framing.pass(&text) {
            Ok(passed) => (text[..passed].to_vec(), None),
            Err((passed, fault)) => (text[..passed].to_vec(), Some(fault)),
        };
        let refused = fault.filter(|_| framing.in_head());
        if refused.is_some() {
            wanted.extend_from_slice(
                b"GET / HTTP/1.1\r\nhost: invalid\r\ncountersign-framing-fault: f00d\r\n\r\n",
            );
        }
        let peer = Pieces { text: &text, cuts: cuts.into_iter().cycle() };
        let (mut guarded, guard) = Guarded::new(peer, LIMITS, "f00d".to_owned());
        let (mut got, mut room, mut ended) = (Vec::new(), vec![0; 20_000], false);
        let mut cx = Context::from_waker(Waker::noop());
        for size in rooms.into_iter().cycle() {
            let mut buffer = ReadBuf::new(&mut room[..size]);
            if Pin::new(&mut guarded).poll_read(&mut cx, &mut buffer).is_pending() {
                break;
            }
            if buffer.filled().is_empty() {
                ended = true;
                break;
            }
            got.extend_from_slice(buffer.filled());
            prop_assert!(guarded.stored() <= text.len() + 200);
        }
        prop_assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(&wanted));
        // The refusal of a faulty head is still to be written, so that is no end.
        prop_assert_eq!(ended, refused.is_none());
        let stand_in = http::Request::builder().header(MARK, "f00d").body(()).unwrap();
        prop_assert_eq!(guard.fault(&stand_in), refused);
    }

    /// What passes as one head is read by the library that comes after it in the same way.
    #[test]
    fn heads_end_where_the_library_ends_them(text in messages()) {
        let mut framing = Framing::new(LIMITS);
        if let Ok(end @ 1..) = framing.head(&text) {
            let mut fields = [httparse::EMPTY_HEADER; 64];
            let mut request = httparse::Request::new(&mut fields);
            prop_assert_eq!(request.parse(&text), Ok(httparse::Status::Complete(end)));
        }
    }
}

/// A peer that sends a text in pieces, and then the end.
struct Pieces<'a> {
    text: &'a [u8],
    cuts: Cycle<vec::IntoIter<usize>>,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let cut = self.cuts.next().unwrap_or(1);
        let (piece, rest) = self
            .text
            .split_at(cut.min(self.text.len()).min(buffer.remaining()));
        buffer.put_slice(piece);
        self.text = rest;
        Poll::Ready(Ok(()))
    }
}

/// Requests with a few parts that may or may not fit, and now and then any byte.
fn messages() -> impl Strategy<Value = Vec<u8>> {
    let fixed = prop_oneof![
        4 => Just("GET / HTTP/1.1\r\n"),
        2 => Just("POST /a HTTP/1.1\r\n"),
        4 => Just("Host: x\r\n"),
        2 => Just("Content-Length: 3\r\n"),
        2 => Just("Transfer-Encoding: chunked\r\n"),
        6 => Just("\r\n"),
        2 => Just("3\r\nabc\r\n"),
        2 => Just("0\r\n\r\n"),
        2 => Just("abc"),
        1 => Just("\n"),
        1 => Just("\r"),
        1 => Just(" "),
        1 => Just("A: b\r\n"),
        1 => Just("Upgrade: x\r\n"),
    ];
    let part = prop_oneof![
        8 => fixed.prop_map(str::to_owned),
        1 => "[A-Za-z!#-]{1,12}:[ -~\\t]{0,90}\r\n",
        1 => "GET /[!-~]{0,40} HTTP/1.1\r\n",
    ];
    let parts = prop::collection::vec(part, 0..14).prop_map(|parts| parts.concat().into_bytes());
    (
        parts,
        prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
    )
        .prop_map(|(mut text, noise)| {
            // A line that ends wrongly behind the most bytes of a head is seen only if it comes at
            // once with what is in front of it; otherwise the head is too large before.
            text.truncate(LIMITS.bytes);
            if let (Some((at, byte)), false) = (noise, text.is_empty()) {
                let at = at.index(text.len());
                text[at] = byte;
            }
            text
        })
}
