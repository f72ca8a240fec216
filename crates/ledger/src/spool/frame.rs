//! How leaves lie in a segment file.
//!
//! ```text
//! segment = header frame*
//! header  = "CSSPOOL1" | first sequence u64 | previous leaf hash [32] | check [8]
//! frame   = F5 'c' 's' 01 | leaf length u32 | mark u64 | check [7] | 00 | leaf
//! ```
//!
//! Numbers are little-endian. A frame's check covers its header and the leaf's hash, so it covers
//! the leaf; the 00 is the domain byte of RFC 6962, which lets the leaf be hashed where it lies.
//!
//! `mark` says how many records of this spool had been promised when the frame was written. It
//! tells a torn tail from corruption: a frame that can't be read may be cut off only if no frame
//! behind it marks it as promised.

use crate::Hash;
use crate::MAX_LEAF;
use crate::envelope;
use crate::envelope::Envelope;
use crate::storage::File;
use crate::storage::StorageError;
use crate::storage::read_full;
use crate::tree::sha256;
use std::sync::Arc;

/// Bytes of a segment's header.
pub(super) const SEGMENT_HEADER: u64 = 56;

/// Bytes of a frame before its leaf.
pub(super) const FRAME_HEADER: usize = 24;

const SEGMENT_MAGIC: &[u8; 8] = b"CSSPOOL1";

/// 0xF5 never occurs in UTF-8, so no record can hold this.
const FRAME_MAGIC: &[u8; 4] = b"\xf5cs\x01";

/// How much of a file is read at a time.
const CHUNK: usize = 1 << 18;

/// Where a spool's chain stands: the next sequence, and the hash its record will point back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) next: u64,
    pub(super) hash: Hash,
}

/// Writes a segment header.
pub(super) fn segment_header(start: Link) -> Vec<u8> {
    let mut header = SEGMENT_MAGIC.to_vec();
    header.extend_from_slice(&start.next.to_le_bytes());
    header.extend_from_slice(&start.hash);
    let check = sha256(&header);
    header.extend(check.iter().take(8));
    header
}

/// Reads a segment header; nothing if it is not whole.
pub(super) fn read_segment_header(file: &dyn File) -> Result<Option<Link>, StorageError> {
    let mut bytes = [0; SEGMENT_HEADER as usize];
    if read_full(file, 0, &mut bytes)? < bytes.len() {
        return Ok(None);
    }
    let link = || {
        let rest = bytes.strip_prefix(SEGMENT_MAGIC)?;
        let (next, rest) = rest.split_first_chunk::<8>()?;
        let hash = rest.first_chunk::<32>()?;
        Some(Link {
            next: u64::from_le_bytes(*next),
            hash: *hash,
        })
    };
    Ok(link().filter(|link| segment_header(*link) == bytes))
}

/// Writes a frame behind what `out` holds, and returns the leaf's hash and length.
pub(super) fn write_frame(
    out: &mut Vec<u8>,
    node: &str,
    link: Link,
    record: &[u8],
    mark: u64,
) -> (Hash, usize) {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_HEADER]);
    envelope::write(out, node, &link.hash, record, link.next);
    let length = out.len() - start - FRAME_HEADER;
    // The domain byte and the leaf lie side by side.
    let hash = out.get(start + FRAME_HEADER - 1..).map_or([0; 32], sha256);
    let header = frame_header(length as u32, mark, &hash);
    if let Some(place) = out.get_mut(start..start + FRAME_HEADER) {
        place.copy_from_slice(&header);
    }
    (hash, length)
}

/// A frame whose check agrees with its content.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'a> {
    pub(super) leaf: &'a [u8],
    pub(super) hash: Hash,
    pub(super) mark: u64,
}

impl<'a> Frame<'a> {
    /// The frame at the start of some bytes.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(FRAME_MAGIC)?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (mark, rest) = rest.split_first_chunk::<8>()?;
        let length = u32::from_le_bytes(*length);
        if length as usize > MAX_LEAF {
            return None;
        }
        // Seven bytes of check come before the domain byte.
        let hashed = rest.get(7..8 + length as usize)?;
        let leaf = hashed.get(1..)?;
        let (hash, mark) = (sha256(hashed), u64::from_le_bytes(*mark));
        let same = bytes.starts_with(&frame_header(length, mark, &hash));
        same.then_some(Self { leaf, hash, mark })
    }

    /// Bytes this frame takes in the file.
    pub(super) fn size(&self) -> u64 {
        (FRAME_HEADER + self.leaf.len()) as u64
    }
}

/// Why [`Reader::next`] gave no frame.
#[derive(Debug)]
pub(super) enum Stop {
    /// There is no more.
    End,
    /// What lies at the reader's offset does not continue the chain.
    Bad,
    Storage(StorageError),
}

/// Reads frames one after the other and follows the chain.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) file: Arc<dyn File>,
    pub(super) link: Link,
    /// Of the next frame.
    pub(super) offset: u64,
    node: Arc<str>,
    buffer: Vec<u8>,
    buffer_offset: u64,
}

impl Reader {
    /// A reader at the first frame of a segment.
    pub(super) fn new(file: Arc<dyn File>, node: Arc<str>, start: Link) -> Self {
        Self::at(file, node, start, SEGMENT_HEADER)
    }

    /// A reader at a later frame, of a chain that is known up to there.
    pub(super) fn at(file: Arc<dyn File>, node: Arc<str>, link: Link, offset: u64) -> Self {
        Self {
            file,
            link,
            offset,
            node,
            buffer: Vec::new(),
            buffer_offset: offset,
        }
    }

    /// The next frame before offset `end`.
    pub(super) fn next(&mut self, end: u64) -> Result<Frame<'_>, Stop> {
        if self.offset >= end {
            return Err(Stop::End);
        }
        let length = self.frame_length(end)?;
        self.fill(length, end)?;
        let at = self.position();
        let frame = self
            .buffer
            .get(at..at + length)
            .and_then(Frame::parse)
            .ok_or(Stop::Bad)?;
        let envelope = Envelope::frame(frame.leaf).ok_or(Stop::Bad)?;
        let expected = (&*self.node, self.link.next, self.link.hash);
        if (envelope.node, envelope.seq, envelope.prev) != expected {
            return Err(Stop::Bad);
        }
        self.link = Link {
            next: envelope.seq + 1,
            hash: frame.hash,
        };
        self.offset += frame.size();
        Ok(frame)
    }

    fn frame_length(&mut self, end: u64) -> Result<usize, Stop> {
        self.fill(FRAME_HEADER, end)?;
        let at = self.position() + FRAME_MAGIC.len();
        let length = self
            .buffer
            .get(at..)
            .and_then(|rest| rest.first_chunk::<4>());
        let length = u32::from_le_bytes(*length.ok_or(Stop::Bad)?) as usize;
        if length <= MAX_LEAF {
            Ok(FRAME_HEADER + length)
        } else {
            Err(Stop::Bad)
        }
    }

    /// Makes the buffer hold `length` bytes from the offset on.
    fn fill(&mut self, length: usize, end: u64) -> Result<(), Stop> {
        if self.offset + length as u64 > end {
            return Err(Stop::Bad);
        }
        let held = self.buffer_offset + self.buffer.len() as u64;
        if self.offset >= self.buffer_offset && self.offset + length as u64 <= held {
            return Ok(());
        }
        let wanted = (end - self.offset).min(length.max(CHUNK) as u64) as usize;
        self.buffer.resize(wanted, 0);
        self.buffer_offset = self.offset;
        let read = read_full(&*self.file, self.offset, &mut self.buffer).map_err(Stop::Storage)?;
        self.buffer.truncate(read);
        if read < length {
            Err(Stop::Bad)
        } else {
            Ok(())
        }
    }

    fn position(&self) -> usize {
        (self.offset - self.buffer_offset) as usize
    }
}

/// The highest mark of any whole frame in some bytes, wherever it starts.
pub(super) fn highest_mark(bytes: &[u8]) -> Option<u64> {
    whole(bytes).map(|(_, frame)| frame.mark).max()
}

/// Every whole frame in some bytes, with its bytes, wherever it starts.
pub(super) fn whole(bytes: &[u8]) -> impl Iterator<Item = (&[u8], Frame<'_>)> {
    let starts = bytes.windows(FRAME_MAGIC.len()).enumerate();
    starts
        .filter(|(_, window)| window == FRAME_MAGIC)
        .filter_map(|(at, _)| {
            let rest = bytes.get(at..)?;
            let frame = Frame::parse(rest)?;
            Some((rest.get(..FRAME_HEADER + frame.leaf.len())?, frame))
        })
}

fn frame_header(length: u32, mark: u64, leaf_hash: &Hash) -> [u8; FRAME_HEADER] {
    let mut covered = [0; 48];
    put(&mut covered, 0, FRAME_MAGIC);
    put(&mut covered, 4, &length.to_le_bytes());
    put(&mut covered, 8, &mark.to_le_bytes());
    put(&mut covered, 16, leaf_hash);
    let check = sha256(&covered);
    let mut header = [0; FRAME_HEADER];
    put(
        &mut header,
        0,
        covered.first_chunk::<16>().unwrap_or(&[0; 16]),
    );
    put(&mut header, 16, check.first_chunk::<7>().unwrap_or(&[0; 7]));
    header
}

fn put<const LENGTH: usize>(to: &mut [u8], at: usize, bytes: &[u8; LENGTH]) {
    let place = to.get_mut(at..).and_then(|rest| rest.first_chunk_mut());
    if let Some(place) = place {
        *place = *bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(record: &[u8], mark: u64) -> Vec<u8> {
        let mut out = Vec::new();
        write_frame(
            &mut out,
            "gw",
            Link {
                next: 4,
                hash: [1; 32],
            },
            record,
            mark,
        );
        out
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let good = frame(br#"{"a":1}"#, 3);
        let parsed = Frame::parse(&good).unwrap();
        assert_eq!((parsed.mark, parsed.size()), (3, good.len() as u64));
        assert_eq!(parsed.hash, crate::tree::leaf_hash(parsed.leaf));
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                assert!(Frame::parse(&bad).is_none(), "byte {at}, bit {bit}");
            }
            assert!(Frame::parse(&good[..at]).is_none(), "cut at {at}");
        }
    }

    #[test]
    fn marks_are_found_behind_rubbish() {
        let mut bytes = vec![0xf5; 100];
        bytes.extend(frame(b"{}", 9));
        bytes.extend(b"\xf5cs\x01 torn");
        bytes.extend(frame(b"{}", 7));
        assert_eq!(highest_mark(&bytes), Some(9));
        assert_eq!(highest_mark(&bytes[..bytes.len() - 1]), Some(9));
        assert_eq!(highest_mark(b""), None);
    }

    proptest! {
        #[test]
        fn a_frame_reads_back(text in "\\PC{0,200}", mark: u64) {
            let record = serde_json::json!({ "t": text }).to_string();
            let bytes = frame(record.as_bytes(), mark);
            let parsed = Frame::parse(&bytes).unwrap();
            prop_assert_eq!(Envelope::parse(parsed.leaf).unwrap().record, record.as_bytes());
            prop_assert_eq!(parsed.mark, mark);
        }

        #[test]
        fn rubbish_is_no_frame(tail: Vec<u8>) {
            let mut bytes = FRAME_MAGIC.to_vec();
            bytes.extend(tail);
            prop_assert!(Frame::parse(&bytes).is_none());
            prop_assert!(highest_mark(&bytes).is_none());
            prop_assert!(Envelope::parse(&bytes).is_none());
        }
    }
}
