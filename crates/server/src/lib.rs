//! The control plane: store, certificate authority, issuer, vault, log.
//!
//! [`Server::open`] puts it together: keys and authority, the store, the vault, the ledger, and an
//! enforcement point on the configured policy. [`Server::start`] opens its doors: the mTLS port
//! with issuer, vault and control plane, and the administration socket ([`admin`]).
//!
//! Nothing here decides. Every request at every door is a hop that the enforcement point decides
//! and records; the modules do what an admission says and no more.

pub mod admin;
pub mod audit;
pub mod ca;
pub mod control;
#[cfg(test)]
mod described;
pub mod drift;
mod http;
mod ids;
pub mod issuer;
mod join;
pub mod keys;
pub mod reload;
pub mod revocation;
pub mod secret_sources;
pub mod secrets;
mod server;
pub mod sessions;
pub mod snapshots;
pub mod store;
pub mod updates;
pub mod vault;
mod whole;

pub use server::Restored;
pub use server::Server;
pub use server::ServerError;
pub use server::ServerOptions;
pub use server::Start;
