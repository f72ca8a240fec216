use crate::error::AccessDenied;
use crate::error::remedy;
use bytes::Bytes;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Pillar;
use countersign_net::problem;
use http::HeaderMap;
use serde::de::DeserializeOwned;

/// What the service answered, whatever its status: the call itself was admitted.
#[derive(Clone, Debug)]
pub struct Response {
    inner: http::Response<Bytes>,
}

impl Response {
    pub(crate) const fn new(inner: http::Response<Bytes>) -> Self {
        Self { inner }
    }

    /// HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.inner.status().as_u16()
    }

    /// Header fields.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.inner.headers()
    }

    /// Id of the record of this call.
    #[must_use]
    pub fn receipt(&self) -> Option<&str> {
        header(self.headers(), problem::RECEIPT.as_str())
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        self.inner.body()
    }

    /// The body, taken.
    #[must_use]
    pub fn into_body(self) -> Bytes {
        self.inner.into_body()
    }

    /// The body as text.
    ///
    /// # Errors
    /// If it is not UTF-8.
    pub fn text(&self) -> Result<String, std::str::Utf8Error> {
        std::str::from_utf8(self.body()).map(str::to_owned)
    }

    /// The body read as JSON.
    ///
    /// # Errors
    /// If it is not JSON, or not of this shape.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(self.body())
    }
}

/// The refusal that a response is, if it is one. A gateway strips our headers from what services
/// answer, so this header says that it was us.
pub(crate) fn refusal(response: &http::Response<Bytes>) -> Option<AccessDenied> {
    if response.status().as_u16() < 400 {
        return None;
    }
    let pillar = Pillar::from_word(header(response.headers(), problem::PILLAR.as_str())?)?;
    let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap_or_default();
    let code = body
        .get("code")
        .and_then(|code| code.as_str())
        .and_then(Code::parse);
    let receipt = header(response.headers(), problem::RECEIPT.as_str()).map(str::to_owned);
    // Both are ours; should they differ, the header is the one that a script sees.
    let code = code.filter(|code| code.pillar() == pillar);
    Some(AccessDenied {
        pillar,
        code,
        receipt,
        fix: remedy(pillar, code),
    })
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
