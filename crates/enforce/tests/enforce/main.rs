//! The enforcement point: what is admitted is recorded first, what is revoked ends, what can't be
//! recorded is refused.
#![expect(clippy::panic, clippy::unwrap_used, reason = "tests")]

mod fixture;
mod freshness;
mod ledger;
mod observing;
mod rates;
mod strangers;
mod streams;

use countersign_core::config::Window;
use countersign_core::hop::Token;
use countersign_core::pillars::least_privilege::Demand;
use countersign_core::pillars::least_privilege::Outcome;
use countersign_core::record::Ending;
use countersign_core::record::Kind;
use countersign_core::record::Record;
use countersign_core::record::Status;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::Pillar;
use countersign_enforce::Ask;
use countersign_enforce::EnforcementPoint;
use fixture::Setup;
use fixture::refused;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test]
async fn an_admission_has_its_record_before_anybody_forwards() {
    let setup = Setup::new();
    let admitted = setup.point.enforce(setup.summary()).await.unwrap();
    let record = setup.record(&admitted.admission().receipt());
    assert_eq!(
        (record.kind, record.status),
        (Kind::Decision, Status::Success)
    );
    assert_eq!(record.principal.on_behalf_of.as_deref(), Some("dev:alice"));
    assert_eq!(record.way.as_deref(), Some("frontend -> hms-api"));
    assert_eq!(setup.point.open(), 1);
}

#[tokio::test]
async fn a_completion_follows_and_says_how_it_ended() {
    let setup = Setup::new();
    let admitted = setup.point.enforce(setup.summary()).await.unwrap();
    let receipt = admitted.admission().receipt().to_string();
    let other = admitted.clone();
    admitted.received(10);
    admitted.sent(20);
    admitted.answered(200);
    admitted.ended(Ending::Done);
    drop(admitted);
    assert_eq!(
        setup.completion(&receipt).await,
        None,
        "one clone is still there"
    );
    drop(other);
    let completion = setup.wait_for_completion(&receipt).await;
    assert_eq!(
        (completion.bytes_in, completion.bytes_out, completion.status),
        (10, 20, 200)
    );
    assert_eq!(completion.ending, Ending::Done);
    assert_eq!(setup.point.open(), 0);
}

#[tokio::test]
async fn dropped_without_a_word_is_aborted() {
    let setup = Setup::new();
    let admitted = setup.point.enforce(setup.summary()).await.unwrap();
    let receipt = admitted.admission().receipt().to_string();
    drop(admitted);
    assert_eq!(
        setup.wait_for_completion(&receipt).await.ending,
        Ending::Aborted
    );
}

#[tokio::test]
async fn each_refusal_has_its_record() {
    let setup = Setup::new();
    let mut ask = setup.summary();
    ask.operation.object = "/nothing".into();
    let refusal = setup.point.enforce(ask).await.unwrap_err();
    refused(&setup, &refusal, Pillar::MicroSegmentation, Code::NO_EDGE);
    let mut ask = setup.summary();
    ask.evidence.token = Token::Absent;
    let refusal = setup.point.enforce(ask).await.unwrap_err();
    refused(&setup, &refusal, Pillar::Identity, Code::TOKEN_ABSENT);
    assert_eq!(
        (setup.point.counts().admitted, setup.point.counts().refused),
        (0, 2)
    );
}

#[tokio::test]
async fn decisions_are_records() {
    let setup = Setup::new();
    for turn in 0..20 {
        let mut ask = setup.summary();
        if turn % 3 == 0 {
            ask.operation.object = "/nothing".into();
        }
        let _ = setup.point.enforce(ask).await;
    }
    let counts = setup.point.counts();
    let decisions = setup
        .records()
        .iter()
        .filter(|(_, it)| it.kind == Kind::Decision)
        .count();
    assert_eq!(counts.admitted + counts.refused, 20);
    assert_eq!(decisions, 20);
}

#[tokio::test]
async fn what_is_too_large_for_a_record_is_refused_on_one() {
    let setup = Setup::new();
    let mut large = setup.summary();
    large.operation.object = format!("/{}", "a".repeat(70_000));
    let refusal = setup.point.enforce(large).await.unwrap_err();
    let record = setup.record(&refusal.receipt.unwrap());
    assert_eq!(
        (refusal.code, record.code),
        (Code::NO_EDGE, Some(Code::NO_EDGE))
    );
    assert!(record.hop.is_none() && record.reason.unwrap().len() <= 256);
    let mut allowed = setup.summary();
    let Token::Verified(token) = &mut allowed.evidence.token else {
        panic!("no token");
    };
    Arc::make_mut(token).claims.groups = vec!["dev/x".repeat(1000); 20];
    let refusal = setup.point.enforce(allowed).await.unwrap_err();
    let record = setup.record(&refusal.receipt.unwrap());
    assert_eq!(
        (refusal.code, record.code, record.pillar),
        (
            Code::LEDGER_REFUSED,
            Some(Code::LEDGER_REFUSED),
            Some(Pillar::Audit)
        )
    );
}

#[tokio::test]
async fn numbers_out_of_bodies_stay_exact() {
    let setup = Setup::new();
    let mut ask = setup.chat();
    ask.facts.max_output_tokens = Some(u64::MAX);
    let refusal = setup.point.enforce(ask).await.unwrap_err();
    let record = refused(&setup, &refusal, Pillar::LeastPrivilege, Code::BUDGET_SPENT);
    let exact = (1 << 53) - 1;
    assert_eq!(record.hop.unwrap().facts.max_output_tokens, Some(exact));
    assert_eq!(record.reservations.first().unwrap().demand.amount, exact);
}

#[tokio::test]
async fn a_full_ledger_refuses_and_recovers() {
    let setup = Setup::with_room(24 << 10, 8 << 10);
    let mut admitted = 0;
    let refusal = loop {
        match setup.point.enforce(setup.summary()).await {
            Ok(it) => {
                admitted += 1;
                std::mem::forget(it);
            }
            Err(refusal) => break refusal,
        }
        assert!(admitted < 100);
    };
    assert!(admitted > 3);
    assert_eq!(
        (refusal.code, refusal.receipt),
        (Code::LEDGER_REFUSED, None)
    );
    assert_eq!(refusal.code.status(), 503);
    assert_eq!(refusal.retry_after, Some(Duration::from_secs(1)));
    assert_eq!(setup.point.counts().unrecorded, 1);
    // What was set aside for a call that could not be recorded is given back.
    for _ in 0..400 {
        let refusal = setup.point.enforce(setup.chat()).await.unwrap_err();
        assert_eq!(refusal.code, Code::LEDGER_REFUSED, "{}", refusal.reason);
    }
}

#[tokio::test]
async fn spending_survives_a_restart() {
    let setup = Setup::new();
    let demand = |amount| Demand {
        amount,
        budget: Name::new("llm").unwrap(),
        key: "dev:alice".into(),
        limit: 50_000_000,
        window: Window::Day,
    };
    let mut record = Record::event("x", setup.point.now(), "x", setup.resource());
    record.reservations = Cow::Owned(vec![Outcome {
        demand: demand(49_999_990),
        granted: true,
        spent: 0,
    }]);
    setup.point.restore_spending(&record, None);
    let refusal = setup.point.enforce(setup.chat()).await.unwrap_err();
    let record = refused(&setup, &refusal, Pillar::LeastPrivilege, Code::BUDGET_SPENT);
    assert_eq!(record.reservations.len(), 1);
    assert!(!record.reservations.first().unwrap().granted);
}

#[tokio::test]
async fn concurrent_calls_never_overdraw_and_unused_money_comes_back() {
    let setup = Setup::new();
    // Each call sets aside at most $0.164; the budget is $50.
    let tasks: Vec<_> = (0..400)
        .map(|_| tokio::spawn(calls(setup.point.clone(), setup.chat())))
        .collect();
    let mut open = Vec::new();
    for task in tasks {
        open.extend(task.await.unwrap());
    }
    let reserved = |it: &countersign_enforce::Admitted| {
        it.admission().reserved().first().unwrap().demand.amount
    };
    let total: u64 = open.iter().map(reserved).sum();
    assert!(total <= 50_000_000, "{total}");
    assert!(setup.point.enforce(setup.chat()).await.is_err());
    open.first().unwrap().settle(0);
    assert!(setup.point.enforce(setup.chat()).await.is_ok());
}

async fn calls(
    point: EnforcementPoint,
    ask: Ask<'static>,
) -> Option<countersign_enforce::Admitted> {
    point.enforce(ask).await.ok()
}

#[test]
fn the_hot_types_stay_small() {
    let size = size_of::<Ask<'static>>();
    assert!(size <= 640, "{size}");
}
