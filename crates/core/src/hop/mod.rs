//! A hop: who asks (evidence), what for (service and operation), when, and what else was seen.
//!
//! Everything [`decide`](crate::decide::decide) reads is in the [`Hop`] or in the
//! [`State`](crate::snapshot::State); a record carries the whole hop, so that the decision can be
//! made again from it.
//!
//! Fields are declared in the order of their serialised names: serialising a hop gives canonical
//! JSON (RFC 8785) without a second pass, and a test holds it to that.

mod evidence;
mod facts;
mod schema;

pub use evidence::Binding;
pub use evidence::Certificate;
pub use evidence::CertificateFault;
pub use evidence::Claims;
pub use evidence::Evidence;
pub use evidence::Leaf;
pub use evidence::PartnerCertificate;
pub use evidence::Peer;
pub use evidence::Session;
pub use evidence::Tls;
pub use evidence::TlsFault;
pub use evidence::TlsVersion;
pub use evidence::Token;
pub use evidence::TokenFault;
pub use evidence::VerifiedToken;
pub use facts::Facts;
pub use facts::Freshness;
pub use facts::RequestFault;
pub use schema::SchemaFault;
pub use schema::SchemaVerdict;

use crate::vocabulary::Name;
use crate::vocabulary::Operation;
use crate::vocabulary::Timestamp;
use serde::Deserialize;
use serde::Serialize;

/// One question to the decision function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hop {
    /// When it is asked, by the enforcement point's clock.
    pub at: Timestamp,
    /// The listener it came in by; `control` for the server's own mTLS port.
    pub door: Name,
    /// What was proved cryptographically about the caller.
    pub evidence: Evidence,
    /// What else the enforcement point saw or did before asking.
    pub facts: Facts,
    /// What the caller wants.
    pub operation: Operation,
    /// The service it wants it of, as asked; it need not exist.
    pub service: String,
}
