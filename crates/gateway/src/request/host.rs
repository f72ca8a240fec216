use http::Version;
use http::header;
use http::request::Parts;
use http::uri::Authority;
use http::uri::Scheme;
use std::net::IpAddr;

/// The host that a request is for, as all its witnesses agree on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    /// Lower case, without port, an IPv6 address without brackets.
    pub(crate) name: String,
    /// As it was written, with its port; for comparing origins.
    pub(crate) authority: String,
    /// The port that was written.
    pub(crate) port: Option<u16>,
}

/// Why there is no such host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HostError {
    #[error("no host")]
    Absent,
    #[error("more than one host")]
    Several,
    #[error("the host is not a name or an address")]
    Form,
    #[error("`:authority` and `Host` differ")]
    Authority,
    #[error("the scheme is not `https`")]
    Scheme,
    #[error("the host is not the server name of the tls handshake")]
    ServerName,
}

impl Host {
    /// Reads the host of a request: `Host`, `:authority` or the absolute form, and the server name
    /// of the handshake must agree (RFC 9110 section 7.4). Otherwise one connection could be opened
    /// for one host and used for another.
    pub(crate) fn agreed(parts: &Parts, sni: Option<&str>) -> Result<Self, HostError> {
        // All doors are encrypted, so no resource of another scheme is behind them; an upstream
        // that is told of `http` would redirect, or take a cookie for one that anybody can set.
        if parts.uri.scheme().is_some_and(|it| *it != Scheme::HTTPS) {
            return Err(HostError::Scheme);
        }
        let mut written = parts.headers.get_all(header::HOST).iter();
        let (header, more) = (written.next(), written.next());
        if more.is_some() {
            return Err(HostError::Several);
        }
        let header = match header {
            Some(value) => Some(Self::parse(value.to_str().map_err(|_| HostError::Form)?)?),
            None => None,
        };
        let target = match parts.uri.authority() {
            Some(authority) => Some(Self::parse(authority.as_str())?),
            None => None,
        };
        let host = match (header, target) {
            (Some(header), Some(target)) if header != target => return Err(HostError::Authority),
            // RFC 9112 section 3.2: HTTP/1.1 carries `Host`, whatever the target says.
            (None, Some(_)) if parts.version < Version::HTTP_2 => return Err(HostError::Absent),
            (Some(host), _) | (None, Some(host)) => host,
            (None, None) => return Err(HostError::Absent),
        };
        // An address has no server name (RFC 6066 section 3).
        let named = match sni {
            Some(name) => name.eq_ignore_ascii_case(&host.name),
            None => host.is_address(),
        };
        if named {
            Ok(host)
        } else {
            Err(HostError::ServerName)
        }
    }

    /// Reads `name`, `name:port`, `address` or `[address]:port`.
    pub(crate) fn parse(text: &str) -> Result<Self, HostError> {
        let authority: Authority = text.parse().map_err(|_| HostError::Form)?;
        let host = authority.host();
        let name = host
            .strip_prefix('[')
            .and_then(|it| it.strip_suffix(']'))
            .unwrap_or(host);
        let plain =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':');
        let port = authority.as_str().rsplit_once(':').map(|(_, port)| port);
        let bad_port = authority.port().is_none() && port.is_some_and(|it| !it.ends_with(']'));
        if name.is_empty()
            || name.ends_with('.')
            || !name.bytes().all(plain)
            || text.contains('@')
            || bad_port
        {
            return Err(HostError::Form);
        }
        Ok(Self {
            name: name.to_ascii_lowercase(),
            authority: text.to_ascii_lowercase(),
            port: authority.port_u16(),
        })
    }

    /// Whether it is an IP address.
    pub(crate) fn is_address(&self) -> bool {
        self.name.parse::<IpAddr>().is_ok()
    }

    /// Whether an `Origin` is `https` at this host.
    pub(crate) fn is_origin(&self, origin: &str) -> bool {
        let plain = |authority: &str| {
            authority
                .strip_suffix(":443")
                .unwrap_or(authority)
                .to_owned()
        };
        origin
            .strip_prefix("https://")
            .is_some_and(|it| plain(&it.to_ascii_lowercase()) == plain(&self.authority))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use proptest::prelude::*;

    fn parts(uri: &str, hosts: &[&str]) -> Parts {
        let mut request = Request::builder().uri(uri);
        for host in hosts {
            request = request.header("host", *host);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn agreed(uri: &str, hosts: &[&str], sni: Option<&str>) -> Result<String, HostError> {
        Host::agreed(&parts(uri, hosts), sni).map(|host| host.name)
    }

    #[test]
    fn all_witnesses_agree() {
        let api = Ok("hms-api".to_owned());
        assert_eq!(agreed("/", &["hms-api"], Some("hms-api")), api);
        assert_eq!(agreed("/", &["HMS-API:9443"], Some("hms-api")), api);
        assert_eq!(
            agreed("https://hms-api/x", &["hms-api"], Some("hms-api")),
            api
        );
        assert_eq!(
            agreed("/", &["127.0.0.1:1"], None),
            Ok("127.0.0.1".to_owned())
        );
        assert_eq!(agreed("/", &["[::1]:1"], None), Ok("::1".to_owned()));
        for (uri, hosts, sni, error) in [
            ("/", &[][..], None, HostError::Absent),
            ("https://a/", &[], Some("a"), HostError::Absent),
            ("/", &["a", "a"], Some("a"), HostError::Several),
            ("https://a/", &["b"], Some("a"), HostError::Authority),
            ("http://a/", &["a"], Some("a"), HostError::Scheme),
            ("ftp://a/", &["a"], Some("a"), HostError::Scheme),
            ("/", &["a"], Some("b"), HostError::ServerName),
            ("/", &["a"], None, HostError::ServerName),
            ("/", &["127.0.0.1"], Some("a"), HostError::ServerName),
            ("/", &["a."], Some("a."), HostError::Form),
            ("/", &["u@a"], Some("a"), HostError::Form),
            ("/", &["a:b"], Some("a"), HostError::Form),
            ("/", &["a,b"], Some("a"), HostError::Form),
            ("/", &[""], None, HostError::Form),
        ] {
            assert_eq!(
                agreed(uri, hosts, sni),
                Err(error),
                "{uri} {hosts:?} {sni:?}"
            );
        }
    }

    #[test]
    fn origins() {
        let host = Host::parse("app.example:8443").unwrap();
        assert!(host.is_origin("https://app.example:8443"));
        for other in [
            "http://app.example:8443",
            "https://app.example",
            "null",
            "https://x.app.example:8443",
        ] {
            assert!(!host.is_origin(other), "{other}");
        }
        assert!(
            Host::parse("app.example")
                .unwrap()
                .is_origin("https://app.example:443")
        );
    }

    proptest! {
        #[test]
        fn what_parses_is_plain_and_stable(text in "[a-zA-Z0-9.:@\\[\\]_,/ -]{0,24}") {
            if let Ok(host) = Host::parse(&text) {
                prop_assert!(!host.name.contains(['@', '/', ',', ' ', '[']));
                prop_assert_eq!(host.name.to_ascii_lowercase(), host.name.clone());
                if !host.name.contains(':') {
                    prop_assert_eq!(Host::parse(&host.name).unwrap().name, host.name);
                }
            }
        }

        #[test]
        fn never_panics(text in ".{0,40}") {
            let _ = Host::parse(&text);
        }
    }
}
