use crate::fixture;
use crate::fixture::NOW;
use countersign_core::decide::Verdict;
use countersign_core::decide::decide;
use countersign_core::hop::Evidence;
use countersign_core::hop::Facts;
use countersign_core::hop::Hop;
use countersign_core::hop::Peer;
use countersign_core::hop::RequestFault;
use countersign_core::snapshot::Revoked;
use countersign_core::snapshot::State;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::Operation;

fn joining(gateway: &str, object: &str) -> Hop {
    let mut evidence = Evidence::none();
    evidence.tls = fixture::established();
    evidence.peer = Peer::Joining {
        gateway: Name::new(gateway).unwrap(),
        token: Digest::new([3; 32]),
    };
    Hop {
        at: NOW,
        door: Name::join(),
        evidence,
        facts: Facts::default(),
        operation: Operation::named("join", object),
        service: "issuer".to_owned(),
    }
}

fn code(hop: Hop, state: &State) -> Option<Code> {
    match decide(hop, state) {
        Verdict::Allow(_) => None,
        Verdict::Deny(denial) => Some(denial.code()),
    }
}

#[test]
fn a_join_token_opens_one_thing_once_at_one_door() {
    let state = fixture::state();
    assert_eq!(code(joining("gw1", "gw1"), &state), None);
    assert_eq!(code(joining("gw1", "gw2"), &state), Some(Code::NO_EDGE));
    for (service, verb, object) in [
        ("issuer", "token", "hms-api"),
        ("issuer", "issue", "gateway/gw1"),
        ("issuer", "revoke", "own"),
        ("console", "connect", "updates"),
        ("vault", "inject", "model"),
        ("hms-api", "GET", "/reports/1"),
    ] {
        let mut hop = joining("gw1", "gw1");
        hop.service = service.to_owned();
        hop.operation = Operation::named(verb, object);
        assert_eq!(code(hop, &state), Some(Code::NO_EDGE), "{service} {verb}");
    }
    let mut elsewhere = joining("gw1", "gw1");
    elsewhere.door = Name::control();
    assert_eq!(code(elsewhere, &state), Some(Code::CERTIFICATE_ABSENT));
}

/// Everybody reaches that port: what is refused there has no claim on the ledger's reserve.
#[test]
fn whoever_is_refused_with_a_join_token_is_a_stranger() {
    let revoked = fixture::revoked(Revoked::Identity(fixture::id("countersign/gateway/gw1")));
    let mut used = joining("gw1", "gw1");
    used.facts.fault = Some(RequestFault {
        code: Code::REPLAYED,
        detail: "x".repeat(10_000),
    });
    for (hop, state, code) in [
        (used, fixture::state(), Code::REPLAYED),
        (joining("gw1", "gw1"), revoked, Code::CERTIFICATE_REVOKED),
        (joining("gw1", "gw2"), fixture::state(), Code::NO_EDGE),
    ] {
        let Verdict::Deny(denial) = decide(hop, &state) else {
            panic!("allowed");
        };
        assert_eq!(denial.code(), code);
        assert!(denial.is_stranger(), "{code}");
        let detail = denial.hop().facts.fault.as_ref().map(|it| it.detail.len());
        assert!(detail.is_none_or(|len| len <= 256), "{detail:?}");
    }
}

#[test]
fn without_a_good_token_nobody_joins() {
    let state = fixture::state();
    let mut anonymous = joining("gw1", "gw1");
    anonymous.evidence.peer = Peer::Anonymous;
    assert_eq!(code(anonymous.clone(), &state), Some(Code::TOKEN_ABSENT));
    for fault in [
        Code::TOKEN_MALFORMED,
        Code::TOKEN_SIGNATURE,
        Code::TOKEN_TIME,
        Code::REPLAYED,
    ] {
        let mut hop = anonymous.clone();
        hop.facts.fault = Some(RequestFault {
            code: fault,
            detail: "x".to_owned(),
        });
        // A token used before is refused two pillars later than one that was never any.
        let expected = if fault == Code::REPLAYED {
            hop.evidence.peer = joining("gw1", "gw1").evidence.peer;
            Code::REPLAYED
        } else {
            fault
        };
        assert_eq!(code(hop, &state), Some(expected));
    }
    // A certificate is no reason to come in here.
    let mut certified = anonymous;
    certified.evidence.peer = Peer::Certificate(std::sync::Arc::new(fixture::certificate(
        "countersign/gateway/gw1",
    )));
    assert_eq!(code(certified, &state), Some(Code::TOKEN_ABSENT));
}

#[test]
fn a_revoked_gateway_does_not_come_back_by_a_token() {
    let state = fixture::revoked(Revoked::Identity(fixture::id("countersign/gateway/gw1")));
    let refused = code(joining("gw1", "gw1"), &state);
    assert_eq!(refused, Some(Code::CERTIFICATE_REVOKED));
    assert_eq!(code(joining("gw2", "gw2"), &state), None);
}
