//! What opening the log believes, and what it repairs.

use super::HEAD;
use super::LogError;
use super::PREFIX;
use super::PUBLISHED;
use super::STATE;
use super::edge::Edge;
use super::edge::SourceError;
use super::edge::TileSource;
use super::index::Index;
use super::index::IndexShape;
use super::state::Position;
use super::state::State;
use crate::Hash;
use crate::canonical::to_canonical;
use crate::checkpoint::Checkpoint;
use crate::checkpoint::CheckpointError;
use crate::checkpoint::SignedCheckpoint;
use crate::envelope::Envelope;
use crate::envelope::NO_PREVIOUS;
use crate::note::SigningKey;
use crate::storage::Storage;
use crate::tiles;
use crate::tiles::WIDTH;
use crate::tree;
use crate::tree::leaf_hash;

/// The log as it stands on disk, checked as far as its right edge shows.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) state: State,
    pub(super) head: SignedCheckpoint,
    pub(super) edge: Edge,
    pub(super) index: Index,
}

/// Loads the log. Everything ever accepted or signed must be there: the tree that the largest of
/// state, head and published checkpoint tells of has to contain the other two. If it does, the
/// ones behind are brought up to it from the tiles.
pub(super) fn load(
    storage: &dyn Storage,
    origin: &str,
    key: &SigningKey,
    shape: IndexShape,
) -> Result<Loaded, LogError> {
    let published = read_signed(storage, PUBLISHED, key)?;
    let stored = storage.read(STATE)?;
    let mut head = match read_signed(storage, HEAD, key)? {
        Some(head) => head,
        None if published.is_some() || stored.is_some() => return Err(LogError::HeadMissing),
        None => start(storage, origin, key)?,
    };
    let mut state = match stored {
        Some(bytes) => State::parse(&bytes, origin).ok_or(LogError::State)?,
        None => State::empty(origin),
    };
    let newest = published
        .as_ref()
        .map_or(0, |published| published.claimed().size);
    let size = state.size.max(head.claimed().size).max(newest);
    let source = TileSource {
        storage,
        prefix: PREFIX,
        size,
    };
    contains(&source, STATE, state.size, &state.root)?;
    contains(&source, HEAD, head.claimed().size, &head.claimed().root)?;
    if let Some(published) = published {
        let checkpoint = published.claimed();
        contains(&source, PUBLISHED, checkpoint.size, &checkpoint.root)?;
        if checkpoint.size > head.claimed().size {
            storage.replace(HEAD, published.to_string().as_bytes())?;
            head = published;
        }
    }
    let edge = Edge::load(&source)?;
    agree(&edge)?;
    catch_up(&source, &mut state)?;
    state.size = size;
    state.root = root_of(&edge)?;
    // Also when nothing changed: the file may have been renamed into place by a process that
    // died before the folder was synced.
    save(storage, &state)?;
    let index = Index::open(&source, shape)?;
    Ok(Loaded {
        state,
        head,
        edge,
        index,
    })
}

/// Makes a state durable.
pub(super) fn save(storage: &dyn Storage, state: &State) -> Result<(), LogError> {
    let document = to_canonical(state).map_err(|_| LogError::State)?;
    Ok(storage.replace(STATE, &document)?)
}

/// The root of an edge, which always has the hashes for it.
pub(super) fn root_of(edge: &Edge) -> Result<Hash, LogError> {
    edge.root().map_err(|_| LogError::Inconsistent {
        what: STATE.to_owned(),
        size: edge.size,
    })
}

/// Signs the empty tree and writes the head, the first file of a new log.
fn start(
    storage: &dyn Storage,
    origin: &str,
    key: &SigningKey,
) -> Result<SignedCheckpoint, LogError> {
    let empty = Checkpoint {
        origin: origin.to_owned(),
        size: 0,
        root: tree::EMPTY_ROOT,
    };
    let head = SignedCheckpoint::sign(empty, key)?;
    storage.replace(HEAD, head.to_string().as_bytes())?;
    Ok(head)
}

fn read_signed(
    storage: &dyn Storage,
    path: &str,
    key: &SigningKey,
) -> Result<Option<SignedCheckpoint>, LogError> {
    let Some(bytes) = storage.read(path)? else {
        return Ok(None);
    };
    let not_ours = |source: CheckpointError| LogError::NotOurs {
        path: path.to_owned(),
        source,
    };
    let signed = SignedCheckpoint::parse(&bytes).map_err(not_ours)?;
    signed.verify(key.verifier()).map_err(not_ours)?;
    Ok(Some(signed))
}

fn contains(source: &TileSource<'_>, what: &str, size: u64, root: &Hash) -> Result<(), LogError> {
    let what = || what.to_owned();
    match tree::root_at(source, size) {
        Ok(stored) if stored == *root => Ok(()),
        Ok(_) => Err(LogError::Inconsistent { what: what(), size }),
        Err(SourceError::Storage(error)) => Err(error.into()),
        Err(source) => Err(LogError::RolledBack {
            what: what(),
            size,
            source,
        }),
    }
}

/// Whether the entries of the partial bundle are those of the partial tile: the next append
/// writes both again, and must not launder a change.
fn agree(edge: &Edge) -> Result<(), LogError> {
    let hashes = edge.levels.first().map_or(&[][..], Vec::as_slice);
    let entries = tiles::decode_bundle(&edge.bundle)?;
    if entries
        .into_iter()
        .map(leaf_hash)
        .eq(hashes.iter().copied())
    {
        return Ok(());
    }
    Err(LogError::Inconsistent {
        what: "log/tile/entries".to_owned(),
        size: edge.size,
    })
}

/// Takes the positions of nodes from the entries that the state does not know of.
fn catch_up(source: &TileSource<'_>, state: &mut State) -> Result<(), LogError> {
    for n in state.size / WIDTH..source.size.div_ceil(WIDTH) {
        if state.size >= source.size {
            break;
        }
        for (index, entry) in (n * WIDTH..).zip(source.entries(n)?) {
            let Some(envelope) = Envelope::parse(&entry).filter(|_| index >= state.size) else {
                continue;
            };
            let known = state.nodes.get(envelope.node);
            let expected = known.map_or((0, NO_PREVIOUS), |known| (known.next, known.hash));
            let (node, seq) = (envelope.node.to_owned(), envelope.seq);
            if (seq, envelope.prev) != expected {
                return Err(LogError::BrokenChain { node, seq });
            }
            state.nodes.insert(
                node,
                Position {
                    next: seq + 1,
                    hash: leaf_hash(&entry),
                },
            );
        }
    }
    Ok(())
}
