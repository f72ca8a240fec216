//! Who may show an answer in a frame: nobody, or pages of the same host where the application says
//! so. There is no way to let other origins do it.

use super::origin::only;
use http::HeaderMap;
use http::HeaderValue;
use http::header;

/// What is said of frames, in both ways in which browsers hear it.
enum Framed {
    Nowhere,
    Here,
}

/// Says who may frame an answer.
///
/// A browser that is told of `frame-ancestors` passes over `X-Frame-Options` (CSP level 3, section
/// 6.4.2.2), so that an application's own policy could open what the older field closes. All of
/// several policies hold, so ours is one more.
pub(super) fn secure(headers: &mut HeaderMap) {
    let policies = ancestors(headers);
    let closed = policies
        .iter()
        .any(|it| it.eq_ignore_ascii_case("'none'") || it.is_empty());
    let options = only(headers, "x-frame-options").map(str::to_ascii_lowercase);
    let framed = match options.as_deref() {
        _ if closed => Framed::Nowhere,
        Some("sameorigin") => Framed::Here,
        // Whoever speaks the newer language need not speak the older one too.
        None if !headers.contains_key(header::X_FRAME_OPTIONS) && !policies.is_empty() => {
            Framed::Here
        }
        _ => Framed::Nowhere,
    };
    let (options, policy) = match framed {
        Framed::Nowhere => ("DENY", "frame-ancestors 'none'"),
        Framed::Here => ("SAMEORIGIN", "frame-ancestors 'self'"),
    };
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static(options));
    if !closed {
        headers.append(
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(policy),
        );
    }
}

/// The `frame-ancestors` of each policy that has them: of a directive that is there twice the first
/// counts (CSP level 3, section 2.2.1). What can't be read says nothing.
fn ancestors(headers: &HeaderMap) -> Vec<String> {
    let fields = headers.get_all(header::CONTENT_SECURITY_POLICY).iter();
    let fields = fields.filter_map(|it| it.to_str().ok());
    let directive = |policy: &str| {
        let mut directives = policy.split(';').map(str::trim_ascii);
        directives.find_map(|it| {
            let (name, value) = it.split_once([' ', '\t']).unwrap_or((it, ""));
            let known = name.eq_ignore_ascii_case("frame-ancestors");
            known.then(|| value.trim_ascii().to_owned())
        })
    };
    fields
        .flat_map(|it| it.split(','))
        .filter_map(directive)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: &str = "x-frame-options";
    const CSP: &str = "content-security-policy";

    fn secured(upstream: &[(&'static str, &str)]) -> (String, Vec<String>) {
        let mut headers = HeaderMap::new();
        for (name, value) in upstream {
            headers.append(*name, value.parse().unwrap());
        }
        secure(&mut headers);
        let text = |it: &HeaderValue| it.to_str().unwrap().to_owned();
        assert_eq!(headers.get_all(OPTIONS).iter().count(), 1);
        let policies = headers.get_all(CSP).iter().map(text).collect();
        (text(&headers[OPTIONS]), policies)
    }

    #[test]
    fn no_other_origin_frames_an_answer_whatever_the_application_says() {
        let nowhere = "frame-ancestors 'none'";
        let here = "frame-ancestors 'self'";
        let anyone = "default-src 'self'; Frame-Ancestors *";
        for (upstream, options, added) in [
            (&[][..], "DENY", nowhere),
            (&[(OPTIONS, "DENY")], "DENY", nowhere),
            (&[(OPTIONS, "ALLOWALL")], "DENY", nowhere),
            (&[(OPTIONS, "SAMEORIGIN"), (OPTIONS, "x")], "DENY", nowhere),
            (&[(OPTIONS, "SameOrigin")], "SAMEORIGIN", here),
            (&[(CSP, "default-src 'self'")], "DENY", nowhere),
            (&[(CSP, anyone)], "SAMEORIGIN", here),
            (&[(CSP, anyone), (OPTIONS, "DENY")], "DENY", nowhere),
            (
                &[(CSP, anyone), (OPTIONS, "SAMEORIGIN")],
                "SAMEORIGIN",
                here,
            ),
        ] {
            let (said, policies) = secured(upstream);
            assert_eq!(said, options, "{upstream:?}");
            assert_eq!(policies.last().unwrap(), added, "{upstream:?}");
            // What the application said beside it holds as well.
            let theirs = upstream.iter().filter(|(name, _)| *name == CSP).count();
            assert_eq!(policies.len(), theirs + 1);
        }
    }

    #[test]
    fn what_is_closed_stays_closed() {
        for policy in [
            "frame-ancestors 'none'",
            "default-src 'none', frame-ancestors\t'NONE' ; frame-ancestors *",
            "frame-ancestors",
        ] {
            let (said, policies) = secured(&[(CSP, policy), (OPTIONS, "SAMEORIGIN")]);
            assert_eq!((said.as_str(), policies), ("DENY", vec![policy.to_owned()]));
        }
        let (said, policies) = secured(&[(CSP, "frame-ancestors *; frame-ancestors 'none'")]);
        assert_eq!((said.as_str(), policies.len()), ("SAMEORIGIN", 2));
    }
}
