//! What never passes from one side to the other.
//!
//! Headers that only concern one connection, that claim something about the caller which we state
//! ourselves, or that make some upstream see another method or path than the one decided. First
//! everything is stripped, then ours are added, so that a caller who writes
//! `Connection: countersign-assertion` removes nothing of ours.

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::header;
use smallvec::SmallVec;

/// Between two neighbours only (RFC 9110 section 7.6.1), beside what `Connection` names.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    [
        header::CONNECTION,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
    ]
    .contains(name)
        || matches!(
            name.as_str(),
            "keep-alive" | "proxy-authentication-info" | "proxy-connection"
        )
}

/// Ours to say, or a second spelling of method and path.
const CLAIMS: [&str; 14] = [
    "client-cert",
    "client-cert-chain",
    "forwarded",
    "via",
    "x-envoy-original-path",
    "x-http-method",
    "x-method-override",
    "x-original-method",
    "x-original-uri",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-url",
    "x-ssl-cert",
    "x-userinfo",
];

/// How proxies tell the client's certificate, or who has signed in: applications that were behind
/// one of them believe these.
const CLAIM_PREFIXES: [&str; 27] = [
    "cf-access-",
    "countersign-",
    "oidc-claim-",
    "remote-",
    "ssl-client-",
    "tailscale-user-",
    "x-amzn-mtls-",
    "x-amzn-oidc-",
    "x-arr-clientcert",
    "x-auth-",
    "x-authenticated-",
    "x-authentik-",
    "x-client-cert",
    "x-consumer-",
    "x-credential-",
    "x-cs-",
    "x-forwarded-",
    "x-goog-authenticated-",
    "x-goog-iap-",
    "x-http-method-",
    "x-ms-client-principal",
    "x-ms-token-",
    "x-pomerium-",
    "x-remote-",
    "x-ssl-client-",
    "x-vouch-",
    "x-webauth-",
];

/// Strips what a caller may not tell an upstream.
pub(crate) fn from_caller(headers: &mut HeaderMap) {
    let trailers = headers.get(header::TE).is_some_and(|te| te == "trailers");
    named(headers);
    retain(headers, |name| {
        let own = [header::CONTENT_LENGTH, header::EXPECT, header::HOST].contains(name);
        let text = name.as_str();
        !own && text != "x-request-id" && !is_hop_by_hop(name) && !is_claim(text)
    });
    if trailers {
        // gRPC wants it end to end.
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

/// Strips what an upstream may not tell a caller.
pub(crate) fn from_upstream(headers: &mut HeaderMap) {
    named(headers);
    // Alt-Svc would lead the caller around this door (RFC 7838).
    retain(headers, |name| {
        let ours = name.as_str().starts_with("countersign-");
        !ours && name != header::ALT_SVC && !is_hop_by_hop(name)
    });
}

/// What nobody may say behind a body, since some would merge it into the head that they have acted
/// on already: framing, routing, authentication, modifiers of requests, controls of responses, and
/// the form of the content (RFC 9110 section 6.5.1), with what browsers enforce.
///
/// A list of what may pass would be safer and is not to be had: gRPC's metadata has any name.
const NOT_BEHIND: [&str; 37] = [
    "accept-ranges",
    "age",
    "allow",
    "alt-svc",
    "authentication-info",
    "authorization",
    "cache-control",
    "clear-site-data",
    "content-disposition",
    "content-encoding",
    "content-length",
    "content-location",
    "content-range",
    "content-security-policy",
    "content-type",
    "cookie",
    "date",
    "expect",
    "expires",
    "host",
    "link",
    "location",
    "max-forwards",
    "origin",
    "pragma",
    "range",
    "refresh",
    "referrer-policy",
    "retry-after",
    "set-cookie",
    "strict-transport-security",
    "vary",
    "warning",
    "www-authenticate",
    "x-content-type-options",
    "x-frame-options",
    "x-request-id",
];

const NOT_BEHIND_PREFIXES: [&str; 6] = [
    "access-control-",
    "cross-origin-",
    "if-",
    "sec-",
    "surrogate-",
    "x-accel-",
];

/// Strips trailers that would repair the head.
pub(crate) fn trailers(fields: &mut HeaderMap) {
    named(fields);
    retain(fields, |name| {
        let text = name.as_str();
        let behind =
            NOT_BEHIND.contains(&text) || NOT_BEHIND_PREFIXES.iter().any(|it| text.starts_with(it));
        !behind && !is_hop_by_hop(name) && !is_claim(text)
    });
}

/// Whether the sender of these headers reads trailers (RFC 9110 section 10.1.4).
pub(crate) fn takes_trailers(headers: &HeaderMap) -> bool {
    headers.get_all(header::TE).iter().any(|te| {
        let mut codings = te.as_bytes().split(|it| *it == b',');
        codings.any(|it| it.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    })
}

/// The names of the trailers that are announced and may pass: over HTTP/1.1 no others do.
pub(crate) fn announced_trailers(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(header::TRAILER)?;
    let values = headers.get_all(header::TRAILER).iter();
    let names = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok());
    let mut fields: HeaderMap = names
        .map(|name| (name, HeaderValue::from_static("")))
        .collect();
    trailers(&mut fields);
    let names: Vec<&str> = fields.keys().map(HeaderName::as_str).collect();
    (!names.is_empty()).then(|| HeaderValue::from_str(&names.join(", ")).ok())?
}

fn is_claim(name: &str) -> bool {
    // Some servers read `_` as `-`, so a name with one can stand for any of these.
    name.contains('_')
        || CLAIMS.contains(&name)
        || CLAIM_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Strips what `Connection` names.
fn named(headers: &mut HeaderMap) {
    let named: SmallVec<[HeaderName; 4]> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
}

fn retain(headers: &mut HeaderMap, keep: impl Fn(&HeaderName) -> bool) {
    let doomed: SmallVec<[HeaderName; 4]> =
        headers.keys().filter(|name| !keep(name)).cloned().collect();
    for name in doomed {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_caller_claims_nothing() {
        let mut headers = map(&[
            ("connection", "keep-alive, X-Mine"),
            ("x-mine", "1"),
            ("keep-alive", "5"),
            ("te", "gzip"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-client-cert", "By=x"),
            ("x-ssl-client-verify", "SUCCESS"),
            ("ssl_client_s_dn", "CN=orders"),
            ("x-client-cert", "x"),
            ("x-arr-clientcert", "x"),
            ("x-amzn-mtls-clientcert-leaf", "x"),
            ("client-cert", ":AA==:"),
            ("forwarded", "for=1.2.3.4"),
            ("x-real-ip", "1.2.3.4"),
            ("countersign-assertion", "x"),
            ("x_forwarded_for", "1"),
            ("remote-user", "root"),
            ("remote_user", "root"),
            ("x-remote-group", "system:masters"),
            ("x-webauth-user", "admin"),
            ("x-authenticated-user", "admin"),
            ("x-goog-authenticated-user-email", "a@b"),
            ("x-goog-iap-jwt-assertion", "x"),
            ("x-amzn-oidc-identity", "x"),
            ("x-ms-client-principal", "x"),
            ("cf-access-authenticated-user-email", "a@b"),
            ("tailscale-user-login", "a@b"),
            ("x-authentik-username", "akadmin"),
            ("x-consumer-username", "a"),
            ("x-original-uri", "/admin"),
            ("x-envoy-original-path", "/admin"),
            ("x-ssl-cert", "x"),
            ("x-http-method-override", "DELETE"),
            ("x-http-method", "DELETE"),
            ("x-method-override", "DELETE"),
            ("x-original-url", "/admin"),
            ("x-rewrite-url", "/admin"),
            ("x-request-id", "mine"),
            ("accept", "text/html"),
            ("x-custom", "kept"),
        ]);
        from_caller(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "x-custom"]);
    }

    #[test]
    fn trailers_are_asked_for_end_to_end() {
        let mut headers = map(&[("te", "trailers"), ("connection", "te")]);
        from_caller(&mut headers);
        assert_eq!(headers.get("te").unwrap(), "trailers");
    }

    #[test]
    fn an_upstream_speaks_for_itself_only() {
        let mut headers = map(&[
            ("countersign-receipt", "r-forged"),
            ("alt-svc", "h3=\":443\""),
            ("connection", "close"),
            ("x-kept", "1"),
        ]);
        from_upstream(&mut headers);
        assert_eq!(headers.len(), 1);
        let mut fields = map(&[
            ("countersign-pillar", "x"),
            ("grpc-status", "0"),
            ("set-cookie", "a=b"),
        ]);
        trailers(&mut fields);
        assert_eq!(fields.len(), 1);
    }

    #[test]
    fn nothing_behind_a_body_repairs_its_head() {
        let mut fields = map(&[
            ("transfer-encoding", "chunked"),
            ("cache-control", "public"),
            ("access-control-allow-origin", "*"),
            ("strict-transport-security", "max-age=0"),
            ("if-match", "x"),
            ("www-authenticate", "Basic"),
            ("location", "/elsewhere"),
            ("grpc-status", "0"),
            ("grpc-message", "fine"),
            ("grpc-status-details-bin", "AA"),
            ("anything-at-all", "1"),
            ("digest", "sha-256=x"),
            ("server-timing", "db;dur=1"),
        ]);
        trailers(&mut fields);
        let mut left: Vec<_> = fields.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        let expect = [
            "anything-at-all",
            "digest",
            "grpc-message",
            "grpc-status",
            "grpc-status-details-bin",
            "server-timing",
        ];
        assert_eq!(left, expect);
    }

    #[test]
    fn only_trailers_that_may_pass_are_announced() {
        let headers = map(&[
            ("trailer", "x-checksum, Content-Length,countersign-receipt"),
            ("trailer", "server-timing"),
        ]);
        let announced = announced_trailers(&headers).unwrap();
        let mut names: Vec<_> = announced.to_str().unwrap().split(", ").collect();
        names.sort_unstable();
        assert_eq!(names, ["server-timing", "x-checksum"]);
        assert_eq!(announced_trailers(&map(&[("trailer", "host")])), None);
        assert!(takes_trailers(&map(&[("te", "gzip, Trailers")])));
        assert!(!takes_trailers(&map(&[("te", "gzip")])));
    }

    proptest! {
        #[test]
        fn nothing_claimed_or_named_survives(
            names in proptest::collection::vec("(x-forwarded-|countersign-|x-http-method)?[a-z_-]{1,12}", 0..12),
            listed in proptest::collection::vec(0usize..12, 0..4),
        ) {
            let mut headers = HeaderMap::new();
            for name in &names {
                headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("v"));
            }
            let mut gone = Vec::new();
            for index in listed {
                if let Some(name) = names.get(index) {
                    headers.append(header::CONNECTION, name.parse().unwrap());
                    gone.push(name.clone());
                }
            }
            from_caller(&mut headers);
            for name in headers.keys().map(HeaderName::as_str) {
                prop_assert!(!is_claim(name), "{name}");
                prop_assert!(!HeaderName::from_bytes(name.as_bytes()).is_ok_and(|it| is_hop_by_hop(&it)), "{name}");
                prop_assert!(!gone.iter().any(|it| it == name), "{name}");
            }
        }
    }
}
