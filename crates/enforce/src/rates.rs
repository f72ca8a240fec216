//! How often somebody called, against every rate limit that counts it.

use crate::budgets::EXACT;
use countersign_core::pillars::least_privilege::Charge;
use countersign_core::pillars::least_privilege::Charged;
use countersign_core::record::Limit;
use countersign_core::record::RateResult;
use hashbrown::DefaultHashBuilder;
use hashbrown::HashTable;
use parking_lot::Mutex;
use std::hash::BuildHasher;
use std::hash::Hash;
use std::hash::Hasher;
use std::sync::Arc;
use std::time::Duration;

/// What has been counted, by limit and key.
///
/// The calls of one hop are counted all or not at all, under one lock, so that concurrent hops
/// can't overdraw together. Time is the boot-time clock's: a step of the wall clock neither refills
/// nor starves. Who has not called for as long as a limit takes to be whole again is forgotten, and
/// nobody else: when there is no room for another key, that key is refused.
#[derive(Debug)]
pub(crate) struct Rates {
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    /// Where in `buckets` a limit and key are.
    places: HashTable<usize>,
    buckets: Vec<Bucket>,
    hasher: DefaultHashBuilder,
    /// The next bucket to be looked at, whether it can be forgotten.
    hand: usize,
    /// The most buckets there may be.
    room: usize,
}

#[derive(Debug)]
struct Bucket {
    hash: u64,
    key: Arc<str>,
    level: Level,
    limit: Limit,
}

/// A bucket that leaks: the generic cell rate algorithm (ITU-T I.371), as its equivalent that fills.
///
/// A call adds as many units as the window has nanoseconds and each nanosecond takes away as many
/// as the window has calls, so nothing is ever rounded. Full is `burst` calls.
#[derive(Clone, Copy, Debug)]
struct Level {
    at: Duration,
    pace: Pace,
    units: u128,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pace {
    burst: u32,
    count: u32,
    window: u64,
}

/// The most keys that are counted at once; some 40 MB.
const ROOM: usize = 1 << 18;
/// How many buckets are looked at for each charge, whether they can be forgotten: more than one, so
/// that the table shrinks as fast as it grew.
const STEPS: usize = 2;
/// The same where there is no room.
const SEARCH: usize = 64;
/// When there may be room again.
const CROWDED_MS: u64 = 1_000;
/// The bits behind the point of a share.
const SHARE: u32 = 40;

impl Default for Rates {
    fn default() -> Self {
        Self::with_room(ROOM)
    }
}

impl Rates {
    fn with_room(room: usize) -> Self {
        Self {
            table: Mutex::new(Table {
                places: HashTable::new(),
                buckets: Vec::new(),
                hasher: DefaultHashBuilder::default(),
                hand: 0,
                room,
            }),
        }
    }

    /// Counts one call against each limit, if all of them have room for it and `rest` agrees, which
    /// is told whether they have. Nobody sees what is counted before `rest` is through.
    pub(crate) fn charge<R>(
        &self,
        charges: &[Charge],
        now: Duration,
        rest: impl FnOnce(bool) -> (bool, R),
    ) -> (Vec<Charged>, R) {
        let mut table = self.table.lock();
        table.forget(now, charges.len());
        let mut before = Vec::with_capacity(charges.len());
        let mut charged = Vec::with_capacity(charges.len());
        for charge in charges {
            let place = table.place(charge, now);
            let level = place.and_then(|place| table.level(place));
            let outcome = match level {
                None => crowded(charge),
                Some(level) => {
                    level.run(now, charge);
                    let earlier = *level;
                    let outcome = level.add(charge);
                    if outcome.is_granted() {
                        before.extend(place.map(|place| (place, earlier)));
                    }
                    outcome
                }
            };
            charged.push(outcome);
        }
        let (agreed, rest) = rest(charged.iter().all(Charged::is_granted));
        if !agreed || !charged.iter().all(Charged::is_granted) {
            // The latest first: one limit may have been charged twice.
            for (place, earlier) in before.into_iter().rev() {
                if let Some(level) = table.level(place) {
                    *level = earlier;
                }
            }
        }
        (charged, rest)
    }

    /// Takes back what was counted at `at`, as far as time has not taken it away: what would have
    /// leaked from it meanwhile can't be told from what did leak.
    pub(crate) fn take_back(&self, charges: &[Charge], at: Duration, now: Duration) {
        let mut table = self.table.lock();
        for charge in charges {
            let place = table.find(charge);
            if let Some(level) = place.and_then(|place| table.level(place)) {
                level.run(now, charge);
                let left = level
                    .cost()
                    .saturating_sub(level.leaked(now.saturating_sub(at)));
                level.units = level.units.saturating_sub(left);
            }
        }
    }
}

impl Table {
    fn find(&self, charge: &Charge) -> Option<usize> {
        let hash = self.hash(charge);
        self.places
            .find(hash, |place| self.is_of(*place, charge))
            .copied()
    }

    /// The bucket of a charge, a new one where there is none; nothing where there is no room.
    fn place(&mut self, charge: &Charge, now: Duration) -> Option<usize> {
        if let Some(place) = self.find(charge) {
            return Some(place);
        }
        if self.buckets.len() >= self.room {
            return None;
        }
        let (hash, place) = (self.hash(charge), self.buckets.len());
        self.buckets.push(Bucket {
            hash,
            key: charge.key.clone(),
            level: Level {
                at: now,
                pace: Pace::of(charge),
                units: 0,
            },
            limit: charge.limit.clone(),
        });
        let buckets = &self.buckets;
        let rehash = |place: &usize| buckets.get(*place).map_or(0, |it| it.hash);
        self.places.insert_unique(hash, place, rehash);
        Some(place)
    }

    fn level(&mut self, place: usize) -> Option<&mut Level> {
        self.buckets.get_mut(place).map(|it| &mut it.level)
    }

    /// Looks at some buckets, and drops those that are as if they had never been. Called before
    /// places are handed out, since it moves buckets.
    fn forget(&mut self, now: Duration, coming: usize) {
        let full = self.buckets.len().saturating_add(coming) > self.room;
        for _ in 0..if full { SEARCH } else { STEPS * coming } {
            if self.hand >= self.buckets.len() {
                self.hand = 0;
            }
            match self.buckets.get(self.hand) {
                None => return,
                Some(bucket) if bucket.level.is_empty(now) => self.remove(self.hand),
                Some(_) => self.hand += 1,
            }
        }
    }

    fn remove(&mut self, place: usize) {
        let Some(hash) = self.buckets.get(place).map(|it| it.hash) else {
            return;
        };
        if let Ok(entry) = self.places.find_entry(hash, |it| *it == place) {
            entry.remove();
        }
        self.buckets.swap_remove(place);
        let last = self.buckets.len();
        if let Some(moved) = self.buckets.get(place)
            && let Some(entry) = self.places.find_mut(moved.hash, |it| *it == last)
        {
            *entry = place;
        }
    }

    fn is_of(&self, place: usize, charge: &Charge) -> bool {
        let bucket = self.buckets.get(place);
        bucket.is_some_and(|it| it.key == charge.key && it.limit == charge.limit)
    }

    fn hash(&self, charge: &Charge) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        match &charge.limit {
            Limit::Listener(name) => (0_u8, name).hash(&mut hasher),
            Limit::Operation { pattern, service } => (1_u8, pattern, service).hash(&mut hasher),
            Limit::Tier(name) => (2_u8, name).hash(&mut hasher),
        }
        charge.key.hash(&mut hasher);
        hasher.finish()
    }
}

impl Level {
    /// Lets go by the time up to now, and goes on at the pace of the charge. A clock read earlier
    /// by another thread is no time.
    fn run(&mut self, now: Duration, charge: &Charge) {
        let gone = self.leaked(now.saturating_sub(self.at));
        self.units = self.units.saturating_sub(gone);
        self.at = self.at.max(now);
        let pace = Pace::of(charge);
        if pace != self.pace {
            // What was used of the old limit stays used of the new one, in proportion and rounded
            // up: a change gives nobody a fresh burst, nor a wait longer than the new limit's own.
            let (old, new) = (self.pace.full().max(1), pace.full());
            let share = (self.units << SHARE).div_ceil(old);
            self.units = (new * share).div_ceil(1 << SHARE).min(new);
            self.pace = pace;
        }
    }

    /// Adds one call if there is room for it.
    fn add(&mut self, charge: &Charge) -> Charged {
        let (after, full) = (self.units + self.cost(), self.pace.full());
        let over = after.saturating_sub(full);
        let granted = over == 0;
        let charged = |remaining: u128, units: u128, result| Charged {
            charge: charge.clone(),
            remaining: u32::try_from(remaining).unwrap_or(u32::MAX),
            reset_ms: self.pace.millis(units),
            result,
        };
        if granted {
            let left = (full - after) / self.cost().max(1);
            let charged = charged(left, after, RateResult::Granted);
            self.units = after;
            charged
        } else {
            charged(0, over, RateResult::Exceeded)
        }
    }

    fn is_empty(&self, now: Duration) -> bool {
        self.units <= self.leaked(now.saturating_sub(self.at))
    }

    fn leaked(&self, time: Duration) -> u128 {
        time.as_nanos().saturating_mul(self.pace.count.into())
    }

    fn cost(&self) -> u128 {
        self.pace.cost()
    }
}

impl Pace {
    const fn of(charge: &Charge) -> Self {
        Self {
            burst: charge.burst,
            count: charge.count,
            window: charge.window,
        }
    }

    /// Units of a call: at most 2^47, a day.
    fn cost(self) -> u128 {
        u128::from(self.window) * 1_000_000_000
    }

    /// Units of a full bucket: at most 2^79, so that a share of it fits.
    fn full(self) -> u128 {
        self.cost() * u128::from(self.burst)
    }

    /// How long these units take to leak, rounded up.
    fn millis(self, units: u128) -> u64 {
        let millis = units.div_ceil(u128::from(self.count.max(1)) * 1_000_000);
        u64::try_from(millis).map_or(EXACT, |it| it.min(EXACT))
    }
}

fn crowded(charge: &Charge) -> Charged {
    Charged {
        charge: charge.clone(),
        remaining: 0,
        reset_ms: CROWDED_MS,
        result: RateResult::Crowded,
    }
}

#[cfg(test)]
#[path = "rates/tests.rs"]
mod tests;
