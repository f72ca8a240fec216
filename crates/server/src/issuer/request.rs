//! A token request: what the form says, and what is wrong with it.

use super::form::Form;
use super::form::FormError;
use countersign_core::vocabulary::TrustDomain;
use countersign_core::vocabulary::clip;
use secrecy::SecretString;

/// What a client asks of the token endpoint. A faulty request is decided like any other, so it
/// holds as much as could be read.
#[derive(Debug, Default)]
pub(super) struct TokenRequest {
    /// `client_id`.
    pub(super) client: Option<String>,
    /// What is wrong with it.
    pub(super) fault: Option<Fault>,
    /// `scope`, word by word.
    pub(super) scope: Vec<String>,
    /// The service that `audience` or `resource` names, or what they say instead.
    pub(super) service: Option<String>,
    /// `subject_token`, where this is an exchange.
    pub(super) subject_token: Option<SecretString>,
}

/// What is wrong with a request (RFC 6749 section 5.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// For the record; names no value.
    pub(super) detail: String,
    /// The error code of the answer.
    pub(super) error: &'static str,
}

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// The one type of token that is exchanged, and that is given for it.
pub(super) const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
/// The most words a scope may have.
const SCOPES: usize = 64;

impl TokenRequest {
    /// Reads a body, unless it is known to be `broken`.
    pub(super) fn read(body: &[u8], broken: Option<&'static str>, domain: &TrustDomain) -> Self {
        let mut request = Self::default();
        let read = match broken {
            Some(why) => Err(Fault::new("invalid_request", why)),
            None => Form::read(body).map_err(Fault::from),
        };
        request.fault = read.and_then(|form| request.fill(&form, domain)).err();
        request
    }

    fn fill(&mut self, form: &Form, domain: &TrustDomain) -> Result<(), Fault> {
        // The service first: without it a refusal can't say which edge is missing.
        let service = service(form, domain);
        self.service = service.as_ref().ok().cloned();
        self.client = form.once("client_id")?.map(|id| clip(id, 2048).to_owned());
        service?;
        let grant = form
            .once("grant_type")?
            .ok_or_else(|| missing("grant_type"))?;
        self.scope = scope(form.once("scope")?)?;
        if self.client.is_none() {
            return Err(missing("client_id"));
        }
        match grant {
            "client_credentials" => Ok(()),
            EXCHANGE => self.exchange(form),
            _ => Err(Fault::new("unsupported_grant_type", "no such grant type")),
        }
    }

    /// RFC 8693 section 2.1, as far as we go: one of our access tokens for another, no actor token
    /// (the actor is whoever shows the certificate).
    fn exchange(&mut self, form: &Form) -> Result<(), Fault> {
        let token = form
            .once("subject_token")?
            .ok_or_else(|| missing("subject_token"))?;
        self.subject_token = Some(SecretString::from(token));
        let of = form
            .once("subject_token_type")?
            .ok_or_else(|| missing("subject_token_type"))?;
        let wanted = form.once("requested_token_type")?.unwrap_or(ACCESS_TOKEN);
        if of != ACCESS_TOKEN || wanted != ACCESS_TOKEN {
            return Err(Fault::new(
                "invalid_request",
                "only access tokens are exchanged",
            ));
        }
        let actor = form.once("actor_token")?.or(form.once("actor_token_type")?);
        if actor.is_some() {
            return Err(Fault::new(
                "invalid_request",
                "the actor is the client itself",
            ));
        }
        Ok(())
    }
}

impl Fault {
    pub(super) fn new(error: &'static str, detail: impl Into<String>) -> Self {
        Self {
            detail: detail.into(),
            error,
        }
    }
}

impl From<FormError> for Fault {
    fn from(error: FormError) -> Self {
        Self::new("invalid_request", error.to_string())
    }
}

pub(super) fn missing(parameter: &'static str) -> Fault {
    Fault::new(
        "invalid_request",
        format!("parameter `{parameter}` is missing"),
    )
}

/// The one service that all of `audience` and `resource` (RFC 8707) name. What names none of ours
/// is kept as it is: it is refused like a service that no edge leads to.
fn service(form: &Form, domain: &TrustDomain) -> Result<String, Fault> {
    let named = form.all("audience").chain(form.all("resource"));
    let mut services = named.map(|text| domain.service_of(text).unwrap_or(text));
    let first = services.next().filter(|it| !it.is_empty());
    let first = first.ok_or_else(|| missing("audience"))?;
    if services.any(|other| other != first) {
        return Err(Fault::new("invalid_target", "a token is for one service"));
    }
    Ok(clip(first, 256).to_owned())
}

/// `scope` (RFC 6749 section 3.3).
fn scope(text: Option<&str>) -> Result<Vec<String>, Fault> {
    let words: Vec<_> = text.into_iter().flat_map(|it| it.split(' ')).collect();
    let word = |it: &&str| {
        let allowed = |b: u8| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        !it.is_empty() && it.len() <= 256 && it.bytes().all(allowed)
    };
    if words.len() > SCOPES || !words.iter().all(word) {
        return Err(Fault::new("invalid_scope", "the scope can't be read"));
    }
    Ok(words.into_iter().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(body: &str) -> TokenRequest {
        TokenRequest::read(
            body.as_bytes(),
            None,
            &TrustDomain::new("acme.internal").unwrap(),
        )
    }

    #[test]
    fn the_two_grants() {
        let body = "grant_type=client_credentials&client_id=web&scope=a:b+c:d\
            &audience=https%3A%2F%2Facme.internal%2Fsvc%2Fhms-api&resource=hms-api";
        let request = read(body);
        assert_eq!(request.fault, None);
        assert_eq!(request.service.as_deref(), Some("hms-api"));
        assert_eq!(request.scope, ["a:b", "c:d"]);
        let exchange = format!(
            "grant_type={EXCHANGE}&client_id=web&audience=x&subject_token=t\
             &subject_token_type={ACCESS_TOKEN}"
        );
        let request = read(&exchange);
        assert_eq!(request.fault, None);
        assert!(request.subject_token.is_some());
    }

    #[test]
    fn each_fault_has_its_error() {
        let good = "grant_type=client_credentials&client_id=web&audience=x";
        let exchange = format!("grant_type={EXCHANGE}&client_id=web&audience=x");
        let cases = [
            ("", "invalid_request"),
            (
                "grant_type=client_credentials&client_id=web",
                "invalid_request",
            ),
            ("client_id=web&audience=x", "invalid_request"),
            (
                "grant_type=client_credentials&audience=x",
                "invalid_request",
            ),
            (
                "grant_type=password&client_id=web&audience=x",
                "unsupported_grant_type",
            ),
            (
                &format!("{good}&grant_type=client_credentials"),
                "invalid_request",
            ),
            (&format!("{good}&client_id=web"), "invalid_request"),
            (&format!("{good}&scope=a&scope=b"), "invalid_request"),
            (&format!("{good}&resource=y"), "invalid_target"),
            (&format!("{good}&scope=a++b"), "invalid_scope"),
            (&format!("{good}&scope=%22"), "invalid_scope"),
            (&exchange, "invalid_request"),
            (&format!("{exchange}&subject_token=t"), "invalid_request"),
            (
                &format!(
                    "{exchange}&subject_token=t&subject_token_type=urn:ietf:params:oauth:token-type:jwt"
                ),
                "invalid_request",
            ),
            (
                &format!(
                    "{exchange}&subject_token=t&subject_token_type={ACCESS_TOKEN}&actor_token=t"
                ),
                "invalid_request",
            ),
        ];
        for (body, error) in cases {
            let fault = read(body)
                .fault
                .unwrap_or_else(|| panic!("`{body}` has no fault"));
            assert_eq!(fault.error, error, "{body}: {}", fault.detail);
        }
    }

    proptest! {
        /// A request without a fault names one client, one service and a bounded scope.
        #[test]
        fn never_panics(bytes: Vec<u8>, text in "((grant_type=client_credentials|client_id=|audience=|resource=|scope=|subject_token=|[a-z]{0,4}|%[0-9a-f]{2}|https%3A%2F%2Facme.internal%2Fsvc%2F|[+=])&?){0,12}") {
            let domain = TrustDomain::new("acme.internal").unwrap();
            for body in [bytes.as_slice(), text.as_bytes()] {
                let request = TokenRequest::read(body, None, &domain);
                if request.fault.is_none() {
                    prop_assert!(request.client.is_some() && request.service.is_some());
                }
                prop_assert!(request.scope.len() <= SCOPES);
                prop_assert!(request.scope.iter().all(|word| (1..=256).contains(&word.len())));
                prop_assert!(request.service.is_none_or(|service| service.len() <= 256));
                let broken = TokenRequest::read(body, Some("the body is too large"), &domain);
                prop_assert!(broken.fault.is_some() && broken.client.is_none());
            }
        }
    }
}
