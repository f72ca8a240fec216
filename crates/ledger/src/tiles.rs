//! Names and contents of tiles (C2SP `tlog-tiles`): hash tiles of up to 256 hashes, and bundles
//! of up to 256 entries.

use crate::Hash;
use crate::MAX_LEAF;
use std::fmt;
use std::str::FromStr;

/// Hashes in a full tile, and entries in a full bundle.
pub const WIDTH: u64 = 256;

/// The highest level a tile path may name.
pub const MAX_LEVEL: u8 = 63;

/// Why a path or its content is no tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TileError {
    /// The path is not `tile/<level>/<n>[.p/<width>]` in its one canonical spelling.
    #[error("not the path of a tile")]
    Path,
    /// A hash tile's length is not a whole number of 1 to 256 hashes.
    #[error("a tile of `{0}` bytes does not hold whole hashes")]
    Length(usize),
    /// An entry bundle ends inside the entry with this position.
    #[error("the bundle ends inside entry `{0}`")]
    Truncated(usize),
    /// An entry is longer than 65,535 bytes.
    #[error("an entry of `{0}` bytes is over the limit of 65535")]
    TooLarge(usize),
}

/// What a tile holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Entries themselves.
    Entries,
    /// Hashes of complete subtrees over `256^level` leaves each.
    Hashes(u8),
}

/// The place of a tile: its kind, its number and how many of its 256 elements it holds.
///
/// Displays as the path below the log's prefix, for example `tile/0/x001/x234/067.p/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TilePath {
    kind: Kind,
    n: u64,
    width: u16,
}

impl TilePath {
    /// A tile by its parts; `width` is 1 to 256, 256 being the full tile.
    ///
    /// # Errors
    /// [`TileError::Path`] for a level above 63 or a width outside 1 to 256.
    pub fn new(kind: Kind, n: u64, width: u64) -> Result<Self, TileError> {
        let level_ok = !matches!(kind, Kind::Hashes(level) if level > MAX_LEVEL);
        match u16::try_from(width) {
            Ok(width @ 1..=256) if level_ok => Ok(Self { kind, n, width }),
            _ => Err(TileError::Path),
        }
    }

    /// What the tile holds.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The number of the tile within its level.
    #[must_use]
    pub fn n(&self) -> u64 {
        self.n
    }

    /// How many elements it holds, 1 to 256.
    #[must_use]
    pub fn width(&self) -> u16 {
        self.width
    }

    /// Whether it holds fewer than 256 elements.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        u64::from(self.width) < WIDTH
    }

    /// The same tile when full.
    #[must_use]
    pub fn full(&self) -> Self {
        Self {
            width: 256,
            ..*self
        }
    }

    /// The folder that holds the partial versions of this tile.
    #[must_use]
    pub fn partials(&self) -> String {
        format!("{}.p", self.full())
    }
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Entries => f.write_str("tile/entries/")?,
            Kind::Hashes(level) => write!(f, "tile/{level}/")?,
        }
        write_number(f, self.n / 1000)?;
        write!(f, "{:03}", self.n % 1000)?;
        if self.is_partial() {
            write!(f, ".p/{}", self.width)?;
        }
        Ok(())
    }
}

impl FromStr for TilePath {
    type Err = TileError;

    fn from_str(path: &str) -> Result<Self, TileError> {
        let rest = path.strip_prefix("tile/").ok_or(TileError::Path)?;
        let (level, rest) = rest.split_once('/').ok_or(TileError::Path)?;
        let kind = if level == "entries" {
            Kind::Entries
        } else {
            Kind::Hashes(level.parse().map_err(|_| TileError::Path)?)
        };
        let (number, width) = match rest.split_once(".p/") {
            Some((number, width)) => (number, width.parse().map_err(|_| TileError::Path)?),
            None => (rest, WIDTH),
        };
        let mut n: u64 = 0;
        for group in number.split('/') {
            let digits = group.strip_prefix('x').unwrap_or(group);
            let value: u64 = digits.parse().map_err(|_| TileError::Path)?;
            n = n
                .checked_mul(1000)
                .and_then(|n| n.checked_add(value))
                .ok_or(TileError::Path)?;
        }
        // Leading zeros, signs, a wrong `x` and `.p/256` all spell the same tile differently.
        let tile = Self::new(kind, n, width)?;
        if tile.to_string() == path {
            Ok(tile)
        } else {
            Err(TileError::Path)
        }
    }
}

/// How many elements tile `n` of a kind has in a tree of `size` leaves: 0 when it has none.
#[must_use]
pub fn width_at(kind: Kind, n: u64, size: u64) -> u64 {
    let elements = match kind {
        Kind::Entries => size,
        Kind::Hashes(level) => size.checked_shr(u32::from(level) * 8).unwrap_or(0),
    };
    elements.saturating_sub(n.saturating_mul(WIDTH)).min(WIDTH)
}

/// The hashes of a hash tile.
///
/// # Errors
/// [`TileError::Length`].
pub fn decode_hashes(bytes: &[u8]) -> Result<Vec<Hash>, TileError> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    if !rest.is_empty() || hashes.is_empty() || hashes.len() as u64 > WIDTH {
        return Err(TileError::Length(bytes.len()));
    }
    Ok(hashes.to_vec())
}

/// Adds one entry to a bundle: its length as two bytes, most significant first, then its bytes.
///
/// # Errors
/// [`TileError::TooLarge`].
pub fn encode_entry(entry: &[u8], bundle: &mut Vec<u8>) -> Result<(), TileError> {
    let length = u16::try_from(entry.len()).map_err(|_| TileError::TooLarge(entry.len()))?;
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    Ok(())
}

/// The entries of a bundle, one after the other; the first error ends the iteration.
#[must_use]
pub fn entries(bundle: &[u8]) -> Entries<'_> {
    Entries {
        rest: bundle,
        position: 0,
    }
}

/// The entries of a whole bundle.
///
/// # Errors
/// [`TileError::Truncated`] for a bundle that ends inside an entry.
pub fn decode_bundle(bundle: &[u8]) -> Result<Vec<&[u8]>, TileError> {
    entries(bundle).collect()
}

/// See [`entries`].
#[derive(Debug, Clone)]
pub struct Entries<'a> {
    rest: &'a [u8],
    position: usize,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<&'a [u8], TileError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let entry = self
            .rest
            .split_first_chunk::<2>()
            .and_then(|(length, rest)| {
                rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
            });
        let Some((entry, rest)) = entry else {
            self.rest = &[];
            return Some(Err(TileError::Truncated(self.position)));
        };
        self.rest = rest;
        self.position += 1;
        Some(Ok(entry))
    }
}

const _: () = assert!(MAX_LEAF == u16::MAX as usize);

/// All three-digit groups but the last, each with its `x`.
fn write_number(f: &mut fmt::Formatter<'_>, groups: u64) -> fmt::Result {
    if groups == 0 {
        return Ok(());
    }
    write_number(f, groups / 1000)?;
    write!(f, "x{:03}/", groups % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_groups_of_three() {
        for (n, path) in [
            (0, "tile/0/000"),
            (999, "tile/0/999"),
            (1000, "tile/0/x001/000"),
            (1_234_067, "tile/0/x001/x234/067"),
            (1_000_000, "tile/0/x001/x000/000"),
        ] {
            let tile = TilePath::new(Kind::Hashes(0), n, 256).unwrap();
            assert_eq!(tile.to_string(), path);
            assert_eq!(path.parse(), Ok(tile));
        }
        let partial = TilePath::new(Kind::Entries, 1000, 8).unwrap();
        assert_eq!(partial.to_string(), "tile/entries/x001/000.p/8");
        assert_eq!("tile/entries/x001/000.p/8".parse(), Ok(partial));
    }

    #[test]
    fn a_tile_has_one_spelling() {
        for path in [
            "",
            "tile",
            "tile/",
            "tile/0",
            "tile/0/",
            "tile/0/0",
            "tile/0/00",
            "tile/0/0000",
            "tile/00/000",
            "tile/64/000",
            "tile/-1/000",
            "tile/+1/000",
            "tile/0/x000/001",
            "tile/0/001/001",
            "tile/0/x001",
            "tile/0/000.p",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/08",
            "tile/0/000.p/+8",
            "tile/0/000/",
            "/tile/0/000",
            "tile/0/+00",
            "tile/0/x018/x446/x744/x073/x709/x551/616",
            "tile/entries/../000",
            "tile/0/000.p/8/9",
        ] {
            assert_eq!(path.parse::<TilePath>(), Err(TileError::Path), "{path}");
        }
    }

    #[test]
    fn widths_of_the_published_example() {
        // C2SP tlog-tiles: a tree of 70,000 entries.
        assert_eq!(width_at(Kind::Hashes(0), 272, 70_000), 256);
        assert_eq!(width_at(Kind::Hashes(0), 273, 70_000), 112);
        assert_eq!(width_at(Kind::Hashes(0), 274, 70_000), 0);
        assert_eq!(width_at(Kind::Entries, 273, 70_000), 112);
        assert_eq!(width_at(Kind::Hashes(1), 0, 70_000), 256);
        assert_eq!(width_at(Kind::Hashes(1), 1, 70_000), 17);
        assert_eq!(width_at(Kind::Hashes(2), 0, 70_000), 1);
        assert_eq!(width_at(Kind::Hashes(63), u64::MAX, u64::MAX), 0);
    }

    #[test]
    fn bundles_are_exact() {
        let mut bundle = Vec::new();
        encode_entry(b"", &mut bundle).unwrap();
        encode_entry(b"two", &mut bundle).unwrap();
        encode_entry(&[9; MAX_LEAF], &mut bundle).unwrap();
        assert_eq!(
            decode_bundle(&bundle).unwrap(),
            [&b""[..], b"two", &[9; MAX_LEAF]]
        );
        assert_eq!(
            encode_entry(&[0; MAX_LEAF + 1], &mut bundle),
            Err(TileError::TooLarge(65_536))
        );
        bundle.pop();
        assert_eq!(decode_bundle(&bundle), Err(TileError::Truncated(2)));
        assert_eq!(decode_bundle(&[0]), Err(TileError::Truncated(0)));
        assert_eq!(decode_hashes(&[0; 33]), Err(TileError::Length(33)));
        assert_eq!(decode_hashes(&[]), Err(TileError::Length(0)));
        assert_eq!(decode_hashes(&[0; 32 * 257]), Err(TileError::Length(8224)));
        assert_eq!(decode_hashes(&[7; 64]).unwrap(), [[7; 32]; 2]);
    }
}
