//! Partners: the pair of an authority and a name, at the doors that believe the authority.

use crate::fixture::*;
use countersign_core::config::Attached;
use countersign_core::decide::Verdict;
use countersign_core::decide::decide;
use countersign_core::hop::CertificateFault;
use countersign_core::hop::Hop;
use countersign_core::hop::PartnerCertificate;
use countersign_core::hop::Peer;
use countersign_core::hop::Token;
use countersign_core::pillars::Denial;
use countersign_core::pillars::least_privilege::TokenGrant;
use countersign_core::proving::Judgement;
use countersign_core::proving::prove_all;
use countersign_core::record::Context;
use countersign_core::record::Record;
use countersign_core::replay::replay;
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
use countersign_core::vocabulary::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const GLOBEX: &str = include_str!("../config/attached/partners/globex.pem");
const INITECH: &str = include_str!("../config/attached/partners/initech.pem");

/// Two partners of one authority share a door with a third; another door is the third's alone.
const CONFIG: &str = r#"
trust_domain: hms.dev.invalid
environment: dev
listeners:
  shared: { bind: "127.0.0.1:8444", peer: partner, client_ca: both.pem }
  alone:  { bind: "127.0.0.1:8445", peer: partner, client_ca: initech.pem }
  mesh:   { bind: "127.0.0.1:9443", peer: service }
identities:
  globex:  { kind: partner, certificate: { ca: globex.pem, dns: api.globex.example } }
  hooli:   { kind: partner, certificate: { ca: globex.pem, dns: api.hooli.example } }
  initech: { kind: partner, certificate: { ca: initech.pem, dns: api.initech.example } }
  orders:  {}
roles:
  readers: { members: [globex, initech], may: ["report:read"] }
services:
  reports:
    peer: service
    identity: orders
    url: "http://127.0.0.1:7001"
    operations:
      GET /v1/**: { needs: "report:read" }
      POST /v1/**: { needs: edge }
edges:
  globex  -> reports: [GET /v1/**]
  initech -> reports: [GET /v1/own/**]
  alone   -> reports: [GET /v1/door/**]
tests:
  its own report:         { as: globex, via: shared, call: GET reports/v1/7, expect: allow }
  nothing else:           { as: globex, via: shared, call: POST reports/v1/7, expect: deny micro-segmentation }
  no edge, no report:     { as: hooli, via: shared, call: GET reports/v1/7, expect: deny micro-segmentation }
  by its edge:            { as: initech, via: shared, call: GET reports/v1/own/7, expect: allow }
  by its edge elsewhere:  { as: initech, via: alone, call: GET reports/v1/own/7, expect: allow }
  by its door:            { as: initech, via: alone, call: GET reports/v1/door/7, expect: allow }
  the other door is not:  { as: initech, via: shared, call: GET reports/v1/door/7, expect: deny micro-segmentation }
"#;

fn policy() -> State {
    let files = [
        ("c.yaml", CONFIG.to_owned()),
        ("globex.pem", GLOBEX.to_owned()),
        ("initech.pem", INITECH.to_owned()),
        ("both.pem", format!("{GLOBEX}{INITECH}")),
    ];
    let files = files.map(|(name, text)| (name.to_owned(), text));
    let bundle = Bundle {
        entry: "c.yaml".to_owned(),
        files: BTreeMap::from(files),
        ..bundle()
    };
    State {
        revocations: Arc::new(Revocations::default()),
        snapshot: Arc::new(Snapshot::from_bundle(bundle).unwrap()),
    }
}

fn authority(pem: &str) -> Digest {
    let file = Attached {
        path: String::new(),
        text: pem.into(),
    };
    file.authorities()[0]
}

fn shown(pem: &str, names: &[&str]) -> PartnerCertificate {
    PartnerCertificate {
        dns_names: names.iter().map(|it| (*it).to_owned()).collect(),
        issuer: Digest::new([8; 32]),
        issuers_above: Box::default(),
        leaf: leaf("partner"),
        not_after: NOW.plus(Duration::from_secs(1800)),
        not_before: Timestamp::from_secs(NOW.as_secs() - 1800),
        root: authority(pem),
        serial: "2a".to_owned(),
    }
}

fn call(door: &str, certificate: PartnerCertificate, sub: &str, path: &str) -> Hop {
    let mut hop = mesh(
        "orders",
        door,
        "reports",
        Operation::named("GET", path),
        claims(id(sub).as_str(), "reports", &["report:read"], "partner"),
    );
    hop.evidence.peer = Peer::Partner(Arc::new(certificate));
    hop
}

fn globex() -> Hop {
    let certificate = shown(GLOBEX, &["api.globex.example"]);
    call("shared", certificate, "globex", "/v1/7")
}

fn code(hop: Hop, state: &State) -> Option<Code> {
    outcome(hop, state).map(|(code, _)| code)
}

fn edited(edit: impl FnOnce(&mut Hop)) -> Hop {
    let mut hop = globex();
    edit(&mut hop);
    hop
}

fn certificate(hop: &mut Hop) -> &mut PartnerCertificate {
    let Peer::Partner(certificate) = &mut hop.evidence.peer else {
        unreachable!()
    };
    Arc::make_mut(certificate)
}

#[test]
fn the_sentences_hold() {
    let state = policy();
    let proved = prove_all(&state);
    assert_eq!(proved.len(), 7);
    for (test, proved) in proved {
        let Judgement::Holds = proved.outcome else {
            panic!("{}: {}", test.name, proved.reason)
        };
    }
}

#[test]
fn a_partner_is_a_pair_of_authority_and_name() {
    let state = policy();
    assert_eq!(code(globex(), &state), None);
    for (pem, names) in [
        // Each half of somebody else.
        (GLOBEX, &["api.initech.example"][..]),
        (INITECH, &["api.globex.example"]),
        // What stands for many names stands for none of them, nor does a part of one.
        (GLOBEX, &["*.globex.example"]),
        (GLOBEX, &["globex.example"]),
        (GLOBEX, &["api.globex.example.evil.example"]),
        (GLOBEX, &["api.globex.example."]),
        (GLOBEX, &[]),
        // Two partners at once are neither.
        (GLOBEX, &["api.globex.example", "api.hooli.example"]),
    ] {
        let hop = call("shared", shown(pem, names), "globex", "/v1/7");
        assert_eq!(code(hop, &state), Some(Code::PARTNER_UNKNOWN), "{names:?}");
    }
    // A name that says nothing here takes nothing away.
    let more = shown(
        GLOBEX,
        &["*.globex.example", "api.globex.example", "b.example"],
    );
    assert_eq!(code(call("shared", more, "globex", "/v1/7"), &state), None);
}

#[test]
fn the_same_authority_is_told_apart_by_name() {
    let state = policy();
    let hooli = shown(GLOBEX, &["api.hooli.example"]);
    let own = call("shared", hooli, "hooli", "/v1/7");
    assert_eq!(code(own, &state), Some(Code::NO_EDGE));
}

#[test]
fn each_authority_counts_at_its_own_doors() {
    let state = policy();
    // At a door that does not believe it; a handshake there would not have got this far.
    let elsewhere = edited(|it| it.door = Name::new("alone").unwrap());
    assert_eq!(code(elsewhere, &state), Some(Code::CERTIFICATE_ENDED));
    let at_mesh = edited(|it| it.door = Name::new("mesh").unwrap());
    assert_eq!(code(at_mesh, &state), Some(Code::CERTIFICATE_UNTRUSTED));
    let at_control = edited(|it| it.door = Name::control());
    assert_eq!(code(at_control, &state), Some(Code::CERTIFICATE_UNTRUSTED));
    let ours = edited(|it| {
        it.evidence.peer = Peer::Certificate(Arc::new(crate::fixture::certificate("orders")));
    });
    assert_eq!(code(ours, &state), Some(Code::PARTNER_UNKNOWN));
    let anonymous = edited(|it| it.evidence.peer = Peer::Anonymous);
    assert_eq!(code(anonymous, &state), Some(Code::CERTIFICATE_ABSENT));
    let refused = edited(|it| {
        it.evidence.peer = Peer::Refused {
            fault: CertificateFault::Form,
            leaf: None,
        };
    });
    assert_eq!(code(refused, &state), Some(Code::CERTIFICATE_FORM));
}

#[test]
fn our_authority_does_not_speak_for_a_partner() {
    let state = policy();
    let mut posed = mesh(
        "globex",
        "mesh",
        "reports",
        Operation::named("GET", "/v1/7"),
        claims(id("globex").as_str(), "reports", &["report:read"], "globex"),
    );
    assert_eq!(code(posed.clone(), &state), Some(Code::IDENTITY_UNKNOWN));
    posed.door = Name::control();
    assert_eq!(code(posed, &state), Some(Code::IDENTITY_UNKNOWN));
}

#[test]
fn a_token_is_worth_nothing_to_another_certificate() {
    let state = policy();
    let stolen = edited(|it| certificate(it).leaf = leaf("thief"));
    assert_eq!(code(stolen, &state), Some(Code::TOKEN_BINDING));
    let none = edited(|it| it.evidence.token = Token::Absent);
    assert_eq!(code(none, &state), Some(Code::TOKEN_ABSENT));
}

#[test]
fn what_was_true_has_to_be_true_still() {
    let state = policy();
    let ended = edited(|it| certificate(it).not_after = NOW);
    assert_eq!(code(ended, &state), Some(Code::CERTIFICATE_ENDED));
    let globex_id = id("globex");
    for (what, expected) in [
        (
            Revoked::Certificate(leaf("partner")),
            Code::CERTIFICATE_REVOKED,
        ),
        (
            Revoked::Issuer(Digest::new([8; 32])),
            Code::CERTIFICATE_REVOKED,
        ),
        (
            Revoked::Identity(globex_id.clone()),
            Code::CERTIFICATE_REVOKED,
        ),
        (
            Revoked::Subject(globex_id.to_string()),
            Code::CERTIFICATE_REVOKED,
        ),
        (Revoked::Token("jti-1".to_owned()), Code::TOKEN_REVOKED),
    ] {
        let line = Revocation {
            at: NOW,
            epoch: 1,
            lifted: false,
            what: what.clone(),
        };
        let state = State {
            revocations: Arc::new(Revocations::up_to(&[line], 1)),
            ..policy()
        };
        assert_eq!(code(globex(), &state), Some(expected), "{what:?}");
    }
    // Its root has signed another authority, and that the issuer.
    let (upper, root) = (Digest::new([9; 32]), Digest::new([10; 32]));
    for key in [upper, root] {
        let line = Revocation {
            at: NOW,
            epoch: 1,
            lifted: false,
            what: Revoked::Issuer(key),
        };
        let state = State {
            revocations: Arc::new(Revocations::up_to(&[line], 1)),
            ..policy()
        };
        let below = edited(|it| certificate(it).issuers_above = [upper, root].into());
        assert_eq!(code(below, &state), Some(Code::CERTIFICATE_REVOKED));
    }
}

fn asks(door: &str, certificate: PartnerCertificate) -> Hop {
    let mut hop = call(door, certificate, "nobody", "");
    hop.evidence.token = Token::Absent;
    hop.facts.requested_service = Some("reports".to_owned());
    hop.operation = Operation::named("token", "");
    hop.service = "issuer".to_owned();
    hop
}

fn granted(hop: Hop, state: &State) -> TokenGrant {
    match decide(hop, state) {
        Verdict::Allow(pending) => pending.grant().cloned().unwrap(),
        Verdict::Deny(denial) => panic!("{}: {}", denial.code(), denial.reason()),
    }
}

#[test]
fn a_token_is_for_what_edges_of_partner_and_door_lead_to() {
    let state = policy();
    let initech = || shown(INITECH, &["api.initech.example"]);
    for door in ["shared", "alone"] {
        let grant = granted(asks(door, initech()), &state);
        assert_eq!(grant.subject, "spiffe://hms.dev.invalid/initech");
        assert_eq!(grant.scope, scopes(&["report:read"]));
        assert_eq!(grant.lifetime, Duration::from_secs(60));
        assert_eq!((grant.act.len(), grant.ceil.len()), (0, 0));
    }
    let hooli = shown(GLOBEX, &["api.hooli.example"]);
    assert_eq!(code(asks("shared", hooli), &state), Some(Code::NO_EDGE));
    let nobody = shown(GLOBEX, &["nobody.example"]);
    let refused = code(asks("shared", nobody), &state);
    assert_eq!(refused, Some(Code::PARTNER_UNKNOWN));
    // Its own tokens it may revoke, and nobody else's.
    let mut revoke = asks("shared", initech());
    revoke.operation = Operation::named("revoke", "own");
    assert_eq!(code(revoke.clone(), &state), None);
    revoke.operation = Operation::named("revoke", "token");
    assert_eq!(code(revoke, &state), Some(Code::NO_EDGE));
}

fn denied(hop: Hop, state: &State) -> Box<Denial> {
    match decide(hop, state) {
        Verdict::Deny(denial) => denial,
        Verdict::Allow(_) => panic!("allowed"),
    }
}

#[test]
fn the_record_says_which_partner_and_is_decided_again() {
    let state = policy();
    let mut hop = globex();
    hop.operation = Operation::named("POST", "/v1/7");
    let denial = denied(hop, &state);
    let bytes = denial.record(&Context::default()).to_bytes();
    assert!(countersign_ledger::canonical::is_canonical(&bytes));
    let record = Record::from_bytes(&bytes).unwrap();
    assert_eq!(record.principal.id, "spiffe://hms.dev.invalid/globex");
    assert_eq!(record.principal.kind, "partner");
    assert_eq!(record.principal.cert_sha256, Some(leaf("partner")));
    assert_eq!(record.principal.on_behalf_of, None);
    assert!(replay(&record, &state, true).unwrap().same());
    let stranger = edited(|it| certificate(it).dns_names = vec!["x.example".to_owned()]);
    let denial = denied(stranger, &state);
    let record = denial.record(&Context::default());
    assert_eq!(record.principal.id, "partner:x.example");
    assert_eq!(record.code, Some(Code::PARTNER_UNKNOWN));
}

/// Its authority vouches for more names than anybody reads, as long as they get.
#[test]
fn a_certificate_that_is_no_partner_is_a_strangers_and_kept_short() {
    let state = policy();
    let long = "x".repeat(5000);
    let mut many: Vec<String> = (0..200).map(|it| format!("{it}.{long}")).collect();
    many.push("api.globex.example".to_owned());
    many.push("api.hooli.example".to_owned());
    let two = shown(GLOBEX, &many.iter().map(String::as_str).collect::<Vec<_>>());
    many.truncate(200);
    let none = shown(GLOBEX, &many.iter().map(String::as_str).collect::<Vec<_>>());
    for shown in [two, none] {
        let Verdict::Deny(denial) = decide(call("shared", shown, "globex", "/v1/7"), &state) else {
            panic!("admitted");
        };
        assert_eq!(denial.code(), Code::PARTNER_UNKNOWN);
        assert!(denial.is_stranger());
        let bytes = denial.record(&Context::default()).to_bytes();
        assert!(bytes.len() < 8 << 10, "{}", bytes.len());
        // What is kept is refused for the same.
        let record = Record::from_bytes(&bytes).unwrap();
        assert!(replay(&record, &state, true).unwrap().same());
    }
    // Who is a partner is no stranger, whatever it may not do.
    let mut hop = globex();
    hop.evidence.token = Token::Absent;
    let Verdict::Deny(denial) = decide(hop, &state) else {
        panic!("admitted");
    };
    assert!(!denial.is_stranger(), "{}", denial.code());
}
