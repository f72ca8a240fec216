use super::BodyError;
use super::Events;
use super::Messages;
use super::Prefixed;
use super::leak::Needle;
use super::leak::Scan;
use super::usage::Meter;
use crate::grpc;
use crate::place::Place;
use crate::request::headers;
use bytes::Bytes;
use countersign_core::record::Ending;
use countersign_core::vocabulary::Code;
use countersign_enforce::Admitted;
use countersign_enforce::Cut;
use countersign_net::problem::Format;
use countersign_net::problem::Problem;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;
use hyper::body::Incoming;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio::time::Sleep;

/// A response body on its way to the caller. It carries the admitted hop, whose completion is
/// recorded when this is dropped.
pub(crate) struct Downlink {
    admitted: Admitted,
    deadline: Instant,
    /// What ends it if nobody asks for it. Most bodies are there whole when they are first asked
    /// for, and need none.
    guard: Option<Guard>,
    inner: Incoming,
    messages: Option<Messages>,
    place: Arc<Place>,
    state: Progress,
    watch: Watch,
}

/// What ends a body in time.
struct Guard {
    elapsed: Pin<Box<Sleep>>,
    /// Dropped with this; see [`guard`].
    _here: oneshot::Sender<()>,
}

/// What is looked for in a response body.
pub(crate) struct Watch {
    /// Whether it comes by HTTP/2.
    pub(crate) http2: bool,
    /// Whether it goes by HTTP/2.
    pub(crate) to_http2: bool,
    /// The credential that must not come back, and whom to tell if it does.
    pub(crate) leak: Option<(Needle, Box<dyn Fn() + Send>)>,
    /// What reads the usage of a model's answer.
    pub(crate) meter: Option<Meter>,
    pub(crate) shape: Shape,
}

/// How a body is ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Not properly: its reader sees a broken connection or a reset stream.
    Plain,
    /// With an event that says why.
    Events,
    /// With gRPC's trailers.
    Grpc,
}

/// Time for the end of a hop to reach a caller who reads.
const GRACE: Duration = Duration::from_secs(1);

enum Progress {
    Flowing(Option<Scan>),
    /// What was held back has gone; these trailers are left.
    Trailers(Frame<Bytes>),
    Over,
}

type Polled = Poll<Option<Result<Frame<Bytes>, BodyError>>>;

impl Downlink {
    /// Passes on `inner` until `deadline`, to the connection with this `place`.
    pub(crate) fn new(
        inner: Incoming,
        admitted: Admitted,
        deadline: Instant,
        watch: Watch,
        place: Arc<Place>,
    ) -> Self {
        let scan = watch
            .leak
            .as_ref()
            .map(|(needle, _)| Scan::new(needle.clone()));
        let state = Progress::Flowing(scan);
        let messages = match watch.shape {
            Shape::Plain => None,
            Shape::Events => Some(Messages::Events(Events::default())),
            Shape::Grpc => Some(Messages::Grpc(Prefixed::default())),
        };
        if messages.is_some() {
            admitted.mark_messages();
        }
        let mut downlink = Self {
            admitted,
            deadline,
            guard: None,
            inner,
            messages,
            place,
            state,
            watch,
        };
        // Nobody reads the body of an answer to HEAD, or of a 304.
        if downlink.inner.is_end_stream() {
            downlink.state = Progress::Over;
            downlink.settle();
        } else if downlink.watch.to_http2 {
            // It is asked for once its reader gives room for it, and so maybe never. With HTTP/1.1
            // it is asked for at once.
            downlink.guard();
        }
        downlink
    }

    fn guard(&mut self) -> &mut Guard {
        self.guard.get_or_insert_with(|| Guard {
            elapsed: Box::pin(tokio::time::sleep_until(self.deadline)),
            _here: guard(
                self.admitted.cut().clone(),
                self.deadline,
                self.place.clone(),
            ),
        })
    }

    /// Ends it if it is time to.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Polled> {
        if self.guard.is_some() {
            return self.poll_guard(cx);
        }
        if let Some(code) = self.admitted.cut().code() {
            return Poll::Ready(self.cut(code));
        }
        if self.deadline <= Instant::now() {
            return Poll::Ready(self.end(Ending::Cut, BodyError::Elapsed));
        }
        Poll::Pending
    }

    /// Has this polled again when it is time to end.
    fn poll_guard(&mut self, cx: &mut Context<'_>) -> Poll<Polled> {
        if let Poll::Ready(code) = self.admitted.cut().poll(cx) {
            return Poll::Ready(self.cut(code));
        }
        if self.guard().elapsed.as_mut().poll(cx).is_ready() {
            return Poll::Ready(self.end(Ending::Cut, BodyError::Elapsed));
        }
        Poll::Pending
    }

    fn end(&mut self, ending: Ending, error: BodyError) -> Polled {
        self.admitted.ended(ending);
        self.state = Progress::Over;
        let leak = matches!(error, BodyError::Leak);
        if self.watch.shape == Shape::Grpc && !leak {
            let unavailable = grpc::end(grpc::status(503), "the call was ended");
            return Poll::Ready(Some(Ok(Frame::trailers(unavailable))));
        }
        Poll::Ready(Some(Err(error)))
    }

    /// An event stream is told why it ends and then ends properly; its client would otherwise
    /// connect again at once. So is a call of gRPC, whose status says that it is not whole.
    fn cut(&mut self, code: Code) -> Polled {
        if self.watch.shape == Shape::Plain {
            return self.end(Ending::Cut, BodyError::Cut(code));
        }
        self.admitted.ended(Ending::Cut);
        self.state = Progress::Over;
        if self.watch.shape == Shape::Grpc {
            let message = format!("AccessDenied: pillar {} failed ({code})", code.pillar());
            let refused = grpc::end(grpc::ended(code.status()), &message);
            return Poll::Ready(Some(Ok(Frame::trailers(refused))));
        }
        let receipt = self.admitted.admission().receipt().to_string();
        let problem = Problem {
            code,
            format: Format::Problem,
            receipt: Some(&receipt),
            retry_after: None,
        };
        let body = problem.body();
        let event = [b"\n\nevent: error\ndata: ", body.as_ref(), b"\n\n"].concat();
        Poll::Ready(Some(Ok(Frame::data(event.into()))))
    }

    fn leaked(&mut self) -> Polled {
        if let Some((_, alarm)) = &self.watch.leak {
            alarm();
        }
        self.end(Ending::Cut, BodyError::Leak)
    }

    fn data(&mut self, chunk: Bytes) -> Option<Polled> {
        // Whoever writes the body stops asking once it has as many bytes as were announced, so the
        // end is seen here or never.
        let ended = self.inner.is_end_stream();
        let whole = ended || self.inner.size_hint().exact() == Some(0);
        let Progress::Flowing(scan) = &mut self.state else {
            return None;
        };
        let chunk = match scan.as_mut() {
            None => chunk,
            Some(scan) => match scan.next(chunk) {
                Ok(chunk) if whole => [chunk, scan.rest()].concat().into(),
                Ok(chunk) => chunk,
                Err(_found) => return Some(self.leaked()),
            },
        };
        if let Some(meter) = &mut self.watch.meter {
            meter.next(&chunk);
        }
        self.sent(&chunk);
        if whole {
            self.settle();
        }
        if ended {
            self.state = Progress::Over;
        }
        // All of it may have been held back.
        let nothing = chunk.is_empty() && !ended;
        (!nothing).then(|| Poll::Ready(Some(Ok(Frame::data(chunk)))))
    }

    /// The upstream's body is whole.
    fn finish(&mut self, trailers: Option<Frame<Bytes>>) -> Polled {
        let leaky = |needle: &Needle| {
            let fields = trailers.as_ref().and_then(Frame::trailers_ref);
            fields.is_some_and(|fields| needle.within(fields))
        };
        if self
            .watch
            .leak
            .as_ref()
            .is_some_and(|(needle, _)| leaky(needle))
        {
            return self.leaked();
        }
        let rest = match std::mem::replace(&mut self.state, Progress::Over) {
            Progress::Flowing(Some(mut scan)) => scan.rest(),
            _ => Bytes::new(),
        };
        if let Some(meter) = &mut self.watch.meter {
            meter.next(&rest);
        }
        self.sent(&rest);
        self.settle();
        if rest.is_empty() {
            return Poll::Ready(trailers.map(Ok));
        }
        if let Some(trailers) = trailers {
            self.state = Progress::Trailers(trailers);
        }
        Poll::Ready(Some(Ok(Frame::data(rest))))
    }

    fn sent(&mut self, bytes: &[u8]) {
        self.admitted.sent(bytes.len() as u64);
        if let Some(messages) = &mut self.messages {
            self.admitted.messages_sent(messages.pass(bytes));
        }
    }

    fn settle(&mut self) {
        if let Some(mut meter) = self.watch.meter.take() {
            if let Some((model, input, output)) = meter.tokens() {
                self.admitted.used(model, input, output);
            }
            if let Some(cost) = meter.cost() {
                self.admitted.settle(cost);
            }
        }
        self.admitted.ended(Ending::Done);
    }
}

/// A caller who stops reading is not asked for, so neither is the body, and nobody looks whether
/// its hop has ended. Where that is so a moment after the end, the connection is ended.
fn guard(cut: Cut, deadline: Instant, place: Arc<Place>) -> oneshot::Sender<()> {
    let (here, gone) = oneshot::channel();
    tokio::spawn(async move {
        let stuck = async {
            tokio::select! {
                _ = cut.wait() => {}
                () = tokio::time::sleep_until(deadline) => {}
            }
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            _ = gone => {}
            () = stuck => place.abort(),
        }
    });
    here
}

impl Body for Downlink {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let this = self.get_mut();
        match std::mem::replace(&mut this.state, Progress::Over) {
            Progress::Over => return Poll::Ready(None),
            Progress::Trailers(trailers) => return Poll::Ready(Some(Ok(trailers))),
            flowing @ Progress::Flowing(_) => this.state = flowing,
        }
        if let Poll::Ready(ended) = this.poll_end(cx) {
            return ended;
        }
        loop {
            let frame = match Pin::new(&mut this.inner).poll_frame(cx) {
                Poll::Pending => {
                    return match this.poll_guard(cx) {
                        Poll::Ready(ended) => ended,
                        Poll::Pending => Poll::Pending,
                    };
                }
                // A stream that was reset without an error ends the body for hyper; only its own end
                // says that it is whole (RFC 9113 section 8.1).
                Poll::Ready(None) if this.watch.http2 && !this.inner.is_end_stream() => {
                    return this.end(Ending::UpstreamFailed, BodyError::Reset);
                }
                Poll::Ready(None) => return this.finish(None),
                Poll::Ready(Some(Err(error))) => {
                    return this.end(Ending::UpstreamFailed, error.into());
                }
                Poll::Ready(Some(Ok(frame))) => frame,
            };
            let polled = match frame.into_data() {
                Ok(chunk) => this.data(chunk),
                Err(mut frame) => {
                    let left = frame.trailers_mut().is_some_and(|fields| {
                        headers::trailers(fields);
                        !fields.is_empty()
                    });
                    Some(this.finish(left.then_some(frame)))
                }
            };
            if let Some(polled) = polled {
                if !this.is_end_stream() {
                    this.guard();
                }
                return polled;
            }
        }
    }

    /// Whoever writes the body may stop asking once this is true, so everything that has to
    /// happen at its end must have happened.
    fn is_end_stream(&self) -> bool {
        matches!(self.state, Progress::Over)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl fmt::Debug for Downlink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a response on its way")
    }
}
