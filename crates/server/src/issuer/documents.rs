//! What the issuer says of itself in public (RFC 8414, OpenID Connect Discovery 1.0, RFC 7517,
//! SPIFFE Trust Domain and Bundle).

use super::Issuer;
use super::request::ACCESS_TOKEN;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value;
use serde_json::json;

impl Issuer {
    /// The public document at a path.
    pub(super) fn document(&self, path: &str) -> Option<Value> {
        match path {
            "/oauth2/jwks" => Some(self.token_keys.jwks()),
            "/.well-known/openid-configuration" | "/.well-known/oauth-authorization-server" => {
                Some(self.metadata())
            }
            "/.well-known/spiffe-bundle" => Some(self.bundle()),
            // Apart from the token keys: a verifier of tokens must never take a gateway's key.
            "/.well-known/countersign-assertion-keys" => Some(self.assertions.read().to_jwks()),
            _ => None,
        }
    }

    fn metadata(&self) -> Value {
        let issuer = self.point.snapshot().config().trust_domain.issuer();
        let control = format!("https://{}", self.place.read().control);
        let endpoint = |base: &str, name: &str| format!("{base}/oauth2/{name}");
        json!({
            "grant_types_supported": [
                "client_credentials",
                "urn:ietf:params:oauth:grant-type:token-exchange",
            ],
            "introspection_endpoint": endpoint(&issuer, "introspect"),
            "issuer": issuer,
            "jwks_uri": endpoint(&issuer, "jwks"),
            "mtls_endpoint_aliases": {
                "introspection_endpoint": endpoint(&control, "introspect"),
                "revocation_endpoint": endpoint(&control, "revoke"),
                "token_endpoint": endpoint(&control, "token"),
            },
            "response_types_supported": [],
            "revocation_endpoint": endpoint(&issuer, "revoke"),
            "subject_types_supported": ["public"],
            "tls_client_certificate_bound_access_tokens": true,
            "token_endpoint": endpoint(&issuer, "token"),
            "token_endpoint_auth_methods_supported": ["tls_client_auth"],
            "token_types_supported": [ACCESS_TOKEN],
        })
    }

    /// The roots alone: JWT-SVIDs are signed by a key of their own, and there is none yet.
    fn bundle(&self) -> Value {
        let roots = CertificateDer::pem_slice_iter(self.roots.as_bytes()).flatten();
        let keys: Vec<Value> = roots.filter_map(|root| root_key(&root)).collect();
        json!({ "keys": keys, "spiffe_refresh_hint": 300, "spiffe_sequence": 1 })
    }
}

/// A root as a key of the bundle (SPIFFE X509-SVID section 6): exactly one certificate, no `kid`.
fn root_key(root: &CertificateDer<'_>) -> Option<Value> {
    let (_, parsed) = x509_parser::parse_x509_certificate(root).ok()?;
    let point = &parsed.public_key().subject_public_key.data;
    // An uncompressed P-256 point, which is all that our CA makes.
    let (x, y) = point.strip_prefix(&[4])?.split_at_checked(32)?;
    let base64url = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    Some(json!({
        "crv": "P-256",
        "kty": "EC",
        "use": "x509-svid",
        "x": base64url(x),
        "x5c": [STANDARD.encode(root)],
        "y": base64url(y),
    }))
}
