//! The control plane: store, certificate authority, issuer, vault, log.

pub mod audit;
pub mod ca;
pub mod keys;
pub mod secret_sources;
pub mod snapshots;
pub mod store;
pub mod vault;
