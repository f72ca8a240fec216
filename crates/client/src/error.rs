use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Pillar;
use countersign_net::AcceptorError;
use countersign_net::ConnectError;
use countersign_net::CredentialError;
use countersign_net::TrustError;
use countersign_net::http::ClientError;
use std::io;
use std::path::PathBuf;

/// A call that was refused by decision: not broken, denied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("access denied: pillar {pillar} failed{}{}", in_brackets(*code), receipt_text(receipt.as_deref()))]
pub struct AccessDenied {
    /// The pillar that did not hold.
    pub pillar: Pillar,
    /// Why, as far as a caller may know; none where the answer's format has no room for it.
    pub code: Option<Code>,
    /// Id of the record of this refusal, for `countersign explain`.
    pub receipt: Option<String>,
    /// What would help, in a few words.
    pub fix: &'static str,
}

/// Why a call has no response.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Refused by decision.
    #[error(transparent)]
    AccessDenied(#[from] AccessDenied),
    /// The issuer, the vault or the mesh can't be reached, or broke off.
    #[error(transparent)]
    Transport(#[from] ClientError),
    /// The identity can't be used any more.
    #[error(transparent)]
    Identity(#[from] SetupError),
    /// Not `service/path`, or not a method.
    #[error("`{0}` is not a call: expected a method, and `service/path`")]
    Target(String),
    /// The payload does not become JSON, or the answer is not the JSON that was asked for.
    #[error("not the json expected: {0}")]
    Json(#[from] serde_json::Error),
    /// The endpoints of this identity name no mesh listener.
    #[error("this installation has no mesh listener that can be called")]
    NoMesh,
    /// The answer is not one that our own server would give.
    #[error("`{peer}` answered {status} to {what}")]
    Unexpected {
        /// Who.
        peer: String,
        /// HTTP status.
        status: u16,
        /// What was asked.
        what: &'static str,
    },
}

/// Why an identity can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Neither `COUNTERSIGN_IDENTITY` nor a folder was given.
    #[error("`COUNTERSIGN_IDENTITY` names no folder; `countersign identity issue` makes one")]
    NoFolder,
    /// A file of the folder can't be read.
    #[error("can't read `{path}`")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `countersign.json` is not what it should be.
    #[error("`{path}` does not say where the server is: {reason}")]
    Endpoints {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Certificate and key don't fit.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// No trusted root.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// TLS can't be set up.
    #[error(transparent)]
    Tls(#[from] ConnectError),
    /// The listener of a service can't be set up.
    #[error(transparent)]
    Acceptor(#[from] AcceptorError),
    /// The cryptography of this process is not ours.
    #[error(transparent)]
    Crypto(#[from] countersign_net::CryptoError),
}

/// What would help against a refusal, as far as the code tells.
#[must_use]
pub fn remedy(pillar: Pillar, code: Option<Code>) -> &'static str {
    match code {
        Some(code) => of_code(code).unwrap_or_else(|| of_pillar(pillar)),
        None => of_pillar(pillar),
    }
}

fn of_code(code: Code) -> Option<&'static str> {
    Some(match code {
        Code::CERTIFICATE_TIME | Code::CERTIFICATE_ENDED => {
            "get a new certificate: `countersign identity issue`"
        }
        Code::CERTIFICATE_REVOKED | Code::SUBJECT_REVOKED | Code::SESSION_REVOKED => {
            "it was revoked; ask an administrator, or sign in again"
        }
        Code::IDENTITY_UNKNOWN => "add the identity to `identities` and issue its certificate",
        Code::TOKEN_BINDING => "draw a token with this very certificate; tokens don't travel",
        Code::TOKEN_AUDIENCE => "draw a token for this service",
        Code::TOKEN_TIME | Code::TOKEN_REVOKED | Code::TOKEN_SIGNATURE => "draw a new token",
        Code::SUBJECT_MISMATCH => "only the workload that a token was sent to may exchange it",
        Code::CREDENTIAL_STATIC => "draw a token instead of sending a static key",
        Code::SESSION_ABSENT => "sign in",
        Code::CROSS_SITE => "make the request from a page of the same site",
        Code::MESSAGE_AMBIGUOUS => "send a head that says each thing once, and in one way",
        Code::TOKENS_UNKNOWN => "wait a second, and show only tokens that this deployment issued",
        Code::CONNECTION_FLOOD => {
            "open a new connection, and send fewer frames that carry nothing on it"
        }
        Code::PARTNER_UNKNOWN => {
            "show the certificate that was agreed on, by the name and the authority that the configuration has for the partner"
        }
        Code::HEAD_TOO_LARGE => "send a smaller head, or raise `limits` of the listener",
        Code::REPLAYED => "get a new one: it opens once",
        Code::APPROVAL_ENDED => "ask for it again",
        Code::STATE_STALE => "bring the server back; this gateway has not heard from it",
        Code::CLOCK_SKEW => "set the clock of this machine",
        Code::NO_EDGE => "add an edge from this workload to the service and operation",
        Code::HOST_MISDIRECTED => "use a host that this listener serves",
        Code::PATH_AMBIGUOUS => "send the path in its one canonical form",
        Code::SCOPE_LACKS => "ask for the permission that this operation needs as `scope`",
        Code::ROLE_LACKS => "give the subject a role with this permission",
        Code::NOT_A_READER => "add the subject to the `readers` of this secret",
        Code::PERSON_REQUIRED => "call on behalf of a person, with the token you were called with",
        Code::ABOVE_CEILING => "ask for no more than the token you were called with may hand on",
        Code::BUDGET_SPENT => "wait for the next window, or raise the budget",
        Code::RATE_EXCEEDED => {
            "call less often, as `Retry-After` says, or raise the `rate` or tier"
        }
        Code::BODY_TOO_LARGE => "send less, or raise `body: { max: .. }`",
        Code::BODY_UNREADABLE => "send the body in the form that the operation's rules read",
        Code::BODY_SCHEMA => "correct what `errors` of the answer names in the body",
        Code::BODY_CODING => "send the body without a content coding",
        Code::HOURS => "call within the hours of this operation",
        Code::REQUEST_CREDENTIAL => "leave the credential out of the request",
        Code::SELF_APPROVAL => "have somebody else approve it",
        Code::UNDECIDABLE => "use a build that judges this rule: `countersign check` names it",
        Code::MODEL_REFUSED => "use a model that the operation allows",
        Code::LEDGER_REFUSED => "make room for the ledger: nothing is admitted unrecorded",
        _ => return None,
    })
}

const fn of_pillar(pillar: Pillar) -> &'static str {
    match pillar {
        Pillar::Encryption => "use TLS 1.3",
        Pillar::Identity => "show a certificate of this trust domain and a token bound to it",
        Pillar::ContinuousVerification => "sign in again, or get a new certificate",
        Pillar::MicroSegmentation => "add an edge from this workload to the service and operation",
        Pillar::LeastPrivilege => "ask for the permission, and give the subject a role that has it",
        Pillar::Audit => "bring the ledger back: nothing is admitted unrecorded",
    }
}

fn in_brackets(code: Option<Code>) -> String {
    code.map(|code| format!(" ({code})")).unwrap_or_default()
}

fn receipt_text(receipt: Option<&str>) -> String {
    receipt
        .map(|receipt| format!(", receipt {receipt}"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_pillar_code_and_receipt() {
        let denied = AccessDenied {
            pillar: Pillar::MicroSegmentation,
            code: Some(Code::NO_EDGE),
            receipt: Some("r-04".to_owned()),
            fix: remedy(Pillar::MicroSegmentation, Some(Code::NO_EDGE)),
        };
        let text = "access denied: pillar micro-segmentation failed (CSD401), receipt r-04";
        assert_eq!(denied.to_string(), text);
    }

    #[test]
    fn every_code_has_a_remedy_without_a_full_stop() {
        for code in Code::ALL {
            let fix = remedy(code.pillar(), Some(*code));
            assert!(!fix.is_empty() && !fix.ends_with('.'), "{code}");
        }
        assert_ne!(remedy(Pillar::Identity, None), remedy(Pillar::Audit, None));
    }
}
