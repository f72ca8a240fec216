//! The program, from outside, while something fails: killed, revoked, out of disk, restarted.

#![cfg(test)]
#![expect(
    clippy::disallowed_methods,
    reason = "the callers and the application of these tests are not ours"
)]

mod damage;
mod disk;
mod door;
mod gone;
mod kill;
mod ledger;
mod restart;
mod revocation;
mod site;
#[path = "../e2e/turn.rs"]
mod turn;
mod upstream;
