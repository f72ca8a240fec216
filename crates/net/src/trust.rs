use crate::digest;
use crate::proved::Proved;
use crate::proved::Validity;
use crate::x509;
use crate::x509::SvidError;
use arc_swap::ArcSwap;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::TrustDomain;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::TrustAnchor;
use rustls_pki_types::UnixTime;
use rustls_pki_types::pem::PemObject;
use std::fmt;
use std::sync::Arc;

/// The roots of one trust domain, at one generation.
///
/// Roots of several trust domains are never pooled: whoever holds one could speak for all.
pub struct TrustBundle {
    anchors: Anchors,
    domain: TrustDomain,
    generation: u64,
    proved: Proved,
}

/// Certificates that paths may lead to, whoever they are of.
pub(crate) struct Anchors {
    anchors: Vec<TrustAnchor<'static>>,
    facts: Vec<RootFacts>,
}

/// What evidence says about a root.
#[derive(Clone, Copy)]
pub(crate) struct RootFacts {
    /// SHA-256 of the certificate.
    pub(crate) certificate: Digest,
    /// SHA-256 of its public key.
    pub(crate) public_key: Digest,
    pub(crate) validity: Validity,
}

/// The trust bundle in force, replaceable while listeners run.
///
/// A new bundle discards every TLS session made under the one before.
#[derive(Debug)]
pub struct Roots(ArcSwap<TrustBundle>);

/// Why certificates are no trust bundle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// None given: it would trust nobody.
    #[error("a trust bundle needs at least one root certificate")]
    Empty,
    /// Not a readable certificate.
    #[error("root certificate number {0} can't be read")]
    Unreadable(usize),
    /// A certificate that can't be a root: no authority, a weak key, or something critical in it
    /// that nobody here would heed.
    #[error("root certificate number {0} can't be a root: {1}")]
    Unfit(usize, SvidError),
}

impl RootFacts {
    /// Whether the root itself is in force. RFC 5280 section 6.1 leaves that open; a root that
    /// has ended speaks for nobody here, because its key may long be somebody else's.
    pub(crate) fn is_valid_at(&self, now: UnixTime) -> bool {
        self.validity.holds_at(now)
    }
}

impl TrustBundle {
    /// Takes the roots of `domain`; `generation` grows with each change of them.
    ///
    /// # Errors
    /// [`TrustError`] if there is none, or one is unreadable or can't be a root.
    pub fn new(
        domain: TrustDomain,
        roots: &[CertificateDer<'_>],
        generation: u64,
    ) -> Result<Self, TrustError> {
        Ok(Self {
            anchors: Anchors::new(roots)?,
            domain,
            generation,
            proved: Proved::nothing(),
        })
    }

    /// Reads the roots of `domain` in PEM.
    ///
    /// # Errors
    /// [`TrustError`] if there is none, or one is unreadable or can't be a root.
    pub fn from_pem(domain: TrustDomain, pem: &[u8], generation: u64) -> Result<Self, TrustError> {
        Ok(Self {
            anchors: Anchors::from_pem(pem)?,
            domain,
            generation,
            proved: Proved::nothing(),
        })
    }

    /// The trust domain that these roots speak for.
    #[must_use]
    pub const fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// Which generation this is.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// SHA-256 of each root (DER).
    pub fn digests(&self) -> impl Iterator<Item = Digest> + '_ {
        self.anchors.digests()
    }

    pub(crate) const fn anchors(&self) -> &Anchors {
        &self.anchors
    }

    /// Chains that were found good under this very bundle.
    pub(crate) const fn proved(&self) -> &Proved {
        &self.proved
    }
}

impl Anchors {
    pub(crate) fn new(roots: &[CertificateDer<'_>]) -> Result<Self, TrustError> {
        let (mut anchors, mut facts) = (Vec::new(), Vec::new());
        for (index, root) in roots.iter().enumerate() {
            let unreadable = TrustError::Unreadable(index + 1);
            let anchor = webpki::anchor_from_trusted_cert(root).map_err(|_| unreadable.clone())?;
            anchors.push(anchor.to_owned());
            let read = x509::read(root).map_err(|_| unreadable)?;
            x509::check_root(&read).map_err(|why| TrustError::Unfit(index + 1, why))?;
            facts.push(RootFacts {
                certificate: digest::sha256(root),
                public_key: digest::sha256(read.public_key().raw),
                validity: Validity::new(x509::validity(&read)),
            });
        }
        if anchors.is_empty() {
            return Err(TrustError::Empty);
        }
        Ok(Self { anchors, facts })
    }

    pub(crate) fn from_pem(pem: &[u8]) -> Result<Self, TrustError> {
        let mut roots = Vec::new();
        for (index, root) in CertificateDer::pem_slice_iter(pem).enumerate() {
            roots.push(root.map_err(|_| TrustError::Unreadable(index + 1))?);
        }
        Self::new(&roots)
    }

    /// SHA-256 of each certificate (DER).
    pub(crate) fn digests(&self) -> impl Iterator<Item = Digest> + '_ {
        self.facts.iter().map(|facts| facts.certificate)
    }

    /// SHA-256 of each certificate's public key.
    pub(crate) fn public_keys(&self) -> impl Iterator<Item = Digest> + '_ {
        self.facts.iter().map(|facts| facts.public_key)
    }

    pub(crate) fn all(&self) -> &[TrustAnchor<'static>] {
        &self.anchors
    }

    /// The certificate that `anchor` (one of [`Self::all`]) was made of. One that was renewed with
    /// the same name and key is the same anchor, so the one in force at `now` speaks for both.
    pub(crate) fn facts(&self, anchor: &TrustAnchor<'_>, now: UnixTime) -> Option<RootFacts> {
        let same = self.anchors.iter().zip(&self.facts);
        let same: Vec<_> = same.filter(|(own, _)| *own == anchor).collect();
        let valid = same.iter().find(|(_, facts)| facts.is_valid_at(now));
        valid.or(same.first()).map(|(_, facts)| **facts)
    }
}

impl Roots {
    /// Starts with this bundle.
    #[must_use]
    pub fn new(bundle: TrustBundle) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(bundle)))
    }

    /// The bundle in force.
    #[must_use]
    pub fn current(&self) -> Arc<TrustBundle> {
        self.0.load_full()
    }

    /// Puts `next` in force.
    pub fn replace(&self, next: TrustBundle) {
        self.0.store(Arc::new(next));
    }
}

impl fmt::Debug for TrustBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let roots: Vec<Digest> = self.digests().collect();
        write!(
            f,
            "{} at generation {}: {roots:?}",
            self.domain, self.generation
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_would_trust_nobody() {
        let domain = TrustDomain::new("acme.internal").unwrap();
        assert_eq!(
            TrustBundle::new(domain.clone(), &[], 1).unwrap_err(),
            TrustError::Empty
        );
        assert_eq!(
            TrustBundle::from_pem(domain.clone(), b"", 1).unwrap_err(),
            TrustError::Empty
        );
        let garbage = [CertificateDer::from(vec![0x30, 0x03, 1, 2, 3])];
        let error = TrustBundle::new(domain, &garbage, 1).unwrap_err();
        assert_eq!(error, TrustError::Unreadable(1));
    }
}
