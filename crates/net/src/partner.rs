//! Certificates of partners: another organisation's authorities, believed at the doors that name
//! them and nowhere else.
//!
//! A chain is held to what one of ours is held to (path, profile, keys, purposes) but for the
//! SPIFFE ID: a partner is known by a DNS name, and by the authority that vouches for it. Who that
//! is, if anybody, is for the decision to say.

use crate::digest::sha256;
use crate::path;
use crate::svid::Svid;
use crate::trust::Anchors;
use crate::trust::TrustBundle;
use crate::trust::TrustError;
use crate::x509;
use crate::x509::Role;
use crate::x509::SvidError;
use countersign_core::hop::PartnerCertificate;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::TrustDomain;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::UnixTime;
use std::fmt;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

/// The authorities that one door for partners believes.
pub struct Authorities(Anchors);

/// More names than a certificate for one party has use for; all of them go into each record.
const NAMES: usize = 32;
/// The longest DNS name (RFC 1035 section 2.3.4), in its text form.
const NAME_BYTES: usize = 253;

impl Authorities {
    /// Reads them in PEM.
    ///
    /// # Errors
    /// [`TrustError`] if there is none, or one is unreadable or can't be an authority.
    pub fn from_pem(pem: &[u8]) -> Result<Self, TrustError> {
        Anchors::from_pem(pem).map(Self)
    }

    /// SHA-256 of each (DER).
    pub fn digests(&self) -> impl Iterator<Item = Digest> + '_ {
        self.0.digests()
    }

    /// Whether one of them has a key of ours: of a root, or of an intermediate that signs for us.
    pub(crate) fn are_ours(&self, bundle: &TrustBundle, own: &Svid) -> bool {
        let between = own.credential().chain().iter().skip(1);
        let between = between.filter_map(|der| {
            let certificate = x509::read(der).ok()?;
            Some(sha256(certificate.public_key().raw))
        });
        self.have_key_of(bundle, between)
    }

    /// Anybody can make a certificate for a key without having it, and of an authority only name
    /// and key count; so a file under another name is looked at by its key.
    pub(crate) fn have_key_of(
        &self,
        bundle: &TrustBundle,
        between: impl IntoIterator<Item = Digest>,
    ) -> bool {
        let mut ours = bundle.anchors().public_keys().chain(between);
        ours.any(|key| self.0.public_keys().any(|theirs| theirs == key))
    }
}

/// Checks a chain as presented, leaf first, and states its facts. `domain` is ours.
///
/// # Errors
/// [`SvidError`] for the first check that fails.
pub(crate) fn check(
    chain: &[CertificateDer<'_>],
    authorities: &Authorities,
    domain: &TrustDomain,
    now: UnixTime,
) -> Result<PartnerCertificate, SvidError> {
    let path = path::verify(chain, &authorities.0, now, Role::Client).map_err(as_client)?;
    let der = chain.first().ok_or(SvidError::Unreadable)?;
    let leaf = x509::read(der)?;
    let dns_names = names(&leaf, domain)?;
    let (not_before, not_after) = x509::validity(&leaf);
    Ok(PartnerCertificate {
        dns_names,
        issuer: path.issuer,
        issuers_above: path.issuers_above,
        leaf: sha256(der),
        not_after,
        not_before,
        root: path.root.certificate,
        serial: x509::serial(&leaf),
    })
}

/// A partner's certificate is shown by a client alone, so it need not be good for servers too.
fn as_client(fault: SvidError) -> SvidError {
    match fault {
        SvidError::ExtendedKeyUsage => SvidError::ClientPurpose,
        other => other,
    }
}

/// The DNS SANs. The subject's common name is no name (RFC 6125 section 6.4.4, RFC 9525).
fn names(leaf: &X509Certificate<'_>, domain: &TrustDomain) -> Result<Vec<String>, SvidError> {
    let alternative = leaf
        .subject_alternative_name()
        .map_err(|_| SvidError::Extension)?;
    let alternative = alternative.map(|it| it.value.general_names.as_slice());
    let mut names = Vec::new();
    for name in alternative.unwrap_or_default() {
        match name {
            GeneralName::DNSName(name) => names.push(readable(name)?),
            // Whoever signed it, it says that it is one of ours.
            GeneralName::URI(uri) if is_of(uri, domain) => return Err(SvidError::OwnDomain),
            GeneralName::Invalid(..) => return Err(SvidError::Extension),
            _ => {}
        }
    }
    if names.is_empty() || names.len() > NAMES {
        return Err(SvidError::DnsNames(names.len()));
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// A name as it is compared and recorded: names are the same in any case (RFC 4343).
fn readable(name: &str) -> Result<String, SvidError> {
    let fits = (1..=NAME_BYTES).contains(&name.len());
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.*".contains(&byte);
    if fits && name.bytes().all(known) {
        Ok(name.to_ascii_lowercase())
    } else {
        Err(SvidError::Extension)
    }
}

/// Scheme and trust domain are the same in any case (SPIFFE-ID section 2).
fn is_of(uri: &str, domain: &TrustDomain) -> bool {
    let uri = uri.to_ascii_lowercase();
    uri.strip_prefix("spiffe://")
        .and_then(|it| it.strip_prefix(domain.as_str()))
        .is_some_and(|path| path.is_empty() || path.starts_with('/'))
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<Digest> = self.digests().collect();
        write!(f, "authorities {all:?}")
    }
}
