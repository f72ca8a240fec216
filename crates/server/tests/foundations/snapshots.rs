//! Kept bundles, the active one, and what is signed.

#![expect(clippy::unwrap_used, reason = "tests")]

use crate::support::Data;
use crate::support::NOW;
use crate::support::digest;
use aws_lc_rs::signature;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_core::snapshot::Bundle;
use countersign_core::vocabulary::Digest;
use countersign_ledger::storage::FsStorage;
use countersign_server::keys::SnapshotKey;
use countersign_server::snapshots::SnapshotError;
use countersign_server::snapshots::Snapshots;
use countersign_wire::control::SignedSnapshot;
use std::sync::Arc;

async fn open(data: &Data) -> Snapshots {
    let storage = Arc::new(FsStorage::new(data.path()));
    let key = SnapshotKey::open(&data.keys()).unwrap();
    Snapshots::new(storage, data.store().await, key)
}

fn bundle(text: &str) -> Bundle {
    let files = [("countersign.yaml".to_owned(), text.to_owned())].into();
    Bundle {
        entry: "countersign.yaml".to_owned(),
        files,
        ..Bundle::default()
    }
}

/// As a reader of the format would do it, without our code.
fn verifies(public: &[u8], signed: &SignedSnapshot) -> bool {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, signed.bundle.as_bytes());
    let before = signed
        .predecessor
        .map_or("-".to_owned(), |before| before.to_string());
    let text = format!(
        "countersign-snapshot/v1\n{}\n{}\n{before}\n{}\n",
        signed.serial,
        signed.epoch,
        hex::encode(hash)
    );
    let key = signature::UnparsedPublicKey::new(&signature::ED25519, public);
    key.verify(
        text.as_bytes(),
        &STANDARD.decode(&signed.signature).unwrap(),
    )
    .is_ok()
}

#[tokio::test]
async fn bundles_are_kept_by_their_hash_and_never_changed() {
    let data = Data::new();
    let snapshots = open(&data).await;
    let revision = snapshots.keep(&bundle("a: 1")).unwrap();
    assert_eq!(snapshots.keep(&bundle("a: 1")).unwrap(), revision);
    assert_eq!(snapshots.read(&revision).unwrap(), bundle("a: 1"));
    let path = data.path().join(format!("snapshots/{revision}"));
    assert_eq!(std::fs::read(&path).unwrap(), bundle("a: 1").bytes());
    assert!(matches!(
        snapshots.read(&digest(1)),
        Err(SnapshotError::Unknown(_))
    ));
    std::fs::write(&path, bundle("a: 2").bytes()).unwrap();
    assert!(matches!(
        snapshots.read(&revision),
        Err(SnapshotError::Bundle(_))
    ));
    assert!(matches!(
        snapshots.keep(&bundle("a: 1")),
        Err(SnapshotError::Bundle(_))
    ));
}

#[tokio::test]
async fn what_is_signed_names_epoch_and_predecessor() {
    let data = Data::new();
    let snapshots = open(&data).await;
    assert!(matches!(
        snapshots.sign(0).await,
        Err(SnapshotError::Inactive)
    ));
    let [one, two] = ["a: 1", "a: 2"].map(|text| snapshots.keep(&bundle(text)).unwrap());
    snapshots
        .activate(None, &one, "unix:root", NOW)
        .await
        .unwrap();
    let signed = snapshots.sign(3).await.unwrap();
    assert_eq!((signed.epoch, signed.predecessor), (3, None));
    assert_eq!(signed.serial, 1);
    assert!(verifies(snapshots.public_key(), &signed));
    snapshots
        .activate(Some(&one), &two, "unix:root", NOW)
        .await
        .unwrap();
    let signed = snapshots.sign(3).await.unwrap();
    assert_eq!((signed.serial, signed.predecessor), (2, Some(one)));
    assert_eq!(signed.bundle.as_bytes(), bundle("a: 2").bytes());
    assert!(verifies(snapshots.public_key(), &signed));
    for forged in [
        SignedSnapshot {
            epoch: 4,
            ..signed.clone()
        },
        SignedSnapshot {
            serial: 3,
            ..signed.clone()
        },
        SignedSnapshot {
            predecessor: None,
            ..signed.clone()
        },
        SignedSnapshot {
            bundle: signed.bundle.replace("a: 2", "a: 3"),
            ..signed.clone()
        },
    ] {
        assert!(!verifies(snapshots.public_key(), &forged));
    }
}

#[tokio::test]
async fn a_lower_epoch_is_never_signed_again_not_after_a_restart_either() {
    let data = Data::new();
    let snapshots = open(&data).await;
    let one = snapshots.keep(&bundle("a: 1")).unwrap();
    snapshots
        .activate(None, &one, "unix:root", NOW)
        .await
        .unwrap();
    snapshots.sign(7).await.unwrap();
    drop(snapshots);
    let snapshots = open(&data).await;
    assert!(matches!(
        snapshots.sign(6).await,
        Err(SnapshotError::Epoch(6))
    ));
    assert_eq!(snapshots.sign(7).await.unwrap().epoch, 7);
}

#[tokio::test]
async fn only_a_kept_revision_becomes_active_and_only_in_place_of_the_expected_one() {
    let data = Data::new();
    let snapshots = open(&data).await;
    let unknown: Digest = digest(1);
    let error = snapshots
        .activate(None, &unknown, "a", NOW)
        .await
        .unwrap_err();
    assert!(matches!(error, SnapshotError::Unknown(_)));
    let [one, two] = ["a: 1", "a: 2"].map(|text| snapshots.keep(&bundle(text)).unwrap());
    snapshots.activate(None, &one, "a", NOW).await.unwrap();
    let error = snapshots
        .activate(Some(&two), &two, "a", NOW)
        .await
        .unwrap_err();
    assert!(
        matches!(error, SnapshotError::Superseded { active } if active == one),
        "{error}"
    );
    assert_eq!(snapshots.active().await.unwrap().unwrap().revision, one);
}
