use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use countersign_core::hop::Binding;
use countersign_core::hop::Claims;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Permission;
use countersign_core::vocabulary::SpiffeId;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;

/// The claims as they travel: names and shapes of RFC 7519, 8693, 8705 and 9068, with `ceil`
/// beside `scope`.
///
/// Every field has one type; a value of another (`exp` as a string, `aud` as a list) is refused,
/// because taking it for absent has cost others their expiry check (CVE-2026-25537).
#[derive(Serialize, Deserialize)]
struct Wire {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    act: Option<Actor>,
    aud: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ceil: Option<String>,
    client_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cnf: Option<Confirmation>,
    exp: i64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    groups: Vec<String>,
    iat: i64,
    iss: String,
    jti: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    roles: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sid: Option<Digest>,
    sub: String,
}

/// `act` of RFC 8693 section 4.1, the nearest actor outermost.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Actor {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    act: Option<Box<Actor>>,
    sub: SpiffeId,
}

/// `cnf` of RFC 7800. A confirmation that we can't check must not count as none.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Confirmation {
    #[serde(rename = "x5t#S256")]
    certificate: String,
}

/// The longest chain of actors.
const MAX_ACTORS: usize = 8;

/// The payload of an access token with these claims.
#[must_use]
pub fn claims_to_wire(claims: &Claims) -> Value {
    let act = claims.act.iter().rev().fold(None, |inner, sub| {
        Some(Actor {
            act: inner.map(Box::new),
            sub: sub.clone(),
        })
    });
    let cnf = match claims.cnf {
        Binding::Certificate(leaf) => Some(Confirmation {
            certificate: BASE64.encode(leaf.as_bytes()),
        }),
        Binding::None => None,
    };
    let wire = Wire {
        act,
        aud: claims.aud.clone(),
        ceil: joined(&claims.ceil),
        client_id: claims.client_id.clone(),
        cnf,
        exp: claims.exp,
        groups: claims.groups.clone(),
        iat: claims.iat,
        iss: claims.iss.clone(),
        jti: claims.jti.clone(),
        nbf: claims.nbf,
        roles: claims.roles.clone(),
        scope: joined(&claims.scope),
        sid: claims.sid,
        sub: claims.sub.clone(),
    };
    // Strings, integers and lists of them: this can't fail.
    serde_json::to_value(wire).unwrap_or_default()
}

/// Reads the payload of an access token; none if a claim is missing, of the wrong type, or not in
/// a form that the issuer writes. A member it does not know is ignored (RFC 7519 section 4).
#[must_use]
pub fn claims_from_wire(payload: Value) -> Option<Claims> {
    explicit_nulls_are_refused(&payload)?;
    let wire: Wire = serde_json::from_value(payload).ok()?;
    let mut act = Vec::new();
    let mut actor = wire.act;
    while let Some(Actor { act: next, sub }) = actor {
        if act.len() == MAX_ACTORS {
            return None;
        }
        act.push(sub);
        actor = next.map(|next| *next);
    }
    let cnf = match wire.cnf {
        Some(confirmation) => {
            let bytes = BASE64.decode(confirmation.certificate).ok()?;
            Binding::Certificate(Digest::new(bytes.try_into().ok()?))
        }
        None => Binding::None,
    };
    Some(Claims {
        act,
        aud: wire.aud,
        ceil: split(wire.ceil)?,
        client_id: wire.client_id,
        cnf,
        exp: wire.exp,
        groups: wire.groups,
        iat: wire.iat,
        iss: wire.iss,
        jti: wire.jti,
        nbf: wire.nbf,
        roles: wire.roles,
        scope: split(wire.scope)?,
        sid: wire.sid,
        sub: wire.sub,
    })
}

/// `"nbf": null` is a value of the wrong type, not an absent claim.
fn explicit_nulls_are_refused(payload: &Value) -> Option<()> {
    payload
        .as_object()?
        .values()
        .all(|value| !value.is_null())
        .then_some(())
}

fn joined(permissions: &[Permission]) -> Option<String> {
    let words: Vec<&str> = permissions.iter().map(Permission::as_str).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

fn split(words: Option<String>) -> Option<Vec<Permission>> {
    let Some(words) = words else {
        return Some(Vec::new());
    };
    words
        .split(' ')
        .map(|word| Permission::new(word).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn claims() -> Claims {
        let id = |name: &str| SpiffeId::parse(&format!("spiffe://acme.internal/{name}")).unwrap();
        Claims {
            act: vec![id("hms-api"), id("frontend"), id("countersign/door/web")],
            aud: "https://acme.internal/svc/vault".to_owned(),
            ceil: vec![],
            client_id: "spiffe://acme.internal/hms-api".to_owned(),
            cnf: Binding::Certificate(Digest::new([7; 32])),
            exp: 1_795_318_444,
            groups: vec!["corp/analysts".to_owned()],
            iat: 1_795_318_384,
            iss: "https://acme.internal".to_owned(),
            jti: "j1".to_owned(),
            nbf: None,
            roles: vec!["analyst".to_owned()],
            scope: vec![
                Permission::new("ai:key:read").unwrap(),
                Permission::new("a:b").unwrap(),
            ],
            sid: Some(Digest::new([9; 32])),
            sub: "corp:ana".to_owned(),
        }
    }

    #[test]
    fn the_shapes_on_the_wire() {
        let wire = claims_to_wire(&claims());
        assert_eq!(wire["scope"], "ai:key:read a:b");
        assert_eq!(wire["act"]["sub"], "spiffe://acme.internal/hms-api");
        assert_eq!(
            wire["act"]["act"]["act"]["sub"],
            "spiffe://acme.internal/countersign/door/web"
        );
        assert_eq!(
            wire["cnf"]["x5t#S256"],
            "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc"
        );
        assert!(wire.get("ceil").is_none() && wire.get("nbf").is_none());
        assert_eq!(claims_from_wire(wire), Some(claims()));
    }

    #[test]
    fn a_claim_has_one_type() {
        let wrong = [
            ("exp", json!("1795318444")),
            ("exp", json!(1_795_318_444.5)),
            ("exp", json!(18_446_744_073_709_551_615_u64)),
            ("exp", Value::Null),
            ("nbf", Value::Null),
            ("nbf", json!("1")),
            ("iat", json!([1])),
            ("aud", json!(["https://acme.internal/svc/vault"])),
            ("sub", json!(7)),
            ("scope", json!(["a:b"])),
            ("scope", json!("")),
            ("scope", json!("a:b  c:d")),
            ("scope", json!("a:b *")),
            ("cnf", json!({})),
            ("cnf", json!({"jkt": "AA"})),
            ("cnf", json!({"x5t#S256": "AA"})),
            (
                "cnf",
                json!({"x5t#S256": "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="}),
            ),
            (
                "cnf",
                json!({"x5t#S256": "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc", "jkt": "AA"}),
            ),
            ("act", json!({"sub": "not a spiffe id"})),
            ("act", json!("spiffe://acme.internal/hms-api")),
            ("act", json!({"sub": "spiffe://acme.internal/a", "more": 1})),
            ("roles", json!("analyst")),
            ("sid", json!("zz")),
        ];
        for (name, value) in wrong {
            let mut wire = claims_to_wire(&claims());
            wire[name] = value.clone();
            assert_eq!(claims_from_wire(wire), None, "{name}: {value}");
        }
        for required in ["aud", "client_id", "exp", "iat", "iss", "jti", "sub"] {
            let mut wire = claims_to_wire(&claims());
            wire.as_object_mut().unwrap().remove(required);
            assert_eq!(claims_from_wire(wire), None, "without {required}");
        }
    }

    #[test]
    fn eight_actors_and_no_more() {
        let of = |count: usize| {
            let mut claims = claims();
            claims.act = vec![SpiffeId::parse("spiffe://acme.internal/a").unwrap(); count];
            claims_from_wire(claims_to_wire(&claims))
        };
        assert_eq!(of(8).unwrap().act.len(), 8);
        assert_eq!(of(9), None);
    }

    proptest! {
        #[test]
        fn reads_back(exp: i64, nbf: Option<i64>, sub in ".{0,20}", bound: Option<[u8; 32]>) {
            let cnf = bound.map_or(Binding::None, |leaf| Binding::Certificate(Digest::new(leaf)));
            let claims = Claims { exp, nbf, sub, cnf, ..claims() };
            prop_assert_eq!(claims_from_wire(claims_to_wire(&claims)), Some(claims));
        }
    }
}
