//! Where admitted requests go: a file for each kind of upstream.
//!
//! A kind says what headers its upstreams get ([`Dressed`]) and what they may not say back. All
//! else is here: which of a service's addresses is called (`endpoints`, `circuit`, `probe`), what is
//! sent again (`attempts`), the target and path of the admission, the connection, time, and what
//! ends a hop.

mod answer;
mod attempts;
mod circuit;
mod credential;
mod endpoints;
mod pool;
mod probe;
mod ready;
mod service;
mod third_party;
mod tunnel;

use crate::body::Body;
use crate::body::Held;
use crate::body::UplinkFault;
use crate::connected::Connected;
use crate::grpc;
use crate::plane::Plane;
use crate::refuse::Failure;
use crate::refuse::Stop;
use crate::request::Host;
use crate::request::Ids;
use crate::request::TUNNEL;
use answer::Passing;
use attempts::Sending;
use countersign_core::config::PeerKind;
use countersign_core::config::Service;
use countersign_core::config::ServiceUrl;
use countersign_core::pillars::audit::Admission;
use countersign_core::record::Ending;
use countersign_core::snapshot::Snapshot;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::SpiffeId;
use countersign_enforce::Admitted;
use countersign_enforce::EnforcementPoint;
use countersign_net::ConnectError;
use countersign_net::Connector;
use countersign_net::PublicRoots;
use countersign_net::Roots;
use countersign_net::SigningKey;
use countersign_net::SvidSource;
use countersign_net::dial::Network;
use countersign_net::dial::Target;
use credential::Credentials;
use endpoints::Endpoints;
use endpoints::Lease;
use endpoints::NoneLeft;
use hashbrown::HashMap;
use http::HeaderMap;
use http::HeaderValue;
use http::Response;
use http::StatusCode;
use http::request::Parts;
use parking_lot::Mutex;
use pool::Pool;
use pool::Reach;
use pool::SendError;
use pool::Tls;
use ready::Ready;
use std::pin::pin;
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
    pub(crate) ids: Arc<Ids>,
    pub(crate) parts: Parts,
    pub(crate) query: Option<String>,
    pub(crate) plane: &'a Plane,
    /// `Authorization` with what the caller showed, or what was drawn from its session.
    pub(crate) token: Option<HeaderValue>,
    pub(crate) upstreams: &'a Upstreams,
}

/// Marks an answer whose body is an upstream's, and has its time: among the answer's extensions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Relayed;

/// The headers of a request as an upstream gets them.
struct Dressed {
    fields: HeaderMap,
    /// The credential among them.
    leak: Option<Injected>,
}

/// One upstream as one revision describes it.
#[derive(Debug)]
struct Upstream {
    endpoints: Endpoints,
    service: Service,
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

    /// Has what is to be probed probed from now on, as the policy in force has it: an address that
    /// is not well is known before anybody is sent there.
    pub(crate) fn watch(&self, point: &EnforcementPoint) {
        let snapshot = point.snapshot();
        let services = snapshot.config().services.iter();
        for (name, service) in services.filter(|(_, it)| it.health.is_some()) {
            let _ = self.known_as(name, service, &snapshot, point);
        }
    }

    /// The upstream of a service as the admission's revision describes it.
    fn of(&self, admission: &Admission, point: &EnforcementPoint) -> Option<Arc<Upstream>> {
        let service = admission.service()?;
        let snapshot = admission.snapshot();
        let services = &snapshot.config().services;
        let (name, _) = services.get_key_value(admission.hop().service.as_str())?;
        self.known_as(name, service, snapshot, point)
    }

    /// The upstream as `snapshot` describes it, with the connections that it has.
    fn known_as(
        &self,
        name: &Name,
        service: &Service,
        snapshot: &Snapshot,
        point: &EnforcementPoint,
    ) -> Option<Arc<Upstream>> {
        let same = |known: &HashMap<Name, Arc<Upstream>>| {
            let found = known.get(name).filter(|it| it.service == *service);
            found.cloned()
        };
        let found = same(&self.known.lock());
        if found.is_some() {
            return found;
        }
        // Keys are read and configurations made here, which nobody else is to wait for.
        let pools = service.urls.iter();
        let pools = pools
            .filter_map(|url| self.pool(service, url, snapshot).transpose())
            .collect::<Result<Vec<Pool>, ConnectError>>()
            .inspect_err(|error| tracing::error!(%error, service = %name, "no way to an upstream"))
            .ok()
            .filter(|pools| !pools.is_empty())?;
        let upstream = Arc::new(Upstream {
            endpoints: Endpoints::new(pools, service.balance),
            service: service.clone(),
        });
        let mut known = self.known.lock();
        if let Some(first) = same(&known) {
            return Some(first);
        }
        // What policy no longer names is not kept, nor probed.
        let in_force = point.snapshot();
        let services = &in_force.config().services;
        known.retain(|name, it| services.get(name) == Some(&it.service));
        if services.get(name.as_str()) == Some(service) {
            known.insert(name.clone(), upstream.clone());
            drop(known);
            probe::start(&upstream, name, point);
        }
        Some(upstream)
    }

    fn pool(
        &self,
        service: &Service,
        url: &ServiceUrl,
        snapshot: &Snapshot,
    ) -> Result<Option<Pool>, ConnectError> {
        let (host, port, base, network) = match url {
            ServiceUrl::Https { host, port, base } if service.private_network => {
                (host, *port, base, Network::Private)
            }
            ServiceUrl::Https { host, port, base } => (host, *port, base, Network::Public),
            ServiceUrl::Http { host, port, base } => (host, *port, base, Network::Loopback),
            ServiceUrl::Unix { path } => {
                let reach = Reach::Unix(path.into());
                let pool = Pool::new("localhost".to_owned(), String::new(), reach, None);
                return Ok(Some(pool));
            }
            _ => return Ok(None),
        };
        let plain = matches!(url, ServiceUrl::Http { .. });
        let connector = || match service.peer {
            PeerKind::Service => {
                let domain = &snapshot.config().trust_domain;
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
        let target = Target {
            host: host.clone(),
            network,
            port,
        };
        let authority = authority(host, port, if plain { 80 } else { 443 });
        let pool = Pool::new(authority, base.clone(), Reach::Tcp(target), tls);
        Ok(Some(pool))
    }
}

fn authority(host: &str, port: u16, default: u16) -> String {
    let shown = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    if port == default {
        shown
    } else {
        format!("{shown}:{port}")
    }
}

/// Forwards an admitted request and passes on its answer.
pub(crate) async fn forward(call: Box<Call<'_>>) -> Result<Response<Body>, Stop> {
    let (admitted, started) = (call.admitted.clone(), Instant::now());
    let Some(upstream) = call.upstreams.of(admitted.admission(), &call.plane.point) else {
        return Err(failed(&admitted, Failure::Upstream));
    };
    // Before anything is put into the request: nobody is there to get it.
    let lease = match upstream.lease(None) {
        Ok(lease) => lease,
        Err(NoneLeft(wait)) => return Err(failed(&admitted, Failure::NoneLeft(wait))),
    };
    let service = &upstream.service;
    // A caller of gRPC says how long it waits for all of it.
    let waits = Some(&call.parts.headers).filter(|it| grpc::is_grpc(it));
    let waits = waits.and_then(grpc::timeout).unwrap_or(service.max_stream);
    let within = Within {
        deadline: started + service.timeout.min(waits),
        longest: started + service.max_stream.min(waits),
    };
    if admitted.admission().hop().operation.verb == TUNNEL {
        Box::pin(tunnel::open(call, lease, within)).await
    } else {
        exchange(&upstream, call, lease, within).await
    }
}

/// Until when.
#[derive(Clone, Copy, Debug)]
struct Within {
    /// The head of the answer has to be there.
    deadline: Instant,
    /// The hop may be open.
    longest: Instant,
}

async fn exchange(
    upstream: &Upstream,
    call: Box<Call<'_>>,
    lease: Lease,
    Within { deadline, longest }: Within,
) -> Result<Response<Body>, Stop> {
    let (admitted, point, upstreams) = (call.admitted.clone(), &call.plane.point, call.upstreams);
    let (place, service) = (call.connected.place.clone(), &upstream.service);
    let ids = call.ids.clone();
    let mut ready = match ready::dress(service, call, deadline).await {
        Ok(ready) => ready,
        Err(failure) => return Err(failed(&admitted, failure)),
    };
    let revocations = point.state().revocations;
    let sending = Sending {
        admitted: &admitted,
        deadline,
        fault: &ready.fault,
        http2: grpc::is_grpc(&ready.outgoing.fields),
        now: point.now(),
        revocations: &revocations,
        switch: ready.websocket.is_some(),
    };
    let begun = std::time::Instant::now();
    let answer = {
        // Where it is: moved, all the room that it takes would be copied.
        let sent = pin!(upstream.send(lease, &mut ready.outgoing, &sending));
        tokio::select! {
            biased;
            code = admitted.cut().wait() => Err(code),
            sent = tokio::time::timeout_at(deadline, sent) => Ok(sent),
        }
    };
    let answer = answer.map_err(|code| cut(&admitted, code))?;
    let status = answer.as_ref().ok().and_then(|sent| sent.as_ref().ok());
    let status = status.map(|(answer, _)| answer.status().as_u16());
    ids.journey.called(begun, &admitted, status);
    match answer {
        Ok(Ok((answer, lease))) => {
            let Ready {
                caller,
                leak,
                outgoing,
                websocket,
                ..
            } = *ready;
            let unauthorized = answer.status() == StatusCode::UNAUTHORIZED;
            if let Some(injected) = leak.as_ref().filter(|_| unauthorized) {
                upstreams.credentials.forget(injected.secret());
            }
            let passing = Passing {
                caller,
                leak,
                lease,
                longest,
                method: outgoing.method,
                place,
                websocket,
            };
            answer::pass_on(&admitted, service, answer, passing)
        }
        Ok(Err(error)) => Err(broken(&admitted, &error, *ready.fault.lock())),
        Err(_elapsed) => Err(failed(&admitted, Failure::TimedOut)),
    }
}

fn failed(admitted: &Admitted, failure: Failure) -> Stop {
    admitted.answered(failure.status().as_u16());
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
        faults: Vec::new(),
        limit: None,
        model: admitted.admission().hop().facts.model.is_some(),
        receipt: Some(admitted.admission().receipt().to_string()),
        retry_after: None,
        under_way: true,
    }
}

/// The exchange broke: because of the caller's body, or behind us.
fn broken(admitted: &Admitted, error: &SendError, fault: Option<UplinkFault>) -> Stop {
    let receipt = admitted.admission().receipt();
    match fault {
        Some(UplinkFault::TooLarge) => cut(admitted, Code::BODY_TOO_LARGE),
        Some(UplinkFault::Aborted) => failed(admitted, Failure::TimedOut),
        None => {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            tracing::warn!(%error, cause, %receipt, "an upstream failed");
            let failure = if error.is_late() {
                Failure::TimedOut
            } else {
                Failure::Upstream
            };
            failed(admitted, failure)
        }
    }
}
