//! What countersign's tests share. Nothing here is shipped.

pub mod collector;

pub mod attacks;

mod clock;
mod http;
mod not_run;
pub mod pki;
pub mod tokens;

pub use clock::FakeClock;
pub use http::refused;
pub use not_run::not_run;
