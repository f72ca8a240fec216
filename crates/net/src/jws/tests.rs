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
    let (Ok(header), Ok(_), Ok(_)) = (
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
            && key.signed(message, signature)
    })
}

#[test]
fn wycheproof_signatures() {
    let _ = provider::install_crypto();
    let (mut verified, mut refused, mut foreign) = (0, 0, 0);
    for group in vectors("wycheproof_json_web_signature.json")["testGroups"]
        .as_array()
        .unwrap()
    {
        let public = group.get("public").unwrap_or(&Value::Null);
        let set = serde_json::json!({ "keys": [public] });
        let keys = KeySet::from_jwks(set.to_string().as_bytes(), 1).unwrap();
        for test in group["tests"].as_array().unwrap() {
            let token = test["jws"].as_str().unwrap_or_default();
            let id = &test["tcId"];
            assert!(
                open(&KIND, &keys, token).is_err(),
                "{id}: not a token of ours"
            );
            let holds = signature_holds(&keys, token);
            match (keys.keys.is_empty(), test["result"] == "valid") {
                (true, _) => foreign += 1,
                (false, true) => {
                    assert!(holds, "{id}: {}", test["comment"]);
                    verified += 1;
                }
                (false, false) => {
                    assert!(!holds, "{id}: {}", test["comment"]);
                    refused += 1;
                }
            }
        }
    }
    // ES256 only; everything else is a key that we don't import.
    assert_eq!((verified, refused + foreign), (2, 399));
    assert!(refused >= 37, "{refused}");
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
