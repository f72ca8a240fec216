use super::Name;
use super::text::checked_text;
use std::fmt;
use std::sync::Arc;

/// A SPIFFE ID with a path: the name of a workload (SPIFFE-ID, sections 2.1 to 2.4).
///
/// Read byte for byte: anything that would need repair (upper case, percent-encoding, a trailing
/// slash) is refused, so that two spellings can never mean one workload.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    text: Arc<str>,
    domain_end: usize,
}

/// The authority of a SPIFFE ID; one trust domain is one tenant.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(Arc<str>);

/// Why a text is no SPIFFE ID or trust domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeError {
    /// Does not start with `spiffe://`.
    #[error("a spiffe id starts with `spiffe://`")]
    Scheme,
    /// The trust domain is empty, over 255 bytes or has other characters.
    #[error("a trust domain is 1 to 255 lower-case letters, digits, `-`, `_` and `.`")]
    TrustDomain,
    /// The path is missing, or one of its segments is empty, `.`, `..` or has other characters.
    #[error(
        "the path of a spiffe id is segments of letters, digits, `-`, `_` and `.`, none of them empty, `.` or `..`"
    )]
    Path,
    /// Longer than 2,048 bytes.
    #[error("a spiffe id has at most 2048 bytes")]
    Length,
}

const SCHEME: &str = "spiffe://";
/// Our own processes and doors live below this path; no identity of the configuration does.
const RESERVED: &str = "countersign";

impl SpiffeId {
    /// Reads a SPIFFE ID that has a path.
    ///
    /// # Errors
    /// [`SpiffeError`] names the part that is wrong.
    pub fn parse(text: &str) -> Result<Self, SpiffeError> {
        if text.len() > 2048 {
            return Err(SpiffeError::Length);
        }
        let rest = text.strip_prefix(SCHEME).ok_or(SpiffeError::Scheme)?;
        let (domain, path) = rest.split_once('/').ok_or(SpiffeError::Path)?;
        TrustDomain::check(domain)?;
        path.split('/').try_for_each(check_segment)?;
        Ok(Self {
            text: text.into(),
            domain_end: SCHEME.len() + domain.len(),
        })
    }

    /// The identity `name` of this trust domain: `spiffe://<td>/<name>`.
    #[must_use]
    pub fn of_identity(domain: &TrustDomain, name: &Name) -> Self {
        Self::join(domain, &[name.as_str()])
    }

    /// One of our own processes: `spiffe://<td>/countersign/<role>/<name>`.
    #[must_use]
    pub fn of_process(domain: &TrustDomain, role: &str, name: &Name) -> Self {
        Self::join(domain, &[RESERVED, role, name.as_str()])
    }

    /// A browser door as the last entry of an `act` chain: `spiffe://<td>/countersign/door/<name>`.
    #[must_use]
    pub fn of_door(domain: &TrustDomain, name: &Name) -> Self {
        Self::of_process(domain, "door", name)
    }

    /// The whole text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        self.text
            .get(SCHEME.len()..self.domain_end)
            .unwrap_or_default()
    }

    /// The path without its leading slash.
    #[must_use]
    pub fn path(&self) -> &str {
        self.text.get(self.domain_end + 1..).unwrap_or_default()
    }

    /// Whether it lies in the part of the trust domain kept for our own processes.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.path().split('/').next() == Some(RESERVED)
    }

    /// Role and name, if this is one of our own processes or doors.
    #[must_use]
    pub fn process(&self) -> Option<(&str, &str)> {
        let mut parts = self.path().splitn(3, '/');
        (parts.next() == Some(RESERVED)).then_some(())?;
        Some((parts.next()?, parts.next()?))
    }

    fn join(domain: &TrustDomain, segments: &[&str]) -> Self {
        let mut text = format!("{SCHEME}{}", domain.as_str());
        for segment in segments {
            text.push('/');
            text.push_str(segment);
        }
        Self {
            text: text.into(),
            domain_end: SCHEME.len() + domain.as_str().len(),
        }
    }
}

impl TrustDomain {
    /// Checks and keeps the name of a trust domain (without `spiffe://`).
    ///
    /// # Errors
    /// [`SpiffeError::TrustDomain`] if it is empty, too long or has other characters.
    pub fn new(text: &str) -> Result<Self, SpiffeError> {
        Self::check(text)?;
        Ok(Self(text.into()))
    }

    /// The text of the trust domain.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it belongs to development: no process outside development accepts it.
    #[must_use]
    pub fn is_development(&self) -> bool {
        self.0.ends_with(".dev.invalid")
    }

    /// The only `aud` a token for `service` carries: `https://<td>/svc/<service>`.
    #[must_use]
    pub fn audience(&self, service: &str) -> String {
        ["https://", self.as_str(), "/svc/", service].concat()
    }

    /// The service that an audience of this trust domain names.
    #[must_use]
    pub fn service_of<'a>(&self, audience: &'a str) -> Option<&'a str> {
        audience
            .strip_prefix("https://")?
            .strip_prefix(self.as_str())?
            .strip_prefix("/svc/")
    }

    /// The `iss` of our tokens: `https://<td>`.
    #[must_use]
    pub fn issuer(&self) -> String {
        format!("https://{}", self.0)
    }

    /// Whether this is the `iss` of our tokens.
    #[must_use]
    pub fn is_issuer(&self, iss: &str) -> bool {
        iss.strip_prefix("https://") == Some(self.as_str())
    }

    fn check(text: &str) -> Result<(), SpiffeError> {
        let fine =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
        if text.is_empty() || text.len() > 255 || !text.bytes().all(fine) {
            return Err(SpiffeError::TrustDomain);
        }
        Ok(())
    }
}

fn check_segment(segment: &str) -> Result<(), SpiffeError> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if segment.is_empty() || segment == "." || segment == ".." || !segment.bytes().all(fine) {
        return Err(SpiffeError::Path);
    }
    Ok(())
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

checked_text!(SpiffeId, SpiffeId::parse);

checked_text!(TrustDomain, TrustDomain::new);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_the_standard_allows() {
        let id = SpiffeId::parse("spiffe://acme.internal/ns/ai/sa/Gw_1.x").unwrap();
        assert_eq!(id.trust_domain(), "acme.internal");
        assert_eq!(id.path(), "ns/ai/sa/Gw_1.x");
        assert!(!id.is_reserved());
        let own = SpiffeId::parse("spiffe://acme.internal/countersign/gateway/gw-1").unwrap();
        assert_eq!(own.process(), Some(("gateway", "gw-1")));
        assert!(own.is_reserved());
    }

    #[test]
    fn refuses_what_would_need_repair() {
        let cases = [
            ("", SpiffeError::Scheme),
            ("SPIFFE://td/a", SpiffeError::Scheme),
            ("https://td/a", SpiffeError::Scheme),
            ("spiffe:///a", SpiffeError::TrustDomain),
            ("spiffe://TD/a", SpiffeError::TrustDomain),
            ("spiffe://td:8443/a", SpiffeError::TrustDomain),
            ("spiffe://u@td/a", SpiffeError::TrustDomain),
            ("spiffe://t%64/a", SpiffeError::TrustDomain),
            ("spiffe://td", SpiffeError::Path),
            ("spiffe://td/", SpiffeError::Path),
            ("spiffe://td/a/", SpiffeError::Path),
            ("spiffe://td//a", SpiffeError::Path),
            ("spiffe://td/../a", SpiffeError::Path),
            ("spiffe://td/a?x", SpiffeError::Path),
            ("spiffe://td/a#x", SpiffeError::Path),
            ("spiffe://td/%61", SpiffeError::Path),
            ("spiffe://td/é", SpiffeError::Path),
        ];
        for (text, error) in cases {
            assert_eq!(SpiffeId::parse(text), Err(error), "{text}");
        }
        let long = format!("spiffe://td/{}", "a".repeat(2048));
        assert_eq!(SpiffeId::parse(&long), Err(SpiffeError::Length));
    }

    #[test]
    fn audiences_name_one_service() {
        let domain = TrustDomain::new("acme.internal").unwrap();
        assert_eq!(
            domain.service_of(&domain.audience("hms-api")),
            Some("hms-api")
        );
        assert_eq!(
            domain.service_of("https://acme.internal.evil/svc/hms-api"),
            None
        );
        assert_eq!(domain.service_of("https://acme.internal/hms-api"), None);
        assert!(domain.is_issuer(&domain.issuer()));
        for other in [
            "https://acme.internal/",
            "http://acme.internal",
            "acme.internal",
            "",
        ] {
            assert!(!domain.is_issuer(other), "{other}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_never_repairs(text in "(spiffe://)?[a-z/.%A-Z?#:@_-]{0,40}") {
            if let Ok(id) = SpiffeId::parse(&text) {
                prop_assert_eq!(id.as_str(), text.as_str());
                prop_assert_eq!(format!("spiffe://{}/{}", id.trust_domain(), id.path()), text);
            }
        }
    }
}
