//! `peer: third-party`: somebody else's API.
//!
//! It gets what the allow-list names and nothing of the caller's: no token, no cookie, no trace.
//! The credential is put in here and must not come back: answers are searched for it, and one that
//! holds it is cut, recorded and logged.

use super::Call;
use super::Dressed;
use crate::body::Needle;
use crate::refuse::Failure;
use countersign_core::config::CredentialForm;
use countersign_core::config::Service;
use countersign_core::record::Record;
use countersign_core::record::Resource;
use countersign_core::record::Status;
use countersign_core::vocabulary::Name;
use countersign_enforce::EnforcementPoint;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::header;
use secrecy::ExposeSecret;
use std::borrow::Cow;

/// What describes the request and says nothing about who makes it.
const ALLOWED: [HeaderName; 10] = [
    header::ACCEPT,
    header::ACCEPT_LANGUAGE,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_TYPE,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_UNMODIFIED_SINCE,
    HeaderName::from_static("idempotency-key"),
];

/// Never allowed, whatever `headers` says: these are callers' credentials.
const NEVER: [HeaderName; 3] = [
    header::AUTHORIZATION,
    header::COOKIE,
    header::PROXY_AUTHORIZATION,
];

/// A credential under way: whose it is, and how its return is told.
pub(super) struct Injected {
    pub(super) needle: Option<Needle>,
    pub(super) alarm: Alarm,
}

impl Injected {
    /// Which secret it is.
    pub(super) const fn secret(&self) -> &Name {
        &self.alarm.secret
    }
}

/// Tells that an upstream sent the injected credential back.
#[derive(Clone)]
pub(super) struct Alarm {
    point: EnforcementPoint,
    principal: String,
    receipt: String,
    secret: Name,
    service: String,
    version: u64,
}

/// The headers of the request as this upstream gets it.
pub(super) async fn dress(service: &Service, call: &Call<'_>) -> Result<Dressed, Failure> {
    let mut fields = HeaderMap::new();
    for (name, value) in &call.parts.headers {
        let listed = service.headers.iter().any(|it| it == name.as_str());
        if (listed || ALLOWED.contains(name)) && !NEVER.contains(name) {
            fields.append(name.clone(), value.clone());
        }
    }
    // A coding could hide the credential from the search.
    fields.insert(
        header::ACCEPT_ENCODING,
        HeaderValue::from_static("identity"),
    );
    let Some(credential) = &service.credential else {
        return Ok(Dressed { fields, leak: None });
    };
    let read = call
        .upstreams
        .credentials
        .secret(call.plane, &credential.secret)
        .await;
    let secret = read.map_err(|error| {
        tracing::warn!(%error, secret = %credential.secret, "no credential for an upstream");
        Failure::Upstream
    })?;
    let (name, text) = match &credential.form {
        CredentialForm::Bearer => (
            header::AUTHORIZATION,
            format!("Bearer {}", secret.value.expose_secret()),
        ),
        CredentialForm::Header(name) => {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Failure::Upstream)?;
            (name, secret.value.expose_secret().to_owned())
        }
    };
    let mut value = HeaderValue::from_str(&text).map_err(|_| Failure::Upstream)?;
    value.set_sensitive(true);
    fields.insert(name, value);
    let admission = call.admitted.admission();
    let alarm = Alarm {
        point: call.plane.point.clone(),
        principal: call.plane.svid.current().spiffe_id().to_string(),
        receipt: admission.receipt().to_string(),
        secret: credential.secret.clone(),
        service: admission.hop().service.clone(),
        version: secret.version,
    };
    alarm.used().await?;
    let needle = Needle::new(secret.value);
    if needle.is_none() {
        tracing::warn!(secret = %credential.secret, "too short to be searched for in answers");
    }
    Ok(Dressed {
        fields,
        leak: Some(Injected { needle, alarm }),
    })
}

/// What this upstream may not tell the caller.
pub(super) fn undress(fields: &mut HeaderMap) {
    fields.remove(header::SET_COOKIE);
}

/// Whether an answer is one that can be searched.
pub(super) fn is_plain(fields: &HeaderMap) -> bool {
    fields
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .all(|coding| coding == "identity")
}

impl Alarm {
    /// Records, before anything leaves, which secret goes into which call.
    async fn used(&self) -> Result<(), Failure> {
        let recorded = self.point.record_event(&self.record("secret.inject")).await;
        recorded.map(|_| ()).map_err(|error| {
            tracing::error!(%error, "the use of a credential was not recorded");
            Failure::Upstream
        })
    }

    /// Records and logs that it came back.
    pub(super) fn raise(&self) {
        tracing::error!(
            secret = %self.secret,
            service = self.service,
            receipt = self.receipt,
            "the answer of an upstream held the injected credential and was cut"
        );
        let alarm = self.clone();
        tokio::spawn(async move {
            let mut record = alarm.record("secret.leak.cut");
            record.status = Status::Error;
            if let Err(error) = alarm.point.record_event(&record).await {
                tracing::error!(%error, "a cut answer was not recorded");
            }
        });
    }

    fn record(&self, event: &'static str) -> Record<'_> {
        let resource = Resource {
            id: Cow::Owned(format!("vault/{}", self.secret)),
            service: Cow::Borrowed(&self.service),
        };
        let mut record = Record::event(event, self.point.now(), &self.principal, resource);
        for (key, value) in [
            ("decision", Cow::Borrowed(self.receipt.as_str())),
            ("version", Cow::Owned(self.version.to_string())),
        ] {
            record.metadata.insert(Cow::Borrowed(key), value);
        }
        record
    }
}
