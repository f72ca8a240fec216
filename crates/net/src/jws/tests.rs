use super::*;
use proptest::prelude::*;

const KIND: Kind = Kind {
    algorithm: KeyAlgorithm::Es256,
    typ: "t",
    typ_in_full: "a/t",
};

#[test]
fn a_set_reads_back_as_written() {
    let owner = SpiffeId::parse("spiffe://acme.internal/countersign/gateway/gw").unwrap();
    let (es, ed) = (
        SigningKey::generate(KeyAlgorithm::Es256).unwrap(),
        SigningKey::generate(KeyAlgorithm::EdDsa).unwrap(),
    );
    let mut set = KeySet::empty(3);
    set.add(&es);
    set.add_owned(&ed, owner.clone());
    let text = set.to_jwks().to_string();
    let back = KeySet::from_jwks(text.as_bytes(), 3).unwrap();
    assert_eq!(back.to_jwks(), set.to_jwks());
    assert_eq!(back.keys[ed.kid()].owner, Some(owner));
    let token = sign(&KIND, &es, &serde_json::json!({"a": 1})).unwrap();
    assert_eq!(open(&KIND, &back, &token).unwrap().payload["a"], 1);
    let again = SigningKey::from_pkcs8(KeyAlgorithm::Es256, es.pkcs8()).unwrap();
    assert_eq!(again.kid(), es.kid());
    assert_eq!(
        sign(&KIND, &ed, &1).unwrap_err(),
        JwsError::Key,
        "a key of another kind"
    );
}

#[test]
fn the_thumbprint_is_that_of_the_standard() {
    // RFC 8037 appendix A.3.
    let x = BASE64
        .decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
        .unwrap();
    let expect = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";
    assert_eq!(thumbprint(KeyAlgorithm::EdDsa, &x).as_deref(), Some(expect));
}

#[test]
fn refuses_sets_that_would_need_guessing() {
    let set = |keys: &str| {
        KeySet::from_jwks(format!(r#"{{"keys":[{keys}]}}"#).as_bytes(), 1).map(|s| s.keys.len())
    };
    let good = r#"{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    assert_eq!(set(good), Ok(1));
    assert_eq!(
        set(&format!("{good},{good}")),
        Err(KeySetError::Duplicate("a".to_owned()))
    );
    let private = good.replace("\"kid\"", "\"d\":\"AA\",\"kid\"");
    assert_eq!(set(&private), Err(KeySetError::Private("a".to_owned())));
    assert_eq!(
        set(&good.replace("11qY", "11q")),
        Err(KeySetError::Key("a".to_owned()))
    );
    let unnamed = good.replace(r#""kid":"a","#, "");
    assert_eq!(set(&unnamed), Err(KeySetError::Unnamed));
    let private = unnamed.replace("\"crv\"", "\"d\":\"AA\",\"crv\"");
    assert_eq!(set(&private), Err(KeySetError::Private(String::new())));
    let off_curve = format!(
        r#"{{"kty":"EC","crv":"P-256","kid":"a","x":"{0}","y":"{0}"}}"#,
        BASE64.encode([7; 32])
    );
    assert_eq!(set(&off_curve), Err(KeySetError::Key("a".to_owned())));
    assert_eq!(
        set(r#"{"kty":"RSA","kid":"r","n":"AQ","e":"AQAB"}"#),
        Ok(0),
        "not of ours"
    );
    assert_eq!(
        set(r#"{"kty":"oct","kid":"r","k":"AQ"}"#),
        Ok(0),
        "a symmetric key"
    );
    assert_eq!(KeySet::from_jwks(b"{}", 1).unwrap_err(), KeySetError::Form);
    assert_eq!(
        KeySet::from_jwks(br#"{"keys":[],"keys":[]}"#, 1).unwrap_err(),
        KeySetError::Form
    );
}

proptest! {
    #[test]
    fn never_panics(bytes: Vec<u8>, text in r#"[A-Za-z0-9_.=-]{0,60}"#) {
        let _ = KeySet::from_jwks(&bytes, 1);
        prop_assert!(open(&KIND, &KeySet::empty(1), &text).is_err());
        let jwk = format!(r#"{{"keys":[{{"kty":"EC","crv":"P-256","kid":"a","x":"{text}","y":"{text}"}}]}}"#);
        let _ = KeySet::from_jwks(jwk.as_bytes(), 1);
    }
}

fn vectors(file: &str) -> Value {
    let path = format!(
        "{}/../../conformance/jose/data/{file}",
        env!("CARGO_MANIFEST_DIR")
    );
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The layer below our header rules: three strict parts, the key's own algorithm, the signature.
fn signature_holds(keys: &KeySet, token: &str) -> bool {
    let Some((message, signature)) = token.rsplit_once('.') else {
        return false;
    };
    let Some((header, payload)) = message.split_once('.') else {
        return false;
    };
    let (Ok(header), Ok(_), Ok(signature)) = (
        BASE64.decode(header),
        BASE64.decode(payload),
        BASE64.decode(signature),
    ) else {
        return false;
    };
    let Ok(header) = json::strict(&header) else {
        return false;
    };
    keys.keys.iter().any(|(kid, key)| {
        header["alg"] == key.algorithm.name()
            && header.get("kid").is_none_or(|named| named == kid.as_str())
            && key.signed(message, &signature)
    })
}

/// What became of the cases of one file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    /// Signatures by a key that we would use, which hold.
    verified: usize,
    /// Such signatures, which don't.
    refused: usize,
    /// Tokens for keys that we don't even import.
    foreign: usize,
    /// Sets that are refused whole: a doubled id, a point off its curve.
    sets: usize,
}

/// The public part of a group's key or keys.
fn public_keys(group: &Value) -> Value {
    let keys = group
        .get("public")
        .or_else(|| group.get("private"))
        .unwrap();
    let mut keys = match keys.get("keys") {
        Some(several) => several.as_array().unwrap().clone(),
        None => vec![keys.clone()],
    };
    for key in &mut keys {
        key.as_object_mut().unwrap().remove("d");
    }
    serde_json::json!({ "keys": keys })
}

fn tally(file: &str) -> Tally {
    let _ = provider::install_crypto();
    let mut tally = Tally::default();
    for group in vectors(file)["testGroups"].as_array().unwrap() {
        let set = public_keys(group).to_string();
        let keys = KeySet::from_jwks(set.as_bytes(), 1).unwrap_or_else(|_| {
            tally.sets += 1;
            KeySet::empty(1)
        });
        for test in group["tests"].as_array().unwrap() {
            let token = test["jws"].as_str().or_else(|| test["jwe"].as_str());
            let token = token.unwrap_or_default();
            let id = format!("{file} {}: {}", test["tcId"], test["comment"]);
            assert!(open(&KIND, &keys, token).is_err(), "{id}: no token of ours");
            let holds = signature_holds(&keys, token);
            match (keys.keys.is_empty(), test["result"] == "valid") {
                (true, _) => tally.foreign += 1,
                (false, true) if holds => tally.verified += 1,
                (false, false) if !holds => tally.refused += 1,
                _ => panic!("{id}: {holds}"),
            }
        }
    }
    tally
}

#[test]
fn wycheproof() {
    // ES256 only; everything else is a key that we don't import.
    let expected = [
        ("signature", 2, 37, 362, 0),
        ("key", 0, 1, 25, 1),
        ("crypto", 1, 15, 67, 0),
        ("encryption", 0, 0, 139, 0),
    ];
    for (suite, verified, refused, foreign, sets) in expected {
        let found = tally(&format!("wycheproof_json_web_{suite}.json"));
        let expected = Tally {
            verified,
            refused,
            foreign,
            sets,
        };
        assert_eq!(found, expected, "{suite}");
    }
}

fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::Object(members) => members.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn rfc_7520_uses_nothing_of_ours() {
    let folder = format!(
        "{}/../../conformance/jose/data/rfc7520",
        env!("CARGO_MANIFEST_DIR")
    );
    let (mut keys, mut tokens) = (0, 0);
    for kind in ["jwk", "jws", "jwe", "."] {
        for entry in std::fs::read_dir(format!("{folder}/{kind}")).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                continue;
            }
            let vector: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            if kind == "jwk" {
                // P-521, RSA and symmetric: left out, or refused because it is a private key.
                let set = serde_json::json!({ "keys": [vector] }).to_string();
                match KeySet::from_jwks(set.as_bytes(), 1) {
                    Ok(set) => assert!(set.keys.is_empty(), "{}", path.display()),
                    Err(error) => assert!(matches!(error, KeySetError::Private(_)), "{error}"),
                }
                keys += 1;
            }
            // Compact, flattened and general, signed and encrypted: none is a token here, whatever
            // keys we have.
            let mut set = KeySet::empty(1);
            set.add(&SigningKey::generate(KeyAlgorithm::Es256).unwrap());
            for text in texts(&vector) {
                assert!(open(&KIND, &set, text).is_err(), "{}", path.display());
                tokens += usize::from(text.starts_with("eyJ") && text.contains('.'));
            }
        }
    }
    assert_eq!(keys, 6);
    assert!(tokens >= 15, "{tokens} compact tokens");
}

#[test]
fn the_example_of_rfc_8037() {
    let _ = provider::install_crypto();
    let vector = vectors("rfc8037_ed25519.json");
    let mut jwk = vector["input"]["key"].clone();
    jwk["kid"] = "k".into();
    let set = |jwk: &Value| serde_json::json!({ "keys": [jwk] }).to_string();
    let private = KeySet::from_jwks(set(&jwk).as_bytes(), 1);
    assert_eq!(private.unwrap_err(), KeySetError::Private("k".to_owned()));
    jwk.as_object_mut().unwrap().remove("d");
    let keys = KeySet::from_jwks(set(&jwk).as_bytes(), 1).unwrap();
    let token = vector["output"]["compact"].as_str().unwrap();
    assert!(signature_holds(&keys, token));
    assert!(!signature_holds(&keys, &token.replacen("RXhh", "RXhi", 1)));
}
