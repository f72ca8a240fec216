//! Browser doors: sessions, sign-in, and what a browser must be told.

pub(crate) mod cookies;

pub(crate) mod cors;

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
use origin::only;

/// Paths under this are ours at every browser door, and are never forwarded.
const OURS: &str = "/.countersign/";

/// How long browsers come back by TLS only, in seconds: two years.
const HSTS_AGE: u64 = 63_072_000;
/// The same, as it is said to them.
const HSTS: &str = "max-age=63072000; includeSubDomains";

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
    if let Some(response) = cors::preflight(visit) {
        return Err(Stop::Answered(Box::new(response)));
    }
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
    if !is_strict(headers) {
        let strict = HeaderValue::from_static(HSTS);
        headers.insert(header::STRICT_TRANSPORT_SECURITY, strict);
    }
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    // Browsers pass over a value that they don't know, and several.
    let framed = only(headers, "x-frame-options")
        .is_some_and(|it| it.eq_ignore_ascii_case("deny") || it.eq_ignore_ascii_case("sameorigin"));
    if !framed {
        let deny = HeaderValue::from_static("DENY");
        headers.insert(header::X_FRAME_OPTIONS, deny);
    }
    headers
        .entry(header::REFERRER_POLICY)
        .or_insert(HeaderValue::from_static("no-referrer"));
}

/// What our own pages and refusals say beside it: they load nothing, are in no frame, and no cache
/// keeps them.
pub(crate) fn secure_own(headers: &mut HeaderMap) {
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static(
            "default-src 'none'; frame-ancestors 'none'",
        ));
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
}

/// Whether an application asks for as much as we do (RFC 6797 section 6.1), and in one way.
fn is_strict(headers: &HeaderMap) -> bool {
    let Some(value) = only(headers, "strict-transport-security") else {
        return false;
    };
    let mut directives = value.split(';').map(str::trim);
    let subdomains = directives
        .clone()
        .any(|it| it.eq_ignore_ascii_case("includesubdomains"));
    let age = directives.find_map(|it| {
        let (name, value) = it.split_once('=')?;
        let value = value.trim().trim_matches('"');
        name.trim().eq_ignore_ascii_case("max-age").then_some(value)
    });
    let age = age.and_then(|it| it.parse::<u64>().ok());
    subdomains && age.is_some_and(|it| it >= HSTS_AGE)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn secured(upstream: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in upstream {
            headers.append(*name, value.parse().unwrap());
        }
        secure(&mut headers);
        headers
    }

    #[test]
    fn what_an_application_says_is_never_made_weaker() {
        let ours = secured(&[]);
        let hsts = "strict-transport-security";
        assert_eq!(ours[hsts], "max-age=63072000; includeSubDomains");
        assert_eq!(ours["x-content-type-options"], "nosniff");
        assert_eq!(ours["x-frame-options"], "DENY");
        assert_eq!(ours["referrer-policy"], "no-referrer");
        for stricter in [
            "max-age=99999999; includeSubDomains; preload",
            "includeSubdomains;max-age=\"63072000\"",
        ] {
            assert_eq!(secured(&[(hsts, stricter)])[hsts], stricter);
        }
        for weaker in [
            "max-age=0",
            "max-age=99999999",
            "max-age=1; includeSubDomains",
            "includeSubDomains",
            "max-age=-1; includeSubDomains",
        ] {
            assert_eq!(secured(&[(hsts, weaker)])[hsts], ours[hsts], "{weaker}");
        }
        let twice = secured(&[(hsts, "max-age=99999999; includeSubDomains"), (hsts, "x")]);
        assert_eq!(twice.get_all(hsts).iter().count(), 1);
        for (frames, kept) in [("SAMEORIGIN", "SAMEORIGIN"), ("ALLOWALL", "DENY")] {
            let headers = secured(&[("x-frame-options", frames)]);
            assert_eq!(headers["x-frame-options"], kept);
        }
        let same = secured(&[("referrer-policy", "same-origin")]);
        assert_eq!(same["referrer-policy"], "same-origin");
        let sniffed = secured(&[("x-content-type-options", "sniff")]);
        assert_eq!(sniffed["x-content-type-options"], "nosniff");
    }
}
