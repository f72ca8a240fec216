//! The gateway on real sockets: everything a caller and an upstream can see of it, and the record.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_in_result,
    clippy::unwrap_used,
    reason = "a test that can't go on has failed"
)]
#![expect(
    clippy::too_many_lines,
    reason = "tables of cases, and a stage set up in one place"
)]

mod addresses;
mod attacks;
mod bodies;
mod browser;
mod cors;
mod crosstalk;
mod doors;
mod exchanges;
mod framing;
mod hygiene;
mod mesh;
mod policy;
mod protocols;
mod rates;
mod retries;
mod slow;
mod sockets;
mod support;
mod third_party;
mod tunnels;
