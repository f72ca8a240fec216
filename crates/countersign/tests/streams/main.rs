//! Streams through the program, from outside: that what is revoked ends, each kind in its own way
//! and at once, and that nothing ends or is dropped that need not be.

#![cfg(test)]
#![expect(
    clippy::disallowed_methods,
    reason = "the callers and the application of these tests are not ours"
)]
#![expect(clippy::too_many_lines, reason = "a stage set up in one place")]

mod caller;
mod dropping;
mod ending;
mod load;
mod measured;
mod pipe;
mod place;
mod stream;
#[path = "../e2e/turn.rs"]
mod turn;
mod upstream;
