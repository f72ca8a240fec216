use countersign_core::hop::VerifiedToken;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Timestamp;
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

/// Tokens whose signature was found good, by the SHA-256 of their bytes, for one generation of
/// keys.
///
/// Signatures are remembered, never verdicts. Only tokens that verified get in, so that nobody can
/// fill it without a key of the issuer; it is bounded all the same.
pub(super) struct Cache {
    shards: Box<[Mutex<Shard>]>,
}

/// Second chance (the clock algorithm): what was used since the hand last passed stays once more,
/// unless it is expired.
struct Shard {
    capacity: usize,
    entries: HashMap<Digest, Entry>,
    order: VecDeque<Digest>,
}

struct Entry {
    generation: u64,
    token: Arc<VerifiedToken>,
    used: bool,
}

const SHARDS: usize = 16;

impl Cache {
    pub(super) fn new(capacity: usize) -> Self {
        let capacity = capacity.div_ceil(SHARDS).max(1);
        let shard = || Shard {
            capacity,
            entries: HashMap::new(),
            order: VecDeque::new(),
        };
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(shard())).collect(),
        }
    }

    pub(super) fn find(&self, hash: &Digest, generation: u64) -> Option<Arc<VerifiedToken>> {
        let mut shard = self.shard(hash)?.lock();
        let entry = shard.entries.get_mut(hash)?;
        if entry.generation != generation {
            return None;
        }
        entry.used = true;
        Some(entry.token.clone())
    }

    pub(super) fn insert(&self, token: Arc<VerifiedToken>, generation: u64, now: Timestamp) {
        let hash = token.hash;
        let Some(shard) = self.shard(&hash) else {
            return;
        };
        let mut shard = shard.lock();
        shard.forget_expired(now);
        if shard.entries.len() >= shard.capacity && !shard.entries.contains_key(&hash) {
            shard.make_room(now);
        }
        let entry = Entry {
            generation,
            token,
            used: false,
        };
        if shard.entries.insert(hash, entry).is_none() {
            shard.order.push_back(hash);
        }
    }

    fn shard(&self, hash: &Digest) -> Option<&Mutex<Shard>> {
        self.shards
            .get(usize::from(hash.as_bytes().first()? % SHARDS as u8))
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.lock().entries.len())
            .sum()
    }
}

impl Shard {
    /// Tokens of one issuer live about equally long, so the expired ones are at the front.
    fn forget_expired(&mut self, now: Timestamp) {
        while let Some(front) = self.order.front() {
            if self
                .entries
                .get(front)
                .is_some_and(|entry| !entry.is_expired(now))
            {
                return;
            }
            self.entries.remove(front);
            self.order.pop_front();
        }
    }

    fn make_room(&mut self, now: Timestamp) {
        for _ in 0..=self.order.len() {
            let Some(hash) = self.order.pop_front() else {
                return;
            };
            match self.entries.get_mut(&hash) {
                Some(entry) if entry.used && !entry.is_expired(now) => {
                    entry.used = false;
                    self.order.push_back(hash);
                }
                _ => {
                    self.entries.remove(&hash);
                    return;
                }
            }
        }
    }
}

impl Entry {
    fn is_expired(&self, now: Timestamp) -> bool {
        self.token.claims.exp <= now.as_secs()
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("verified tokens")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::sha256;
    use countersign_core::hop::Binding;
    use countersign_core::hop::Claims;

    fn token(number: u64, exp: i64) -> Arc<VerifiedToken> {
        let text = String::new;
        let claims = Claims {
            act: vec![],
            aud: text(),
            ceil: vec![],
            client_id: text(),
            cnf: Binding::None,
            exp,
            groups: vec![],
            iat: 0,
            iss: text(),
            jti: text(),
            nbf: None,
            roles: vec![],
            scope: vec![],
            sid: None,
            sub: text(),
        };
        let hash = sha256(&number.to_be_bytes());
        Arc::new(VerifiedToken {
            claims,
            hash,
            kid: text(),
        })
    }

    #[test]
    fn stays_within_its_bound_and_keeps_what_is_used() {
        let cache = Cache::new(160);
        let favourite = token(0, 100);
        cache.insert(favourite.clone(), 1, Timestamp::from_secs(0));
        for number in 1..10_000 {
            cache.insert(token(number, 100), 1, Timestamp::from_secs(0));
            assert!(
                cache.find(&favourite.hash, 1).is_some(),
                "gone after {number}"
            );
        }
        assert!(cache.len() <= 160, "{}", cache.len());
        assert!(
            cache.find(&token(1, 100).hash, 1).is_none(),
            "never used again"
        );
    }

    #[test]
    fn forgets_what_expired_and_what_other_keys_signed() {
        let cache = Cache::new(16_000);
        for number in 0..1_000 {
            cache.insert(token(number, 10), 1, Timestamp::from_secs(0));
        }
        assert_eq!(cache.len(), 1_000);
        assert!(
            cache.find(&token(5, 10).hash, 2).is_none(),
            "another generation of keys"
        );
        for number in 1_000..2_000 {
            cache.insert(token(number, 30), 1, Timestamp::from_secs(11));
        }
        assert_eq!(cache.len(), 1_000);
    }
}
