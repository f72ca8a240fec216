//! What the log keeps beside its tiles: how far it got, and how far with each node.

use crate::Hash;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;

const SCHEMA: &str = "countersign.log-state/v1";

/// How far the log is with one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// The sequence the node's next record must have.
    pub next: u64,
    /// The leaf hash of its last record.
    #[serde(with = "hex_hash")]
    pub hash: Hash,
}

/// The document `log-state`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    schema: String,
    pub(super) origin: String,
    pub(super) size: u64,
    #[serde(with = "hex_hash")]
    pub(super) root: Hash,
    pub(super) nodes: BTreeMap<String, Position>,
}

impl State {
    pub(super) fn empty(origin: &str) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            origin: origin.to_owned(),
            size: 0,
            root: crate::tree::EMPTY_ROOT,
            nodes: BTreeMap::new(),
        }
    }

    pub(super) fn parse(bytes: &[u8], origin: &str) -> Option<Self> {
        let state: Self = serde_json::from_slice(bytes).ok()?;
        (state.schema == SCHEMA && state.origin == origin).then_some(state)
    }
}

/// Hashes as hexadecimal digits in JSON.
mod hex_hash {
    use crate::Hash;
    use serde::Deserialize;
    use serde::Deserializer;
    use serde::Serializer;
    use serde::de::Error;

    pub(super) fn serialize<S: Serializer>(hash: &Hash, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(hash))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Hash, D::Error> {
        let mut hash = [0; 32];
        let text = String::deserialize(from)?;
        hex::decode_to_slice(text, &mut hash).map_err(D::Error::custom)?;
        Ok(hash)
    }
}
