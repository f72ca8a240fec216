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

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    /// A response with these headers of ours, as a service or a gateway might send it.
    fn response(
        status: u16,
        pillar: Option<&[u8]>,
        receipt: Option<&[u8]>,
        body: &[u8],
    ) -> http::Response<Bytes> {
        let mut response = http::Response::new(Bytes::copy_from_slice(body));
        *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
        for (name, value) in [(problem::PILLAR, pillar), (problem::RECEIPT, receipt)] {
            if let Some(value) = value.and_then(|it| HeaderValue::from_bytes(it).ok()) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }

    fn word() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
            "encryption",
            "identity",
            "continuous-verification",
            "micro-segmentation",
            "least-privilege",
            "audit",
        ])
    }

    proptest! {
        #[test]
        fn any_answer_is_a_refusal_with_a_pillar_or_none(
            status in 100_u16..1000,
            pillar in prop::option::of(prop::collection::vec(any::<u8>(), 0..24)),
            receipt in prop::option::of(prop::collection::vec(any::<u8>(), 0..24)),
            body in prop::collection::vec(any::<u8>(), 0..128),
        ) {
            let response = response(status, pillar.as_deref(), receipt.as_deref(), &body);
            let named = header(response.headers(), problem::PILLAR.as_str()).and_then(Pillar::from_word);
            let refused = refusal(&response);
            prop_assert_eq!(refused.is_some(), status >= 400 && named.is_some());
            if let Some(refused) = refused {
                prop_assert_eq!(Some(refused.pillar), named);
                prop_assert_eq!(refused.code, None);
            }
        }

        #[test]
        fn a_code_of_another_pillar_is_not_believed(
            status in 400_u16..600,
            word in word(),
            number in 0_u16..1000,
            receipt in "r-[0-9a-z]{12}",
        ) {
            let body = format!(r#"{{"code":"CSD{number:03}","pillar":"{word}"}}"#);
            let response = response(status, Some(word.as_bytes()), Some(receipt.as_bytes()), body.as_bytes());
            let refused = refusal(&response).unwrap();
            prop_assert_eq!(refused.pillar.word(), word);
            prop_assert_eq!(refused.receipt.as_deref(), Some(receipt.as_str()));
            let known = Code::parse(&format!("CSD{number:03}"));
            prop_assert_eq!(refused.code, known.filter(|it| it.pillar().word() == word));
        }

        #[test]
        fn what_was_answered_below_400_is_no_refusal(status in 100_u16..400, word in word()) {
            let refused = refusal(&response(status, Some(word.as_bytes()), None, b"{}"));
            prop_assert!(refused.is_none());
        }
    }
}
