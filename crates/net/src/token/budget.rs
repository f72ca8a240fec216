//! How many tokens that prove nothing each peer may have verified.
//!
//! A forged token costs its sender nothing and us a signature check. So each peer certificate of
//! ours, each authority of partners, and each network of those that show none, has so many unknown
//! tokens; beyond them its unknown tokens are not looked at, and everybody else's are.

use countersign_core::hop::Evidence;
use countersign_core::hop::Peer;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Timestamp;
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::fmt;
use std::net::IpAddr;

/// Tokens that proved nothing which one peer may have verified in a second, in the long run.
pub const UNKNOWN_PER_SECOND: u32 = 100;
/// And at once.
pub const UNKNOWN_BURST: u32 = 200;

/// Who shows a token, and pays for it should it prove nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Presenter {
    /// This process, with a token that it has from the issuer itself.
    Ourselves,
    /// Whoever holds this leaf certificate of ours (SHA-256 of its DER).
    Certificate(Digest),
    /// Everybody for whom this authority of a partner vouches (SHA-256 of its DER): it makes as
    /// many leaves as it likes.
    Authority(Digest),
    /// Somebody in this network who shows no certificate.
    Network(IpAddr),
    /// Nobody that could be told from others.
    Unknown,
}

impl Presenter {
    /// Who is at the other end of a connection; `network` stands for who has no certificate.
    #[must_use]
    pub fn of(evidence: &Evidence, network: Option<IpAddr>) -> Self {
        match (&evidence.peer, network) {
            (Peer::Certificate(it), _) => Self::Certificate(it.leaf),
            (Peer::Partner(it), _) => Self::Authority(it.root),
            (_, Some(network)) => Self::Network(network),
            (_, None) => Self::Unknown,
        }
    }
}

/// What each presenter has left, in bounded memory: an account that is full again is forgotten.
pub(super) struct Budget(Mutex<Accounts>);

struct Accounts {
    /// When each account is full again, in microseconds (the theoretical arrival time of the
    /// generic cell rate algorithm).
    full_at: HashMap<Presenter, i64>,
    /// For all that have no account of their own because there are too many.
    shared: i64,
    swept: i64,
}

/// One token's worth.
const COST: i64 = 1_000_000 / UNKNOWN_PER_SECOND as i64;
/// A whole account's worth.
const WHOLE: i64 = COST * UNKNOWN_BURST as i64;
/// Accounts at once. Each must have shown forged tokens within the last two seconds.
const ACCOUNTS: usize = 16_384;

impl Budget {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Accounts {
            full_at: HashMap::new(),
            shared: 0,
            swept: 0,
        }))
    }

    /// Takes one token's worth; false if it is not there.
    pub(super) fn take(&self, who: Presenter, now: Timestamp) -> bool {
        if who == Presenter::Ourselves {
            return true;
        }
        let now = now.as_micros();
        let mut accounts = self.0.lock();
        accounts.make_room(who, now);
        let Some(full_at) = accounts.account(who, true) else {
            return false;
        };
        // A clock that stepped back leaves a moment that no account can have.
        let from = if *full_at > now.saturating_add(WHOLE) {
            now
        } else {
            now.max(*full_at)
        };
        let after = from.saturating_add(COST);
        if after > now.saturating_add(WHOLE) {
            return false;
        }
        *full_at = after;
        true
    }

    /// Gives it back: the token was good.
    pub(super) fn give_back(&self, who: Presenter) {
        let mut accounts = self.0.lock();
        if let Some(full_at) = accounts.account(who, false) {
            *full_at = full_at.saturating_sub(COST);
        }
    }

    #[cfg(test)]
    fn accounts(&self) -> usize {
        self.0.lock().full_at.len()
    }
}

impl Accounts {
    fn account(&mut self, who: Presenter, open: bool) -> Option<&mut i64> {
        if self.full_at.contains_key(&who) {
            return self.full_at.get_mut(&who);
        }
        if who == Presenter::Ourselves {
            return None;
        }
        if self.full_at.len() >= ACCOUNTS || !open {
            return Some(&mut self.shared);
        }
        Some(self.full_at.entry(who).or_insert(0))
    }

    /// Forgets full accounts where room is wanted, at most once in an account's time: a flood of
    /// new presenters would otherwise have us look at all of them for each.
    fn make_room(&mut self, who: Presenter, now: i64) {
        let wanted = self.full_at.len() >= ACCOUNTS && !self.full_at.contains_key(&who);
        if wanted && (now - self.swept).unsigned_abs() >= WHOLE.unsigned_abs() / 4 {
            self.swept = now;
            self.full_at
                .retain(|_, full_at| *full_at > now && *full_at <= now + WHOLE);
        }
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("budgets of unknown tokens")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::sha256;
    use countersign_core::hop::PartnerCertificate;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn certificate(number: u32) -> Presenter {
        Presenter::Certificate(sha256(&number.to_be_bytes()))
    }

    fn shown(root: u8, leaf: u8) -> Presenter {
        let mut evidence = Evidence::none();
        evidence.peer = Peer::Partner(Arc::new(PartnerCertificate {
            dns_names: vec![format!("{leaf}.globex.example")],
            issuer: Digest::new([root; 32]),
            issuers_above: Box::default(),
            leaf: Digest::new([leaf; 32]),
            not_after: Timestamp::from_secs(60),
            not_before: Timestamp::from_secs(0),
            root: Digest::new([root; 32]),
            serial: "2a".to_owned(),
        }));
        Presenter::of(&evidence, Some([192, 0, 2, 1].into()))
    }

    fn taken(budget: &Budget, who: Presenter, millis: i64, times: u32) -> u32 {
        let now = Timestamp::from_micros(millis * 1_000);
        (0..times).map(|_| u32::from(budget.take(who, now))).sum()
    }

    #[test]
    fn a_burst_and_then_so_many_a_second() {
        let budget = Budget::new();
        let (one, other) = (certificate(1), certificate(2));
        assert_eq!(taken(&budget, one, 10_000, 1_000), UNKNOWN_BURST);
        assert_eq!(taken(&budget, one, 10_000, 10), 0);
        assert_eq!(taken(&budget, one, 10_500, 1_000), UNKNOWN_PER_SECOND / 2);
        assert_eq!(taken(&budget, other, 10_500, 1_000), UNKNOWN_BURST);
        assert_eq!(taken(&budget, one, 60_000, 1_000), UNKNOWN_BURST);
        let ourselves = taken(&budget, Presenter::Ourselves, 60_000, 1_000);
        assert_eq!(ourselves, 1_000);
    }

    #[test]
    fn a_partner_has_no_more_for_making_more_leaves() {
        let budget = Budget::new();
        for leaf in 0..=255 {
            taken(&budget, shown(1, leaf), 10_000, 10);
        }
        assert_eq!(taken(&budget, shown(1, 7), 10_000, 10), 0);
        assert_eq!(taken(&budget, shown(2, 7), 10_000, 1_000), UNKNOWN_BURST);
    }

    #[test]
    fn what_was_good_is_free() {
        let budget = Budget::new();
        for _ in 0..10_000 {
            assert!(budget.take(certificate(1), Timestamp::from_secs(1)));
            budget.give_back(certificate(1));
        }
        assert_eq!(taken(&budget, certificate(1), 1_000, 1_000), UNKNOWN_BURST);
    }

    #[test]
    fn a_clock_that_steps_back_locks_nobody_out() {
        let budget = Budget::new();
        assert_eq!(
            taken(&budget, certificate(1), 9_000_000, 500),
            UNKNOWN_BURST
        );
        assert_eq!(taken(&budget, certificate(1), 1_000, 500), UNKNOWN_BURST);
    }

    #[test]
    fn memory_is_bounded_and_who_forges_first_keeps_no_one_out() {
        let budget = Budget::new();
        let now = Timestamp::from_secs(5);
        for number in 0..(ACCOUNTS as u32 + 5_000) {
            budget.take(certificate(number), now);
        }
        assert_eq!(budget.accounts(), ACCOUNTS);
        // Those without an account share one.
        assert_eq!(taken(&budget, certificate(900_000), 5_000, 1_000), 0);
        // And have their own again once there is room.
        assert_eq!(
            taken(&budget, certificate(900_000), 8_000, 1_000),
            UNKNOWN_BURST
        );
        assert!(budget.accounts() < 10);
    }

    proptest! {
        #[test]
        fn never_more_than_the_rate_allows(steps in prop::collection::vec(0_i64..50_000, 1..400)) {
            let budget = Budget::new();
            let (mut now, mut taken) = (0, 0_i64);
            for step in steps {
                now += step;
                taken += i64::from(budget.take(certificate(1), Timestamp::from_micros(now)));
                prop_assert!(taken <= i64::from(UNKNOWN_BURST) + now / COST);
            }
        }
    }
}
