//! A service behind a gateway: whom it takes connections from, and which requests it believes.

use crate::support::setup;
use countersign_client::AcceptError;
use countersign_client::AssertionError;
use countersign_net::Connector;
use countersign_net::KeyAlgorithm;
use countersign_net::KeySet;
use countersign_net::Roots;
use countersign_net::SigningKey;
use countersign_net::Source;
use countersign_net::assertion;
use countersign_net::assertion::Assertion;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;
use tokio::time::Instant;

#[tokio::test]
async fn only_gateways_are_let_in() {
    let it = setup().await;
    let acceptor = it.client.acceptor().unwrap();
    for (name, welcome) in [
        ("countersign/gateway/edge", true),
        ("countersign/gateway/other", true),
        ("countersign/server/main", false),
        ("stats-worker", false),
        ("gateway/edge", false),
    ] {
        let svid = Source::new(it.pki.svid(name));
        let roots = Roots::new(it.pki.bundle(1));
        let connector = Connector::mutual(svid, roots, it.pki.id("hms-api")).unwrap();
        let (near, far) = tokio::io::duplex(1 << 16);
        let deadline = Instant::now() + Duration::from_secs(5);
        let (dialled, accepted) =
            tokio::join!(connector.connect(near, "hms-api", deadline), acceptor.accept(far));
        dialled.unwrap();
        match accepted {
            Ok((_, id)) => assert!(welcome && id == it.pki.id(name), "{name}"),
            Err(AcceptError::NotAGateway(id)) => assert!(!welcome && id == it.pki.id(name)),
            Err(error) => panic!("{name}: {error}"),
        }
    }
}

#[tokio::test]
async fn an_assertion_counts_once_for_one_request_of_one_gateway() {
    let it = setup().await;
    let gateway = it.pki.id("countersign/gateway/edge");
    let key = SigningKey::generate(KeyAlgorithm::EdDsa).unwrap();
    let mut keys = KeySet::empty(1);
    keys.add_owned(&key, gateway.clone());
    it.server.say(200, &[], &keys.to_jwks().to_string());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed();
    let sign = |jti: &str, aud: &str, exp: i64| {
        let assertion = Assertion {
            act: vec![],
            aud: format!("https://acme.internal/svc/{aud}"),
            exp: now + exp,
            iat: now,
            iss: gateway.clone(),
            jti: jti.to_owned(),
            method: "GET".to_owned(),
            path: "/v1/reports".to_owned(),
            receipt: "r-1".to_owned(),
            sub: "dev:alice".to_owned(),
        };
        assertion::sign(&key, &assertion).unwrap()
    };
    let verifier = it.client.assertions("hms-api");
    let good = sign("1", "hms-api", 20);
    let verified = verifier.verify(&good, &gateway, "GET", "/v1/reports").await.unwrap();
    assert_eq!(verified.sub, "dev:alice");
    let replayed = verifier.verify(&good, &gateway, "GET", "/v1/reports").await;
    assert!(matches!(replayed, Err(AssertionError::Replayed)), "{replayed:?}");

    let other = it.pki.id("countersign/gateway/other");
    let cases = [
        (sign("2", "hms-api", 20), &other, "GET", "/v1/reports", "not by the gateway"),
        (sign("3", "hms-api", 20), &gateway, "POST", "/v1/reports", "another method"),
        (sign("4", "hms-api", 20), &gateway, "GET", "/v1", "another path"),
        (sign("5", "stats", 20), &gateway, "GET", "/v1/reports", "another audience"),
        (sign("6", "hms-api", 0), &gateway, "GET", "/v1/reports", "does not count now"),
        ("a.b.c".to_owned(), &gateway, "GET", "/v1/reports", "not valid"),
    ];
    for (value, from, method, path, expect) in cases {
        let error = verifier.verify(&value, from, method, path).await.unwrap_err();
        assert!(error.to_string().contains(expect), "{expect}: {error}");
    }
    let asked = it.server.seen();
    assert_eq!(asked.len(), 1, "the keys were fetched again");
    assert_eq!(asked[0].line, "GET /.well-known/countersign-assertion-keys");
}
