//! The stream between a connection and the HTTP library.

use super::Framing;
use super::FramingFault;
use super::HeadLimits;
use bytes::Buf;
use bytes::BytesMut;
use http::HeaderName;
use http::Request;
use parking_lot::Mutex;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::task::ready;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;

/// Marks the request that stands for a faulty one.
const MARK: HeaderName = HeaderName::from_static("countersign-framing-fault");

/// How much is read at once into room of our own.
const BLOCK: usize = 8 * 1024;

/// The largest buffer of a reader that is read into directly. What may not pass is taken back out of
/// it, so this bounds what is held.
const MOST_DIRECT: usize = 2 * BLOCK;

/// The other end of a [`Guarded`], for whoever answers its requests.
#[derive(Clone, Debug)]
pub struct Guard(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    fault: OnceLock<FramingFault>,
    /// What no peer can know, so that none can make a request that stands for a faulty one.
    nonce: String,
    opened: AtomicBool,
    /// Waits for the answer to a request for another protocol.
    reader: Mutex<Option<Waker>>,
}

impl Guard {
    /// Why this request stands for one that could not be read; the connection ends behind it.
    #[must_use]
    pub fn fault<B>(&self, request: &Request<B>) -> Option<FramingFault> {
        let fault = self.0.fault.get()?;
        let mark = request.headers().get(MARK)?;
        (mark.as_bytes() == self.0.nonce.as_bytes()).then_some(*fault)
    }

    /// The answer to the last request was to go on in another protocol.
    pub fn open(&self) {
        self.0.opened.store(true, Ordering::Release);
        if let Some(reader) = self.0.reader.lock().take() {
            reader.wake();
        }
    }
}

/// A stream that lets HTTP/1.1 requests through as long as they can be read in one way only.
///
/// In place of a faulty head it gives a request that [`Guard::fault`] knows, and nothing after it;
/// a faulty body ends in the middle, and the stream with it. After a request for another protocol nothing
/// is let through until [`Guard::open`], so whoever does not open it has to end the connection.
#[derive(Debug)]
pub struct Guarded<IO> {
    framing: Framing,
    io: IO,
    /// Read and not yet looked at, or not yet whole.
    held: BytesMut,
    shared: Arc<Shared>,
    /// May be handed on.
    passed: usize,
    /// A body was faulty: to whoever reads it, it ends in the middle. An error would take the
    /// answer and the record with it.
    cut: bool,
    /// Nothing more comes.
    over: bool,
}

impl<IO> Guarded<IO> {
    /// A guard in front of a stream; `nonce` is 128 bits or more that no peer can guess, in
    /// characters of a field's value.
    #[must_use]
    pub fn new(io: IO, limits: HeadLimits, nonce: String) -> (Self, Guard) {
        let shared = Arc::new(Shared {
            fault: OnceLock::new(),
            nonce,
            opened: AtomicBool::new(false),
            reader: Mutex::new(None),
        });
        let guarded = Self {
            framing: Framing::new(limits),
            io,
            held: BytesMut::new(),
            shared: shared.clone(),
            passed: 0,
            cut: false,
            over: false,
        };
        (guarded, Guard(shared))
    }

    /// The stream of a connection that speaks another protocol from the start.
    #[must_use]
    pub fn transparent(io: IO) -> (Self, Guard) {
        let limits = HeadLimits {
            bytes: 0,
            fields: 0,
        };
        let (mut guarded, guard) = Self::new(io, limits, String::new());
        guarded.framing.open();
        (guarded, guard)
    }

    #[cfg(test)]
    pub(super) fn stored(&self) -> usize {
        self.held.len()
    }

    /// Looks at what is held.
    fn look(&mut self, cx: &Context<'_>) {
        if self.framing.is_asked() {
            // Before it is looked whether there was an answer, so that none goes unnoticed.
            *self.shared.reader.lock() = Some(cx.waker().clone());
            if self.shared.opened.load(Ordering::Acquire) {
                self.framing.open();
            }
        }
        match self.framing.pass(&self.held) {
            Ok(passed) => self.passed = passed,
            Err((passed, fault)) => self.refuse(passed, fault),
        }
    }

    /// Puts an end behind so many of the bytes that are held.
    fn refuse(&mut self, passed: usize, fault: FramingFault) {
        self.held.truncate(passed);
        if self.framing.in_head() {
            self.shared.fault.get_or_init(|| fault);
            let stand_in = format!(
                "GET / HTTP/1.1\r\nhost: invalid\r\n{MARK}: {}\r\n\r\n",
                self.shared.nonce
            );
            self.held.extend_from_slice(stand_in.as_bytes());
            self.over = true;
        } else {
            tracing::debug!(%fault, "a request's body ends in the middle");
            self.cut = true;
        }
        self.passed = self.held.len();
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Guarded<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.passed > 0 {
                let take = this.passed.min(buffer.remaining());
                buffer.put_slice(this.held.get(..take).unwrap_or_default());
                this.held.advance(take);
                this.passed -= take;
                if this.held.is_empty() {
                    // A connection that is merely kept holds no room for what may come.
                    this.held = BytesMut::new();
                }
                return Poll::Ready(Ok(()));
            }
            if this.cut {
                return Poll::Ready(Ok(()));
            }
            if this.over {
                // The refusal is still to be written, so this is no end of the stream.
                return Poll::Pending;
            }
            if this.held.is_empty() {
                if let Some(most) = this.framing.plain() {
                    return this.read_plain(cx, buffer, most);
                }
                if !this.framing.is_asked() && (1..=MOST_DIRECT).contains(&buffer.remaining()) {
                    if ready!(this.read_direct(cx, buffer))? {
                        return Poll::Ready(Ok(()));
                    }
                    continue;
                }
            }
            this.look(cx);
            if this.passed > 0 || this.cut {
                continue;
            }
            if this.framing.is_asked() && this.held.len() >= BLOCK {
                // Enough for a peer that does not wait; `Guard::open` wakes us.
                return Poll::Pending;
            }
            if !ready!(this.read_block(cx))? {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<IO: AsyncRead + Unpin> Guarded<IO> {
    /// Bytes in which nothing is framed go straight through, as many as there are of them.
    fn read_plain(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
        most: u64,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let room = buffer.remaining() as u64;
        if most >= room {
            ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        } else {
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            let mut part = ReadBuf::new(buffer.initialize_unfilled_to(most));
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut part))?;
            let read = part.filled().len();
            buffer.advance(read);
        }
        self.framing.took((buffer.filled().len() - before) as u64);
        Poll::Ready(Ok(()))
    }

    /// Bytes are looked at in the room of who reads, and what may not pass yet is taken back out of
    /// it. False if nothing is left, and it was not the end of the stream.
    fn read_direct(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<bool>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        let read = buffer.filled().get(before..).unwrap_or_default();
        if read.is_empty() {
            return Poll::Ready(Ok(true));
        }
        let passed = match self.framing.pass(read) {
            Ok(passed) => {
                let rest = read.get(passed..).unwrap_or_default();
                self.held.extend_from_slice(rest);
                passed
            }
            Err((passed, fault)) => {
                self.refuse(0, fault);
                passed
            }
        };
        buffer.set_filled(before + passed);
        Poll::Ready(Ok(passed > 0))
    }

    /// Reads behind what is held; false at the end of the stream.
    fn read_block(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut block = [MaybeUninit::uninit(); BLOCK];
        let mut block = ReadBuf::uninit(&mut block);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut block))?;
        self.held.extend_from_slice(block.filled());
        Poll::Ready(Ok(!block.filled().is_empty()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Guarded<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
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
