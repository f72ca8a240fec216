//! What a request wants, read in exactly one way.
//!
//! A request that can be read in two ways is not guessed at: it becomes a fault, which the
//! decision refuses in the pillar of its code, with a record like any other refusal.

pub(crate) mod headers;
pub(crate) mod query;
pub(crate) mod socket;

mod host;
mod ids;
mod route;

pub(crate) use host::Host;
pub(crate) use ids::Ids;
pub(crate) use ids::NoRandomness;
pub(crate) use ids::TRACEPARENT;
pub(crate) use ids::hex;
pub(crate) use ids::random;
pub(crate) use route::ISSUER;

use crate::connected::Connected;
use countersign_core::config::ServiceUrl;
use countersign_core::hop::RequestFault;
use countersign_core::snapshot::DoorKind;
use countersign_core::snapshot::Snapshot;
use countersign_core::vocabulary::CanonicalPath;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Operation;
use countersign_core::vocabulary::clip;
use countersign_net::framing::FramingFault;
use http::HeaderName;
use http::Method;
use http::request::Parts;
use hyper::ext::Protocol;

/// What a request wants.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// Why it can't be decided on its merits.
    pub(crate) fault: Option<RequestFault>,
    /// The host all witnesses agree on, if they do.
    pub(crate) host: Option<Host>,
    /// Method and canonical path; the raw path, clipped, where it has no canonical form.
    pub(crate) operation: Operation,
    /// As it came; never matched, forwarded verbatim.
    pub(crate) query: Option<String>,
    /// The service asked for; empty where none was.
    pub(crate) service: String,
}

/// Names a request in records, upstreams and answers.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The verb of a tunnel.
pub(crate) const TUNNEL: &str = "connect";
/// Attacker-chosen text in a record has at most this many bytes.
const SHOWN: usize = 256;

impl Wanted {
    /// Reads a request.
    pub(crate) fn read(connected: &Connected, snapshot: &Snapshot, parts: &Parts) -> Self {
        let raw = parts.uri.path();
        let mut wanted = Self {
            fault: None,
            host: None,
            operation: Operation::named(clip(parts.method.as_str(), 32), clip(raw, SHOWN)),
            query: parts.uri.query().map(str::to_owned),
            service: String::new(),
        };
        let framing = parts.extensions.get::<FramingFault>();
        if let Some(fault) = framing {
            // What was sent is not here; what is here stands for it.
            wanted.operation = Operation::named("", "");
            wanted.fault = Some(fault.request_fault());
        } else if let Err((code, detail)) = wanted.follow(connected, snapshot, parts) {
            wanted.fault = Some(RequestFault { code, detail });
            // Nothing is forwarded, but a proven caller is told of the fault and not of a token
            // for no service.
            if wanted.service.is_empty() {
                wanted.service = wanted.meant(connected, snapshot);
            }
        }
        wanted
    }

    /// The service that a faulty request seems to be for.
    fn meant(&self, connected: &Connected, snapshot: &Snapshot) -> String {
        let named = connected
            .sni
            .as_deref()
            .and_then(|name| Host::parse(name).ok());
        let listener = snapshot.config().listeners.get(connected.door.as_str());
        let root = CanonicalPath::new("/").ok();
        let (Some(host), Some(listener), Some(root)) =
            (self.host.clone().or(named), listener, root)
        else {
            return String::new();
        };
        let route = match connected.kind {
            DoorKind::Browser => route::browser(snapshot, &connected.door, listener, &host, root),
            DoorKind::Mesh | DoorKind::Partner | DoorKind::Local => {
                route::mesh(snapshot, listener, &host, root)
            }
        };
        route.map(|route| route.service).unwrap_or_default()
    }

    fn follow(
        &mut self,
        connected: &Connected,
        snapshot: &Snapshot,
        parts: &Parts,
    ) -> Result<(), (Code, String)> {
        let misdirected = |error: &dyn ToString| (Code::HOST_MISDIRECTED, error.to_string());
        let ambiguous = |error: &dyn ToString| (Code::PATH_AMBIGUOUS, error.to_string());
        // The host first: it says which listener's rules the path would be read by.
        let host = Host::agreed(parts, connected.sni.as_deref()).map_err(|it| misdirected(&it))?;
        self.host = Some(host.clone());
        if connected.kind == DoorKind::Mesh && is_tunnel(parts) {
            return self.tunnel(connected, snapshot, (&host, parts));
        }
        let path = CanonicalPath::new(parts.uri.path()).map_err(|it| ambiguous(&it))?;
        path.as_str().clone_into(&mut self.operation.object);
        // Some servers end a parameter at `;` (RFC 1866 section 8.2.1), others don't.
        if self
            .query
            .as_deref()
            .is_some_and(|query| query.contains(';'))
        {
            return Err(ambiguous(&"the query has a `;`"));
        }
        let Some(listener) = snapshot.config().listeners.get(connected.door.as_str()) else {
            return Ok(());
        };
        let route = match connected.kind {
            DoorKind::Browser => route::browser(snapshot, &connected.door, listener, &host, path),
            DoorKind::Mesh | DoorKind::Partner | DoorKind::Local => {
                route::mesh(snapshot, listener, &host, path)
            }
        };
        let route = route.map_err(|it| misdirected(&it))?;
        route.path.as_str().clone_into(&mut self.operation.object);
        self.service = route.service;
        // TRACE reflects credentials (RFC 9110 section 9.3.8), CONNECT is no request to a service,
        // and a method in another case is another method to some and the same to others.
        let method = parts.method.as_str();
        let plain = method
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte == b'-');
        if !plain || matches!(method, "TRACE" | "CONNECT") {
            return Err((Code::NO_EDGE, "a method that is never forwarded".to_owned()));
        }
        Ok(())
    }

    /// A tunnel is to the service's own address and to no other: its host is the service, its port
    /// one of those that policy names for it (RFC 9110 section 9.3.6).
    fn tunnel(
        &mut self,
        connected: &Connected,
        snapshot: &Snapshot,
        (host, parts): (&Host, &Parts),
    ) -> Result<(), (Code, String)> {
        let misdirected = |error: &dyn ToString| (Code::HOST_MISDIRECTED, error.to_string());
        self.operation = Operation::named(TUNNEL, "");
        let Some(listener) = snapshot.config().listeners.get(connected.door.as_str()) else {
            return Ok(());
        };
        let root = CanonicalPath::new("/").map_err(|it| misdirected(&it))?;
        let route = route::mesh(snapshot, listener, host, root).map_err(|it| misdirected(&it))?;
        let service = snapshot.service(&route.service);
        self.service = route.service;
        let port = parts.uri.port_u16();
        let ports = service
            .into_iter()
            .flat_map(|it| &it.urls)
            .map(|url| match url {
                ServiceUrl::Https { port, .. } | ServiceUrl::Http { port, .. } => Some(*port),
                _ => None,
            });
        // A service that is not there is refused like a missing edge, below.
        let mut ports = ports.peekable();
        if ports.peek().is_some() && !ports.any(|it| it.is_some() && it == port) {
            // Told from no edge, it would tell where services listen to who has none.
            let detail = "the port is not one of the service".to_owned();
            return Err((Code::NO_EDGE, detail));
        }
        Ok(())
    }
}

/// Whether this is CONNECT as HTTP/1.1 has it, and not the opening of some other protocol.
fn is_tunnel(parts: &Parts) -> bool {
    parts.method == Method::CONNECT
        && parts.uri.scheme().is_none()
        && parts.extensions.get::<Protocol>().is_none()
}
