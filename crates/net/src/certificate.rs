//! The checks of an X.509-SVID, in the order of the standard (X509-SVID section 5), beyond what
//! path validation does.

use crate::digest::sha256;
use crate::path;
use crate::proved::Chain;
use crate::trust::TrustBundle;
use crate::x509;
use crate::x509::Role;
use crate::x509::SvidError;
use countersign_core::hop::Certificate;
use countersign_core::vocabulary::SpiffeId;
use countersign_core::vocabulary::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::UnixTime;
use std::sync::Arc;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

/// What a leaf says, its form and key checked, its chain not.
pub(crate) struct Leaf {
    pub(crate) not_after: Timestamp,
    pub(crate) not_before: Timestamp,
    pub(crate) serial: String,
    pub(crate) spiffe_id: SpiffeId,
}

/// Checks a chain as presented, leaf first, and states its facts; of one that was found good before
/// and still is, what was stated then.
///
/// # Errors
/// [`SvidError`] for the first check that fails.
pub(crate) fn check(
    chain: &[CertificateDer<'_>],
    bundle: &TrustBundle,
    now: UnixTime,
    role: Role,
) -> Result<Arc<Certificate>, SvidError> {
    let name = Chain::of(chain, role);
    if let Some(known) = bundle.proved().find(&name, now) {
        return Ok(known);
    }
    let leaf_der = chain.first().ok_or(SvidError::Unreadable)?;
    let leaf = Leaf::parse(leaf_der)?;
    if leaf.spiffe_id.trust_domain() != bundle.domain().as_str() {
        return Err(SvidError::TrustDomain);
    }
    let path = path::verify(chain, bundle.anchors(), now, role)?;
    let facts = Arc::new(Certificate {
        issuer: path.issuer,
        issuers_above: path.issuers_above,
        leaf: sha256(leaf_der),
        not_after: leaf.not_after,
        not_before: leaf.not_before,
        root: path.root.certificate,
        serial: leaf.serial,
        spiffe_id: leaf.spiffe_id,
    });
    bundle.proved().keep(name, facts.clone(), path.valid);
    Ok(facts)
}

impl Leaf {
    /// Reads a leaf and checks its form and key; says nothing about who signed it.
    pub(crate) fn parse(der: &[u8]) -> Result<Self, SvidError> {
        let certificate = x509::read(der)?;
        let spiffe_id = SpiffeId::parse(uri_name(&certificate)?)?;
        check_usage(&certificate)?;
        let (not_before, not_after) = x509::validity(&certificate);
        Ok(Self {
            not_after,
            not_before,
            serial: x509::serial(&certificate),
            spiffe_id,
        })
    }

    /// Begin and end of any certificate.
    pub(crate) fn validity(der: &[u8]) -> Result<(Timestamp, Timestamp), SvidError> {
        Ok(x509::validity(&x509::read(der)?))
    }
}

/// The one URI SAN: more than one, of whatever scheme, is a refusal (X509-SVID section 2).
fn uri_name<'a>(certificate: &'a X509Certificate<'_>) -> Result<&'a str, SvidError> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| SvidError::Extension)?;
    let names = names
        .map(|names| names.value.general_names.as_slice())
        .unwrap_or_default();
    let mut uris = Vec::new();
    for name in names {
        match name {
            GeneralName::URI(uri) => uris.push(*uri),
            // A name that can't be read might be a second URI to a laxer reader.
            GeneralName::Invalid(..) => return Err(SvidError::Extension),
            _ => {}
        }
    }
    match uris.as_slice() {
        [uri] => Ok(uri),
        _ => Err(SvidError::UriNames(uris.len())),
    }
}

/// An SVID serves both sides of a handshake, and says itself what its key is for (X509-SVID
/// sections 4.3 and 4.4).
fn check_usage(certificate: &X509Certificate<'_>) -> Result<(), SvidError> {
    x509::check_end(certificate, Role::Client)?;
    x509::check_end(certificate, Role::Server)?;
    let usage = certificate.key_usage().map_err(|_| SvidError::Extension)?;
    if usage.is_some_and(|usage| usage.critical) {
        Ok(())
    } else {
        Err(SvidError::KeyUsage)
    }
}

#[cfg(test)]
mod tests;
