//! Seeing all of a refusal.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test whose refusal is not whole has failed"
)]

use bytes::Bytes;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Pillar;
use http::Response;
use serde_json::Value;

/// Checks that a response is a refusal by this pillar with this code: status, headers, body, and
/// its record, which `record` finds by receipt. Returns the receipt.
///
/// The body may be a problem document, an OAuth error, or Vault's form; in none of them is there
/// more than pillar, code and receipt.
///
/// # Panics
/// When anything of it is missing or different.
pub async fn refused<F, R>(
    response: &Response<Bytes>,
    pillar: Pillar,
    code: Code,
    record: F,
) -> String
where
    F: FnOnce(String) -> R,
    R: Future<Output = Option<Value>>,
{
    let text = String::from_utf8_lossy(response.body()).into_owned();
    let header = |name: &str| {
        let value = response.headers().get(name);
        value.map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(code.pillar(), pillar, "the test itself is wrong");
    assert_eq!(
        header("countersign-pillar").as_deref(),
        Some(pillar.word()),
        "{text}"
    );
    let receipt = header("countersign-receipt").unwrap_or_else(|| panic!("no receipt: {text}"));
    let body: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("not json: {text}"));
    check_body(response, &body, code, &receipt);
    let record = record(receipt.clone()).await;
    let record = record.unwrap_or_else(|| panic!("no record with receipt {receipt}"));
    assert_eq!(record["code"], code.to_string(), "{record}");
    assert_eq!(record["pillar"], pillar.word(), "{record}");
    assert_eq!(record["status"], "denied", "{record}");
    assert_eq!(record["kind"], "decision", "{record}");
    let reason = record["reason"].as_str().unwrap_or_default();
    assert!(
        !reason.is_empty() && !text.contains(reason),
        "the caller was told why: {text}"
    );
    receipt
}

fn check_body(response: &Response<Bytes>, body: &Value, code: Code, receipt: &str) {
    let status = response.status().as_u16();
    let title = format!("AccessDenied: pillar {} failed", code.pillar());
    let vault = body["errors"].as_array().filter(|_| body["code"].is_null());
    if let Some(errors) = vault {
        assert_eq!(errors, &["permission denied", title.as_str()]);
        assert_eq!(response.headers()["content-type"], "application/json");
        // Vault has one status for who is not known and for who may not.
        let expected = if code.status() == 401 {
            403
        } else {
            code.status()
        };
        assert_eq!(status, expected, "{body}");
        return;
    }
    assert_eq!(body["code"], code.to_string());
    assert_eq!(body["pillar"], code.pillar().word());
    assert_eq!(body["receipt"], receipt);
    let members = body.as_object().unwrap().len();
    if body["error"].is_string() {
        assert_eq!(body["error_description"], title);
        assert_eq!(members, 5, "{body}");
        assert!(
            matches!(status, 400 | 401 | 403 | 413 | 429 | 503),
            "{status}: {body}"
        );
        assert_eq!(
            status == 401,
            response.headers().contains_key("www-authenticate")
        );
    } else {
        assert_eq!(body["title"], title);
        assert_eq!(body["status"], status);
        assert_eq!(status, code.status());
        // Whoever sent a body may know what is wrong with it: where, and by which rule.
        let faults = body["errors"].as_array();
        assert_eq!(members, 6 + usize::from(faults.is_some()), "{body}");
        for fault in faults.into_iter().flatten() {
            assert_eq!(code, Code::BODY_SCHEMA, "{body}");
            assert!(fault["pointer"].is_string() && fault["rule"].is_string());
            assert_eq!(fault.as_object().unwrap().len(), 2, "{body}");
        }
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json"
        );
    }
}
