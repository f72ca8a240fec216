//! Every way in which a token can be wrong. Most are forged with the issuer's own key, so that
//! only the one thing under test is wrong.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use crate::tokens::Signature;
use crate::tokens::forge;
use countersign_core::hop::Binding;
use countersign_core::hop::Claims;
use countersign_core::hop::Token;
use countersign_core::hop::TokenFault;
use countersign_core::hop::VerifiedToken;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Permission;
use countersign_core::vocabulary::SpiffeId;
use countersign_core::vocabulary::Timestamp;
use countersign_net::KeyAlgorithm;
use countersign_net::KeySet;
use countersign_net::Keys;
use countersign_net::SigningKey;
use countersign_net::TokenVerifier;
use countersign_net::token::Presenter;
use countersign_net::token::UNKNOWN_BURST;
use countersign_net::token::UNKNOWN_PER_SECOND;
use countersign_net::token::claims_to_wire;
use countersign_net::token::sign_access_token;
use serde_json::Value;
use std::sync::Arc;

/// Whose tokens are all looked at.
const US: Presenter = Presenter::Ourselves;
const NOW: Timestamp = Timestamp::from_secs(1_795_318_384);

struct Issuer {
    key: SigningKey,
    keys: Arc<Keys>,
    verifier: TokenVerifier,
}

impl Issuer {
    fn new() -> Self {
        countersign_net::install_crypto().unwrap();
        let key = SigningKey::generate(KeyAlgorithm::Es256).unwrap();
        let mut set = KeySet::empty(1);
        set.add(&key);
        let keys = Keys::new(set);
        let verifier = TokenVerifier::new(keys.clone(), "https://acme.internal".to_owned(), 1000);
        Self {
            key,
            keys,
            verifier,
        }
    }

    fn verify(&self, authorization: &str) -> Token {
        self.verifier.verify([authorization.as_bytes()], US, NOW)
    }

    fn fault(&self, token: &str) -> TokenFault {
        match self.verify(&format!("Bearer {token}")) {
            Token::Invalid { fault, .. } => fault,
            other => panic!("{other:?} for {token}"),
        }
    }

    fn verified(&self, token: &str) -> Arc<VerifiedToken> {
        match self.verify(&format!("Bearer {token}")) {
            Token::Verified(token) => token,
            other => panic!("{other:?}"),
        }
    }

    fn header(&self, more: &str) -> String {
        format!(
            r#"{{"alg":"ES256","typ":"at+jwt","kid":"{}"{more}}}"#,
            self.key.kid()
        )
    }

    /// A token with a good signature of the issuer over whatever header and payload.
    fn forged(&self, header: &str, payload: &str) -> String {
        forge(header, payload, Signature::Es256(self.key.pkcs8()))
    }

    /// The good payload with one member replaced by a JSON text.
    fn altered(&self, name: &str, value: &str) -> String {
        let mut payload = claims_to_wire(&claims());
        payload[name] = serde_json::from_str(value).unwrap();
        self.forged(&self.header(""), &payload.to_string())
    }
}

fn claims() -> Claims {
    Claims {
        act: vec![SpiffeId::parse("spiffe://acme.internal/countersign/door/web").unwrap()],
        aud: "https://acme.internal/svc/hms-api".to_owned(),
        ceil: vec![Permission::new("ai:key:read").unwrap()],
        client_id: "spiffe://acme.internal/countersign/gateway/gw".to_owned(),
        cnf: Binding::Certificate(Digest::new([7; 32])),
        exp: NOW.as_secs() + 60,
        groups: vec![],
        iat: NOW.as_secs(),
        iss: "https://acme.internal".to_owned(),
        jti: "j-1".to_owned(),
        nbf: Some(NOW.as_secs()),
        roles: vec![],
        scope: vec![Permission::new("report:read").unwrap()],
        sid: None,
        sub: "corp:ana".to_owned(),
    }
}

fn payload() -> String {
    claims_to_wire(&claims()).to_string()
}

#[test]
fn a_good_token_is_stated_in_full_and_remembered() {
    let issuer = Issuer::new();
    let token = sign_access_token(&issuer.key, &claims()).unwrap();
    let verified = issuer.verified(&token);
    assert_eq!(verified.claims, claims());
    assert_eq!(verified.kid, issuer.key.kid());
    assert!(
        Arc::ptr_eq(&verified, &issuer.verified(&token)),
        "the second time from the cache"
    );
    assert_eq!(
        issuer.verifier.verify(std::iter::empty(), US, NOW),
        Token::Absent
    );
    let in_full = issuer.header("").replace("at+jwt", "application/AT+JWT");
    issuer.verified(&issuer.forged(&in_full, &payload()));
    for scheme in ["bearer", "BEARER", "Bearer "] {
        assert!(matches!(
            issuer.verify(&format!("{scheme} {token}")),
            Token::Verified(_)
        ));
    }
}

#[test]
fn times_audience_and_binding_are_evidence_not_verdicts() {
    let issuer = Issuer::new();
    for (name, value) in [
        ("exp", "1"),
        ("exp", "-1"),
        ("nbf", "99999999999"),
        ("aud", "\"https://acme.internal/svc/other\""),
        ("aud", "\"\""),
    ] {
        let verified = issuer.verified(&issuer.altered(name, value));
        assert_ne!(verified.claims, claims(), "{name} {value}");
    }
    let mut unbound = claims_to_wire(&claims());
    unbound.as_object_mut().unwrap().remove("cnf");
    let verified = issuer.verified(&issuer.forged(&issuer.header(""), &unbound.to_string()));
    assert_eq!(verified.claims.cnf, Binding::None);
}

#[test]
fn what_is_no_token() {
    let issuer = Issuer::new();
    let good = sign_access_token(&issuer.key, &claims()).unwrap();
    for value in [
        "Basic YW5hOnNlY3JldA==",
        "Bearer sk-proj-abcdefghijklmnop",
        "Bearer SG.abcdefghijkl.mnopqrstuvwxyz",
        "Bearer hvs.CAESIJ",
        "Bearer garbage",
        "sk-proj-abc",
        good.as_str(),
        "Token abc",
        "",
    ] {
        let token = issuer.verify(value);
        assert!(
            matches!(
                token,
                Token::Invalid {
                    fault: TokenFault::Static,
                    ..
                }
            ),
            "{value}: {token:?}"
        );
    }
    for value in [
        "Bearer ",
        "Bearer   ",
        "DPoP eyJhbGciOiJFUzI1NiJ9.e30.AA",
        "Bearer \u{e9}.a.b",
    ] {
        let token = issuer.verify(value);
        let fault = match token {
            Token::Invalid { fault, .. } => fault,
            other => panic!("{other:?}"),
        };
        assert!(
            matches!(fault, TokenFault::Malformed | TokenFault::Static),
            "{value}"
        );
    }
}

#[test]
fn what_is_no_one_header() {
    let issuer = Issuer::new();
    let good = sign_access_token(&issuer.key, &claims()).unwrap();
    let not_text = issuer
        .verifier
        .verify([b"Bearer \xff\xfe".as_slice()], US, NOW);
    assert!(matches!(
        not_text,
        Token::Invalid {
            fault: TokenFault::Malformed,
            ..
        }
    ));
    let bearer = format!("Bearer {good}");
    let twice = issuer
        .verifier
        .verify([bearer.as_bytes(), bearer.as_bytes()], US, NOW);
    assert!(matches!(
        twice,
        Token::Invalid {
            fault: TokenFault::Malformed,
            ..
        }
    ));
}

#[test]
fn headers_that_say_how_to_verify() {
    let issuer = Issuer::new();
    for more in [
        r#","jku":"https://evil.example/jwks""#,
        r#","jwk":{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#,
        r#","x5u":"https://evil.example/x""#,
        r#","x5c":["AA"]"#,
        r#","x5t":"AA""#,
        r#","crit":["exp"],"exp":1"#,
        r#","crit":[]"#,
        r#","b64":false"#,
        r#","zip":"DEF""#,
        r#","cty":"JWT""#,
        r#","alg":"ES256""#,
        r#","kid":"x""#,
        r#","typ":"at+jwt""#,
    ] {
        let token = issuer.forged(&issuer.header(more), &payload());
        assert_eq!(issuer.fault(&token), TokenFault::Malformed, "{more}");
    }
}

#[test]
fn headers_of_other_tokens_and_keys() {
    let issuer = Issuer::new();
    let kid = issuer.key.kid();
    for (header, fault) in [
        (
            format!(r#"{{"alg":"ES256","kid":"{kid}"}}"#),
            TokenFault::Malformed,
        ),
        (
            r#"{"alg":"ES256","typ":"at+jwt"}"#.to_owned(),
            TokenFault::Malformed,
        ),
        (
            format!(r#"{{"alg":"ES384","typ":"at+jwt","kid":"{kid}"}}"#),
            TokenFault::Malformed,
        ),
        (
            format!(r#"{{"alg":"es256","typ":"at+jwt","kid":"{kid}"}}"#),
            TokenFault::Malformed,
        ),
        (
            format!(r#"{{"alg":["ES256"],"typ":"at+jwt","kid":"{kid}"}}"#),
            TokenFault::Malformed,
        ),
        (
            format!(r#"{{"alg":"ES256","typ":"JWT","kid":"{kid}"}}"#),
            TokenFault::Foreign,
        ),
        (
            format!(r#"{{"alg":"ES256","typ":"cs-assertion+jwt","kid":"{kid}"}}"#),
            TokenFault::Foreign,
        ),
        (
            r#"{"alg":"ES256","typ":"at+jwt","kid":"unknown"}"#.to_owned(),
            TokenFault::Signature,
        ),
        (
            r#"{"alg":"ES256","typ":"at+jwt","kid":"../../dev/null"}"#.to_owned(),
            TokenFault::Signature,
        ),
    ] {
        assert_eq!(
            issuer.fault(&issuer.forged(&header, &payload())),
            fault,
            "{header}"
        );
    }
}

#[test]
fn algorithms_are_not_the_tokens_choice() {
    let issuer = Issuer::new();
    let kid = issuer.key.kid();
    let jwks = issuer.keys.current().to_jwks().to_string();
    for alg in ["none", "None", "NONE", ""] {
        let header = format!(r#"{{"alg":"{alg}","typ":"at+jwt","kid":"{kid}"}}"#);
        for signature in [Signature::Empty, Signature::Bytes(b"x")] {
            let token = forge(&header, &payload(), signature);
            assert_eq!(issuer.fault(&token), TokenFault::Malformed, "{alg}");
        }
    }
    for alg in ["HS256", "RS256", "PS256", "EdDSA"] {
        let header = format!(r#"{{"alg":"{alg}","typ":"at+jwt","kid":"{kid}"}}"#);
        let token = forge(&header, &payload(), Signature::Hs256(jwks.as_bytes()));
        assert_eq!(issuer.fault(&token), TokenFault::Malformed, "{alg}");
    }
    // Signed with a secret that everybody knows, under the right name.
    let token = forge(
        &issuer.header(""),
        &payload(),
        Signature::Hs256(jwks.as_bytes()),
    );
    assert_eq!(issuer.fault(&token), TokenFault::Signature);
    for signature in [
        Signature::Empty,
        Signature::Bytes(&[0; 64]),
        Signature::Bytes(&[0xff; 64]),
    ] {
        let token = forge(&issuer.header(""), &payload(), signature);
        assert_eq!(issuer.fault(&token), TokenFault::Signature);
    }
    let other = SigningKey::generate(KeyAlgorithm::Es256).unwrap();
    let token = forge(
        &issuer.header(""),
        &payload(),
        Signature::Es256(other.pkcs8()),
    );
    assert_eq!(issuer.fault(&token), TokenFault::Signature);
}

#[test]
fn altered_bytes() {
    let issuer = Issuer::new();
    let good = sign_access_token(&issuer.key, &claims()).unwrap();
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (header, body) = message.split_once('.').unwrap();
    for token in [
        format!("{good}="),
        format!("{good}."),
        format!("{good}\n"),
        format!("{message}."),
        message.to_owned(),
        format!("{header}..{signature}"),
        format!("{header}.{body}.{signature}.{signature}"),
        format!("{header}=.{body}.{signature}"),
        format!("{header} .{body}.{signature}"),
        format!("{header}.{}.{signature}", body.replace(['A', 'b'], "+")),
    ] {
        let fault = issuer.fault(&token);
        assert!(
            matches!(fault, TokenFault::Malformed | TokenFault::Signature),
            "{token}: {fault:?}"
        );
    }
    // Every single character counts, including the last one's unused bits.
    for (at, _) in good.char_indices() {
        let mut bytes = good.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let token = String::from_utf8(bytes).unwrap();
        assert!(
            !matches!(
                issuer.verify(&format!("Bearer {token}")),
                Token::Verified(_)
            ),
            "{at}"
        );
    }
}

#[test]
fn claims_of_the_wrong_kind() {
    let issuer = Issuer::new();
    for (name, value) in [
        ("exp", r#""1795318444""#),
        ("exp", "1795318444.0"),
        ("exp", "null"),
        ("exp", "true"),
        ("nbf", r#""0""#),
        ("iat", "1e9"),
        ("aud", r#"["https://acme.internal/svc/hms-api"]"#),
        (
            "aud",
            r#"["https://acme.internal/svc/hms-api","https://acme.internal/svc/vault"]"#,
        ),
        ("sub", "{}"),
        ("scope", r#"["report:read"]"#),
        ("cnf", r#"{"jkt":"AA"}"#),
        ("cnf", r#"{"x5t#S256":"AAAA"}"#),
        ("act", r#"{"sub":"mallory"}"#),
    ] {
        assert_eq!(
            issuer.fault(&issuer.altered(name, value)),
            TokenFault::Malformed,
            "{name} {value}"
        );
    }
    for required in ["exp", "aud", "sub", "iss", "jti", "iat", "client_id"] {
        let mut payload = claims_to_wire(&claims());
        payload.as_object_mut().unwrap().remove(required);
        let token = issuer.forged(&issuer.header(""), &payload.to_string());
        assert_eq!(
            issuer.fault(&token),
            TokenFault::Malformed,
            "without {required}"
        );
    }
    for iss in [
        "https://acme.internal/",
        "https://ACME.internal",
        "https://evil.example",
    ] {
        let token = issuer.altered("iss", &format!("\"{iss}\""));
        assert_eq!(issuer.fault(&token), TokenFault::Foreign, "{iss}");
    }
}

#[test]
fn doubled_deep_and_huge() {
    let issuer = Issuer::new();
    for doubled in [
        payload().replacen('{', r#"{"aud":"https://acme.internal/svc/vault","#, 1),
        payload().replacen('{', r#"{"x":1,"x":2,"#, 1),
        payload().replace(r#""act":{"#, r#""act":{"sub":"spiffe://acme.internal/a","#),
    ] {
        let token = issuer.forged(&issuer.header(""), &doubled);
        assert_eq!(issuer.fault(&token), TokenFault::Malformed, "{doubled}");
    }
    let nested = |depth: usize| {
        let mut act = Value::Null;
        for _ in 0..depth {
            let mut outer = serde_json::json!({ "sub": "spiffe://acme.internal/a" });
            if !act.is_null() {
                outer["act"] = act;
            }
            act = outer;
        }
        issuer.altered("act", &act.to_string())
    };
    assert_eq!(issuer.verified(&nested(8)).claims.act.len(), 8);
    assert_eq!(issuer.fault(&nested(9)), TokenFault::Malformed);
    assert_eq!(issuer.fault(&nested(100)), TokenFault::Malformed);
    for payload in ["[]", "null", "\"x\"", "", "{", "{}x"] {
        let token = issuer.forged(&issuer.header(""), payload);
        assert_eq!(issuer.fault(&token), TokenFault::Malformed, "{payload}");
    }
    let padded = payload().replacen('{', &format!(r#"{{"pad":"{}","#, "x".repeat(1 << 20)), 1);
    let token = issuer.forged(&issuer.header(""), &padded);
    let start = std::time::Instant::now();
    for _ in 0..10_000 {
        assert_eq!(issuer.fault(&token), TokenFault::Malformed);
    }
    let spent = start.elapsed();
    let whole = token.len() as f64 * 10_000.0 / spent.as_secs_f64();
    assert!(spent.as_secs() < 60, "1 MB is not read: {whole} B/s");
}

#[test]
fn another_generation_of_keys_asks_again() {
    let issuer = Issuer::new();
    let token = sign_access_token(&issuer.key, &claims()).unwrap();
    issuer.verified(&token);
    issuer.keys.replace(KeySet::empty(2));
    assert_eq!(
        issuer.fault(&token),
        TokenFault::Signature,
        "the key is gone"
    );
    let mut both = KeySet::empty(3);
    both.add(&issuer.key);
    both.add(&SigningKey::generate(KeyAlgorithm::Es256).unwrap());
    assert_eq!(both.kids().count(), 2);
    issuer.keys.replace(both);
    issuer.verified(&token);
}

/// Tokens whose signature is by a key that only has our key's name, each another one.
fn forgeries(issuer: &Issuer) -> impl Iterator<Item = String> {
    let other = SigningKey::generate(KeyAlgorithm::Es256).unwrap();
    let header = issuer.header("");
    (0..).map(move |number| {
        let mut payload = claims_to_wire(&claims());
        payload["jti"] = format!("forged-{number}").into();
        forge(
            &header,
            &payload.to_string(),
            Signature::Es256(other.pkcs8()),
        )
    })
}

#[test]
fn who_shows_too_many_that_prove_nothing_is_not_looked_at_and_all_others_are() {
    let issuer = Issuer::new();
    let forger = Presenter::Certificate(Digest::new([1; 32]));
    let victim = Presenter::Certificate(Digest::new([2; 32]));
    let stranger = Presenter::Network([192, 0, 2, 0].into());
    let good = |jti: &str| issuer.altered("jti", &format!("\"{jti}\""));
    let fault = |token: &str, who, now| match issuer.verifier.verify_token(token, who, now) {
        Token::Verified(_) => None,
        Token::Invalid { fault, .. } => Some(fault),
        Token::Absent => panic!("it was there"),
    };
    let known = good("known");
    assert_eq!(fault(&known, forger, NOW), None);
    let faults: Vec<_> = forgeries(&issuer)
        .take(UNKNOWN_BURST as usize + 50)
        .map(|token| fault(&token, forger, NOW))
        .collect();
    let (looked_at, not) = faults.split_at(UNKNOWN_BURST as usize);
    assert!(
        looked_at
            .iter()
            .all(|it| *it == Some(TokenFault::Signature))
    );
    assert!(not.iter().all(|it| *it == Some(TokenFault::Unverified)));
    // A good one that is not known is not told from a forged one without looking.
    let late = good("late");
    assert_eq!(fault(&late, forger, NOW), Some(TokenFault::Unverified));
    assert_eq!(fault(&known, forger, NOW), None, "remembered");
    for (who, jti) in [(victim, "victim"), (stranger, "stranger")] {
        assert_eq!(fault(&good(jti), who, NOW), None);
    }
    let soon = Timestamp::from_micros(NOW.as_micros() + 1_000_000);
    let again = forgeries(&issuer)
        .take(UNKNOWN_BURST as usize)
        .filter(|token| fault(token, forger, soon) == Some(TokenFault::Signature));
    assert_eq!(again.count(), UNKNOWN_PER_SECOND as usize);
}

#[test]
fn many_peoples_good_tokens_are_no_attack() {
    let issuer = Issuer::new();
    let gateway = Presenter::Certificate(Digest::new([1; 32]));
    for number in 0..3 * UNKNOWN_BURST {
        let token = issuer.altered("jti", &format!("\"j-{number}\""));
        let verified = issuer.verifier.verify_token(&token, gateway, NOW);
        assert!(matches!(verified, Token::Verified(_)), "{number}");
    }
}
