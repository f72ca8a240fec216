//! What a decision is made from: an immutable [`Snapshot`] of policy and the [`Revocations`] up to
//! an epoch.
//!
//! A snapshot is content-addressed: its revision is the hash of the [`Bundle`] it was compiled
//! from, every bundle that ever decided something is kept, and compiling it again gives the same
//! answers.

mod bundle;
mod compile;
mod grants;
mod index;
mod layers;
mod project;
mod reach;
mod revocations;
mod schemas;
mod tiers;

pub use bundle::Bundle;
pub use bundle::BundleError;
pub(crate) use compile::AUDIT;
pub(crate) use compile::CONSOLE;
pub use compile::CompileError;
pub use compile::DoorKind;
pub(crate) use compile::ISSUER;
pub(crate) use compile::JOIN;
pub use compile::Snapshot;
pub(crate) use compile::VAULT;
pub use grants::Grants;
pub(crate) use grants::Holder;
pub use project::ProjectError;
pub use project::Projection;
pub use revocations::Revocation;
pub use revocations::RevocationGap;
pub use revocations::Revocations;
pub use revocations::Revoked;
pub use tiers::Tiers;

use std::sync::Arc;

/// (revision, epoch): everything a decision reads beside the hop.
#[derive(Clone, Debug)]
pub struct State {
    /// Revocations up to an epoch.
    pub revocations: Arc<Revocations>,
    /// Policy.
    pub snapshot: Arc<Snapshot>,
}
