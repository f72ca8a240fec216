//! Bodies that come and go.

use bytes::Bytes;
use countersign_enforce::Refusal;
use countersign_net::problem::Format;
use countersign_net::problem::Problem;
use http::HeaderValue;
use http::Response;
use http::StatusCode;
use http::header;
use http_body_util::BodyExt as _;
use http_body_util::Full;
use http_body_util::LengthLimitError;
use http_body_util::Limited;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use serde::Serialize;
use std::convert::Infallible;
use std::time::Duration;

/// A body on its way out.
pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyFault {
    TooLarge,
    /// Broken off, or slower than it may be.
    Incomplete,
}

/// How long a body may take.
const TIME: Duration = Duration::from_secs(10);

impl BodyFault {
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::TooLarge => "the body is too large",
            Self::Incomplete => "the body did not come whole, or not in time",
        }
    }
}

/// Reads a body of at most `limit` bytes.
pub(crate) async fn read_body(body: Incoming, limit: usize) -> Result<Bytes, BodyFault> {
    let whole = Limited::new(body, limit).collect();
    match tokio::time::timeout(TIME, whole).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyFault::TooLarge),
        Ok(Err(_)) | Err(_) => Err(BodyFault::Incomplete),
    }
}

/// A body that is there.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed_unsync()
}

/// A document that nobody may keep.
pub(crate) fn json(status: StatusCode, document: &impl Serialize) -> Response<Body> {
    // Our own documents: strings, numbers and maps with string keys.
    let body = serde_json::to_vec(document).unwrap_or_default();
    let mut response = Response::new(full(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A refusal as its caller may know it.
pub(crate) fn refusal(refusal: &Refusal, format: Format) -> Response<Body> {
    let receipt = refusal.receipt.map(|id| id.to_string());
    let problem = Problem {
        code: refusal.code,
        format,
        receipt: receipt.as_deref(),
        retry_after: refusal.retry_after,
    };
    problem.response().map(full)
}
