//! The server's own port: mTLS only, HTTP/1.1 and HTTP/2. Issuer, vault and control plane.
//!
//! A handshake that fails is decided and recorded like a request; a path that does not exist is an
//! operation that no edge leads to.

mod connection;
mod control;
mod join;
mod kv;
mod messages;

pub(crate) use join::JoinDoor;
pub(crate) use messages::Body;
pub(crate) use messages::BodyFault;
pub(crate) use messages::full;
pub(crate) use messages::json;
pub(crate) use messages::read_body;
pub(crate) use messages::refusal;

use crate::control::Plane;
use crate::ids::request_id;
use crate::issuer;
use crate::issuer::Issuer;
use connection::Limits;
use countersign_core::hop;
use countersign_core::hop::Evidence;
use countersign_core::hop::Facts;
use countersign_core::hop::RequestFault;
use countersign_core::hop::Tls;
use countersign_core::record::Context;
use countersign_core::record::Ending;
use countersign_core::vocabulary::CanonicalPath;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::Operation;
use countersign_core::vocabulary::SpiffeId;
use countersign_core::vocabulary::clip;
use countersign_enforce::Ask;
use countersign_enforce::EachSecond;
use countersign_net::Acceptor;
use countersign_net::Established;
use countersign_net::framing::FramingFault;
use countersign_net::places::Places;
use countersign_net::problem::Format;
use countersign_net::token::Presenter;
use countersign_wire::control::IssuerRequest;
use countersign_wire::control::IssuerResponse;
use http::HeaderMap;
use http::HeaderValue;
use http::Method;
use http::Request;
use http::Response;
use http::StatusCode;
use http::Version;
use http::header;
use http::uri::Scheme;
use hyper::body::Incoming;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

static FULL: EachSecond = EachSecond::new();
static IDENTITY_FULL: EachSecond = EachSecond::new();
static NETWORK_FULL: EachSecond = EachSecond::new();

/// The door and what is behind it.
pub(crate) struct Front {
    acceptor: Acceptor,
    door: Name,
    identities: Arc<Places<SpiffeId>>,
    networks: Arc<Places<IpAddr>>,
    plane: Arc<Plane>,
}

/// A connection whose peer was verified.
struct Peer {
    address: SocketAddr,
    established: Established,
}

const CONNECTIONS: usize = 10_000;
/// Of these for one network, so that none of them takes all.
const PER_NETWORK: usize = 2_000;
/// And for one identity, all of its replicas together: each needs one or two.
const PER_IDENTITY: usize = 1_000;
/// A connection that proves nothing has its place for so long.
const HANDSHAKE: Duration = Duration::from_secs(5);
const LIMITS: Limits = Limits {
    header: 32 * 1024,
    header_time: Duration::from_secs(10),
    idle: Duration::from_secs(300),
    keep: true,
    streams: 100,
};
/// How long connections may take to end what they do.
const DRAIN: Duration = Duration::from_secs(10);

impl Front {
    pub(crate) fn new(acceptor: Acceptor, plane: Arc<Plane>) -> Arc<Self> {
        Arc::new(Self {
            acceptor,
            door: Name::control(),
            identities: Places::new(),
            networks: Places::new(),
            plane,
        })
    }

    /// Serves until told to stop, then lets what is under way end.
    pub(crate) async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut connections = JoinSet::new();
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                () = stopped(&mut stop) => break,
                accepted = listener.accept() => accepted,
            };
            while connections.try_join_next().is_some() {}
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, most likely: the next attempt would fail as well.
                    tracing::warn!(%error, "can't accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            // Beyond the cap nobody waits in the kernel's queue for a place: it is closed at once.
            let Ok(slot) = slots.clone().try_acquire_owned() else {
                if let Some(untold) = FULL.tell() {
                    tracing::warn!(%address, untold, "too many connections");
                }
                drop(stream);
                continue;
            };
            let network = countersign_enforce::network(address.ip());
            let Some(place) = self.networks.enter(network, PER_NETWORK) else {
                if let Some(untold) = NETWORK_FULL.tell() {
                    tracing::warn!(%address, untold, "too many connections from one network");
                }
                drop(stream);
                continue;
            };
            let (front, stop) = (self.clone(), stop.clone());
            connections.spawn(async move {
                front.connection(stream, address, stop).await;
                drop((slot, place));
            });
        }
        drop(listener);
        let drained = async { while connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(DRAIN, drained).await;
    }

    async fn connection(
        self: Arc<Self>,
        stream: TcpStream,
        address: SocketAddr,
        mut stop: watch::Receiver<bool>,
    ) {
        // Small answers are not worth waiting for more of.
        let _ = stream.set_nodelay(true);
        let deadline = Instant::now() + HANDSHAKE;
        let (stream, established) = match self.acceptor.accept(stream, deadline).await {
            Ok(accepted) => accepted,
            Err(refused) => {
                tracing::debug!(%address, detail = refused.detail, "a handshake was refused");
                let (tls, peer) = (refused.tls, refused.peer);
                return self.unanswered(address, tls, peer, None).await;
            }
        };
        let identity = identity(&established.peer);
        let held = identity.map(|identity| self.identities.enter(identity, PER_IDENTITY));
        let Some(_held) = held.map_or(Some(None), |held| held.map(Some)) else {
            if let Some(untold) = IDENTITY_FULL.tell() {
                tracing::warn!(%address, untold, "too many connections of one identity");
            }
            return;
        };
        let http2 = established.alpn.as_deref() == Some(b"h2");
        let peer = Arc::new(Peer {
            address,
            established,
        });
        let answer = {
            let (front, peer) = (self.clone(), peer.clone());
            move |request, fault| {
                let (front, peer) = (front.clone(), peer.clone());
                async move { front.answer(request, fault, &peer).await }
            }
        };
        let stop = async move { stopped(&mut stop).await };
        if let Some(flood) = connection::serve(stream, http2, LIMITS, answer, stop).await {
            let fault = RequestFault {
                code: Code::CONNECTION_FLOOD,
                detail: flood,
            };
            let (tls, peer) = (peer.established.tls.clone(), peer.established.peer.clone());
            self.unanswered(address, tls, peer, Some(fault)).await;
        }
    }

    /// Nobody is there to be answered any more; the decision is for the record.
    async fn unanswered(
        &self,
        address: SocketAddr,
        tls: Tls,
        peer: hop::Peer,
        fault: Option<RequestFault>,
    ) {
        let mut evidence = Evidence::none();
        evidence.tls = tls;
        evidence.peer = peer;
        let id = request_id();
        let context = Context {
            request_id: &id,
            source_ip: Some(address.ip()),
            ..Context::default()
        };
        let ask = Ask {
            door: self.door.clone(),
            service: String::new(),
            operation: Operation::named("connect", ""),
            evidence,
            facts: Facts {
                fault,
                ..Facts::default()
            },
            context,
        };
        if let Err(refusal) = self.plane.point.enforce(ask).await {
            tracing::debug!(code = %refusal.code, "a connection was refused");
        }
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        fault: Option<FramingFault>,
        peer: &Peer,
    ) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let id = request_id();
        let call = Call {
            id: &id,
            parts: &parts,
            peer,
        };
        let fault = fault.map(FramingFault::request_fault);
        if let Some(fault) = fault.or_else(|| host_fault(&parts)) {
            return self.ambiguous(&call, fault).await;
        }
        let path = parts.uri.path();
        if path == "/livez" && parts.method == Method::GET {
            return json(StatusCode::OK, &serde_json::json!({ "live": true }));
        }
        if Issuer::serves(path) {
            return self.issuer(&call, body).await;
        }
        if path.starts_with(kv::PREFIX) {
            return self.kv(&call, body).await;
        }
        match path.strip_prefix(control::PREFIX) {
            Some(what) if parts.method == Method::POST => self.control(&call, what, body).await,
            _ => self.unknown(&call).await,
        }
    }

    async fn issuer(&self, call: &Call<'_>, body: Incoming) -> Response<Body> {
        let read = match call.parts.method {
            Method::POST => read_body(body, issuer::BODY).await,
            _ => Ok(bytes::Bytes::new()),
        };
        let form = call.header(header::CONTENT_TYPE).map(media_type);
        let broken = match &read {
            Err(fault) => Some(fault.text()),
            Ok(_) if call.parts.method != Method::POST => None,
            Ok(_) if form != Some("application/x-www-form-urlencoded") => {
                Some("the body is not `application/x-www-form-urlencoded`")
            }
            Ok(_) => None,
        };
        let request = IssuerRequest {
            body: read.as_deref().unwrap_or_default(),
            chain: &[],
            context: call.context(),
            door: &self.door,
            evidence: call.evidence(),
            method: call.parts.method.as_str(),
            path: call.parts.uri.path(),
        };
        let mut response = self.plane.issuer.serve_form(request, broken).await;
        if matches!(read, Err(BodyFault::TooLarge)) && response.status == 400 {
            response.status = 413;
        }
        issued(response, call.parts.method == Method::HEAD)
    }

    /// What was sent has no single reading, and may not even be here.
    async fn ambiguous(&self, call: &Call<'_>, fault: RequestFault) -> Response<Body> {
        let ask = Ask {
            door: self.door.clone(),
            service: String::new(),
            operation: Operation::named("", ""),
            evidence: call.evidence(),
            facts: Facts {
                fault: Some(fault),
                ..Facts::default()
            },
            context: call.context(),
        };
        match self.plane.point.enforce(ask).await {
            Err(refused) => {
                let mut response = refusal(&refused, Format::Problem);
                if call.parts.version < Version::HTTP_2 {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(header::CONNECTION, close);
                }
                response
            }
            // A fault is never admitted.
            Ok(admitted) => {
                admitted.answered(400);
                admitted.ended(Ending::Done);
                json(
                    StatusCode::BAD_REQUEST,
                    &serde_json::json!({ "status": 400 }),
                )
            }
        }
    }

    /// What does not exist is refused like what is not allowed.
    async fn unknown(&self, call: &Call<'_>) -> Response<Body> {
        let method = clip(call.parts.method.as_str(), 64);
        let path = call.parts.uri.path();
        let (operation, fault) = match CanonicalPath::new(path) {
            Ok(path) => (Operation::http(method, &path), None),
            Err(error) => {
                let fault = RequestFault {
                    code: Code::PATH_AMBIGUOUS,
                    detail: error.to_string(),
                };
                (Operation::named(method, ""), Some(fault))
            }
        };
        let mut evidence = call.evidence();
        evidence.token = self.plane.issuer.verifier().verify(
            call.headers()
                .get_all(header::AUTHORIZATION)
                .iter()
                .map(HeaderValue::as_bytes),
            call.presenter(),
            self.plane.point.now(),
        );
        let ask = Ask {
            door: self.door.clone(),
            service: String::new(),
            operation,
            evidence,
            facts: Facts {
                fault,
                ..Facts::default()
            },
            context: call.context(),
        };
        match self.plane.point.enforce(ask).await {
            Err(refused) => refusal(&refused, Format::Problem),
            Ok(admitted) => {
                admitted.answered(404);
                admitted.ended(Ending::Done);
                json(StatusCode::NOT_FOUND, &serde_json::json!({ "status": 404 }))
            }
        }
    }
}

/// A request on its connection.
struct Call<'a> {
    id: &'a str,
    parts: &'a http::request::Parts,
    peer: &'a Peer,
}

impl Call<'_> {
    fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    fn header(&self, name: http::HeaderName) -> Option<&str> {
        self.headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    }

    fn context(&self) -> Context<'_> {
        Context {
            request_id: self.id,
            source_ip: Some(self.peer.address.ip()),
            trace_id: self.headers().get("traceparent").and_then(trace_id),
            user_agent: self.header(header::USER_AGENT),
        }
    }

    /// Who pays for tokens that prove nothing.
    fn presenter(&self) -> Presenter {
        let network = countersign_enforce::network(self.peer.address.ip());
        Presenter::of(&self.evidence(), Some(network))
    }

    /// What the handshake proved; the token is whoever's who looks at it.
    fn evidence(&self) -> Evidence {
        let mut evidence = Evidence::none();
        evidence.tls = self.peer.established.tls.clone();
        evidence.peer = self.peer.established.peer.clone();
        evidence
    }
}

/// Who is at the other end, if a certificate says so.
fn identity(peer: &hop::Peer) -> Option<SpiffeId> {
    match peer {
        hop::Peer::Certificate(certificate) => Some(certificate.spiffe_id.clone()),
        _ => None,
    }
}

/// One `Host`, or one `:authority` (RFC 9112 section 3.2, RFC 9113 section 8.3.1); which one does
/// not matter here, where there is no other host. And no scheme but that of the connection (RFC
/// 9110 section 7.4).
fn host_fault(parts: &http::request::Parts) -> Option<RequestFault> {
    let hosts = parts.headers.get_all(header::HOST).iter().count();
    let authority = parts.uri.authority().is_some() && parts.version >= Version::HTTP_2;
    let alone = hosts == 1 || (hosts == 0 && authority);
    let https = parts.uri.scheme().is_none_or(|it| *it == Scheme::HTTPS);
    let detail = match (alone, https) {
        (true, true) => return None,
        (false, _) => format!("{hosts} hosts"),
        (true, false) => "the scheme is not `https`".to_owned(),
    };
    Some(RequestFault {
        code: Code::MESSAGE_AMBIGUOUS,
        detail,
    })
}

/// Done when the server is told to stop, or is gone.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// The trace id of a W3C `traceparent`.
fn trace_id(value: &HeaderValue) -> Option<&str> {
    let id = value.to_str().ok()?.split('-').nth(1)?;
    let good = id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    good.then_some(id)
}

fn media_type(value: &str) -> &str {
    value.split(';').next().unwrap_or_default().trim()
}

fn issued(answer: IssuerResponse, head: bool) -> Response<Body> {
    let body = if head { Vec::new() } else { answer.body };
    let mut response = Response::new(full(body));
    *response.status_mut() =
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    for (name, value) in answer.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    response
}
