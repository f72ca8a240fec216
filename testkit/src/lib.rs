//! What countersign's tests share. Nothing here is shipped.

pub mod attacks;
pub mod collector;

mod clock;
mod http;
mod not_run;
pub mod pki;
pub mod program;
pub mod tokens;

pub use clock::FakeClock;
pub use http::refused;
pub use not_run::not_run;
