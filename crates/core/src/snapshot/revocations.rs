use super::layers::Layers;
use crate::vocabulary::Digest;
use crate::vocabulary::SpiffeId;
use crate::vocabulary::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use std::hash::Hash;

/// One line of the ordered revocation log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// When.
    pub at: Timestamp,
    /// Its place in the order; the first is 1.
    pub epoch: u64,
    /// Whether it takes an earlier revocation back.
    #[serde(default)]
    pub lifted: bool,
    /// What.
    pub what: Revoked,
}

/// What can be revoked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Revoked {
    /// A leaf certificate, by the SHA-256 of its DER.
    Certificate(Digest),
    /// A workload: every certificate with this SPIFFE ID, and it as a subject and actor.
    Identity(SpiffeId),
    /// An issuing certificate, by the SHA-256 of its public key.
    Issuer(Digest),
    /// A session, by the SHA-256 of its id.
    Session(Digest),
    /// A subject as tokens name it: `<login>:<sub>` or a SPIFFE ID.
    Subject(String),
    /// One token, by its `jti`.
    Token(String),
}

/// The revocation log up to an epoch, ready for look-ups. A copy shares what both have.
#[derive(Clone, Debug, Default)]
pub struct Revocations {
    epoch: u64,
    certificates: Layers<Digest, Timestamp>,
    identities: Layers<SpiffeId, Timestamp>,
    issuers: Layers<Digest, Timestamp>,
    sessions: Layers<Digest, Timestamp>,
    subjects: Layers<String, Timestamp>,
    tokens: Layers<String, Timestamp>,
}

/// Lines are missing before one that was offered: the log has to be sent again from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("revocations after epoch `{known}` are missing before `{offered}`")]
pub struct RevocationGap {
    /// The last epoch taken in; the next line wanted is the one after it.
    pub known: u64,
    /// The epoch of the line that was not taken in.
    pub offered: u64,
}

impl Revocations {
    /// The log replayed up to and including `epoch`.
    ///
    /// It wants a complete log in order: at a gap it stops, which its [`epoch`](Self::epoch) tells.
    pub fn up_to<'a>(log: impl IntoIterator<Item = &'a Revocation>, epoch: u64) -> Self {
        let mut revocations = Self::default();
        for line in log.into_iter().filter(|line| line.epoch <= epoch) {
            if revocations.apply(line).is_err() {
                break;
            }
        }
        revocations
    }

    /// Takes in the next line; lines at or below the current epoch are old news.
    ///
    /// # Errors
    /// [`RevocationGap`] if it is not the next one. Taking it in would make every line between
    /// look like old news for ever.
    pub fn apply(&mut self, line: &Revocation) -> Result<(), RevocationGap> {
        if line.epoch <= self.epoch {
            return Ok(());
        }
        if line.epoch != self.epoch.saturating_add(1) {
            return Err(RevocationGap {
                known: self.epoch,
                offered: line.epoch,
            });
        }
        self.epoch = line.epoch;
        match &line.what {
            Revoked::Certificate(leaf) => note(&mut self.certificates, *leaf, line),
            Revoked::Identity(id) => note(&mut self.identities, id.clone(), line),
            Revoked::Issuer(key) => note(&mut self.issuers, *key, line),
            Revoked::Session(sid) => note(&mut self.sessions, *sid, line),
            Revoked::Subject(sub) => note(&mut self.subjects, sub.clone(), line),
            Revoked::Token(jti) => note(&mut self.tokens, jti.clone(), line),
        }
        Ok(())
    }

    /// The last epoch taken in; 0 before the first.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// When this leaf certificate was revoked.
    #[must_use]
    pub fn certificate(&self, leaf: &Digest) -> Option<Timestamp> {
        self.certificates.get(leaf)
    }

    /// When this workload was revoked, by its SPIFFE ID or as a subject.
    #[must_use]
    pub fn workload(&self, id: &SpiffeId) -> Option<Timestamp> {
        let identity = self.identities.get(id);
        identity.or_else(|| self.subject(id.as_str()))
    }

    /// When this issuing key was revoked.
    #[must_use]
    pub fn issuer(&self, key: &Digest) -> Option<Timestamp> {
        self.issuers.get(key)
    }

    /// When the first was revoked of the keys that a certificate's path leads over: the issuer's
    /// and those above it. Whoever can't be believed has no one below to vouch for.
    #[must_use]
    pub fn path(&self, issuer: &Digest, above: &[Digest]) -> Option<Timestamp> {
        if self.issuers.is_empty() {
            return None;
        }
        let keys = std::iter::once(issuer).chain(above);
        keys.filter_map(|key| self.issuer(key)).min()
    }

    /// When this session was revoked.
    #[must_use]
    pub fn session(&self, sid: &Digest) -> Option<Timestamp> {
        self.sessions.get(sid)
    }

    /// When this subject was revoked, as tokens name it.
    #[must_use]
    pub fn subject(&self, sub: &str) -> Option<Timestamp> {
        self.subjects.get(sub)
    }

    /// When this token was revoked.
    #[must_use]
    pub fn token(&self, jti: &str) -> Option<Timestamp> {
        self.tokens.get(jti)
    }
}

fn note<K: Clone + Eq + Hash>(map: &mut Layers<K, Timestamp>, key: K, line: &Revocation) {
    if line.lifted {
        map.remove(key);
    } else if map.get(&key).is_none() {
        // The first word counts: revoking again must not make it look recent.
        map.insert(key, line.at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(epoch: u64, lifted: bool, what: Revoked) -> Revocation {
        Revocation {
            at: Timestamp::from_secs(i64::try_from(epoch).unwrap()),
            epoch,
            lifted,
            what,
        }
    }

    #[test]
    fn any_epoch_can_be_rebuilt() {
        let alice = Revoked::Subject("dev:alice".into());
        let log = [
            line(1, false, Revoked::Token("t1".into())),
            line(2, false, alice.clone()),
            line(3, true, alice),
        ];
        let at = |epoch| Revocations::up_to(&log, epoch);
        assert_eq!(at(0).token("t1"), None);
        assert_eq!(at(1).token("t1"), Some(Timestamp::from_secs(1)));
        assert_eq!(at(2).subject("dev:alice"), Some(Timestamp::from_secs(2)));
        assert_eq!(at(3).subject("dev:alice"), None);
        assert_eq!(at(3).epoch(), 3);
    }

    #[test]
    fn old_news_changes_nothing() {
        let mut revocations = Revocations::default();
        let lines = [
            line(1, true, Revoked::Token("t1".into())),
            line(2, false, Revoked::Token("t1".into())),
        ];
        for line in &lines {
            assert_eq!(revocations.apply(line), Ok(()));
        }
        assert_eq!(revocations.apply(&lines[0]), Ok(()));
        assert_eq!(revocations.epoch(), 2);
        assert!(revocations.token("t1").is_some());
    }

    #[test]
    fn a_gap_is_reported_and_nothing_is_lost() {
        let log: Vec<_> = (1..=3)
            .map(|epoch| line(epoch, false, Revoked::Token(format!("t{epoch}"))))
            .collect();
        let mut revocations = Revocations::default();
        assert_eq!(revocations.apply(&log[0]), Ok(()));
        let gap = RevocationGap {
            known: 1,
            offered: 3,
        };
        assert_eq!(revocations.apply(&log[2]), Err(gap));
        assert_eq!((revocations.epoch(), revocations.token("t3")), (1, None));
        assert_eq!(revocations.apply(&log[1]), Ok(()));
        assert_eq!(revocations.apply(&log[2]), Ok(()));
        for (epoch, jti) in ["t1", "t2", "t3"].into_iter().enumerate() {
            assert!(revocations.token(jti).is_some(), "{epoch}");
        }
        assert_eq!(Revocations::up_to([&log[0], &log[2]], 3).epoch(), 1);
    }

    #[test]
    fn a_copy_with_one_more_leaves_the_one_before_as_it_was() {
        let mut versions = vec![Revocations::default()];
        for epoch in 1..=200 {
            let token = format!("t{}", epoch % 50);
            let mut next = versions.last().unwrap().clone();
            let lifted = epoch % 3 == 0;
            next.apply(&line(epoch, lifted, Revoked::Token(token)))
                .unwrap();
            versions.push(next);
        }
        let log: Vec<_> = (1..=200)
            .map(|epoch| {
                let token = format!("t{}", epoch % 50);
                line(epoch, epoch % 3 == 0, Revoked::Token(token))
            })
            .collect();
        for (epoch, version) in (0..).zip(&versions) {
            let replayed = Revocations::up_to(&log, epoch);
            for token in 0..50 {
                let token = format!("t{token}");
                assert_eq!(version.token(&token), replayed.token(&token), "{epoch}");
            }
        }
    }

    #[test]
    fn a_workload_goes_by_either_of_its_names() {
        let id = SpiffeId::parse("spiffe://hms.dev.invalid/hms-api").unwrap();
        for what in [
            Revoked::Identity(id.clone()),
            Revoked::Subject(id.as_str().to_owned()),
        ] {
            let revocations = Revocations::up_to(&[line(1, false, what)], 1);
            assert_eq!(revocations.workload(&id), Some(Timestamp::from_secs(1)));
        }
    }
}
