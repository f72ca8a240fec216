//! What the parts of a request cost that are about tokens: one seen before, one at first sight, and
//! the assertion for the upstream.
//!
//! `cargo bench -p countersign-net --bench net`.

use countersign_core::hop::Binding;
use countersign_core::hop::Claims;
use countersign_core::hop::Token;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Permission;
use countersign_core::vocabulary::SpiffeId;
use countersign_core::vocabulary::Timestamp;
use countersign_net::KeyAlgorithm;
use countersign_net::KeySet;
use countersign_net::Keys;
use countersign_net::SigningKey;
use countersign_net::TokenVerifier;
use countersign_net::assertion;
use countersign_net::assertion::Assertion;
use countersign_net::token::CACHED_TOKENS;
use countersign_net::token::Presenter;
use countersign_net::token::sign_access_token;
use criterion::Criterion;
use criterion::criterion_group;
use criterion::criterion_main;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

const NOW: Timestamp = Timestamp::from_secs(1_795_600_800);
const ISSUER: &str = "https://acme.internal";
const LEAF: Digest = Digest::new([1; 32]);
const CALLER: Presenter = Presenter::Certificate(LEAF);
/// Tokens that the cache knows, or does not.
const TOKENS: usize = 100_000;

type Outcome = Result<(), Box<dyn Error>>;

fn token(key: &SigningKey, number: usize) -> Result<String, Box<dyn Error>> {
    let claims = Claims {
        act: vec![SpiffeId::parse("spiffe://acme.internal/frontend")?],
        aud: "https://acme.internal/svc/hms-api".to_owned(),
        ceil: Vec::new(),
        client_id: "spiffe://acme.internal/frontend".to_owned(),
        cnf: Binding::Certificate(LEAF),
        exp: NOW.as_secs() + 60,
        groups: vec!["corp/doctors".to_owned()],
        iat: NOW.as_secs(),
        iss: ISSUER.to_owned(),
        jti: format!("{number:032x}"),
        nbf: None,
        roles: Vec::new(),
        scope: vec![Permission::new("report:read")?],
        sid: None,
        sub: "corp:ana".to_owned(),
    };
    Ok(sign_access_token(key, &claims)?)
}

fn verifier(keys: &Arc<Keys>) -> TokenVerifier {
    TokenVerifier::new(keys.clone(), ISSUER.to_owned(), CACHED_TOKENS)
}

/// `hit among 100,000`: any of as many tokens as the cache holds at most, each seen before.
/// `first sight`: parsing, signature and claims of one that nobody has shown yet.
fn tokens(criterion: &mut Criterion) -> Outcome {
    let key = SigningKey::generate(KeyAlgorithm::Es256)?;
    let mut keys = KeySet::empty(1);
    keys.add(&key);
    let keys = Keys::new(keys);
    let tokens: Result<Vec<_>, _> = (0..TOKENS).map(|number| token(&key, number)).collect();
    let tokens = tokens?;
    let known = verifier(&keys);
    for token in &tokens {
        if !matches!(known.verify_token(token, CALLER, NOW), Token::Verified(_)) {
            return Err("a good token is refused".into());
        }
    }
    let mut group = criterion.benchmark_group("token");
    group
        .sample_size(20)
        .measurement_time(Duration::from_secs(2));
    let mut rotation = tokens.iter().cycle();
    group.bench_function("hit among 100,000", |bench| {
        bench.iter(|| {
            rotation
                .next()
                .map(|token| known.verify_token(token, CALLER, NOW))
        });
    });
    let token = tokens.first().ok_or("no token")?;
    group.bench_function("first sight", |bench| {
        bench.iter_with_setup(
            || verifier(&keys),
            |verifier| {
                let seen = verifier.verify_token(token, CALLER, NOW);
                (verifier, seen)
            },
        );
    });
    group.finish();
    Ok(())
}

/// `sign`: the assertion that goes to the service with each request, claims to compact form.
fn assertions(criterion: &mut Criterion) -> Outcome {
    let key = SigningKey::generate(KeyAlgorithm::EdDsa)?;
    let assertion = Assertion {
        act: vec![SpiffeId::parse("spiffe://acme.internal/frontend")?],
        aud: "https://acme.internal/svc/hms-api".to_owned(),
        exp: NOW.as_secs() + 30,
        iat: NOW.as_secs(),
        iss: SpiffeId::parse("spiffe://acme.internal/countersign/gateway/edge")?,
        jti: "0123456789abcdef0123456789abcdef".to_owned(),
        method: "GET".to_owned(),
        path: "/v1/reports/42".to_owned(),
        receipt: "01HZX3T2Q4M6V8W9Y0A1B2C3D4".to_owned(),
        sub: "corp:ana".to_owned(),
    };
    assertion::sign(&key, &assertion)?;
    let mut group = criterion.benchmark_group("assertion");
    group
        .sample_size(20)
        .measurement_time(Duration::from_secs(2));
    group.bench_function("sign", |bench| {
        bench.iter(|| assertion::sign(&key, &assertion));
    });
    group.finish();
    Ok(())
}

fn net(criterion: &mut Criterion) {
    for measure in [tokens, assertions] {
        if let Err(error) = measure(criterion) {
            criterion.bench_function(&format!("failed: {error}"), |bench| bench.iter(|| ()));
        }
    }
}

criterion_group!(benches, net);
criterion_main!(benches);
