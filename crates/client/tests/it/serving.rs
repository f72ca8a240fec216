//! A service behind a gateway: whom it takes connections from, and which requests it believes.

use crate::support::Setup;
use crate::support::setup;
use countersign_client::AcceptError;
use countersign_client::AssertionError;
use countersign_core::vocabulary::SpiffeId;
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
        let deadline = Instant::now() + Duration::from_secs(60);
        let (dialled, accepted) = tokio::join!(
            connector.connect(near, "hms-api", deadline),
            acceptor.accept(far)
        );
        dialled.unwrap();
        match accepted {
            Ok((_, id)) => assert!(welcome && id == it.pki.id(name), "{name}"),
            Err(AcceptError::NotAGateway(id)) => assert!(!welcome && id == it.pki.id(name)),
            Err(error) => panic!("{name}: {error}"),
        }
    }
}

/// A gateway that signs assertions, and the server that publishes its key.
struct Signer {
    gateway: SpiffeId,
    key: SigningKey,
    now: i64,
}

impl Signer {
    fn new(it: &Setup) -> Self {
        let gateway = it.pki.id("countersign/gateway/edge");
        let key = SigningKey::generate(KeyAlgorithm::EdDsa).unwrap();
        let mut keys = KeySet::empty(1);
        keys.add_owned(&key, gateway.clone());
        it.server.say(200, &[], &keys.to_jwks().to_string());
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let now = since.as_secs().cast_signed();
        Self { gateway, key, now }
    }

    /// For `GET /v1/reports` of this service, for so many seconds.
    fn sign(&self, jti: &str, service: &str, seconds: i64) -> String {
        let assertion = Assertion {
            act: vec![],
            aud: format!("https://acme.internal/svc/{service}"),
            exp: self.now + seconds,
            iat: self.now,
            iss: self.gateway.clone(),
            jti: jti.to_owned(),
            method: "GET".to_owned(),
            path: "/v1/reports".to_owned(),
            receipt: "r-1".to_owned(),
            sub: "dev:alice".to_owned(),
        };
        assertion::sign(&self.key, &assertion).unwrap()
    }
}

#[tokio::test]
async fn an_assertion_counts_once() {
    let it = setup().await;
    let signer = Signer::new(&it);
    let verifier = it.client.assertions("hms-api");
    let good = signer.sign("1", "hms-api", 20);
    let verify = || verifier.verify(&good, &signer.gateway, "GET", "/v1/reports");
    assert_eq!(verify().await.unwrap().sub, "dev:alice");
    let again = verify().await;
    assert!(matches!(again, Err(AssertionError::Replayed)), "{again:?}");
    let asked = it.server.seen();
    assert_eq!(asked.len(), 1, "the keys were fetched again");
    assert_eq!(asked[0].line, "GET /.well-known/countersign-assertion-keys");
}

#[tokio::test]
async fn requests_that_come_first_together_share_one_fetch_of_the_keys() {
    let it = setup().await;
    let signer = Signer::new(&it);
    let verifier = it.client.assertions("hms-api");
    let (one, two) = (
        signer.sign("1", "hms-api", 20),
        signer.sign("2", "hms-api", 20),
    );
    let verify = |value| verifier.verify(value, &signer.gateway, "GET", "/v1/reports");
    let (one, two) = tokio::join!(verify(&one), verify(&two));
    assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?}");
    assert_eq!(it.server.seen().len(), 1);
}

#[tokio::test]
async fn an_assertion_is_for_one_request_of_one_gateway() {
    let it = setup().await;
    let signer = Signer::new(&it);
    let verifier = it.client.assertions("hms-api");
    let (own, path) = (&signer.gateway, "/v1/reports");
    let other = &it.pki.id("countersign/gateway/other");
    let good = |jti| signer.sign(jti, "hms-api", 20);
    let cases = [
        (good("2"), other, "GET", path, "not by the gateway"),
        (good("3"), own, "POST", path, "another method"),
        (good("4"), own, "GET", "/v1", "another path"),
        (
            signer.sign("5", "x", 20),
            own,
            "GET",
            path,
            "another audience",
        ),
        (
            signer.sign("6", "hms-api", 0),
            own,
            "GET",
            path,
            "not count now",
        ),
        ("a.b.c".to_owned(), own, "GET", path, "not valid"),
    ];
    for (value, from, method, path, expect) in cases {
        let error = verifier.verify(&value, from, method, path).await;
        let text = error.unwrap_err().to_string();
        assert!(text.contains(expect), "{expect}: {text}");
    }
}
