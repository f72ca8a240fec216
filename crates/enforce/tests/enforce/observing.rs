//! What an observer hears.

use crate::fixture::Setup;
use countersign_core::hop::TlsFault;
use countersign_core::record::Record;
use countersign_core::snapshot::Revoked;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Pillar;
use countersign_enforce::Decided;
use countersign_enforce::Observer;
use countersign_enforce::SAMPLE;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

/// Keeps what it hears.
#[derive(Debug, Default)]
struct Heard {
    decided: Mutex<Vec<(String, Option<Code>, bool)>>,
    measured: Mutex<Vec<Vec<Pillar>>>,
    revoked: Mutex<Vec<Duration>>,
}

impl Observer for Heard {
    fn decided(&self, decided: &Decided<'_>) {
        let service = decided.hop.service.clone();
        let one = (service, decided.code, decided.recorded);
        self.decided.lock().unwrap().push(one);
        let pillars = decided.pillars.map(|it| it.iter().map(|(it, _)| *it));
        self.measured
            .lock()
            .unwrap()
            .extend(pillars.map(Iterator::collect));
    }

    fn used(&self, _: &str, _: u64, _: u64) {}

    fn revoked(&self, after: Duration) {
        self.revoked.lock().unwrap().push(after);
    }
}

#[tokio::test]
async fn every_decision_is_heard_once_and_some_are_measured() {
    let setup = Setup::new();
    let heard = Arc::new(Heard::default());
    setup.point.observe(heard.clone());
    setup.point.observe(Arc::new(Heard::default()));
    for _ in 0..=SAMPLE {
        drop(setup.point.enforce(setup.summary()).await.unwrap());
    }
    let mut elsewhere = setup.summary();
    elsewhere.operation.object = "/nothing".to_owned();
    assert!(setup.point.enforce(elsewhere).await.is_err());
    let decided = std::mem::take(&mut *heard.decided.lock().unwrap());
    let (last, before) = decided.split_last().unwrap();
    assert_eq!(before.len() as u64, SAMPLE + 1);
    let admitted = ("hms-api".to_owned(), None, true);
    assert!(before.iter().all(|it| *it == admitted), "{before:?}");
    assert_eq!(*last, ("hms-api".to_owned(), Some(Code::NO_EDGE), true));
    // The first and the one after so many; the audit pillar is in every decision.
    let five = Pillar::ALL[..5].to_vec();
    assert_eq!(*heard.measured.lock().unwrap(), [five.clone(), five]);
}

#[tokio::test]
async fn a_flood_is_heard_of_as_what_it_is() {
    let setup = Setup::new();
    let heard = Arc::new(Heard::default());
    setup.point.observe(heard.clone());
    for _ in 0..40 {
        let stranger = setup.stranger(TlsFault::Version);
        assert!(setup.point.enforce(stranger).await.is_err());
    }
    let decided = heard.decided.lock().unwrap();
    let recorded = decided.iter().filter(|(_, _, recorded)| *recorded).count();
    assert_eq!((decided.len(), recorded), (40, 10));
}

#[tokio::test]
async fn a_revocation_is_heard_with_its_age_unless_it_is_from_before() {
    let setup = Setup::new();
    let heard = Arc::new(Heard::default());
    setup.point.observe(heard.clone());
    let line = setup.line(1, Revoked::Token("t1".into()));
    let mut old = setup.line(2, Revoked::Token("t2".into()));
    old.at = countersign_core::vocabulary::Timestamp::from_secs(1);
    setup.advance(Duration::from_secs(2));
    let lines = [line, old];
    assert_eq!(setup.point.revoke(&lines), Ok(0));
    // Server and gateway of one process share a point, and both tell it.
    assert_eq!(setup.point.revoke(&lines), Ok(0));
    assert_eq!(*heard.revoked.lock().unwrap(), [Duration::from_secs(2)]);
}

#[tokio::test]
async fn a_full_ledger_is_unsound_until_it_takes_a_record() {
    let setup = Setup::with_room(1 << 12, 0);
    let mut refused = None;
    for _ in 0..64 {
        refused = setup.point.enforce(setup.summary()).await.err();
        if refused.is_some() {
            break;
        }
        assert_eq!(setup.point.unsound(), None);
    }
    assert_eq!(refused.unwrap().code, Code::LEDGER_REFUSED);
    assert!(setup.point.unsound().is_some());
    // Completions are smaller than decisions, and so is what is asked with: until there is no room
    // for that either.
    let (now, resource) = (setup.point.now(), setup.resource());
    let filling = Record::event("x", now, "x", resource);
    while setup.point.record_event(&filling).await.is_ok() {}
    setup.point.try_ledger().await;
    assert!(setup.point.unsound().is_some());
    setup.point.distrust_ledger(Some("not ours".to_owned()));
    assert_eq!(setup.point.unsound().as_deref(), Some("not ours"));
}
