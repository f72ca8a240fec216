//! Tokens, kept until shortly before they end.

use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Timestamp;
use parking_lot::Mutex;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// An access token for one service, bound to the certificate it was drawn with.
#[derive(Clone, Debug)]
pub struct AccessToken {
    pub(crate) value: SecretString,
    /// When it ends.
    pub expires: Timestamp,
    /// What it opens at its service, separated by spaces.
    pub scope: String,
}

/// Tokens that still have some time left.
#[derive(Debug, Default)]
pub(crate) struct Cache(Mutex<HashMap<Key, AccessToken>>);

/// What a token was drawn for, and with which certificate: after a rotation, a token bound to the
/// old one is of no use.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) audience: String,
    pub(crate) leaf: Digest,
    pub(crate) scope: String,
    /// The token it was exchanged for.
    pub(crate) subject: Option<Arc<str>>,
}

/// A token that ends sooner is drawn anew, so that it lives until it arrives.
const MARGIN: Duration = Duration::from_secs(5);
/// Tokens kept at most; when there are more, those that ended are forgotten, then all.
const CAPACITY: usize = 10_000;
impl AccessToken {
    /// The token itself, for an `Authorization: Bearer` header.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.value.expose_secret()
    }
}

impl Cache {
    pub(crate) fn find(&self, key: &Key, now: Timestamp) -> Option<AccessToken> {
        let tokens = self.0.lock();
        tokens
            .get(key)
            .filter(|token| token.expires > now.plus(MARGIN))
            .cloned()
    }

    pub(crate) fn keep(&self, key: Key, token: AccessToken, now: Timestamp) {
        let mut tokens = self.0.lock();
        if tokens.len() >= CAPACITY {
            tokens.retain(|_, token| token.expires > now);
            if tokens.len() >= CAPACITY {
                tokens.clear();
            }
        }
        tokens.insert(key, token);
    }

    pub(crate) fn forget(&self, key: &Key) {
        self.0.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(audience: &str) -> Key {
        let (leaf, scope) = (Digest::new([7; 32]), "report:read".to_owned());
        Key {
            audience: audience.to_owned(),
            leaf,
            scope,
            subject: None,
        }
    }

    fn token(expires: i64) -> AccessToken {
        let expires = Timestamp::from_secs(expires);
        AccessToken {
            value: "secret-token".into(),
            expires,
            scope: String::new(),
        }
    }

    #[test]
    fn a_token_is_reused_until_shortly_before_its_end() {
        let cache = Cache::default();
        cache.keep(key("hms-api"), token(160), Timestamp::from_secs(100));
        let at = |secs| {
            cache
                .find(&key("hms-api"), Timestamp::from_secs(secs))
                .is_some()
        };
        assert!(at(100) && at(154));
        assert!(!at(155) && !at(160));
        assert!(
            cache
                .find(&key("openai"), Timestamp::from_secs(100))
                .is_none()
        );
    }

    #[test]
    fn another_certificate_or_subject_is_another_token() {
        let cache = Cache::default();
        cache.keep(key("hms-api"), token(160), Timestamp::from_secs(100));
        let rotated = Key {
            leaf: Digest::new([8; 32]),
            ..key("hms-api")
        };
        let delegated = Key {
            subject: Some("a.b.c".into()),
            ..key("hms-api")
        };
        for other in [rotated, delegated] {
            assert!(cache.find(&other, Timestamp::from_secs(100)).is_none());
        }
    }

    #[test]
    fn the_cache_does_not_grow_without_bound() {
        let cache = Cache::default();
        for number in 0..CAPACITY + 10 {
            cache.keep(
                key(&number.to_string()),
                token(160),
                Timestamp::from_secs(100),
            );
        }
        assert!(cache.0.lock().len() <= CAPACITY);
    }

    #[test]
    fn a_token_is_not_in_debug_output() {
        assert!(!format!("{:?}", token(1)).contains("secret-token"));
    }
}
