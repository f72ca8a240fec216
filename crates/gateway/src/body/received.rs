use bytes::Bytes;
use http::Version;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

/// A request body as it comes from a caller.
///
/// Over HTTP/2 a body that is given up resets its stream, and some clients then lose an answer that
/// they had already been sent (which RFC 9113 section 8.1 forbids them). So when nobody wants the
/// rest of a body any more, a little of it is still read, for a moment: a refusal should arrive.
#[derive(Debug)]
pub(crate) struct Received {
    http2: bool,
    /// None once somebody has taken it over.
    inner: Option<Incoming>,
}

/// How much is read that nobody wants, in bytes.
const REST: usize = 64 * 1024;
/// And for how long.
const MOMENT: Duration = Duration::from_secs(1);

impl Received {
    /// The body of a request of this version.
    pub(crate) const fn new(body: Incoming, version: Version) -> Self {
        Self {
            http2: matches!(version, Version::HTTP_2),
            inner: Some(body),
        }
    }

    /// For whoever forwards it, and has it end where the hop is ended. None if that was done before.
    pub(crate) fn take(mut self) -> Option<Incoming> {
        self.inner.take()
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        let Some(body) = self.inner.take() else {
            return;
        };
        if !self.http2 || body.is_end_stream() {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(MOMENT, rest(body)));
        }
    }
}

async fn rest(mut body: Incoming) {
    let mut left = REST;
    while let Some(Ok(frame)) = body.frame().await {
        left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
        if left == 0 {
            return;
        }
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.inner {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let none = || SizeHint::with_exact(0);
        self.inner.as_ref().map_or_else(none, Incoming::size_hint)
    }
}
