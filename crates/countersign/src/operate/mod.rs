//! What operating a server takes, whoever does it: its administration socket, the folder of an
//! identity, and why something was not done.

mod admin;
mod failure;
mod issue;
mod text;

pub(crate) use admin::Admin;
pub(crate) use failure::Failure;
pub(crate) use failure::with_causes;
pub(crate) use issue::issue_into;
pub(crate) use text::harmless;
