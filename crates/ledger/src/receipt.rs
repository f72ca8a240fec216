//! Receipts: one leaf, its path to the root, and the signed checkpoint over that root, in one
//! document that anyone with the log's key verifies offline.

use crate::Hash;
use crate::MAX_LEAF;
use crate::checkpoint::CheckpointError;
use crate::checkpoint::SignedCheckpoint;
use crate::note::VerifierKey;
use crate::tree;
use crate::tree::ProofError;
use crate::tree::leaf_hash;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::Serialize;

pub use crate::receipt_id::ReceiptId;
pub use crate::receipt_id::ReceiptIdError;
pub use crate::receipt_id::ReceiptPrefix;

/// The `schema` member of the JSON document.
pub const SCHEMA: &str = "countersign.receipt/v1";

/// The first line of a C2SP `tlog-proof` document.
const PROOF_HEADER: &str = "c2sp.org/tlog-proof@v1";

/// No path in a tree of 2^64 leaves is longer.
const MAX_PATH: usize = 64;

/// A document over this many bytes is refused before it is parsed.
const MAX_DOCUMENT: usize = 1 << 20;

/// Why a receipt was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// The document is not a receipt.
    #[error("not a `countersign.receipt/v1` document: {0}")]
    Malformed(String),
    /// The text is not a C2SP `tlog-proof`.
    #[error("not a `c2sp.org/tlog-proof@v1` document")]
    MalformedProof,
    /// The receipt's name is not that of its leaf.
    #[error("leaf `{index}` has receipt `{computed}`, the document says `{claimed}`")]
    WrongName {
        /// The leaf's index.
        index: u64,
        /// The name in the document.
        claimed: String,
        /// The name that the leaf's hash makes.
        computed: ReceiptId,
    },
    /// The checkpoint is not signed by the given key.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The leaf is not in the tree of the checkpoint.
    #[error("leaf `{index}` ({receipt}) is not in the tree of the checkpoint: {source}")]
    NotIncluded {
        /// The leaf's index.
        index: u64,
        /// Its name.
        receipt: ReceiptId,
        /// Why the proof fails.
        source: ProofError,
    },
    /// The tree of the checkpoint does not extend the earlier one.
    #[error("the log is not the one of the earlier checkpoint: {0}")]
    NotConsistent(#[source] ProofError),
}

/// A leaf with its proof. Reading one proves nothing; [`Receipt::verify`] does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    leaf: Vec<u8>,
    index: u64,
    proof: Vec<Hash>,
    checkpoint: SignedCheckpoint,
}

/// A checkpoint that the verifier kept from before, and the proof that the log only grew since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Earlier {
    /// The kept checkpoint.
    pub checkpoint: SignedCheckpoint,
    /// The consistency proof from its size to the receipt's.
    pub proof: Vec<Hash>,
}

/// What a verified receipt proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// The leaf's name.
    pub receipt: ReceiptId,
    /// The leaf's RFC 6962 hash.
    pub leaf_hash: Hash,
    /// Its index.
    pub index: u64,
    /// The leaves of the tree it is proved to be in.
    pub size: u64,
    /// Hashes on its path to the root.
    pub path: usize,
    /// The size of the earlier tree that this one is proved to extend.
    pub since: Option<u64>,
}

/// The JSON document.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    schema: String,
    receipt: String,
    index: u64,
    leaf: String,
    proof: Vec<String>,
    checkpoint: String,
}

impl Receipt {
    /// A receipt from its parts.
    #[must_use]
    pub fn new(leaf: Vec<u8>, index: u64, proof: Vec<Hash>, checkpoint: SignedCheckpoint) -> Self {
        Self {
            leaf,
            index,
            proof,
            checkpoint,
        }
    }

    /// The leaf's bytes, whoever wrote them.
    #[must_use]
    pub fn leaf(&self) -> &[u8] {
        &self.leaf
    }

    /// The leaf's index in the log.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The path from the leaf to the root.
    #[must_use]
    pub fn proof(&self) -> &[Hash] {
        &self.proof
    }

    /// The checkpoint over the root.
    #[must_use]
    pub fn checkpoint(&self) -> &SignedCheckpoint {
        &self.checkpoint
    }

    /// The leaf's name.
    #[must_use]
    pub fn id(&self) -> ReceiptId {
        ReceiptId::from(&leaf_hash(&self.leaf))
    }

    /// Verifies that the leaf is in the log that `key` speaks for, and, given an earlier
    /// checkpoint of the same log, that nothing in it was changed since.
    ///
    /// The key comes from outside: one taken from beside the receipt proves nothing.
    ///
    /// # Errors
    /// [`ReceiptError::Checkpoint`], [`ReceiptError::NotIncluded`],
    /// [`ReceiptError::NotConsistent`].
    pub fn verify(
        &self,
        key: &VerifierKey,
        earlier: Option<&Earlier>,
    ) -> Result<Verified, ReceiptError> {
        let (size, root) = {
            let checkpoint = self.checkpoint.verify(key)?;
            (checkpoint.size, checkpoint.root)
        };
        let verified = self.included()?;
        let Some(earlier) = earlier else {
            return Ok(verified);
        };
        let old = earlier.checkpoint.verify(key)?;
        tree::verify_consistency(old.size, &old.root, size, &root, &earlier.proof)
            .map_err(ReceiptError::NotConsistent)?;
        Ok(Verified {
            since: Some(old.size),
            ..verified
        })
    }

    /// Checks the leaf against the checkpoint as it stands, whoever signed it: consistent, and
    /// anchored in nothing.
    ///
    /// # Errors
    /// [`ReceiptError::NotIncluded`].
    pub fn included(&self) -> Result<Verified, ReceiptError> {
        let checkpoint = self.checkpoint.claimed();
        let (index, size) = (self.index, checkpoint.size);
        let leaf_hash = leaf_hash(&self.leaf);
        let receipt = ReceiptId::from(&leaf_hash);
        tree::verify_inclusion(index, size, &leaf_hash, &self.proof, &checkpoint.root).map_err(
            |source| ReceiptError::NotIncluded {
                index,
                receipt,
                source,
            },
        )?;
        Ok(Verified {
            receipt,
            leaf_hash,
            index,
            size,
            path: self.proof.len(),
            since: None,
        })
    }

    /// The JSON document: `schema`, `receipt`, `index`, `leaf` and `proof` in base64, the
    /// `checkpoint` as the signed note it is.
    #[must_use]
    pub fn to_json(&self) -> String {
        let document = Document {
            schema: SCHEMA.to_owned(),
            receipt: self.id().to_string(),
            index: self.index,
            leaf: STANDARD.encode(&self.leaf),
            proof: self
                .proof
                .iter()
                .map(|hash| STANDARD.encode(hash))
                .collect(),
            checkpoint: self.checkpoint.to_string(),
        };
        // Strings and a number: there is nothing in it that JSON can't hold.
        serde_json::to_string_pretty(&document).unwrap_or_default() + "\n"
    }

    /// Reads the JSON document. Unknown and repeated members are refused.
    ///
    /// # Errors
    /// [`ReceiptError::Malformed`], [`ReceiptError::WrongName`], [`ReceiptError::Checkpoint`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, ReceiptError> {
        let malformed = |why: &str| ReceiptError::Malformed(why.to_owned());
        if bytes.len() > MAX_DOCUMENT {
            return Err(malformed("too long"));
        }
        let document: Document =
            serde_json::from_slice(bytes).map_err(|error| malformed(&error.to_string()))?;
        if document.schema != SCHEMA {
            return Err(malformed("another `schema`"));
        }
        let leaf = STANDARD
            .decode(&document.leaf)
            .map_err(|_| malformed("`leaf` is not base64"))?;
        if leaf.len() > MAX_LEAF || document.proof.len() > MAX_PATH {
            return Err(malformed("`leaf` or `proof` is too long"));
        }
        let proof = document
            .proof
            .iter()
            .map(|line| decode_hash(line))
            .collect::<Option<_>>();
        let receipt = Self {
            leaf,
            index: document.index,
            proof: proof.ok_or_else(|| malformed("`proof` does not hold hashes"))?,
            checkpoint: SignedCheckpoint::parse(document.checkpoint.as_bytes())?,
        };
        if receipt.id().to_string() != document.receipt {
            let (index, computed) = (receipt.index, receipt.id());
            return Err(ReceiptError::WrongName {
                index,
                claimed: document.receipt,
                computed,
            });
        }
        Ok(receipt)
    }

    /// The proof as a C2SP `tlog-proof` text. The leaf travels beside it.
    #[must_use]
    pub fn to_tlog_proof(&self) -> String {
        let mut text = format!("{PROOF_HEADER}\nindex {}\n", self.index);
        for hash in &self.proof {
            text.push_str(&STANDARD.encode(hash));
            text.push('\n');
        }
        text + "\n" + &self.checkpoint.to_string()
    }

    /// Reads a C2SP `tlog-proof` text for a leaf. An `extra` line is allowed and ignored.
    ///
    /// # Errors
    /// [`ReceiptError::MalformedProof`], [`ReceiptError::Checkpoint`].
    pub fn from_tlog_proof(text: &str, leaf: Vec<u8>) -> Result<Self, ReceiptError> {
        let malformed = ReceiptError::MalformedProof;
        if text.len() > MAX_DOCUMENT || leaf.len() > MAX_LEAF {
            return Err(malformed);
        }
        let (head, checkpoint) = text.split_once("\n\n").ok_or(malformed.clone())?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(PROOF_HEADER) {
            return Err(malformed);
        }
        if let Some(extra) = lines.next_if(|line| line.starts_with("extra ")) {
            let data = extra.strip_prefix("extra ").unwrap_or_default();
            STANDARD.decode(data).map_err(|_| malformed.clone())?;
        }
        let digits = lines.next().and_then(|line| line.strip_prefix("index "));
        let digits = digits.ok_or(malformed.clone())?;
        let index: u64 = digits.parse().map_err(|_| malformed.clone())?;
        let proof: Vec<_> = lines
            .map(decode_hash)
            .collect::<Option<_>>()
            .ok_or(malformed.clone())?;
        if index.to_string() != digits || proof.len() > MAX_PATH {
            return Err(malformed);
        }
        let checkpoint = SignedCheckpoint::parse(checkpoint.as_bytes())?;
        Ok(Self {
            leaf,
            index,
            proof,
            checkpoint,
        })
    }
}

fn decode_hash(line: &str) -> Option<Hash> {
    STANDARD.decode(line).ok()?.try_into().ok()
}
