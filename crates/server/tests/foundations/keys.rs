//! Keys at rest, and their rotation.

#![expect(clippy::unwrap_used, reason = "tests")]

use crate::support::Data;
use crate::support::NOW;
use crate::support::after;
use crate::support::domain;
use countersign_net::KeySet;
use countersign_server::keys::FileSeal;
use countersign_server::keys::KeyFolder;
use countersign_server::keys::Schedule;
use countersign_server::keys::SealError;
use countersign_server::keys::SnapshotKey;
use countersign_server::keys::TokenKeys;
use countersign_server::keys::log_key;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

const SCHEDULE: Schedule = Schedule {
    every: Duration::from_secs(1000),
    cache: Duration::from_secs(100),
    lifetime: Duration::from_secs(60),
    skew: Duration::from_secs(5),
};

async fn open(data: &Data, at: i64) -> TokenKeys {
    TokenKeys::open(data.keys(), data.store().await, SCHEDULE, after(at))
        .await
        .unwrap()
}

fn published(keys: &TokenKeys) -> BTreeSet<String> {
    keys.verifying()
        .current()
        .kids()
        .map(str::to_owned)
        .collect()
}

fn signing(keys: &TokenKeys, at: i64) -> String {
    keys.signer(after(at)).unwrap().kid().to_owned()
}

#[tokio::test]
async fn a_key_is_published_before_it_signs_and_kept_until_its_last_token_ends() {
    let data = Data::new();
    let keys = open(&data, 0).await;
    let first = signing(&keys, 0);
    assert_eq!(published(&keys), BTreeSet::from([first.clone()]));
    assert!(!keys.tick(after(899)).await.unwrap());
    assert!(
        keys.tick(after(900)).await.unwrap(),
        "due one cache period before"
    );
    let both = published(&keys);
    assert_eq!((both.len(), signing(&keys, 999)), (2, first.clone()));
    let second = signing(&keys, 1000);
    assert_ne!(second, first);
    assert_eq!(both, BTreeSet::from([first.clone(), second.clone()]));
    assert!(
        !keys.tick(after(901)).await.unwrap(),
        "the next one is waiting already"
    );
    assert!(!keys.tick(after(1064)).await.unwrap());
    assert_eq!(
        published(&keys),
        both,
        "a token of the first may still be alive"
    );
    assert!(keys.tick(after(1065)).await.unwrap());
    assert_eq!(published(&keys), BTreeSet::from([second.clone()]));
    let file = |kid: &str| data.keys_path().join(format!("access-token-{kid}.sealed"));
    assert!(!file(&first).exists() && file(&second).exists());
    drop(keys);
    let keys = open(&data, 1065).await;
    assert_eq!(signing(&keys, 1065), second);
    assert_eq!(published(&keys), BTreeSet::from([second]));
}

#[tokio::test]
async fn rotating_by_hand_makes_one_next_key() {
    let data = Data::new();
    let keys = open(&data, 0).await;
    let generation = keys.verifying().current().generation();
    let next = keys.rotate(after(10)).await.unwrap();
    assert_eq!(keys.rotate(after(11)).await.unwrap(), next);
    assert_ne!(signing(&keys, 109), next);
    assert_eq!(signing(&keys, 110), next);
    assert!(keys.verifying().current().generation() > generation);
    let jwks = keys.jwks().to_string();
    let read = KeySet::from_jwks(jwks.as_bytes(), 1).unwrap();
    assert_eq!(
        read.kids().map(str::to_owned).collect::<BTreeSet<_>>(),
        published(&keys)
    );
    assert!(!jwks.contains("\"d\""), "{jwks}");
    assert_eq!(
        signing(&open(&data, 200).await, 200),
        next,
        "the schedule survives a restart"
    );
}

#[tokio::test]
async fn no_private_key_is_on_disk_in_the_clear() {
    let data = Data::new();
    let keys = open(&data, 0).await;
    let pkcs8 = keys.signer(NOW).unwrap().pkcs8().to_vec();
    let seed = log_key(&data.keys(), &domain()).unwrap().seed();
    // The private scalar is in the middle of the document (RFC 5915), the seed is all of it.
    assert!(data.holding(&pkcs8[36..68]).is_empty());
    assert!(data.holding(seed.as_ref()).is_empty());
    assert_eq!(data.holding(b"keys are looked for like this").len(), 0);
    std::fs::write(data.path().join("leak"), hex::encode(seed.as_ref())).unwrap();
    assert_eq!(
        data.holding(seed.as_ref()).len(),
        1,
        "the search finds what is there"
    );
}

#[tokio::test]
async fn the_same_keys_after_a_restart_and_none_for_another_name() {
    let data = Data::new();
    let folder = data.keys();
    let log = log_key(&folder, &domain()).unwrap();
    assert_eq!(log.name(), "acme.internal/log");
    assert_eq!(
        log_key(&data.keys(), &domain()).unwrap().verifier(),
        log.verifier()
    );
    let snapshot = SnapshotKey::open(&folder).unwrap();
    assert_eq!(
        SnapshotKey::open(&data.keys()).unwrap().public(),
        snapshot.public()
    );
    // Sealed for one purpose, a file opens for no other.
    std::fs::copy(
        data.keys_path().join("log.sealed"),
        data.keys_path().join("snapshot.sealed"),
    )
    .unwrap();
    assert!(SnapshotKey::open(&folder).is_err());
}

#[test]
fn a_lost_root_key_is_not_replaced_and_an_exposed_one_not_used() {
    let data = Data::new();
    log_key(&data.keys(), &domain()).unwrap();
    let seal = FileSeal::new(data.keys_path().join("root.key"));
    let kept = std::fs::read(seal.path()).unwrap();
    std::fs::remove_file(seal.path()).unwrap();
    let error = KeyFolder::open(&data.keys_path(), &seal).unwrap_err();
    assert!(matches!(error, SealError::Missing(_)), "{error}");
    assert!(!seal.path().exists());
    std::fs::write(seal.path(), kept).unwrap();
    for mode in [0o644, 0o660] {
        std::fs::set_permissions(seal.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        let error = KeyFolder::open(&data.keys_path(), &seal).unwrap_err();
        assert!(matches!(error, SealError::Exposed { .. }), "{error}");
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
}

#[tokio::test]
async fn a_key_whose_file_is_gone_stops_the_start() {
    let data = Data::new();
    let kid = signing(&open(&data, 0).await, 0);
    std::fs::remove_file(data.keys_path().join(format!("access-token-{kid}.sealed"))).unwrap();
    let store = data.store().await;
    let error = TokenKeys::open(data.keys(), store, SCHEDULE, NOW)
        .await
        .unwrap_err();
    assert!(error.to_string().contains(&kid), "{error}");
}
