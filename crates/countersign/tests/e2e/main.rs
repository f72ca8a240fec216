//! Whole runs of the program, judged from other processes that share no code with it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod demo;
