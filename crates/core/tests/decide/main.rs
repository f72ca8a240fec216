//! The decision, judged by tables: one hop that is allowed, and what each single change to it
//! leads to.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unreachable,
    reason = "tests"
)]

mod damaged;
mod fixture;
mod issuer;
mod joining;
mod limits;
mod partners;
mod proving;
mod rates;
mod records;
mod refusals;
mod schemas;
mod sentences;
