//! What is known, and how lately it was heard.

use crate::fixture::Setup;
use crate::fixture::refused;
use countersign_core::hop::TlsFault;
use countersign_core::snapshot::RevocationGap;
use countersign_core::snapshot::Revoked;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Pillar;
use std::time::Duration;

#[tokio::test]
async fn a_gap_in_the_revocations_asks_for_them_again() {
    let setup = Setup::new();
    let lines = [
        setup.line(1, Revoked::Token("t1".into())),
        setup.line(2, Revoked::Subject("dev:alice".into())),
        setup.line(3, Revoked::Token("t3".into())),
    ];
    let [first, second, third] = &lines;
    let open = setup.point.enforce(setup.summary()).await.unwrap();
    let gap = RevocationGap {
        known: 1,
        offered: 3,
    };
    assert_eq!(
        setup.point.revoke(&[first.clone(), third.clone()]),
        Err(gap)
    );
    assert_eq!(setup.point.state().revocations.epoch(), 1);
    assert_eq!(setup.point.revoke(&[second.clone(), third.clone()]), Ok(1));
    assert_eq!(open.cut().code(), Some(Code::SUBJECT_REVOKED));
    assert_eq!(setup.point.state().revocations.epoch(), 3);
}

#[tokio::test]
async fn a_heartbeat_renews_only_what_it_agrees_with() {
    let setup = Setup::new();
    let state = setup.point.state();
    let ours = *state.snapshot.revision();
    let other = *setup
        .without("frontend -> hms-api: [POST /ai/summary]")
        .revision();
    let ages = async || {
        let refusal = setup.point.enforce(setup.stranger(TlsFault::Version));
        let record = setup.record(&refusal.await.unwrap_err().receipt.unwrap());
        let known = record.hop.unwrap().facts.freshness;
        (known.revocations_age_ms, known.policy_age_ms)
    };
    setup.advance(Duration::from_secs(10));
    // Revocations are missing here.
    setup.point.heartbeat(1, &ours, setup.point.now());
    assert_eq!(ages().await, (10_000, 0));
    // Another policy is in force there.
    setup.point.heartbeat(0, &other, setup.point.now());
    assert_eq!(ages().await, (0, 0));
    setup.advance(Duration::from_secs(10));
    setup.point.heartbeat(0, &other, setup.point.now());
    assert_eq!(ages().await, (0, 10_000));
    setup.beat();
    assert_eq!(ages().await, (0, 0));
}

#[tokio::test]
async fn a_node_that_never_heard_admits_nothing() {
    let setup = Setup::unheard();
    let refusal = setup.point.enforce(setup.summary()).await.unwrap_err();
    let record = refused(
        &setup,
        &refusal,
        Pillar::ContinuousVerification,
        Code::STATE_STALE,
    );
    let known = record.hop.unwrap().facts.freshness;
    let never = (1 << 53) - 1;
    assert_eq!(
        (known.revocations_age_ms, known.policy_age_ms),
        (never, never)
    );
    setup.beat();
    assert!(setup.point.enforce(setup.summary()).await.is_ok());
}

#[tokio::test]
async fn no_word_from_the_server_means_no() {
    let setup = Setup::new();
    setup.advance(Duration::from_secs(15));
    assert!(setup.point.enforce(setup.summary_at_now()).await.is_ok());
    setup.advance(Duration::from_millis(1));
    let refusal = setup
        .point
        .enforce(setup.summary_at_now())
        .await
        .unwrap_err();
    let record = refused(
        &setup,
        &refusal,
        Pillar::ContinuousVerification,
        Code::STATE_STALE,
    );
    assert_eq!(
        record.hop.unwrap().facts.freshness.revocations_age_ms,
        15_001
    );
    setup.beat();
    assert!(setup.point.enforce(setup.summary_at_now()).await.is_ok());
}

#[tokio::test]
async fn a_stepped_clock_means_no() {
    let setup = Setup::new();
    setup.step(Duration::from_secs(6));
    let refusal = setup
        .point
        .enforce(setup.summary_at_now())
        .await
        .unwrap_err();
    refused(
        &setup,
        &refusal,
        Pillar::ContinuousVerification,
        Code::CLOCK_SKEW,
    );
}

#[tokio::test]
async fn a_clock_that_goes_back_means_no_until_the_next_heartbeat() {
    let setup = Setup::new();
    setup.advance(Duration::from_secs(10));
    assert!(setup.point.enforce(setup.summary_at_now()).await.is_ok());
    setup.step_back(Duration::from_millis(900));
    assert!(setup.point.enforce(setup.summary_at_now()).await.is_ok());
    setup.step_back(Duration::from_millis(200));
    for _ in 0..2 {
        let asked = setup.point.enforce(setup.summary_at_now()).await;
        let refusal = asked.unwrap_err();
        let record = refused(
            &setup,
            &refusal,
            Pillar::ContinuousVerification,
            Code::CLOCK_SKEW,
        );
        let known = record.hop.unwrap().facts.freshness;
        assert_eq!(known.clock_stepped_back_ms, 1100);
        // Going on from there makes it no better.
        setup.step(Duration::from_millis(1100));
    }
    setup.beat();
    assert!(setup.point.enforce(setup.summary_at_now()).await.is_ok());
}
