//! What gRPC has in place of HTTP's statuses ("gRPC over HTTP2", Responses).

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::header;
use std::time::Duration;

/// The content type of our own answers.
pub(crate) const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Whether a message is one of gRPC, and not of gRPC-Web, which has its status in the body.
pub(crate) fn is_grpc(fields: &HeaderMap) -> bool {
    let kind = fields.get(header::CONTENT_TYPE);
    let rest = kind.and_then(|it| it.as_bytes().strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// What an HTTP status of ours is in gRPC ("Status codes and their use in gRPC").
pub(crate) const fn status(http: u16) -> u8 {
    match http {
        400 | 422 => 3,
        413 | 429 | 431 => 8,
        401 => 16,
        404 => 5,
        408 | 504 => 4,
        500..=599 => 14,
        _ => 7,
    }
}

/// What ends a call that was under way: to draw another token and come again is no help to whoever
/// was cut off.
pub(crate) const fn ended(http: u16) -> u8 {
    match http {
        401 => 7,
        other => status(other),
    }
}

/// The fields that end a call, in the head of an answer or in its trailers.
pub(crate) fn end(status: u8, message: &str) -> HeaderMap {
    let mut fields = HeaderMap::new();
    fields.insert(STATUS, HeaderValue::from(u16::from(status)));
    if let Ok(message) = HeaderValue::from_str(&encoded(message)) {
        fields.insert(MESSAGE, message);
    }
    fields
}

/// How long the caller is willing to wait; `None` if it does not say so, or not as gRPC has it.
pub(crate) fn timeout(fields: &HeaderMap) -> Option<Duration> {
    let text = fields.get(TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|it| it.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// Percent-encoded, all but printable ASCII.
fn encoded(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => text.push(char::from(byte)),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(name: HeaderName, value: &str) -> HeaderMap {
        [(name, value.parse().unwrap())].into_iter().collect()
    }

    #[test]
    fn which_messages() {
        for (kind, expect) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc; charset=x", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/json", false),
        ] {
            assert_eq!(
                is_grpc(&fields(header::CONTENT_TYPE, kind)),
                expect,
                "{kind}"
            );
        }
    }

    #[test]
    fn what_ends_a_call() {
        let end = end(status(403), "100% über");
        assert_eq!(end["grpc-status"], "7");
        assert_eq!(end["grpc-message"], "100%25 %C3%BCber");
        assert_eq!([401, 429, 502, 503, 504].map(status), [16, 8, 14, 14, 4]);
        let under_way = [401, 403, 413, 503].map(ended);
        assert_eq!(under_way, [7, 7, 8, 14]);
    }

    #[test]
    fn how_long() {
        for (text, expect) in [
            ("100m", Some(Duration::from_millis(100))),
            ("5S", Some(Duration::from_secs(5))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("999999999S", None),
            ("S", None),
            ("", None),
            ("5s", None),
            ("-5S", None),
            ("5", None),
        ] {
            assert_eq!(timeout(&fields(TIMEOUT, text)), expect, "{text}");
        }
    }
}
