//! The call itself: token, connection, request, answer.

use crate::answer;
use crate::answer::Response;
use crate::client::Client;
use crate::error::CallError;
use bytes::Bytes;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Name;
use http::HeaderValue;
use http::Method;
use http::Request;
use http::header;
use serde::Serialize;

/// `service/path?query`, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Target<'a> {
    path: String,
    service: &'a str,
}

impl Client {
    /// Calls `target` (`service/path`) with one permission (`scope`, empty where the edge
    /// suffices), sending `payload` as JSON.
    ///
    /// The answer is the service's, whatever its status. A call whose kept token turned out not to
    /// do is made once more with a new one: it was refused before anything was sent on.
    ///
    /// # Errors
    /// [`CallError::AccessDenied`] names the pillar that did not hold; the others mean that the
    /// call could not be made or has no answer.
    pub async fn secure_call<P: Serialize + ?Sized>(
        &self,
        target: &str,
        method: &str,
        payload: Option<&P>,
        scope: &str,
    ) -> Result<Response, CallError> {
        let body = payload
            .map(serde_json::to_vec)
            .transpose()?
            .map(Bytes::from);
        let body = body.map(|body| (body, "application/json"));
        self.call(target, method, body, scope).await
    }

    /// The same with a body of bytes and its content type.
    ///
    /// # Errors
    /// As [`Self::secure_call`].
    pub async fn call(
        &self,
        target: &str,
        method: &str,
        body: Option<(Bytes, &str)>,
        scope: &str,
    ) -> Result<Response, CallError> {
        let wrong = || CallError::Target(format!("{method} {target}"));
        let split = split(target).ok_or_else(wrong)?;
        let method = method.parse::<Method>().map_err(|_| wrong())?;
        let mut again = false;
        loop {
            let (token, kept) = self.token_from(split.service, scope).await?;
            let mut bearer = HeaderValue::try_from(format!("Bearer {}", token.expose()))
                .map_err(|_| self.unexpected(200, "the request for a token"))?;
            bearer.set_sensitive(true);
            let mut request = Request::builder().method(method.clone()).uri(&split.path);
            request = request.header(header::AUTHORIZATION, bearer);
            if let Some((_, content_type)) = &body {
                request = request.header(header::CONTENT_TYPE, *content_type);
            }
            let bytes = body
                .as_ref()
                .map(|(bytes, _)| bytes.clone())
                .unwrap_or_default();
            let request = request.body(bytes).map_err(|_| wrong())?;
            let response = self.ask_mesh(split.service, request).await?;
            let Some(denied) = answer::refusal(&response) else {
                return Ok(Response::new(response));
            };
            if !kept || again || !denied.code.is_some_and(new_token_may_help) {
                return Err(denied.into());
            }
            again = true;
            self.forget(split.service, scope);
        }
    }
}

const fn new_token_may_help(code: Code) -> bool {
    matches!(
        code,
        Code::TOKEN_TIME | Code::TOKEN_SIGNATURE | Code::TOKEN_BINDING | Code::TOKEN_REVOKED
    )
}

fn split(target: &str) -> Option<Target<'_>> {
    let end = target.find(['/', '?']).unwrap_or(target.len());
    let (service, rest) = target.split_at_checked(end)?;
    Name::new(service).ok()?;
    let path = if rest.starts_with('/') {
        rest.to_owned()
    } else {
        format!("/{rest}")
    };
    Some(Target { path, service })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        let of = |text| split(text).map(|it| (it.service, it.path));
        assert_eq!(
            of("hms-api/ai/summary"),
            Some(("hms-api", "/ai/summary".to_owned()))
        );
        assert_eq!(
            of("hms-api/v1?a=b/c"),
            Some(("hms-api", "/v1?a=b/c".to_owned()))
        );
        assert_eq!(of("hms-api?a=b"), Some(("hms-api", "/?a=b".to_owned())));
        assert_eq!(of("hms-api"), Some(("hms-api", "/".to_owned())));
        for bad in ["", "/v1", "https://hms-api/v1", "HMS/v1", "a b/c"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
