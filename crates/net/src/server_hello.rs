use rustls::CipherSuite;
use rustls::NamedGroup;
use std::io;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;

/// A socket that remembers the start of what was written to it, until the handshake is over.
///
/// A TLS server answers with a `ServerHello` in the clear. When a handshake fails later, over the
/// client's certificate, that message is the only place left that says what had been negotiated,
/// and the record of the refusal must say it.
#[derive(Debug)]
pub struct Transcribed<IO> {
    io: IO,
    start: Option<Vec<u8>>,
}

/// What a `ServerHello` (RFC 8446 section 4.1.3) says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ServerHello {
    pub(crate) cipher: CipherSuite,
    /// The group of the key share; none in TLS 1.2.
    pub(crate) group: Option<NamedGroup>,
}

/// Enough for a `ServerHello` with any session id and key share of ours (the largest, of
/// X25519MLKEM768, has 1,120 bytes).
const START: usize = 1536;
const KEY_SHARE: u16 = 51;

impl<IO> Transcribed<IO> {
    pub(crate) const fn new(io: IO) -> Self {
        Self {
            io,
            start: Some(Vec::new()),
        }
    }

    /// The socket.
    pub const fn get_ref(&self) -> &IO {
        &self.io
    }

    /// The socket, to be written to and read from directly.
    pub const fn get_mut(&mut self) -> &mut IO {
        &mut self.io
    }

    /// Stops remembering.
    pub(crate) fn forget(&mut self) {
        self.start = None;
    }

    /// The `ServerHello` among what was written, if it got that far.
    pub(crate) fn server_hello(&self) -> Option<ServerHello> {
        parse(self.start.as_deref()?)
    }
}

fn parse(stream: &[u8]) -> Option<ServerHello> {
    let mut record = Reader(stream);
    let handshake_record = record.byte()? == 22;
    record.take(2)?;
    let length = record.u16()?.into();
    let mut message = Reader(record.take(length)?);
    let server_hello = message.byte()? == 2;
    if !handshake_record || !server_hello {
        return None;
    }
    message.take(3 + 2 + 32)?;
    let session_id = message.byte()?.into();
    message.take(session_id)?;
    let cipher = CipherSuite::from(message.u16()?);
    message.byte()?;
    let mut group = None;
    let mut extensions = Reader(match message.u16() {
        Some(length) => message.take(length.into())?,
        None => &[],
    });
    while let Some(kind) = extensions.u16() {
        let length = extensions.u16()?.into();
        let mut body = Reader(extensions.take(length)?);
        if kind == KEY_SHARE {
            group = Some(NamedGroup::from(body.u16()?));
        }
    }
    Some(ServerHello { cipher, group })
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Transcribed<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Transcribed<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        if let Poll::Ready(Ok(count)) = written {
            self.note(buf, count);
        }
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        if let Poll::Ready(Ok(mut count)) = written {
            for buf in bufs {
                self.note(buf, count.min(buf.len()));
                count = count.saturating_sub(buf.len());
            }
        }
        written
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

impl<IO> Transcribed<IO> {
    fn note(&mut self, buf: &[u8], written: usize) {
        if let Some(start) = &mut self.start {
            let room = START.saturating_sub(start.len());
            start.extend_from_slice(buf.get(..written.min(room)).unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hello(group: u16) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([2, 9, 9]);
        body.extend([0x13, 0x02, 0]);
        body.extend([0, 12, 0, 43, 0, 2, 3, 4, 0, 51, 0, 2]);
        body.extend(group.to_be_bytes());
        let mut message = vec![2, 0, 0, body.len() as u8];
        message.extend(body);
        let mut record = vec![22, 3, 3, 0, message.len() as u8];
        record.extend(message);
        record
    }

    #[test]
    fn reads_cipher_and_group() {
        let expect = ServerHello {
            cipher: CipherSuite::TLS13_AES_256_GCM_SHA384,
            group: Some(NamedGroup::X25519MLKEM768),
        };
        assert_eq!(parse(&hello(0x11ec)), Some(expect));
        assert_eq!(parse(b"\x15\x03\x03\x00\x02\x02\x28"), None, "an alert");
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..128), cut in 0_usize..80, at in 0_usize..63, byte: u8) {
            let _ = parse(&bytes);
            let mut mutated = hello(0x11ec);
            mutated[at] = byte;
            mutated.truncate(cut);
            let _ = parse(&mutated);
        }
    }
}
