//! The audit ledger: a durable *spool* per node and one transparency *log* per deployment.
//!
//! It refuses to know what an identity, a token or a decision is: a record is one canonical JSON
//! object, and everything here is about not losing it, not changing it and proving both to
//! someone who trusts nobody on this side.
//!
//! * [`spool::Spool`] appends records to framed files, each chained to the one before by sequence
//!   and hash, and answers with a [`spool::Promise`] once the record is as durable as asked.
//! * [`log::Log`] takes the leaves of all spools exactly once into an RFC 6962 tree kept in the
//!   C2SP `tlog-tiles` layout, and signs checkpoints.
//! * [`receipt::Receipt`] carries one leaf, its inclusion proof and a signed checkpoint, to be
//!   verified offline with a [`note::VerifierKey`] that came some other way.
//!
//! Start with [`spool::Spool::open`].

pub mod canonical;
pub mod checkpoint;
pub mod cosignature;
mod envelope;
pub mod log;
pub mod note;
mod object;
pub mod receipt;
mod receipt_id;
pub mod spool;
pub mod storage;
pub mod tiles;
pub mod tree;
pub mod witness;

pub use object::JsonObject;
pub use object::NotAnObject;
pub use receipt_id::ReceiptId;
pub use receipt_id::ReceiptIdError;
pub use receipt_id::ReceiptPrefix;

/// A SHA-256 hash: a leaf, a node or a root of the tree.
pub type Hash = [u8; 32];

/// The longest leaf, in bytes: entry bundles store lengths as 16 bits (C2SP `tlog-tiles`).
pub const MAX_LEAF: usize = 65_535;
