//! What a decision costs as the configuration grows: compiling it, deciding one delegated call, and
//! the bytes of its record.
//!
//! `cargo bench -p countersign-core --bench decide`. At full size there are 1,000 services, 5,000
//! edges and 10,000 roles.

use countersign_core::config;
use countersign_core::config::Options;
use countersign_core::decide::Verdict;
use countersign_core::decide::decide;
use countersign_core::hop::Binding;
use countersign_core::hop::Certificate;
use countersign_core::hop::Claims;
use countersign_core::hop::Evidence;
use countersign_core::hop::Facts;
use countersign_core::hop::Hop;
use countersign_core::hop::Peer;
use countersign_core::hop::Tls;
use countersign_core::hop::TlsVersion;
use countersign_core::hop::Token;
use countersign_core::hop::VerifiedToken;
use countersign_core::record::Context;
use countersign_core::snapshot::Bundle;
use countersign_core::snapshot::Revocations;
use countersign_core::snapshot::Snapshot;
use countersign_core::snapshot::State;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::Operation;
use countersign_core::vocabulary::Permission;
use countersign_core::vocabulary::SpiffeId;
use countersign_core::vocabulary::Timestamp;
use countersign_ledger::canonical::is_canonical;
use countersign_ledger::canonical::parse_unique;
use countersign_ledger::canonical::to_canonical;
use criterion::BatchSize;
use criterion::BenchmarkId;
use criterion::Criterion;
use criterion::Throughput;
use criterion::criterion_group;
use criterion::criterion_main;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

const NOW: Timestamp = Timestamp::from_secs(1_795_600_800);
const ROOT: Digest = Digest::new([7; 32]);
const LEAF: Digest = Digest::new([1; 32]);

/// Services, with five edges and ten roles each.
const SIZES: [usize; 4] = [1, 10, 100, 1_000];

/// A company of this many services. Each calls the next five, has three operations, and its
/// people's ten groups hold what the operations need.
fn company(services: usize) -> Result<String, std::fmt::Error> {
    let mut text = String::from(
        "environment: dev\nlisteners: { web: { bind: \"127.0.0.1:8443\", peer: browser, login: dev }, \
         mesh: { bind: \"127.0.0.1:9443\", peer: service } }\nidentities:\n",
    );
    for at in 0..services {
        writeln!(text, "  s{at}: {{}}")?;
    }
    text.push_str("roles:\n");
    for at in 0..services * 10 {
        let needs = at / 10;
        let what = ["read", "write"].get(at % 2).copied().unwrap_or_default();
        writeln!(
            text,
            "  r{at}: {{ members: [group:g{at}], may: [\"i{needs}:{what}\"] }}"
        )?;
    }
    text.push_str("services:\n");
    for at in 0..services {
        writeln!(
            text,
            "  s{at}:\n    peer: service\n    url: https://s{at}.acme.example\n    operations:\n      \
             GET /v1/i/**: {{ needs: \"i{at}:read\" }}\n      POST /v1/i: {{ needs: \"i{at}:write\" }}\n      \
             GET /health: {{ needs: edge }}"
        )?;
    }
    text.push_str("edges:\n  web -> s0: [GET /**, POST /v1/i]\n");
    for from in 0..services {
        for step in 1..=5.min(services) {
            let to = (from + step) % services;
            writeln!(text, "  s{from} -> s{to}: [GET /v1/i/**, POST /v1/i]")?;
        }
    }
    Ok(text)
}

fn bundle(services: usize) -> Result<Bundle, std::fmt::Error> {
    Ok(Bundle {
        dev: true,
        entry: "c.yaml".to_owned(),
        files: BTreeMap::from([("c.yaml".to_owned(), company(services)?)]),
        roots: vec![ROOT],
        ..Bundle::default()
    })
}

/// A person's read, handed on by the middle service to the one after it.
fn hop(snapshot: &Snapshot, services: usize) -> Result<Hop, Box<dyn Error>> {
    let domain = &snapshot.config().trust_domain;
    let from = services / 2;
    let to = (from + 1) % services;
    let caller = SpiffeId::of_identity(domain, &Name::new(&format!("s{from}"))?);
    let claims = Claims {
        act: vec![caller.clone()],
        aud: domain.audience(&format!("s{to}")),
        ceil: Vec::new(),
        client_id: caller.as_str().to_owned(),
        cnf: Binding::Certificate(LEAF),
        exp: NOW.as_secs() + 50,
        groups: vec![format!("dev/g{}", to * 10)],
        iat: NOW.as_secs() - 10,
        iss: domain.issuer(),
        jti: "bench".to_owned(),
        nbf: None,
        roles: Vec::new(),
        scope: vec![Permission::new(&format!("i{to}:read"))?],
        sid: None,
        sub: "dev:alice".to_owned(),
    };
    Ok(Hop {
        at: NOW,
        door: Name::new("mesh")?,
        evidence: Evidence {
            peer: Peer::Certificate(Arc::new(Certificate {
                issuer: LEAF,
                issuers_above: Box::default(),
                leaf: LEAF,
                not_after: NOW.plus(Duration::from_secs(1_800)),
                not_before: NOW,
                root: ROOT,
                serial: "2a".to_owned(),
                spiffe_id: caller,
            })),
            session: None,
            tls: Tls::Established {
                cipher: "TLS13_AES_256_GCM_SHA384".to_owned(),
                group: "X25519MLKEM768".to_owned(),
                resumed: false,
                version: TlsVersion::V13,
            },
            token: Token::Verified(Arc::new(VerifiedToken {
                claims,
                hash: LEAF,
                kid: "k".to_owned(),
            })),
        },
        facts: Facts::default(),
        operation: Operation::named("GET", "/v1/i/42"),
        service: format!("s{to}"),
    })
}

fn measure(criterion: &mut Criterion) -> Result<(), Box<dyn Error>> {
    let mut group = criterion.benchmark_group("policy");
    group
        .sample_size(20)
        .measurement_time(Duration::from_secs(3));
    for services in SIZES {
        let bundle = bundle(services)?;
        let options = Options {
            dev: true,
            strict: false,
        };
        let name = |what: &str| BenchmarkId::new(what.to_owned(), services);
        group.bench_function(name("check"), |bench| {
            bench.iter(|| config::load(&bundle, &bundle.entry, &options));
        });
        let loaded = config::load(&bundle, &bundle.entry, &options);
        let checked = loaded.config.ok_or("the configuration has errors")?;
        group.bench_function(name("compile"), |bench| {
            let input = || (bundle.clone(), checked.clone());
            let compile = |(bundle, config)| Snapshot::new(bundle, config);
            bench.iter_batched(input, compile, BatchSize::LargeInput);
        });
        let state = State {
            revocations: Arc::new(Revocations::default()),
            snapshot: Arc::new(Snapshot::new(bundle, checked)),
        };
        let hop = hop(&state.snapshot, services)?;
        let allowed = matches!(decide(hop.clone(), &state), Verdict::Allow(_));
        if !allowed {
            return Err("the call is refused".into());
        }
        group.bench_function(name("decide"), |bench| {
            // A few at a time: a hop is decided while it is fresh in the cache.
            bench.iter_batched(
                || hop.clone(),
                |hop| decide(hop, &state),
                BatchSize::NumIterations(16),
            );
        });
    }
    group.finish();
    Ok(())
}

fn policy(criterion: &mut Criterion) {
    if let Err(error) = measure(criterion) {
        criterion.bench_function(&format!("failed: {error}"), |bench| bench.iter(|| ()));
    }
}

/// `write`: the canonical bytes (RFC 8785) of the record of a decision, straight from it. `bring
/// into form`: the same of a JSON value whose members may be in any order. `check`: whether given
/// bytes are in that form.
fn canonical(criterion: &mut Criterion) -> Result<(), Box<dyn Error>> {
    let bundle = bundle(1)?;
    let options = Options {
        dev: true,
        strict: false,
    };
    let loaded = config::load(&bundle, &bundle.entry, &options);
    let checked = loaded.config.ok_or("the configuration has errors")?;
    let state = State {
        revocations: Arc::new(Revocations::default()),
        snapshot: Arc::new(Snapshot::new(bundle, checked)),
    };
    let mut hop = hop(&state.snapshot, 1)?;
    // A refusal holds the same hop and more text beside it.
    hop.operation = Operation::named("DELETE", "/v1/i/42");
    let Verdict::Deny(denial) = decide(hop, &state) else {
        return Err("the call is allowed".into());
    };
    let context = Context {
        request_id: "0123456789abcdef0123456789abcdef",
        ..Context::default()
    };
    let bytes = denial.record(&context).to_bytes();
    let value = parse_unique(&bytes)?;
    if !is_canonical(&bytes) || to_canonical(&value)? != bytes {
        return Err("a record is not canonical".into());
    }
    let mut group = criterion.benchmark_group("record");
    group
        .sample_size(20)
        .measurement_time(Duration::from_secs(2))
        .throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("write", |bench| {
        bench.iter(|| denial.record(&context).to_bytes());
    });
    group.bench_function("bring into form", |bench| {
        bench.iter(|| to_canonical(&value));
    });
    group.bench_function("check", |bench| bench.iter(|| is_canonical(&bytes)));
    group.finish();
    Ok(())
}

fn records(criterion: &mut Criterion) {
    if let Err(error) = canonical(criterion) {
        criterion.bench_function(&format!("failed: {error}"), |bench| bench.iter(|| ()));
    }
}

criterion_group!(benches, policy, records);
criterion_main!(benches);
