//! The newest leaves, as they were written.
//!
//! Whoever ships reads most records moments after they were written. What is here need not be read
//! back for it, hashed again, or copied.

use super::SpooledLeaf;
use super::core::SegmentName;
use super::frame::FRAME_HEADER;
use super::frame::Link;
use crate::Hash;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;

/// The most that is kept, in bytes.
const MOST: usize = 1 << 20;

/// What was written last, without a gap. Only what is promised gets here.
#[derive(Debug, Default)]
pub(super) struct Recent {
    batches: VecDeque<Arc<Batch>>,
    /// What they take.
    bytes: usize,
}

impl Recent {
    /// Keeps what was written behind all that is here, and lets the oldest go.
    pub(super) fn keep(&mut self, batch: Batch) {
        self.bytes += batch.size();
        self.batches.push_back(Arc::new(batch));
        while self.bytes > MOST && self.let_go() {}
    }

    /// Lets go of what comes before `seq`.
    pub(super) fn forget_before(&mut self, seq: u64) {
        let old = |batch: &Arc<Batch>| batch.next() <= seq;
        while self.batches.front().is_some_and(old) && self.let_go() {}
    }

    /// The batches that hold what is kept of the records from `seq` on before `end`: the last of
    /// them, or none.
    pub(super) fn between(&self, seq: u64, end: u64) -> Vec<Arc<Batch>> {
        let from = self.batches.partition_point(|batch| batch.next() <= seq);
        let kept = self.batches.range(from..);
        kept.take_while(|batch| batch.first < end)
            .cloned()
            .collect()
    }

    fn let_go(&mut self) -> bool {
        let gone = self.batches.pop_front();
        self.bytes -= gone.as_ref().map_or(0, |batch| batch.size());
        gone.is_some()
    }
}

/// Frames that were written in one go.
#[derive(Debug)]
pub(super) struct Batch {
    segment: SegmentName,
    /// Where in the segment they begin.
    offset: u64,
    /// The sequence of the first.
    first: u64,
    frames: Bytes,
    ends: Vec<End>,
}

/// Where a frame ends among those of its batch, and the hash of the leaf in it.
#[derive(Debug)]
struct End {
    at: usize,
    hash: Hash,
}

/// A place in a segment between two records.
#[derive(Debug, Clone, Copy)]
pub(super) struct At {
    pub(super) segment: SegmentName,
    pub(super) offset: u64,
    pub(super) link: Link,
}

impl Batch {
    /// Frames with the hashes and lengths of their leaves.
    pub(super) fn new(
        segment: SegmentName,
        offset: u64,
        first: u64,
        frames: &[u8],
        leaves: impl Iterator<Item = (Hash, usize)>,
    ) -> Self {
        let mut at = 0;
        let end = |(hash, length)| {
            at += FRAME_HEADER + length;
            End { at, hash }
        };
        Self {
            segment,
            offset,
            first,
            frames: Bytes::copy_from_slice(frames),
            ends: leaves.map(end).collect(),
        }
    }

    /// The sequence of its first record.
    pub(super) const fn first(&self) -> u64 {
        self.first
    }

    /// The sequence behind its last record.
    const fn next(&self) -> u64 {
        self.first + self.ends.len() as u64
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.frames.len() + self.ends.capacity() * size_of::<End>()
    }

    /// Its leaves from `seq` on before `end`. They share its bytes.
    pub(super) fn leaves(&self, seq: u64, end: u64) -> impl Iterator<Item = SpooledLeaf> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|end| end.at));
        let leaves = (self.first..).zip(starts.zip(&self.ends));
        let wanted = leaves.filter(move |(at, _)| (seq..end).contains(at));
        wanted.map(|(seq, (start, end))| SpooledLeaf {
            seq,
            leaf_hash: end.hash,
            leaf: self.frames.slice(start + FRAME_HEADER..end.at),
        })
    }

    /// Where its last record before `end` ends.
    pub(super) fn end(&self, end: u64) -> Option<At> {
        let last = end.min(self.next()).checked_sub(self.first + 1)?;
        let found = self.ends.get(usize::try_from(last).ok()?)?;
        Some(At {
            segment: self.segment,
            offset: self.offset + found.at as u64,
            link: Link {
                next: self.first + last + 1,
                hash: found.hash,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(first: u64, lengths: &[usize]) -> Batch {
        let segment = SegmentName {
            first: 0,
            attempt: 0,
        };
        let frames = lengths.iter().map(|it| FRAME_HEADER + it).sum();
        let leaves = lengths.iter().map(|length| ([7; 32], *length));
        Batch::new(segment, 100, first, &vec![b'x'; frames], leaves)
    }

    /// What is kept, by its sequences.
    fn kept(recent: &Recent) -> std::ops::Range<u64> {
        let (first, last) = (recent.batches.front(), recent.batches.back());
        first.map_or(0, |it| it.first)..last.map_or(0, |it| it.next())
    }

    #[test]
    fn it_never_takes_more_than_it_may_and_keeps_the_newest_without_a_gap() {
        let mut recent = Recent::default();
        let mut next = 0;
        for round in 0..5000_usize {
            let lengths: Vec<_> = (0..1 + round % 7)
                .map(|n| 2 + (round * 31 + n * 97) % 900)
                .collect();
            recent.keep(batch(next, &lengths));
            next += lengths.len() as u64;
            let taken: usize = recent.batches.iter().map(|it| it.size()).sum();
            assert_eq!(taken, recent.bytes);
            assert!(taken <= MOST, "{taken}");
            assert_eq!(kept(&recent).end, next);
            let inside = recent.batches.iter().zip(recent.batches.iter().skip(1));
            assert!(inside.into_iter().all(|(a, b)| a.next() == b.first));
        }
        assert!(recent.bytes > MOST - 10_000, "it keeps what it may");
        // What is too much by itself leaves nothing, so that there is no gap.
        recent.keep(batch(next, &[60_000; 20]));
        assert_eq!((recent.batches.len(), recent.bytes), (0, 0));
    }

    #[test]
    fn it_gives_the_batches_in_which_something_wanted_is() {
        let mut recent = Recent::default();
        for first in [10, 12, 14, 16] {
            recent.keep(batch(first, &[5, 6]));
        }
        let firsts = |seq, end| {
            let found = recent.between(seq, end);
            found.iter().map(|it| it.first()).collect::<Vec<_>>()
        };
        assert_eq!(firsts(0, 10), [0; 0]);
        assert_eq!(firsts(0, 11), [10]);
        assert_eq!(firsts(11, 12), [10]);
        assert_eq!(firsts(12, 15), [12, 14]);
        assert_eq!(firsts(13, 100), [12, 14, 16]);
        assert_eq!(firsts(18, 100), [0; 0]);
        let batch = batch(10, &[5, 6]);
        let of = |seq, end| batch.leaves(seq, end).map(|it| (it.seq, it.leaf.len()));
        assert!(of(0, 100).eq([(10, 5), (11, 6)]));
        assert!(of(11, 12).eq([(11, 6)]));
        let (head, offset) = (FRAME_HEADER as u64, 100);
        let end = |end| batch.end(end).map(|at| (at.link.next, at.offset));
        assert_eq!(end(10), None);
        assert_eq!(end(11), Some((11, offset + head + 5)));
        assert_eq!(end(90), Some((12, offset + 2 * head + 11)));
    }

    #[test]
    fn what_is_forgotten_takes_no_memory() {
        let mut recent = Recent::default();
        for first in [10, 12, 14] {
            recent.keep(batch(first, &[5, 6]));
        }
        recent.forget_before(13);
        assert_eq!(kept(&recent), 12..16);
        recent.forget_before(16);
        assert_eq!((recent.batches.len(), recent.bytes), (0, 0));
        recent.forget_before(99);
        recent.keep(batch(16, &[1]));
        assert_eq!(kept(&recent), 16..17);
    }
}
