//! What a running process tells of itself: health, metrics, traces, logs.

#![cfg(test)]
#![expect(
    clippy::disallowed_methods,
    reason = "the callers, scrapers and the application of these tests are not ours"
)]

mod application;
mod doctor;
#[path = "../faults/door.rs"]
#[expect(dead_code, reason = "shared with other tests, which use more of it")]
mod door;
mod exposition;
mod health;
mod logs;
mod metrics;
mod scene;
mod service;
#[path = "../faults/site.rs"]
#[expect(dead_code, reason = "shared with other tests, which use more of it")]
mod site;
mod top;
mod traces;
#[path = "../e2e/turn.rs"]
mod turn;
