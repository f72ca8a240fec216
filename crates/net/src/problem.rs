//! Refusals on the wire: problem details (RFC 9457), and Vault's form for Vault's API.
//!
//! A refusal tells the caller pillar, code and receipt; the reason is for whoever may ask for it.

use ::http::HeaderName;
use ::http::HeaderValue;
use ::http::Response;
use ::http::StatusCode;
use ::http::header;
use bytes::Bytes;
use countersign_core::hop::SchemaFault;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Fault;
use serde::Serialize;
use std::time::Duration;

/// The header with the pillar's word.
pub const PILLAR: HeaderName = HeaderName::from_static("countersign-pillar");
/// The header with the receipt's id.
pub const RECEIPT: HeaderName = HeaderName::from_static("countersign-receipt");
/// Where each code is explained; the code follows.
pub const TYPE_BASE: &str = "https://countersign.github.io/countersign/errors/";

/// In which form a refusal is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `application/problem+json`.
    Problem,
    /// `{"errors": [..]}`, as Vault's clients read it.
    Vault,
}

/// A refusal to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Problem<'a> {
    /// Why, as far as the caller may know.
    pub code: Code,
    /// The form.
    pub format: Format,
    /// The id of the record, if there is one.
    pub receipt: Option<&'a str>,
    /// When to try again, for limits and for what is unavailable.
    pub retry_after: Option<Duration>,
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    title: String,
    status: u16,
    pillar: &'static str,
    code: Code,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [SchemaFault],
}

#[derive(Serialize)]
struct VaultBody {
    errors: [String; 2],
}

impl Problem<'_> {
    /// The line that names the pillar.
    #[must_use]
    pub fn title(&self) -> String {
        format!("AccessDenied: pillar {} failed", self.code.pillar())
    }

    /// The whole body.
    #[must_use]
    pub fn body(&self) -> Bytes {
        self.body_with(&[])
    }

    fn body_with(&self, errors: &[SchemaFault]) -> Bytes {
        let body = match self.format {
            Format::Problem => serde_json::to_vec(&Body {
                r#type: format!("{TYPE_BASE}{}", self.code),
                title: self.title(),
                status: self.code.status(),
                pillar: self.code.pillar().word(),
                code: self.code,
                receipt: self.receipt,
                errors,
            }),
            Format::Vault => serde_json::to_vec(&VaultBody {
                errors: ["permission denied".to_owned(), self.title()],
            }),
        };
        // Strings and one number: this can't fail.
        body.unwrap_or_default().into()
    }

    /// Body, status and headers.
    #[must_use]
    pub fn response(&self) -> Response<Bytes> {
        self.response_with(&[])
    }

    /// The same, and where the body of the request is wrong: `errors`, each with `pointer` and
    /// `rule`.
    #[must_use]
    pub fn response_with(&self, errors: &[SchemaFault]) -> Response<Bytes> {
        let mut response = Response::new(self.body_with(errors));
        *response.status_mut() =
            StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::FORBIDDEN);
        let content_type = match self.format {
            Format::Problem => "application/problem+json",
            Format::Vault => "application/json",
        };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(PILLAR, HeaderValue::from_static(self.code.pillar().word()));
        if let Some(receipt) = self.receipt.and_then(|id| HeaderValue::from_str(id).ok()) {
            headers.insert(RECEIPT, receipt);
        }
        if self.code.fault() == Fault::Unauthenticated {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static(challenge(self.code)),
            );
        }
        if self.code.fault() == Fault::CodingRefused {
            // What would be taken (RFC 9110 section 12.5.3).
            let identity = HeaderValue::from_static("identity");
            headers.insert(header::ACCEPT_ENCODING, identity);
        }
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds(wait)));
        }
        response
    }
}

/// A wait as `Retry-After` says it (RFC 9110 section 10.2.3): whole seconds, rounded up and at least
/// one, since who comes back early comes in vain.
#[must_use]
pub fn seconds(wait: Duration) -> u64 {
    let begun = u64::from(wait.subsec_nanos() > 0);
    wait.as_secs().saturating_add(begun).max(1)
}

/// Who showed nothing is told how to authenticate and no error (RFC 6750 section 3.1).
fn challenge(code: Code) -> &'static str {
    match code {
        Code::TOKEN_ABSENT | Code::SESSION_ABSENT => "Bearer",
        _ => "Bearer error=\"invalid_token\"",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(code: Code, format: Format) -> Problem<'static> {
        Problem {
            code,
            format,
            receipt: Some("r-04"),
            retry_after: None,
        }
    }

    #[test]
    fn a_refusal_as_documented() {
        let response = problem(Code::NO_EDGE, Format::Problem).response();
        assert_eq!(
            response.body(),
            concat!(
                r#"{"type":"https://countersign.github.io/countersign/errors/CSD401","#,
                r#""title":"AccessDenied: pillar micro-segmentation failed","status":403,"#,
                r#""pillar":"micro-segmentation","code":"CSD401","receipt":"r-04"}"#
            )
        );
        let header = |name: &str| response.headers()[name].to_str().unwrap();
        assert_eq!(header("content-type"), "application/problem+json");
        assert_eq!(header("countersign-pillar"), "micro-segmentation");
        assert_eq!(header("countersign-receipt"), "r-04");
        assert_eq!(header("cache-control"), "no-store");
        assert!(!response.headers().contains_key("www-authenticate"));
    }

    #[test]
    fn vault_clients_get_their_form() {
        let body = problem(Code::NOT_A_READER, Format::Vault).body();
        let expect =
            r#"{"errors":["permission denied","AccessDenied: pillar least-privilege failed"]}"#;
        assert_eq!(body, expect);
    }

    #[test]
    fn every_code_has_its_status_and_challenge() {
        for code in Code::ALL.iter().copied() {
            let response = problem(code, Format::Problem).response();
            let status = response.status();
            assert_eq!(status.as_u16(), code.status(), "{code}");
            let challenged = response.headers().contains_key("www-authenticate");
            assert_eq!(challenged, status == StatusCode::UNAUTHORIZED, "{code}");
        }
    }

    #[test]
    fn waiting_is_rounded_up() {
        let retry_after = Some(Duration::from_millis(1_200));
        let problem = Problem {
            retry_after,
            ..problem(Code::BUDGET_SPENT, Format::Problem)
        };
        assert_eq!(problem.response().headers()["retry-after"], "2");
        for (wait, told) in [
            (Duration::ZERO, 1),
            (Duration::from_nanos(1), 1),
            (Duration::from_secs(2), 2),
            (Duration::from_nanos(2_000_000_001), 3),
            (Duration::MAX, u64::MAX),
        ] {
            assert_eq!(seconds(wait), told, "{wait:?}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_body_is_told_and_what_coding_is_taken() {
        let fault = SchemaFault {
            pointer: "/items/0/title".to_owned(),
            rule: "maxLength".to_owned(),
        };
        let response = problem(Code::BODY_SCHEMA, Format::Problem).response_with(&[fault]);
        let text = String::from_utf8_lossy(response.body());
        let errors = r#""errors":[{"pointer":"/items/0/title","rule":"maxLength"}]}"#;
        assert!(text.ends_with(errors), "{text}");
        assert_eq!(response.status(), 422);
        let response = problem(Code::BODY_CODING, Format::Problem).response();
        assert_eq!(response.status(), 415);
        assert_eq!(response.headers()["accept-encoding"], "identity");
    }

    #[test]
    fn a_receipt_can_add_no_header() {
        let problem = Problem {
            receipt: Some("r\r\nx: y"),
            ..problem(Code::NO_EDGE, Format::Problem)
        };
        assert!(
            !problem
                .response()
                .headers()
                .contains_key("countersign-receipt")
        );
    }
}
