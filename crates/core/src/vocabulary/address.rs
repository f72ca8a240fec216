//! What kind of address an address is: what the checker says of one that is written, and what the
//! dialler decides of one that a name leads to, is the same.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

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

/// What kind of address this is. An IPv4 address inside an IPv6 one (mapped, NAT64, 6to4) counts
/// as the IPv4 address that it reaches.
#[must_use]
pub fn classify(address: IpAddr) -> AddressClass {
    match address {
        IpAddr::V4(v4) => classify_v4(v4),
        IpAddr::V6(v6) => embedded_v4(v6).map_or_else(|| classify_v6(v6), classify_v4),
    }
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
}
