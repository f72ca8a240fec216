//! What countersign's tests share. Nothing here is shipped.

mod not_run;

pub use not_run::not_run;
