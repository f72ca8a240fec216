//! The checks of an X.509-SVID, in the order of the standard (X509-SVID section 5), beyond what
//! path validation does.

use crate::digest::sha256;
use crate::provider;
use crate::trust::TrustBundle;
use countersign_core::hop::Certificate;
use countersign_core::hop::CertificateFault;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::SpiffeError;
use countersign_core::vocabulary::SpiffeId;
use countersign_core::vocabulary::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::UnixTime;
use webpki::EndEntityCert;
use webpki::KeyUsage;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// Why a certificate is not a valid X.509-SVID of this trust domain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SvidError {
    /// Not a certificate, or with more after it.
    #[error("the certificate can't be read")]
    Unreadable,
    /// An extension can't be read, or appears twice.
    #[error("an extension of the certificate can't be read")]
    Extension,
    /// Not exactly one URI SAN.
    #[error("an svid has exactly one uri san; this has {0}")]
    UriNames(usize),
    /// The URI SAN is no SPIFFE ID with a path.
    #[error("the uri san is no spiffe id of a workload: {0}")]
    SpiffeId(#[from] SpiffeError),
    /// A CA certificate used as a leaf.
    #[error("a ca certificate can't be a leaf")]
    Authority,
    /// The key usage extension is missing, not critical, lacks `digitalSignature`, or allows
    /// signing certificates or revocation lists.
    #[error(
        "key usage must be critical, with digital signature and without certificate or crl signing"
    )]
    KeyUsage,
    /// The extended key usage extension is missing, or lacks one of the two purposes.
    #[error("extended key usage must name both server and client authentication")]
    ExtendedKeyUsage,
    /// A key of another kind than P-256, P-384, Ed25519 or RSA of at least 2048 bits.
    #[error("the key of a certificate is of a weak or unknown kind")]
    WeakKey,
    /// A signature algorithm that is not accepted.
    #[error("a certificate is signed with a weak or unknown algorithm")]
    WeakSignature,
    /// Another trust domain than the listener's.
    #[error("the svid is of another trust domain")]
    TrustDomain,
    /// No path to a root of the trust domain.
    #[error("the certificate does not lead to a root of the trust domain")]
    Untrusted,
    /// Expired, or not yet valid; the leaf or one of its issuers.
    #[error("the certificate or one of its issuers is expired or not yet valid")]
    Time,
    /// Not the identity that was dialled.
    #[error("the peer is `{0}`, not the one that was dialled")]
    OtherIdentity(SpiffeId),
}

/// What a leaf says, its form and key checked, its chain not.
pub(crate) struct Leaf {
    pub(crate) not_after: Timestamp,
    pub(crate) not_before: Timestamp,
    pub(crate) serial: String,
    pub(crate) spiffe_id: SpiffeId,
}

/// Which side of a handshake the certificate was shown by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Client,
    Server,
}

/// Checks a chain as presented, leaf first, and states its facts.
///
/// # Errors
/// [`SvidError`] for the first check that fails.
pub(crate) fn check(
    chain: &[CertificateDer<'_>],
    bundle: &TrustBundle,
    now: UnixTime,
    role: Role,
) -> Result<Certificate, SvidError> {
    let (leaf_der, intermediates) = chain.split_first().ok_or(SvidError::Unreadable)?;
    let leaf = Leaf::parse(leaf_der)?;
    if leaf.spiffe_id.trust_domain() != bundle.domain().as_str() {
        return Err(SvidError::TrustDomain);
    }
    let end = EndEntityCert::try_from(leaf_der).map_err(|error| path_error(&error))?;
    let usage = match role {
        Role::Client => KeyUsage::client_auth(),
        Role::Server => KeyUsage::server_auth(),
    };
    let algorithms = provider::tls().signature_verification_algorithms.all;
    let path = end
        .verify_for_usage(
            algorithms,
            bundle.anchors(),
            intermediates,
            now,
            usage,
            None,
            None,
        )
        .map_err(|error| path_error(&error))?;
    let root = bundle.facts(path.anchor()).ok_or(SvidError::Untrusted)?;
    let mut issuer = None;
    for intermediate in path.intermediate_certificates() {
        let key = check_authority(&intermediate.der())?;
        issuer.get_or_insert(key);
    }
    Ok(Certificate {
        issuer: issuer.unwrap_or(root.public_key),
        leaf: sha256(leaf_der),
        not_after: leaf.not_after,
        not_before: leaf.not_before,
        root: root.certificate,
        serial: leaf.serial,
        spiffe_id: leaf.spiffe_id,
    })
}

impl SvidError {
    /// What a record says about it.
    #[must_use]
    pub const fn fault(&self) -> CertificateFault {
        match self {
            Self::WeakKey | Self::WeakSignature => CertificateFault::Key,
            Self::TrustDomain | Self::Untrusted | Self::OtherIdentity(_) => {
                CertificateFault::Untrusted
            }
            Self::Time => CertificateFault::Time,
            _ => CertificateFault::Form,
        }
    }

    /// The error that makes rustls send the alert which fits (RFC 8446 section 6.2).
    pub(crate) fn alert(&self) -> rustls::Error {
        rustls::Error::InvalidCertificate(match self {
            Self::Unreadable | Self::Extension => rustls::CertificateError::BadEncoding,
            Self::TrustDomain | Self::Untrusted => rustls::CertificateError::UnknownIssuer,
            Self::Time => rustls::CertificateError::Expired,
            Self::OtherIdentity(_) => rustls::CertificateError::NotValidForName,
            _ => rustls::CertificateError::InvalidPurpose,
        })
    }
}

impl Leaf {
    /// Reads a leaf and checks its form and key; says nothing about who signed it.
    pub(crate) fn parse(der: &[u8]) -> Result<Self, SvidError> {
        let certificate = read(der)?;
        let spiffe_id = SpiffeId::parse(uri_name(&certificate)?)?;
        check_leaf_extensions(&certificate)?;
        check_key(certificate.public_key())?;
        let (not_before, not_after) = moments(&certificate);
        // The leading zero of a positive DER INTEGER is no part of the number.
        let serial = certificate.raw_serial();
        let serial = hex::encode(serial.strip_prefix(&[0]).unwrap_or(serial));
        Ok(Self {
            not_after,
            not_before,
            serial,
            spiffe_id,
        })
    }

    /// Begin and end of any certificate.
    pub(crate) fn validity(der: &[u8]) -> Result<(Timestamp, Timestamp), SvidError> {
        Ok(moments(&read(der)?))
    }
}

fn read(der: &[u8]) -> Result<X509Certificate<'_>, SvidError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(SvidError::Unreadable),
    }
}

fn moments(certificate: &X509Certificate<'_>) -> (Timestamp, Timestamp) {
    let validity = certificate.validity();
    (
        Timestamp::from_secs(validity.not_before.timestamp()),
        Timestamp::from_secs(validity.not_after.timestamp()),
    )
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

/// What webpki leaves open: it ignores key usage and takes a missing EKU for any.
fn check_leaf_extensions(certificate: &X509Certificate<'_>) -> Result<(), SvidError> {
    let unreadable = |_| SvidError::Extension;
    let constraints = certificate.basic_constraints().map_err(unreadable)?;
    if constraints.is_some_and(|constraints| constraints.value.ca) {
        return Err(SvidError::Authority);
    }
    let usage = certificate.key_usage().map_err(unreadable)?;
    let fits = usage.is_some_and(|usage| {
        let bits = usage.value;
        let signs_others = bits.key_cert_sign() || bits.crl_sign();
        usage.critical && bits.digital_signature() && !signs_others
    });
    if !fits {
        return Err(SvidError::KeyUsage);
    }
    let purposes = certificate.extended_key_usage().map_err(unreadable)?;
    let both =
        purposes.is_some_and(|purposes| purposes.value.server_auth && purposes.value.client_auth);
    if both {
        Ok(())
    } else {
        Err(SvidError::ExtendedKeyUsage)
    }
}

/// An intermediate on the verified path: key strength, and that it may sign certificates, which
/// webpki does not look at. Returns the digest of its public key.
fn check_authority(der: &[u8]) -> Result<Digest, SvidError> {
    let certificate = read(der)?;
    check_key(certificate.public_key())?;
    let usage = certificate.key_usage().map_err(|_| SvidError::Extension)?;
    if !usage.is_some_and(|usage| usage.value.key_cert_sign()) {
        return Err(SvidError::Untrusted);
    }
    Ok(sha256(certificate.public_key().raw))
}

const OID_P256: &str = "1.2.840.10045.3.1.7";
const OID_P384: &str = "1.3.132.0.34";
const OID_ED25519: &str = "1.3.101.112";

fn check_key(key: &SubjectPublicKeyInfo<'_>) -> Result<(), SvidError> {
    if key.algorithm.algorithm.to_id_string() == OID_ED25519 {
        return Ok(());
    }
    let strong = match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => rsa.key_size() >= 2048,
        Ok(PublicKey::EC(_)) => {
            let curve = key
                .algorithm
                .parameters
                .as_ref()
                .and_then(|any| any.as_oid().ok());
            curve.is_some_and(|curve| [OID_P256, OID_P384].contains(&curve.to_id_string().as_str()))
        }
        _ => false,
    };
    if strong {
        Ok(())
    } else {
        Err(SvidError::WeakKey)
    }
}

fn path_error(error: &webpki::Error) -> SvidError {
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
