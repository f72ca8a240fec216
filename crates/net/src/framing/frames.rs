//! How many frames of HTTP/2 a connection takes that carry nothing (RFC 9113 section 10.5).
//!
//! The HTTP library bounds what it keeps for a connection, and ends one with too many resets of
//! streams it had not begun with (CVE-2023-44487), errors of its own (CVE-2025-8671), CONTINUATION
//! frames (CVE-2024-27316), small DATA frames or oversized header lists. It answers PING, SETTINGS
//! and PRIORITY for ever (CVE-2019-9512, CVE-2019-9515), and resets of streams that it did begin
//! with. Those are counted here, against what was written: an exchange needs some of them, so each
//! [`BYTES_PER_FRAME`] written allow one more.

use parking_lot::Mutex;
use std::fmt;
use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::time::Instant;

/// Frames that carry nothing, in a second, on a connection that is written nothing.
pub const FRAMES_PER_SECOND: u32 = 100;
/// And at once.
pub const FRAMES_BURST: u32 = 1_000;
/// Bytes written that allow one more. The answer to a PING is shorter, so answers to a flood do
/// not pay for it.
pub const BYTES_PER_FRAME: u64 = 32;

/// What the frames are that there were too many of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flood(u8);

/// Says of a connection whether there were too many.
#[derive(Clone, Debug, Default)]
pub struct Floods(Arc<Mutex<Option<Flood>>>);

/// A stream that counts the frames of HTTP/2 in it.
///
/// After one frame too many it gives a header block that never ends instead of what the peer sends,
/// so that the library says GOAWAY with `ENHANCE_YOUR_CALM` and ends the connection in its own way.
#[derive(Debug)]
pub struct Metered<IO> {
    io: IO,
    meter: Option<Box<Meter>>,
}

#[derive(Debug)]
struct Meter {
    /// Frames that may still come, as of `at`.
    allowed: u32,
    at: Instant,
    clock: fn() -> Instant,
    floods: Floods,
    /// The head of the next frame, as far as it came.
    head: [u8; HEAD],
    have: usize,
    /// Bytes until the next head begins: the preface or a payload.
    skip: usize,
    /// What is given instead, once there were too many.
    instead: Option<Vec<u8>>,
    given: usize,
    /// The most bytes of a header list, by which the library knows how many CONTINUATION frames are
    /// too many.
    header: usize,
    /// Bytes written that have allowed none yet.
    written: u64,
}

/// `PRI * HTTP/2.0`, blank line, `SM`, blank line (RFC 9113 section 3.4).
const PREFACE: usize = 24;
/// The head of a frame (RFC 9113 section 4.1).
const HEAD: usize = 9;
/// The smallest limit for a frame's payload, which is ours.
const FRAME: usize = 16 * 1024;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;

impl Floods {
    /// What there were too many of, if there were.
    #[must_use]
    pub fn flood(&self) -> Option<Flood> {
        *self.0.lock()
    }
}

impl fmt::Display for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            DATA => "empty DATA",
            2 => "PRIORITY",
            3 => "RST_STREAM",
            4 => "SETTINGS",
            6 => "PING",
            8 => "WINDOW_UPDATE",
            _ => return write!(f, "too many frames of type {}", self.0),
        };
        write!(f, "too many {name} frames")
    }
}

/// Whether a connection ended because the HTTP library found that its peer floods it.
#[must_use]
pub fn is_flood(error: &hyper::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            let calm = error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM);
            return calm && error.is_library();
        }
        source = error.source();
    }
    false
}

impl<IO> Metered<IO> {
    /// Counts the frames of a connection that speaks HTTP/2 from the start, whose library takes
    /// header lists of `header` bytes and frames of 16 KiB.
    #[must_use]
    pub fn new(io: IO, header: u32) -> (Self, Floods) {
        Self::by(Instant::now, io, header)
    }

    fn by(clock: fn() -> Instant, io: IO, header: u32) -> (Self, Floods) {
        let floods = Floods::default();
        let meter = Meter {
            allowed: FRAMES_BURST,
            at: clock(),
            clock,
            floods: floods.clone(),
            head: [0; HEAD],
            have: 0,
            skip: PREFACE,
            instead: None,
            given: 0,
            header: header as usize,
            written: 0,
        };
        let meter = Some(Box::new(meter));
        (Self { io, meter }, floods)
    }

    /// Counts nothing: the connection speaks something else.
    #[must_use]
    pub fn transparent(io: IO) -> (Self, Floods) {
        (Self { io, meter: None }, Floods::default())
    }

    fn wrote(&mut self, outcome: &Poll<io::Result<usize>>) {
        if let (Some(meter), Poll::Ready(Ok(bytes))) = (&mut self.meter, outcome) {
            meter.wrote(*bytes as u64);
        }
    }
}

impl Meter {
    /// How many of these bytes may be handed on; fewer than all after one frame too many.
    fn pass(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            if self.skip > 0 {
                let skipped = self.skip.min(rest.len());
                self.skip -= skipped;
                at += skipped;
                continue;
            }
            if self.instead.is_some() {
                return at;
            }
            let wanted = HEAD - self.have;
            let taken = wanted.min(rest.len());
            let into = self.head.get_mut(self.have..self.have + taken);
            if let (Some(into), Some(from)) = (into, rest.get(..taken)) {
                into.copy_from_slice(from);
            }
            self.have += taken;
            at += taken;
            if self.have == HEAD {
                self.have = 0;
                self.count();
            }
        }
        // The frame too many is handed on whole, so that what comes instead is a frame of its own.
        at
    }

    /// A frame begins.
    fn count(&mut self) {
        let [a, b, c, kind, flags, ..] = self.head;
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        self.skip = length;
        let free = match kind {
            DATA => length > 0 || flags & 1 == 1,
            HEADERS | CONTINUATION => true,
            _ => false,
        };
        if free {
            return;
        }
        if self.allowed == 0 {
            self.refill();
        }
        match self.allowed.checked_sub(1) {
            Some(left) => self.allowed = left,
            None => {
                let flood = Flood(kind);
                tracing::debug!(%flood, "a connection is flooded");
                *self.floods.0.lock() = Some(flood);
                self.instead = Some(endless_block(self.header));
            }
        }
    }

    /// Time is looked at only when nothing is left, not for every frame.
    fn refill(&mut self) {
        let now = (self.clock)();
        let passed = now.saturating_duration_since(self.at);
        let each = Duration::from_secs(1) / FRAMES_PER_SECOND;
        let more = passed.as_nanos() / each.as_nanos().max(1);
        if more > 0 {
            self.at = now;
            let more = u32::try_from(more).unwrap_or(u32::MAX);
            self.allowed = more.min(FRAMES_BURST);
        }
    }

    fn wrote(&mut self, bytes: u64) {
        self.written += bytes;
        let more = u32::try_from(self.written / BYTES_PER_FRAME).unwrap_or(u32::MAX);
        self.written %= BYTES_PER_FRAME;
        self.allowed = self.allowed.saturating_add(more).min(FRAMES_BURST);
    }
}

/// A header block with more CONTINUATION frames than any limit on `header` bytes needs.
fn endless_block(header: usize) -> Vec<u8> {
    let more = header / FRAME * 2 + 16;
    let head = |kind| [0, 0, 0, kind, 0, 0x7f, 0xff, 0xff, 0xff];
    let mut block = head(HEADERS).to_vec();
    for _ in 0..more {
        block.extend_from_slice(&head(CONTINUATION));
    }
    block
}

impl<IO: AsyncRead + Unpin> AsyncRead for Metered<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Some(meter) = &mut this.meter else {
            return Pin::new(&mut this.io).poll_read(cx, buffer);
        };
        loop {
            if let Some(instead) = meter.instead.as_ref().filter(|_| meter.skip == 0) {
                let rest = instead.get(meter.given..).unwrap_or_default();
                if rest.is_empty() {
                    // The library has all it needs to end the connection.
                    return Poll::Pending;
                }
                let given = rest.len().min(buffer.remaining());
                buffer.put_slice(rest.get(..given).unwrap_or_default());
                meter.given += given;
                return Poll::Ready(Ok(()));
            }
            let before = buffer.filled().len();
            ready!(Pin::new(&mut this.io).poll_read(cx, buffer))?;
            let read = buffer.filled().get(before..).unwrap_or_default();
            if read.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let passed = meter.pass(read);
            buffer.set_filled(before + passed);
            if passed > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Metered<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.wrote(&outcome);
        outcome
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.wrote(&outcome);
        outcome
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::future::Future as _;
    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        frame.extend_from_slice(payload);
        frame
    }

    fn conversation(frames: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frames.into_iter().flatten());
        bytes
    }

    /// What comes out of so many bytes, read in pieces of this size, and what was found in them.
    async fn read(bytes: Vec<u8>, piece: usize) -> (Vec<u8>, Option<Flood>) {
        // Pending means the end here, and not that others may have their turn.
        tokio::task::unconstrained(read_all(bytes, piece)).await
    }

    async fn read_all(bytes: Vec<u8>, piece: usize) -> (Vec<u8>, Option<Flood>) {
        let (mut peer, ours) = tokio::io::duplex(1 << 20);
        let (mut metered, floods) = Metered::by(frozen, ours, 16 << 10);
        peer.write_all(&bytes).await.unwrap();
        drop(peer);
        let mut got = Vec::new();
        let mut buffer = vec![0; piece];
        loop {
            // Nothing comes any more once it is pending: the peer is gone.
            let mut next = std::pin::pin!(metered.read(&mut buffer));
            let polled = std::future::poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx))).await;
            match polled {
                Poll::Ready(Ok(read)) if read > 0 => got.extend_from_slice(&buffer[..read]),
                _ => return (got, floods.flood()),
            }
        }
    }

    fn frozen() -> Instant {
        static AT: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        *AT.get_or_init(|| Instant::now() + Duration::from_secs(3_600))
    }

    #[tokio::test]
    async fn what_carries_something_is_never_too_much() {
        let data = frame(DATA, 0, &[b'x'; 100]);
        let last = frame(DATA, 1, b"");
        let headers = frame(HEADERS, 4, &[0x82]);
        let bytes =
            conversation((0..2_000).flat_map(|_| [headers.clone(), data.clone(), last.clone()]));
        for piece in [1, 7, 100_000] {
            assert_eq!(read(bytes.clone(), piece).await, (bytes.clone(), None));
        }
    }

    #[tokio::test]
    async fn a_flood_ends_in_a_block_that_never_ends() {
        for (kind, payload) in [
            (2, 5),
            (3, 4),
            (4, 0),
            (6, 8),
            (8, 4),
            (0x42, 300),
            (DATA, 0),
        ] {
            let one = frame(kind, 0, &vec![0; payload]);
            let burst = FRAMES_BURST as usize;
            let bytes = conversation(vec![one.clone(); burst]);
            assert_eq!(read(bytes.clone(), 512).await, (bytes, None), "{kind}");
            let more = conversation(vec![one.clone(); burst + 50]);
            for piece in [1, 512] {
                let (got, flood) = read(more.clone(), piece).await;
                assert_eq!(flood, Some(Flood(kind)));
                let passed = PREFACE + (burst + 1) * one.len();
                assert_eq!(got[..passed], more[..passed]);
                assert_eq!(got[passed..], endless_block(16 << 10));
            }
        }
    }

    #[tokio::test]
    async fn time_and_what_is_written_allow_more() {
        let (mut peer, ours) = tokio::io::duplex(1 << 20);
        let (mut metered, floods) = Metered::by(frozen, ours, 16 << 10);
        let ping = frame(6, 0, &[0; 8]);
        let mut buffer = vec![0; 1 << 20];
        let burst = conversation(vec![ping.clone(); FRAMES_BURST as usize]);
        peer.write_all(&burst).await.unwrap();
        metered
            .read_exact(&mut buffer[..burst.len()])
            .await
            .unwrap();
        for round in 0..50 {
            let more = if round % 2 == 0 {
                metered.meter.as_mut().unwrap().at -= Duration::from_secs(1);
                FRAMES_PER_SECOND as usize
            } else {
                metered.write_all(&[0; 640]).await.unwrap();
                640 / usize::try_from(BYTES_PER_FRAME).unwrap()
            };
            let bytes = vec![ping.clone(); more].concat();
            peer.write_all(&bytes).await.unwrap();
            metered
                .read_exact(&mut buffer[..bytes.len()])
                .await
                .unwrap();
            assert_eq!(floods.flood(), None, "{round}");
        }
        peer.write_all(&ping).await.unwrap();
        metered.read_exact(&mut buffer[..ping.len()]).await.unwrap();
        assert_eq!(floods.flood(), Some(Flood(6)));
    }

    #[test]
    fn a_block_is_longer_than_the_library_takes() {
        for header in [1_usize << 10, 16 << 10, 32 << 10, 1 << 20, 16 << 20] {
            // h2 takes a quarter more than the frames that the limit needs, and five at least.
            let taken = (header / FRAME).max(1) * 5 / 4;
            let given = endless_block(header).len() / HEAD - 1;
            assert!(given > taken.max(5), "{header}: {given}");
        }
    }

    proptest! {
        #[test]
        fn bytes_are_never_made_or_lost_before_a_flood(bytes in prop::collection::vec(any::<u8>(), 0..4_000), piece in 1_usize..300) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (got, flood) = runtime.block_on(read(bytes.clone(), piece));
            if flood.is_none() {
                prop_assert_eq!(got, bytes);
            }
        }
    }
}
