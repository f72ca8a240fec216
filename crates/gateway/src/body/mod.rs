//! Bodies on their way: counted, bounded, and ended when the hop is.

mod downlink;
mod held;
mod json;
mod leak;
mod messages;
mod received;
mod uplink;
mod usage;

pub(crate) use downlink::Downlink;
pub(crate) use downlink::Shape;
pub(crate) use downlink::Watch;
pub(crate) use held::Held;
pub(crate) use held::HeldError;
pub(crate) use held::Room;
pub(crate) use held::Rules;
pub(crate) use leak::Needle;
pub(crate) use messages::Events;
pub(crate) use messages::Messages;
pub(crate) use messages::Prefixed;
pub(crate) use received::Received;
pub(crate) use uplink::Uplink;
pub(crate) use uplink::UplinkFault;
pub(crate) use usage::Meter;

use bytes::Bytes;
use countersign_core::vocabulary::Code;
use http::StatusCode;
use http_body_util::BodyExt;
use http_body_util::Empty;
use http_body_util::Full;
use http_body_util::Limited;
use http_body_util::combinators::UnsyncBoxBody;
use std::time::Duration;

/// Time for a body that we read ourselves, all of it.
const OWN: Duration = Duration::from_secs(10);

/// A body in either direction.
pub(crate) type Body = UnsyncBoxBody<Bytes, BodyError>;

/// Why a body ends before its end. The other side sees a broken connection or a reset stream,
/// never a proper end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The hop was ended by us.
    #[error("ended by policy ({0})")]
    Cut(Code),
    /// The stream lived as long as it may.
    #[error("the stream is over its time")]
    Elapsed,
    /// As many bodies as there is room for are being held.
    #[error("too many bodies are held at once")]
    Crowded,
    /// Nothing came for too long.
    #[error("nothing came in time")]
    Idle,
    /// The response holds the credential that was put into the request.
    #[error("the response holds the injected credential")]
    Leak,
    /// Its stream was reset before its end.
    #[error("the stream was reset before its end")]
    Reset,
    /// More bytes than the operation allows.
    #[error("the body is over its limit")]
    TooLarge,
    /// The connection it comes from broke.
    #[error(transparent)]
    Broken(#[from] hyper::Error),
}

/// The body of a request to an endpoint of our own.
///
/// # Errors
/// The status to answer with: 408 if it took too long, 413 if it is too long or broke off.
pub(crate) async fn own<B>(body: B, longest: usize) -> Result<Bytes, StatusCode>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let whole = Limited::new(body, longest).collect();
    match tokio::time::timeout(OWN, whole).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(_)) => Err(StatusCode::PAYLOAD_TOO_LARGE),
        Err(_elapsed) => Err(StatusCode::REQUEST_TIMEOUT),
    }
}

/// A whole body.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// No body.
pub(crate) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}
