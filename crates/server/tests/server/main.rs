//! The server from outside: real sockets, real certificates, and the record of every refusal.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that can't go on has failed"
)]

mod admin;
mod apart;
mod attacks;
mod gateways;
mod governed;
mod issuer;
mod joining;
mod lasting;
mod planes;
mod relaying;
mod reloading;
mod remote;
mod revoking;
mod support;
mod vault;
