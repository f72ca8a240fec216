//! Where admitted requests go: a file for each kind of upstream.
//!
//! A kind says what headers its upstreams get ([`Dressed`]) and what they may not say back. All
//! else is here: the target and path of the admission, the connection, time, and what ends a hop.

mod credential;
mod pool;
mod service;
mod third_party;
mod tunnel;

use crate::body;
use crate::body::Body;
use crate::body::Downlink;
use crate::body::Held;
use crate::body::Meter;
use crate::body::Uplink;
use crate::body::UplinkFault;
use crate::body::Watch;
use crate::connected::Connected;
use crate::place::Place;
use crate::plane::Plane;
use crate::refuse::Failure;
use crate::refuse::Stop;
use crate::request::Host;
use crate::request::Ids;
use crate::request::headers;
use countersign_core::config::PeerKind;
use countersign_core::config::Service;
use countersign_core::config::ServiceUrl;
use countersign_core::pillars::audit::Admission;
use countersign_core::record::Ending;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::SpiffeId;
use countersign_enforce::Admitted;
use countersign_net::ConnectError;
use countersign_net::Connector;
use countersign_net::PublicRoots;
use countersign_net::Roots;
use countersign_net::SigningKey;
use countersign_net::SvidSource;
use countersign_net::dial::Network;
use countersign_net::dial::Target;
use countersign_net::problem;
use credential::Credentials;
use hashbrown::HashMap;
use http::HeaderMap;
use http::HeaderValue;
use http::Method;
use http::Request;
use http::Response;
use http::StatusCode;
use http::Version;
use http::header;
use http::request::Parts;
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use parking_lot::Mutex;
use pool::Pool;
use pool::SendError;
use pool::Tls;
use secrecy::SecretString;
use std::sync::Arc;
use std::time::Duration;
use third_party::Injected;
use tokio::time::Instant;

/// The upstreams of a gateway.
#[derive(Debug)]
pub(crate) struct Upstreams {
    /// Signs "this hop was decided".
    assertions: SigningKey,
    credentials: Credentials,
    known: Mutex<HashMap<Name, Arc<Upstream>>>,
    public: PublicRoots,
    roots: Arc<Roots>,
    svid: Arc<SvidSource>,
}

/// An admitted request on its way.
pub(crate) struct Call<'a> {
    pub(crate) admitted: Admitted,
    pub(crate) body: Held,
    pub(crate) connected: &'a Connected,
    pub(crate) host: Option<Host>,
    /// How long the caller may be silent.
    pub(crate) idle: Duration,
    pub(crate) ids: Ids,
    pub(crate) parts: Parts,
    pub(crate) query: Option<String>,
    pub(crate) plane: &'a Plane,
    /// What the caller showed, or what was drawn from its session.
    pub(crate) token: Option<SecretString>,
    pub(crate) upstreams: &'a Upstreams,
}

/// The headers of a request as an upstream gets them.
struct Dressed {
    fields: HeaderMap,
    /// The credential among them.
    leak: Option<Injected>,
}

/// One upstream as one revision describes it.
#[derive(Debug)]
struct Upstream {
    service: Service,
    pool: Pool,
}

/// A request ready to be sent, and what is needed for its answer.
struct Ready {
    fault: Arc<Mutex<Option<UplinkFault>>>,
    leak: Option<Injected>,
    request: Request<Body>,
    /// The caller's half of a connection that is to become a WebSocket.
    websocket: Option<OnUpgrade>,
}

impl Upstreams {
    /// Starts with no connections.
    pub(crate) fn new(
        assertions: SigningKey,
        public: PublicRoots,
        roots: Arc<Roots>,
        svid: Arc<SvidSource>,
    ) -> Self {
        let (credentials, known) = (Credentials::default(), Mutex::default());
        Self {
            assertions,
            credentials,
            known,
            public,
            roots,
            svid,
        }
    }

    /// The upstream of a service as the admission's revision describes it.
    fn of(&self, admission: &Admission) -> Option<Arc<Upstream>> {
        let service = admission.service()?;
        let (name, _) = admission
            .snapshot()
            .config()
            .services
            .get_key_value(admission.hop().service.as_str())?;
        let mut known = self.known.lock();
        if let Some(upstream) = known.get(name).filter(|it| it.service == *service) {
            return Some(upstream.clone());
        }
        let pool = self
            .pool(service, admission)
            .inspect_err(|error| tracing::error!(%error, service = %name, "no way to an upstream"))
            .ok()??;
        let upstream = Arc::new(Upstream {
            service: service.clone(),
            pool,
        });
        known.insert(name.clone(), upstream.clone());
        Some(upstream)
    }

    fn pool(&self, service: &Service, admission: &Admission) -> Result<Option<Pool>, ConnectError> {
        let (host, port, network) = match service.url() {
            Some(ServiceUrl::Https { host, port, .. }) if service.private_network => {
                (host, *port, Network::Private)
            }
            Some(ServiceUrl::Https { host, port, .. }) => (host, *port, Network::Public),
            Some(ServiceUrl::Http { host, port, .. }) => (host, *port, Network::Loopback),
            _ => return Ok(None),
        };
        let plain = matches!(service.url(), Some(ServiceUrl::Http { .. }));
        let connector = || match service.peer {
            PeerKind::Service => {
                let domain = &admission.snapshot().config().trust_domain;
                let expected = SpiffeId::of_identity(domain, &service.identity);
                Connector::mutual(self.svid.clone(), self.roots.clone(), expected)
            }
            _ => Connector::public(&self.public),
        };
        let tls = if plain {
            None
        } else {
            let http1 = connector()?.with_alpn(&["http/1.1"])?;
            Some(Tls {
                connector: connector()?,
                http1,
                name: host.clone(),
            })
        };
        let shown = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.clone()
        };
        let default = if plain { 80 } else { 443 };
        let authority = if port == default {
            shown
        } else {
            format!("{shown}:{port}")
        };
        let target = Target {
            host: host.clone(),
            network,
            port,
        };
        Ok(Some(Pool::new(authority, target, tls)))
    }
}

/// Forwards an admitted request and passes on its answer.
pub(crate) async fn forward(call: Call<'_>) -> Result<Response<Body>, Stop> {
    let (admitted, point, upstreams) = (call.admitted.clone(), &call.plane.point, call.upstreams);
    let (place, started) = (&call.connected.place, Instant::now());
    let Some(upstream) = upstreams.of(admitted.admission()) else {
        return Err(failed(&admitted, Failure::Upstream));
    };
    let deadline = started + upstream.service.timeout;
    let ready = tokio::time::timeout_at(deadline, dress(&upstream, call)).await;
    let Ready {
        fault,
        leak,
        request,
        websocket,
    } = match ready {
        Ok(Ok(ready)) => ready,
        Ok(Err(failure)) => return Err(failed(&admitted, failure)),
        Err(_elapsed) => return Err(failed(&admitted, Failure::TimedOut)),
    };
    let (method, place) = (request.method().clone(), place.clone());
    let revocations = point.state().revocations;
    let sent = async {
        let pool = &upstream.pool;
        if websocket.is_some() {
            pool.upgrade(request, deadline, &revocations).await
        } else {
            pool.send(request, deadline, point.now(), &revocations)
                .await
        }
    };
    let answer = tokio::select! {
        biased;
        code = admitted.cut().wait() => return Err(cut(&admitted, code)),
        sent = tokio::time::timeout_at(deadline, sent) => sent,
    };
    match answer {
        Ok(Ok(mut answer)) => {
            let switched = bare(&mut answer);
            let unauthorized = answer.status() == StatusCode::UNAUTHORIZED;
            if let Some(injected) = leak.as_ref().filter(|_| unauthorized) {
                upstreams.credentials.forget(injected.secret());
            }
            let longest = started + upstream.service.max_stream;
            pass_on(
                &admitted,
                &upstream.service,
                answer,
                Passing {
                    leak,
                    longest,
                    method,
                    place,
                    websocket: websocket.map(|caller| (caller, switched)),
                },
            )
        }
        Ok(Err(error)) => Err(broken(&admitted, &error, *fault.lock())),
        Err(_elapsed) => Err(failed(&admitted, Failure::TimedOut)),
    }
}

/// The upstream's half of a switch of protocols. hyper keeps the upstream's reason phrase beside it
/// and would write it to the caller, past all that is looked for in fields and bodies.
fn bare(answer: &mut Response<Incoming>) -> OnUpgrade {
    let switched = hyper::upgrade::on(&mut *answer);
    answer.extensions_mut().clear();
    switched
}

/// The request as its upstream gets it: target from the admission, headers from its kind.
async fn dress(upstream: &Upstream, mut call: Call<'_>) -> Result<Ready, Failure> {
    let service = &upstream.service;
    let websocket = websocket(service, &mut call.parts);
    let mut dressed = match service.peer {
        PeerKind::Service => service::dress(&call)?,
        PeerKind::ThirdParty => third_party::dress(service, &call).await?,
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
    let operation = &call.admitted.admission().hop().operation;
    let mut target = match service.url() {
        Some(ServiceUrl::Https { base, .. } | ServiceUrl::Http { base, .. }) => base.clone(),
        _ => String::new(),
    };
    target.push_str(&operation.object);
    if let Some(query) = &call.query {
        target.push('?');
        target.push_str(query);
    }
    let method = Method::from_bytes(operation.verb.as_bytes()).map_err(|_| Failure::Upstream)?;
    let fault = Arc::default();
    let body = match call.body {
        Held::Whole(kept) => {
            call.admitted.received(kept.bytes.len() as u64);
            call.admitted.committed(kept.commitment);
            kept.into_body()
        }
        Held::Streaming(body) if body.is_end_stream() => body::empty(),
        Held::Streaming(body) => {
            Uplink::new(body, call.admitted, call.idle, Arc::clone(&fault)).boxed_unsync()
        }
    };
    let request = Request::builder().method(method).uri(target).body(body);
    let mut request = request.map_err(|_| Failure::Upstream)?;
    *request.headers_mut() = dressed.fields;
    Ok(Ready {
        fault,
        leak: dressed.leak,
        request,
        websocket,
    })
}

/// The caller's half of a WebSocket, if this asks for one (RFC 6455 section 4.1).
fn websocket(service: &Service, parts: &mut Parts) -> Option<OnUpgrade> {
    let only = |name| {
        let mut values = parts.headers.get_all(name).iter();
        values
            .next()
            .filter(|_| values.next().is_none())?
            .to_str()
            .ok()
    };
    let asked = service.peer == PeerKind::Service
        && parts.method == Method::GET
        && parts.version == Version::HTTP_11
        && only(header::UPGRADE).is_some_and(|it| it.eq_ignore_ascii_case("websocket"))
        && only(header::SEC_WEBSOCKET_VERSION) == Some("13")
        && parts.headers.contains_key(header::SEC_WEBSOCKET_KEY);
    asked
        .then(|| parts.extensions.remove::<OnUpgrade>())
        .flatten()
}

/// What an answer is passed on with.
struct Passing {
    leak: Option<Injected>,
    longest: Instant,
    method: Method,
    place: Arc<Place>,
    /// The caller's half and the upstream's.
    websocket: Option<(OnUpgrade, OnUpgrade)>,
}

fn pass_on(
    admitted: &Admitted,
    service: &Service,
    mut answer: Response<Incoming>,
    passing: Passing,
) -> Result<Response<Body>, Stop> {
    let Passing {
        leak,
        longest,
        method,
        place,
        websocket,
    } = passing;
    let deadline = stream_end(admitted, longest);
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return switch(admitted, answer, websocket, (deadline, place));
    }
    headers::from_upstream(answer.headers_mut());
    match service.peer {
        PeerKind::ThirdParty => third_party::undress(answer.headers_mut()),
        _ => service::undress(answer.headers_mut()),
    }
    if let Some(Injected {
        needle: Some(needle),
        alarm,
    }) = &leak
    {
        if needle.within(answer.headers()) {
            alarm.raise();
            admitted.ended(Ending::Cut);
            return Err(failed(admitted, Failure::Upstream));
        }
        if !third_party::is_plain(answer.headers()) && method != Method::HEAD {
            tracing::warn!(receipt = %admitted.admission().receipt(), "an answer in a coding that was not asked for");
            return Err(failed(admitted, Failure::Upstream));
        }
    }
    let status = answer.status();
    admitted.answered(status.as_u16());
    let events = is_event_stream(answer.headers());
    if events {
        admitted.mark_stream();
    }
    let watch = Watch {
        events: events && !answer.headers().contains_key(header::CONTENT_LENGTH),
        leak: leak.and_then(|Injected { needle, alarm }| {
            let alarm: Box<dyn Fn() + Send> = Box::new(move || alarm.raise());
            Some((needle?, alarm))
        }),
        meter: Meter::of(admitted.admission(), events).filter(|_| status.is_success()),
    };
    receipt(admitted, answer.headers_mut());
    let (parts, body) = answer.into_parts();
    let body = Downlink::new(body, admitted.clone(), deadline, watch, place);
    Ok(Response::from_parts(parts, body.boxed_unsync()))
}

/// Becomes a WebSocket, if that is what was asked for: an answer out of turn would make of a
/// request a tunnel that nobody decided.
fn switch(
    admitted: &Admitted,
    mut answer: Response<Incoming>,
    websocket: Option<(OnUpgrade, OnUpgrade)>,
    (deadline, place): (Instant, Arc<Place>),
) -> Result<Response<Body>, Stop> {
    let websocket = websocket.filter(|_| {
        let protocol = answer.headers().get(header::UPGRADE);
        protocol.is_some_and(|it| it.as_bytes().eq_ignore_ascii_case(b"websocket"))
    });
    let Some((caller, upstream)) = websocket else {
        return Err(failed(admitted, Failure::Upstream));
    };
    headers::from_upstream(answer.headers_mut());
    service::undress(answer.headers_mut());
    let fields = answer.headers_mut();
    fields.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    fields.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    receipt(admitted, fields);
    admitted.mark_stream();
    admitted.answered(StatusCode::SWITCHING_PROTOCOLS.as_u16());
    tokio::spawn(tunnel::run(
        caller,
        upstream,
        admitted.clone(),
        (deadline, place),
    ));
    Ok(answer.map(|_| body::empty()))
}

fn receipt(admitted: &Admitted, fields: &mut HeaderMap) {
    if let Ok(receipt) = HeaderValue::from_str(&admitted.admission().receipt().to_string()) {
        fields.insert(problem::RECEIPT, receipt);
    }
}

/// The earliest of the longest time of a stream, the end of the session and the end of the leaf.
fn stream_end(admitted: &Admitted, longest: Instant) -> Instant {
    let hop = admitted.admission().hop();
    let session = hop.evidence.session.as_ref().map(|session| session.ends);
    let leaf = hop.evidence.certificate().map(|leaf| leaf.not_after);
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

fn failed(admitted: &Admitted, failure: Failure) -> Stop {
    let status = if failure == Failure::TimedOut {
        504
    } else {
        502
    };
    admitted.answered(status);
    admitted.ended(Ending::UpstreamFailed);
    Stop::Failed {
        failure,
        receipt: Some(admitted.admission().receipt().to_string()),
    }
}

fn cut(admitted: &Admitted, code: Code) -> Stop {
    admitted.answered(code.status());
    admitted.ended(Ending::Cut);
    Stop::Refused {
        code,
        model: admitted.admission().hop().facts.model.is_some(),
        receipt: Some(admitted.admission().receipt().to_string()),
        retry_after: None,
    }
}

/// The exchange broke: because of the caller's body, or behind us.
fn broken(admitted: &Admitted, error: &SendError, fault: Option<UplinkFault>) -> Stop {
    let receipt = admitted.admission().receipt();
    match fault {
        Some(UplinkFault::TooLarge) => cut(admitted, Code::BODY_TOO_LARGE),
        Some(UplinkFault::Aborted) => {
            admitted.ended(Ending::Aborted);
            failed(admitted, Failure::TimedOut)
        }
        None => {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            tracing::warn!(%error, cause, %receipt, "an upstream failed");
            failed(admitted, Failure::Upstream)
        }
    }
}
