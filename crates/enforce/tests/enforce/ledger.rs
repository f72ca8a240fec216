//! What the state of the ledger does to whoever is admitted, and to what is open.

use crate::fixture::Setup;
use crate::fixture::refused;
use countersign_core::hop::TlsFault;
use countersign_core::record::Ending;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Pillar;
use std::time::Duration;

#[tokio::test]
async fn a_ledger_that_is_not_believed_admits_nothing_and_ends_open_streams() {
    let setup = Setup::new();
    let request = setup.point.enforce(setup.summary()).await.unwrap();
    let stream = setup.point.enforce(setup.summary()).await.unwrap();
    stream.mark_stream();
    let receipt = stream.admission().receipt().to_string();
    assert_eq!(setup.point.again(), 0);

    setup.point.distrust_ledger(Some("the log forked".into()));
    assert_eq!(setup.point.distrusted().as_deref(), Some("the log forked"));
    let refusal = setup.point.enforce(setup.summary()).await.unwrap_err();
    refused(&setup, &refusal, Pillar::Audit, Code::LEDGER_REFUSED);
    // What is open has until it is decided again; a short request finishes.
    assert_eq!(stream.cut().code(), None);
    assert_eq!(setup.point.again(), 1);
    assert_eq!(stream.cut().code(), Some(Code::LEDGER_REFUSED));
    assert_eq!(request.cut().code(), None);
    drop(stream);
    let completion = setup.wait_for_completion(&receipt).await;
    assert_eq!(
        (completion.ending, completion.code),
        (Ending::Cut, Some(Code::LEDGER_REFUSED))
    );
    setup.point.distrust_ledger(None);
    assert!(setup.point.enforce(setup.summary()).await.is_ok());
}

#[tokio::test]
async fn little_room_is_warned_of_once_on_the_record() {
    // The warning comes at 256 MiB, which this spool never has.
    let setup = Setup::with_room(1 << 20, 1 << 10);
    for _ in 0..3 {
        setup.point.look_at_room();
    }
    let record = setup
        .wait_for(|record| record.event_type == "ledger.room.low")
        .await;
    let left: u64 = record.metadata["left"].parse().unwrap();
    assert!(left <= 1 << 20, "{left}");
    // Nothing is refused yet.
    assert!(setup.point.enforce(setup.summary()).await.is_ok());
    let all = setup.records().into_iter();
    let warnings = all.filter(|(_, record)| record.event_type == "ledger.room.low");
    assert_eq!(warnings.count(), 1);
}

#[tokio::test]
async fn strangers_are_counted_while_only_the_reserve_is_left() {
    // All but a few bytes are reserve, so that one record leaves nothing else.
    let setup = Setup::with_room(1 << 20, (1 << 20) - 200);
    assert!(setup.point.enforce(setup.summary()).await.is_ok());
    setup.point.look_at_room();
    let ask = setup.stranger(TlsFault::Version);
    let refusal = setup.point.enforce(ask).await.unwrap_err();
    assert_eq!((refusal.code, refusal.receipt), (Code::TLS_VERSION, None));
    // Proven callers are served and recorded from it.
    assert!(setup.point.enforce(setup.summary()).await.is_ok());
    setup.advance(Duration::from_secs(2));
    setup.beat();
    let kept = setup.records().into_iter();
    let strangers = kept.filter(|(_, record)| record.code == Some(Code::TLS_VERSION));
    assert_eq!(strangers.count(), 0);
}
