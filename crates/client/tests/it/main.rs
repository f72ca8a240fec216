//! The client against a server and a gateway that are played here, over real TLS.

#![cfg(test)]

mod calls;
mod serving;
mod support;
