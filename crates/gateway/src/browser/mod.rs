//! Browser doors: sessions, sign-in, and what a browser must be told.

pub(crate) mod cookies;

pub(crate) mod cors;

mod frames;
mod login;
mod origin;
mod session;

pub(crate) use origin::same_origin;
pub(crate) use session::Sessions;
pub(crate) use session::session;

use crate::body;
use crate::body::Body;
use crate::body::Received;
use crate::connected::Connected;
use crate::plane::Plane;
use crate::refuse::Stop;
use crate::request::Wanted;
use countersign_core::config::Listener;
use countersign_core::config::Login;
use countersign_core::record::Context;
use countersign_core::snapshot::DoorKind;
use countersign_core::snapshot::Snapshot;
use countersign_core::vocabulary::CanonicalPath;
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
use origin::only;

/// Paths under this are ours at every browser door, and are never forwarded.
const OURS: &str = "/.countersign/";

/// For two years browsers come back by TLS only.
const HSTS: &str = "max-age=63072000; includeSubDomains";

/// The referrer policies that tell other origins no path, and nobody anything without TLS (Referrer
/// Policy, section 3).
const REFERRERS: [&str; 4] = [
    "no-referrer",
    "same-origin",
    "strict-origin",
    "strict-origin-when-cross-origin",
];

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

/// Whether a path, as it came, is one of ours in its canonical form. One that has none is served by
/// nobody, and shared with nobody.
fn is_ours(path: &str) -> bool {
    CanonicalPath::new(path).map_or(true, |it| it.as_str().starts_with(OURS))
}

/// Serves our own pages. Gives the body back for anything else.
pub(crate) async fn ours(visit: &Visit<'_>, body: Received) -> Result<Received, Stop> {
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

/// What every answer at a browser door says (RFC 6797 and the usual hardening).
///
/// Transport and types are ours to say alone: a judge of what an application says about them would
/// have to read it exactly as each browser does. About frames it may say as much as that its own
/// pages may show it, and about referrers what tells other origins no more than ours.
pub(crate) fn secure(headers: &mut HeaderMap) {
    headers.insert(
        header::STRICT_TRANSPORT_SECURITY,
        HeaderValue::from_static(HSTS),
    );
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    frames::secure(headers);
    let told = only(headers, "referrer-policy").is_some_and(|it| {
        let mut policies = it.split(',').map(|it| it.trim().to_ascii_lowercase());
        policies.all(|it| REFERRERS.contains(&it.as_str()))
    });
    if !told {
        let none = HeaderValue::from_static("no-referrer");
        headers.insert(header::REFERRER_POLICY, none);
    }
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
    fn transport_and_types_are_ours_to_say_alone() {
        let hsts = "strict-transport-security";
        for said in [
            "",
            "max-age=0",
            "max-age=99999999; includeSubDomains; preload",
            "max-age=+63072000; includeSubDomains",
            "max-age=\"63072000; includeSubDomains",
            "max-age=63072000; max-age=0; includeSubDomains",
        ] {
            let headers = secured(&[(hsts, said), (hsts, "max-age=1")]);
            let all: Vec<_> = headers.get_all(hsts).iter().collect();
            assert_eq!(all, ["max-age=63072000; includeSubDomains"], "{said}");
        }
        let sniffed = secured(&[("x-content-type-options", "sniff")]);
        assert_eq!(sniffed["x-content-type-options"], "nosniff");
    }

    #[test]
    fn referrers_tell_other_origins_no_path() {
        let name = "referrer-policy";
        assert_eq!(secured(&[])[name], "no-referrer");
        for kept in [
            "same-origin",
            "Strict-Origin",
            "no-referrer, strict-origin-when-cross-origin",
        ] {
            assert_eq!(secured(&[(name, kept)])[name], kept);
        }
        for replaced in ["unsafe-url", "origin", "no-referrer, unsafe-url", "", "x"] {
            let headers = secured(&[(name, replaced)]);
            assert_eq!(headers[name], "no-referrer", "{replaced}");
        }
        let twice = secured(&[(name, "same-origin"), (name, "unsafe-url")]);
        let all: Vec<_> = twice.get_all(name).iter().collect();
        assert_eq!(all, ["no-referrer"]);
    }

    #[test]
    fn ours_is_ours_however_it_is_written() {
        for ours in [
            "/.countersign/login",
            "/%2Ecountersign/login",
            "/%2ecountersign/%6Cogin",
        ] {
            assert!(is_ours(ours), "{ours}");
        }
        for theirs in [
            "/",
            "/orders/42",
            "/.countersigned",
            "/x/.countersign/login",
        ] {
            assert!(!is_ours(theirs), "{theirs}");
        }
        // Without a canonical form it is nobody's to share.
        assert!(is_ours("/orders%2F..%2F.countersign/login"));
    }
}
