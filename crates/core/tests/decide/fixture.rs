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
use countersign_core::hop::Session;
use countersign_core::hop::Tls;
use countersign_core::hop::TlsVersion;
use countersign_core::hop::Token;
use countersign_core::hop::VerifiedToken;
use countersign_core::pillars::least_privilege::Outcome;
use countersign_core::pillars::least_privilege::Reservation;
use countersign_core::snapshot::Bundle;
use countersign_core::snapshot::Revocation;
use countersign_core::snapshot::Revocations;
use countersign_core::snapshot::Revoked;
use countersign_core::snapshot::Snapshot;
use countersign_core::snapshot::State;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::Operation;
use countersign_core::vocabulary::Permission;
use countersign_core::vocabulary::SpiffeId;
use countersign_core::vocabulary::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Wednesday 2026-11-25, 10:00 UTC.
pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_795_600_800);
pub(crate) const ROOT: Digest = Digest::new([7; 32]);

pub(crate) fn bundle() -> Bundle {
    Bundle {
        dev: true,
        dev_operator: None,
        node: None,
        entry: "hms.yaml".to_owned(),
        files: BTreeMap::from([("hms.yaml".to_owned(), include_str!("hms.yaml").to_owned())]),
        projection: None,
        roots: vec![ROOT],
        zt_off: false,
    }
}

pub(crate) fn state() -> State {
    let loaded = config::load(
        &bundle(),
        "hms.yaml",
        &config::Options {
            dev: true,
            strict: false,
        },
    );
    let errors: Vec<_> = loaded.errors().map(|it| format!("{it:?}")).collect();
    assert_eq!(errors, Vec::<String>::new());
    let snapshot = Snapshot::from_bundle(bundle()).unwrap();
    State {
        revocations: Arc::new(Revocations::default()),
        snapshot: Arc::new(snapshot),
    }
}

pub(crate) fn revoked(what: Revoked) -> State {
    let at = Timestamp::from_micros(NOW.as_micros() - 40_000);
    let line = Revocation {
        at,
        epoch: 1,
        lifted: false,
        what,
    };
    State {
        revocations: Arc::new(Revocations::up_to(&[line], 1)),
        ..state()
    }
}

pub(crate) fn leaf(name: &str) -> Digest {
    let mut bytes = [0; 32];
    for (at, byte) in name.bytes().enumerate() {
        bytes[at] = byte;
    }
    Digest::new(bytes)
}

pub(crate) fn id(path: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://hms.dev.invalid/{path}")).unwrap()
}

pub(crate) fn certificate(path: &str) -> Certificate {
    Certificate {
        issuer: Digest::new([8; 32]),
        issuers_above: Box::default(),
        leaf: leaf(path),
        not_after: NOW.plus(Duration::from_secs(1800)),
        not_before: Timestamp::from_secs(NOW.as_secs() - 1800),
        root: ROOT,
        serial: "2a".to_owned(),
        spiffe_id: id(path),
    }
}

pub(crate) fn established() -> Tls {
    Tls::Established {
        cipher: "TLS13_AES_256_GCM_SHA384".to_owned(),
        group: "X25519MLKEM768".to_owned(),
        resumed: false,
        version: TlsVersion::V13,
    }
}

pub(crate) fn scopes(scopes: &[&str]) -> Vec<Permission> {
    scopes
        .iter()
        .map(|scope| Permission::new(scope).unwrap())
        .collect()
}

pub(crate) fn claims(sub: &str, service: &str, scope: &[&str], bound_to: &str) -> Claims {
    Claims {
        act: Vec::new(),
        aud: format!("https://hms.dev.invalid/svc/{service}"),
        ceil: Vec::new(),
        client_id: bound_to.to_owned(),
        cnf: Binding::Certificate(leaf(bound_to)),
        exp: NOW.as_secs() + 50,
        groups: Vec::new(),
        iat: NOW.as_secs() - 10,
        iss: "https://hms.dev.invalid".to_owned(),
        jti: "jti-1".to_owned(),
        nbf: None,
        roles: Vec::new(),
        scope: scopes(scope),
        sid: None,
        sub: sub.to_owned(),
    }
}

pub(crate) fn token(claims: Claims) -> Token {
    Token::Verified(Arc::new(VerifiedToken {
        claims,
        hash: leaf("token"),
        kid: "k1".to_owned(),
    }))
}

/// hms-api asks vault for its own key: allowed.
pub(crate) fn vault_read() -> Hop {
    mesh(
        "hms-api",
        "control",
        "vault",
        Operation::named("read", "openai_primary"),
        claims(id("hms-api").as_str(), "vault", &["ai:key:read"], "hms-api"),
    )
}

/// alice, through the frontend, asks for a summary: allowed.
pub(crate) fn summary() -> Hop {
    let mut claims = claims("dev:alice", "hms-api", &["ai:invoke-summary"], "frontend");
    claims.act = vec![id("frontend"), id("countersign/door/web")];
    mesh(
        "frontend",
        "mesh",
        "hms-api",
        Operation::named("POST", "/ai/summary"),
        claims,
    )
}

pub(crate) fn mesh(
    caller: &str,
    door: &str,
    service: &str,
    operation: Operation,
    claims: Claims,
) -> Hop {
    Hop {
        at: NOW,
        door: Name::new(door).unwrap(),
        evidence: Evidence {
            peer: Peer::Certificate(Arc::new(certificate(caller))),
            session: None,
            tls: established(),
            token: token(claims),
        },
        facts: Facts::default(),
        operation,
        service: service.to_owned(),
    }
}

/// alice at the browser door.
pub(crate) fn browser(operation: Operation, scope: &[&str]) -> Hop {
    let sid = leaf("session");
    let holder = leaf("countersign/gateway/gw");
    let mut claims = claims("dev:alice", "hms-api", scope, "countersign/gateway/gw");
    claims.sid = Some(sid);
    Hop {
        at: NOW,
        door: Name::new("web").unwrap(),
        evidence: Evidence {
            peer: Peer::Anonymous,
            session: Some(Box::new(Session {
                ends: NOW.plus(Duration::from_secs(3600)),
                groups: Vec::new(),
                holder,
                sid,
                sub: "dev:alice".to_owned(),
            })),
            tls: established(),
            token: token(claims),
        },
        facts: Facts {
            same_origin: Some(true),
            ..Facts::default()
        },
        operation,
        service: "hms-api".to_owned(),
    }
}

pub(crate) fn edit_claims(hop: &mut Hop, edit: impl FnOnce(&mut Claims)) {
    let Token::Verified(token) = &mut hop.evidence.token else {
        unreachable!()
    };
    edit(&mut Arc::make_mut(token).claims);
}

pub(crate) fn edit_certificate(hop: &mut Hop, edit: impl FnOnce(&mut Certificate)) {
    let Peer::Certificate(certificate) = &mut hop.evidence.peer else {
        unreachable!()
    };
    edit(Arc::make_mut(certificate));
}

/// The code a hop is refused with, and why; nothing if it is allowed.
pub(crate) fn outcome(hop: Hop, state: &State) -> Option<(Code, String)> {
    match decide(hop, state) {
        Verdict::Deny(denial) => Some((denial.code(), denial.reason().to_owned())),
        Verdict::Allow(pending) => {
            let outcomes: Vec<_> = pending
                .demands()
                .iter()
                .map(|demand| Outcome {
                    demand: demand.clone(),
                    granted: true,
                    spent: 0,
                })
                .collect();
            assert!(pending.complete(Reservation::new(outcomes)).is_ok());
            None
        }
    }
}

#[track_caller]
pub(crate) fn allowed(hop: Hop) {
    assert_eq!(outcome(hop, &state()), None);
}

#[track_caller]
pub(crate) fn denied(hop: Hop, code: Code) -> String {
    denied_in(hop, &state(), code)
}

#[track_caller]
pub(crate) fn denied_in(hop: Hop, state: &State, code: Code) -> String {
    let (got, reason) = outcome(hop, state).unwrap_or_else(|| panic!("allowed, not {code}"));
    assert_eq!(got, code, "{reason}");
    reason
}
