//! `/v1/control/*`: the control plane for gateways in other processes.
//!
//! Each is a `POST` with a JSON body; that of `records` is a [`Delivery`], which is lines. `updates`
//! answers with a stream of JSON lines; the others with one document, a refusal, or a
//! `ControlError` with status 409 or 503.

use super::Body;
use super::Call;
use super::Front;
use super::full;
use super::json;
use super::read_body;
use crate::control::Asking;
use crate::control::Place;
use bytes::Bytes;
use bytes::BytesMut;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Name;
use countersign_ledger::log::Position;
use countersign_net::problem::Format;
use countersign_net::problem::Problem;
use countersign_wire::control::ControlError;
use countersign_wire::control::Delivery;
use countersign_wire::control::Known;
use countersign_wire::control::RelayedRequest;
use countersign_wire::control::Said;
use countersign_wire::control::Update;
use countersign_wire::join::Renew;
use futures_util::StreamExt as _;
use futures_util::stream;
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
use std::time::Duration;

/// Where the endpoints are.
pub(super) const PREFIX: &str = "/v1/control/";
const SMALL: usize = 64 * 1024;
/// A gateway knows what it knows before it connects.
const FIRST: Duration = Duration::from_secs(10);
/// A delivery is some MiB; its lines are bounded one by one.
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
    /// The leaf hash of the last record that the log has of the node.
    hash: Digest,
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
        if what == "updates" {
            return self.updates(call, body).await;
        }
        // Whatever is larger is held for a gateway in good standing only.
        let limit = match what {
            "records" if plane.is_trusted(&call.evidence()) => RECORDS,
            "relay" if plane.is_trusted(&call.evidence()) => RelayedRequest::WHOLE,
            _ => SMALL,
        };
        let read_whole = read_body(body, limit).await;
        let faulty = read_whole.as_ref().err().copied();
        let body = read_whole.unwrap_or_default();
        let asking = || Asking {
            context: call.context(),
            evidence: call.evidence(),
            place: Place::Afar,
        };
        let answer = match what {
            "renew" => match read::<Renew>(&body) {
                Some(request) => plane.renew(asking(), &request).await.map(document),
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
            "relay" => match read::<RelayedRequest>(&body) {
                Some(request) => plane.relay(asking(), &request).await.map(document),
                None => Err(plane.malformed(asking(), what).await),
            },
            "key" => match read::<Key>(&body) {
                Some(it) => plane.publish_key(asking(), it.jwk).await.map(document),
                None => Err(plane.malformed(asking(), what).await),
            },
            "records" => match faulty {
                None => self.records(asking(), body).await,
                Some(fault) => {
                    let detail = fault.text().to_owned();
                    Err(plane.unreadable(asking(), what, detail).await)
                }
            },
            _ => return self.unknown(call).await,
        };
        answer.unwrap_or_else(|error| failure(&error))
    }

    async fn records(
        &self,
        asking: Asking<'_>,
        body: Bytes,
    ) -> Result<Response<Body>, ControlError> {
        let plane = &self.plane;
        let delivery = match Delivery::decode(body) {
            Ok(delivery) => delivery,
            Err(error) => {
                let detail = format!("the body is no delivery: {error}");
                return Err(plane.unreadable(asking, "records", detail).await);
            }
        };
        let node = delivery.node.clone();
        plane.deliver(asking, delivery).await?;
        Ok(document(delivered(plane.position(&node))))
    }

    /// Both sides talk for as long as they like: the first line of the body is what is known, those
    /// after it are what the gateway says.
    async fn updates(&self, call: &Call<'_>, body: Incoming) -> Response<Body> {
        let plane = &self.plane;
        let asking = || Asking {
            context: call.context(),
            evidence: call.evidence(),
            place: Place::Afar,
        };
        let mut said = Lines {
            body,
            held: BytesMut::new(),
        };
        let first = tokio::time::timeout(FIRST, said.next()).await;
        let known = first.ok().flatten().and_then(|line| read::<Known>(&line));
        let Some(known) = known else {
            return failure(&plane.malformed(asking(), "updates").await);
        };
        let said = stream::unfold(said, |mut said| async move {
            loop {
                // A word of a later version is no reason to stop listening.
                if let Some(word) = read::<Said>(&said.next().await?) {
                    return Some((word, said));
                }
            }
        });
        let answer = plane.follow_from_afar(asking(), known, said.boxed()).await;
        answer.map_or_else(|error| failure(&error), lines)
    }
}

/// The lines of a body as they come.
struct Lines {
    body: Incoming,
    held: BytesMut,
}

impl Lines {
    /// The next line; the last one needs no end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(end) = self.held.iter().position(|byte| *byte == b'\n') {
                return Some(self.held.split_to(end + 1).freeze());
            }
            if self.held.len() > SMALL {
                return None;
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.held.extend_from_slice(&data);
                    }
                }
                _ if self.held.is_empty() => return None,
                _ => return Some(self.held.split().freeze()),
            }
        }
    }
}

fn delivered(position: Position) -> Delivered {
    Delivered {
        hash: Digest::new(position.hash),
        next: position.next,
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
