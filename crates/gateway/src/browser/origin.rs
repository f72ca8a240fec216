use crate::request::Host;
use http::HeaderMap;
use http::Method;
use http::header;
use http::request::Parts;

/// Whether an unsafe request, or the opening of a WebSocket, was made by a page of this origin;
/// `None` for requests where that does not matter.
///
/// Cookies travel with requests that other sites make; these two headers are the browser's own
/// word for who made one, which no page can write (Fetch section 4.6). Neither of them is no word.
pub(crate) fn same_origin(parts: &Parts, host: Option<&Host>) -> Option<bool> {
    let safe = matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
    if safe && !parts.headers.contains_key(header::UPGRADE) {
        return None;
    }
    Some(match only(&parts.headers, "sec-fetch-site") {
        Some(site) => site == "same-origin",
        None if parts.headers.contains_key("sec-fetch-site") => false,
        None => {
            let origin = only(&parts.headers, "origin");
            origin
                .zip(host)
                .is_some_and(|(origin, host)| host.is_origin(origin))
        }
    })
}

pub(super) fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn check(method: &str, headers: &[(&str, &str)]) -> Option<bool> {
        let mut request = Request::builder().method(method);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        same_origin(&parts, Host::parse("app.example").ok().as_ref())
    }

    #[test]
    fn who_made_it() {
        let (site, origin) = ("sec-fetch-site", "origin");
        for (headers, expect) in [
            (&[(site, "same-origin")][..], true),
            (&[(origin, "https://app.example")], true),
            (&[(site, "same-origin"), (origin, "null")], true),
            (&[], false),
            (
                &[(site, "cross-site"), (origin, "https://app.example")],
                false,
            ),
            (&[(site, "same-site")], false),
            (&[(site, "none")], false),
            (&[(site, "same-origin"), (site, "cross-site")], false),
            (&[(origin, "https://evil.example")], false),
            (&[(origin, "null")], false),
        ] {
            assert_eq!(check("POST", headers), Some(expect), "{headers:?}");
            let upgrade = [headers, &[("upgrade", "websocket")]].concat();
            assert_eq!(check("GET", &upgrade), Some(expect), "{headers:?}");
        }
        assert_eq!(check("GET", &[(site, "cross-site")]), None);
        assert_eq!(check("PURGE", &[]), Some(false));
    }
}
