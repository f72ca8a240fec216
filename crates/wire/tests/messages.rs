//! What our own processes say to each other, damaged on the way: never a panic, and what is read
//! is what would be written.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests outside test functions"
)]

use bytes::Bytes;
use countersign_core::vocabulary::Name;
use countersign_wire::admin::Endpoints;
use countersign_wire::admin::IssueIdentity;
use countersign_wire::admin::IssuedIdentity;
use countersign_wire::admin::Join;
use countersign_wire::admin::PutSecret;
use countersign_wire::admin::RecordEntry;
use countersign_wire::admin::Revoke;
use countersign_wire::admin::RevokedNow;
use countersign_wire::admin::SecretEntry;
use countersign_wire::admin::Status;
use countersign_wire::control::ControlError;
use countersign_wire::control::Delivery;
use countersign_wire::control::InjectedSecret;
use countersign_wire::control::Known;
use countersign_wire::control::RelayedAnswer;
use countersign_wire::control::RelayedRequest;
use countersign_wire::control::Said;
use countersign_wire::control::SessionToken;
use countersign_wire::control::SessionTokenRequest;
use countersign_wire::control::SignIn;
use countersign_wire::control::SignedIn;
use countersign_wire::control::Update;
use countersign_wire::join::JoinRequest;
use countersign_wire::join::JoinToken;
use countersign_wire::join::Joined;
use countersign_wire::join::MintJoin;
use countersign_wire::join::Minted;
use countersign_wire::join::Renew;
use countersign_wire::join::Renewed;
use proptest::prelude::*;
use proptest::sample::Index;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::json;

const DIGEST: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
const TIME: &str = "2026-01-02T03:04:05.000006Z";

/// One of each kind, by name.
fn samples() -> Vec<(&'static str, Value)> {
    [updates(), control(), admin(), joining()].concat()
}

fn revocation() -> Value {
    json!({ "at": TIME, "epoch": 7, "lifted": false, "what": { "token": "t" } })
}

/// What a gateway is told.
fn updates() -> Vec<(&'static str, Value)> {
    vec![
        (
            "update",
            json!({ "snapshot": { "bundle": "{}", "epoch": 7, "predecessor": DIGEST, "serial": 2, "signature": "AA" } }),
        ),
        ("update", json!({ "revocations": [revocation()] })),
        (
            "update",
            json!({ "heartbeat": { "epoch": 7, "revision": DIGEST, "time": TIME } }),
        ),
        (
            "update",
            json!({ "signed-heartbeat": { "beat": { "epoch": 7, "revision": DIGEST, "time": TIME }, "number": 3, "serial": 2, "signature": "AA" } }),
        ),
        (
            "update",
            json!({ "checkpoint": { "checkpoint": "a.b/log\n1\n", "from": 4, "proof": [DIGEST] } }),
        ),
        (
            "update",
            json!({ "keys": { "keys": [{ "kid": "a", "n": [1.5, null] }] } }),
        ),
        ("update", json!({ "roots": "-----BEGIN CERTIFICATE-----" })),
    ]
}

/// What a gateway says and asks.
fn control() -> Vec<(&'static str, Value)> {
    vec![
        (
            "known",
            json!({ "epoch": 7, "nonce": DIGEST, "revision": DIGEST, "serial": 6, "witnessed": 4 }),
        ),
        (
            "said",
            json!({ "cosigned": { "signature": "AA", "size": 4 } }),
        ),
        ("said", json!({ "head": { "hash": DIGEST, "next": 9 } })),
        (
            "sign-in",
            json!({ "door": "web", "member": "user:dev/anna", "source_ip": "192.0.2.7" }),
        ),
        ("signed-in", json!({ "cookie": "c", "ends": TIME })),
        (
            "session-token-request",
            json!({ "cookie": "c", "door": "web", "service": "hms-api" }),
        ),
        (
            "session-token",
            json!({ "groups": ["g"], "session_ends": TIME, "sid": DIGEST, "sub": "dev:anna", "token": "t" }),
        ),
        ("injected-secret", json!({ "value": "v", "version": 3 })),
        (
            "relayed-request",
            json!({ "body": "aHVudGVyMg==", "chain": ["MAA=", "MAA="], "door": "globex", "method": "POST", "path": "/oauth2/token", "source_ip": "192.0.2.7" }),
        ),
        (
            "relayed-answer",
            json!({ "body": "hunter2", "headers": [["cache-control", "no-store"]], "status": 200 }),
        ),
        (
            "control-error",
            json!({ "refused": { "code": "CSD201", "receipt": "r" } }),
        ),
        ("control-error", json!({ "out-of-order": { "wanted": 9 } })),
        ("control-error", json!("no-session")),
    ]
}

/// What a gateway is told when it joins.
fn told() -> Value {
    json!({ "log_key": "a.b/log+1+AA", "roots": "r", "server": "h:7443", "snapshot_key": DIGEST, "trust_domain": "a.b" })
}

fn joining() -> Vec<(&'static str, Value)> {
    vec![
        (
            "mint-join",
            json!({ "gateway": "gw1", "listeners": ["mesh"] }),
        ),
        (
            "minted",
            json!({ "ends": TIME, "gateway": "gw1", "listeners": ["mesh"], "token": "hunter2" }),
        ),
        (
            "join-token",
            json!({ "gateway": "gw1", "pin": DIGEST, "secret": "hunter2", "server": "h:7444", "trust_domain": "a.b" }),
        ),
        (
            "join-request",
            json!({ "csr": "-----BEGIN", "records": 3, "secret": "hunter2", "witness": DIGEST }),
        ),
        ("joined", json!({ "chain": "c", "join": told() })),
        ("renew", json!({ "csr": "-----BEGIN" })),
        ("renewed", json!({ "chain": "c" })),
    ]
}

fn admin() -> Vec<(&'static str, Value)> {
    let endpoints = json!({ "mesh": "127.0.0.1:9443", "server": "h:7443", "trust_domain": "a.b" });
    vec![
        (
            "issue-identity",
            json!({ "csr": "-----BEGIN", "gateway": true, "name": "web" }),
        ),
        (
            "issued-identity",
            json!({ "bundle": "b", "chain": "c", "endpoints": endpoints, "leaf": DIGEST, "not_after": TIME, "spiffe_id": "spiffe://a.b/web" }),
        ),
        ("endpoints", endpoints),
        ("join", told()),
        (
            "revoke",
            json!({ "lift": true, "what": { "identity": "spiffe://a.b/web" } }),
        ),
        (
            "revoked-now",
            json!({ "ended": 2, "known": false, "revocation": revocation() }),
        ),
        ("put-secret", json!({ "data": { "value": "hunter2" } })),
        (
            "secret-entry",
            json!({ "name": "n", "updated": TIME, "version": 2 }),
        ),
        (
            "record-entry",
            json!({ "index": 4, "node": "gw", "receipt": "r", "record": { "v": 1 }, "seq": 9 }),
        ),
        (
            "status",
            json!({ "activated": TIME, "activated_by": "unix:anna", "admitted": 1, "file": { "drift": "differs", "path": "/etc/c.yaml" }, "dev": true, "gateways": [{ "heard": TIME, "name": "edge", "unshipped": 2 }], "epoch": 2, "log_key": "k", "log_size": 3, "open": 4, "refused": 5, "revision": DIGEST, "listeners": [["mesh", "127.0.0.1:1"]], "started": TIME, "trust_domain": "a.b", "version": "0" }),
        ),
    ]
}

/// Reads it as `T` and writes it again.
fn again<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Option<Vec<u8>> {
    let read: T = serde_json::from_slice(bytes).ok()?;
    Some(serde_json::to_vec(&read).unwrap())
}

fn read(kind: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    match kind {
        "update" => again::<Update>(bytes),
        "known" => again::<Known>(bytes),
        "said" => again::<Said>(bytes),
        "sign-in" => again::<SignIn>(bytes),
        "signed-in" => again::<SignedIn>(bytes),
        "session-token-request" => again::<SessionTokenRequest>(bytes),
        "session-token" => again::<SessionToken>(bytes),
        "injected-secret" => again::<InjectedSecret>(bytes),
        "relayed-request" => again::<RelayedRequest>(bytes),
        "relayed-answer" => again::<RelayedAnswer>(bytes),
        "control-error" => again::<ControlError>(bytes),
        "issue-identity" => again::<IssueIdentity>(bytes),
        "issued-identity" => again::<IssuedIdentity>(bytes),
        "endpoints" => again::<Endpoints>(bytes),
        "join" => again::<Join>(bytes),
        "mint-join" => again::<MintJoin>(bytes),
        "minted" => again::<Minted>(bytes),
        "join-token" => again::<JoinToken>(bytes),
        "join-request" => again::<JoinRequest>(bytes),
        "joined" => again::<Joined>(bytes),
        "renew" => again::<Renew>(bytes),
        "renewed" => again::<Renewed>(bytes),
        "revoke" => again::<Revoke>(bytes),
        "revoked-now" => again::<RevokedNow>(bytes),
        "put-secret" => again::<PutSecret>(bytes),
        "secret-entry" => again::<SecretEntry>(bytes),
        "record-entry" => again::<RecordEntry>(bytes),
        "status" => again::<Status>(bytes),
        other => panic!("no kind `{other}`"),
    }
}

#[test]
fn every_message_reads_back_as_written() {
    for (kind, sample) in samples() {
        let written = read(kind, sample.to_string().as_bytes());
        let back: Value = serde_json::from_slice(&written.expect(kind)).unwrap();
        assert_eq!(back, sample, "{kind}");
    }
}

#[test]
fn a_member_twice_is_no_message() {
    for (kind, sample) in samples() {
        let text = sample.to_string();
        // The first member of the innermost of our own objects, once more at its front.
        let Some((name, value)) = sample.as_object().and_then(|it| it.iter().next()) else {
            continue;
        };
        let twice = text.replacen('{', &format!("{{{}:{value},", json!(name)), 1);
        assert_eq!(read(kind, twice.as_bytes()), None, "{kind}: {twice}");
    }
}

#[test]
fn what_asks_for_an_effect_has_no_unknown_member() {
    for (kind, sample) in samples() {
        let asks = [
            "issue-identity",
            "join-request",
            "mint-join",
            "put-secret",
            "relayed-answer",
            "relayed-request",
            "renew",
            "revoke",
        ];
        if asks.contains(&kind) {
            let more = sample.to_string().replacen('{', r#"{"force":true,"#, 1);
            assert_eq!(read(kind, more.as_bytes()), None, "{kind}");
        }
    }
}

#[test]
fn secrets_are_not_in_what_is_printed() {
    let secret: PutSecret = serde_json::from_str(r#"{"data":{"value":"hunter2"}}"#).unwrap();
    assert!(!format!("{secret:?}").contains("hunter2"));
    let cookie: SignedIn =
        serde_json::from_value(json!({ "cookie": "hunter2", "ends": TIME })).unwrap();
    assert!(!format!("{cookie:?}").contains("hunter2"));
    for (kind, sample) in [joining(), control()].concat() {
        let printed = match kind {
            "relayed-answer" => format!("{:?}", serde_json::from_value::<RelayedAnswer>(sample)),
            "relayed-request" => format!("{:?}", serde_json::from_value::<RelayedRequest>(sample)),
            "minted" => format!("{:?}", serde_json::from_value::<Minted>(sample)),
            "join-request" => format!("{:?}", serde_json::from_value::<JoinRequest>(sample)),
            "join-token" => format!("{:?}", serde_json::from_value::<JoinToken>(sample)),
            _ => continue,
        };
        assert!(printed.starts_with("Ok("), "{printed}");
        assert!(!printed.contains("hunter2"), "{printed}");
        assert!(!printed.contains("aHVudGVyMg"), "{printed}");
    }
}

/// Leaves such as a node has, and some that are none.
fn leaves() -> impl Strategy<Value = Vec<Bytes>> {
    let leaf = prop_oneof![
        8 => "\\{\"[ -~\u{e9}\u{1f5dd}]{0,40}\":1\\}",
        1 => "\\PC{0,40}",
        1 => Just("{\"a\":1\n}".to_owned()),
    ];
    prop::collection::vec(leaf.prop_map(Bytes::from), 0..8)
}

fn delivery() -> impl Strategy<Value = Delivery> {
    let node = "[a-z0-9]([a-z0-9._-]{0,20}[a-z0-9])?";
    (any::<u64>(), leaves(), node).prop_map(|(first, leaves, node)| Delivery {
        first,
        leaves,
        node: Name::new(&node).unwrap(),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn a_delivery_reads_back_as_written(delivery in delivery()) {
        let whole = delivery.leaves.iter().all(|leaf| !leaf.is_empty() && !leaf.contains(&b'\n'));
        match delivery.encode() {
            Ok(body) => prop_assert_eq!(Delivery::decode(body), Ok(delivery)),
            Err(error) => prop_assert!(!whole, "{}", error),
        }
    }

    /// What is read is what would be written, byte for byte, whatever happened on the way.
    #[test]
    fn a_damaged_delivery_is_another_or_none(
        delivery in delivery(),
        at: Index,
        length in 0_usize..12,
        rubbish in prop_oneof![any::<Vec<u8>>(), "[{}\"\n:0-9a]{0,12}".prop_map(String::into_bytes)],
    ) {
        let whole = delivery.encode().unwrap_or_default();
        let at = at.index(whole.len() + 1);
        let after = whole.len().min(at + length);
        for bytes in [[&whole[..at], &rubbish, &whole[after..]].concat(), rubbish] {
            let bytes = Bytes::from(bytes);
            if let Ok(read) = Delivery::decode(bytes.clone()) {
                prop_assert_eq!(read.encode(), Ok(bytes));
            }
        }
    }

    #[test]
    fn a_damaged_message_never_panics(which: Index, at: Index, length in 0_usize..12, rubbish: Vec<u8>) {
        let samples = samples();
        let (kind, sample) = &samples[which.index(samples.len())];
        let whole = sample.to_string().into_bytes();
        let at = at.index(whole.len());
        let after = whole.len().min(at + length);
        let bytes = [&whole[..at], &rubbish, &whole[after..]].concat();
        if let Some(written) = read(kind, &bytes) {
            prop_assert_eq!(read(kind, &written), Some(written), "{}", kind);
        }
        prop_assert!(rubbish.is_empty() || read(kind, &[&whole[..], b"x"].concat()).is_none());
    }

    /// Depth costs stack; the parser has to give up first.
    #[test]
    fn depth_is_bounded(depth in 100_usize..50_000) {
        let deep = format!(r#"{{"keys":{}"#, "[".repeat(depth));
        prop_assert_eq!(read("update", deep.as_bytes()), None);
    }
}
