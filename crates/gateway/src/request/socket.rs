//! WebSockets on streams of HTTP/2 (RFC 8441), read as HTTP/1.1 has them (RFC 6455), so that there
//! is one way to decide and forward both.

use super::NoRandomness;
use super::random;
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use http::Method;
use http::header;
use http::request::Parts;
use hyper::ext::Protocol;

/// Marks a request whose caller opened a stream for a WebSocket; holds the answer to the key that we
/// made up for it.
#[derive(Clone, Debug)]
pub(crate) struct OverHttp2 {
    /// `Sec-WebSocket-Accept` of an upstream that switched.
    pub(crate) accept: String,
}

/// What is appended to a key (RFC 6455 section 1.3).
const SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Rewrites an extended CONNECT for a WebSocket as the `GET` that it stands for (RFC 8441 section
/// 5); everything else stays what it is.
///
/// # Errors
/// [`NoRandomness`] for the key.
pub(crate) fn read(parts: &mut Parts) -> Result<(), NoRandomness> {
    let protocol = parts.extensions.get::<Protocol>();
    if parts.method != Method::CONNECT || protocol.is_none_or(|it| it.as_str() != "websocket") {
        return Ok(());
    }
    let key = STANDARD.encode(random::<16>()?);
    let accept = accept(&key);
    let value = HeaderValue::from_str(&key).map_err(|_| NoRandomness)?;
    parts.method = Method::GET;
    parts.extensions.remove::<Protocol>();
    parts.extensions.insert(OverHttp2 { accept });
    parts
        .headers
        .insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    parts.headers.insert(header::SEC_WEBSOCKET_KEY, value);
    Ok(())
}

/// The answer to a key (RFC 6455 section 4.2.2).
fn accept(key: &str) -> String {
    let text = format!("{key}{SUFFIX}");
    STANDARD.encode(digest::digest(
        &digest::SHA1_FOR_LEGACY_USE_ONLY,
        text.as_bytes(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    #[test]
    fn the_example_of_the_standard() {
        assert_eq!(
            accept("dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[test]
    fn only_a_websocket_becomes_a_get() {
        let read_as = |method: Method, protocol: Option<&'static str>| {
            let request = Request::builder().method(method).uri("https://h/a");
            let (mut parts, ()) = request.body(()).unwrap().into_parts();
            if let Some(protocol) = protocol {
                parts.extensions.insert(Protocol::from_static(protocol));
            }
            read(&mut parts).unwrap();
            (parts.method, parts.headers.contains_key(header::UPGRADE))
        };
        assert_eq!(
            read_as(Method::CONNECT, Some("websocket")),
            (Method::GET, true)
        );
        assert_eq!(
            read_as(Method::CONNECT, Some("connect-udp")),
            (Method::CONNECT, false)
        );
        assert_eq!(read_as(Method::CONNECT, None), (Method::CONNECT, false));
        assert_eq!(
            read_as(Method::POST, Some("websocket")),
            (Method::POST, false)
        );
    }
}
