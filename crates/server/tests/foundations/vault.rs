//! The vault: versions and check-and-set, nothing in the clear, nothing changed unnoticed.

#![expect(clippy::unwrap_used, reason = "tests")]

use crate::support::Data;
use crate::support::NOW;
use crate::support::after;
use countersign_server::vault::MAX_VERSIONS;
use countersign_server::vault::SecretData;
use countersign_server::vault::Tampering;
use countersign_server::vault::Vault;
use countersign_server::vault::VaultError;
use secrecy::ExposeSecret as _;
use secrecy::SecretString;
use std::sync::Arc;
use zeroize::Zeroizing;

const CANARY: &str = "canary-7f3a-not-to-be-seen";

async fn open(data: &Data) -> Vault {
    Vault::open(data.store().await, data.keys().root())
        .await
        .unwrap()
}

fn value(text: &str) -> SecretData {
    SecretData::from_value(SecretString::from(text)).unwrap()
}

async fn read(vault: &Vault, path: &str, version: Option<u64>) -> Result<String, VaultError> {
    let secret = vault.get(path, version).await?;
    Ok(secret.data.value().unwrap().expose_secret().to_owned())
}

async fn run(data: &Data, statement: &'static str) {
    let sql = data.sql().await;
    let done = sqlx::query(statement).execute(&sql).await.unwrap();
    assert_ne!(done.rows_affected(), 0, "{statement}");
    sql.close().await;
}

#[tokio::test]
async fn versions_count_up_and_the_oldest_are_dropped() {
    let data = Data::new();
    let vault = open(&data).await;
    for n in 1..=12_u64 {
        let at = after(i64::try_from(n).unwrap());
        let written = vault
            .put("app/db", &value(&format!("v{n}")), None, at)
            .await
            .unwrap();
        assert_eq!((written.version, written.created), (n, at));
    }
    drop(vault);
    let vault = open(&data).await;
    assert_eq!(read(&vault, "app/db", None).await.unwrap(), "v12");
    assert_eq!(read(&vault, "app/db", Some(0)).await.unwrap(), "v12");
    assert_eq!(read(&vault, "app/db", Some(3)).await.unwrap(), "v3");
    for gone in [2, 13] {
        assert!(matches!(
            vault.get("app/db", Some(gone)).await,
            Err(VaultError::NotFound)
        ));
    }
    let list = vault.list().await.unwrap();
    assert_eq!((list[0].path.as_str(), list[0].version), ("app/db", 12));
    assert_eq!(
        (list[0].versions.len(), list[0].updated),
        (MAX_VERSIONS, after(12))
    );
    assert!(matches!(
        vault.get("app", None).await,
        Err(VaultError::NotFound)
    ));
}

#[tokio::test]
async fn check_and_set_as_the_protocol_words_it() {
    let data = Data::new();
    let vault = open(&data).await;
    let put = |cas| {
        let vault = &vault;
        async move { vault.put("k", &value("v"), cas, NOW).await }
    };
    let error = put(Some(1)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "check-and-set parameter did not match the current version"
    );
    assert_eq!(put(Some(0)).await.unwrap().version, 1);
    assert!(matches!(put(Some(0)).await, Err(VaultError::CasMismatch)));
    assert_eq!(put(Some(1)).await.unwrap().version, 2);
    assert_eq!(put(None).await.unwrap().version, 3);
    let empty = SecretData::from_json(Zeroizing::new(b"{}".to_vec())).unwrap_err();
    assert_eq!(empty.to_string(), "no data provided");
}

#[tokio::test]
async fn of_concurrent_writers_each_gets_a_version_and_one_wins_a_check_and_set() {
    let data = Data::new();
    let vault = Arc::new(open(&data).await);
    let put = |n: u64, cas| {
        let vault = vault.clone();
        tokio::spawn(async move { vault.put("k", &value(&format!("w{n}")), cas, NOW).await })
    };
    let mut versions = Vec::new();
    for task in (0..16).map(|n| put(n, None)).collect::<Vec<_>>() {
        versions.push(task.await.unwrap().unwrap().version);
    }
    versions.sort_unstable();
    assert_eq!(versions, (1..=16).collect::<Vec<_>>());
    let mut won = 0;
    for task in (0..8).map(|n| put(n, Some(16))).collect::<Vec<_>>() {
        match task.await.unwrap() {
            Ok(written) => {
                assert_eq!(written.version, 17);
                won += 1;
            }
            Err(error) => assert!(matches!(error, VaultError::CasMismatch), "{error}"),
        }
    }
    assert_eq!(won, 1);
    assert!(read(&vault, "k", None).await.unwrap().starts_with('w'));
}

#[tokio::test]
async fn no_value_is_on_disk_or_in_what_is_shown() {
    let data = Data::new();
    let vault = open(&data).await;
    let written = vault
        .put("app/canary", &value(CANARY), None, NOW)
        .await
        .unwrap();
    let secret = vault.get("app/canary", None).await.unwrap();
    assert!(data.holding(CANARY.as_bytes()).is_empty());
    for shown in [
        format!("{secret:?}"),
        format!("{written:?}"),
        format!("{vault:?}"),
    ] {
        assert!(!shown.contains(CANARY), "{shown}");
    }
    let again = vault
        .put("app/canary", &value(CANARY), None, NOW)
        .await
        .unwrap();
    assert_ne!(
        again.ciphertext, written.ciphertext,
        "equal values are not seen to be equal"
    );
    assert_eq!(again.path_commitment, written.path_commitment);
}

#[tokio::test]
async fn edited_and_swapped_rows_are_found_while_it_runs() {
    for (statement, path, version) in [
        (
            "UPDATE secret_versions SET ciphertext = x'0102' WHERE path = 'a' AND version = 1",
            "a",
            1,
        ),
        (
            "UPDATE secret_versions SET ciphertext = (SELECT ciphertext FROM secret_versions WHERE path = 'b') WHERE path = 'a' AND version = 1",
            "a",
            1,
        ),
        (
            "UPDATE secret_versions SET ciphertext = (SELECT ciphertext FROM secret_versions WHERE path = 'a' AND version = 2) WHERE path = 'a' AND version = 1",
            "a",
            1,
        ),
    ] {
        let data = Data::new();
        let vault = filled(&data).await;
        run(&data, statement).await;
        let error = read(&vault, path, Some(version)).await.unwrap_err();
        let expected = Tampering::Version {
            path: path.to_owned(),
            version,
        };
        assert!(
            matches!(&error, VaultError::Tampered(found) if *found == expected),
            "{statement}: {error}"
        );
        assert_eq!(
            read(&vault, "b", None).await.unwrap(),
            "b1",
            "the others are still read"
        );
    }
    for statement in [
        "UPDATE secret_versions SET created = 0 WHERE path = 'a' AND version = 1",
        "UPDATE secret_versions SET digest = (SELECT digest FROM secret_versions WHERE path = 'b'), ciphertext = (SELECT ciphertext FROM secret_versions WHERE path = 'b') WHERE path = 'a' AND version = 1",
        "DELETE FROM secret_versions WHERE path = 'a' AND version = 2",
        "UPDATE secret_heads SET version = 1 WHERE path = 'a'",
        "UPDATE secret_heads SET updated = 0 WHERE path = 'a'",
        "UPDATE secret_heads SET data_key = (SELECT data_key FROM secret_heads WHERE path = 'b') WHERE path = 'a'",
        "UPDATE secret_heads SET mac = (SELECT mac FROM secret_heads WHERE path = 'b') WHERE path = 'a'",
    ] {
        let data = Data::new();
        let vault = filled(&data).await;
        run(&data, statement).await;
        for error in [
            read(&vault, "a", Some(1)).await.unwrap_err(),
            vault.put("a", &value("x"), None, NOW).await.unwrap_err(),
        ] {
            let expected = Tampering::Head("a".to_owned());
            assert!(
                matches!(&error, VaultError::Tampered(found) if *found == expected),
                "{statement}: {error}"
            );
        }
    }
}

/// Two versions of `a`, one of `b`.
async fn filled(data: &Data) -> Vault {
    let vault = open(data).await;
    for (path, text) in [("a", "a1"), ("a", "a2"), ("b", "b1")] {
        vault.put(path, &value(text), None, NOW).await.unwrap();
    }
    vault
}

#[tokio::test]
async fn a_row_put_back_is_found_while_it_runs_and_after_a_restart() {
    let data = Data::new();
    let vault = filled(&data).await;
    let sql = data.sql().await;
    for keep in [
        "CREATE TABLE kept_heads AS SELECT * FROM secret_heads WHERE path = 'a'",
        "CREATE TABLE kept_versions AS SELECT * FROM secret_versions WHERE path = 'a'",
    ] {
        sqlx::query(keep).execute(&sql).await.unwrap();
    }
    vault
        .put("a", &value("a3: the old key was stolen"), None, NOW)
        .await
        .unwrap();
    for put_back in [
        "DELETE FROM secret_versions WHERE path = 'a'",
        "UPDATE secret_heads SET (version, updated, data_key, mac) =
           (SELECT version, updated, data_key, mac FROM kept_heads) WHERE path = 'a'",
        "INSERT INTO secret_versions SELECT * FROM kept_versions",
    ] {
        sqlx::query(put_back).execute(&sql).await.unwrap();
    }
    let error = read(&vault, "a", None).await.unwrap_err();
    assert!(matches!(error, VaultError::Tampered(Tampering::Head(path)) if path == "a"));
    assert_eq!(read(&vault, "b", None).await.unwrap(), "b1");
    drop(vault);
    // Each row of `a` is genuine and fits the others; only the code over all heads does not.
    let vault = open(&data).await;
    assert!(!vault.is_intact().await);
    for path in ["a", "b"] {
        let error = read(&vault, path, None).await.unwrap_err();
        assert!(
            matches!(error, VaultError::Tampered(Tampering::Table)),
            "{error}"
        );
    }
    assert!(vault.put("c", &value("x"), None, NOW).await.is_err());
}

#[tokio::test]
async fn a_removed_secret_is_found_and_not_taken_for_one_that_never_was() {
    let data = Data::new();
    let vault = filled(&data).await;
    run(&data, "DELETE FROM secret_versions WHERE path = 'b'").await;
    run(&data, "DELETE FROM secret_heads WHERE path = 'b'").await;
    let error = read(&vault, "b", None).await.unwrap_err();
    assert!(
        matches!(error, VaultError::Tampered(Tampering::Head(_))),
        "{error}"
    );
    assert!(vault.put("b", &value("x"), Some(0), NOW).await.is_err());
    drop(vault);
    let vault = open(&data).await;
    assert!(!vault.is_intact().await);
}

#[tokio::test]
async fn another_root_key_opens_nothing() {
    let data = Data::new();
    drop(filled(&data).await);
    let other = Data::new();
    let vault = Vault::open(data.store().await, other.keys().root())
        .await
        .unwrap();
    assert!(!vault.is_intact().await);
    assert!(vault.get("a", None).await.is_err());
}

#[tokio::test]
async fn a_caller_who_goes_away_does_not_break_a_write() {
    let data = Data::new();
    let vault = Arc::new(filled(&data).await);
    let mut newest = 2;
    for micros in (0..3000).step_by(150) {
        let next = value("x");
        let write = vault.put("a", &next, None, NOW);
        let wait = std::time::Duration::from_micros(micros);
        let done = tokio::time::timeout(wait, write).await;
        let version = vault.get("a", None).await.unwrap().version;
        match done {
            Ok(written) => assert_eq!(version, written.unwrap().version),
            Err(_) => assert!((newest..=newest + 1).contains(&version), "old or new"),
        }
        newest = version;
    }
    drop(vault);
    assert!(open(&data).await.is_intact().await);
}

#[tokio::test]
async fn a_path_that_climbs_or_hides_is_refused() {
    let data = Data::new();
    let vault = open(&data).await;
    for path in [
        "",
        "/",
        "a//b",
        "../a",
        "a/..",
        "a/./b",
        "a b",
        "a\0b",
        "ä",
        "a/",
        &"a".repeat(513),
    ] {
        let error = vault.put(path, &value("v"), None, NOW).await.unwrap_err();
        assert!(matches!(error, VaultError::Path(_)), "{path:?}: {error}");
    }
}
