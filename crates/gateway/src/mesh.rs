//! What a mesh door serves itself: the issuer, for the peer it has verified.

use crate::body;
use crate::body::Body;
use crate::body::Received;
use crate::connected::Connected;
use crate::plane::Plane;
use crate::refuse::Failure;
use crate::refuse::Stop;
use countersign_core::record::Context;
use countersign_wire::control::ControlError;
use countersign_wire::control::IssuerRequest;
use countersign_wire::control::IssuerResponse;
use http::HeaderName;
use http::HeaderValue;
use http::Response;
use http::StatusCode;
use http::header;

/// The longest request to the issuer: a form with one token in it.
const LONGEST: usize = 64 << 10;

/// Serves `/oauth2/*` and `/.well-known/*`. Gives the body back where the issuer is in another
/// process and whoever asks reaches it there: it would have to believe our word for who asks. A
/// partner does not reach it, so what it asks is carried there with its certificates.
pub(crate) async fn issuer(
    plane: &Plane,
    connected: &Connected,
    (method, path): (&str, &str),
    context: Context<'_>,
    body: Received,
) -> Result<Received, Stop> {
    let ask = |bytes| IssuerRequest {
        body: bytes,
        chain: &connected.chain,
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
    Err(match plane.control.issuer(ask(&bytes)) {
        Some(answer) => match answer.await {
            Ok(answer) => Stop::Answered(Box::new(response(answer))),
            Err(error) => unanswered(error),
        },
        None => Stop::Answered(Box::new(Response::new(body::empty()))),
    })
}

/// The issuer did not hear of it.
fn unanswered(error: ControlError) -> Stop {
    match error {
        ControlError::Refused { code, receipt } => Stop::Refused {
            code,
            faults: Vec::new(),
            limit: None,
            model: false,
            receipt,
            retry_after: None,
            under_way: false,
        },
        error => {
            tracing::warn!(%error, "a request to the issuer is not answered");
            Stop::Failed {
                failure: Failure::Control,
                receipt: None,
            }
        }
    }
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
