//! Certificates in the files that a configuration names: whether they are ones, as far as that can
//! be known without a clock and without their keys. Whoever uses them validates them.

use super::Attached;
use crate::vocabulary::Digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// Tags of DER (X.690, section 8).
const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;
/// `uniformResourceIdentifier` of a `GeneralName` (RFC 5280, section 4.2.1.6).
const URI: u8 = 0x86;

/// Why a text holds no certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum PemError {
    /// Nothing between `BEGIN` and `END`.
    #[error("no `BEGIN CERTIFICATE` is in it")]
    Nothing,
    /// A block of another kind.
    #[error("it holds something else than certificates")]
    Other,
    /// A block without an end, or not base64.
    #[error("a block in it is damaged")]
    Damaged,
    /// Base64 of something else.
    #[error("a block in it is not a certificate inside")]
    NotOne,
}

impl Attached {
    /// SHA-256 of each certificate (DER) in it, each once; none if it holds something else.
    #[must_use]
    pub fn authorities(&self) -> Vec<Digest> {
        let mut all: Vec<_> = certificates(&self.text)
            .unwrap_or_default()
            .iter()
            .map(|der| {
                let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
                let mut out = [0; 32];
                out.copy_from_slice(hash.as_ref());
                Digest::new(out)
            })
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// The certificates (DER) of a text in the form of RFC 7468; what stands around the blocks is
/// explanation, as OpenSSL writes it.
pub(super) fn certificates(text: &str) -> Result<Vec<Vec<u8>>, PemError> {
    let mut found = Vec::new();
    let mut lines = text.lines().map(str::trim_end);
    while let Some(line) = lines.next() {
        let Some(label) = boundary(line, BEGIN) else {
            continue;
        };
        if label != "CERTIFICATE" {
            return Err(PemError::Other);
        }
        let mut base64 = String::new();
        loop {
            let line = lines.next().ok_or(PemError::Damaged)?;
            match boundary(line, END) {
                Some("CERTIFICATE") => break,
                Some(_) => return Err(PemError::Damaged),
                None => base64.push_str(line),
            }
        }
        let der = STANDARD.decode(base64).map_err(|_| PemError::Damaged)?;
        found.push(
            is_certificate(&der)
                .then_some(der)
                .ok_or(PemError::NotOne)?,
        );
    }
    if found.is_empty() {
        return Err(PemError::Nothing);
    }
    Ok(found)
}

/// Whether a private key is in a text.
pub(super) fn has_private_key(text: &str) -> bool {
    text.lines()
        .filter_map(|line| boundary(line.trim(), BEGIN))
        .any(|label| label.ends_with("PRIVATE KEY"))
}

/// Whether a certificate names a SPIFFE ID of this trust domain, which every authority and every
/// workload of ours does (X509-SVID, section 2).
pub(super) fn is_of_domain(der: &[u8], domain: &str) -> bool {
    let id = format!("spiffe://{domain}");
    let names = der.windows(id.len()).enumerate();
    names.filter(|(_, it)| *it == id.as_bytes()).any(|(at, _)| {
        let name = |header: usize| der.get(at.checked_sub(header)?..).and_then(value_of);
        // The header is the tag and a length of one byte, or of two beyond 127.
        [name(2), name(3)].into_iter().flatten().any(|(tag, name)| {
            let path = name.strip_prefix(id.as_bytes());
            tag == URI && path.is_some_and(|path| matches!(path, [] | [b'/', ..]))
        })
    })
}

fn boundary<'t>(line: &'t str, start: &str) -> Option<&'t str> {
    line.strip_prefix(start)?.strip_suffix(DASHES)
}

/// The outline of RFC 5280, section 4.1: what is signed, with which algorithm, the signature.
fn is_certificate(der: &[u8]) -> bool {
    let Some((SEQUENCE, mut inside)) = value_of(der).filter(|(_, it)| ends_with(der, it)) else {
        return false;
    };
    for wanted in [SEQUENCE, SEQUENCE, BIT_STRING] {
        match split(inside) {
            Some((tag, value, rest)) if tag == wanted && !value.is_empty() => inside = rest,
            _ => return false,
        }
    }
    inside.is_empty()
}

/// Whether nothing follows a value.
fn ends_with(der: &[u8], value: &[u8]) -> bool {
    split(der).is_some_and(|(_, it, rest)| it.len() == value.len() && rest.is_empty())
}

fn value_of(der: &[u8]) -> Option<(u8, &[u8])> {
    split(der).map(|(tag, value, _)| (tag, value))
}

/// Tag and contents of the first value, and what follows it; lengths have at most four bytes.
fn split(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = der.split_first_chunk::<2>()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x0f))?;
            let length = length
                .iter()
                .fold(0_usize, |sum, byte| (sum << 8) | usize::from(*byte));
            (length, rest)
        }
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(length)?;
    Some((tag, value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GLOBEX: &str = include_str!("../../tests/config/attached/partners/globex.pem");
    const OURS: &str = include_str!("../../tests/config/attached/partners/ours.pem");

    #[test]
    fn certificates_are_told_from_everything_else() {
        assert_eq!(certificates(GLOBEX).map(|it| it.len()), Ok(1));
        assert_eq!(
            certificates(&format!("Subject: x\n{GLOBEX}\n{OURS}")).map(|it| it.len()),
            Ok(2)
        );
        assert_eq!(certificates(""), Err(PemError::Nothing));
        let key = GLOBEX.replace("CERTIFICATE", "PRIVATE KEY");
        assert_eq!(certificates(&key), Err(PemError::Other));
        assert!(has_private_key(&key) && !has_private_key(GLOBEX));
        assert_eq!(
            certificates(&GLOBEX.replace("-----END", "-----")),
            Err(PemError::Damaged)
        );
        assert_eq!(
            certificates(&GLOBEX.replacen("MII", "M!I", 1)),
            Err(PemError::Damaged)
        );
        let other = "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----";
        assert_eq!(certificates(other), Err(PemError::NotOne));
    }

    #[test]
    fn our_own_authority_is_recognised_by_its_name() {
        let own = |text: &str, domain: &str| {
            certificates(text).is_ok_and(|all| all.iter().any(|it| is_of_domain(it, domain)))
        };
        assert!(own(OURS, "acme.internal"));
        assert!(!own(OURS, "acme.interna"));
        assert!(!own(OURS, "cme.internal"));
        assert!(!own(GLOBEX, "acme.internal"));
    }

    #[test]
    fn cut_certificates_are_none() {
        let der = certificates(GLOBEX).unwrap_or_default().remove(0);
        for end in 0..der.len() {
            assert!(!is_certificate(der.get(..end).unwrap_or_default()), "{end}");
            is_of_domain(der.get(..end).unwrap_or_default(), "a");
        }
        assert!(is_certificate(&der));
        assert!(!is_certificate(&[der.as_slice(), &[0]].concat()));
    }
}
