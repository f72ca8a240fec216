//! What a single certificate says and may say: the profile of RFC 5280 section 4, and keys that are
//! strong enough. Nothing here looks at who signed it.
//!
//! webpki builds paths for the public web and forgives what old authorities got wrong. Authorities
//! of a trust domain are ours, so what breaks the profile was made by somebody else.

use crate::digest::sha256;
use countersign_core::hop::CertificateFault;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::SpiffeError;
use countersign_core::vocabulary::SpiffeId;
use countersign_core::vocabulary::Timestamp;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::extensions::X509Extension;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::public_key::RSAPublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;
use x509_parser::x509::X509Version;

/// Why a certificate is not a valid X.509-SVID of this trust domain, or not one of a partner.
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
    /// A partner's certificate has no extended key usage extension, or one without client
    /// authentication, or for any purpose.
    #[error("extended key usage must name client authentication, and not any purpose")]
    ClientPurpose,
    /// A partner's certificate without a DNS SAN, or with more than anybody needs.
    #[error("a partner's certificate has 1 to 32 dns sans; this has {0}")]
    DnsNames(usize),
    /// A partner's certificate that says it is of our own trust domain.
    #[error("a partner's certificate names an identity of our own trust domain")]
    OwnDomain,
    /// Something that RFC 5280 demands of a certificate, or forbids.
    #[error("the certificate breaks a rule of rfc 5280: {0}")]
    Profile(&'static str),
    /// A key of another kind than P-256, P-384, Ed25519 or RSA of 2048 to 8192
    /// bits, a multiple of 8.
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

/// Which side of a handshake the certificate was shown by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Client,
    Server,
}

/// Reads one certificate, with nothing after it.
pub(crate) fn read(der: &[u8]) -> Result<X509Certificate<'_>, SvidError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(SvidError::Unreadable),
    }
}

/// Begin and end.
pub(crate) fn validity(certificate: &X509Certificate<'_>) -> (Timestamp, Timestamp) {
    let validity = certificate.validity();
    (
        Timestamp::from_secs(validity.not_before.timestamp()),
        Timestamp::from_secs(validity.not_after.timestamp()),
    )
}

/// The serial number in hex; the leading zero of a positive DER INTEGER is no part of it.
pub(crate) fn serial(certificate: &X509Certificate<'_>) -> String {
    let serial = certificate.raw_serial();
    hex::encode(serial.strip_prefix(&[0]).unwrap_or(serial))
}

/// A leaf on a path: profile, key, no authority, and made for this side of a handshake.
///
/// A key usage extension is looked at where there is one; that an SVID has to have it, and both
/// purposes, is said where the SVID is read.
pub(crate) fn check_end(certificate: &X509Certificate<'_>, role: Role) -> Result<(), SvidError> {
    check_profile(certificate)?;
    check_key(certificate.public_key())?;
    if is_authority(certificate)? {
        return Err(SvidError::Authority);
    }
    // RFC 5280 section 4.2.1.3: a leaf that may sign certificates or lists is an authority that
    // forgot to say so.
    let usage = certificate.key_usage().map_err(unreadable)?;
    let misfit = usage.is_some_and(|usage| {
        let bits = usage.value;
        !bits.digital_signature() || bits.key_cert_sign() || bits.crl_sign()
    });
    if misfit {
        return Err(SvidError::KeyUsage);
    }
    // RFC 5280 section 4.2.1.12. webpki takes a missing extension for any purpose, and a reader
    // of `anyExtendedKeyUsage` takes it for code signing.
    let purposes = certificate.extended_key_usage().map_err(unreadable)?;
    let fits = purposes.is_some_and(|purposes| {
        let purposes = purposes.value;
        let named = match role {
            Role::Client => purposes.client_auth,
            Role::Server => purposes.server_auth,
        };
        named && !purposes.any
    });
    if fits {
        Ok(())
    } else {
        Err(SvidError::ExtendedKeyUsage)
    }
}

/// An intermediate on a path: profile, key, and that it may sign certificates, which webpki does
/// not look at. Returns the digest of its public key.
pub(crate) fn check_authority(certificate: &X509Certificate<'_>) -> Result<Digest, SvidError> {
    check_issuer(certificate)?;
    let usage = certificate.key_usage().map_err(unreadable)?;
    if !usage.is_some_and(|usage| usage.value.key_cert_sign()) {
        return Err(SvidError::Untrusted);
    }
    Ok(sha256(certificate.public_key().raw))
}

/// A root, before it is trusted. It is an authority by being configured, so it may do without a
/// key usage extension; what it says of itself still has to hold.
pub(crate) fn check_root(certificate: &X509Certificate<'_>) -> Result<(), SvidError> {
    // webpki takes only name and key of a root, whatever else is in it.
    let unknown = |extension: &X509Extension<'_>| {
        extension.critical
            && !matches!(
                extension.parsed_extension(),
                ParsedExtension::BasicConstraints(_)
                    | ParsedExtension::ExtendedKeyUsage(_)
                    | ParsedExtension::KeyUsage(_)
                    | ParsedExtension::NameConstraints(_)
                    | ParsedExtension::SubjectAlternativeName(_)
            )
    };
    if certificate.extensions().iter().any(unknown) {
        return Err(SvidError::Extension);
    }
    check_issuer(certificate)?;
    let usage = certificate.key_usage().map_err(unreadable)?;
    if usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
        return Err(SvidError::Untrusted);
    }
    check_own_identifier(certificate)
}

impl SvidError {
    /// What a record says about it.
    #[must_use]
    pub const fn fault(&self) -> CertificateFault {
        match self {
            Self::WeakKey | Self::WeakSignature => CertificateFault::Key,
            Self::TrustDomain | Self::Untrusted | Self::OtherIdentity(_) | Self::OwnDomain => {
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
            Self::TrustDomain | Self::Untrusted | Self::OwnDomain => {
                rustls::CertificateError::UnknownIssuer
            }
            Self::Time => rustls::CertificateError::Expired,
            Self::OtherIdentity(_) => rustls::CertificateError::NotValidForName,
            _ => rustls::CertificateError::InvalidPurpose,
        })
    }
}

/// A self-signed root that names the key it is signed with names its own (RFC 5280 section
/// 4.2.1.1).
fn check_own_identifier(root: &X509Certificate<'_>) -> Result<(), SvidError> {
    let (mut signer, mut own) = (None, None);
    for extension in root.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(named) => {
                signer = named.key_identifier.as_ref()
            }
            ParsedExtension::SubjectKeyIdentifier(named) => own = Some(named),
            _ => {}
        }
    }
    let by_itself = root.subject() == root.issuer();
    if by_itself && signer.is_some() && own.is_some() && signer != own {
        return Err(SvidError::Profile("a root is signed with its own key"));
    }
    Ok(())
}

/// What intermediates and roots have in common.
fn check_issuer(certificate: &X509Certificate<'_>) -> Result<(), SvidError> {
    check_profile(certificate)?;
    check_key(certificate.public_key())?;
    if !is_authority(certificate)? {
        return Err(SvidError::Untrusted);
    }
    let constraints = certificate.basic_constraints().map_err(unreadable)?;
    // Section 4.2.1.9: who does not know the extension must not take it for a leaf.
    if !constraints.is_some_and(|constraints| constraints.critical) {
        return Err(SvidError::Profile(
            "an authority's basic constraints are critical",
        ));
    }
    // Section 4.1.2.6: the name is what its certificates are found by.
    if certificate.subject().iter().next().is_none() {
        return Err(SvidError::Profile("an authority has a name"));
    }
    Ok(())
}

fn is_authority(certificate: &X509Certificate<'_>) -> Result<bool, SvidError> {
    let constraints = certificate.basic_constraints().map_err(unreadable)?;
    Ok(constraints.is_some_and(|constraints| constraints.value.ca))
}

/// What RFC 5280 section 4 demands of every certificate and webpki does not check.
fn check_profile(certificate: &X509Certificate<'_>) -> Result<(), SvidError> {
    if certificate.version() != X509Version::V3 {
        return Err(SvidError::Profile("a certificate is of version 3"));
    }
    let serial = certificate.raw_serial();
    let negative = serial.first().is_none_or(|first| first & 0x80 != 0);
    let zero = serial.iter().all(|byte| *byte == 0);
    if negative || zero || serial.len() > 20 {
        return Err(SvidError::Profile(
            "a serial number is positive and at most 20 bytes long",
        ));
    }
    if certificate.issuer().iter().next().is_none() {
        return Err(SvidError::Profile("an issuer has a name"));
    }
    // Also refuses extensions that appear twice.
    certificate.extensions_map().map_err(unreadable)?;
    certificate
        .extensions()
        .iter()
        .try_for_each(check_extension)?;
    let names = certificate.subject_alternative_name().map_err(unreadable)?;
    let unnamed = certificate.subject().iter().next().is_none();
    if unnamed && names.is_some_and(|names| !names.critical) {
        return Err(SvidError::Profile(
            "without a subject, the alternative names are critical",
        ));
    }
    Ok(())
}

/// The marks that section 4.2 prescribes, and that it can be read at all: what we skip, another
/// reader of the same certificate might not.
fn check_extension(extension: &X509Extension<'_>) -> Result<(), SvidError> {
    match extension.parsed_extension() {
        ParsedExtension::ParseError { .. } => Err(SvidError::Extension),
        ParsedExtension::AuthorityKeyIdentifier(_)
        | ParsedExtension::SubjectKeyIdentifier(_)
        | ParsedExtension::AuthorityInfoAccess(_)
        | ParsedExtension::SubjectInfoAccess(_)
            if extension.critical =>
        {
            Err(SvidError::Profile(
                "key identifiers and information access are not critical",
            ))
        }
        ParsedExtension::AuthorityKeyIdentifier(named) if named.key_identifier.is_none() => Err(
            SvidError::Profile("an authority key identifier identifies a key"),
        ),
        ParsedExtension::PolicyConstraints(_)
        | ParsedExtension::InhibitAnyPolicy(_)
        | ParsedExtension::NameConstraints(_)
            if !extension.critical =>
        {
            Err(SvidError::Profile(
                "name and policy constraints are critical",
            ))
        }
        _ => Ok(()),
    }
}

const OID_P256: &str = "1.2.840.10045.3.1.7";
const OID_P384: &str = "1.3.132.0.34";
const OID_ED25519: &str = "1.3.101.112";

fn check_key(key: &SubjectPublicKeyInfo<'_>) -> Result<(), SvidError> {
    if key.algorithm.algorithm.to_id_string() == OID_ED25519 {
        return Ok(());
    }
    let strong = match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => {
            let bits = modulus_bits(&rsa);
            (2048..=8192).contains(&bits) && bits.is_multiple_of(8)
        }
        Ok(PublicKey::EC(_)) => {
            // A curve spelled out by its parameters may be any curve (CVE-2020-0601).
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

/// Without leading zeros, of bytes or of bits.
fn modulus_bits(rsa: &RSAPublicKey<'_>) -> usize {
    let zeros = rsa.modulus.iter().take_while(|byte| **byte == 0).count();
    let first = rsa.modulus.get(zeros).copied().unwrap_or_default();
    let bits = rsa.modulus.len().saturating_sub(zeros) * 8;
    bits.saturating_sub(first.leading_zeros() as usize)
}

fn unreadable<E>(_: E) -> SvidError {
    SvidError::Extension
}
