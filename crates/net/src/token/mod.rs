//! Access tokens (RFC 9068): reading what a caller presents, and writing what the issuer signs.
//!
//! A token's signature is checked once for each token and key-set generation; its claims come back
//! on every request, and `core` compares expiry, audience and binding each time.

mod budget;
mod cache;
mod claims;

pub use budget::Presenter;
pub use budget::UNKNOWN_BURST;
pub use budget::UNKNOWN_PER_SECOND;
pub use claims::claims_from_wire;
pub use claims::claims_to_wire;

use crate::digest::sha256;
use crate::jws;
use crate::jws::JwsError;
use crate::jws::KeyAlgorithm;
use crate::jws::KeySet;
use crate::jws::Keys;
use crate::jws::Kind;
use crate::jws::SigningKey;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use budget::Budget;
use cache::Cache;
use countersign_core::hop::Claims;
use countersign_core::hop::Token;
use countersign_core::hop::TokenFault;
use countersign_core::hop::VerifiedToken;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Timestamp;
use std::sync::Arc;

/// What an access token says it is.
const ACCESS: Kind = Kind {
    algorithm: KeyAlgorithm::Es256,
    typ: "at+jwt",
    typ_in_full: "application/at+jwt",
};

/// Verifies the access tokens of one issuer.
#[derive(Debug)]
pub struct TokenVerifier {
    budget: Budget,
    cache: Cache,
    issuer: String,
    keys: Arc<Keys>,
}

/// How many verified tokens are remembered at most, unless told otherwise: room for 100,000 that are
/// all in use, which do not spread evenly.
pub const CACHED_TOKENS: usize = 1 << 17;

impl TokenVerifier {
    /// Accepts tokens whose `iss` is exactly `issuer`, signed by one of `keys`; remembers at most
    /// `capacity` of them.
    #[must_use]
    pub fn new(keys: Arc<Keys>, issuer: String, capacity: usize) -> Self {
        Self {
            budget: Budget::new(),
            cache: Cache::new(capacity),
            issuer,
            keys,
        }
    }

    /// What the values of a request's `Authorization` headers prove, shown by `who`. `now` picks
    /// what the cache forgets first, and how many unknown tokens are looked at: an expired token
    /// with a good signature is still [`Token::Verified`].
    #[must_use]
    pub fn verify<'a>(
        &self,
        authorization: impl IntoIterator<Item = &'a [u8]>,
        who: Presenter,
        now: Timestamp,
    ) -> Token {
        let mut values = authorization.into_iter();
        let Some(value) = values.next() else {
            return Token::Absent;
        };
        // Two headers: another reader might take the other one.
        if values.next().is_some() {
            return invalid(TokenFault::Malformed, value);
        }
        match bearer(value) {
            Ok(token) => self.verify_token(token, who, now),
            Err(fault) => invalid(fault, value),
        }
    }

    /// The same for a token by itself, such as a `subject_token`.
    ///
    /// A token that is not remembered is looked at only while `who` has not shown too many that
    /// proved nothing ([`UNKNOWN_PER_SECOND`], [`UNKNOWN_BURST`]); otherwise it is
    /// [`TokenFault::Unverified`]. One that verifies costs nothing, so whoever brings many people's
    /// tokens is not slowed down by them.
    #[must_use]
    pub fn verify_token(&self, token: &str, who: Presenter, now: Timestamp) -> Token {
        if token.len() > jws::MAX_TOKEN {
            return invalid(TokenFault::Malformed, token.as_bytes());
        }
        let hash = sha256(token.as_bytes());
        let keys = self.keys.current();
        if let Some(known) = self.cache.find(&hash, keys.generation()) {
            return Token::Verified(known);
        }
        if !looks_like_jws(token) {
            let fault = TokenFault::Static;
            return Token::Invalid { fault, hash };
        }
        if !self.budget.take(who, now) {
            let fault = TokenFault::Unverified;
            return Token::Invalid { fault, hash };
        }
        match self.open(token, hash, &keys) {
            Ok(verified) => {
                self.budget.give_back(who);
                let verified = Arc::new(verified);
                self.cache.insert(verified.clone(), keys.generation(), now);
                Token::Verified(verified)
            }
            Err(fault) => Token::Invalid { fault, hash },
        }
    }

    fn open(&self, token: &str, hash: Digest, keys: &KeySet) -> Result<VerifiedToken, TokenFault> {
        let opened = jws::open(&ACCESS, keys, token)?;
        let claims = claims_from_wire(opened.payload).ok_or(TokenFault::Malformed)?;
        if claims.iss != self.issuer {
            return Err(TokenFault::Foreign);
        }
        Ok(VerifiedToken {
            claims,
            hash,
            kid: opened.kid,
        })
    }
}

/// Signs an access token.
///
/// # Errors
/// [`JwsError`] if the key is not an ES256 key, or signing fails.
pub fn sign_access_token(key: &SigningKey, claims: &Claims) -> Result<String, JwsError> {
    jws::sign(&ACCESS, key, &claims_to_wire(claims))
}

/// The token of `Bearer <token>` (RFC 6750 section 2.1).
fn bearer(value: &[u8]) -> Result<&str, TokenFault> {
    let text = std::str::from_utf8(value).map_err(|_| TokenFault::Malformed)?;
    let (scheme, rest) = text.split_once(' ').ok_or(TokenFault::Static)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        // A proof-of-possession token is no static credential; it is not of a form we issue.
        let dpop = scheme.eq_ignore_ascii_case("dpop");
        return Err(if dpop {
            TokenFault::Malformed
        } else {
            TokenFault::Static
        });
    }
    let token = rest.trim_matches(' ');
    if token.is_empty() {
        Err(TokenFault::Malformed)
    } else {
        Ok(token)
    }
}

/// Whether it starts as a JOSE object does. An API key may have dots, too, but no JSON in front.
fn looks_like_jws(token: &str) -> bool {
    let Some((header, _)) = token.split_once('.') else {
        return false;
    };
    let start = header.get(..4).unwrap_or_default();
    BASE64
        .decode(start)
        .is_ok_and(|bytes| bytes.starts_with(b"{"))
}

/// Only the first 8 KiB of an oversized credential are hashed: its sender pays for the rest.
fn invalid(fault: TokenFault, presented: &[u8]) -> Token {
    let presented = presented.get(..jws::MAX_TOKEN).unwrap_or(presented);
    Token::Invalid {
        fault,
        hash: sha256(presented),
    }
}
