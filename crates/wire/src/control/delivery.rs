//! Records on their way from a node to the log.
//!
//! A delivery is lines (`application/x-ndjson`), each with its `\n`: first
//! `{"first":<sequence>,"node":"<name>"}`, then one line for each leaf, which is that leaf's bytes
//! as they were hashed. Canonical JSON has no line break in it (RFC 8785 section 3.2.1), so nothing
//! is escaped on one side and unescaped on the other. There is one way to write a delivery, and
//! nothing else is read.

use bytes::Buf as _;
use bytes::Bytes;
use countersign_core::vocabulary::Name;
use countersign_ledger::MAX_LEAF;
use serde::Deserialize;
use serde::Serialize;

/// Records of one spool, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Sequence of the first.
    pub first: u64,
    /// The leaves, each canonical JSON; at most [`Self::LEAVES`].
    pub leaves: Vec<Bytes>,
    /// The node.
    pub node: Name,
}

/// Why bytes are no delivery, or records can't be delivered. Leaves are counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// The first line is missing, or is not what would be written.
    #[error(r#"the first line is not `{{"first":<sequence>,"node":"<name>"}}`"#)]
    Header,
    /// A line has nothing in it.
    #[error("leaf `{0}` is empty")]
    Empty(usize),
    /// A line break would make two leaves of one.
    #[error("leaf `{0}` has a line break in it")]
    Broken(usize),
    /// Longer than the log takes.
    #[error("leaf `{0}` is longer than `{most}` bytes", most = MAX_LEAF)]
    TooLong(usize),
    /// More than are delivered at once.
    #[error("there are more than `{most}` leaves", most = Delivery::LEAVES)]
    TooMany,
    /// The last line was cut.
    #[error("the last line has no end")]
    Unended,
    /// JSON is UTF-8.
    #[error("it is not UTF-8")]
    NotUtf8,
}

/// The first line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    first: u64,
    node: Name,
}

impl Header {
    /// The line with its end.
    fn line(&self) -> Option<Vec<u8>> {
        let mut line = serde_json::to_vec(self).ok()?;
        line.push(b'\n');
        Some(line)
    }
}

impl Delivery {
    /// What it is on the wire.
    pub const CONTENT_TYPE: &str = "application/x-ndjson";
    /// Leaves at once.
    pub const LEAVES: usize = 1024;

    /// Writes it into one buffer.
    ///
    /// # Errors
    /// [`DeliveryError`] for what [`Self::decode`] would refuse, or read as something else.
    pub fn encode(&self) -> Result<Bytes, DeliveryError> {
        if self.leaves.len() > Self::LEAVES {
            return Err(DeliveryError::TooMany);
        }
        let (first, node) = (self.first, self.node.clone());
        let mut body = Header { first, node }.line().ok_or(DeliveryError::Header)?;
        body.reserve_exact(self.leaves.iter().map(|leaf| leaf.len() + 1).sum());
        for (number, leaf) in (1..).zip(&self.leaves) {
            bounded(number, leaf)?;
            if memchr::memchr(b'\n', leaf).is_some() {
                return Err(DeliveryError::Broken(number));
            }
            // Each by itself: half a character at the end of one is not made whole by the next.
            text(leaf)?;
            body.extend_from_slice(leaf);
            body.push(b'\n');
        }
        Ok(body.into())
    }

    /// Reads what [`Self::encode`] writes. The leaves are parts of `body`; whether they are
    /// records, and whose, is for the log to look at.
    ///
    /// # Errors
    /// [`DeliveryError`].
    pub fn decode(mut body: Bytes) -> Result<Self, DeliveryError> {
        text(&body)?;
        let end = memchr::memchr(b'\n', &body).ok_or(DeliveryError::Header)?;
        let line = body.split_to(end + 1);
        let header = serde_json::from_slice::<Header>(&line).ok();
        let Header { first, node } = header
            .filter(|header| header.line().is_some_and(|written| written == line))
            .ok_or(DeliveryError::Header)?;
        let mut leaves = Vec::new();
        while !body.is_empty() {
            if leaves.len() == Self::LEAVES {
                return Err(DeliveryError::TooMany);
            }
            let end = memchr::memchr(b'\n', &body).ok_or(DeliveryError::Unended)?;
            let leaf = body.split_to(end);
            body.advance(1);
            bounded(leaves.len() + 1, &leaf)?;
            leaves.push(leaf);
        }
        Ok(Self {
            first,
            leaves,
            node,
        })
    }
}

fn bounded(number: usize, leaf: &[u8]) -> Result<(), DeliveryError> {
    match leaf.len() {
        0 => Err(DeliveryError::Empty(number)),
        1..=MAX_LEAF => Ok(()),
        _ => Err(DeliveryError::TooLong(number)),
    }
}

fn text(bytes: &[u8]) -> Result<(), DeliveryError> {
    match std::str::from_utf8(bytes) {
        Ok(_) => Ok(()),
        Err(_) => Err(DeliveryError::NotUtf8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(leaves: &[&[u8]]) -> Delivery {
        Delivery {
            first: 7,
            leaves: leaves
                .iter()
                .map(|leaf| Bytes::copy_from_slice(leaf))
                .collect(),
            node: Name::new("gw-1").unwrap(),
        }
    }

    fn decoded(body: impl AsRef<[u8]>) -> Result<Delivery, DeliveryError> {
        Delivery::decode(Bytes::copy_from_slice(body.as_ref()))
    }

    const FIRST: &str = "{\"first\":7,\"node\":\"gw-1\"}\n";

    #[test]
    fn it_is_a_line_and_the_leaves_as_they_are() {
        let two = delivery(&[br#"{"a":"\"\\n"}"#, "{\"\u{e9}\":1}".as_bytes()]);
        let body = two.encode().unwrap();
        let lines = format!("{FIRST}{}\n{}\n", r#"{"a":"\"\\n"}"#, "{\"\u{e9}\":1}");
        assert_eq!(body, lines.as_bytes());
        assert_eq!(Delivery::decode(body.clone()).unwrap(), two);
        // They are parts of the body, not copies.
        let read = Delivery::decode(body.clone()).unwrap();
        let parts = body.as_ptr_range();
        assert!(
            read.leaves
                .iter()
                .all(|leaf| parts.contains(&leaf.as_ptr()))
        );
        assert_eq!(delivery(&[]).encode().unwrap(), FIRST);
        assert_eq!(decoded(FIRST).unwrap(), delivery(&[]));
    }

    #[test]
    fn a_first_line_is_written_one_way() {
        for odd in [
            "",
            "\n",
            "{}\n",
            "{\"first\":7,\"node\":\"gw-1\"}",
            "{\"first\":7}\n",
            "{\"node\":\"gw-1\"}\n",
            "{\"node\":\"gw-1\",\"first\":7}\n",
            "{\"first\": 7,\"node\":\"gw-1\"}\n",
            "{\"first\":7,\"node\":\"gw-1\"}\r\n",
            " {\"first\":7,\"node\":\"gw-1\"}\n",
            "{\"first\":07,\"node\":\"gw-1\"}\n",
            "{\"first\":7.0,\"node\":\"gw-1\"}\n",
            "{\"first\":-7,\"node\":\"gw-1\"}\n",
            "{\"first\":18446744073709551616,\"node\":\"gw-1\"}\n",
            "{\"first\":7,\"node\":\"gw\\u002d1\"}\n",
            "{\"first\":7,\"node\":\"../gw\"}\n",
            "{\"first\":7,\"node\":\"\"}\n",
            "{\"first\":7,\"first\":7,\"node\":\"gw-1\"}\n",
            "{\"first\":7,\"leaves\":[],\"node\":\"gw-1\"}\n",
            "[7,\"gw-1\"]\n",
        ] {
            assert_eq!(decoded(odd), Err(DeliveryError::Header), "{odd}");
            let more = format!("{odd}{{}}\n");
            assert_eq!(decoded(&more), Err(DeliveryError::Header), "{more}");
        }
    }

    #[test]
    fn lines_that_are_no_leaves_are_refused() {
        let after = |rest: &[u8]| decoded([FIRST.as_bytes(), rest].concat());
        assert_eq!(after(b"\n"), Err(DeliveryError::Empty(1)));
        assert_eq!(after(b"{}\n\n{}\n"), Err(DeliveryError::Empty(2)));
        assert_eq!(after(b"{}\n\n"), Err(DeliveryError::Empty(2)));
        assert_eq!(after(b"{}"), Err(DeliveryError::Unended));
        assert_eq!(after(b"{}\n{"), Err(DeliveryError::Unended));
        assert_eq!(after(b"\"\xff\"\n"), Err(DeliveryError::NotUtf8));
        assert_eq!(after(b"\xc3\n\xa9\n"), Err(DeliveryError::NotUtf8));
        let full = b"{}\n".repeat(Delivery::LEAVES);
        assert_eq!(after(&full).unwrap().leaves.len(), Delivery::LEAVES);
        let more = [&full[..], b"{}\n"].concat();
        assert_eq!(after(&more), Err(DeliveryError::TooMany));
        let longest = [&[b'x'; MAX_LEAF][..], b"\n"].concat();
        assert_eq!(after(&longest).unwrap().leaves[0].len(), MAX_LEAF);
        let longer = [b"{}\nx", &longest[..]].concat();
        assert_eq!(after(&longer), Err(DeliveryError::TooLong(2)));
    }

    #[test]
    fn leaves_that_would_be_read_as_others_are_not_written() {
        let refused = |leaves: &[&[u8]]| delivery(leaves).encode().unwrap_err();
        assert_eq!(refused(&[b"{}", b""]), DeliveryError::Empty(2));
        assert_eq!(refused(&[b"{\n}"]), DeliveryError::Broken(1));
        assert_eq!(refused(&[b"{}", b"{}\n"]), DeliveryError::Broken(2));
        assert_eq!(refused(&[b"\xc3", b"\xa9"]), DeliveryError::NotUtf8);
        let longer = [b'x'; MAX_LEAF + 1];
        assert_eq!(refused(&[&longer]), DeliveryError::TooLong(1));
        let more = vec![&b"{}"[..]; Delivery::LEAVES + 1];
        assert_eq!(refused(&more), DeliveryError::TooMany);
    }

    #[test]
    fn an_error_says_what_is_expected() {
        assert_eq!(
            DeliveryError::Header.to_string(),
            r#"the first line is not `{"first":<sequence>,"node":"<name>"}`"#
        );
        assert_eq!(
            DeliveryError::TooMany.to_string(),
            "there are more than `1024` leaves"
        );
        assert_eq!(
            DeliveryError::TooLong(3).to_string(),
            "leaf `3` is longer than `65535` bytes"
        );
    }
}
