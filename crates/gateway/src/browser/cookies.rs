//! Our cookies, and how they are kept from applications.

use http::HeaderMap;
use http::HeaderValue;
use http::header;

/// The session. The prefix makes a browser refuse it from anywhere but this very host over TLS
/// (RFC 6265bis section 4.1.3.2).
pub(crate) const SESSION: &str = "__Host-cs";
/// The other half of a form's token.
pub(crate) const FORM: &str = "__Host-cs-form";

/// The value of one of our cookies; none where it is given twice, since one of the two was
/// planted.
pub(crate) fn value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = pairs(headers)
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| value);
    match (values.next(), values.next()) {
        (Some(value), None) if !value.is_empty() => Some(value),
        _ => None,
    }
}

/// Removes our cookies from a request: they are ours to read.
pub(crate) fn remove_ours(headers: &mut HeaderMap) {
    let left: Vec<String> = pairs(headers)
        .filter(|(name, value)| {
            let nameless = name.is_empty() && is_reserved(value);
            !is_reserved(name) && !nameless
        })
        .map(|(name, value)| {
            if value.is_empty() {
                name.to_owned()
            } else {
                format!("{name}={value}")
            }
        })
        .collect();
    headers.remove(header::COOKIE);
    if let (false, Ok(cookie)) = (left.is_empty(), HeaderValue::from_str(&left.join("; "))) {
        headers.insert(header::COOKIE, cookie);
    }
}

/// Removes cookies of our names from a response: no application signs anybody in or out.
pub(crate) fn drop_reserved(headers: &mut HeaderMap) {
    let kept: Vec<HeaderValue> = headers
        .get_all(header::SET_COOKIE)
        .iter()
        .filter(|value| {
            // Without a name, the value is all that a browser sends back (RFC 6265bis section
            // 5.7 forbids it this prefix; not every browser does).
            let mut parts = value.as_bytes().split(|byte| matches!(byte, b'=' | b';'));
            let name = parts.find(|part| !part.trim_ascii().is_empty());
            // A value that can't be read is one that a browser might read otherwise.
            std::str::from_utf8(name.unwrap_or_default())
                .is_ok_and(|name| !is_reserved(name.trim()))
        })
        .cloned()
        .collect();
    headers.remove(header::SET_COOKIE);
    for value in kept {
        headers.append(header::SET_COOKIE, value);
    }
}

/// A cookie of ours for this host alone.
pub(crate) fn set(name: &str, value: &str, same_site: &str) -> Option<HeaderValue> {
    let text = format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite={same_site}");
    HeaderValue::from_str(&text).ok()
}

/// Takes a cookie of ours away.
pub(crate) fn clear(name: &str) -> Option<HeaderValue> {
    let text = format!("{name}=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0");
    HeaderValue::from_str(&text).ok()
}

/// Browsers compare prefixes without regard to case.
fn is_reserved(name: &str) -> bool {
    name.get(..SESSION.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(SESSION))
}

fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let lines = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok());
    lines
        .flat_map(|line| line.split(';'))
        .map(|pair| pair.trim())
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (name.trim(), value.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cookies(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::COOKIE, line.parse().unwrap());
        }
        headers
    }

    #[test]
    fn ours_are_read_once_and_not_forwarded() {
        let mut headers = cookies(&[
            "a=1; __Host-cs=secret",
            "__Host-cs-form=x; b=2=3; __host-CS=y",
        ]);
        assert_eq!(value(&headers, SESSION), Some("secret"));
        remove_ours(&mut headers);
        assert_eq!(headers.get(header::COOKIE).unwrap(), "a=1; b=2=3");
        let twice = cookies(&["__Host-cs=a; __Host-cs=b"]);
        assert_eq!(value(&twice, SESSION), None);
        let mut only = cookies(&["__Host-cs=a"]);
        remove_ours(&mut only);
        assert!(only.is_empty());
    }

    #[test]
    fn no_application_sets_ours() {
        let mut headers = HeaderMap::new();
        for line in [
            "__Host-cs=evil; Path=/",
            "app=1",
            " __host-cs =evil",
            "__Host-cs-form=x",
            "=__Host-cs=evil",
            " = __host-cs",
        ] {
            headers.append(header::SET_COOKIE, line.parse().unwrap());
        }
        drop_reserved(&mut headers);
        let left: Vec<_> = headers.get_all(header::SET_COOKIE).iter().collect();
        assert_eq!(left, ["app=1"]);
    }

    /// What a browser that takes nameless cookies would send back for a `Set-Cookie`.
    fn sent_back(set: &HeaderValue) -> String {
        let text = String::from_utf8_lossy(set.as_bytes()).to_ascii_lowercase();
        let pair = text.split(';').next().unwrap_or_default();
        let (name, value) = pair.split_once('=').unwrap_or(("", pair));
        match name.trim() {
            "" => value.trim().to_owned(),
            name => format!("{name}={}", value.trim()),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]

        #[test]
        fn none_of_ours_passes(lines in prop::collection::vec("(;| |=|a|__host-cs|__Host-cs|__HOST-CS-FORM|\t|\u{e9}){0,12}", 0..5)) {
            let (mut request, mut response) = (HeaderMap::new(), HeaderMap::new());
            for line in lines.iter().filter_map(|it| HeaderValue::from_bytes(it.as_bytes()).ok()) {
                request.append(header::COOKIE, line.clone());
                response.append(header::SET_COOKIE, line);
            }
            remove_ours(&mut request);
            prop_assert!(pairs(&request).all(|(name, _)| !is_reserved(name)));
            prop_assert!(request.get_all(header::COOKIE).iter().count() <= 1);
            drop_reserved(&mut response);
            for kept in response.get_all(header::SET_COOKIE) {
                prop_assert!(!sent_back(kept).starts_with("__host-cs"), "{kept:?}");
            }
        }

        #[test]
        fn headers_never_panic(lines in prop::collection::vec(any::<Vec<u8>>(), 0..4)) {
            let mut headers = HeaderMap::new();
            for line in lines.iter().filter_map(|it| HeaderValue::from_bytes(it).ok()) {
                headers.append(header::COOKIE, line.clone());
                headers.append(header::SET_COOKIE, line);
            }
            let _ = value(&headers, SESSION);
            remove_ours(&mut headers);
            drop_reserved(&mut headers);
        }
    }
}
