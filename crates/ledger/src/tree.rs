//! The Merkle tree of RFC 6962 section 2.1 (unchanged in RFC 9162): hashes, proofs and their
//! verification, over any source of subtree hashes.

use crate::Hash;
use aws_lc_rs::digest;

/// The root of the tree without leaves, `SHA-256("")`.
pub const EMPTY_ROOT: Hash = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
    0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

/// Why a proof does not prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The leaf index is not below the tree size.
    #[error("index `{index}` is not in a tree of size `{size}`")]
    IndexOutOfRange {
        /// The index asked for.
        index: u64,
        /// The size of the tree.
        size: u64,
    },
    /// The earlier tree is larger than the later one.
    #[error("a tree of size `{old}` is not earlier than one of size `{new}`")]
    SizesOutOfOrder {
        /// The size said to be earlier.
        old: u64,
        /// The size said to be later.
        new: u64,
    },
    /// The path has more or fewer hashes than the two numbers ask for.
    #[error("the proof has the wrong number of hashes")]
    WrongLength,
    /// The path leads to another root.
    #[error("the proof leads to another root")]
    RootMismatch,
}

/// Where complete subtrees come from: an in-memory tree, or tiles on disk.
pub trait Subtrees {
    /// What can go wrong when a hash is fetched.
    type Error;

    /// The hash of the complete subtree over the `2^level` leaves starting at
    /// `index * 2^level`.
    ///
    /// # Errors
    /// Whatever the source says when it does not hold that subtree.
    fn subtree(&self, level: u8, index: u64) -> Result<Hash, Self::Error>;
}

/// SHA-256 of some bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> Hash {
    to_hash(&digest::digest(&digest::SHA256, bytes))
}

/// The hash of a leaf, `SHA-256(0x00 || entry)` (RFC 6962 section 2.1).
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Hash {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&[0]);
    context.update(entry);
    to_hash(&context.finish())
}

/// The hash of an inner node, `SHA-256(0x01 || left || right)` (RFC 6962 section 2.1).
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut bytes = [1; 65];
    let (_, children) = bytes.split_at_mut(1);
    let (first, second) = children.split_at_mut(32);
    first.copy_from_slice(left);
    second.copy_from_slice(right);
    sha256(&bytes)
}

/// The root over leaf hashes held in memory.
#[must_use]
pub fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => EMPTY_ROOT,
        [only] => *only,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len() as u64) as usize);
            node_hash(&root(left), &root(right))
        }
    }
}

/// The root of the first `size` leaves of a source.
///
/// # Errors
/// Those of the source.
pub fn root_at<S: Subtrees + ?Sized>(source: &S, size: u64) -> Result<Hash, S::Error> {
    if size == 0 {
        return Ok(EMPTY_ROOT);
    }
    range(source, 0, size)
}

/// The inclusion path of a leaf in the tree of the first `size` leaves, from leaf to root
/// (RFC 6962 section 2.1.1). Empty when `index` is not below `size`.
///
/// # Errors
/// Those of the source.
pub fn inclusion_path<S: Subtrees + ?Sized>(
    source: &S,
    index: u64,
    size: u64,
) -> Result<Vec<Hash>, S::Error> {
    let mut path = Vec::new();
    let (mut begin, mut end) = (0, size);
    if index >= size {
        return Ok(path);
    }
    while end - begin > 1 {
        let middle = begin + split(end - begin);
        if index < middle {
            path.push(range(source, middle, end)?);
            end = middle;
        } else {
            path.push(range(source, begin, middle)?);
            begin = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// The proof that the tree of `new` leaves extends the tree of `old` leaves (RFC 6962 section
/// 2.1.2). Empty when there is nothing to prove: equal sizes, or an empty old tree.
///
/// # Errors
/// Those of the source.
pub fn consistency_path<S: Subtrees + ?Sized>(
    source: &S,
    old: u64,
    new: u64,
) -> Result<Vec<Hash>, S::Error> {
    let mut path = Vec::new();
    if old == 0 || old >= new {
        return Ok(path);
    }
    let (mut begin, mut end) = (0, new);
    // The old tree is a subtree the verifier already holds as long as we never went right.
    let mut known = true;
    while old != end {
        let middle = begin + split(end - begin);
        if old <= middle {
            path.push(range(source, middle, end)?);
            end = middle;
        } else {
            path.push(range(source, begin, middle)?);
            begin = middle;
            known = false;
        }
    }
    if !known {
        path.push(range(source, begin, end)?);
    }
    path.reverse();
    Ok(path)
}

/// Checks an inclusion path (RFC 9162 section 2.1.3.2).
///
/// # Errors
/// [`ProofError`] unless the path proves that `leaf` is leaf number `index` under `root`.
pub fn verify_inclusion(
    index: u64,
    size: u64,
    leaf: &Hash,
    path: &[Hash],
    root: &Hash,
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::IndexOutOfRange { index, size });
    }
    let (mut node, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in path {
        if last == 0 {
            return Err(ProofError::WrongLength);
        }
        if node % 2 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node % 2 == 0 && node != 0 {
                node /= 2;
                last /= 2;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node /= 2;
        last /= 2;
    }
    finish(last, hash == *root)
}

/// Checks a consistency proof (RFC 9162 section 2.1.4.2).
///
/// # Errors
/// [`ProofError`] unless the path proves that the tree (`new`, `new_root`) only added leaves to
/// the tree (`old`, `old_root`).
pub fn verify_consistency(
    old: u64,
    old_root: &Hash,
    new: u64,
    new_root: &Hash,
    path: &[Hash],
) -> Result<(), ProofError> {
    if old > new {
        return Err(ProofError::SizesOutOfOrder { old, new });
    }
    if old == 0 || old == new {
        let same = if old == new {
            old_root == new_root
        } else {
            *old_root == EMPTY_ROOT
        };
        return if path.is_empty() {
            finish(0, same)
        } else {
            Err(ProofError::WrongLength)
        };
    }
    let (first, rest) = if old.is_power_of_two() {
        (old_root, path)
    } else {
        path.split_first().ok_or(ProofError::WrongLength)?
    };
    let (mut node, mut last) = (old - 1, new - 1);
    while node % 2 == 1 {
        node /= 2;
        last /= 2;
    }
    let (mut old_hash, mut new_hash) = (*first, *first);
    for sibling in rest {
        if last == 0 {
            return Err(ProofError::WrongLength);
        }
        if node % 2 == 1 || node == last {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            while node % 2 == 0 && node != 0 {
                node /= 2;
                last /= 2;
            }
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        node /= 2;
        last /= 2;
    }
    finish(last, old_hash == *old_root && new_hash == *new_root)
}

/// A tree in memory: the leaf hashes, and nothing else.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    leaves: Vec<Hash>,
}

impl Tree {
    /// Adds the hash of the next leaf.
    pub fn push(&mut self, leaf: Hash) {
        self.leaves.push(leaf);
    }

    /// The number of leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.leaves.len() as u64
    }

    /// The root over all leaves.
    #[must_use]
    pub fn root(&self) -> Hash {
        root(&self.leaves)
    }
}

impl FromIterator<Hash> for Tree {
    fn from_iter<I: IntoIterator<Item = Hash>>(leaves: I) -> Self {
        Self {
            leaves: leaves.into_iter().collect(),
        }
    }
}

/// A subtree was asked for that the tree does not hold in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the tree holds no complete subtree at level `{level}`, index `{index}`")]
pub struct NoSubtree {
    /// The height of the subtree.
    pub level: u8,
    /// Its position among the subtrees of that height.
    pub index: u64,
}

impl Subtrees for Tree {
    type Error = NoSubtree;

    fn subtree(&self, level: u8, index: u64) -> Result<Hash, NoSubtree> {
        let missing = NoSubtree { level, index };
        let width = 1_usize.checked_shl(level.into()).ok_or(missing)?;
        let begin = usize::try_from(index)
            .ok()
            .and_then(|i| i.checked_mul(width))
            .ok_or(missing)?;
        let end = begin.checked_add(width).ok_or(missing)?;
        Ok(root(self.leaves.get(begin..end).ok_or(missing)?))
    }
}

/// The largest power of two strictly below `size`, for `size` of at least 2.
fn split(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

/// The hash over leaves `begin..end`, where `begin` is a multiple of the smallest power of two
/// that is at least the length (true for every range the RFC's recursions visit).
fn range<S: Subtrees + ?Sized>(source: &S, begin: u64, end: u64) -> Result<Hash, S::Error> {
    let size = end - begin;
    if size.is_power_of_two() {
        let level = size.ilog2();
        return source.subtree(level as u8, begin >> level);
    }
    let middle = begin + split(size);
    Ok(node_hash(
        &range(source, begin, middle)?,
        &range(source, middle, end)?,
    ))
}

fn finish(last: u64, equal: bool) -> Result<(), ProofError> {
    match (last, equal) {
        (0, true) => Ok(()),
        (0, false) => Err(ProofError::RootMismatch),
        _ => Err(ProofError::WrongLength),
    }
}

fn to_hash(digest: &digest::Digest) -> Hash {
    let mut hash = [0; 32];
    // A SHA-256 digest has exactly 32 bytes.
    hash.iter_mut()
        .zip(digest.as_ref())
        .for_each(|(to, from)| *to = *from);
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAVES: [&str; 8] = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ];
    const ROOTS: [&str; 9] = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    const A: &str = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0";
    const B: &str = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b";

    fn hash(text: &str) -> Hash {
        hex::decode(text).unwrap().try_into().unwrap()
    }

    fn tree(size: usize) -> Tree {
        LEAVES[..size]
            .iter()
            .map(|leaf| leaf_hash(&hex::decode(leaf).unwrap()))
            .collect()
    }

    fn numbered(size: u64) -> Tree {
        (0..size).map(|n| leaf_hash(&n.to_be_bytes())).collect()
    }

    #[test]
    fn roots_of_the_certificate_transparency_test_tree() {
        for (size, root) in ROOTS.iter().enumerate() {
            assert_eq!(tree(size).root(), hash(root), "size {size}");
            assert_eq!(
                root_at(&tree(8), size as u64).unwrap(),
                hash(root),
                "size {size} of 8"
            );
        }
    }

    #[test]
    fn paths_of_the_certificate_transparency_test_tree() {
        let tree = tree(8);
        assert_eq!(
            inclusion_path(&tree, 5, 8).unwrap(),
            [hash(B), hash(A), hash(ROOTS[4])]
        );
        assert_eq!(inclusion_path(&tree, 2, 3).unwrap(), [hash(ROOTS[2])]);
        let c = hash("0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a");
        assert_eq!(
            consistency_path(&tree, 6, 8).unwrap(),
            [c, hash(A), hash(ROOTS[4])]
        );
        let d = hash("5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e");
        assert_eq!(consistency_path(&tree, 2, 5).unwrap(), [d, hash(B)]);
        assert!(consistency_path(&tree, 4, 4).unwrap().is_empty());
        assert!(consistency_path(&tree, 0, 4).unwrap().is_empty());
    }

    /// MTH, PATH and PROOF written down as RFC 6962 section 2.1 states them.
    mod naive {
        use super::*;

        fn k(n: usize) -> usize {
            let mut k = 1;
            while k * 2 < n {
                k *= 2;
            }
            k
        }

        pub(super) fn mth(d: &[Hash]) -> Hash {
            match d.len() {
                0 => EMPTY_ROOT,
                1 => d[0],
                n => node_hash(&mth(&d[..k(n)]), &mth(&d[k(n)..])),
            }
        }

        pub(super) fn path(m: usize, d: &[Hash]) -> Vec<Hash> {
            let n = d.len();
            if n == 1 {
                return Vec::new();
            }
            let (mut path, sibling) = if m < k(n) {
                (path(m, &d[..k(n)]), mth(&d[k(n)..]))
            } else {
                (path(m - k(n), &d[k(n)..]), mth(&d[..k(n)]))
            };
            path.push(sibling);
            path
        }

        pub(super) fn subproof(m: usize, d: &[Hash], b: bool) -> Vec<Hash> {
            let n = d.len();
            if m == n {
                return if b { Vec::new() } else { vec![mth(d)] };
            }
            let (mut proof, sibling) = if m <= k(n) {
                (subproof(m, &d[..k(n)], b), mth(&d[k(n)..]))
            } else {
                (subproof(m - k(n), &d[k(n)..], false), mth(&d[..k(n)]))
            };
            proof.push(sibling);
            proof
        }
    }

    #[test]
    fn every_inclusion_proof_up_to_64_leaves() {
        let tree = numbered(64);
        for n in 1..=64_usize {
            let root = naive::mth(&tree.leaves[..n]);
            assert_eq!(root_at(&tree, n as u64).unwrap(), root);
            for m in 0..n {
                let (index, size) = (m as u64, n as u64);
                let path = inclusion_path(&tree, index, size).unwrap();
                assert_eq!(path, naive::path(m, &tree.leaves[..n]), "{m} of {n}");
                let leaf = tree.leaves[m];
                assert_eq!(verify_inclusion(index, size, &leaf, &path, &root), Ok(()));
                assert!(verify_inclusion(index, size, &[7; 32], &path, &root).is_err());
                assert!(verify_inclusion(size, size, &leaf, &path, &root).is_err());
                let mut longer = path.clone();
                longer.push([0; 32]);
                assert!(verify_inclusion(index, size, &leaf, &longer, &root).is_err());
                for i in 0..path.len() {
                    let mut changed = path.clone();
                    changed[i][31] ^= 1;
                    assert!(verify_inclusion(index, size, &leaf, &changed, &root).is_err());
                    changed.remove(i);
                    assert!(verify_inclusion(index, size, &leaf, &changed, &root).is_err());
                }
                for other in (0..n).filter(|other| *other != m) {
                    assert!(
                        verify_inclusion(other as u64, size, &leaf, &path, &root).is_err(),
                        "leaf {m} of {n} passed for {other}"
                    );
                }
            }
        }
    }

    #[test]
    fn every_consistency_proof_up_to_64_leaves() {
        let tree = numbered(64);
        for n in 1..=64_usize {
            let new_root = naive::mth(&tree.leaves[..n]);
            for m in 1..=n {
                let (old, new) = (m as u64, n as u64);
                let old_root = naive::mth(&tree.leaves[..m]);
                let path = consistency_path(&tree, old, new).unwrap();
                assert_eq!(
                    path,
                    naive::subproof(m, &tree.leaves[..n], true),
                    "{m} to {n}"
                );
                assert_eq!(
                    verify_consistency(old, &old_root, new, &new_root, &path),
                    Ok(())
                );
                assert!(verify_consistency(old, &[7; 32], new, &new_root, &path).is_err());
                assert!(verify_consistency(old, &old_root, new, &[7; 32], &path).is_err());
                assert!(verify_consistency(new + 1, &old_root, new, &new_root, &path).is_err());
                let mut longer = path.clone();
                longer.push([0; 32]);
                assert!(verify_consistency(old, &old_root, new, &new_root, &longer).is_err());
                for i in 0..path.len() {
                    let mut changed = path.clone();
                    changed[i][0] ^= 1;
                    assert!(verify_consistency(old, &old_root, new, &new_root, &changed).is_err());
                    changed.remove(i);
                    assert!(verify_consistency(old, &old_root, new, &new_root, &changed).is_err());
                }
            }
        }
        assert!(verify_consistency(0, &EMPTY_ROOT, 5, &[1; 32], &[]).is_ok());
        assert!(verify_consistency(0, &[1; 32], 5, &[1; 32], &[]).is_err());
        assert!(verify_consistency(0, &EMPTY_ROOT, 5, &[1; 32], &[[0; 32]]).is_err());
    }

    #[test]
    fn numbers_at_the_edge_do_not_overflow() {
        let path = [[0; 32]; 64];
        assert!(verify_inclusion(u64::MAX - 1, u64::MAX, &[0; 32], &path, &[0; 32]).is_err());
        assert!(verify_consistency(u64::MAX - 1, &[0; 32], u64::MAX, &[0; 32], &path).is_err());
        assert!(Tree::default().subtree(63, u64::MAX).is_err());
        assert!(Tree::default().subtree(64, 0).is_err());
    }
}
