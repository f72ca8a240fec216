//! The public keys with which gateways sign their assertions.
//!
//! Each comes from a gateway that is trusted with its own traffic and with nobody else's, so none
//! is believed beyond that: a key is Ed25519, is named by its thumbprint, is of one gateway, and
//! what is kept is written anew from what was understood of it.

use super::Plane;
use super::unavailable;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use countersign_core::record::Record;
use countersign_core::record::Resource;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::SpiffeId;
use countersign_net::KeySet;
use countersign_wire::control::ControlError;
use serde_json::Value;
use serde_json::json;
use std::borrow::Cow;
use std::collections::BTreeMap;

impl Plane {
    /// Whether another gateway has the key already.
    pub(super) async fn is_taken(&self, gateway: &Name, jwk: &Value) -> Result<bool, ControlError> {
        let kept = self.store.gateway_keys().await.map_err(unavailable)?;
        Ok(kept.iter().any(|(owner, kept)| {
            let kept: Value = serde_json::from_str(kept).unwrap_or_default();
            owner != gateway.as_str() && kept.get("kid") == jwk.get("kid")
        }))
    }

    /// Puts the kept keys of all enforcement points in force. Those that are not usable are left
    /// out, so that one gateway's key never keeps the others' from use; their owners are returned.
    pub(crate) async fn load_assertion_keys(&self) -> Result<Vec<String>, ControlError> {
        let rows = self.store.gateway_keys().await.map_err(unavailable)?;
        let snapshot = self.point.snapshot();
        let mut keys = BTreeMap::new();
        let mut left_out = Vec::new();
        for (gateway, text) in rows {
            let owner = Name::new(&gateway).map(|name| {
                SpiffeId::of_process(&snapshot.config().trust_domain, "gateway", &name)
            });
            let jwk = serde_json::from_str(&text).ok();
            let key = owner
                .ok()
                .zip(jwk)
                .and_then(|(owner, jwk)| own(&jwk, &owner));
            match key.and_then(|jwk| Some((thumbprint(&jwk)?, jwk))) {
                Some((kid, jwk)) if !keys.contains_key(&kid) => {
                    keys.insert(kid, jwk);
                }
                _ => left_out.push(gateway),
            }
        }
        let document = json!({ "keys": keys.into_values().collect::<Vec<_>>() }).to_string();
        let set = KeySet::from_jwks(document.as_bytes(), 1).map_err(unavailable)?;
        self.issuer.assertion_keys(set);
        Ok(left_out)
    }

    /// The same when the server starts; what is left out is in the log.
    pub(crate) async fn open_assertion_keys(&self) -> Result<(), ControlError> {
        for gateway in self.load_assertion_keys().await? {
            tracing::error!(gateway, "the kept key of a gateway is not usable");
            let resource = Resource {
                id: Cow::Borrowed(gateway.as_str()),
                service: Cow::Borrowed("console"),
            };
            let event = "gateway.key.skip";
            let record = Record::event(event, self.point.now(), "start", resource);
            let recorded = self.point.record_event(&record).await;
            let _promise = recorded.map_err(unavailable)?;
        }
        Ok(())
    }
}

/// The key as we write it, if it is one that this gateway may sign with.
pub(super) fn own(jwk: &Value, owner: &SpiffeId) -> Option<Value> {
    let mut jwk = jwk.clone();
    jwk.as_object_mut()?
        .insert("spiffe_id".to_owned(), owner.as_str().into());
    let document = json!({ "keys": [&jwk] }).to_string();
    let mut read = KeySet::from_jwks(document.as_bytes(), 1).ok()?.to_jwks();
    let key = read.get_mut("keys")?.get_mut(0)?.take();
    let named = key.get("kid")?.as_str()? == thumbprint(&key)?;
    named.then_some(key)
}

/// The thumbprint of an Ed25519 key (RFC 7638 section 3, RFC 8037 section 2); none of any other.
fn thumbprint(jwk: &Value) -> Option<String> {
    let member = |name: &str| jwk.get(name).and_then(Value::as_str);
    let ("OKP", "Ed25519") = (member("kty")?, member("crv")?) else {
        return None;
    };
    let text = json!({ "crv": "Ed25519", "kty": "OKP", "x": member("x")? }).to_string();
    Some(BASE64.encode(countersign_ledger::tree::sha256(text.as_bytes())))
}
