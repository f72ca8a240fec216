//! Rows of leaves that the log has just taken, until the search index has them: so that a leaf is
//! parsed and hashed once.

use crate::store::IndexRow;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::Range;

/// Rows kept; those of more leaves are made from the log's entries.
const MOST: usize = 16_384;

/// Rows by leaf. Any may be missing.
#[derive(Debug, Default)]
pub(super) struct Fresh(Mutex<BTreeMap<u64, IndexRow>>);

impl Fresh {
    /// Keeps the rows of leaves of which the last ones have just got these places in the log.
    pub(super) fn keep<L>(
        &self,
        added: Range<u64>,
        leaves: impl ExactSizeIterator<Item = L>,
        row: impl Fn(u64, L) -> IndexRow,
    ) {
        let (places, count) = (added.clone().count(), leaves.len());
        let new = leaves.skip(count.saturating_sub(places));
        let rows: Vec<_> = added
            .zip(new)
            .map(|(index, leaf)| (index, row(index, leaf)))
            .collect();
        let mut kept = self.0.lock();
        let room = MOST.saturating_sub(kept.len());
        kept.extend(rows.into_iter().take(room));
    }

    /// Gives up the row of a leaf.
    pub(super) fn take(&self, leaf: u64) -> Option<IndexRow> {
        self.0.lock().remove(&leaf)
    }

    /// Forgets rows that the index has.
    pub(super) fn forget_before(&self, leaf: u64) {
        let mut kept = self.0.lock();
        if kept
            .first_key_value()
            .is_some_and(|(first, _)| *first < leaf)
        {
            *kept = kept.split_off(&leaf);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::rows;

    #[test]
    fn the_last_leaves_are_the_new_ones() {
        let fresh = Fresh::default();
        let leaves: Vec<_> = (0..4)
            .map(|seq| format!("{{\"node\":\"n\",\"record\":{{}},\"seq\":{seq}}}"))
            .collect();
        let row = |index, leaf: &String| rows::row(index, leaf.as_bytes());
        fresh.keep(7..9, leaves.iter(), row);
        assert_eq!(fresh.take(6), None);
        let kept = fresh.take(7).unwrap();
        assert_eq!((kept.leaf_index, kept.seq), (7, 2));
        assert_eq!(kept, row(7, &leaves[2]));
        fresh.keep(9..11, leaves.iter(), row);
        fresh.forget_before(10);
        assert_eq!((fresh.take(8), fresh.take(9)), (None, None));
        assert_eq!(fresh.take(10).unwrap().seq, 3);
    }
}
