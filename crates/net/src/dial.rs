//! The one dialer: every outgoing connection of every process of ours is made here.
//!
//! A name is resolved once and the address that passed the check is the one connected to, so that
//! a second answer (DNS rebinding) has no effect. Addresses that lead inside (private, loopback,
//! link-local, carrier-grade NAT, cloud metadata) are refused unless the entry says so.

use countersign_core::vocabulary::AddressClass;
use countersign_core::vocabulary::classify;
use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use tokio::net::TcpStream;
use tokio::net::UnixStream;
use tokio::time::Instant;

/// Makes outgoing connections.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dialer;

/// Where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// A host name, or an address (IPv6 without brackets).
    pub host: String,
    /// Which addresses it may resolve to.
    pub network: Network,
    /// TCP port.
    pub port: u16,
}

/// Which addresses a target may resolve to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Globally routed ones only: what a third party has.
    Public,
    /// Also private, loopback and link-local ones (`network: private`).
    Private,
    /// Loopback only: development.
    Loopback,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name does not resolve.
    #[error("can't resolve `{host}`")]
    Resolve {
        /// The name.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// It resolves to no address at all.
    #[error("`{0}` has no address")]
    NoAddress(String),
    /// It resolves only to addresses that this target may not have.
    #[error(
        "`{host}` is at `{address}`, which is {class}; say `network: private` if that is meant"
    )]
    Refused {
        /// The first address of the answer.
        address: IpAddr,
        /// What kind of address it is.
        class: AddressClass,
        /// The name.
        host: String,
    },
    /// Nobody answers there.
    #[error("can't connect to `{address}`")]
    Connect {
        /// The last address tried.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Nobody answers on the unix socket.
    #[error("can't connect to the socket `{path}`")]
    Socket {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not in time.
    #[error("no connection to `{0}` in time")]
    TimedOut(String),
}

impl Dialer {
    /// Connects over TCP before `deadline`, trying the allowed addresses in the resolver's order.
    ///
    /// # Errors
    /// [`DialError`] says what failed, or which address was refused.
    pub async fn connect(self, target: &Target, deadline: Instant) -> Result<TcpStream, DialError> {
        // A timer only ends what is pending: nothing is begun after the deadline either.
        if deadline <= Instant::now() {
            return Err(DialError::TimedOut(target.host.clone()));
        }
        let within = tokio::time::timeout_at(deadline, async {
            let addresses = resolve(target).await?;
            first_answer(&allowed(target, &addresses)?, target).await
        });
        within
            .await
            .unwrap_or_else(|_| Err(DialError::TimedOut(target.host.clone())))
    }

    /// Connects to a unix socket before `deadline`.
    ///
    /// # Errors
    /// [`DialError`] says what failed.
    #[expect(clippy::disallowed_methods, reason = "this is the dialer")]
    pub async fn connect_unix(
        self,
        path: &Path,
        deadline: Instant,
    ) -> Result<UnixStream, DialError> {
        match tokio::time::timeout_at(deadline, UnixStream::connect(path)).await {
            Ok(connected) => connected.map_err(|source| DialError::Socket {
                path: path.to_owned(),
                source,
            }),
            Err(_elapsed) => Err(DialError::TimedOut(path.display().to_string())),
        }
    }
}

impl Network {
    /// Whether a target of this network may have this address.
    ///
    /// Metadata addresses are open to no name: a name that is ours today may answer with one
    /// tomorrow. An entry that means one writes the address itself.
    #[must_use]
    pub fn allows(self, class: AddressClass, literal: bool) -> bool {
        match (self, class) {
            (Self::Public | Self::Private, AddressClass::Global)
            | (Self::Private | Self::Loopback, AddressClass::Loopback)
            | (Self::Private, AddressClass::LinkLocal | AddressClass::Private) => true,
            (Self::Private, AddressClass::Metadata) => literal,
            _ => false,
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the dialer")]
async fn resolve(target: &Target) -> Result<Vec<SocketAddr>, DialError> {
    let host = target.host.as_str();
    tokio::net::lookup_host((host, target.port))
        .await
        .map(Iterator::collect)
        .map_err(|source| DialError::Resolve {
            host: host.to_owned(),
            source,
        })
}

fn allowed(target: &Target, addresses: &[SocketAddr]) -> Result<Vec<SocketAddr>, DialError> {
    let literal = target.host.parse::<IpAddr>().is_ok();
    let fits = |address: &&SocketAddr| target.network.allows(classify(address.ip()), literal);
    let allowed: Vec<SocketAddr> = addresses.iter().filter(fits).copied().collect();
    match (allowed.is_empty(), addresses.first()) {
        (false, _) => Ok(allowed),
        (true, None) => Err(DialError::NoAddress(target.host.clone())),
        (true, Some(first)) => Err(DialError::Refused {
            address: first.ip(),
            class: classify(first.ip()),
            host: target.host.clone(),
        }),
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the dialer")]
async fn first_answer(addresses: &[SocketAddr], target: &Target) -> Result<TcpStream, DialError> {
    let mut last = DialError::NoAddress(target.host.clone());
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Small requests and answers: waiting for more to send only adds latency.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(source) => {
                last = DialError::Connect {
                    address: *address,
                    source,
                }
            }
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    fn target(host: &str, port: u16, network: Network) -> Target {
        Target {
            host: host.to_owned(),
            network,
            port,
        }
    }

    #[tokio::test]
    async fn loopback_is_refused_unless_meant() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["127.0.0.1", "localhost", "::ffff:127.0.0.1"] {
            let error = Dialer
                .connect(&target(host, port, Network::Public), soon())
                .await;
            let class = match error.unwrap_err() {
                DialError::Refused { class, .. } => class,
                other => panic!("{other}"),
            };
            assert_eq!(class, AddressClass::Loopback, "{host}");
        }
        for network in [Network::Private, Network::Loopback] {
            Dialer
                .connect(&target("127.0.0.1", port, network), soon())
                .await
                .unwrap();
        }
    }

    #[tokio::test]
    async fn metadata_needs_the_address_itself() {
        let answer = [SocketAddr::from(([169, 254, 169, 254], 80))];
        let by_name = target("metadata.acme.example", 80, Network::Private);
        assert!(matches!(
            allowed(&by_name, &answer),
            Err(DialError::Refused { .. })
        ));
        let by_address = target("169.254.169.254", 80, Network::Private);
        assert_eq!(allowed(&by_address, &answer).unwrap(), answer);
        let public = target("169.254.169.254", 80, Network::Public);
        assert!(matches!(
            allowed(&public, &answer),
            Err(DialError::Refused { .. })
        ));
    }

    #[test]
    fn of_a_mixed_answer_only_the_allowed_part_is_tried() {
        let (inside, outside) = ([10, 0, 0, 1].into(), [8, 8, 8, 8].into());
        let answer: [SocketAddr; 2] = [
            (IpAddr::V4(inside), 1).into(),
            (IpAddr::V4(outside), 1).into(),
        ];
        let tried = allowed(&target("x.example", 1, Network::Public), &answer).unwrap();
        assert_eq!(tried, [answer[1]]);
    }

    #[tokio::test]
    async fn says_what_failed() {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = nobody.local_addr().unwrap().port();
        drop(nobody);
        let error = Dialer
            .connect(&target("127.0.0.1", port, Network::Loopback), soon())
            .await;
        assert!(matches!(error, Err(DialError::Connect { .. })), "{error:?}");
        let error = Dialer
            .connect(&target("no.such.host.invalid", 1, Network::Public), soon())
            .await;
        assert!(matches!(error, Err(DialError::Resolve { .. })), "{error:?}");
        let error = Dialer
            .connect_unix(Path::new("/nonexistent/s"), soon())
            .await;
        assert!(matches!(error, Err(DialError::Socket { .. })), "{error:?}");
        let past = Instant::now();
        let error = Dialer
            .connect(&target("localhost", port, Network::Loopback), past)
            .await;
        assert!(matches!(error, Err(DialError::TimedOut(_))), "{error:?}");
    }
}
