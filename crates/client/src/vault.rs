use crate::answer;
use crate::client::Client;
use crate::error::CallError;
use bytes::Bytes;
use countersign_core::vocabulary::Name;
use http::HeaderValue;
use http::Request;
use http::header;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use serde::Deserialize;
use std::collections::BTreeMap;

/// A secret that was read: its fields and its version.
#[derive(Debug)]
pub struct Secret {
    data: BTreeMap<String, SecretString>,
    /// Which version this is.
    pub version: u64,
}

/// The permission that reading a secret needs unless its entry says otherwise.
const READ: &str = "secret:read";

#[derive(Deserialize)]
struct Envelope {
    data: Inner,
}

#[derive(Deserialize)]
struct Inner {
    data: BTreeMap<String, SecretString>,
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    version: u64,
}

impl Secret {
    /// A field.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.data.get(name).map(ExposeSecret::expose_secret)
    }

    /// The field `value`, which is what a secret of one value has.
    #[must_use]
    pub fn value(&self) -> Option<&str> {
        self.field("value")
    }

    /// The names of its fields.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.data.keys().map(String::as_str)
    }
}

impl Client {
    /// Reads a secret from the vault, under the permission `secret:read`.
    ///
    /// # Errors
    /// [`CallError::AccessDenied`] if that is refused, [`CallError::Unexpected`] with status 404 if
    /// the secret has no value yet.
    pub async fn read_secret(&self, name: &str) -> Result<Secret, CallError> {
        self.read_secret_with(name, READ).await
    }

    /// The same for a secret whose entry `needs` another permission.
    ///
    /// # Errors
    /// As [`Self::read_secret`].
    pub async fn read_secret_with(&self, name: &str, scope: &str) -> Result<Secret, CallError> {
        let name = Name::new(name).map_err(|_| CallError::Target(format!("read {name}")))?;
        let token = self.token("vault", scope).await?;
        let what = "the reading of a secret";
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", token.expose()))
            .map_err(|_| self.unexpected(200, what))?;
        bearer.set_sensitive(true);
        let request = Request::get(format!("/v1/secret/data/{name}"))
            .header(header::AUTHORIZATION, bearer)
            .body(Bytes::new());
        let response = self.ask_server(request, what).await?;
        if let Some(denied) = answer::refusal(&response) {
            return Err(denied.into());
        }
        match response.status().as_u16() {
            200 => {
                let Envelope {
                    data: Inner { data, metadata },
                } = serde_json::from_slice(response.body())?;
                Ok(Secret {
                    data,
                    version: metadata.version,
                })
            }
            status => Err(self.unexpected(status, what)),
        }
    }
}
