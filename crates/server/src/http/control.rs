//! `/v1/control/*`: the control plane for gateways in other processes.
//!
//! Each is a `POST` with a JSON body. `updates` answers with a stream of JSON lines; the others
//! with one document, a refusal, or a `ControlError` with status 409 or 503.

use super::Body;
use super::Call;
use super::Front;
use super::full;
use super::json;
use super::read_body;
use crate::control::Asking;
use bytes::Bytes;
use countersign_core::vocabulary::Name;
use countersign_net::problem::Format;
use countersign_net::problem::Problem;
use countersign_wire::control::ControlError;
use countersign_wire::control::Known;
use countersign_wire::control::Update;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use http::HeaderValue;
use http::Response;
use http::StatusCode;
use http::header;
use http_body_util::BodyExt as _;
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper::body::Incoming;
use secrecy::SecretString;
use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::convert::Infallible;

/// Where the endpoints are.
pub(super) const PREFIX: &str = "/v1/control/";
const SMALL: usize = 64 * 1024;
/// A delivery holds up to some hundred leaves.
const RECORDS: usize = 32 * 1024 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignOut {
    cookie: SecretString,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Credential {
    secret: Name,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    jwk: serde_json::Value,
}

#[derive(Serialize)]
struct Delivered {
    next: u64,
}

impl Front {
    pub(super) async fn control(
        &self,
        call: &Call<'_>,
        what: &str,
        body: Incoming,
    ) -> Response<Body> {
        let plane = &self.plane;
        // Whatever is larger is held for a gateway in good standing only.
        let limit = if what == "records" && plane.is_trusted(&call.evidence()) {
            RECORDS
        } else {
            SMALL
        };
        let body = read_body(body, limit).await.unwrap_or_default();
        let asking = || Asking {
            context: call.context(),
            evidence: call.evidence(),
        };
        let answer = match what {
            "updates" => match read::<Known>(&body) {
                Some(known) => plane.follow(asking(), known).await.map(lines),
                None => Err(plane.malformed(asking(), what).await),
            },
            "sign-in" => match read(&body) {
                Some(request) => plane.sign_in(asking(), request).await.map(document),
                None => Err(plane.malformed(asking(), what).await),
            },
            "sign-out" => match read::<SignOut>(&body) {
                Some(it) => plane.sign_out(asking(), &it.cookie).await.map(document),
                None => Err(plane.malformed(asking(), what).await),
            },
            "session-token" => match read(&body) {
                Some(request) => plane.session_token(asking(), request).await.map(document),
                None => Err(plane.malformed(asking(), what).await),
            },
            "credential" => match read::<Credential>(&body) {
                Some(it) => plane.credential(asking(), &it.secret).await.map(document),
                None => Err(plane.malformed(asking(), what).await),
            },
            "key" => match read::<Key>(&body) {
                Some(it) => plane.publish_key(asking(), it.jwk).await.map(document),
                None => Err(plane.malformed(asking(), what).await),
            },
            "records" => match read(&body) {
                Some(delivery) => {
                    let next = plane.deliver(asking(), delivery).await;
                    next.map(|next| document(Delivered { next }))
                }
                None => Err(plane.malformed(asking(), what).await),
            },
            _ => return self.unknown(call).await,
        };
        answer.unwrap_or_else(|error| failure(&error))
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    serde_json::from_slice(body).ok()
}

fn document(document: impl Serialize) -> Response<Body> {
    json(StatusCode::OK, &document)
}

/// One update a line, for as long as both sides want it.
fn lines(updates: BoxStream<'static, Update>) -> Response<Body> {
    let frames = updates.map(|update| {
        let mut line = serde_json::to_vec(&update).unwrap_or_default();
        line.push(b'\n');
        Ok::<_, Infallible>(Frame::data(Bytes::from(line)))
    });
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/x-ndjson"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn failure(error: &ControlError) -> Response<Body> {
    match error {
        ControlError::Refused { code, receipt } => {
            let receipt = receipt.as_deref();
            let problem = Problem {
                code: *code,
                format: Format::Problem,
                receipt,
                retry_after: None,
            };
            problem.response().map(full)
        }
        ControlError::NoSession | ControlError::OutOfOrder { .. } => {
            json(StatusCode::CONFLICT, error)
        }
        ControlError::Unavailable(why) => {
            tracing::error!(why, "the control plane could not do what was admitted");
            let told = ControlError::Unavailable("see the server's log".to_owned());
            json(StatusCode::SERVICE_UNAVAILABLE, &told)
        }
    }
}
