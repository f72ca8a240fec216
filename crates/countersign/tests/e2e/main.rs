//! Whole runs of the program, judged from other processes that share no code with it.
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests"
)]

mod attacks;
mod demo;
mod fixture;
mod ledger;
mod turn;
