use super::BodyError;
use super::Messages;
use super::Prefixed;
use crate::request::headers;
use bytes::Bytes;
use countersign_core::record::Ending;
use countersign_enforce::Admitted;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;
use hyper::body::Incoming;
use parking_lot::Mutex;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;
use tokio::time::Instant;
use tokio::time::Sleep;

/// A request body on its way to the upstream, frame by frame: nothing is read from the caller
/// that the upstream has not room for.
pub(crate) struct Uplink {
    admitted: Admitted,
    fault: Arc<Mutex<Option<UplinkFault>>>,
    /// Whether it comes by HTTP/2.
    http2: bool,
    idle: Duration,
    inner: Incoming,
    left: u64,
    messages: Option<Messages>,
    silence: Pin<Box<Sleep>>,
}

/// Why the caller's body was not forwarded to its end; the upstream's error that follows is then
/// not the upstream's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UplinkFault {
    /// The caller broke off, or fell silent.
    Aborted,
    /// More bytes than the operation allows.
    TooLarge,
}

impl Uplink {
    /// Forwards at most what the admission allows, of a body that comes by HTTP/2 or HTTP/1.1, and
    /// is one of gRPC or not. `idle` is how long the caller may be silent.
    pub(crate) fn new(
        (inner, http2, grpc): (Incoming, bool, bool),
        admitted: Admitted,
        idle: Duration,
        fault: Arc<Mutex<Option<UplinkFault>>>,
    ) -> Self {
        let left = admitted.admission().body_max();
        let messages = grpc.then(|| Messages::Grpc(Prefixed::default()));
        if grpc {
            admitted.mark_messages();
        }
        let silence = Box::pin(tokio::time::sleep(idle));
        Self {
            admitted,
            fault,
            http2,
            idle,
            inner,
            left,
            messages,
            silence,
        }
    }

    fn fail(
        &self,
        fault: UplinkFault,
        error: BodyError,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.fault.lock().get_or_insert(fault);
        // What may be answered already breaks off then, which is not the upstream's fault either.
        self.admitted.ended(match fault {
            UplinkFault::Aborted => Ending::Aborted,
            UplinkFault::TooLarge => Ending::Cut,
        });
        Poll::Ready(Some(Err(error)))
    }
}

impl Body for Uplink {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Poll::Ready(code) = this.admitted.cut().poll(cx) {
            return Poll::Ready(Some(Err(BodyError::Cut(code))));
        }
        let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) else {
            ready!(this.silence.as_mut().poll(cx));
            return this.fail(UplinkFault::Aborted, BodyError::Idle);
        };
        this.silence.as_mut().reset(Instant::now() + this.idle);
        match frame {
            // Reset without an error it is not whole, and its upstream must not take it for that (RFC
            // 9113 section 8.1).
            None if this.http2 && !this.inner.is_end_stream() => {
                this.fail(UplinkFault::Aborted, BodyError::Reset)
            }
            None => Poll::Ready(None),
            Some(Err(error)) => this.fail(UplinkFault::Aborted, error.into()),
            Some(Ok(mut frame)) => {
                if let Some(fields) = frame.trailers_mut() {
                    headers::trailers(fields);
                    // A block of no fields is not what everybody takes for an end.
                    if fields.is_empty() {
                        return Poll::Ready(None);
                    }
                }
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                this.admitted.received(bytes);
                if let (Some(messages), Some(data)) = (&mut this.messages, frame.data_ref()) {
                    this.admitted.messages_received(messages.pass(data));
                }
                match this.left.checked_sub(bytes) {
                    Some(left) => this.left = left,
                    None => return this.fail(UplinkFault::TooLarge, BodyError::TooLarge),
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
