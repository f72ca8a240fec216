//! Rate limits: which a call counts against, for whom, and what their outcome makes of it.

use crate::fixture::*;
use countersign_core::decide::Verdict;
use countersign_core::decide::decide;
use countersign_core::hop::Hop;
use countersign_core::hop::Token;
use countersign_core::pillars::least_privilege::Charge;
use countersign_core::pillars::least_privilege::Pending;
use countersign_core::pillars::least_privilege::Reservation;
use countersign_core::record::Charged;
use countersign_core::record::Context;
use countersign_core::record::RateResult;
use countersign_core::record::Record;
use countersign_core::replay::replay;
use countersign_core::snapshot::Snapshot;
use countersign_core::snapshot::State;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Operation;
use countersign_ledger::canonical;
use std::sync::Arc;
use std::time::Duration;

const WEB: &str = "login: dev, routes:";
const ROLES: &str = "roles:\n";
const MANAGER: &str =
    "manager: { includes: [analyst], members: [user:bob], may: [\"report:write\"] }";
const SUMMARY: &str = "POST /ai/summary: { needs: \"ai:invoke-summary\" }";

fn with(edits: &[(&str, &str)]) -> State {
    let mut bundle = bundle();
    for text in bundle.files.values_mut() {
        for (from, to) in edits {
            assert!(text.contains(from), "{from}");
            *text = text.replace(from, to);
        }
    }
    State {
        snapshot: Arc::new(Snapshot::from_bundle(bundle).unwrap()),
        ..state()
    }
}

fn limited() -> State {
    with(&[
        (WEB, "rate: 9/s, login: dev, routes:"),
        (ROLES, "tiers: { pro: 100/min burst 150 }\nroles:\n"),
        ("analyst: {", "analyst: { tier: pro,"),
        (
            SUMMARY,
            "POST /ai/summary: { needs: \"ai:invoke-summary\", rate: 5/h }\n      \"POST /ai/*\": { needs: edge, rate: 7/day }",
        ),
    ])
}

fn pending(hop: Hop, state: &State) -> Pending {
    match decide(hop, state) {
        Verdict::Allow(pending) => *pending,
        Verdict::Deny(denial) => panic!("{}", denial.reason()),
    }
}

fn told(charges: &[Charge]) -> Vec<String> {
    let tell = charges.iter().map(|it| {
        let Charge {
            burst,
            count,
            key,
            limit,
            window,
        } = it;
        format!("{limit}: {count} in {window} s, {burst} at once, of {key}")
    });
    tell.collect()
}

#[test]
fn listener_tier_and_every_operation() {
    let state = limited();
    let asked = Operation::named("POST", "/ai/summary");
    let by_browser = pending(browser(asked, &["ai:invoke-summary"]), &state);
    let of_alice = [
        "tier `pro`: 100 in 60 s, 150 at once, of dev:alice",
        "the rate of `POST /ai/summary` of service `hms-api`: 5 in 3600 s, 5 at once, of dev:alice",
        "the rate of `POST /ai/*` of service `hms-api`: 7 in 86400 s, 7 at once, of dev:alice",
    ];
    let door = "the rate of listener `web`: 9 in 1 s, 9 at once, of dev:alice";
    let expected: Vec<_> = [door].into_iter().chain(of_alice).collect();
    assert_eq!(told(by_browser.charges()), expected);
    // The other door has no rate, and who calls there for alice counts for alice.
    assert_eq!(told(pending(summary(), &state).charges()), of_alice);
    assert_eq!(
        told(pending(summary(), &crate::fixture::state()).charges()),
        <[&str; 0]>::default()
    );
    // Our own services have no rates of their own, and no tier.
    assert_eq!(
        told(pending(vault_read(), &state).charges()),
        <[&str; 0]>::default()
    );
}

#[test]
fn who_asks_the_issuer_at_a_listener_counts_there() {
    let mesh_door = "mesh: { bind: \"127.0.0.1:9443\", peer: service }";
    let state = with(&[(mesh_door, &mesh_door.replace("peer:", "rate: 1/min, peer:"))]);
    let asked = |door: &str| {
        let mut hop = mesh(
            "frontend",
            door,
            "issuer",
            Operation::named("token", ""),
            claims("", "", &[], "frontend"),
        );
        hop.evidence.token = Token::Absent;
        hop.facts.requested_service = Some("hms-api".to_owned());
        hop
    };
    let charges = pending(asked("mesh"), &state).charges().to_vec();
    let listener = "the rate of listener `mesh`: 1 in 60 s, 1 at once, of frontend";
    assert_eq!(told(&charges), [listener]);
    let unanswered = pending(asked("mesh"), &state).complete(Reservation::default());
    assert_eq!(unanswered.unwrap_err().code(), Code::RATE_EXCEEDED);
    let mut exceeded: Vec<Charged> = charges.into_iter().map(Charge::first).collect();
    exceeded[0].result = RateResult::Exceeded;
    let reservation = Reservation::default().counted(exceeded);
    let refused = pending(asked("mesh"), &state).complete(reservation);
    let denial = refused.unwrap_err();
    let record = denial.record(&Context::default()).to_bytes();
    let record = Record::from_bytes(&record).unwrap();
    assert_eq!(record.code, Some(Code::RATE_EXCEEDED));
    // The server's own door has no rate.
    let none = <[&str; 0]>::default();
    assert_eq!(told(pending(asked("control"), &state).charges()), none);
}

#[test]
fn a_mesh_door_counts_the_workload_and_not_whom_it_speaks_for() {
    let mesh = "mesh: { bind: \"127.0.0.1:9443\", peer: service }";
    let state = with(&[(mesh, &mesh.replace("peer:", "rate: 1/min, peer:"))]);
    let told = told(pending(summary(), &state).charges());
    assert_eq!(
        told,
        ["the rate of listener `mesh`: 1 in 60 s, 1 at once, of frontend"]
    );
}

#[test]
fn every_charge_is_answered_and_granted_or_the_call_is_refused() {
    let state = limited();
    let charges = pending(summary(), &state).charges().to_vec();
    let granted: Vec<Charged> = charges.into_iter().map(Charge::first).collect();
    let complete = |charged: Vec<Charged>| {
        let reservation = Reservation::default().counted(charged);
        pending(summary(), &state).complete(reservation)
    };
    assert!(complete(granted.clone()).is_ok());
    let refused = |charged: Vec<Charged>| {
        let denial = complete(charged).unwrap_err();
        assert_eq!(denial.code(), Code::RATE_EXCEEDED);
        denial
    };
    refused(Vec::new());
    refused(granted[1..].to_vec());
    let mut other = granted.clone();
    other[0].charge.key = "dev:bob".into();
    assert_eq!(refused(other).exceeded(), None);
    let mut exceeded = granted.clone();
    for (at, wait) in [(0, 2_000), (2, 30_500)] {
        exceeded[at].result = RateResult::Exceeded;
        exceeded[at].reset_ms = wait;
    }
    let denial = refused(exceeded.clone());
    assert_eq!(
        denial.reason(),
        "tier `pro` allows 100 calls in 60 s and 150 at once, and `dev:alice` may call again in 2000 ms"
    );
    assert_eq!(denial.charged(), exceeded);
    let longest = denial.exceeded().unwrap();
    assert_eq!(longest.reset(), Duration::from_millis(30_500));
    let mut crowded = granted;
    crowded[1].result = RateResult::Crowded;
    let denial = refused(crowded);
    assert_eq!(
        denial.reason(),
        "too many callers to count another, `dev:alice`, for the rate of `POST /ai/summary` of service `hms-api`"
    );
}

#[test]
fn records_of_what_was_counted_are_canonical_and_replay() {
    let state = limited();
    let context = Context::default();
    let charges = pending(summary(), &state).charges().to_vec();
    let granted: Vec<Charged> = charges.into_iter().map(Charge::first).collect();
    let mut exceeded = granted.clone();
    exceeded[1].result = RateResult::Exceeded;
    for (charged, code) in [(granted, None), (exceeded, Some(Code::RATE_EXCEEDED))] {
        let reservation = Reservation::default().counted(charged.clone());
        let bytes = match pending(summary(), &state).complete(reservation) {
            Ok(proof) => proof.seal(&context).record().unwrap().to_vec(),
            Err(denial) => denial.record(&context).to_bytes(),
        };
        assert!(canonical::is_canonical(&bytes));
        let record = Record::from_bytes(&bytes).unwrap();
        assert_eq!((&*record.rates, record.code), (charged.as_slice(), code));
        let replayed = replay(&record, &state, true).unwrap();
        assert_eq!((replayed.recorded, replayed.replayed), (code, code));
        // Under a policy that limits less, what was exceeded there is not.
        let free = crate::fixture::state();
        assert_eq!(replay(&record, &free, false).unwrap().replayed, None);
    }
    // And where more is limited than was counted then, nobody is refused for it.
    let proof = pending(summary(), &crate::fixture::state()).complete(Reservation::default());
    let bytes = proof.unwrap().seal(&context).record().unwrap().to_vec();
    let record = Record::from_bytes(&bytes).unwrap();
    assert_eq!(replay(&record, &state, false).unwrap().replayed, None);
}

#[test]
fn of_several_tiers_the_highest_average_counts_then_the_largest_burst() {
    let tier = |who: &str, groups: &[&str], state: &State| {
        let mut hop = summary();
        edit_claims(&mut hop, |claims| {
            claims.sub = who.to_owned();
            claims.groups = groups.iter().map(|it| (*it).to_owned()).collect();
        });
        let pending = pending(hop, state);
        pending
            .charges()
            .first()
            .map(|it| it.limit.name().to_string())
    };
    let tiers =
        "tiers: { low: 60/min burst 500, daily: 2000/h, same: 1/s burst 500, high: 2/s burst 1 }\n";
    let state = with(&[
        (
            ROLES,
            &format!(
                "{tiers}roles:\n  vip: {{ members: [user:bob, group:vips], tier: high }}\n  calm: {{ members: [user:carol, user:dan], tier: same, may: [\"ai:invoke-summary\"] }}\n  low: {{ members: [user:dan, group:vips], tier: low }}\n"
            ),
        ),
        ("analyst: {", "analyst: { tier: low,"),
        (
            MANAGER,
            "manager: { includes: [analyst, daily], members: [user:bob, user:erin], may: [\"report:write\"] }\n  daily: { tier: daily }",
        ),
    ]);
    for (who, groups, expected) in [
        ("dev:alice", &[][..], Some("low")),
        // By a role that gives nothing else.
        ("dev:bob", &[], Some("high")),
        ("dev:carol", &[], Some("same")),
        // Equal: the first of `tiers`.
        ("dev:dan", &[], Some("low")),
        // Own role none, of included ones the 60/min and not the 2000/h.
        ("dev:erin", &[], Some("low")),
        // By groups alone, beside a user's own.
        ("dev:frank", &["dev/analysts", "dev/vips"], Some("high")),
        ("dev:alice", &["dev/unknown"], Some("low")),
    ] {
        let found = tier(who, groups, &state);
        assert_eq!(found.as_deref(), expected, "{who} {groups:?}");
    }
}
