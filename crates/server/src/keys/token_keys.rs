//! Access-token keys and their rotation.
//!
//! A key lives through four moments: it is made and published; one cache period later, when
//! everyone who verifies has fetched it, it signs; its successor signs instead; and when the last
//! token it signed has ended, it is withdrawn and destroyed.

use super::KeyError;
use super::folder::KeyFolder;
use crate::store::Store;
use crate::store::TokenKeyRow;
use countersign_core::vocabulary::Timestamp;
use countersign_net::KeyAlgorithm;
use countersign_net::KeySet;
use countersign_net::Keys;
use countersign_net::SigningKey;
use parking_lot::RwLock;
use std::sync::Arc;
use std::time::Duration;

const PURPOSE: &str = "access-token";

/// How long keys are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// A key signs for so long.
    pub every: Duration,
    /// A key is published so long before it signs: what a verifier may cache the set for.
    pub cache: Duration,
    /// The longest token.
    pub lifetime: Duration,
    /// How far clocks may differ.
    pub skew: Duration,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            every: Duration::from_hours(24),
            cache: Duration::from_mins(5),
            lifetime: Duration::from_hours(1),
            skew: Duration::from_secs(30),
        }
    }
}

/// The keys that sign and verify access tokens.
#[derive(Debug)]
pub struct TokenKeys {
    folder: Arc<KeyFolder>,
    store: Store,
    schedule: Schedule,
    held: RwLock<Vec<Held>>,
    published: Arc<Keys>,
    /// Held while keys are made or withdrawn.
    changing: tokio::sync::Mutex<()>,
}

#[derive(Clone, Debug)]
struct Held {
    row: TokenKeyRow,
    key: Arc<SigningKey>,
}

impl TokenKeys {
    /// Loads the keys, making the first where there is none; it signs at once.
    ///
    /// # Errors
    /// [`KeyError`].
    pub async fn open(
        folder: Arc<KeyFolder>,
        store: Store,
        schedule: Schedule,
        now: Timestamp,
    ) -> Result<Self, KeyError> {
        let mut held = Vec::new();
        for row in store.token_keys().await? {
            let der = folder.load(PURPOSE, &row.kid)?;
            let der = der.ok_or_else(|| KeyError::Lost(row.kid.clone()))?;
            let key = SigningKey::from_pkcs8(KeyAlgorithm::Es256, &der)?;
            if key.kid() != row.kid {
                return Err(KeyError::Lost(row.kid));
            }
            held.push(Held {
                row,
                key: Arc::new(key),
            });
        }
        let published = Keys::new(KeySet::empty(0));
        let keys = Self {
            folder,
            store,
            schedule,
            held: RwLock::new(held),
            published,
            changing: tokio::sync::Mutex::new(()),
        };
        if keys.held.read().is_empty() {
            keys.make(now, now).await?;
        }
        keys.publish();
        Ok(keys)
    }

    /// The key that signs now.
    ///
    /// # Errors
    /// [`KeyError::None`] if there is none, which opening rules out.
    pub fn signer(&self, now: Timestamp) -> Result<Arc<SigningKey>, KeyError> {
        let held = self.held.read();
        let signing = held.iter().rev().find(|held| held.row.signs_from <= now);
        // A clock that went back must not stop the issuer.
        signing
            .or(held.first())
            .map(|held| held.key.clone())
            .ok_or(KeyError::None)
    }

    /// The keys that verify, replaced in place when they change.
    #[must_use]
    pub const fn verifying(&self) -> &Arc<Keys> {
        &self.published
    }

    /// The keys that verify, as a JSON Web Key Set.
    #[must_use]
    pub fn jwks(&self) -> serde_json::Value {
        self.published.current().to_jwks()
    }

    /// Publishes the next key, which signs one cache period from now. Where one is waiting
    /// already, that is the next. Returns its id.
    ///
    /// # Errors
    /// [`KeyError`].
    pub async fn rotate(&self, now: Timestamp) -> Result<String, KeyError> {
        let _changing = self.changing.lock().await;
        let newest = self.held.read().last().map(|held| held.row.clone());
        if let Some(waiting) = newest.filter(|row| row.signs_from > now) {
            return Ok(waiting.kid);
        }
        let kid = self.make(now, now.plus(self.schedule.cache)).await?;
        self.publish();
        Ok(kid)
    }

    /// Does what is due: publishes the next key, withdraws what signed its last token long enough
    /// ago. Says whether the set of keys that verify has changed.
    ///
    /// # Errors
    /// [`KeyError`].
    pub async fn tick(&self, now: Timestamp) -> Result<bool, KeyError> {
        let newest = self.held.read().last().map(|held| held.row.signs_from);
        let age = newest.map(|signs_from| now.since(signs_from));
        let due = age.is_none_or(|age| age + self.schedule.cache >= self.schedule.every);
        if due {
            self.rotate(now).await?;
        }
        Ok(self.withdraw(now).await? || due)
    }

    async fn withdraw(&self, now: Timestamp) -> Result<bool, KeyError> {
        let _changing = self.changing.lock().await;
        let after = self.schedule.lifetime + self.schedule.skew;
        let held = self.held.read().clone();
        let gone: Vec<String> = held
            .iter()
            .zip(held.iter().skip(1))
            .filter(|(_, next)| next.row.signs_from.plus(after) <= now)
            .map(|(old, _)| old.row.kid.clone())
            .collect();
        for kid in &gone {
            self.store.withdraw_token_key(kid, now).await?;
            self.held.write().retain(|held| held.row.kid != *kid);
            self.publish();
            self.folder.destroy(PURPOSE, kid)?;
        }
        Ok(!gone.is_empty())
    }

    async fn make(&self, now: Timestamp, signs_from: Timestamp) -> Result<String, KeyError> {
        let key = SigningKey::generate(KeyAlgorithm::Es256)?;
        let kid = key.kid().to_owned();
        // The file first: a schedule without its key would stop the next start.
        self.folder.save(PURPOSE, &kid, key.pkcs8())?;
        let row = TokenKeyRow {
            kid: kid.clone(),
            created: now,
            signs_from,
        };
        self.store.insert_token_key(&row).await?;
        self.held.write().push(Held {
            row,
            key: Arc::new(key),
        });
        Ok(kid)
    }

    fn publish(&self) {
        let mut set = KeySet::empty(self.published.current().generation() + 1);
        for held in self.held.read().iter() {
            set.add(&held.key);
        }
        self.published.replace(set);
    }
}
