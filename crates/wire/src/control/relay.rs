//! What a partner asks of the issuer at its door of a gateway in another process.
//!
//! The gateway carries the request and what it was shown. It is believed nothing: the server checks
//! the certificates itself, and what it gives away is worthless without their key.

use super::IssuerResponse;
use super::expose;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_core::vocabulary::Name;
use secrecy::ExposeSecret as _;
use secrecy::SecretString;
use serde::Deserialize;
use serde::Serialize;
use std::net::IpAddr;

/// A partner's request to the issuer, with the certificates it was made with.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelayedRequest {
    /// The body, base64. It may hold a token.
    #[serde(serialize_with = "expose")]
    pub body: SecretString,
    /// The certificates as they were shown, leaf first: DER, each base64.
    pub chain: Vec<String>,
    /// The door they were shown at.
    pub door: Name,
    /// The method.
    pub method: String,
    /// The path.
    pub path: String,
    /// The address it came from, for the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_ip: Option<IpAddr>,
}

/// What a [`RelayedRequest`] holds, within its bounds.
#[derive(Clone, Debug)]
pub struct Relayed {
    /// The body: a form.
    pub body: Vec<u8>,
    /// The certificates (DER), leaf first; at least one.
    pub chain: Vec<Vec<u8>>,
}

/// The issuer's answer to a [`RelayedRequest`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelayedAnswer {
    /// JSON, or nothing. It may hold a token.
    #[serde(serialize_with = "expose")]
    pub body: SecretString,
    /// Header fields beside the content type.
    pub headers: Vec<(String, String)>,
    /// HTTP status.
    pub status: u16,
}

/// Why a request is not relayed; names no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RelayFault {
    /// Not base64.
    #[error("the body or a certificate is not base64")]
    Encoding,
    /// The body is longer than [`RelayedRequest::BODY`].
    #[error("the body has more than 65536 bytes")]
    Body,
    /// No certificate, or more of them than [`RelayedRequest::CERTIFICATES`].
    #[error("a chain has 1 to 16 certificates; this has {0}")]
    Certificates(usize),
    /// More than a handshake carries ([`RelayedRequest::CHAIN`]).
    #[error("the certificates have more than 65535 bytes")]
    Chain,
    /// The method or the path is longer than any that the issuer serves.
    #[error("the method or the path is too long")]
    Target,
}

impl RelayedRequest {
    /// The longest body, in bytes: a form with one token in it.
    pub const BODY: usize = 64 * 1024;
    /// The most certificates; a path has fewer.
    pub const CERTIFICATES: usize = 16;
    /// The most bytes of all of them together: what one handshake message holds.
    pub const CHAIN: usize = 65_535;
    /// The longest a whole request gets as JSON.
    pub const WHOLE: usize = 256 * 1024;
    const METHOD: usize = 32;
    const PATH: usize = 4096;

    /// Puts a request into words.
    #[must_use]
    pub fn new(
        door: Name,
        (method, path): (&str, &str),
        body: &[u8],
        chain: &[Vec<u8>],
        source_ip: Option<IpAddr>,
    ) -> Self {
        Self {
            body: SecretString::from(STANDARD.encode(body)),
            chain: chain.iter().map(|it| STANDARD.encode(it)).collect(),
            door,
            method: method.to_owned(),
            path: path.to_owned(),
            source_ip,
        }
    }

    /// What it holds, if that is within its bounds.
    ///
    /// # Errors
    /// [`RelayFault`] for the first bound that it breaks.
    pub fn read(&self) -> Result<Relayed, RelayFault> {
        if self.method.len() > Self::METHOD || self.path.len() > Self::PATH {
            return Err(RelayFault::Target);
        }
        let count = self.chain.len();
        if count == 0 || count > Self::CERTIFICATES {
            return Err(RelayFault::Certificates(count));
        }
        let decode = |text: &str| STANDARD.decode(text).map_err(|_| RelayFault::Encoding);
        let chain = self.chain.iter().map(|it| decode(it));
        let chain: Vec<_> = chain.collect::<Result<_, _>>()?;
        if chain.iter().map(Vec::len).sum::<usize>() > Self::CHAIN {
            return Err(RelayFault::Chain);
        }
        let body = decode(self.body.expose_secret())?;
        if body.len() > Self::BODY {
            return Err(RelayFault::Body);
        }
        Ok(Relayed { body, chain })
    }
}

/// The header fields of the issuer's answers. A gateway passes on no others.
const FIELDS: [&str; 6] = [
    "cache-control",
    "countersign-pillar",
    "countersign-receipt",
    "pragma",
    "retry-after",
    "www-authenticate",
];

impl From<IssuerResponse> for RelayedAnswer {
    fn from(response: IssuerResponse) -> Self {
        let headers = response.headers.into_iter();
        Self {
            // The issuer writes JSON, which is UTF-8.
            body: SecretString::from(String::from_utf8_lossy(&response.body).into_owned()),
            headers: headers.map(|(name, it)| (name.to_owned(), it)).collect(),
            status: response.status,
        }
    }
}

impl From<RelayedAnswer> for IssuerResponse {
    fn from(answer: RelayedAnswer) -> Self {
        let known = |name: &str| FIELDS.into_iter().find(|it| *it == name);
        let headers = answer.headers.into_iter();
        Self {
            body: answer.body.expose_secret().as_bytes().to_vec(),
            headers: headers
                .filter_map(|(name, it)| Some((known(&name)?, it)))
                .collect(),
            status: answer.status,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(body: &[u8], chain: &[Vec<u8>]) -> RelayedRequest {
        let door = Name::new("globex").unwrap();
        RelayedRequest::new(door, ("POST", "/oauth2/token"), body, chain, None)
    }

    #[test]
    fn each_bound_holds_and_the_largest_request_fits_into_the_whole() {
        let fault = |it: &RelayedRequest| it.read().unwrap_err();
        let one = vec![0; 9];
        assert_eq!(fault(&request(b"", &[])), RelayFault::Certificates(0));
        let many = vec![one.clone(); 17];
        assert_eq!(fault(&request(b"", &many)), RelayFault::Certificates(17));
        let long = vec![vec![0; 32_768]; 2];
        assert_eq!(fault(&request(b"", &long)), RelayFault::Chain);
        let body = vec![b'a'; RelayedRequest::BODY + 1];
        assert_eq!(
            fault(&request(&body, std::slice::from_ref(&one))),
            RelayFault::Body
        );
        let mut target = request(b"", std::slice::from_ref(&one));
        target.path = "/".repeat(4097);
        assert_eq!(fault(&target), RelayFault::Target);
        target = request(b"", std::slice::from_ref(&one));
        target.method = "M".repeat(33);
        assert_eq!(fault(&target), RelayFault::Target);
        for wrong in ["*", "AA", "AA=="] {
            let mut encoded = request(b"", std::slice::from_ref(&one));
            encoded.chain = vec![wrong.to_owned()];
            assert_eq!(encoded.read().is_err(), wrong != "AA==", "{wrong}");
        }
        let body = vec![b'a'; RelayedRequest::BODY];
        let mut largest = request(&body, &vec![vec![0; 4095]; 16]);
        largest.path = "/".repeat(4096);
        assert!(largest.read().is_ok());
        assert!(serde_json::to_vec(&largest).unwrap().len() < RelayedRequest::WHOLE);
    }

    #[test]
    fn an_answer_keeps_the_fields_of_the_issuer_and_no_others() {
        let response = IssuerResponse {
            body: b"{}".to_vec(),
            headers: FIELDS.map(|name| (name, "x".to_owned())).to_vec(),
            status: 403,
        };
        let mut answer = RelayedAnswer::from(response.clone());
        assert_eq!(IssuerResponse::from(answer.clone()), response);
        answer
            .headers
            .push(("set-cookie".to_owned(), "a=b".to_owned()));
        assert_eq!(IssuerResponse::from(answer), response);
    }

    proptest! {
        #[test]
        fn what_is_put_into_words_is_read_again(
            body in prop::collection::vec(any::<u8>(), 0..99),
            chain in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..99), 1..=16),
        ) {
            let request = request(&body, &chain);
            let text = serde_json::to_string(&request).unwrap();
            let again: RelayedRequest = serde_json::from_str(&text).unwrap();
            let read = again.read().unwrap();
            prop_assert_eq!((read.body, read.chain), (body, chain));
        }
    }
}
