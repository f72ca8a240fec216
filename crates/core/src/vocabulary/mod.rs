//! The words every other module speaks: checked values, each with its own type.
//!
//! Parse, don't validate: a [`SpiffeId`], a [`CanonicalPath`] or a [`Permission`]
//! that exists is well formed, so nothing downstream checks it again.

mod address;
mod code;
mod name;
mod operation;
mod path;
mod permission;
mod pillar;
mod spiffe;
mod text;
mod time;

pub use address::AddressClass;
pub use address::classify;
pub use code::Code;
pub use code::Fault;
pub use name::Name;
pub use name::NameError;
pub use operation::Operation;
pub use operation::OperationPattern;
pub use operation::PatternError;
pub use path::CanonicalPath;
pub use path::PathError;
pub use permission::Permission;
pub use permission::PermissionError;
pub use pillar::Pillar;
pub use spiffe::SpiffeError;
pub use spiffe::SpiffeId;
pub use spiffe::TrustDomain;
pub use time::Timestamp;
pub use time::TimestampError;

mod digest;
pub use digest::Digest;
pub use digest::DigestError;

/// At most `max` bytes of a text, cut between characters.
#[must_use]
pub fn clip(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}
