//! Path validation, RFC 5280 section 6: webpki finds the path, and what it takes for granted is
//! checked on the way. Nothing here knows of names; which name a peer must have is for the caller
//! to say, once it knows that the path holds.

use crate::proved::Validity;
use crate::provider;
use crate::trust::Anchors;
use crate::trust::RootFacts;
use crate::x509;
use crate::x509::Role;
use crate::x509::SvidError;
use countersign_core::vocabulary::Digest;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::UnixTime;
use webpki::EndEntityCert;
use webpki::KeyUsage;

/// A path that holds.
#[derive(Clone)]
pub(crate) struct Path {
    /// SHA-256 of the public key that signed the leaf.
    pub(crate) issuer: Digest,
    /// The same of each authority above it, nearest first; the last is the root's.
    pub(crate) issuers_above: Box<[Digest]>,
    /// The root it leads to.
    pub(crate) root: RootFacts,
    /// While all of it is in force, the root included.
    pub(crate) valid: Validity,
}

/// Finds a path from the first certificate of `chain` over any of the others to a root of
/// `trusted`, all of them valid at `now` and the leaf made for `role`.
///
/// Revocation lists (RFC 5280 section 5) are not asked: what is revoked is in the snapshot, by
/// certificate and by identity, and the decision looks there.
///
/// # Errors
/// [`SvidError`] for the first check that fails.
pub(crate) fn verify(
    chain: &[CertificateDer<'_>],
    trusted: &Anchors,
    now: UnixTime,
    role: Role,
) -> Result<Path, SvidError> {
    let (leaf, intermediates) = chain.split_first().ok_or(SvidError::Unreadable)?;
    let read = x509::read(leaf)?;
    x509::check_end(&read, role)?;
    let end = EndEntityCert::try_from(leaf).map_err(|error| refusal(&error))?;
    let usage = match role {
        Role::Client => KeyUsage::client_auth(),
        Role::Server => KeyUsage::server_auth(),
    };
    let algorithms = provider::tls().signature_verification_algorithms.all;
    let path = end
        .verify_for_usage(
            algorithms,
            trusted.all(),
            intermediates,
            now,
            usage,
            None,
            None,
        )
        .map_err(|error| refusal(&error))?;
    let mut keys = Vec::new();
    let mut valid = Validity::new(x509::validity(&read));
    for intermediate in path.intermediate_certificates() {
        let der = intermediate.der();
        let read = x509::read(&der)?;
        keys.push(x509::check_authority(&read)?);
        valid = valid.and(Validity::new(x509::validity(&read)));
    }
    let root = trusted
        .facts(path.anchor(), now)
        .ok_or(SvidError::Untrusted)?;
    if !root.is_valid_at(now) {
        return Err(SvidError::Time);
    }
    keys.push(root.public_key);
    // Any of these keys can be revoked, and each speaks for all below it.
    let (issuer, above) = keys.split_first().ok_or(SvidError::Untrusted)?;
    Ok(Path {
        issuer: *issuer,
        issuers_above: above.into(),
        root,
        valid: valid.and(root.validity),
    })
}

fn refusal(error: &webpki::Error) -> SvidError {
    use webpki::Error;
    match error {
        Error::CertExpired { .. } | Error::CertNotValidYet { .. } | Error::InvalidCertValidity => {
            SvidError::Time
        }
        Error::UnsupportedSignatureAlgorithmContext(_)
        | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => SvidError::WeakSignature,
        Error::RequiredEkuNotFoundContext(_) | Error::EmptyEkuExtension => {
            SvidError::ExtendedKeyUsage
        }
        Error::BadDer | Error::BadDerTime | Error::TrailingData(_) => SvidError::Unreadable,
        Error::MalformedExtensions | Error::UnsupportedCriticalExtension => SvidError::Extension,
        _ => SvidError::Untrusted,
    }
}

#[cfg(test)]
mod tests;
