//! Sockets with identities: TLS configurations from X.509-SVIDs, peer evidence, token
//! verification, the one dialer, and the bodies of refusals.
//!
//! It decides nothing. It states what was proved about the other end of a connection
//! ([`Established`], [`Token`](countersign_core::hop::Token)) or why nothing was
//! ([`Refused`]); whether that is enough is for `core` to say.
//!
//! Call [`install_crypto`] once at start. Then [`Acceptor`] for listeners, [`Connector`] and
//! [`Dialer`] for what goes out, [`TokenVerifier`] for what callers present.

pub mod assertion;
pub mod dial;
pub mod framing;
pub mod http;
pub mod json;
pub mod peer_cred;
pub mod places;
pub mod problem;
pub mod stranger;
pub mod token;

mod certificate;
mod client_tls;
mod digest;
mod expected;
mod handshake;
mod jws;
mod partner;
mod path;
mod pinned;
mod proved;
mod provider;
mod recent;
mod server_hello;
mod server_tls;
mod sessions;
mod sockets;
mod svid;
mod trust;
mod x509;

pub use client_tls::ConnectError;
pub use client_tls::Connection;
pub use client_tls::Connector;
pub use client_tls::PublicRoots;
pub use dial::Dialer;
pub use expected::Expected;
pub use handshake::Refused;
pub use jws::JwsError;
pub use jws::KeyAlgorithm;
pub use jws::KeySet;
pub use jws::KeySetError;
pub use jws::Keys;
pub use jws::SigningKey;
pub use partner::Authorities;
pub use pinned::WithRoot;
pub use provider::CryptoError;
pub use provider::install_crypto;
pub use server_hello::Transcribed;
pub use server_tls::Acceptor;
pub use server_tls::AcceptorError;
pub use server_tls::Established;
pub use server_tls::Listener;
pub use sockets::Sockets;
pub use svid::Credential;
pub use svid::CredentialError;
pub use svid::CredentialSource;
pub use svid::Source;
pub use svid::Svid;
pub use svid::SvidSource;
pub use token::TokenVerifier;
pub use trust::Roots;
pub use trust::TrustBundle;
pub use trust::TrustError;
pub use x509::SvidError;
