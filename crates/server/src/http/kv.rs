//! The built-in vault as Vault's KV version 2 serves it: `/v1/secret/data/NAME`.
//!
//! Each call is a hop of its own to service `vault`, by the certificate of the connection and the
//! token in `X-Vault-Token` or `Authorization`. Only a caller who was admitted learns whether
//! there is a value.

use super::Body;
use super::BodyFault;
use super::Call;
use super::Front;
use super::json;
use super::read_body;
use super::refusal;
use crate::secret_sources::SourceError;
use crate::secret_sources::Sourced;
use crate::secrets::WriteError;
use crate::vault::SecretData;
use crate::vault::VaultError;
use countersign_core::config::Secret;
use countersign_core::hop::Evidence;
use countersign_core::hop::Facts;
use countersign_core::hop::RequestFault;
use countersign_core::record::Ending;
use countersign_core::vocabulary::CanonicalPath;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Operation;
use countersign_core::vocabulary::Timestamp;
use countersign_core::vocabulary::clip;
use countersign_enforce::Admitted;
use countersign_enforce::Ask;
use countersign_enforce::Refusal;
use countersign_net::problem::Format;
use countersign_net::problem::RECEIPT;
use http::HeaderValue;
use http::Method;
use http::Response;
use http::StatusCode;
use http::header;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use zeroize::Zeroizing;

/// Where the secrets are.
pub(super) const PREFIX: &str = "/v1/secret/data/";
const BODY: usize = 1024 * 1024;

/// What a call wants.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Read,
    Write,
    /// Not here: refused like any operation without an edge.
    Other,
}

#[derive(Deserialize)]
struct Put {
    data: Option<Map<String, Value>>,
    options: Option<Options>,
}

#[derive(Deserialize)]
struct Options {
    cas: Option<u64>,
}

impl Verb {
    const fn of(method: &Method) -> Self {
        match *method {
            Method::GET => Self::Read,
            Method::POST | Method::PUT => Self::Write,
            _ => Self::Other,
        }
    }
}

/// Status and text of what goes wrong after the call was admitted.
type Failure = (StatusCode, Vec<&'static str>);

impl Front {
    pub(super) async fn kv(&self, call: &Call<'_>, body: Incoming) -> Response<Body> {
        let verb = Verb::of(&call.parts.method);
        let admitted = match self.admit(call, verb).await {
            Ok(admitted) => admitted,
            Err(refused) => return denied(&refused),
        };
        let done = match verb {
            Verb::Read => self.read_secret(call, &admitted).await,
            Verb::Write => self.write_secret(call, &admitted, body).await,
            Verb::Other => Err((
                StatusCode::METHOD_NOT_ALLOWED,
                vec!["unsupported operation"],
            )),
        };
        let mut response = match done {
            Ok(data) => json(StatusCode::OK, &envelope(call.id, &data)),
            Err((status, errors)) => json(status, &json!({ "errors": errors })),
        };
        if let Ok(id) = HeaderValue::from_str(&admitted.admission().receipt().to_string()) {
            response.headers_mut().insert(RECEIPT, id);
        }
        admitted.answered(response.status().as_u16());
        let size = http_body::Body::size_hint(response.body()).exact();
        admitted.sent(size.unwrap_or_default());
        admitted.ended(Ending::Done);
        response
    }

    async fn admit(&self, call: &Call<'_>, verb: Verb) -> Result<Admitted, Refusal> {
        let (name, fault) = name(call.parts.uri.path());
        let method = call.parts.method.as_str().to_ascii_lowercase();
        let operation = match verb {
            Verb::Read => Operation::named("read", &name),
            Verb::Write => Operation::named("write", &name),
            Verb::Other => Operation::named(clip(&method, 32), &name),
        };
        let ask = Ask {
            door: self.door.clone(),
            service: "vault".to_owned(),
            operation,
            evidence: self.with_token(call),
            facts: Facts {
                fault,
                ..Facts::default()
            },
            context: call.context(),
        };
        self.plane.point.enforce(ask).await
    }

    /// Both headers at once could be read as one or the other, so that proves nothing.
    fn with_token(&self, call: &Call<'_>) -> Evidence {
        let headers = call.headers();
        let bearers = headers.get_all(header::AUTHORIZATION).iter();
        let vaults = headers.get_all("x-vault-token").iter();
        let vaults = vaults.map(|token| [b"Bearer ", token.as_bytes()].concat());
        let shown: Vec<Vec<u8>> = bearers
            .map(|token| token.as_bytes().to_vec())
            .chain(vaults)
            .collect();
        let mut evidence = call.evidence();
        let shown = shown.iter().map(Vec::as_slice);
        evidence.token =
            self.plane
                .issuer
                .verifier()
                .verify(shown, call.presenter(), self.plane.point.now());
        evidence
    }

    async fn read_secret(&self, call: &Call<'_>, admitted: &Admitted) -> Result<Value, Failure> {
        let version = version(call.parts.uri.query())?;
        let (_, secret) = configured(call, admitted)?;
        let read = self.plane.secrets.read(secret, version).await;
        revealed(&read.map_err(|error| unread(&error))?)
    }

    async fn write_secret(
        &self,
        call: &Call<'_>,
        admitted: &Admitted,
        body: Incoming,
    ) -> Result<Value, Failure> {
        let (name, secret) = configured(call, admitted)?;
        let body = read_body(body, BODY).await.map_err(|fault| match fault {
            BodyFault::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, vec![fault.text()]),
            BodyFault::Incomplete => bad(fault.text()),
        })?;
        admitted.received(body.len() as u64);
        let (data, cas) = put(&body)?;
        let actor = call.evidence();
        let actor = actor
            .certificate()
            .map_or("anonymous", |it| it.spiffe_id.as_str());
        let written = self
            .plane
            .secrets
            .write(name, secret, data, cas, actor)
            .await;
        let written = written.map_err(|error| unwritten(&error))?;
        Ok(metadata(written.version, Some(written.created)))
    }
}

/// What a body wants to have written, and the version that has to be the newest.
fn put(body: &[u8]) -> Result<(SecretData, Option<u64>), Failure> {
    let put: Put = serde_json::from_slice(body).map_err(|_| bad("failed to parse JSON input"))?;
    let fields = put.data.ok_or(bad("no data provided"))?;
    let text = serde_json::to_vec(&fields).map_err(|_| bad("no data provided"))?;
    let data = SecretData::from_json(Zeroizing::new(text));
    let data = data.map_err(|error| unwritten(&error.into()))?;
    Ok((data, put.options.and_then(|options| options.cas)))
}

/// The name in a path. What is no name is asked for as it is: no secret is called that.
fn name(path: &str) -> (String, Option<RequestFault>) {
    match CanonicalPath::new(path) {
        Ok(path) => {
            let name = path.as_str().strip_prefix(PREFIX).unwrap_or_default();
            (clip(name, 256).to_owned(), None)
        }
        Err(error) => {
            let fault = RequestFault {
                code: Code::PATH_AMBIGUOUS,
                detail: error.to_string(),
            };
            (String::new(), Some(fault))
        }
    }
}

/// The configured secret; only one with a name in the configuration can hold a value.
fn configured<'a>(
    call: &Call<'_>,
    admitted: &'a Admitted,
) -> Result<(&'a str, &'a Secret), Failure> {
    let namespace = call
        .headers()
        .get("x-vault-namespace")
        .map(HeaderValue::as_bytes);
    let ours = matches!(namespace, None | Some(b"" | b"root" | b"root/"));
    let admission = admitted.admission();
    let name = admission.hop().operation.object.as_str();
    let secret = admission.snapshot().secret(name).filter(|_| ours);
    secret
        .map(|secret| (name, secret))
        .ok_or((StatusCode::NOT_FOUND, Vec::new()))
}

/// `?version=n`; 0 is the newest.
fn version(query: Option<&str>) -> Result<Option<u64>, Failure> {
    let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let mut version = None;
    for (name, value) in pairs {
        if name == "version" {
            let bad = (StatusCode::BAD_REQUEST, vec!["version is not a number"]);
            // More of them than the store can count are no versions.
            let read: Option<i64> = value.parse().ok();
            let read = read.and_then(|it| u64::try_from(it).ok());
            version = Some(read.ok_or(bad)?);
        }
    }
    Ok(version.filter(|version| *version > 0))
}

/// Every key, always: some clients take a missing one for an error.
fn envelope(request_id: &str, data: &Value) -> Value {
    json!({
        "auth": null,
        "data": data,
        "lease_duration": 0,
        "lease_id": "",
        "mount_type": "kv",
        "renewable": false,
        "request_id": request_id,
        "warnings": null,
        "wrap_info": null,
    })
}

fn revealed(read: &Sourced) -> Result<Value, Failure> {
    let broken = (StatusCode::INTERNAL_SERVER_ERROR, vec!["internal error"]);
    let data: Value = serde_json::from_slice(read.data.expose_json()).map_err(|_| broken)?;
    Ok(json!({ "data": data, "metadata": metadata(read.version, read.created) }))
}

fn metadata(version: u64, created: Option<Timestamp>) -> Value {
    json!({
        "created_time": created.unwrap_or(Timestamp::from_secs(0)),
        "custom_metadata": null,
        "deletion_time": "",
        "destroyed": false,
        "version": version,
    })
}

fn unread(error: &SourceError) -> Failure {
    if error.is_not_found() {
        return (StatusCode::NOT_FOUND, Vec::new());
    }
    tracing::error!(%error, "an admitted read of the vault failed");
    (StatusCode::INTERNAL_SERVER_ERROR, vec!["internal error"])
}

fn unwritten(error: &WriteError) -> Failure {
    match error {
        WriteError::Elsewhere => bad("this secret's value is kept elsewhere"),
        WriteError::Vault(VaultError::CasMismatch) => {
            bad("check-and-set parameter did not match the current version")
        }
        WriteError::Vault(VaultError::NoData) => bad("no data provided"),
        WriteError::Vault(VaultError::TooLarge) => (
            StatusCode::PAYLOAD_TOO_LARGE,
            vec!["the secret is too large"],
        ),
        error => {
            tracing::error!(%error, "an admitted write of the vault failed");
            (StatusCode::INTERNAL_SERVER_ERROR, vec!["internal error"])
        }
    }
}

fn bad(why: &'static str) -> Failure {
    (StatusCode::BAD_REQUEST, vec![why])
}

/// Vault's clients know no difference between a bad token and one that may not.
fn denied(refused: &Refusal) -> Response<Body> {
    let mut response = refusal(refused, Format::Vault);
    if response.status() == StatusCode::UNAUTHORIZED {
        *response.status_mut() = StatusCode::FORBIDDEN;
        response.headers_mut().remove(header::WWW_AUTHENTICATE);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::described::described;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_description_has_every_method_and_no_other() {
        let methods = [
            "CONNECT", "DELETE", "GET", "HEAD", "LIST", "OPTIONS", "PATCH", "POST", "PUT", "TRACE",
        ];
        let served = methods.into_iter().filter(|method| {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            Verb::of(&method) != Verb::Other
        });
        let ours: BTreeSet<_> = served
            .map(|it| (it.to_ascii_lowercase(), format!("{PREFIX}{{name}}")))
            .collect();
        assert_eq!(described("vault.yaml"), ours);
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 12, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(".{0,6}", inner, 0..4)
                    .prop_map(|it| Value::Object(it.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_body_is_taken_or_refused_as_the_callers_fault(body in prop::collection::vec(any::<u8>(), 0..512)) {
            if let Err((status, texts)) = put(&body) {
                prop_assert_eq!(status, StatusCode::BAD_REQUEST);
                prop_assert_eq!(texts.len(), 1);
            }
        }

        #[test]
        fn what_is_written_is_what_came(
            fields in prop::collection::btree_map(".{0,8}", value(), 0..5),
            cas in prop::option::of(any::<u64>()),
        ) {
            let body = json!({ "data": fields, "options": { "cas": cas } }).to_string();
            match put(body.as_bytes()) {
                Ok((data, read)) => {
                    prop_assert_eq!(read, cas);
                    let written: Value = serde_json::from_slice(data.expose_json()).unwrap();
                    prop_assert_eq!(written, json!(fields));
                }
                Err((status, _)) => {
                    prop_assert!(fields.is_empty());
                    prop_assert_eq!(status, StatusCode::BAD_REQUEST);
                }
            }
        }

        #[test]
        fn only_an_object_is_data(data in value(), cas in value()) {
            let is_data = data.as_object().is_some_and(|it| !it.is_empty());
            let body = json!({ "data": data }).to_string();
            prop_assert_eq!(put(body.as_bytes()).is_ok(), is_data);
            let is_cas = cas.is_null() || cas.is_u64();
            let body = json!({ "data": { "value": "" }, "options": { "cas": cas } }).to_string();
            prop_assert_eq!(put(body.as_bytes()).is_ok(), is_cas);
        }

        #[test]
        fn a_version_is_a_number_or_refused(query in "[ -~]{0,32}", number in any::<u64>()) {
            if let Err((status, _)) = version(Some(&query)) {
                prop_assert_eq!(status, StatusCode::BAD_REQUEST);
            }
            let read = version(Some(&format!("a=b&version={number}")));
            let countable = i64::try_from(number).is_ok();
            prop_assert_eq!(read.ok().map(Option::unwrap_or_default), countable.then_some(number));
        }
    }
}
