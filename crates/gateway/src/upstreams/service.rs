//! `peer: service`: one of our own workloads.
//!
//! It is dialled by mTLS and must show the SPIFFE ID of its identity; a loopback `http://` upstream
//! is for an application beside us. It gets the caller's token, which is bound to the caller's
//! certificate and good for this service alone, and our assertion that this very request was
//! decided. It never gets the caller's identity as bare headers, which anyone could write.

use super::Call;
use super::Dressed;
use crate::browser::cookies;
use crate::refuse::Failure;
use crate::request::TRACEPARENT;
use crate::request::X_REQUEST_ID;
use crate::request::headers;
use crate::request::hex;
use countersign_core::snapshot::DoorKind;
use countersign_net::assertion;
use countersign_net::assertion::Assertion;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::header;

const ASSERTION: HeaderName = HeaderName::from_static(assertion::HEADER);
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The headers of the request as this upstream gets it.
pub(super) fn dress(call: &mut Call<'_>) -> Result<Dressed, Failure> {
    let mut fields = std::mem::take(&mut call.parts.headers);
    headers::from_caller(&mut fields);
    fields.remove(header::AUTHORIZATION);
    if call.connected.kind == DoorKind::Browser {
        cookies::remove_ours(&mut fields);
    }
    if let Some(token) = forwardable(call) {
        fields.insert(header::AUTHORIZATION, token);
    }
    let assertion = sign(call).ok_or(Failure::Upstream)?;
    let (host, port) = match &call.host {
        Some(host) => (host.authority.as_str(), host.port.unwrap_or(443)),
        None => ("", 443),
    };
    let value = |text: &str| HeaderValue::from_str(text).map_err(|_| Failure::Upstream);
    for (name, text) in [
        (ASSERTION, assertion.as_str()),
        (X_REQUEST_ID, &call.ids.request),
        (TRACEPARENT, &call.ids.traceparent),
    ] {
        let mut value = value(text)?;
        // No two requests have the same: in the table of HTTP/2's header compression it would only
        // take the place of what comes again (RFC 7541 section 7.1.3).
        value.set_sensitive(true);
        fields.insert(name, value);
    }
    fields.insert(FORWARDED_FOR, value(&call.connected.source_text)?);
    fields.insert(FORWARDED_HOST, value(host)?);
    fields.insert(FORWARDED_PROTO, HeaderValue::from_static("https"));
    fields.insert(FORWARDED_PORT, HeaderValue::from(port));
    if !call.ids.continued {
        fields.remove(TRACESTATE);
    }
    Ok(Dressed { fields, leak: None })
}

/// What this upstream may not tell the caller.
pub(super) fn undress(fields: &mut HeaderMap) {
    cookies::drop_reserved(fields);
}

/// The caller's token, if this service is whom it is meant for.
fn forwardable(call: &Call<'_>) -> Option<HeaderValue> {
    let admission = call.admitted.admission();
    let token = admission.hop().evidence.verified_token()?;
    let domain = &admission.snapshot().config().trust_domain;
    let meant = domain.service_of(&token.claims.aud) == Some(admission.hop().service.as_str());
    call.token.clone().filter(|_| meant)
}

fn sign(call: &Call<'_>) -> Option<String> {
    let admission = call.admitted.admission();
    let hop = admission.hop();
    let claims = hop.evidence.verified_token().map(|token| &token.claims);
    let now = call.plane.point.now().as_secs();
    let assertion = Assertion {
        act: claims.map(|claims| claims.act.clone()).unwrap_or_default(),
        aud: admission
            .snapshot()
            .config()
            .trust_domain
            .audience(&hop.service),
        exp: now + assertion::MAX_LIFETIME,
        iat: now,
        iss: call.plane.svid.current().spiffe_id().clone(),
        jti: hex(call.ids.assertion),
        method: hop.operation.verb.clone(),
        path: hop.operation.object.clone(),
        receipt: admission.receipt().to_string(),
        sub: claims.map_or_else(
            || admission.subject().to_string(),
            |claims| claims.sub.clone(),
        ),
    };
    let signed = assertion::sign(&call.upstreams.assertions, &assertion);
    signed
        .inspect_err(|error| tracing::error!(%error, "can't sign an assertion"))
        .ok()
}
