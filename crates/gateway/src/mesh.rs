//! What a mesh door serves itself: the issuer, for the peer it has verified.

use crate::body;
use crate::body::Body;
use crate::connected::Connected;
use crate::plane::Plane;
use crate::refuse::Stop;
use countersign_core::record::Context;
use countersign_wire::control::IssuerRequest;
use countersign_wire::control::IssuerResponse;
use http::HeaderName;
use http::HeaderValue;
use http::Response;
use http::StatusCode;
use http::header;
use hyper::body::Incoming;

/// The longest request to the issuer: a form with one token in it.
const LONGEST: usize = 64 << 10;

/// Serves `/oauth2/*` and `/.well-known/*`. Gives the body back where the issuer is in another
/// process, which would have to believe our word for who asks.
pub(crate) async fn issuer(
    plane: &Plane,
    connected: &Connected,
    (method, path): (&str, &str),
    context: Context<'_>,
    body: Incoming,
) -> Result<Incoming, Stop> {
    let ask = |bytes| IssuerRequest {
        body: bytes,
        context,
        door: &connected.door,
        evidence: connected.evidence(),
        method,
        path,
    };
    if plane.control.issuer(ask(&[])).is_none() {
        return Ok(body);
    }
    let bytes = match body::own(body, LONGEST).await {
        Ok(bytes) => bytes,
        Err(status) => {
            let mut response = Response::new(body::empty());
            *response.status_mut() = status;
            return Err(Stop::Answered(Box::new(response)));
        }
    };
    let response = match plane.control.issuer(ask(&bytes)) {
        Some(answer) => response(answer.await),
        None => Response::new(body::empty()),
    };
    Err(Stop::Answered(Box::new(response)))
}

fn response(answer: IssuerResponse) -> Response<Body> {
    let mut response = Response::new(body::full(answer.body));
    *response.status_mut() =
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    for (name, value) in answer.headers {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(&value)) {
            headers.insert(name, value);
        }
    }
    response
}
