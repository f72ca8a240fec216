//! `secure_call`: one line through six pillars.
//!
//! A [`Client`] is one identity, read from the folder that `countersign identity issue` wrote. It
//! draws a token of at most 60 s for one service and one permission, opens mutual TLS to the mesh,
//! sends the request, and answers with the response or with an [`AccessDenied`] that names the
//! pillar, the code, the receipt and what would help.
//!
//! ```no_run
//! # async fn f() -> Result<(), Box<dyn std::error::Error>> {
//! use countersign_client::Client;
//! use serde_json::json;
//!
//! let client = Client::from_env()?;
//! let prompt = json!({ "prompt": "Summarize the visit" });
//! let summary = client
//!     .secure_call("hms-api/ai/summary", "POST", Some(&prompt), "ai:invoke-summary")
//!     .await?
//!     .text()?;
//! # Ok(()) }
//! ```
//!
//! A service that acts for somebody passes the token it was called with to
//! [`Client::with_subject_token`]; one that serves behind a gateway takes its connections through
//! [`Client::acceptor`] and checks each request with an [`AssertionVerifier`].
//!
//! It needs no agent and trusts none: the certificates of issuer, vault and mesh are checked here.

mod answer;
mod cache;
mod call;
mod client;
mod error;
mod identity;
mod serve;
mod token;
mod vault;

pub use answer::Response;
pub use cache::AccessToken;
pub use client::Client;
pub use error::AccessDenied;
pub use error::CallError;
pub use error::SetupError;
pub use error::remedy;
pub use identity::BUNDLE_FILE;
pub use identity::CHAIN_FILE;
pub use identity::ENDPOINTS_FILE;
pub use identity::Endpoints;
pub use identity::KEY_FILE;
pub use serve::AcceptError;
pub use serve::AssertionError;
pub use serve::AssertionVerifier;
pub use serve::GatewayAcceptor;
pub use vault::Secret;
