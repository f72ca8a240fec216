//! What our certificates look like.

use super::CaError;
use aws_lc_rs::rand;
use countersign_core::vocabulary::SpiffeId;
use countersign_core::vocabulary::Timestamp;
use countersign_core::vocabulary::TrustDomain;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::DistinguishedName;
use rcgen::DnType;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::IsCa;
use rcgen::KeyUsagePurpose;
use rcgen::SanType;
use rcgen::SerialNumber;
use std::net::IpAddr;

/// From when to when a certificate counts, in whole seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Validity {
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
}

/// A certificate authority: `cA`, `keyCertSign` and `cRLSign` critical, a URI SAN without a path
/// (X509-SVID section 4.1), and at most `below` authorities under it.
pub(super) fn authority(
    domain: &TrustDomain,
    name: &str,
    below: u8,
    validity: Validity,
) -> Result<CertificateParams, CaError> {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, domain.as_str());
    subject.push(DnType::CommonName, name);
    let mut params = base(validity, subject)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.subject_alt_names = vec![uri(&format!("spiffe://{}", domain.as_str()))?];
    Ok(params)
}

/// An X.509-SVID (section 2 and 4): empty subject, so that the names are critical; one URI; not
/// an authority; `digitalSignature` critical; both extended usages. `hosts` are DNS names and IP
/// addresses of our own listeners; the one wildcard among them is that of the mesh.
pub(super) fn svid(
    id: &SpiffeId,
    hosts: &[String],
    validity: Validity,
) -> Result<CertificateParams, CaError> {
    let mut params = base(validity, DistinguishedName::new())?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.subject_alt_names = vec![uri(id.as_str())?];
    let meshed = format!("*.mesh.{}", id.trust_domain());
    for host in hosts {
        let name = if *host == meshed {
            SanType::DnsName(
                host.as_str()
                    .try_into()
                    .map_err(|_| CaError::Name(host.clone()))?,
            )
        } else {
            host_name(host)?
        };
        params.subject_alt_names.push(name);
    }
    Ok(params)
}

/// The serial number as people and `net` write it.
pub(super) fn serial_of(params: &CertificateParams) -> String {
    params
        .serial_number
        .as_ref()
        .map(|serial| hex::encode(serial.as_ref()))
        .unwrap_or_default()
}

fn base(validity: Validity, subject: DistinguishedName) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let start = Timestamp::from_secs(0);
    params.not_before = epoch + validity.from.since(start);
    params.not_after = epoch + validity.to.since(start);
    params.distinguished_name = subject;
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(random_serial()?);
    Ok(params)
}

/// 16 random bytes, positive and without a leading zero (RFC 5280 section 4.1.2.2).
fn random_serial() -> Result<SerialNumber, CaError> {
    let mut serial = [0; 16];
    rand::fill(&mut serial).map_err(|_| CaError::Key)?;
    if let Some(first) = serial.first_mut() {
        *first = *first & 0x7f | 0x40;
    }
    Ok(SerialNumber::from(serial.to_vec()))
}

fn uri(text: &str) -> Result<SanType, CaError> {
    Ok(SanType::URI(
        text.try_into()
            .map_err(|_| CaError::Name(text.to_owned()))?,
    ))
}

/// An IP address, or a DNS name in lower case; no wildcards.
fn host_name(host: &str) -> Result<SanType, CaError> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let label = |label: &str| {
        let edges = label.starts_with('-') || label.ends_with('-');
        (1..=63).contains(&label.len()) && !edges && label.bytes().all(letters)
    };
    if host.len() > 253 || !host.split('.').all(label) {
        return Err(CaError::Name(host.to_owned()));
    }
    Ok(SanType::DnsName(
        host.try_into()
            .map_err(|_| CaError::Name(host.to_owned()))?,
    ))
}
