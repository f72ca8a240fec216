//! Recomputing a whole log from its entries.

use super::edge::Edge;
use super::edge::SourceError;
use super::edge::TileSource;
use super::state::Position;
use crate::checkpoint::Checkpoint;
use crate::envelope::Envelope;
use crate::envelope::NO_PREVIOUS;
use crate::storage::Storage;
use crate::storage::StorageError;
use crate::tiles;
use crate::tiles::Kind;
use crate::tiles::TileError;
use crate::tiles::WIDTH;
use crate::tree;
use std::collections::BTreeMap;

/// The first place where a log is not what it says to be.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Finding {
    /// A leaf is missing, can't be read, or does not hash to what its tile says.
    #[error("leaf `{index}` does not match its hash in `{tile}`")]
    Leaf {
        /// The leaf.
        index: u64,
        /// The hash tile.
        tile: String,
    },
    /// A hash tile does not hold what the leaves under it make.
    #[error("hash `{element}` of `{tile}`, over leaves `{first}` to `{last}`, does not match them")]
    Node {
        /// The hash tile.
        tile: String,
        /// The place of the hash in it.
        element: u64,
        /// The first leaf under the hash.
        first: u64,
        /// The last leaf under the hash.
        last: u64,
    },
    /// A tile is missing, too short or too long.
    #[error("`{tile}` is missing or has the wrong size")]
    Tile {
        /// The tile.
        tile: String,
    },
    /// The leaves make another root than the checkpoint's.
    #[error("the first `{size}` leaves do not make the root of the checkpoint")]
    Root {
        /// The size of the checkpoint.
        size: u64,
    },
    /// A leaf does not follow its node's previous one.
    #[error("leaf `{index}` is record `{seq}` of `{node}` and does not follow its record before")]
    Chain {
        /// The leaf.
        index: u64,
        /// The node that recorded it.
        node: String,
        /// The sequence it claims.
        seq: u64,
    },
    /// The log's own note of how far it is with a node is not what its leaves say.
    #[error("the log says `{seq}` is next from `{node}`, its leaves say otherwise")]
    Position {
        /// The node.
        node: String,
        /// The sequence the log says is next.
        seq: u64,
    },
    /// A checkpoint to compare with is of a larger tree or another log.
    #[error(
        "the log has `{size}` leaves, fewer than the `{earlier}` of the earlier checkpoint, or is another log"
    )]
    Smaller {
        /// Leaves of the log.
        size: u64,
        /// Leaves of the earlier checkpoint.
        earlier: u64,
    },
    /// The storage failed, which says nothing about the log.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What a log that is what it says holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Leaves, all of them hashed.
    pub leaves: u64,
    /// Leaves in a node's envelope, whose chains were followed.
    pub chained: u64,
    /// Where each node's chain ends.
    pub nodes: BTreeMap<String, Position>,
}

/// Recomputes every tile of the tree of a checkpoint from its entries, the chain of every node,
/// and the roots of earlier checkpoints on the way.
///
/// `prefix` is the log's folder in the storage with a final `/`, or empty. `progress` hears how
/// many leaves are done, of how many. The checkpoints' signatures are the caller's to verify.
///
/// # Errors
/// The first [`Finding`].
pub fn recompute(
    storage: &dyn Storage,
    prefix: &str,
    checkpoint: &Checkpoint,
    earlier: &[Checkpoint],
    mut progress: impl FnMut(u64, u64),
) -> Result<Report, Finding> {
    for old in earlier {
        if old.size > checkpoint.size || old.origin != checkpoint.origin {
            return Err(Finding::Smaller {
                size: checkpoint.size,
                earlier: old.size,
            });
        }
    }
    let size = checkpoint.size;
    let source = TileSource {
        storage,
        prefix,
        size,
    };
    let anchors: Vec<_> = earlier.iter().chain([checkpoint]).collect();
    let mut audit = Audit {
        source,
        anchors,
        edge: Edge::default(),
        nodes: BTreeMap::new(),
        chained: 0,
    };
    audit.check_roots()?;
    for n in 0..size.div_ceil(WIDTH) {
        audit.bundle(n)?;
        progress(audit.edge.size, size);
    }
    audit.partials()?;
    Ok(Report {
        leaves: size,
        chained: audit.chained,
        nodes: audit.nodes,
    })
}

struct Audit<'a> {
    source: TileSource<'a>,
    anchors: Vec<&'a Checkpoint>,
    edge: Edge,
    nodes: BTreeMap<String, Position>,
    chained: u64,
}

impl Audit<'_> {
    /// Checks bundle `n` leaf by leaf, then the hash tiles that it completes.
    fn bundle(&mut self, n: u64) -> Result<(), Finding> {
        let path = |kind| self.source.path(kind, n);
        let tile = path(Kind::Hashes(0));
        let (bytes, width) = self.read(Kind::Entries, n)?;
        let (hashes, _) = self.read(Kind::Hashes(0), n)?;
        let mut entries = tiles::entries(&bytes);
        let (hashes, _) = hashes.as_chunks::<32>();
        let mut full = Vec::new();
        for place in 0..width {
            let index = n * WIDTH + place;
            let wrong = || Finding::Leaf {
                index,
                tile: tile.clone(),
            };
            let entry = entries.next().and_then(Result::ok).ok_or_else(wrong)?;
            let hash = tree::leaf_hash(entry);
            if hashes.get(place as usize) != Some(&hash) {
                return Err(wrong());
            }
            self.chain(index, entry, hash)?;
            self.edge
                .push(entry, hash, &mut full)
                .map_err(|_| wrong())?;
            self.check_roots()?;
        }
        for (path, expected) in full {
            self.compare(path.kind(), path.n(), &expected)?;
        }
        Ok(())
    }

    /// Checks the tiles that are not full.
    fn partials(&self) -> Result<(), Finding> {
        let impossible = |_: TileError| Finding::Root {
            size: self.edge.size,
        };
        for (path, expected) in self.edge.partials(0).map_err(impossible)? {
            self.compare(path.kind(), path.n(), &expected)?;
        }
        Ok(())
    }

    fn compare(&self, kind: Kind, n: u64, expected: &[u8]) -> Result<(), Finding> {
        let (stored, width) = self.read(kind, n)?;
        let tile = self.source.path(kind, n);
        let element = match kind {
            Kind::Entries => None,
            Kind::Hashes(level) => {
                let pairs = expected.chunks(32).zip(stored.chunks(32));
                (0..width)
                    .zip(pairs)
                    .find(|(_, (a, b))| a != b)
                    .map(|(at, _)| (level, at))
            }
        };
        if let Some((level, element)) = element {
            let leaves = WIDTH.saturating_pow(u32::from(level));
            let first = (n * WIDTH + element) * leaves;
            return Err(Finding::Node {
                tile,
                element,
                first,
                last: first + leaves - 1,
            });
        }
        // Behind the elements that count there may be more only where a full tile stands in for
        // a partial one that has been removed.
        let exact = stored == expected
            || (width < WIDTH && stored.starts_with(expected) && {
                let path = tiles::TilePath::new(kind, n, width).map(|path| path.to_string());
                let prefix = self.source.prefix;
                path.is_ok_and(|path| {
                    matches!(
                        self.source.storage.read(&format!("{prefix}{path}")),
                        Ok(None)
                    )
                })
            });
        if exact {
            Ok(())
        } else {
            Err(Finding::Tile { tile })
        }
    }

    fn chain(&mut self, index: u64, entry: &[u8], hash: crate::Hash) -> Result<(), Finding> {
        // A leaf outside the envelope came from no spool and is chained by nothing but the tree.
        let Some(envelope) = Envelope::parse(entry) else {
            return Ok(());
        };
        let before = self.nodes.get(envelope.node);
        let expected = before.map_or((0, NO_PREVIOUS), |before| (before.next, before.hash));
        let (node, seq) = (envelope.node.to_owned(), envelope.seq);
        if (seq, envelope.prev) != expected {
            return Err(Finding::Chain { index, node, seq });
        }
        self.nodes.insert(
            node,
            Position {
                next: seq + 1,
                hash,
            },
        );
        self.chained += 1;
        Ok(())
    }

    fn check_roots(&self) -> Result<(), Finding> {
        let size = self.edge.size;
        for anchor in self.anchors.iter().filter(|anchor| anchor.size == size) {
            if self.edge.root().ok() != Some(anchor.root) {
                return Err(Finding::Root { size });
            }
        }
        Ok(())
    }

    fn read(&self, kind: Kind, n: u64) -> Result<(Vec<u8>, u64), Finding> {
        self.source.tile(kind, n).map_err(|error| match error {
            SourceError::Storage(error) => Finding::Storage(error),
            SourceError::Missing { .. } | SourceError::Tile(_) => Finding::Tile {
                tile: self.source.path(kind, n),
            },
        })
    }
}
