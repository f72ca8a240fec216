//! Chains that were found good under one trust bundle.

use crate::recent::Recent;
use crate::x509::Role;
use aws_lc_rs::digest;
use countersign_core::hop::Certificate;
use countersign_core::vocabulary::Timestamp;
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::UnixTime;
use std::fmt;
use std::sync::Arc;

/// Remembers that a chain leads to a root of the bundle that holds this, and what its leaf says, so
/// that the signatures in a chain are verified once and not with each connection of its owner.
///
/// Whether a chain leads to a root is decided by its bytes, by the bundle and by the time. The bytes
/// are the key, all of them; a bundle never changes, and another one has a memory of its own; and
/// what is known counts only while every certificate on the path and the root are in force. That
/// the peer has the leaf's key is not remembered: each full handshake proves it again. What is
/// revoked is for the decision to see, with each request.
pub(crate) struct Proved(Mutex<Recent<Chain, Known>>);

/// SHA-256 of a chain as it was shown, and by which side.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Chain([u8; 32]);

struct Known {
    facts: Arc<Certificate>,
    valid: Validity,
}

/// From when until when, both included, every certificate of a path is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    from: Timestamp,
    to: Timestamp,
}

/// How many chains of one bundle are remembered. Only chains that lead to a root get in.
const CHAINS: usize = 8192;

impl Chain {
    /// Names a chain (leaf first) that `role` shows.
    pub(crate) fn of(chain: &[CertificateDer<'_>], role: Role) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(match role {
            Role::Client => b"client",
            Role::Server => b"server",
        });
        for certificate in chain {
            // With its length, so that no two chains are the same bytes.
            context.update(&(certificate.len() as u64).to_be_bytes());
            context.update(certificate);
        }
        let mut name = [0; 32];
        name.copy_from_slice(context.finish().as_ref());
        Self(name)
    }
}

impl Validity {
    /// Of one certificate.
    pub(crate) const fn new((from, to): (Timestamp, Timestamp)) -> Self {
        Self { from, to }
    }

    /// While both are in force.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            from: self.from.max(other.from),
            to: self.to.min(other.to),
        }
    }

    /// Whether `now` is within.
    pub(crate) fn holds_at(self, now: UnixTime) -> bool {
        i64::try_from(now.as_secs())
            .map(Timestamp::from_secs)
            .is_ok_and(|now| self.from <= now && now <= self.to)
    }
}

impl Proved {
    pub(crate) fn nothing() -> Self {
        Self(Mutex::new(Recent::new(CHAINS)))
    }

    /// What was found out about a chain, if it still holds.
    pub(crate) fn find(&self, chain: &Chain, now: UnixTime) -> Option<Arc<Certificate>> {
        let mut known = self.0.lock();
        let known = known.find(chain)?;
        known.valid.holds_at(now).then(|| known.facts.clone())
    }

    /// Remembers it for as long as it is valid.
    pub(crate) fn keep(&self, chain: Chain, facts: Arc<Certificate>, valid: Validity) {
        self.0.lock().insert(chain, Known { facts, valid });
    }
}

impl fmt::Debug for Proved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("chains that were found good")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_core::vocabulary::Digest;
    use countersign_core::vocabulary::SpiffeId;
    use std::time::Duration;

    fn at(secs: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(secs))
    }

    fn validity(from: i64, to: i64) -> Validity {
        Validity::new((Timestamp::from_secs(from), Timestamp::from_secs(to)))
    }

    #[test]
    fn counts_while_all_of_it_is_in_force() {
        let digest = Digest::new([1; 32]);
        let facts = Arc::new(Certificate {
            issuer: digest,
            issuers_above: Box::default(),
            leaf: digest,
            not_after: Timestamp::from_secs(30),
            not_before: Timestamp::from_secs(10),
            root: digest,
            serial: "1".to_owned(),
            spiffe_id: SpiffeId::parse("spiffe://acme.internal/a").unwrap(),
        });
        let proved = Proved::nothing();
        let chain = Chain::of(&[vec![1].into()], Role::Client);
        proved.keep(chain, facts, validity(10, 30).and(validity(0, 20)));
        let known = |now| proved.find(&chain, at(now)).is_some();
        assert_eq!([9, 10, 20, 21].map(known), [false, true, true, false]);
    }

    #[test]
    fn another_chain_has_another_name() {
        let chain = |parts: &[&[u8]], role| {
            let parts: Vec<_> = parts.iter().map(|it| CertificateDer::from(*it)).collect();
            Chain::of(&parts, role).0
        };
        let names = [
            chain(&[b"ab", b"c"], Role::Client),
            chain(&[b"a", b"bc"], Role::Client),
            chain(&[b"abc"], Role::Client),
            chain(&[b"ab", b"c"], Role::Server),
            chain(&[b"c", b"ab"], Role::Client),
        ];
        let different: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(different.len(), names.len());
    }
}
