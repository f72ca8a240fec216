//! Drawing tokens at the issuer.

use crate::answer;
use crate::cache::AccessToken;
use crate::cache::Key;
use crate::client::Client;
use crate::error::CallError;
use crate::identity::now;
use bytes::Bytes;
use http::Request;
use http::header;
use serde::Deserialize;
use std::time::Duration;

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: u64,
    #[serde(default)]
    scope: String,
}

impl Client {
    /// A token for `audience` (a service) with this scope (permissions separated by spaces; empty
    /// where the edge suffices), drawn now or a moment ago.
    ///
    /// With a subject token it is drawn in exchange for that one.
    ///
    /// # Errors
    /// [`CallError::AccessDenied`] if the issuer refuses, others if it can't be asked.
    pub async fn token(&self, audience: &str, scope: &str) -> Result<AccessToken, CallError> {
        self.token_from(audience, scope)
            .await
            .map(|(token, _)| token)
    }

    /// A token for `audience` that acts for the subject of `subject_token`, which this workload
    /// was called with (RFC 8693).
    ///
    /// # Errors
    /// As [`Self::token`].
    pub async fn exchange(
        &self,
        subject_token: &str,
        audience: &str,
        scope: &str,
    ) -> Result<AccessToken, CallError> {
        self.with_subject_token(subject_token)
            .token(audience, scope)
            .await
    }

    /// The token, and whether it was kept from before.
    pub(crate) async fn token_from(
        &self,
        audience: &str,
        scope: &str,
    ) -> Result<(AccessToken, bool), CallError> {
        self.identity().refresh();
        let key = self.key(audience, scope);
        if let Some(kept) = self.tokens().find(&key, now()) {
            return Ok((kept, true));
        }
        let token = self.draw(audience, scope).await?;
        self.tokens().keep(key, token.clone(), now());
        Ok((token, false))
    }

    /// Forgets a token that did not do.
    pub(crate) fn forget(&self, audience: &str, scope: &str) {
        self.tokens().forget(&self.key(audience, scope));
    }

    fn key(&self, audience: &str, scope: &str) -> Key {
        Key {
            audience: audience.to_owned(),
            leaf: self.identity().svid.current().leaf(),
            scope: scope.to_owned(),
            subject: self.subject().cloned(),
        }
    }

    /// What is asked of the token endpoint.
    fn form(&self, audience: &str, scope: &str) -> String {
        let mut form = form_urlencoded::Serializer::new(String::new());
        match self.subject() {
            None => form.append_pair("grant_type", "client_credentials"),
            Some(subject) => form
                .append_pair("grant_type", EXCHANGE)
                .append_pair("subject_token", subject)
                .append_pair("subject_token_type", ACCESS_TOKEN),
        };
        // Required by RFC 8705 section 2; the certificate is what proves it.
        form.append_pair("client_id", self.spiffe_id().as_str());
        form.append_pair("audience", audience);
        if !scope.is_empty() {
            form.append_pair("scope", scope);
        }
        form.finish()
    }

    async fn draw(&self, audience: &str, scope: &str) -> Result<AccessToken, CallError> {
        let form = self.form(audience, scope);
        let request = Request::post("/oauth2/token")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Bytes::from(form));
        let asked = now();
        let response = self.ask_server(request, "the request for a token").await?;
        if let Some(denied) = answer::refusal(&response) {
            return Err(denied.into());
        }
        let unexpected = |status| self.unexpected(status, "the request for a token");
        let status = response.status().as_u16();
        let granted: Granted = match status {
            200 => serde_json::from_slice(response.body())?,
            _ => return Err(unexpected(status)),
        };
        Ok(AccessToken {
            value: granted.access_token.into(),
            expires: asked.plus(Duration::from_secs(granted.expires_in)),
            scope: granted.scope,
        })
    }
}
