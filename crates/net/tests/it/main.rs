//! `net` over real loopback sockets.
//!
//! The test PKI is testkit's, compiled in: testkit depends on this crate.

#[expect(unreachable_pub, reason = "shared with the tests of the upper crates")]
#[path = "../../../../testkit/src/clock.rs"]
mod clock;
#[expect(unreachable_pub, reason = "shared with the tests of the upper crates")]
#[path = "../../../../testkit/src/pki.rs"]
mod pki;
#[expect(unreachable_pub, reason = "shared with the tests of the upper crates")]
#[path = "../../../../testkit/src/tokens.rs"]
mod tokens;

mod certificates;
mod control_client;
mod outgoing;
mod parsers;
mod partners;
mod sessions;
mod strangers;
mod support;
mod token_table;
