//! From an admitted call to the request that its upstream gets.

use super::Call;
use super::attempts::Outgoing;
use super::attempts::Payload;
use super::service;
use super::third_party;
use super::third_party::Injected;
use crate::body::Held;
use crate::body::Uplink;
use crate::body::UplinkFault;
use crate::grpc;
use crate::refuse::Failure;
use crate::request::headers;
use crate::request::socket::OverHttp2;
use bytes::Bytes;
use countersign_core::config::PeerKind;
use countersign_core::config::Service;
use countersign_enforce::Admitted;
use http::HeaderValue;
use http::Method;
use http::Version;
use http::header;
use http::request::Parts;
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A request ready to be sent, and what is needed for its answer.
pub(super) struct Ready {
    pub(super) caller: Caller,
    pub(super) fault: Arc<Mutex<Option<UplinkFault>>>,
    pub(super) leak: Option<Injected>,
    pub(super) outgoing: Outgoing,
    /// The caller's half of a connection that is to become a WebSocket.
    pub(super) websocket: Option<Socket>,
}

/// How the caller is spoken to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    pub(super) version: Version,
    /// Whether it reads trailers (RFC 9110 section 10.1.4).
    pub(super) trailers: bool,
}

/// The caller's half of a WebSocket.
pub(super) struct Socket {
    pub(super) caller: OnUpgrade,
    /// What the upstream has to answer to a key of ours; the caller checks the answer to its own.
    pub(super) over_http2: Option<OverHttp2>,
}

/// The request as its upstream gets it: target from the admission, headers from its kind.
/// A credential for a third party has to be there by the deadline.
pub(super) async fn dress(
    service: &Service,
    mut call: Box<Call<'_>>,
    deadline: Instant,
) -> Result<Box<Ready>, Failure> {
    let caller = Caller {
        version: call.parts.version,
        trailers: call.parts.version >= Version::HTTP_2
            || headers::takes_trailers(&call.parts.headers),
    };
    let http2 = caller.version == Version::HTTP_2;
    let websocket = websocket(service, &mut call.parts);
    let announced = headers::announced_trailers(&call.parts.headers);
    let mut dressed = match service.peer {
        PeerKind::Service => service::dress(&mut call)?,
        PeerKind::ThirdParty => {
            let dressed = Box::pin(third_party::dress(service, &call));
            let dressed = tokio::time::timeout_at(deadline, dressed).await;
            dressed.map_err(|_elapsed| Failure::TimedOut)??
        }
        _ => return Err(Failure::Upstream),
    };
    if websocket.is_some() {
        dressed
            .fields
            .insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        dressed
            .fields
            .insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    if let Some(announced) = announced.filter(|_| service.peer == PeerKind::Service) {
        dressed.fields.insert(header::TRAILER, announced);
    }
    let operation = &call.admitted.admission().hop().operation;
    let mut path = operation.object.clone();
    if let Some(query) = &call.query {
        path.push('?');
        path.push_str(query);
    }
    let method = Method::from_bytes(operation.verb.as_bytes()).map_err(|_| Failure::Upstream)?;
    let fault = Arc::default();
    let grpc = http2 && grpc::is_grpc(&dressed.fields);
    let payload = payload(call.body, (http2, grpc), (call.admitted, call.idle), &fault);
    let outgoing = Outgoing {
        fields: dressed.fields,
        method,
        path,
        payload,
    };
    Ok(Box::new(Ready {
        caller,
        fault,
        leak: dressed.leak,
        outgoing,
        websocket,
    }))
}

/// The body of the request: what was held, or what comes, by HTTP/2 and as gRPC or not.
fn payload(
    body: Held,
    (http2, grpc): (bool, bool),
    (admitted, idle): (Admitted, Duration),
    fault: &Arc<Mutex<Option<UplinkFault>>>,
) -> Payload {
    match body {
        Held::Whole(kept) => {
            admitted.received(kept.bytes.len() as u64);
            admitted.committed(kept.commitment);
            Payload::Whole(kept.bytes)
        }
        Held::Streaming(body) if body.is_end_stream() => Payload::Whole(Bytes::new()),
        // It is taken here and nowhere else; without it nothing is sent.
        Held::Streaming(body) => Payload::Streaming(body.take().map(|body| {
            let fault = Arc::clone(fault);
            Uplink::new((body, http2, grpc), admitted, idle, fault).boxed_unsync()
        })),
    }
}

/// The caller's half of a WebSocket, if this asks for one (RFC 6455 section 4.1, RFC 8441 section
/// 5).
fn websocket(service: &Service, parts: &mut Parts) -> Option<Socket> {
    let only = |name| {
        let mut values = parts.headers.get_all(name).iter();
        values
            .next()
            .filter(|_| values.next().is_none())?
            .to_str()
            .ok()
    };
    let over_http2 = parts.extensions.get::<OverHttp2>().cloned();
    let asked = service.peer == PeerKind::Service
        && parts.method == Method::GET
        && (parts.version == Version::HTTP_11 || over_http2.is_some())
        && only(header::UPGRADE).is_some_and(|it| it.eq_ignore_ascii_case("websocket"))
        && only(header::SEC_WEBSOCKET_VERSION) == Some("13")
        && parts.headers.contains_key(header::SEC_WEBSOCKET_KEY);
    let caller = asked
        .then(|| parts.extensions.remove::<OnUpgrade>())
        .flatten()?;
    Some(Socket { caller, over_http2 })
}
