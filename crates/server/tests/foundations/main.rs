//! What the server stands on, from outside: store, keys, authority, vault, snapshots, log.

mod audit;
mod ca;
mod keys;
mod snapshots;
mod sources;
mod store;
mod support;
mod vault;
