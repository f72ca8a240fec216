//! What the search index says of a leaf, computed from the leaf alone.

use crate::store::IndexRow;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Timestamp;
use countersign_ledger::Hash;
use countersign_ledger::ReceiptId;
use countersign_ledger::log::ReadLeaf;
use countersign_ledger::tree::leaf_hash;
use countersign_wire::admin::RecordEntry;
use serde::Deserialize;
use std::borrow::Cow;

/// The parts of a leaf that are searched for. All else is left in the log.
#[derive(Deserialize)]
struct Leaf<'a> {
    #[serde(borrow)]
    node: Cow<'a, str>,
    #[serde(borrow)]
    record: Option<Record<'a>>,
    seq: u64,
}

/// The parts of its record.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Record<'a> {
    #[serde(borrow)]
    action: Cow<'a, str>,
    #[serde(borrow)]
    code: Cow<'a, str>,
    #[serde(borrow)]
    event_type: Cow<'a, str>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    pillar: Cow<'a, str>,
    #[serde(borrow)]
    principal: Principal<'a>,
    #[serde(borrow)]
    resource: Resource<'a>,
    #[serde(borrow)]
    source_ip: Cow<'a, str>,
    #[serde(borrow)]
    status: Cow<'a, str>,
    timestamp: Option<Timestamp>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Principal<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    on_behalf_of: Cow<'a, str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Resource<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    service: Cow<'a, str>,
}

/// The row of a leaf. A leaf that is no record of ours has empty columns, but has a row.
pub(super) fn row(index: u64, bytes: &[u8]) -> IndexRow {
    row_of(index, leaf_hash(bytes), bytes)
}

/// The same of a leaf whose hash is known.
pub(super) fn row_of(index: u64, hash: Hash, bytes: &[u8]) -> IndexRow {
    let leaf = serde_json::from_slice::<Leaf<'_>>(bytes).ok();
    let leaf = leaf.map(|leaf| (leaf.node, leaf.seq, leaf.record.unwrap_or_default()));
    written(index, hash, leaf)
}

/// The same of a leaf that has been read.
pub(super) fn row_read(index: u64, leaf: ReadLeaf<'_, Record<'_>>) -> IndexRow {
    let hash = leaf.hash();
    let parts = leaf.into_parts();
    let parts = parts.and_then(|(node, seq, record)| Some((node.into(), seq, record?)));
    written(index, hash, parts)
}

fn written(index: u64, hash: Hash, leaf: Option<(Cow<'_, str>, u64, Record<'_>)>) -> IndexRow {
    let known = |seq| i64::try_from(seq).is_ok();
    let leaf = leaf.filter(|(_, seq, _)| known(*seq));
    let (node, seq, record) = leaf.unwrap_or_default();
    IndexRow {
        leaf_index: index,
        leaf_hash: Digest::new(hash),
        receipt: ReceiptId::from(&hash).to_string(),
        node: node.into_owned(),
        seq,
        kind: record.kind.into_owned(),
        timestamp: record.timestamp.unwrap_or(Timestamp::from_micros(0)),
        event_type: record.event_type.into_owned(),
        status: record.status.into_owned(),
        principal: record.principal.id.into_owned(),
        on_behalf_of: record.principal.on_behalf_of.into_owned(),
        service: record.resource.service.into_owned(),
        resource: record.resource.id.into_owned(),
        action: record.action.into_owned(),
        code: record.code.into_owned(),
        pillar: record.pillar.into_owned(),
        source_ip: record.source_ip.into_owned(),
    }
}

/// The first column in which a stored row differs from what its leaf makes.
pub(super) fn differs(stored: &IndexRow, leaf: &IndexRow) -> Option<&'static str> {
    let columns = [
        ("leaf_hash", stored.leaf_hash == leaf.leaf_hash),
        ("receipt", stored.receipt == leaf.receipt),
        ("node", stored.node == leaf.node),
        ("seq", stored.seq == leaf.seq),
        ("kind", stored.kind == leaf.kind),
        ("timestamp", stored.timestamp == leaf.timestamp),
        ("event_type", stored.event_type == leaf.event_type),
        ("status", stored.status == leaf.status),
        ("principal", stored.principal == leaf.principal),
        ("on_behalf_of", stored.on_behalf_of == leaf.on_behalf_of),
        ("service", stored.service == leaf.service),
        ("resource", stored.resource == leaf.resource),
        ("action", stored.action == leaf.action),
        ("code", stored.code == leaf.code),
        ("pillar", stored.pillar == leaf.pillar),
        ("source_ip", stored.source_ip == leaf.source_ip),
    ];
    columns
        .into_iter()
        .find(|(_, same)| !same)
        .map(|(column, _)| column)
}

/// A leaf as the administration socket shows it.
pub(super) fn entry(index: Option<u64>, bytes: &[u8]) -> RecordEntry {
    let row = row(index.unwrap_or_default(), bytes);
    let mut leaf: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
    let record = leaf.get_mut("record").map(serde_json::Value::take);
    RecordEntry {
        index,
        node: row.node,
        receipt: row.receipt,
        record: record.unwrap_or_default(),
        seq: row.seq,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_that_is_no_record_has_a_row() {
        for bytes in [
            &b"hello"[..],
            b"",
            br#"{"node":"a"}"#,
            br#"{"node":"a","seq":1,"record":3}"#,
        ] {
            let row = row(7, bytes);
            assert_eq!((row.leaf_index, row.node.as_str(), row.seq), (7, "", 0));
            assert_eq!(row.leaf_hash, Digest::new(leaf_hash(bytes)));
        }
    }

    #[test]
    fn a_leaf_has_the_same_row_however_it_was_read() {
        let leaf = |seq: u64, record: &str| {
            let prev = "0".repeat(64);
            format!(r#"{{"node":"gw-1","prev":"{prev}","record":{record},"seq":{seq}}}"#)
        };
        let whole = r#"{"action":"get","code":"CSD401","kind":"decision","principal":{"id":"a\u0022b","x":[1]},"resource":{"id":"/","service":"s"},"source_ip":"::1","timestamp":"2026-01-02T03:04:05.000006Z","z":{}}"#;
        for (text, node) in [
            (leaf(7, whole), "gw-1"),
            (leaf(0, "{}"), "gw-1"),
            (leaf(7, r#"{"z":"\ud800"}"#), "gw-1"),
            (leaf(7, r#"{"action":"\ud800"}"#), ""),
            (leaf(7, r#"{"action":1}"#), ""),
            (leaf(7, r#"{"action":"a","action":"a"}"#), ""),
            (leaf(u64::MAX, whole), ""),
        ] {
            let expected = row(3, text.as_bytes());
            assert_eq!(expected.node, node, "{text}");
            let read = ReadLeaf::new(text.as_bytes());
            assert!(read.is_leaf(), "{text}");
            assert_eq!(row_read(3, read), expected, "{text}");
        }
    }

    #[test]
    fn each_column_is_compared() {
        let leaf = br#"{"node":"n","prev":"","record":{"action":"get"},"seq":1}"#;
        let good = row(0, leaf);
        assert_eq!((good.action.as_str(), differs(&good, &good)), ("get", None));
        let mut bad = good.clone();
        bad.status = "success".to_owned();
        assert_eq!(differs(&bad, &good), Some("status"));
        let mut bad = good.clone();
        bad.timestamp = Timestamp::from_secs(1);
        assert_eq!(differs(&bad, &good), Some("timestamp"));
    }
}
