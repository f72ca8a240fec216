//! The growing right edge of the tree: what the tiles that are not full yet hold.

use crate::Hash;
use crate::storage::Storage;
use crate::storage::StorageError;
use crate::tiles;
use crate::tiles::Kind;
use crate::tiles::TileError;
use crate::tiles::TilePath;
use crate::tiles::WIDTH;
use crate::tree;
use crate::tree::NoSubtree;
use crate::tree::Subtrees;

/// A tile and its bytes.
pub(super) type Tile = (TilePath, Vec<u8>);

/// The partial entry bundle and the partial tile of each level.
#[derive(Debug, Clone, Default)]
pub(super) struct Edge {
    pub(super) size: u64,
    /// By level; a level is there from its first hash on.
    pub(super) levels: Vec<Vec<Hash>>,
    pub(super) bundle: Vec<u8>,
}

impl Edge {
    /// Adds a leaf, and the tiles it fills to `full`.
    pub(super) fn push(
        &mut self,
        entry: &[u8],
        leaf: Hash,
        full: &mut Vec<Tile>,
    ) -> Result<(), TileError> {
        tiles::encode_entry(entry, &mut self.bundle)?;
        self.size += 1;
        let n = (self.size - 1) / WIDTH;
        if self.size.is_multiple_of(WIDTH) {
            // The next one will be about as large.
            let room = Vec::with_capacity(self.bundle.len());
            let bundle = std::mem::replace(&mut self.bundle, room);
            full.push((TilePath::new(Kind::Entries, n, WIDTH)?, bundle));
        }
        let (mut hash, mut n) = (leaf, n);
        for level in 0..=tiles::MAX_LEVEL {
            let index = usize::from(level);
            if self.levels.len() <= index {
                self.levels.push(Vec::new());
            }
            let Some(hashes) = self.levels.get_mut(index) else {
                break;
            };
            hashes.push(hash);
            if (hashes.len() as u64) < WIDTH {
                break;
            }
            hash = tree::root(hashes);
            full.push((
                TilePath::new(Kind::Hashes(level), n, WIDTH)?,
                hashes.concat(),
            ));
            hashes.clear();
            n /= WIDTH;
        }
        Ok(())
    }

    /// The tiles that are not full yet, of those that differ from what they were at `since`
    /// leaves.
    pub(super) fn partials(&self, since: u64) -> Result<Vec<Tile>, TileError> {
        let mut partials = Vec::new();
        let mut add = |kind: Kind, bytes: Vec<u8>| {
            let shift = if let Kind::Hashes(level) = kind {
                u32::from(level) * 8
            } else {
                0
            };
            let elements = |size: u64| size.checked_shr(shift).unwrap_or(0);
            let (now, before) = (elements(self.size), elements(since));
            if now != before && !now.is_multiple_of(WIDTH) {
                partials.push((TilePath::new(kind, now / WIDTH, now % WIDTH)?, bytes));
            }
            Ok(())
        };
        add(Kind::Entries, self.bundle.clone())?;
        for (level, hashes) in (0..=tiles::MAX_LEVEL).zip(&self.levels) {
            add(Kind::Hashes(level), hashes.concat())?;
        }
        Ok(partials)
    }

    /// The root over all leaves.
    pub(super) fn root(&self) -> Result<Hash, NoSubtree> {
        tree::root_at(self, self.size)
    }

    /// The edge of a stored tree of `size` leaves. What it holds is not checked here.
    pub(super) fn load(source: &TileSource<'_>) -> Result<Self, SourceError> {
        let mut edge = Self {
            size: source.size,
            ..Self::default()
        };
        for level in 0..=tiles::MAX_LEVEL {
            let elements = source.size.checked_shr(u32::from(level) * 8).unwrap_or(0);
            if elements == 0 {
                break;
            }
            let n = elements / WIDTH;
            let partial = !elements.is_multiple_of(WIDTH);
            edge.levels.push(if partial {
                source.hashes(level, n)?
            } else {
                Vec::new()
            });
        }
        if !source.size.is_multiple_of(WIDTH) {
            for entry in source.entries(source.size / WIDTH)? {
                tiles::encode_entry(&entry, &mut edge.bundle)?;
            }
        }
        Ok(edge)
    }
}

impl Subtrees for Edge {
    type Error = NoSubtree;

    fn subtree(&self, level: u8, index: u64) -> Result<Hash, NoSubtree> {
        let missing = NoSubtree { level, index };
        let hashes = self.levels.get(usize::from(level / 8)).ok_or(missing)?;
        subtree_of(hashes, level, index).ok_or(missing)
    }
}

/// Why a stored tree can't be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SourceError {
    /// A tile that the tree's size calls for is missing or too short.
    #[error("`{path}` is missing or does not hold `{width}` elements")]
    Missing {
        /// The tile's path below the log.
        path: String,
        /// How many elements it should hold.
        width: u64,
    },
    /// A tile's bytes are no tile.
    #[error(transparent)]
    Tile(#[from] TileError),
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// A tree of `size` leaves as its tiles lie in storage.
#[derive(Debug)]
pub(super) struct TileSource<'a> {
    pub(super) storage: &'a dyn Storage,
    /// The log's folder with its final `/`, or nothing.
    pub(super) prefix: &'a str,
    pub(super) size: u64,
}

impl TileSource<'_> {
    /// The hashes of a tile that count in a tree of this size.
    pub(super) fn hashes(&self, level: u8, n: u64) -> Result<Vec<Hash>, SourceError> {
        let kind = Kind::Hashes(level);
        let (bytes, width) = self.tile(kind, n)?;
        let mut hashes = tiles::decode_hashes(&bytes)?;
        if (hashes.len() as u64) < width {
            return Err(self.missing(kind, n));
        }
        hashes.truncate(width as usize);
        Ok(hashes)
    }

    /// The entries of a bundle that count in a tree of this size.
    pub(super) fn entries(&self, n: u64) -> Result<Vec<Vec<u8>>, SourceError> {
        let (bytes, width) = self.tile(Kind::Entries, n)?;
        let entries = tiles::entries(&bytes).take(width as usize);
        let entries: Vec<_> = entries
            .map(|e| e.map(<[u8]>::to_vec))
            .collect::<Result<_, _>>()?;
        if (entries.len() as u64) < width {
            return Err(self.missing(Kind::Entries, n));
        }
        Ok(entries)
    }

    /// The bytes of a tile, and how many of its elements count. The partial one comes first: a
    /// full one may be left over from an append that a crash cut short.
    pub(super) fn tile(&self, kind: Kind, n: u64) -> Result<(Vec<u8>, u64), SourceError> {
        let width = tiles::width_at(kind, n, self.size);
        let missing = || self.missing(kind, n);
        let path = TilePath::new(kind, n, width).map_err(|_| missing())?;
        let prefix = self.prefix;
        let mut bytes = self.storage.read(&format!("{prefix}{path}"))?;
        if bytes.is_none() && path.is_partial() {
            bytes = self.storage.read(&format!("{prefix}{}", path.full()))?;
        }
        Ok((bytes.ok_or_else(missing)?, width))
    }

    /// The path of a tile in a tree of this size.
    pub(super) fn path(&self, kind: Kind, n: u64) -> String {
        let width = tiles::width_at(kind, n, self.size).max(1);
        TilePath::new(kind, n, width)
            .map(|path| path.to_string())
            .unwrap_or_default()
    }

    fn missing(&self, kind: Kind, n: u64) -> SourceError {
        let width = tiles::width_at(kind, n, self.size);
        SourceError::Missing {
            path: self.path(kind, n),
            width,
        }
    }
}

impl Subtrees for TileSource<'_> {
    type Error = SourceError;

    fn subtree(&self, level: u8, index: u64) -> Result<Hash, SourceError> {
        let kind = Kind::Hashes(level / 8);
        let n = (index << (level % 8)) / WIDTH;
        let hashes = self.hashes(level / 8, n)?;
        subtree_of(&hashes, level, index).ok_or_else(|| self.missing(kind, n))
    }
}

/// The hash of a subtree from the tile its lower end lies in.
fn subtree_of(hashes: &[Hash], level: u8, index: u64) -> Option<Hash> {
    let width = 1_u64 << (level % 8);
    let begin = ((index * width) % WIDTH) as usize;
    Some(tree::root(hashes.get(begin..begin + width as usize)?))
}
