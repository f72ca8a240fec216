//! Taking leaves of a node: in order, each once.

use super::Log;
use super::LogError;
use super::Position;
use crate::Hash;
use crate::envelope::Envelope;
use crate::envelope::NO_PREVIOUS;
use crate::object::read_object;
use crate::spool::SpooledLeaf;
use crate::tree::leaf_hash;
use serde::Deserialize;
use std::ops::Range;

/// A leaf from elsewhere that has been looked at: hashed, and its record parsed. Both are done here
/// and nowhere else, so that neither has to be done twice or believed.
#[derive(Debug, Clone)]
pub struct ReadLeaf<'a, T> {
    bytes: &'a [u8],
    envelope: Option<Envelope<'a>>,
    hash: Hash,
    record: Option<T>,
}

impl<'a, T: Deserialize<'a>> ReadLeaf<'a, T> {
    /// Looks at bytes that may be a leaf.
    pub fn new(bytes: &'a [u8]) -> Self {
        let envelope = Envelope::frame(bytes);
        let looked = envelope.and_then(|it| Some((read_object(it.record)?, it)));
        let (record, envelope) = looked.unzip();
        Self {
            bytes,
            envelope,
            hash: leaf_hash(bytes),
            record: record.flatten(),
        }
    }
}

impl<T> ReadLeaf<'_, T> {
    /// Its RFC 6962 hash.
    #[must_use]
    pub const fn hash(&self) -> Hash {
        self.hash
    }

    /// Whether it is a record in its envelope.
    #[must_use]
    pub const fn is_leaf(&self) -> bool {
        self.envelope.is_some()
    }
}

impl<'a, T> ReadLeaf<'a, T> {
    /// The node that it says it is of, its sequence there, and what was read of its record, if
    /// that is a `T`; nothing of bytes that are no leaf.
    #[must_use]
    pub fn into_parts(self) -> Option<(&'a str, u64, Option<T>)> {
        let Envelope { node, seq, .. } = self.envelope?;
        Some((node, seq, self.record))
    }
}

impl Log {
    /// As [`Log::append_from`], for leaves that have been looked at.
    ///
    /// # Errors
    /// As [`Log::append_from`].
    pub fn append_read<T>(
        &self,
        node: &str,
        first_seq: u64,
        leaves: &[ReadLeaf<'_, T>],
    ) -> Result<Range<u64>, LogError> {
        let known = leaves.iter().map(|it| {
            let envelope = it.envelope.clone();
            (it.bytes, envelope.map(|envelope| (envelope, it.hash)))
        });
        self.take(node, first_seq, known)
    }

    /// As [`Log::append_from`], for leaves of a spool of this process: what the spool has looked at
    /// is not looked at again.
    ///
    /// # Errors
    /// As [`Log::append_from`].
    pub fn append_spooled(
        &self,
        node: &str,
        leaves: &[SpooledLeaf],
    ) -> Result<Range<u64>, LogError> {
        let first_seq = leaves.first().map_or(0, |leaf| leaf.seq);
        let known = leaves.iter().map(|it| {
            let envelope = Envelope::frame(&it.leaf);
            (&*it.leaf, envelope.map(|envelope| (envelope, it.leaf_hash)))
        });
        self.take(node, first_seq, known)
    }

    /// Takes leaves, each with what it is: nothing for one that is no leaf.
    pub(super) fn take<'a>(
        &self,
        node: &str,
        first_seq: u64,
        leaves: impl Iterator<Item = (&'a [u8], Option<(Envelope<'a>, Hash)>)>,
    ) -> Result<Range<u64>, LogError> {
        let mut inner = self.certain()?;
        let known = inner.loaded.state.nodes.get(node).copied();
        let mut position = known.unwrap_or(Position {
            next: 0,
            hash: NO_PREVIOUS,
        });
        if first_seq > position.next {
            let (node, expected) = (node.to_owned(), position.next);
            return Err(LogError::Gap {
                node,
                expected,
                first: first_seq,
            });
        }
        let mut fresh = Vec::with_capacity(leaves.size_hint().0);
        for (seq, (leaf, what)) in (first_seq..).zip(leaves) {
            let about = || (node.to_owned(), seq);
            let what = what.filter(|(it, _)| it.node == node && it.seq == seq);
            let (envelope, hash) = what.ok_or_else(|| {
                let (node, seq) = about();
                LogError::NotALeaf { node, seq }
            })?;
            if seq < position.next {
                // The leaf names node and sequence, so the same hash is the same record.
                if self.locate(&inner, &hash)?.is_none() {
                    let (node, seq) = about();
                    return Err(LogError::Forked { node, seq });
                }
                continue;
            }
            if envelope.prev != position.hash {
                let (node, seq) = about();
                return Err(LogError::BrokenChain { node, seq });
            }
            position = Position {
                next: seq + 1,
                hash,
            };
            fresh.push((leaf, hash));
        }
        self.commit(&mut inner, &fresh, Some((node, position)))
    }
}
