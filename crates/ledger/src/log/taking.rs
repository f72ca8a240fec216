//! Taking leaves of a node: in order, each once.

use super::Log;
use super::LogError;
use super::Position;
use crate::Hash;
use crate::envelope::Envelope;
use crate::envelope::NO_PREVIOUS;
use crate::spool::SpooledLeaf;
use std::ops::Range;

impl Log {
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
