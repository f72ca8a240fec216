use countersign_core::vocabulary::Name;
use countersign_net::AcceptorError;
use countersign_net::ConnectError;
use countersign_net::JwsError;
use countersign_wire::control::ControlError;
use std::net::SocketAddr;

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// A listener can't be bound.
    #[error("can't listen on `{address}` for listener `{name}`")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The listener.
        name: Name,
        /// Why.
        source: std::io::Error,
    },
    /// A listener's TLS can't be set up.
    #[error(transparent)]
    Tls(#[from] AcceptorError),
    /// The further certificate authorities can't be read.
    #[error("can't use the certificate authorities for third parties")]
    Roots(#[source] ConnectError),
    /// No key to sign assertions with.
    #[error("can't make a key for assertions")]
    Key(#[from] JwsError),
    /// A thread for connections can't be started.
    #[error("can't start a thread for connections")]
    Threads(#[source] std::io::Error),
    /// The control plane did not take the key for assertions.
    #[error("can't publish the key for assertions")]
    Publish(#[source] ControlError),
}
