//! Pages of other origins (Fetch, CORS protocol): who may read the answers of a browser door.
//!
//! The listener's `cors` is the one source of it: what an upstream says is removed, and a preflight
//! is answered here. A preflight is no request for anything (it has no cookie, reaches no upstream
//! and admits nothing), so it is neither decided nor recorded, and counts against no rate: what
//! bounds preflights are the connections of a peer, and the streams of a connection.

use super::Visit;
use super::is_ours;
use super::origin::only;
use crate::body;
use crate::body::Body;
use countersign_core::config::Cors;
use countersign_core::config::Listener;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Method;
use http::Request;
use http::Response;
use http::StatusCode;
use http::header;
use http::request::Parts;

/// What a page of an origin may be told, for the time of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sharing {
    /// The page's origin, if the door shares its answers with it.
    origin: Option<HeaderValue>,
    credentials: bool,
    /// Whether answers depend on who asks.
    varies: bool,
}

/// What a page may read of our own beside the simple headers.
const EXPOSED: &str = "countersign-pillar, countersign-receipt, ratelimit, ratelimit-policy, \
                       retry-after, x-ratelimit-limit, x-ratelimit-remaining, x-ratelimit-reset, \
                       x-request-id";
/// How all that is said of other origins begins.
const PREFIX: &str = "access-control-";

impl Sharing {
    /// What the door with this listener shares with whoever sent this request.
    pub(crate) fn of<B>(listener: Option<&Listener>, request: &Request<B>) -> Self {
        let cors = listener.and_then(|it| it.cors.as_ref());
        // Signing in and out is for pages of this door.
        let path = request.uri().path();
        Self {
            origin: cors
                .filter(|_| !is_ours(path))
                .and_then(|cors| allowed(cors, request.headers())),
            credentials: cors.is_some_and(|it| it.credentials),
            varies: cors.is_some(),
        }
    }

    /// Says so on an answer.
    pub(crate) fn tell(self, headers: &mut HeaderMap) {
        if self.varies {
            vary(headers);
        }
        let Some(origin) = self.origin else {
            return;
        };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if self.credentials {
            let yes = HeaderValue::from_static("true");
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        }
        let exposed = HeaderValue::from_static(EXPOSED);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
}

/// Removes what an upstream says of other origins: two voices could say more than either means.
pub(crate) fn strip(headers: &mut HeaderMap) {
    let names = headers.keys().filter(|it| it.as_str().starts_with(PREFIX));
    let names: Vec<HeaderName> = names.cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// The answer to a preflight, at a door that shares with any other origin at all. A browser takes
/// no header for a no.
pub(super) fn preflight(visit: &Visit<'_>) -> Option<Response<Body>> {
    let cors = visit.listener()?.cors.as_ref()?;
    if !is_preflight(visit.parts) {
        return None;
    }
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    if is_ours(visit.parts.uri.path()) || allowed(cors, &visit.parts.headers).is_none() {
        return Some(response);
    }
    let list = |names: &[String]| {
        let list = HeaderValue::from_str(&names.join(", "));
        list.ok().filter(|_| !names.is_empty())
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_METHODS, list(&cors.methods)),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, list(&cors.headers)),
        (
            header::ACCESS_CONTROL_MAX_AGE,
            Some(HeaderValue::from(cors.max_age.as_secs())),
        ),
    ] {
        headers.extend(value.map(|value| (name, value)));
    }
    Some(response)
}

/// The other origin whose page asks for a change, where it may send a session's cookie along. The
/// opening of a WebSocket is none of this: the protocol knows no preflight.
pub(crate) fn cross_origin(parts: &Parts, listener: Option<&Listener>) -> Option<String> {
    let cors = listener?.cors.as_ref().filter(|it| it.credentials)?;
    if parts.headers.contains_key(header::UPGRADE) {
        return None;
    }
    let origin = allowed(cors, &parts.headers)?;
    origin.to_str().ok().map(str::to_owned)
}

fn is_preflight(parts: &Parts) -> bool {
    parts.method == Method::OPTIONS
        && parts.headers.contains_key(header::ORIGIN)
        && parts
            .headers
            .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The one origin of a request, if it is one of those listed.
fn allowed(cors: &Cors, headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = only(headers, "origin").filter(|it| cors.shares(it))?;
    HeaderValue::from_str(origin).ok()
}

/// Caches keep the answers of different origins apart, also those without a word about any.
fn vary(headers: &mut HeaderMap) {
    let says = |value: &HeaderValue| {
        let names = value.to_str().unwrap_or_default().split(',');
        let mut names = names.map(str::trim);
        names.any(|it| it == "*" || it.eq_ignore_ascii_case("origin"))
    };
    if !headers.get_all(header::VARY).iter().any(says) {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
}
