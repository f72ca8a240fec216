//! The command line, through the built binary.

#![cfg(test)]

mod checking;
mod partners;
mod policy;
mod reference;
mod reloading;
mod running;
mod support;
mod switching_off;
mod usage;
mod verifying;
