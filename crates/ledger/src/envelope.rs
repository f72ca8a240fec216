//! The leaf: a record in the envelope that chains it to its node's previous record.
//!
//! `{"node":"gw-1","prev":"<64 hex digits>","record":{...},"seq":7}` is canonical JSON whenever
//! the record is, because the member names are already in order and a node name needs no escape.

use crate::Hash;
use crate::object::is_object;

/// The `prev` of a node's first record.
pub(crate) const NO_PREVIOUS: Hash = [0; 32];

/// Whether a name can stand in the envelope and in a folder name as it is.
pub(crate) fn is_node_name(node: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=128).contains(&node.len()) && !node.starts_with('.') && node.bytes().all(allowed)
}

/// Everything of a leaf but the record, with the longest possible `seq`.
pub(crate) fn overhead(node: &str) -> usize {
    r#"{"node":"","prev":"","record":,"seq":}"#.len() + node.len() + 64 + 20
}

/// Writes a leaf behind what `out` already holds.
pub(crate) fn write(out: &mut Vec<u8>, node: &str, prev: &Hash, record: &[u8], seq: u64) {
    out.extend_from_slice(br#"{"node":""#);
    out.extend_from_slice(node.as_bytes());
    out.extend_from_slice(br#"","prev":""#);
    let mut digits = [0; 64];
    // 32 bytes always fit in 64 digits.
    let _ = hex::encode_to_slice(prev, &mut digits);
    out.extend_from_slice(&digits);
    out.extend_from_slice(br#"","record":"#);
    out.extend_from_slice(record);
    out.extend_from_slice(br#","seq":"#);
    out.extend_from_slice(seq.to_string().as_bytes());
    out.push(b'}');
}

/// The parts of a leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Envelope<'a> {
    pub(crate) node: &'a str,
    pub(crate) prev: Hash,
    pub(crate) record: &'a [u8],
    pub(crate) seq: u64,
}

impl<'a> Envelope<'a> {
    /// Takes a leaf apart; nothing but what [`write`] writes around a JSON object is accepted.
    pub(crate) fn parse(leaf: &'a [u8]) -> Option<Self> {
        let envelope = Self::frame(leaf)?;
        is_object(envelope.record).then_some(envelope)
    }

    /// As [`Envelope::parse`], without looking into the record: for leaves this process wrote
    /// itself and whose bytes a checksum has covered since.
    pub(crate) fn frame(leaf: &'a [u8]) -> Option<Self> {
        let rest = leaf.strip_prefix(br#"{"node":""#)?;
        let end = rest.iter().position(|b| *b == b'"')?;
        let (node, rest) = rest.split_at_checked(end)?;
        let node = std::str::from_utf8(node)
            .ok()
            .filter(|node| is_node_name(node))?;
        let rest = rest.strip_prefix(br#"","prev":""#)?;
        let (digits, rest) = rest.split_first_chunk::<64>()?;
        let mut prev = [0; 32];
        hex::decode_to_slice(digits, &mut prev).ok()?;
        if digits.iter().any(u8::is_ascii_uppercase) {
            return None;
        }
        let rest = rest.strip_prefix(br#"","record":"#)?.strip_suffix(b"}")?;
        let colon = rest.iter().rposition(|b| !b.is_ascii_digit())?;
        let (record, seq) = rest.split_at_checked(colon + 1)?;
        let record = record.strip_suffix(br#","seq":"#)?;
        let number = std::str::from_utf8(seq).ok()?.parse::<u64>().ok()?;
        let exact = seq.len() == 1 || seq.first() != Some(&b'0');
        exact.then_some(Self {
            node,
            prev,
            record,
            seq: number,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical::is_canonical;

    #[test]
    fn a_leaf_is_canonical_and_comes_apart_again() {
        for (node, seq, record) in [
            ("gw-1", 0, r#"{}"#),
            (
                "a.b_C-9",
                9_007_199_254_740_991,
                r#"{"a":",\"seq\":5}","seq":5}"#,
            ),
        ] {
            let mut leaf = Vec::new();
            write(&mut leaf, node, &[0xab; 32], record.as_bytes(), seq);
            assert!(is_canonical(&leaf));
            let envelope = Envelope::parse(&leaf).unwrap();
            let expected = Envelope {
                node,
                prev: [0xab; 32],
                record: record.as_bytes(),
                seq,
            };
            assert_eq!(envelope, expected);
            assert!(leaf.len() <= overhead(node) + record.len());
        }
        let mut longest = Vec::new();
        write(&mut longest, "n", &[0; 32], b"{}", u64::MAX);
        assert_eq!(longest.len(), overhead("n") + 2);
    }

    #[test]
    fn anything_else_is_no_leaf() {
        let mut leaf = Vec::new();
        write(&mut leaf, "gw", &[0xab; 32], br#"{"k":1}"#, 10);
        let leaf = String::from_utf8(leaf).unwrap();
        for bad in [
            leaf.replace(r#""seq":10"#, r#""seq":010"#),
            leaf.replace(r#""seq":10"#, r#""seq":-1"#),
            leaf.replace(r#""seq":10"#, r#""seq":"#),
            leaf.replace(r#""seq":10"#, r#""seq":99999999999999999999"#),
            leaf.replace("abab", "ABAB"),
            leaf.replace("gw", ""),
            leaf.replace("gw", "..\\"),
            leaf.replace("gw", ".gw"),
            leaf.replace(r#"{"k":1}"#, "[1]"),
            leaf.replace(r#"{"k":1}"#, r#"{"k":1},"x":{}"#),
            leaf.replace(r#"{"k":1}"#, r#"{"k":}"#),
            format!("{leaf} "),
            format!(" {leaf}"),
        ] {
            assert_eq!(Envelope::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
