//! The assertion of an enforcement point (`cs-assertion+jwt`): "this hop was decided".
//!
//! It goes to the upstream beside the request. It says which request of which audience, under
//! which receipt, for at most 30 s; it is never a subject token, so that a gateway can't invent a
//! person.

use crate::jws;
use crate::jws::JwsError;
use crate::jws::KeyAlgorithm;
use crate::jws::KeySet;
use crate::jws::Kind;
use crate::jws::SigningKey;
use countersign_core::hop::TokenFault;
use countersign_core::vocabulary::SpiffeId;
use countersign_core::vocabulary::Timestamp;
use serde::Deserialize;
use serde::Serialize;

/// The header that carries it.
pub const HEADER: &str = "countersign-assertion";
/// How long it counts at most, in seconds.
pub const MAX_LIFETIME: i64 = 30;
/// How far the clock of an enforcement point may be ahead, in seconds.
const LEEWAY: i64 = 2;

const ASSERTION: Kind = Kind {
    algorithm: KeyAlgorithm::EdDsa,
    typ: "cs-assertion+jwt",
    typ_in_full: "application/cs-assertion+jwt",
};

/// What it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assertion {
    /// Who acts for the subject, nearest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub act: Vec<SpiffeId>,
    /// The service it was decided for, as `https://<trust domain>/svc/<service>`.
    pub aud: String,
    /// When it ends, seconds since the epoch; at most 30 s after `iat`.
    pub exp: i64,
    /// When it was made, seconds since the epoch.
    pub iat: i64,
    /// The enforcement point that decided.
    pub iss: SpiffeId,
    /// Its own id; used once.
    pub jti: String,
    /// The method of the request.
    pub method: String,
    /// The canonical path of the request.
    pub path: String,
    /// The receipt of the decision.
    pub receipt: String,
    /// The subject: a SPIFFE ID, or `<login>:<sub>`.
    pub sub: String,
}

/// Why a good assertion is not one for this request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// For another service.
    #[error("the assertion is for another audience")]
    Audience,
    /// For another method.
    #[error("the assertion is for another method")]
    Method,
    /// For another path.
    #[error("the assertion is for another path")]
    Path,
    /// Ended, or from the future.
    #[error("the assertion does not count now")]
    Time,
}

/// Signs an assertion with the key of its enforcement point.
///
/// # Errors
/// [`JwsError`] if the key is not an Ed25519 key, or signing fails.
pub fn sign(key: &SigningKey, assertion: &Assertion) -> Result<String, JwsError> {
    jws::sign(&ASSERTION, key, assertion)
}

/// Reads an assertion: signed, of this type and no other, by a key that belongs to the very
/// enforcement point that it names, and not made to last.
///
/// # Errors
/// [`TokenFault`] says what is wrong with it.
pub fn verify(keys: &KeySet, token: &str) -> Result<Assertion, TokenFault> {
    let opened = jws::open(&ASSERTION, keys, token)?;
    let assertion: Assertion =
        serde_json::from_value(opened.payload).map_err(|_| TokenFault::Malformed)?;
    if opened.owner.as_ref() != Some(&assertion.iss) {
        return Err(TokenFault::Foreign);
    }
    match assertion.exp.checked_sub(assertion.iat) {
        Some(0..=MAX_LIFETIME) => Ok(assertion),
        _ => Err(TokenFault::Malformed),
    }
}

impl Assertion {
    /// Compares it with the request it came with. That its `jti` is used once is the caller's to
    /// see to.
    ///
    /// # Errors
    /// [`Mismatch`] names the first difference.
    pub fn fits(
        &self,
        audience: &str,
        method: &str,
        path: &str,
        now: Timestamp,
    ) -> Result<(), Mismatch> {
        let now = now.as_secs();
        if self.aud != audience {
            Err(Mismatch::Audience)
        } else if self.method != method {
            Err(Mismatch::Method)
        } else if self.path != path {
            Err(Mismatch::Path)
        } else if now >= self.exp || self.iat > now.saturating_add(LEEWAY) {
            Err(Mismatch::Time)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn gateway(name: &str) -> SpiffeId {
        SpiffeId::parse(&format!(
            "spiffe://acme.internal/countersign/gateway/{name}"
        ))
        .unwrap()
    }

    fn assertion() -> Assertion {
        Assertion {
            act: vec![],
            aud: "https://acme.internal/svc/hms-api".to_owned(),
            exp: 130,
            iat: 100,
            iss: gateway("gw"),
            jti: "1".to_owned(),
            method: "GET".to_owned(),
            path: "/reports".to_owned(),
            receipt: "r-01".to_owned(),
            sub: "corp:ana".to_owned(),
        }
    }

    #[test]
    fn only_the_enforcement_point_it_names_can_sign_it() {
        let key = SigningKey::generate(KeyAlgorithm::EdDsa).unwrap();
        let mut keys = KeySet::empty(1);
        keys.add_owned(&key, gateway("gw"));
        let token = sign(&key, &assertion()).unwrap();
        assert_eq!(verify(&keys, &token), Ok(assertion()));
        let other = Assertion {
            iss: gateway("other"),
            ..assertion()
        };
        let forged = sign(&key, &other).unwrap();
        assert_eq!(verify(&keys, &forged), Err(TokenFault::Foreign));
        let long = sign(
            &key,
            &Assertion {
                exp: 131,
                ..assertion()
            },
        )
        .unwrap();
        assert_eq!(verify(&keys, &long), Err(TokenFault::Malformed));
        let far = sign(
            &key,
            &Assertion {
                exp: i64::MAX,
                iat: -1,
                ..assertion()
            },
        )
        .unwrap();
        assert_eq!(verify(&keys, &far), Err(TokenFault::Malformed));
        let mut nobodys = KeySet::empty(1);
        nobodys.add(&key);
        assert_eq!(verify(&nobodys, &token), Err(TokenFault::Foreign));
        assert_eq!(
            verify(&KeySet::empty(1), &token),
            Err(TokenFault::Signature)
        );
    }

    #[test]
    fn fits_one_request_for_a_while() {
        let aud = assertion().aud;
        let at = Timestamp::from_secs;
        let fits =
            |aud: &str, method: &str, path: &str, now| assertion().fits(aud, method, path, now);
        assert_eq!(fits(&aud, "GET", "/reports", at(100)), Ok(()));
        assert_eq!(fits(&aud, "GET", "/reports", at(98)), Ok(()));
        assert_eq!(fits(&aud, "GET", "/reports", at(97)), Err(Mismatch::Time));
        assert_eq!(fits(&aud, "GET", "/reports", at(130)), Err(Mismatch::Time));
        assert_eq!(
            fits("x", "GET", "/reports", at(100)),
            Err(Mismatch::Audience)
        );
        assert_eq!(
            fits(&aud, "get", "/reports", at(100)),
            Err(Mismatch::Method)
        );
        assert_eq!(fits(&aud, "GET", "/reports/", at(100)), Err(Mismatch::Path));
    }

    proptest! {
        #[test]
        fn never_panics(text in ".{0,80}") {
            prop_assert!(verify(&KeySet::empty(1), &text).is_err());
        }
    }
}
