//! What is open: requests, streams, and what ends them.

use crate::fixture::Setup;
use crate::fixture::refused;
use countersign_core::record::Ending;
use countersign_core::snapshot::Revoked;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Pillar;
use countersign_enforce::Admitted;
use countersign_enforce::Refusal;
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

#[tokio::test]
async fn what_is_revoked_ends_and_says_so() {
    let setup = Setup::new();
    let admitted = setup.point.enforce(setup.summary()).await.unwrap();
    let receipt = admitted.admission().receipt().to_string();
    let waiting = tokio::spawn({
        let admitted = admitted.clone();
        async move { admitted.cut().wait().await }
    });
    tokio::task::yield_now().await;
    assert_eq!(admitted.cut().code(), None);
    assert_eq!(setup.revoke(1, Revoked::Subject("dev:alice".into())), 1);
    assert_eq!(waiting.await.unwrap(), Code::SUBJECT_REVOKED);
    drop(admitted);
    let completion = setup.wait_for_completion(&receipt).await;
    assert_eq!(
        (completion.ending, completion.code),
        (Ending::Cut, Some(Code::SUBJECT_REVOKED))
    );
    let refusal = setup.point.enforce(setup.summary()).await.unwrap_err();
    refused(
        &setup,
        &refusal,
        Pillar::ContinuousVerification,
        Code::SUBJECT_REVOKED,
    );
}

#[tokio::test]
async fn an_open_stream_outlives_its_token_but_not_its_edge() {
    let setup = Setup::new();
    let admitted = setup.point.enforce(setup.summary()).await.unwrap();
    assert!(!admitted.is_stream());
    setup.advance(Duration::from_secs(120));
    setup.beat();
    assert_eq!(setup.point.again(), 0);
    assert_eq!(admitted.cut().code(), None);
    assert_eq!(
        setup
            .point
            .install(&setup.without("frontend -> hms-api: [POST /ai/summary]")),
        1
    );
    assert!(admitted.is_stream());
    assert_eq!(admitted.cut().code(), Some(Code::NO_EDGE));
}

#[tokio::test]
async fn a_short_request_finishes_on_the_policy_it_began_on() {
    let setup = Setup::new();
    let request = setup.point.enforce(setup.summary()).await.unwrap();
    let stream = setup.point.enforce(setup.summary()).await.unwrap();
    stream.mark_stream();
    let next = setup.without("frontend -> hms-api: [POST /ai/summary]");
    assert_eq!(setup.point.install(&next), 1);
    assert_eq!(
        (request.cut().code(), stream.cut().code()),
        (None, Some(Code::NO_EDGE))
    );
    assert_eq!(setup.point.again(), 0);
    // What is revoked ends all of them, and nothing else ends a request.
    assert_eq!(setup.revoke(1, Revoked::Subject("dev:bob".into())), 0);
    assert_eq!(request.cut().code(), None);
    assert_eq!(setup.revoke(2, Revoked::Subject("dev:alice".into())), 1);
    assert_eq!(request.cut().code(), Some(Code::SUBJECT_REVOKED));
}

#[tokio::test]
async fn a_revocation_that_overtakes_a_request_refuses_it() {
    let setup = Setup::on_disk();
    let mut enforcing = under_way(&setup).await;
    setup.revoke(1, Revoked::Subject("dev:alice".into()));
    let refusal = (&mut enforcing).await.unwrap_err();
    refused(
        &setup,
        &refusal,
        Pillar::ContinuousVerification,
        Code::SUBJECT_REVOKED,
    );
    let cut = setup
        .wait_for(|it| it.completion.as_ref().is_some_and(|it| it.code.is_some()))
        .await;
    let cut = cut.completion.unwrap();
    assert_eq!(
        (cut.ending, cut.code, cut.cost),
        (Ending::Cut, Some(Code::SUBJECT_REVOKED), Some(0))
    );
    assert_eq!(setup.point.open(), 0);
}

#[tokio::test]
async fn what_an_abandoned_call_set_aside_is_given_back() {
    let setup = Setup::on_disk();
    for _ in 0..400 {
        drop(under_way(&setup).await);
    }
    let admitted = setup.point.enforce(setup.chat()).await.unwrap();
    let reserved = admitted.admission().reserved();
    assert_eq!(reserved.first().unwrap().spent, 0);
}

type Enforcing<'a> = Pin<Box<dyn Future<Output = Result<Admitted, Refusal>> + 'a>>;

/// A call that was decided and waits for the ledger.
async fn under_way(setup: &Setup) -> Enforcing<'_> {
    loop {
        let mut enforcing: Enforcing<'_> = Box::pin(setup.point.enforce(setup.chat()));
        let first = std::future::poll_fn(|cx| Poll::Ready(enforcing.as_mut().poll(cx))).await;
        match first {
            Poll::Pending => return enforcing,
            // The disk was faster this time.
            Poll::Ready(done) => done.unwrap().settle(0),
        }
    }
}

#[tokio::test]
async fn whoever_waits_for_the_end_has_all_completions() {
    let setup = Setup::new();
    let mut open = Vec::new();
    for _ in 0..8 {
        open.push(setup.point.enforce(setup.summary()).await.unwrap());
    }
    assert!(
        setup.point.settled(Duration::from_secs(60)).await,
        "nothing is late"
    );
    let receipts: Vec<_> = open
        .iter()
        .map(|it| it.admission().receipt().to_string())
        .collect();
    drop(open);
    assert!(setup.point.settled(Duration::from_secs(60)).await);
    for receipt in receipts {
        assert!(setup.completion(&receipt).await.is_some());
    }
}
