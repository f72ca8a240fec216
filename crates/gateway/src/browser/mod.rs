//! Browser doors: sessions, sign-in, and what a browser must be told.

pub(crate) mod cookies;

mod login;
mod origin;
mod session;

pub(crate) use origin::same_origin;
pub(crate) use session::Sessions;
pub(crate) use session::session;

use crate::body;
use crate::body::Body;
use crate::connected::Connected;
use crate::plane::Plane;
use crate::refuse::Stop;
use crate::request::Wanted;
use countersign_core::config::Listener;
use countersign_core::config::Login;
use countersign_core::record::Context;
use countersign_core::snapshot::DoorKind;
use countersign_core::snapshot::Snapshot;
use countersign_core::vocabulary::Code;
use countersign_enforce::Refusal;
use countersign_net::problem;
use http::HeaderMap;
use http::HeaderValue;
use http::Method;
use http::Response;
use http::StatusCode;
use http::header;
use http::request::Parts;
use hyper::body::Incoming;

/// Paths under this are ours at every browser door, and are never forwarded.
const OURS: &str = "/.countersign/";

/// A request at a browser door.
pub(crate) struct Visit<'a> {
    pub(crate) connected: &'a Connected,
    pub(crate) context: Context<'a>,
    pub(crate) parts: &'a Parts,
    pub(crate) plane: &'a Plane,
    pub(crate) sessions: &'a Sessions,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) wanted: &'a Wanted,
}

/// Serves our own pages. Gives the body back for anything else.
pub(crate) async fn ours(visit: &Visit<'_>, body: Incoming) -> Result<Incoming, Stop> {
    let path = visit.wanted.operation.object.as_str();
    if !path.starts_with(OURS) {
        return Ok(body);
    }
    let response = match (&visit.parts.method, path) {
        (&Method::GET, login::PATH) if visit.login_here() => login::page(visit)?,
        (&Method::POST, login::PATH) if visit.login_here() => login::sign_in(visit, body).await?,
        (&Method::POST, login::LOGOUT) => login::sign_out(visit).await?,
        _ => {
            let mut response = Response::new(body::empty());
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    };
    Err(Stop::Answered(Box::new(response)))
}

/// A person on their way to a page is sent to sign in and back again. The refusal has been
/// recorded; anything but a page gets the refusal itself.
pub(crate) fn sign_in_instead(visit: &Visit<'_>, refusal: &Refusal) -> Option<Response<Body>> {
    let parts = visit.parts;
    let accepts = parts
        .headers
        .get(header::ACCEPT)
        .and_then(|it| it.to_str().ok());
    let page = parts.method == Method::GET && accepts.is_some_and(|it| it.contains("text/html"));
    let signed_out = matches!(refusal.code, Code::SESSION_ABSENT | Code::SESSION_REVOKED);
    // On a host that is not ours the page would not be served either.
    if !page || !signed_out || visit.wanted.fault.is_some() || !visit.login_here() {
        return None;
    }
    let back = parts.uri.path_and_query().map_or("/", |it| it.as_str());
    let mut response = see_other(&format!("{}?return={}", login::PATH, login::escape(back)));
    if let Some(receipt) = refusal
        .receipt
        .and_then(|it| HeaderValue::from_str(&it.to_string()).ok())
    {
        response.headers_mut().insert(problem::RECEIPT, receipt);
    }
    Some(response)
}

/// What every answer at a browser door says (RFC 6797 and the usual hardening); an application
/// may be stricter about frames and referrers, not looser about types and transport.
pub(crate) fn secure(headers: &mut HeaderMap) {
    headers.insert(
        header::STRICT_TRANSPORT_SECURITY,
        HeaderValue::from_static("max-age=63072000; includeSubDomains"),
    );
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers
        .entry(header::X_FRAME_OPTIONS)
        .or_insert(HeaderValue::from_static("DENY"));
    headers
        .entry(header::REFERRER_POLICY)
        .or_insert(HeaderValue::from_static("no-referrer"));
}

impl Visit<'_> {
    fn listener(&self) -> Option<&Listener> {
        self.snapshot
            .config()
            .listeners
            .get(self.connected.door.as_str())
    }

    /// `login: dev` is for development, and for this machine alone.
    fn login_here(&self) -> bool {
        let dev = self
            .listener()
            .is_some_and(|it| it.login == Some(Login::Dev));
        let here = self.connected.source_ip().is_loopback();
        self.connected.kind == DoorKind::Browser && dev && here && self.snapshot.is_development()
    }
}

/// Sends a browser elsewhere on this host, by GET.
fn see_other(location: &str) -> Response<Body> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    let headers = response.headers_mut();
    let location = HeaderValue::from_str(location).unwrap_or(HeaderValue::from_static("/"));
    headers.insert(header::LOCATION, location);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
