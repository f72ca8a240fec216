//! Rate limits: counted after everything that can refuse, together with budgets or not at all.

use crate::fixture::Setup;
use crate::fixture::refused;
use countersign_core::hop::Token;
use countersign_core::record::Charged;
use countersign_core::record::Limit;
use countersign_core::record::RateResult;
use countersign_core::record::Record;
use countersign_core::replay::replay;
use countersign_core::snapshot::Snapshot;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Pillar;
use countersign_enforce::Admitted;
use countersign_enforce::Ask;
use countersign_enforce::EnforcementPoint;
use countersign_enforce::Refusal;
use std::sync::Arc;
use std::time::Duration;

const ANALYST: &str =
    "roles: { analyst: { members: [user:alice], may: [\"ai:invoke-summary\", \"llm:chat\"] } }";
const MESH: &str = "mesh: { bind: \"127.0.0.1:9443\", peer: service }";

/// The policy in force with some of its lines written otherwise.
fn with(setup: &Setup, edits: &[(&str, &str)]) {
    let mut bundle = setup.point.snapshot().bundle().clone();
    for text in bundle.files.values_mut() {
        for (from, to) in edits {
            assert!(text.contains(from), "{from}");
            *text = text.replace(from, to);
        }
    }
    let next = Arc::new(Snapshot::from_bundle(bundle).unwrap());
    setup.point.install(&next);
    setup.beat();
}

/// A point where alice has a tier.
fn tiered(setup: Setup, rate: &str) -> Setup {
    let roles = format!(
        "tiers: {{ pro: {rate} }}\n{}",
        ANALYST.replace("may:", "tier: pro, may:")
    );
    with(&setup, &[(ANALYST, &roles)]);
    setup
}

async fn admitted(setup: &Setup, ask: Ask<'static>) -> Admitted {
    let enforced = setup.point.enforce(ask).await;
    enforced.unwrap_or_else(|refusal| panic!("{}", refusal.reason))
}

async fn exceeded(setup: &Setup, ask: Ask<'static>) -> (Refusal, Record<'static>) {
    let refusal = setup.point.enforce(ask).await.unwrap_err();
    let (pillar, code) = (Pillar::LeastPrivilege, Code::RATE_EXCEEDED);
    let record = refused(setup, &refusal, pillar, code);
    (refusal, record)
}

fn told(rates: &[Charged]) -> Vec<(String, &str, RateResult, u32)> {
    let tell = rates.iter().map(|it| {
        let Charged { charge, .. } = it;
        (
            charge.limit.to_string(),
            &*charge.key,
            it.result,
            it.remaining,
        )
    });
    tell.collect()
}

#[tokio::test]
async fn who_calls_too_often_is_refused_by_name_until_there_is_room() {
    let setup = tiered(Setup::new(), "2/min");
    for left in [1, 0] {
        let admitted = admitted(&setup, setup.summary()).await;
        let record = setup.record(&admitted.admission().receipt());
        let tier = "tier `pro`".to_owned();
        let expected = [(tier, "dev:alice", RateResult::Granted, left)];
        assert_eq!(told(&record.rates), expected);
        assert_eq!(told(admitted.admission().charged()), expected);
        assert!(replay(&record, &setup.point.state(), true).unwrap().same());
    }
    setup.advance(Duration::from_secs(10));
    setup.beat();
    let (refusal, record) = exceeded(&setup, setup.summary()).await;
    assert_eq!(refusal.code.status(), 429);
    assert_eq!(refusal.retry_after, Some(Duration::from_secs(20)));
    let limit = refusal.limit.unwrap();
    assert_eq!(*limit, *record.rates.first().unwrap());
    assert_eq!((limit.result, limit.remaining), (RateResult::Exceeded, 0));
    // The record is enough to say the same again: nothing is counted for it.
    let replayed = replay(&record, &setup.point.state(), true).unwrap();
    assert_eq!(replayed.replayed, Some(Code::RATE_EXCEEDED));
    assert_eq!(replayed.reason.as_deref(), Some(refusal.reason.as_str()));
    setup.advance(Duration::from_secs(20));
    setup.beat();
    admitted(&setup, setup.summary()).await;
    exceeded(&setup, setup.summary()).await;
}

#[tokio::test]
async fn what_else_is_refused_is_not_counted() {
    let setup = tiered(Setup::new(), "2/min");
    for _ in 0..20 {
        let mut nowhere = setup.summary();
        nowhere.operation.object = "/nothing".into();
        let refusal = setup.point.enforce(nowhere).await.unwrap_err();
        refused(&setup, &refusal, Pillar::MicroSegmentation, Code::NO_EDGE);
        let mut other = setup.chat();
        other.facts.model = Some("o1".into());
        let refusal = setup.point.enforce(other).await.unwrap_err();
        refused(
            &setup,
            &refusal,
            Pillar::LeastPrivilege,
            Code::MODEL_REFUSED,
        );
    }
    admitted(&setup, setup.summary()).await;
    admitted(&setup, setup.summary()).await;
    // Nor is what it is refused for itself: the first room is the next caller's.
    for _ in 0..10 {
        exceeded(&setup, setup.summary()).await;
    }
    setup.advance(Duration::from_secs(30));
    setup.beat();
    admitted(&setup, setup.summary()).await;
}

#[tokio::test]
async fn budgets_and_rates_are_taken_together_or_not_at_all() {
    let setup = tiered(Setup::new(), "3/min");
    // Over the budget: the rate stays whole.
    for _ in 0..20 {
        let mut dear = setup.chat();
        dear.facts.max_output_tokens = Some(u64::MAX);
        let refusal = setup.point.enforce(dear).await.unwrap_err();
        let record = refused(&setup, &refusal, Pillar::LeastPrivilege, Code::BUDGET_SPENT);
        assert_eq!((record.rates.len(), refusal.limit), (1, None));
        assert_eq!(refusal.retry_after, None);
    }
    let mut amount = 0;
    let mut open = Vec::new();
    for before in 0..3 {
        let admitted = admitted(&setup, setup.chat()).await;
        let outcome = admitted.admission().reserved().first().unwrap().clone();
        amount = outcome.demand.amount;
        assert_eq!(outcome.spent, before * amount);
        open.push(admitted);
    }
    // Over the rate: the budget stays as it is. $50 would pay for some 300 of these.
    for _ in 0..400 {
        let refusal = setup.point.enforce(setup.chat()).await.unwrap_err();
        assert_eq!(refusal.code, Code::RATE_EXCEEDED, "{}", refusal.reason);
    }
    setup.advance(Duration::from_secs(1));
    setup.beat();
    let (_, record) = exceeded(&setup, setup.chat()).await;
    assert_eq!(record.reservations.first().unwrap().spent, 3 * amount);
}

#[tokio::test]
async fn what_was_refused_for_its_rate_is_not_spent_after_a_restart() {
    let setup = tiered(Setup::new(), "1/min");
    let first = admitted(&setup, setup.chat()).await;
    let (_, refused) = exceeded(&setup, setup.chat()).await;
    assert!(refused.reservations.iter().all(|it| it.granted));
    assert!(!refused.reservations.is_empty());
    let spent = async |records: &[&Record<'_>]| {
        let next = Setup::new();
        for record in records {
            next.point.restore_spending(record, None);
        }
        let admitted = admitted(&next, next.chat()).await;
        admitted.admission().reserved().first().unwrap().spent
    };
    assert_eq!(spent(&[&refused]).await, 0);
    let record = setup.record(&first.admission().receipt());
    let amount = first.admission().reserved().first().unwrap().demand.amount;
    assert_eq!(spent(&[&record, &refused]).await, amount);
}

#[tokio::test]
async fn who_calls_far_too_often_is_counted_and_does_not_fill_the_ledger() {
    let setup = tiered(Setup::with_room(256 << 10, 192 << 10), "1/min");
    admitted(&setup, setup.summary()).await;
    let mut kept = 0;
    for second in 0..30 {
        for _ in 0..50 {
            let refusal = setup.point.enforce(setup.summary()).await.unwrap_err();
            assert_eq!(refusal.code, Code::RATE_EXCEEDED, "{}", refusal.reason);
            assert!(refusal.limit.is_some() && refusal.retry_after.is_some());
            kept += usize::from(refusal.receipt.is_some());
        }
        setup.advance(Duration::from_secs(1));
        setup.beat();
        if second == 0 {
            assert_eq!(kept, 10);
            let wanted = |it: &Record<'_>| it.event_type == "authz.refusals.counted";
            let counted = setup.wait_for(wanted).await;
            assert_eq!(counted.metadata.get("refusals").unwrap(), "40");
            assert_eq!(counted.code, Some(Code::RATE_EXCEEDED));
            assert_eq!(counted.principal.id, "spiffe://hms.dev.invalid/frontend");
        }
    }
    // The reserve is left to whoever may call.
    assert!(kept < 30 * 10, "{kept}");
    setup.advance(Duration::from_secs(31));
    setup.beat();
    admitted(&setup, setup.summary_at_now()).await;
}

#[tokio::test]
async fn the_wall_clock_neither_refills_nor_starves() {
    let setup = tiered(Setup::new(), "1/min");
    admitted(&setup, setup.summary()).await;
    setup.step(Duration::from_secs(50));
    setup.beat();
    exceeded(&setup, setup.summary_at_now()).await;
    setup.step_back(Duration::from_secs(100));
    setup.beat();
    setup.advance(Duration::from_secs(60));
    setup.beat();
    admitted(&setup, setup.summary_at_now()).await;
}

#[tokio::test]
async fn concurrent_calls_are_counted_exactly() {
    let setup = tiered(Setup::on_disk(), "50/min");
    let calls = (0..200).map(|_| tokio::spawn(call(setup.point.clone(), setup.summary())));
    let mut admitted = 0;
    for call in calls.collect::<Vec<_>>() {
        admitted += u32::from(call.await.unwrap());
    }
    assert_eq!(admitted, 50);
}

async fn call(point: EnforcementPoint, ask: Ask<'static>) -> bool {
    point.enforce(ask).await.is_ok()
}

#[tokio::test]
async fn what_the_ledger_does_not_take_is_not_counted() {
    let setup = tiered(Setup::with_room(24 << 10, 8 << 10), "200/min");
    let mut open = Vec::new();
    let refusal = loop {
        match setup.point.enforce(setup.summary()).await {
            Ok(admitted) => open.push(admitted),
            Err(refusal) => break refusal,
        }
        assert!(open.len() < 100);
    };
    assert_eq!(
        (refusal.code, refusal.receipt),
        (Code::LEDGER_REFUSED, None)
    );
    for _ in 0..400 {
        let refusal = setup.point.enforce(setup.summary()).await.unwrap_err();
        assert_eq!(refusal.code, Code::LEDGER_REFUSED, "{}", refusal.reason);
    }
}

#[tokio::test]
async fn each_subject_has_the_best_of_its_tiers() {
    let setup = Setup::new();
    let roles = "tiers: { free: 1/min, bursty: 1/min burst 2, pro: 3/min }
roles:
  analyst: { members: [user:alice, user:bob, user:carol], tier: free, may: [\"ai:invoke-summary\", \"llm:chat\"] }
  paying:  { members: [user:bob], tier: bursty, may: [\"x:y\"] }
  senior:  { includes: [partner], members: [user:alice] }
  partner: { tier: pro, may: [\"x:y\"] }
";
    with(&setup, &[(ANALYST, roles)]);
    let of = |who: &str| {
        let mut ask = setup.summary();
        let Token::Verified(token) = &mut ask.evidence.token else {
            panic!("no token");
        };
        Arc::make_mut(token).claims.sub = who.to_owned();
        ask
    };
    for (who, tier, calls) in [
        ("dev:carol", "free", 1),
        ("dev:bob", "bursty", 2),
        ("dev:alice", "pro", 3),
    ] {
        for _ in 0..calls {
            admitted(&setup, of(who)).await;
        }
        let (refusal, _) = exceeded(&setup, of(who)).await;
        let limit = refusal.limit.unwrap().charge.limit;
        assert_eq!(limit.name().as_str(), tier, "{who}");
    }
}

#[tokio::test]
async fn a_listener_counts_each_caller_and_an_operation_each_subject() {
    let setup = Setup::new();
    let limited = MESH.replace("peer:", "rate: 2/min, peer:");
    let rule = "POST /ai/summary: { needs: \"ai:invoke-summary\" }";
    let slow = rule.replace("\" }", "\", rate: 1/min }");
    with(&setup, &[(MESH, &limited), (rule, &slow)]);
    let first = admitted(&setup, setup.summary()).await;
    let limits: Vec<_> = told(first.admission().charged())
        .into_iter()
        .map(|(limit, key, _, left)| (limit, key.to_owned(), left))
        .collect();
    let listener = "the rate of listener `mesh`".to_owned();
    let operation = "the rate of `POST /ai/summary` of service `hms-api`".to_owned();
    assert_eq!(
        limits,
        [
            (listener, "frontend".to_owned(), 1),
            (operation, "dev:alice".to_owned(), 0)
        ]
    );
    // The operation is exceeded, so the listener does not count it either.
    for _ in 0..5 {
        let (refusal, record) = exceeded(&setup, setup.summary()).await;
        let limit = refusal.limit.unwrap().charge.limit;
        assert!(matches!(limit, Limit::Operation { .. }), "{limit}");
        assert_eq!(record.rates.len(), 2);
    }
    // Another caller at the same door, for the same person.
    admitted(&setup, setup.chat()).await;
    admitted(&setup, setup.chat()).await;
    let (refusal, _) = exceeded(&setup, setup.chat()).await;
    let charge = refusal.limit.unwrap().charge;
    assert_eq!(
        (charge.limit.name().as_str(), &*charge.key),
        ("mesh", "hms-api")
    );
}

#[tokio::test]
async fn a_reload_gives_nobody_a_fresh_burst() {
    let setup = tiered(Setup::new(), "2/min");
    admitted(&setup, setup.summary()).await;
    admitted(&setup, setup.summary()).await;
    exceeded(&setup, setup.summary()).await;
    with(&setup, &[("pro: 2/min", "pro: 60/min")]);
    exceeded(&setup, setup.summary()).await;
    // What was exceeded goes on at the new rate.
    setup.advance(Duration::from_secs(1));
    setup.beat();
    admitted(&setup, setup.summary()).await;
    exceeded(&setup, setup.summary()).await;
    // A what-if on another policy asks only what that policy counts.
    let record = setup.records().pop().unwrap().1;
    with(&setup, &[("tier: pro, ", "")]);
    let replayed = replay(&record, &setup.point.state(), false).unwrap();
    assert_eq!(
        (replayed.recorded, replayed.replayed),
        (Some(Code::RATE_EXCEEDED), None)
    );
    admitted(&setup, setup.summary()).await;
}
