//! A body that is written while it is read.

use bytes::Bytes;
use hyper::body::Body;
use hyper::body::Frame;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use tokio::sync::mpsc;

/// The end that is read; it is whole when the other end is dropped.
pub(crate) struct Pipe(mpsc::Receiver<Frame<Bytes>>);

/// Both ends.
pub(crate) fn pipe() -> (mpsc::Sender<Frame<Bytes>>, Pipe) {
    let (sender, receiver) = mpsc::channel(4);
    (sender, Pipe(receiver))
}

impl Pipe {
    /// A body that is there already.
    pub(crate) fn whole(frames: impl IntoIterator<Item = Frame<Bytes>>) -> Self {
        let (sender, pipe) = pipe();
        for frame in frames {
            sender.try_send(frame).unwrap();
        }
        pipe
    }

    pub(crate) fn empty() -> Self {
        Self::whole([])
    }
}

impl Body for Pipe {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_closed() && self.0.is_empty()
    }
}
