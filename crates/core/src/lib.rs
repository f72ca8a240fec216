//! The core of countersign: the vocabulary, the configuration language and the one decision
//! function.
//!
//! It is pure. No socket, no clock, no file, no global: time is a field of the hop, files come
//! through a trait, and everything a decision reads is in its arguments, so that any decision can
//! be made again from its record. It refuses to be a policy engine for other people's documents.
//!
//! Start at [`decide::decide`]; then the six folders of [`pillars`], in order.

pub mod change;
pub mod config;
pub mod credentials;
pub mod decide;
pub mod explain;
pub mod hop;
pub mod matrix;
pub mod pillars;
pub mod proving;
pub mod record;
pub mod remedy;
pub mod replay;
pub mod snapshot;
pub mod vocabulary;
