//! Reading a spool: shipping, looking up, verifying.

use super::Head;
use super::Spool;
use super::SpoolError;
use super::SpooledLeaf;
use super::core;
use super::core::SegmentName;
use super::core::View;
use super::frame;
use super::frame::Link;
use super::frame::Reader;
use super::frame::Stop;
use super::recent::At;
use crate::Hash;
use crate::ReceiptId;
use crate::ReceiptPrefix;
use crate::envelope::Envelope;
use crate::storage::Open;
use bytes::Bytes;
use std::sync::Arc;

/// Where the last read ended, so that shipping reads each byte at most once.
#[derive(Debug)]
pub(super) enum Cursor {
    /// In a file.
    File(SegmentName, Reader),
    /// In memory; this is where it would have been in the file.
    Memory(At),
}

impl Cursor {
    /// Whether it is of use to whoever wants this record of this segment.
    fn leads_to(&self, place: Place, wanted: u64) -> bool {
        let (segment, next) = match self {
            Self::File(segment, reader) => (*segment, reader.link.next),
            Self::Memory(at) => (at.segment, at.link.next),
        };
        segment == place.name && next <= wanted
    }
}

impl Spool {
    /// Up to `max` durable records from `seq` on, in order; fewer or none at the end. The newest
    /// megabyte comes from memory, what is older from the files.
    ///
    /// # Errors
    /// [`SpoolError::Forgotten`], [`SpoolError::Corrupt`], [`SpoolError::Storage`].
    pub fn read_from(&self, seq: u64, max: usize) -> Result<Vec<SpooledLeaf>, SpoolError> {
        self.inner.lane.before_reading();
        let shared = &self.inner.shared;
        let view = shared.view.lock();
        let first = view.first();
        if seq < first {
            return Err(SpoolError::Forgotten { first });
        }
        let end = view.next.min(seq.saturating_add(max as u64));
        let recent = shared.recent.lock().between(seq, end);
        let files_end = recent.first().map_or(end, |batch| batch.first());
        // Most of the time nobody needs to know where the files are.
        let files = (seq < files_end).then(|| view.clone());
        drop(view);
        let mut leaves = match files {
            Some(view) => self.read_files(&view, seq, files_end)?,
            None => Vec::with_capacity(end.saturating_sub(seq) as usize),
        };
        for batch in &recent {
            leaves.extend(batch.leaves(seq, end));
        }
        if let Some(at) = recent.last().and_then(|batch| batch.end(end)) {
            *self.inner.cursor.lock() = Some(Cursor::Memory(at));
        }
        Ok(leaves)
    }

    /// The records from `seq` on before `end`, all of which are durable, from the files.
    fn read_files(&self, view: &View, seq: u64, end: u64) -> Result<Vec<SpooledLeaf>, SpoolError> {
        let mut leaves = Vec::new();
        let mut cursor = self.inner.cursor.lock().take();
        let from = view
            .segments
            .partition_point(|segment| segment.name.first <= seq);
        for index in from.saturating_sub(1)..view.segments.len() {
            let wanted = seq + leaves.len() as u64;
            if wanted >= end {
                break;
            }
            let place = Place::of(view, index).filter(|place| wanted < place.next);
            let Some(place) = place else {
                continue;
            };
            let kept = cursor.take().filter(|it| it.leads_to(place, wanted));
            let mut reader = match kept {
                Some(Cursor::File(_, reader)) => reader,
                Some(Cursor::Memory(at)) => self.reader_at(place, at)?,
                None => self.reader(place)?,
            };
            while reader.link.next < end.min(place.next) {
                let leaf = self.leaf(&mut reader, place)?;
                if leaf.seq >= seq {
                    leaves.push(leaf);
                }
            }
            cursor = Some(Cursor::File(place.name, reader));
        }
        *self.inner.cursor.lock() = cursor;
        Ok(leaves)
    }

    /// The leaf hash of the record before `seq`, zeros before the first: what a log that has this
    /// spool's records up to there has last. Nothing if the spool is not that far.
    ///
    /// # Errors
    /// As [`Spool::read_from`].
    pub fn hash_before(&self, seq: u64) -> Result<Option<Hash>, SpoolError> {
        let head = self.head();
        if seq >= head.next {
            return Ok((seq == head.next).then_some(head.hash));
        }
        // The record says itself which one it follows, also if that is forgotten.
        let leaves = self.read_from(seq, 1)?;
        let envelope = leaves.first().and_then(|leaf| Envelope::parse(&leaf.leaf));
        Ok(envelope.map(|envelope| envelope.prev))
    }

    /// The record with this receipt, if it is still in the spool. Reads from the newest segment
    /// back.
    ///
    /// # Errors
    /// [`SpoolError::Corrupt`], [`SpoolError::Storage`].
    pub fn find(&self, receipt: &ReceiptId) -> Result<Option<SpooledLeaf>, SpoolError> {
        Ok(self.find_all(&ReceiptPrefix::from(*receipt))?.pop())
    }

    /// All records in the spool whose receipts start like this.
    ///
    /// # Errors
    /// [`SpoolError::Corrupt`], [`SpoolError::Storage`].
    pub fn find_all(&self, prefix: &ReceiptPrefix) -> Result<Vec<SpooledLeaf>, SpoolError> {
        let view = self.view();
        let mut found = Vec::new();
        for place in (0..view.segments.len())
            .rev()
            .filter_map(|index| Place::of(&view, index))
        {
            let mut reader = self.reader(place)?;
            while reader.link.next < place.next {
                let leaf = self.leaf(&mut reader, place)?;
                if prefix.matches(&ReceiptId::from(&leaf.leaf_hash)) {
                    found.push(leaf);
                }
            }
        }
        found.sort_by_key(|leaf| leaf.seq);
        Ok(found)
    }

    /// Reads every record of every segment and follows the chain through all of them.
    ///
    /// # Errors
    /// [`SpoolError::Corrupt`] naming the first record that is not what it was.
    pub fn verify(&self) -> Result<Head, SpoolError> {
        let view = self.view();
        let mut chain: Option<Link> = None;
        for place in (0..view.segments.len()).filter_map(|index| Place::of(&view, index)) {
            let mut reader = self.reader(place)?;
            if chain.is_some_and(|chain| chain != reader.link) {
                return Err(self.corrupt(place, 0, reader.link.next));
            }
            while reader.link.next < place.next {
                self.leaf(&mut reader, place)?;
            }
            chain = Some(reader.link);
        }
        Ok(chain.map_or(self.head(), |link| Head {
            next: link.next,
            hash: link.hash,
        }))
    }

    fn view(&self) -> View {
        self.inner.lane.before_reading();
        self.inner.shared.view.lock().clone()
    }

    fn reader(&self, place: Place) -> Result<Reader, SpoolError> {
        let shared = &self.inner.shared;
        let file = shared.storage.open(&self.segment_path(place), Open::Read)?;
        let start = frame::read_segment_header(&*file)?
            .filter(|start| start.next == place.name.first)
            .ok_or_else(|| self.corrupt(place, 0, place.name.first))?;
        Ok(Reader::new(file, Arc::clone(&shared.node), start))
    }

    /// A reader that goes on behind what was read from memory: what this process wrote there itself
    /// needs no second look.
    fn reader_at(&self, place: Place, at: At) -> Result<Reader, SpoolError> {
        let shared = &self.inner.shared;
        let file = shared.storage.open(&self.segment_path(place), Open::Read)?;
        let node = Arc::clone(&shared.node);
        Ok(Reader::at(file, node, at.link, at.offset))
    }

    /// The next leaf, which must be there.
    fn leaf(&self, reader: &mut Reader, place: Place) -> Result<SpooledLeaf, SpoolError> {
        let (offset, seq) = (reader.offset, reader.link.next);
        match reader.next(place.length) {
            Ok(frame) => Ok(SpooledLeaf {
                seq,
                leaf_hash: frame.hash,
                leaf: Bytes::copy_from_slice(frame.leaf),
            }),
            Err(Stop::Storage(error)) => Err(error.into()),
            Err(Stop::Bad | Stop::End) => Err(self.corrupt(place, offset, seq)),
        }
    }

    fn corrupt(&self, place: Place, offset: u64, seq: u64) -> SpoolError {
        SpoolError::Corrupt {
            segment: self.segment_path(place),
            offset,
            seq,
        }
    }

    fn segment_path(&self, place: Place) -> String {
        format!("{}/{}", core::folder(self.node()), place.name)
    }
}

/// A segment and where the records in it that count end.
#[derive(Debug, Clone, Copy)]
struct Place {
    name: SegmentName,
    length: u64,
    next: u64,
}

impl Place {
    fn of(view: &View, index: usize) -> Option<Self> {
        let segment = view.segments.get(index)?;
        // What lies behind the start of the next segment was never promised.
        let next = view
            .segments
            .get(index + 1)
            .map_or(view.next, |after| after.name.first);
        // An abandoned attempt, or a newest segment without records, has nothing to read.
        let place = Self {
            name: segment.name,
            length: segment.length,
            next,
        };
        (segment.name.first < next).then_some(place)
    }
}
