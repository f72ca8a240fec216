//! What only grows can't be changed, not even behind the store's back.

use crate::support::Data;
use crate::support::NOW;
use crate::support::after;
use crate::support::digest;
use countersign_core::snapshot::Revoked;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::SpiffeId;
use countersign_server::store::IssuedCertificate;
use countersign_server::store::Session;
use countersign_server::store::Store;
use countersign_server::store::StoreError;
use std::os::unix::fs::PermissionsExt as _;

#[tokio::test]
async fn epochs_follow_one_another_across_restarts_and_at_once() {
    let data = Data::new();
    let store = data.store().await;
    assert_eq!(store.epoch().await.unwrap(), 0);
    let tasks = (0..20).map(|n| {
        let store = store.clone();
        tokio::spawn(async move {
            let what = Revoked::Token(format!("t{n}"));
            store
                .append_revocation(&what, n % 2 == 0, NOW)
                .await
                .unwrap()
        })
    });
    let mut epochs = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        let line = task.await.unwrap();
        assert_eq!(
            line.what,
            Revoked::Token(format!("t{}", line_number(&line.what)))
        );
        epochs.push(line.epoch);
    }
    epochs.sort_unstable();
    assert_eq!(epochs, (1..=20).collect::<Vec<_>>());
    store.close().await;
    let store = data.store().await;
    let line = store
        .append_revocation(&Revoked::Certificate(digest(1)), false, NOW)
        .await
        .unwrap();
    assert_eq!((line.epoch, store.epoch().await.unwrap()), (21, 21));
    let read = store.revocations_after(20).await.unwrap();
    assert_eq!(read, [line]);
    assert_eq!(store.revocations_after(0).await.unwrap().len(), 21);
}

fn line_number(what: &Revoked) -> String {
    let Revoked::Token(jti) = what else {
        return String::new();
    };
    jti.trim_start_matches('t').to_owned()
}

#[tokio::test]
async fn append_only_tables_refuse_everything_else() {
    let data = Data::new();
    let store = data.store().await;
    store
        .append_revocation(&Revoked::Token("t".into()), false, NOW)
        .await
        .unwrap();
    store
        .activate(None, &digest(1), "unix:root", NOW)
        .await
        .unwrap()
        .unwrap();
    assert!(store.raise("epoch", 5).await.unwrap());
    let sql = data.sql().await;
    sqlx::query(INDEX_ROW).execute(&sql).await.unwrap();
    for statement in [
        "UPDATE revocations SET lifted = 1",
        "DELETE FROM revocations",
        "INSERT INTO revocations VALUES (3, 0, 0, 'x')",
        "INSERT OR REPLACE INTO revocations VALUES (1, 0, 1, 'x')",
        "UPDATE revisions SET revision = 'x'",
        "DELETE FROM revisions",
        "INSERT OR REPLACE INTO revisions VALUES (1, 'x', NULL, 0, 'x')",
        "INSERT INTO revisions VALUES (2, 'x', 'another', 0, 'x')",
        "UPDATE high_water SET value = 4",
        "DELETE FROM high_water",
        "UPDATE zt_audit SET status = 'success'",
        "DELETE FROM zt_audit",
        "INSERT OR REPLACE INTO zt_audit SELECT * FROM zt_audit",
    ] {
        let error = sqlx::query(statement)
            .execute(&sql)
            .await
            .unwrap_err()
            .to_string();
        let told = ["append only", "follow", "never falls"]
            .iter()
            .any(|why| error.contains(why));
        assert!(told, "{statement}: {error}");
    }
    let rows = "SELECT (SELECT COUNT(*) FROM revocations) + (SELECT COUNT(*) FROM zt_audit)";
    let rows: i64 = sqlx::query_scalar(rows).fetch_one(&sql).await.unwrap();
    assert_eq!(rows, 2);
}

const INDEX_ROW: &str = "INSERT INTO zt_audit VALUES
    (0, 'h', 'r', 'n', 0, 'k', 0, 'e', 'denied', 'p', 'o', 's', 'r', 'a', 'c', 'p', 'i')";

#[tokio::test]
async fn a_number_never_falls() {
    let data = Data::new();
    let store = data.store().await;
    assert!(store.raise("epoch", 5).await.unwrap());
    assert!(store.raise("epoch", 5).await.unwrap());
    assert!(!store.raise("epoch", 4).await.unwrap());
    assert!(store.raise("epoch", 6).await.unwrap());
    assert!(store.raise("other", 1).await.unwrap());
}

#[tokio::test]
async fn one_revision_replaces_another_only_if_it_is_the_active_one() {
    let data = Data::new();
    let store = data.store().await;
    let first = store
        .activate(None, &digest(1), "unix:root", NOW)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((first.serial, first.predecessor), (1, None));
    let racers = [digest(2), digest(3), digest(4)].map(|next| {
        let store = store.clone();
        let run = async move {
            store
                .activate(Some(&digest(1)), &next, "a", NOW)
                .await
                .unwrap()
        };
        tokio::spawn(run)
    });
    let mut won = Vec::new();
    for racer in racers {
        won.extend(racer.await.unwrap());
    }
    let [winner] = won.as_slice() else {
        panic!("{won:?}")
    };
    assert_eq!((winner.serial, winner.predecessor), (2, Some(digest(1))));
    assert_eq!(store.active().await.unwrap().as_ref(), Some(winner));
    assert_eq!(
        store.activate(None, &digest(9), "a", NOW).await.unwrap(),
        None
    );
    let back = store
        .activate(Some(&winner.revision), &digest(1), "a", NOW)
        .await
        .unwrap();
    assert_eq!(back.unwrap().serial, 3);
}

#[tokio::test]
async fn sessions_live_until_they_end_or_are_ended() {
    let data = Data::new();
    let store = data.store().await;
    let session = Session {
        sid: digest(7),
        sub: "dev:alice".to_owned(),
        groups: vec!["dev/analysts".to_owned(), "dev/\"quoted\"".to_owned()],
        door: Name::new("hms").unwrap(),
        created: NOW,
        ends: after(600),
        ended: None,
    };
    store.insert_session(&session).await.unwrap();
    assert!(store.insert_session(&session).await.is_err());
    assert_eq!(
        store.session(&digest(7)).await.unwrap(),
        Some(session.clone())
    );
    assert_eq!(store.session(&digest(8)).await.unwrap(), None);
    assert!(session.is_live(after(599)));
    assert!(!session.is_live(after(600)));
    let live = store.sessions_of("dev:alice", after(1)).await.unwrap();
    assert_eq!(live, [session]);
    assert!(store.end_session(&digest(7), after(2)).await.unwrap());
    assert!(!store.end_session(&digest(7), after(3)).await.unwrap());
    let ended = store.session(&digest(7)).await.unwrap().unwrap();
    assert_eq!(
        (ended.ended, ended.is_live(after(3))),
        (Some(after(2)), false)
    );
    assert!(
        store
            .sessions_of("dev:alice", after(3))
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(store.forget_sessions(after(600)).await.unwrap(), 0);
    assert_eq!(store.forget_sessions(after(601)).await.unwrap(), 1);
}

#[tokio::test]
async fn a_serial_number_is_used_once() {
    let data = Data::new();
    let store = data.store().await;
    let id = SpiffeId::parse("spiffe://acme.internal/api").unwrap();
    let certificate = |leaf, serial: &str| IssuedCertificate {
        leaf: digest(leaf),
        serial: serial.to_owned(),
        spiffe_id: id.clone(),
        issuer: digest(9),
        not_before: NOW,
        not_after: after(3600),
    };
    store
        .insert_certificate(&certificate(1, "4a"))
        .await
        .unwrap();
    assert!(
        store
            .insert_certificate(&certificate(2, "4a"))
            .await
            .is_err()
    );
    store
        .insert_certificate(&certificate(2, "4b"))
        .await
        .unwrap();
    assert_eq!(
        store.certificate(&digest(2)).await.unwrap(),
        Some(certificate(2, "4b"))
    );
    assert_eq!(
        store.certificates_of(&id, after(3599)).await.unwrap().len(),
        2
    );
    assert!(
        store
            .certificates_of(&id, after(3600))
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn the_file_is_its_owners_and_a_newer_schema_is_left_alone() {
    let data = Data::new();
    let store = data.store().await;
    store.raise("x", 1).await.unwrap();
    for (path, _) in data.files() {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", path.display());
    }
    store.close().await;
    let sql = data.sql().await;
    let set = |version: i64, checksum: &'static str| {
        sqlx::query(NEWEST)
            .bind(version)
            .bind(checksum)
            .execute(&sql)
    };
    let newest: i64 = sqlx::query_scalar("SELECT MAX(version) FROM schema_versions")
        .fetch_one(&sql)
        .await
        .unwrap();
    set(newest, "x").await.unwrap();
    let path = data.path().join("store.db");
    let changed = Store::open(&path).await.unwrap_err();
    assert!(
        matches!(changed, StoreError::Schema(version) if version == newest),
        "{changed}"
    );
    set(99, "x").await.unwrap();
    let newer = Store::open(&path).await.unwrap_err();
    assert!(
        matches!(newer, StoreError::Newer { found: 99, known } if known == newest),
        "{newer}"
    );
}

const NEWEST: &str = "UPDATE schema_versions SET version = ?1, checksum = ?2
    WHERE version = (SELECT MAX(version) FROM schema_versions)";
