//! A body of JSON that a schema judges.

use super::held::fault;
use countersign_core::config::json_schema::Schema;
use countersign_core::hop::Facts;
use countersign_core::vocabulary::Code;
use countersign_net::json;
use countersign_net::json::InexactError;
use http::HeaderMap;
use http::HeaderValue;
use http::header;
use std::sync::Arc;

/// Whether a body says that it is JSON, in the one encoding that JSON has between systems (RFC 8259
/// section 8.1): another reader might take it at its word where we do not.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(only), None) = (types.next(), types.next()) else {
        return false;
    };
    only.to_str().is_ok_and(says_json)
}

fn says_json(content_type: &str) -> bool {
    let mut parts = content_type.split(';');
    let essence = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
    let json = match essence.split_once('/') {
        Some(("application", "json")) => true,
        // RFC 6839 section 3.1.
        Some((family, subtype)) => {
            !family.is_empty() && subtype.len() > 5 && subtype.ends_with("+json")
        }
        None => false,
    };
    let mut parameters = parts.map(str::trim).filter(|it| !it.is_empty());
    json && parameters.all(|parameter| match parameter.split_once('=') {
        Some((name, value)) if name.eq_ignore_ascii_case("charset") => {
            value.trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        Some(_) => true,
        None => false,
    })
}

/// Whether some coding stands between the bytes and what they mean (RFC 9110 section 8.4).
pub(super) fn is_coded(headers: &HeaderMap) -> bool {
    let codings = headers.get_all(header::CONTENT_ENCODING).iter();
    let plain = |it: &HeaderValue| it.as_bytes().eq_ignore_ascii_case(b"identity");
    !codings.into_iter().all(plain)
}

/// What each schema says to these bytes. A member that is named twice would be judged once and read
/// by its upstream as the other.
pub(super) fn judge(bytes: &[u8], schemas: &[Arc<Schema>], facts: &mut Facts) {
    if schemas.is_empty() {
        return;
    }
    match json::exact(bytes) {
        Ok(body) => facts.schemas = schemas.iter().map(|it| it.judge(&body)).collect(),
        Err(_) if bytes.is_empty() => {
            fault(facts, Code::BODY_UNREADABLE, "there is no body".to_owned());
        }
        Err(error @ InexactError::Number) => {
            fault(facts, Code::BODY_UNREADABLE, error.to_string());
        }
        Err(InexactError::Json(_)) => {
            let detail = "the body is no json, or names a member twice".to_owned();
            fault(facts, Code::BODY_UNREADABLE, detail);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn what_says_that_it_is_json() {
        for good in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/json;charset=\"utf-8\";",
            "application/vnd.api+json; profile=x",
            "model/gltf+json",
        ] {
            assert!(is_json(&headers("content-type", &[good])), "{good}");
        }
        for bad in [
            &[][..],
            &[""],
            &["text/plain"],
            &["text/json"],
            &["application/jsonp"],
            &["application/json-patch"],
            &["application/+json"],
            &["+json"],
            &["application/json; charset=utf-16"],
            &["application/json; charset=utf-7; charset=utf-8"],
            &["application/json; x"],
            &["application/json, text/plain"],
            &["multipart/form-data; boundary=x"],
            &["application/grpc+json2"],
            &["application/json", "application/json"],
        ] {
            assert!(!is_json(&headers("content-type", bad)), "{bad:?}");
        }
    }

    #[test]
    fn what_is_in_a_coding() {
        for plain in [&[][..], &["identity"], &["Identity", "identity"]] {
            assert!(!is_coded(&headers("content-encoding", plain)), "{plain:?}");
        }
        for coded in [
            &["gzip"][..],
            &["identity, gzip"],
            &["identity", "br"],
            &["x"],
            &[""],
        ] {
            assert!(is_coded(&headers("content-encoding", coded)), "{coded:?}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_not_judged() {
        let schema = Arc::new(Schema::compile(r#"{"maxProperties":1}"#).unwrap());
        let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
        for bad in [
            "",
            "{",
            "{} {}",
            r#"{"a":1,"a":2}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"a":1e999}"#,
            // Judged as 2^53, read as one more by who has larger integers.
            r#"{"a":9007199254740993.0}"#,
            r#"{"a":18446744073709551617}"#,
            r#"{"a":1e-999}"#,
            "\u{feff}{}",
            "\"\\ud800\"",
            deep.as_str(),
        ] {
            let mut facts = Facts::default();
            judge(bad.as_bytes(), std::slice::from_ref(&schema), &mut facts);
            let code = facts.fault.map(|it| it.code);
            assert_eq!(code, Some(Code::BODY_UNREADABLE), "{bad}");
            assert!(facts.schemas.is_empty());
        }
        let mut facts = Facts::default();
        judge(b"\xff", std::slice::from_ref(&schema), &mut facts);
        assert!(facts.fault.is_some());
        let mut facts = Facts::default();
        judge(br#"{"a":1,"b":2}"#, &[schema], &mut facts);
        assert_eq!((facts.fault, facts.schemas.len()), (None, 1));
        assert!(!facts.schemas[0].valid);
    }
}
