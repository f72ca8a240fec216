//! The end of a connection whose client still sends.
//!
//! A socket that is closed with bytes unread is reset (RFC 1122 section 4.2.2.13), and a reset takes
//! the answer with it that its client has not read yet (RFC 9112 section 9.6). So an answer that
//! comes before the end of its request is followed by a moment in which what comes is read and
//! thrown away.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::ReadBuf;
use tokio::time::Sleep;

/// How long it is read on, all in all.
const TIME: Duration = Duration::from_secs(5);
/// How many bytes are thrown away: what is on its way when the answer is, and no upload.
const BYTES: usize = 8 * 1024 * 1024;

/// Reads until the other side ends, or has had its moment.
#[derive(Debug)]
pub(super) struct Linger {
    left: usize,
    until: Pin<Box<Sleep>>,
}

impl Linger {
    pub(super) fn new() -> Self {
        Self {
            left: BYTES,
            until: Box::pin(tokio::time::sleep(TIME)),
        }
    }

    /// Ready once the connection can be closed.
    pub(super) fn poll(
        &mut self,
        io: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let mut scratch = [0; 4096];
        while self.left > 0 && self.until.as_mut().poll(cx).is_pending() {
            let mut buffer = ReadBuf::new(&mut scratch);
            let read = ready!(Pin::new(&mut *io).poll_read(cx, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                break;
            }
            self.left = self.left.saturating_sub(buffer.filled().len());
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::AsyncWriteExt;

    #[tokio::test]
    async fn it_has_an_end_in_bytes_and_in_time() {
        let (mut client, mut server) = tokio::io::duplex(64 * 1024);
        let sending = tokio::spawn(async move {
            let chunk = [0; 64 * 1024];
            let mut sent = 0;
            while client.write_all(&chunk).await.is_ok() {
                sent += chunk.len();
            }
            sent
        });
        let mut linger = Linger::new();
        poll_fn(|cx| linger.poll(&mut server, cx)).await;
        drop(server);
        let sent = sending.await.unwrap();
        assert!((BYTES..BYTES + 256 * 1024).contains(&sent), "{sent}");

        let (_silent, mut server) = tokio::io::duplex(64);
        let mut linger = Linger {
            until: Box::pin(tokio::time::sleep(Duration::from_millis(50))),
            ..Linger::new()
        };
        poll_fn(|cx| linger.poll(&mut server, cx)).await;
        assert!(linger.until.is_elapsed());

        let (ended, mut server) = tokio::io::duplex(64);
        drop(ended);
        let mut linger = Linger::new();
        poll_fn(|cx| linger.poll(&mut server, cx)).await;
        assert!(!linger.until.is_elapsed());
    }
}
