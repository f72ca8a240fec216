//! From spools into the log exactly once, out of it with proof, and nothing changed unnoticed.

#![expect(clippy::unwrap_used, clippy::string_slice, reason = "tests")]

use crate::support::Data;
use crate::support::NOW;
use crate::support::domain;
use countersign_core::record::Record;
use countersign_core::record::Resource;
use countersign_core::vocabulary::Name;
use countersign_ledger::spool::Promise;
use countersign_ledger::spool::Spool;
use countersign_ledger::spool::SpoolOptions;
use countersign_ledger::storage::FsStorage;
use countersign_ledger::storage::Storage;
use countersign_server::audit::Audit;
use countersign_server::audit::AuditError;
use countersign_server::audit::Difference;
use countersign_server::audit::MERGE_BOUND;
use countersign_server::keys::log_key;
use countersign_server::keys::log_name;
use countersign_server::store::Search;
use countersign_wire::control::ControlError;
use countersign_wire::control::Delivery;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

fn storage(path: &Path) -> Arc<dyn Storage> {
    Arc::new(FsStorage::new(path))
}

fn spool(path: &Path, node: &str) -> Spool {
    let options = SpoolOptions {
        segment_bytes: 4096,
        ..SpoolOptions::default()
    };
    Spool::open(storage(path), node, options).unwrap().0
}

async fn open(data: &Data) -> Result<(Audit, Spool), AuditError> {
    let spool = spool(data.path(), "one");
    let key = log_key(&data.keys(), &domain()).unwrap();
    let (origin, store) = (log_name(&domain()), data.store().await);
    let storage = storage(data.path());
    let audit = Audit::open(storage, &origin, key, spool.clone(), store).await?;
    Ok((audit, spool))
}

fn record(event: &'static str, number: u64) -> Vec<u8> {
    let resource = Resource {
        id: Cow::Owned(format!("test/{number}")),
        service: "test".into(),
    };
    Record::event(event, NOW, "unix:root", resource).to_bytes()
}

async fn append(spool: &Spool, number: u64) -> Promise {
    spool.append(record("secret.write", number)).await.unwrap()
}

async fn run(data: &Data, statements: &[&'static str]) {
    let sql = data.sql().await;
    for statement in statements {
        sqlx::query(*statement).execute(&sql).await.unwrap();
    }
    sql.close().await;
}

#[tokio::test]
async fn a_record_is_proved_to_whoever_holds_the_key() {
    let data = Data::new();
    let (audit, spool) = open(&data).await.unwrap();
    let audit = Arc::new(audit);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = audit.clone();
    let task = tokio::spawn(async move { running.run(async { drop(stopped.await) }).await });
    let promise = append(&spool, 1).await;
    let name = promise.receipt().to_string();
    // Not in the log yet: proving waits for the merge.
    let receipt = audit.prove(&name).await.unwrap();
    let verified = receipt.verify(audit.verifier(), None).unwrap();
    assert_eq!(
        (verified.leaf_hash, verified.receipt),
        (*promise.leaf_hash(), promise.receipt())
    );
    let document = receipt.to_json();
    let read = countersign_ledger::receipt::Receipt::from_json(document.as_bytes()).unwrap();
    assert!(read.verify(audit.verifier(), None).is_ok());
    let other = countersign_ledger::note::SigningKey::generate(&log_name(&domain())).unwrap();
    assert!(read.verify(other.verifier(), None).is_err());
    let entry = audit.lookup(&name).await.unwrap();
    assert_eq!(
        (entry.index, entry.node.as_str(), entry.seq),
        (Some(0), "one", 0)
    );
    assert_eq!(entry.record["resource"]["id"], "test/1");
    let last = append(&spool, 2).await;
    stop.send(()).unwrap();
    task.await.unwrap();
    let entry = audit.lookup(&last.receipt().to_string()).await.unwrap();
    assert_eq!(
        entry.index,
        Some(1),
        "what came before the end is in the log"
    );
    assert_eq!(audit.signed().claimed().size, 2);
    assert_eq!(audit.verify().await.unwrap().leaves, 2);
}

#[tokio::test]
async fn receipts_are_found_by_their_start_before_and_after_the_merge() {
    let data = Data::new();
    let (audit, spool) = open(&data).await.unwrap();
    let mut receipts = Vec::new();
    for number in 0..40 {
        receipts.push(append(&spool, number).await.receipt().to_string());
    }
    let waiting = audit.lookup(&receipts[0]).await.unwrap();
    assert_eq!(
        (waiting.index, waiting.receipt.as_str()),
        (None, receipts[0].as_str())
    );
    let short = audit.lookup(&receipts[7][..9]).await.unwrap();
    assert_eq!(short.receipt, receipts[7]);
    audit.advance().await.unwrap();
    assert_eq!(
        audit.lookup(&receipts[7][..9]).await.unwrap().index,
        Some(7)
    );
    let mut firsts = BTreeSet::new();
    let shared = receipts
        .iter()
        .find(|receipt| !firsts.insert(receipt[..3].to_owned()));
    let shared = &shared.expect("40 receipts, 32 first letters")[..3];
    let error = audit.lookup(shared).await.unwrap_err();
    let AuditError::Ambiguous {
        receipts: found, ..
    } = &error
    else {
        panic!("{error}")
    };
    assert!(found.len() >= 2 && found.iter().all(|receipt| receipt.starts_with(shared)));
    assert!(matches!(
        audit.prove(shared).await,
        Err(AuditError::Ambiguous { .. })
    ));
    for bad in ["", "r-", "x", "r-u", "../../log"] {
        assert!(
            matches!(audit.lookup(bad).await, Err(AuditError::NotAReceipt(_))),
            "{bad}"
        );
    }
    let before = std::time::Instant::now();
    let unknown = audit.prove("r-zzzzzzzzzzzz").await.unwrap_err();
    assert!(matches!(unknown, AuditError::NotFound(_)), "{unknown}");
    assert!(before.elapsed() < MERGE_BOUND, "nothing to wait for");
}

#[tokio::test]
async fn exactly_once_whenever_it_stops() {
    let data = Data::new();
    let mut promised = Vec::new();
    for round in 0..12_u64 {
        let (audit, spool) = open(&data).await.unwrap();
        let audit = Arc::new(audit);
        let running = audit.clone();
        let task = tokio::spawn(async move { running.run(std::future::pending()).await });
        for number in 0..20 {
            promised.push(append(&spool, round * 100 + number).await);
        }
        tokio::time::sleep(Duration::from_millis(round * 30)).await;
        // Dropped where it stands, as by a kill.
        task.abort();
        let _ = task.await;
        wait_until_alone(audit).await;
    }
    let (audit, spool) = open(&data).await.unwrap();
    let report = audit.verify().await.unwrap();
    assert_eq!((report.leaves, report.chained), (240, 240));
    for (index, promise) in (0..).zip(&promised) {
        assert_eq!(
            audit.log().index_of(promise.leaf_hash()).unwrap(),
            Some(index)
        );
    }
    let all = audit
        .search(&Search {
            after: None,
            limit: 1000,
            ..Search::default()
        })
        .await
        .unwrap();
    let seqs: Vec<u64> = all.iter().map(|entry| entry.seq).collect();
    assert_eq!(seqs, (0..240).collect::<Vec<_>>());
    assert!(
        spool.first() > 0,
        "segments under a checkpoint are forgotten"
    );
    let position = audit.log().position("one").unwrap();
    assert!(spool.first() <= position.next);
}

/// The files are locked until work on other threads has ended.
async fn wait_until_alone(audit: Arc<Audit>) {
    let log = Arc::downgrade(audit.log());
    drop(audit);
    while log.strong_count() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn nothing_is_forgotten_before_it_is_signed() {
    let data = Data::new();
    let (audit, spool) = open(&data).await.unwrap();
    for number in 0..60 {
        let _ = append(&spool, number).await;
    }
    assert_eq!(spool.first(), 0);
    audit.advance().await.unwrap();
    let signed = audit.signed().claimed().size;
    assert_eq!(signed, 60);
    assert!(spool.first() > 0 && spool.first() <= signed);
}

#[tokio::test]
async fn remote_nodes_deliver_in_order_and_only_for_themselves() {
    let (data, remote) = (Data::new(), Data::new());
    let (audit, _spool) = open(&data).await.unwrap();
    let theirs = spool(remote.path(), "two");
    for number in 0..10 {
        let _ = append(&theirs, number).await;
    }
    let leaves = theirs.read_from(0, 10).unwrap();
    let delivery = |first: usize, end: usize| Delivery {
        first: u64::try_from(first).unwrap(),
        leaves: leaves[first..end]
            .iter()
            .map(|leaf| leaf.leaf.clone())
            .collect(),
        node: Name::new("two").unwrap(),
    };
    let gap: ControlError = audit.deliver(delivery(3, 5)).await.unwrap_err().into();
    assert_eq!(gap, ControlError::OutOfOrder { wanted: 0 });
    assert_eq!(audit.deliver(delivery(0, 4)).await.unwrap(), 4);
    assert_eq!(
        audit.deliver(delivery(2, 7)).await.unwrap(),
        7,
        "sent again in part"
    );
    assert_eq!(audit.deliver(delivery(0, 7)).await.unwrap(), 7);
    assert_eq!(audit.deliver(delivery(7, 10)).await.unwrap(), 10);
    let mut own = delivery(0, 1);
    own.node = Name::new("one").unwrap();
    assert!(matches!(
        audit.deliver(own).await,
        Err(AuditError::OwnNode(_))
    ));
    let mut forged = delivery(9, 10);
    let leaf = std::str::from_utf8(&forged.leaves[0]).unwrap();
    forged.leaves[0] = leaf.replace("test/9", "test/8").into();
    assert!(audit.deliver(forged).await.is_err());
    let report = audit.verify().await.unwrap();
    assert_eq!((report.leaves, report.nodes["two"].next), (10, 10));
}

#[tokio::test]
async fn a_decision_and_its_completion_lead_to_each_other() {
    let (data, remote) = (Data::new(), Data::new());
    let (audit, own) = open(&data).await.unwrap();
    let decision = br#"{"kind":"decision"}"#.to_vec();
    let decision = own.append(decision).await.unwrap().receipt().to_string();
    let open = audit.course(&decision).await.unwrap();
    assert!(open.ended.is_none(), "not in the log yet");
    audit.advance().await.unwrap();
    let open = audit.course(&decision).await.unwrap();
    assert!(open.ended.is_none(), "{open:?}");
    let ending = format!(r#"{{"completion":{{"decision":"{decision}"}},"kind":"completion"}}"#);
    let ending = ending.as_bytes();
    // Another node has no say in it.
    let theirs = spool(remote.path(), "two");
    let forged = theirs.append(ending.to_vec()).await.unwrap().receipt();
    let leaves = theirs.read_from(0, 1).unwrap().into_iter();
    let delivery = Delivery {
        first: 0,
        leaves: leaves.map(|it| it.leaf).collect(),
        node: Name::new("two").unwrap(),
    };
    audit.deliver(delivery).await.unwrap();
    // Nor is a receipt that is only mentioned a completion.
    let said = format!(r#"{{"event_type":"{decision}"}}"#).into_bytes();
    let _ = own.append(said).await.unwrap();
    let ended = own.append(ending.to_vec()).await.unwrap().receipt();
    audit.advance().await.unwrap();
    let (ended, forged) = (ended.to_string(), forged.to_string());
    for receipt in [&decision, &ended] {
        let course = audit.course(receipt).await.unwrap();
        assert_eq!(course.decision.receipt, decision);
        assert_eq!(course.ended.unwrap().receipt, ended);
    }
    let mut nothing = vec![forged];
    for of in ["r-0", "x", "r-zzzzzzzzzzzz"] {
        let ending = format!(r#"{{"completion":{{"decision":"{of}"}}}}"#);
        let ending = own.append(ending.into_bytes()).await.unwrap();
        nothing.push(ending.receipt().to_string());
    }
    for receipt in nothing {
        let course = audit.course(&receipt).await.unwrap();
        assert_eq!(course.decision.receipt, receipt);
        assert!(course.ended.is_none(), "{course:?}");
    }
}

#[tokio::test]
async fn search_by_what_is_indexed() {
    let data = Data::new();
    let (audit, spool) = open(&data).await.unwrap();
    for number in 0..5 {
        let _ = append(&spool, number).await;
        let _ = spool.append(record("policy.reload", number)).await.unwrap();
    }
    audit.advance().await.unwrap();
    let search = |set: fn(&mut Search)| {
        let (audit, mut search) = (&audit, Search::default());
        set(&mut search);
        async move {
            let found = audit.search(&search).await.unwrap();
            let indexes = found.iter().map(|entry| entry.index.unwrap());
            indexes.collect::<Vec<_>>()
        }
    };
    assert_eq!(search(|it| it.limit = 3).await, [7, 8, 9], "the newest");
    assert_eq!(
        search(|it| (it.after, it.limit) = (Some(3), 2)).await,
        [4, 5]
    );
    let reloads = search(|it| it.event_type = Some("policy.reload".into()));
    assert_eq!(reloads.await, [1, 3, 5, 7, 9]);
    let who = search(|it| {
        it.principal = Some("unix:root".into());
        it.service = Some("test".into());
        it.kind = Some("event".into());
        it.limit = 1;
    });
    assert_eq!(who.await, [9]);
    let nothing: [fn(&mut Search); 5] = [
        |it| it.principal = Some("unix:root' OR 1=1 --".into()),
        |it| it.code = Some("none".into()),
        |it| it.node = Some("two".into()),
        |it| it.until = Some(NOW),
        |it| it.after = Some(9),
    ];
    for set in nothing {
        assert_eq!(search(set).await, [0; 0]);
    }
    assert_eq!(search(|it| it.since = Some(NOW)).await.len(), 10);
}

async fn with_records(data: &Data, count: u64) -> Audit {
    let (audit, spool) = open(data).await.unwrap();
    for number in 0..count {
        let _ = append(&spool, number).await;
    }
    audit.advance().await.unwrap();
    audit
}

/// What somebody does to the index, in which leaf and column it must be found.
const CHANGES: [([&str; 2], u64, &str); 5] = [
    (
        [
            "DROP TRIGGER zt_audit_no_update",
            "UPDATE zt_audit SET principal = 'unix:other' WHERE leaf_index = 2",
        ],
        2,
        "principal",
    ),
    (
        [
            "DROP TRIGGER zt_audit_no_update",
            "UPDATE zt_audit SET timestamp = timestamp + 1 WHERE leaf_index = 4",
        ],
        4,
        "timestamp",
    ),
    (
        [
            "DROP TRIGGER zt_audit_no_update",
            "UPDATE zt_audit SET leaf_hash = 'nonsense' WHERE leaf_index = 3",
        ],
        3,
        "leaf_hash",
    ),
    (
        [
            "DROP TRIGGER zt_audit_no_delete",
            "DELETE FROM zt_audit WHERE leaf_index = 1",
        ],
        1,
        "row",
    ),
    (["DROP TRIGGER zt_audit_in_order", EXTRA_ROW], 6, "extra"),
];

/// A row behind the last, for a leaf that there is not.
const EXTRA_ROW: &str = "INSERT INTO zt_audit SELECT (SELECT COUNT(*) FROM zt_audit), leaf_hash,
    receipt, node, seq, kind, timestamp, event_type, status, principal, on_behalf_of, service,
    resource, action, code, pillar, source_ip FROM zt_audit WHERE leaf_index = 0";

#[tokio::test]
async fn a_changed_index_is_found_and_named_and_can_be_made_again() {
    for (statements, leaf, column) in CHANGES {
        let data = Data::new();
        let audit = with_records(&data, 6).await;
        audit.verify().await.unwrap();
        run(&data, &statements).await;
        let error = audit.verify().await.unwrap_err();
        let AuditError::Difference(found) = &error else {
            panic!("{statements:?}: {error}")
        };
        match found {
            Difference::Column {
                leaf: at,
                column: named,
                receipt,
            } => {
                assert_eq!((*at, *named), (leaf, column));
                assert!(error.to_string().contains(receipt.as_str()), "{error}");
            }
            Difference::Unreadable {
                leaf: at,
                column: named,
            } => {
                assert_eq!((*at, *named), (leaf, column));
            }
            Difference::Missing { leaf: at, .. } => assert_eq!((*at, "row"), (leaf, column)),
            Difference::Extra { leaf: at } => assert_eq!((*at, "extra"), (leaf, column)),
        }
        assert_eq!(audit.rebuild().await.unwrap(), 6);
        audit.verify().await.unwrap();
        let sql = data.sql().await;
        let refused = sqlx::query("DELETE FROM zt_audit").execute(&sql).await;
        assert!(refused.is_err(), "the triggers are back");
    }
}

#[tokio::test]
async fn a_changed_entry_is_found_though_the_index_agrees() {
    let data = Data::new();
    let audit = with_records(&data, 6).await;
    audit.verify().await.unwrap();
    let tile = data.path().join("log/tile/entries/000.p/6");
    let text = std::fs::read(&tile).unwrap();
    let changed = String::from_utf8_lossy(&text).replace("test/3", "test/4");
    assert_ne!(changed.as_bytes(), text);
    std::fs::write(&tile, changed).unwrap();
    let error = audit.verify().await.unwrap_err();
    assert!(matches!(error, AuditError::Finding(_)), "{error}");
    assert!(error.to_string().contains("leaf `3`"), "{error}");
}

#[tokio::test]
async fn a_spool_put_back_from_yesterday_stops_the_start() {
    let data = Data::new();
    let audit = with_records(&data, 6).await;
    wait_until_alone(Arc::new(audit)).await;
    std::fs::remove_dir_all(data.path().join("spool")).unwrap();
    let error = open(&data).await.err().unwrap();
    assert!(
        matches!(
            error,
            AuditError::Regressed {
                spool: 0,
                log: 6,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn an_index_ahead_of_the_log_does_not_hold_up_the_log() {
    let data = Data::new();
    let audit = with_records(&data, 2).await;
    run(&data, &[EXTRA_ROW]).await;
    wait_until_alone(Arc::new(audit)).await;
    let (audit, spool) = open(&data).await.unwrap();
    let promise = append(&spool, 7).await;
    let _ = audit.advance().await;
    assert_eq!(audit.log().index_of(promise.leaf_hash()).unwrap(), Some(2));
    assert!(matches!(
        audit.verify().await,
        Err(AuditError::Difference(_))
    ));
}
