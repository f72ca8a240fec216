use crate::vocabulary::Digest;
use serde::Deserialize;
use serde::Serialize;

/// What a JSON Schema said to a body. The body itself is in no record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaVerdict {
    /// The first faults, at most [`MOST_FAULTS`](Self::MOST_FAULTS).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<SchemaFault>,
    /// SHA-256 of the schema's text.
    pub schema: Digest,
    /// Whether the body follows it.
    pub valid: bool,
}

/// A place in a body that does not follow its schema: where, and which rule; never what stands
/// there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaFault {
    /// Where in the body (RFC 6901), shortened to 256 bytes; empty for all of it.
    pub pointer: String,
    /// The keyword of the schema, such as `maxLength`.
    pub rule: String,
}

impl SchemaVerdict {
    /// The most faults that are told.
    pub const MOST_FAULTS: usize = 8;
}
