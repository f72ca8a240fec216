//! A decision with more and more policy, and with more and more revoked.

use super::Table;
use super::micros;
use super::once;
use anyhow::Result;
use anyhow::ensure;
use countersign_core::config;
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
use countersign_core::snapshot::Bundle;
use countersign_core::snapshot::Revocation;
use countersign_core::snapshot::Revocations;
use countersign_core::snapshot::Revoked;
use countersign_core::snapshot::Snapshot;
use countersign_core::snapshot::State;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::Operation;
use countersign_core::vocabulary::Permission;
use countersign_core::vocabulary::SpiffeId;
use countersign_core::vocabulary::Timestamp;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

const NOW: Timestamp = Timestamp::from_secs(1_795_600_800);
const ROOT: Digest = Digest::new([7; 32]);
const LEAF: Digest = Digest::new([1; 32]);

/// Routes: many operations of few services, or few of many.
pub(super) fn routes(quick: bool) -> Result<String> {
    let sizes: &[usize] = if quick {
        &[1, 100]
    } else {
        &[1, 10, 100, 1_000, 10_000]
    };
    let mut table = Table::new(&[
        "routes",
        "decide, 1,000 for each service, µs",
        "decide, 4 for each service, µs",
        "read and compile, ms",
    ]);
    for &size in sizes {
        let (few, _) = routed(size, 1_000)?;
        let (many, read) = routed(size, 4)?;
        table.line(size as u64, &[few, many, read / 1e3]);
    }
    Ok(table.0)
}

/// What a decision costs with so many routes, and reading them.
fn routed(routes: usize, each: usize) -> Result<(f64, f64)> {
    let (text, services) = company(routes, each)?;
    let (state, read) = state(text)?;
    let service = format!("s{}", services / 2);
    let hop = hop(&state.snapshot, &service, "/v1/r0/42", "i:read")?;
    Ok((decided(&hop, &state)?, read))
}

/// Revocations: what a decision costs with them, and what one more costs.
pub(super) fn revocations(quick: bool) -> Result<String> {
    let sizes: &[u64] = if quick {
        &[100, 1_000]
    } else {
        &[100, 1_000, 10_000, 100_000, 1_000_000]
    };
    let mut table = Table::new(&[
        "revocations",
        "decide, µs",
        "one more, as an enforcement point takes it in, µs",
        "all of them at a start, ms",
    ]);
    let (mut state, _) = state(company(10, 10)?.0)?;
    let hop = hop(&state.snapshot, "s0", "/v1/r5/42", "i:read")?;
    for &size in sizes {
        let log: Vec<Revocation> = (1..=size).map(revocation).collect();
        let (revocations, replayed) = once(|| Revocations::up_to(&log, size));
        ensure!(revocations.epoch() == size, "a gap");
        state.revocations = Arc::new(revocations);
        let decide = decided(&hop, &state)?;
        let mut current = state.revocations.clone();
        let more = micros(
            || revocation(0),
            |mut line| {
                // Readers keep what they began with, so the next state is another value.
                let mut next = Revocations::clone(&current);
                line.epoch = next.epoch() + 1;
                line.what = Revoked::Token(format!("more-{}", line.epoch));
                let applied = next.apply(&line);
                current = Arc::new(next);
                applied
            },
        );
        table.line(size, &[decide, more, replayed / 1e3]);
    }
    Ok(table.0)
}

fn revocation(epoch: u64) -> Revocation {
    let mut digest = [9; 32];
    digest[..8].copy_from_slice(&epoch.to_be_bytes());
    let digest = Digest::new(digest);
    let what = match epoch % 4 {
        0 => Revoked::Certificate(digest),
        1 => Revoked::Session(digest),
        2 => Revoked::Subject(format!("corp:{epoch}")),
        _ => Revoked::Token(format!("jti-{epoch:032x}")),
    };
    Revocation {
        at: NOW,
        epoch,
        lifted: false,
        what,
    }
}

fn decided(hop: &Hop, state: &State) -> Result<f64> {
    ensure!(
        matches!(decide(hop.clone(), state), Verdict::Allow(_)),
        "the call is refused"
    );
    Ok(micros(|| hop.clone(), |hop| decide(hop, state)))
}

const HEAD: &str = "environment: dev
listeners:
  web:  { bind: \"127.0.0.1:8443\", peer: browser, login: dev }
  mesh: { bind: \"127.0.0.1:9443\", peer: service }
identities: { caller: {}, s0: {} }
roles: { reader: { members: [group:readers], may: [\"i:read\"] } }
services:
";

/// So many routes, spread over services with at most `each` operations. Gives their number too.
fn company(routes: usize, each: usize) -> Result<(String, usize)> {
    let mut text = String::from(HEAD);
    let services = routes.div_ceil(each);
    for at in 0..services {
        writeln!(
            text,
            "  s{at}:\n    peer: service\n    identity: s0\n    url: https://s0.acme.example\n    \
             operations:"
        )?;
        for route in 0..each.min(routes - at * each) {
            writeln!(text, "      GET /v1/r{route}/**: {{ needs: \"i:read\" }}")?;
        }
    }
    text += "edges:\n  web -> s0: [GET /**]\n";
    for at in 0..services {
        writeln!(text, "  caller -> s{at}: [GET /**]")?;
    }
    Ok((text, services))
}

/// The policy in force, and how long it took to get there.
fn state(text: String) -> Result<(State, f64)> {
    let bundle = Bundle {
        dev: true,
        entry: "c.yaml".to_owned(),
        files: BTreeMap::from([("c.yaml".to_owned(), text)]),
        roots: vec![ROOT],
        ..Bundle::default()
    };
    let (snapshot, took) = once(|| {
        let options = config::Options {
            dev: true,
            strict: false,
        };
        let config = config::load(&bundle, &bundle.entry, &options).config;
        config.map(|config| Snapshot::new(bundle, config))
    });
    let snapshot = snapshot.ok_or_else(|| anyhow::anyhow!("the configuration has errors"))?;
    let state = State {
        revocations: Arc::new(Revocations::default()),
        snapshot: Arc::new(snapshot),
    };
    Ok((state, took))
}

/// A person's read, handed on by a workload.
fn hop(snapshot: &Snapshot, service: &str, path: &str, scope: &str) -> Result<Hop> {
    let domain = &snapshot.config().trust_domain;
    let caller = SpiffeId::of_identity(domain, &Name::new("caller")?);
    let claims = Claims {
        act: vec![caller.clone()],
        aud: domain.audience(service),
        ceil: Vec::new(),
        client_id: caller.as_str().to_owned(),
        cnf: Binding::Certificate(LEAF),
        exp: NOW.as_secs() + 50,
        groups: vec!["dev/readers".to_owned()],
        iat: NOW.as_secs() - 10,
        iss: domain.issuer(),
        jti: "bench".to_owned(),
        nbf: None,
        roles: Vec::new(),
        scope: vec![Permission::new(scope)?],
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
        operation: Operation::named("GET", path),
        service: service.to_owned(),
    })
}
