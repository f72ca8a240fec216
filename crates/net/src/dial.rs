//! The one dialer: every outgoing connection of every process of ours is made here.
//!
//! A name is resolved once and the address that passed the check is the one connected to, so that
//! a second answer (DNS rebinding) has no effect. Addresses that lead inside (private, loopback,
//! link-local, carrier-grade NAT, cloud metadata) are refused unless the entry says so.

use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
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

/// What kind of address it is, as far as reaching it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressClass {
    /// Globally routed.
    Global,
    /// This host.
    Loopback,
    /// This link.
    LinkLocal,
    /// A private or shared network.
    Private,
    /// Where a cloud gives credentials to whoever asks from inside.
    Metadata,
    /// No host: unspecified, multicast, broadcast, documentation, reserved.
    NoHost,
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

/// What kind of address this is. An IPv4 address inside an IPv6 one (mapped, NAT64, 6to4) counts
/// as the IPv4 address that it reaches.
#[must_use]
pub fn classify(address: IpAddr) -> AddressClass {
    match address {
        IpAddr::V4(v4) => classify_v4(v4),
        IpAddr::V6(v6) => embedded_v4(v6).map_or_else(|| classify_v6(v6), classify_v4),
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

/// The metadata services of clouds that are not on 169.254.0.0/16.
const METADATA_V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(100, 100, 100, 200),
];
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// IANA's special-purpose registry for IPv4 (RFC 6890).
fn classify_v4(address: Ipv4Addr) -> AddressClass {
    let [a, b, c, _] = address.octets();
    if METADATA_V4.contains(&address) {
        return AddressClass::Metadata;
    }
    match (a, b, c) {
        (127, ..) => AddressClass::Loopback,
        (169, 254, _) => AddressClass::LinkLocal,
        (10, ..) | (172, 16..=31, _) | (192, 168, _) | (100, 64..=127, _) | (198, 18..=19, _) => {
            AddressClass::Private
        }
        (0 | 224.., ..) | (192, 0, 0 | 2) | (192, 88, 99) | (198, 51, 100) | (203, 0, 113) => {
            AddressClass::NoHost
        }
        _ => AddressClass::Global,
    }
}

/// Only 2000::/3 is globally routed, and not all of it.
fn classify_v6(address: Ipv6Addr) -> AddressClass {
    if address == METADATA_V6 {
        return AddressClass::Metadata;
    }
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => AddressClass::Loopback,
        [0xfe80..=0xfebf, ..] => AddressClass::LinkLocal,
        [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] => AddressClass::Private,
        [0x2001, 0x0000..=0x01ff | 0x0db8, ..] => AddressClass::NoHost,
        [0x3fff, 0x0000..=0x0fff, ..] => AddressClass::NoHost,
        [0x2000..=0x3fff, ..] => AddressClass::Global,
        _ => AddressClass::NoHost,
    }
}

fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let from = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match address.segments() {
        // ::1 and :: are addresses of their own.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        // Mapped, compatible and translated (RFC 4291, RFC 2765).
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => {
            Some(from(high, low))
        }
        // NAT64 (RFC 6052, RFC 8215).
        [0x0064, 0xff9b, 0, 0, 0, 0, high, low] | [0x0064, 0xff9b, 1, _, _, _, high, low] => {
            Some(from(high, low))
        }
        // 6to4 (RFC 3056).
        [0x2002, high, low, ..] => Some(from(high, low)),
        _ => None,
    }
}

impl std::fmt::Display for AddressClass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Global => "a public address",
            Self::Loopback => "a loopback address",
            Self::LinkLocal => "a link-local address",
            Self::Private => "a private address",
            Self::Metadata => "a cloud metadata address",
            Self::NoHost => "no host's address",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
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

    #[test]
    fn kinds_of_addresses() {
        use AddressClass as C;
        let cases = [
            ("8.8.8.8", C::Global),
            ("172.15.0.1", C::Global),
            ("172.16.0.1", C::Private),
            ("10.1.2.3", C::Private),
            ("192.168.0.1", C::Private),
            ("100.64.0.1", C::Private),
            ("100.128.0.1", C::Global),
            ("127.8.9.1", C::Loopback),
            ("169.254.1.1", C::LinkLocal),
            ("169.254.169.254", C::Metadata),
            ("100.100.100.200", C::Metadata),
            ("168.63.129.16", C::Metadata),
            ("0.0.0.0", C::NoHost),
            ("224.0.0.1", C::NoHost),
            ("255.255.255.255", C::NoHost),
            ("203.0.113.7", C::NoHost),
            ("2606:4700::1111", C::Global),
            ("::1", C::Loopback),
            ("::", C::NoHost),
            ("fe80::1", C::LinkLocal),
            ("fd12::1", C::Private),
            ("fd00:ec2::254", C::Metadata),
            ("ff02::1", C::NoHost),
            ("2001:db8::1", C::NoHost),
            ("::ffff:127.0.0.1", C::Loopback),
            ("::ffff:8.8.8.8", C::Global),
            ("::169.254.169.254", C::Metadata),
            ("::ffff:0:10.0.0.1", C::Private),
            ("64:ff9b::a9fe:a9fe", C::Metadata),
            ("64:ff9b:1::a00:1", C::Private),
            ("2002:7f00:1::", C::Loopback),
        ];
        for (address, class) in cases {
            assert_eq!(classify(address.parse().unwrap()), class, "{address}");
        }
    }

    proptest! {
        #[test]
        fn an_ipv4_address_is_the_same_inside_an_ipv6_one(v4: u32) {
            let v4 = Ipv4Addr::from(v4);
            prop_assert_eq!(classify(v4.to_ipv6_mapped().into()), classify(v4.into()));
        }

        #[test]
        fn every_ipv6_address_outside_2000_is_inside_or_nowhere(bits: u128) {
            let v6 = Ipv6Addr::from(bits & !(0b111 << 125));
            if embedded_v4(v6).is_none() {
                prop_assert_ne!(classify(v6.into()), AddressClass::Global);
            }
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
