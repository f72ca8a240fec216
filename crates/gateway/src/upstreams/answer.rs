//! From an upstream's answer to the caller's.

use super::Relayed;
use super::endpoints::Lease;
use super::endpoints::Leased;
use super::failed;
use super::ready::Caller;
use super::ready::Socket;
use super::service;
use super::third_party;
use super::third_party::Injected;
use super::tunnel;
use crate::body;
use crate::body::Body;
use crate::body::Downlink;
use crate::body::Meter;
use crate::body::Shape;
use crate::body::Watch;
use crate::grpc;
use crate::place::Place;
use crate::quota;
use crate::refuse::Failure;
use crate::refuse::Stop;
use crate::request::headers;
use countersign_core::config::PeerKind;
use countersign_core::config::Service;
use countersign_core::record::Ending;
use countersign_enforce::Admitted;
use countersign_net::problem;
use http::HeaderMap;
use http::HeaderValue;
use http::Method;
use http::Response;
use http::StatusCode;
use http::Version;
use http::header;
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use std::sync::Arc;
use tokio::time::Instant;

/// What an answer is passed on with.
pub(super) struct Passing {
    pub(super) caller: Caller,
    pub(super) leak: Option<Injected>,
    pub(super) lease: Lease,
    pub(super) longest: Instant,
    pub(super) method: Method,
    pub(super) place: Arc<Place>,
    pub(super) websocket: Option<Socket>,
}

/// The upstream's answer as the caller gets it.
pub(super) fn pass_on(
    admitted: &Admitted,
    service: &Service,
    mut answer: Response<Incoming>,
    passing: Passing,
) -> Result<Response<Body>, Stop> {
    let switched = bare(&mut answer);
    let Passing {
        caller,
        leak,
        lease,
        longest,
        method,
        place,
        websocket,
    } = passing;
    let deadline = stream_end(admitted, longest);
    let over_http2 = websocket.as_ref().is_some_and(|it| it.over_http2.is_some());
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        let halves = websocket.map(|it| (it, switched));
        return switch(admitted, answer, halves, (deadline, place, lease));
    }
    if over_http2 && answer.status().is_success() {
        // There it would open the WebSocket that was not opened (RFC 8441 section 5).
        return Err(failed(admitted, Failure::Upstream));
    }
    let announced = headers::announced_trailers(answer.headers());
    headers::from_upstream(answer.headers_mut());
    match service.peer {
        PeerKind::ThirdParty => third_party::undress(answer.headers_mut()),
        _ => service::undress(answer.headers_mut()),
    }
    searchable(admitted, leak.as_ref(), answer.headers(), &method)?;
    if let Some(announced) = announced.filter(|_| caller.trailers) {
        answer.headers_mut().insert(header::TRAILER, announced);
    }
    let status = answer.status();
    admitted.answered(status.as_u16());
    let events = is_event_stream(answer.headers());
    let shape = shape(&answer, caller);
    if events || (shape == Shape::Grpc && !answer.body().is_end_stream()) {
        admitted.mark_stream();
    }
    let watch = Watch {
        http2: answer.version() == Version::HTTP_2,
        to_http2: caller.version == Version::HTTP_2,
        leak: leak.and_then(|Injected { needle, alarm }| {
            let alarm: Box<dyn Fn() + Send> = Box::new(move || alarm.raise());
            Some((needle?, alarm))
        }),
        meter: Meter::of(admitted.admission(), events).filter(|_| status.is_success()),
        shape,
    };
    receipt(admitted, answer.headers_mut());
    answer.extensions_mut().insert(Relayed);
    let (parts, body) = answer.into_parts();
    let body = Downlink::new(body, admitted.clone(), deadline, watch, place);
    let body = Leased {
        body,
        _lease: lease,
    };
    Ok(Response::from_parts(parts, body.boxed_unsync()))
}

/// Whether an answer to a request with an injected credential has it neither in its head nor, in a
/// coding that was not asked for, out of sight.
fn searchable(
    admitted: &Admitted,
    leak: Option<&Injected>,
    fields: &HeaderMap,
    method: &Method,
) -> Result<(), Stop> {
    let Some(Injected {
        needle: Some(needle),
        alarm,
    }) = leak
    else {
        return Ok(());
    };
    if needle.within(fields) {
        alarm.raise();
        admitted.ended(Ending::Cut);
        return Err(failed(admitted, Failure::Upstream));
    }
    if !third_party::is_plain(fields) && method != Method::HEAD {
        tracing::warn!(receipt = %admitted.admission().receipt(), "an answer in a coding that was not asked for");
        return Err(failed(admitted, Failure::Upstream));
    }
    Ok(())
}

/// The upstream's half of a switch of protocols. hyper keeps the upstream's reason phrase beside it
/// and would write it to the caller, past all that is looked for in fields and bodies.
fn bare(answer: &mut Response<Incoming>) -> OnUpgrade {
    let switched = hyper::upgrade::on(&mut *answer);
    answer.extensions_mut().clear();
    switched
}

/// How the answer can be ended early so that its reader learns why; not where its length has been
/// promised.
fn shape(answer: &Response<Incoming>, caller: Caller) -> Shape {
    let fields = answer.headers();
    if fields.contains_key(header::CONTENT_LENGTH) {
        Shape::Plain
    } else if is_event_stream(fields) {
        Shape::Events
    } else if caller.version == Version::HTTP_2 && grpc::is_grpc(fields) {
        Shape::Grpc
    } else {
        Shape::Plain
    }
}

/// Becomes a WebSocket, if that is what was asked for: an answer out of turn would make of a
/// request a tunnel that nobody decided.
fn switch(
    admitted: &Admitted,
    mut answer: Response<Incoming>,
    websocket: Option<(Socket, OnUpgrade)>,
    (deadline, place, lease): (Instant, Arc<Place>, Lease),
) -> Result<Response<Body>, Stop> {
    let fields = answer.headers();
    let websocket = websocket.filter(|(socket, _)| {
        let protocol = fields.get(header::UPGRADE);
        let accept = fields.get(header::SEC_WEBSOCKET_ACCEPT);
        let ours = socket.over_http2.as_ref();
        protocol.is_some_and(|it| it.as_bytes().eq_ignore_ascii_case(b"websocket"))
            && ours.is_none_or(|it| accept.is_some_and(|accept| accept == it.accept.as_str()))
    });
    let Some((socket, upstream)) = websocket else {
        return Err(failed(admitted, Failure::Upstream));
    };
    headers::from_upstream(answer.headers_mut());
    service::undress(answer.headers_mut());
    let fields = answer.headers_mut();
    let status = if socket.over_http2.is_some() {
        fields.remove(header::SEC_WEBSOCKET_ACCEPT);
        StatusCode::OK
    } else {
        fields.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        fields.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        StatusCode::SWITCHING_PROTOCOLS
    };
    receipt(admitted, fields);
    admitted.mark_stream();
    admitted.answered(status.as_u16());
    tokio::spawn(tunnel::websocket(
        socket.caller,
        upstream,
        (deadline, place, lease),
        admitted.clone(),
    ));
    *answer.status_mut() = status;
    *answer.version_mut() = Version::default();
    Ok(answer.map(|_| body::empty()))
}

/// Names the record of the decision, and says what is left of the limits.
pub(super) fn receipt(admitted: &Admitted, fields: &mut HeaderMap) {
    quota::tell(admitted.admission().charged(), fields);
    if let Ok(receipt) = HeaderValue::from_str(&admitted.admission().receipt().to_string()) {
        fields.insert(problem::RECEIPT, receipt);
    }
}

/// The earliest of the longest time of a stream, the end of the session and the end of the leaf.
pub(super) fn stream_end(admitted: &Admitted, longest: Instant) -> Instant {
    let hop = admitted.admission().hop();
    let session = hop.evidence.session.as_ref().map(|session| session.ends);
    let leaf = hop.evidence.leaf().map(|leaf| leaf.not_after);
    let ends = [session, leaf].into_iter().flatten().min();
    let left = ends.and_then(|end| Instant::now().checked_add(end.since(hop.at)));
    left.map_or(longest, |end| end.min(longest))
}

fn is_event_stream(fields: &HeaderMap) -> bool {
    let kind = fields
        .get(header::CONTENT_TYPE)
        .and_then(|it| it.to_str().ok());
    let coded = fields.contains_key(header::CONTENT_ENCODING);
    !coded
        && kind.is_some_and(|it| {
            it.trim_start()
                .to_ascii_lowercase()
                .starts_with("text/event-stream")
        })
}
