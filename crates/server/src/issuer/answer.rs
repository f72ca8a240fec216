//! Answers of the OAuth endpoints (RFC 6749 sections 5.1 and 5.2).

use super::request::Fault;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Pillar;
use countersign_enforce::Refusal;
use countersign_net::problem;
use countersign_wire::control::IssuerResponse;
use serde::Serialize;
use serde_json::Value;

/// A refusal. What went wrong inside the pillar is for whoever may explain decisions.
#[derive(Serialize)]
struct Refused {
    error: &'static str,
    error_description: String,
    pillar: &'static str,
    code: Code,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<String>,
}

/// 200 with a document that must not be kept.
pub(super) fn secret(body: &Value) -> IssuerResponse {
    let headers = vec![
        ("cache-control", "no-store".to_owned()),
        ("pragma", "no-cache".to_owned()),
    ];
    IssuerResponse {
        body: body.to_string().into_bytes(),
        headers,
        status: 200,
    }
}

/// 200 with a public document.
pub(super) fn public(body: &Value) -> IssuerResponse {
    let headers = vec![("cache-control", "max-age=300".to_owned())];
    IssuerResponse {
        body: body.to_string().into_bytes(),
        headers,
        status: 200,
    }
}

/// 200 without a body (RFC 7009 section 2.2).
pub(super) fn empty() -> IssuerResponse {
    let headers = vec![("cache-control", "no-store".to_owned())];
    IssuerResponse {
        body: Vec::new(),
        headers,
        status: 200,
    }
}

/// The server could not do what was admitted.
pub(super) fn failed() -> IssuerResponse {
    let body = serde_json::json!({ "error": "server_error" });
    let headers = vec![("cache-control", "no-store".to_owned())];
    IssuerResponse {
        body: body.to_string().into_bytes(),
        headers,
        status: 500,
    }
}

/// A refused request, and what was wrong with its form, if anything was.
pub(super) fn refused(refusal: &Refusal, fault: Option<&Fault>) -> IssuerResponse {
    let pillar = refusal.code.pillar();
    let (status, error) = match fault {
        Some(fault)
            if pillar >= Pillar::MicroSegmentation
                && pillar < Pillar::Audit
                && refusal.code != Code::RATE_EXCEEDED =>
        {
            (400, fault.error)
        }
        _ => error(refusal.code),
    };
    let receipt = refusal.receipt.map(|it| it.to_string());
    let body = Refused {
        error,
        error_description: format!("AccessDenied: pillar {pillar} failed"),
        pillar: pillar.word(),
        code: refusal.code,
        receipt: receipt.clone(),
    };
    let mut headers = vec![
        ("cache-control", "no-store".to_owned()),
        ("countersign-pillar", pillar.word().to_owned()),
    ];
    headers.extend(receipt.map(|it| ("countersign-receipt", it)));
    if status == 401 {
        headers.push(("www-authenticate", format!("Bearer error=\"{error}\"")));
    }
    if let Some(wait) = refusal.retry_after {
        headers.push(("retry-after", problem::seconds(wait).to_string()));
    }
    // Strings only: this can't fail.
    let body = serde_json::to_vec(&body).unwrap_or_default();
    IssuerResponse {
        body,
        headers,
        status,
    }
}

/// The client is wrong, the token it wants to exchange is wrong (RFC 8693 section 2.2.2), or it
/// asks for what it may not have.
fn error(code: Code) -> (u16, &'static str) {
    match code {
        Code::TOKEN_MALFORMED
        | Code::TOKEN_SIGNATURE
        | Code::TOKEN_AUDIENCE
        | Code::TOKEN_TIME
        | Code::TOKEN_BINDING
        | Code::CREDENTIAL_STATIC
        | Code::SESSION_ABSENT
        | Code::TOKEN_REVOKED
        | Code::SESSION_REVOKED
        | Code::SUBJECT_REVOKED => (400, "invalid_request"),
        // RFC 6749 section 5.2 has no word for it. `slow_down` asks a device to poll less often
        // (RFC 8628 section 3.5) and means that it is still being authorized.
        Code::TOKENS_UNKNOWN | Code::RATE_EXCEEDED => (429, "temporarily_unavailable"),
        Code::SUBJECT_MISMATCH => (403, "unauthorized_client"),
        Code::STATE_STALE | Code::CLOCK_SKEW | Code::LEDGER_REFUSED => {
            (503, "temporarily_unavailable")
        }
        code => match code.pillar() {
            Pillar::Encryption | Pillar::Identity | Pillar::ContinuousVerification => {
                (401, "invalid_client")
            }
            Pillar::MicroSegmentation => (403, "invalid_target"),
            Pillar::LeastPrivilege => (403, "invalid_scope"),
            Pillar::Audit => (503, "temporarily_unavailable"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn who_asks_too_often_is_told_when_to_come_again() {
        let refusal = Refusal {
            code: Code::RATE_EXCEEDED,
            reason: String::new(),
            receipt: None,
            limit: None,
            retry_after: Some(Duration::from_millis(1_200)),
        };
        let fault = Fault {
            error: "invalid_request",
            detail: "no grant type".to_owned(),
        };
        for fault in [None, Some(&fault)] {
            let answer = refused(&refusal, fault);
            assert_eq!(answer.status, 429);
            let wait = answer
                .headers
                .iter()
                .find(|(name, _)| *name == "retry-after");
            assert_eq!(wait.map(|(_, value)| value.as_str()), Some("2"));
            let body: Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(body["error"], "temporarily_unavailable");
            assert_eq!(body["code"], "CSD514");
        }
    }
}
