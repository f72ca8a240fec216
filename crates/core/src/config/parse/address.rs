//! Addresses: where a door listens, which host it answers to, where a service is.

use super::grammar::Parsed;
use super::grammar::number_and_unit;
use super::reader::Wrong;
use super::reader::shortened;
use crate::config::ServiceUrl;
use crate::config::codes;
use crate::vocabulary::CanonicalPath;
use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::ops::Range;

/// `127.0.0.1:8443`, `[::1]:8443`, or `:8443` for all addresses.
pub(super) fn socket(text: &str) -> Parsed<SocketAddr> {
    if let Some(port) = text
        .strip_prefix(':')
        .and_then(|port| port.parse::<u16>().ok())
    {
        return Ok(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port));
    }
    text.parse().map_err(|_| {
        let help = match text.strip_prefix("localhost:") {
            Some(port) => format!("write `127.0.0.1:{}`", shortened(port)),
            None if number_and_unit(text).is_some_and(|(_, rest)| rest.is_empty()) => {
                format!(
                    "write `\"127.0.0.1:{0}\"`, or `\":{0}\"` for all addresses",
                    shortened(text)
                )
            }
            None => {
                "write an address and a port such as `127.0.0.1:8443`, or `:8443` for all addresses"
                    .to_owned()
            }
        };
        Wrong::all(
            codes::ADDRESS,
            text,
            format!("`{}` is not an address and a port", shortened(text)),
            help,
        )
    })
}

/// A host name or literal address, lower case.
pub(super) fn host(text: &str) -> Parsed<String> {
    if is_host(text) {
        return Ok(text.to_owned());
    }
    let lower = text.to_lowercase();
    let bare = lower
        .split_once("://")
        .map_or(lower.as_str(), |(_, rest)| rest);
    let bare = bare
        .split(['/', ':'])
        .next()
        .unwrap_or_default()
        .trim_end_matches('.');
    let help = match (text.contains('*'), is_host(bare)) {
        (true, _) => "list the host names one by one".to_owned(),
        (false, true) => format!("write `{bare}`"),
        (false, false) => "write a host name such as `app.acme.example`".to_owned(),
    };
    Err(Wrong::all(
        codes::HOST,
        text,
        format!("`{}` is not a host name", shortened(text)),
        help,
    ))
}

fn is_host(text: &str) -> bool {
    let label = |it: &str| {
        let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        !it.is_empty()
            && it.len() <= 63
            && it.bytes().all(fine)
            && !it.starts_with('-')
            && !it.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label) || text.parse::<Ipv6Addr>().is_ok()
}

/// `https://host:port/base`, or `http://` on loopback.
pub(super) fn url(text: &str) -> Parsed<ServiceUrl> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let wrong = |message: &str, help: &str| Wrong::all(codes::URL, text, message, help);
    if let Some(path) = text.strip_prefix("unix:") {
        return unix(text, path);
    }
    if !matches!(scheme, "https" | "http" | "postgres" | "nats") {
        let help = format!("write `https://{}`", shortened(plain(rest)));
        return Err(wrong("the url of a service starts with `https://`", &help));
    }
    let (authority, path) = rest
        .find('/')
        .and_then(|at| rest.split_at_checked(at))
        .unwrap_or((rest, ""));
    if authority.contains('@') {
        let at = scheme.len() + 3..scheme.len() + 3 + authority.len();
        let help = "remove what stands before the `@`, and use `credential`";
        return Err(Wrong::at(
            codes::URL,
            at,
            "a user name or password in a url",
            help,
        ));
    }
    let base =
        base_path(path).map_err(|wrong| wrong.shifted(scheme.len() + 3 + authority.len()))?;
    let (host, port) =
        authority_parts(authority).map_err(|wrong| wrong.shifted(scheme.len() + 3))?;
    if scheme == "https" {
        return Ok(ServiceUrl::Https {
            host,
            port: port.unwrap_or(443),
            base,
        });
    }
    match scheme {
        "postgres" => return database(text, host, port, base.trim_start_matches('/')),
        "nats" if base.is_empty() => {
            return Ok(ServiceUrl::Nats {
                host,
                port: port.unwrap_or(4222),
            });
        }
        "nats" => return Err(wrong("a broker has no path", "write `nats://host:4222`")),
        _ => {}
    }
    let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|it| it.is_loopback());
    if !loopback {
        let message = "plain http leads out of this machine";
        let help = format!("write `https://{}`", shortened(plain(rest)));
        return Err(Wrong::all(codes::HTTP_UPSTREAM, text, message, help)
            .label("only loopback may be `http://`"));
    }
    Ok(ServiceUrl::Http {
        host,
        port: port.unwrap_or(80),
        base,
    })
}

/// What follows `://` without user and query.
fn plain(rest: &str) -> &str {
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    rest.rsplit_once('@').map_or(rest, |(_, host)| host)
}

fn unix(text: &str, path: &str) -> Parsed<ServiceUrl> {
    let fine = path.starts_with('/') && path.len() <= 107 && !path.chars().any(char::is_control);
    if fine && !path.ends_with('/') {
        return Ok(ServiceUrl::Unix {
            path: path.to_owned(),
        });
    }
    let message = format!("`{}` is not a socket", shortened(text));
    let help = "write the absolute path of a socket, such as `unix:/run/hms/api.sock`";
    Err(Wrong::all(codes::URL, text, message, help))
}

fn database(text: &str, host: String, port: Option<u16>, name: &str) -> Parsed<ServiceUrl> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if name.is_empty() || name.len() > 63 || !name.bytes().all(fine) {
        let help = "write `postgres://host:5432/database`";
        return Err(Wrong::all(
            codes::URL,
            text,
            "the url names no database",
            help,
        ));
    }
    Ok(ServiceUrl::Postgres {
        host,
        port: port.unwrap_or(5432),
        database: name.to_owned(),
    })
}

/// The parts of a URL that may be credentials: what stands before the host, and the query.
pub(super) fn private_parts(text: &str) -> impl Iterator<Item = Range<usize>> {
    let start = text.find("://").map(|at| at + 3);
    let rest = start
        .and_then(|start| text.get(start..))
        .unwrap_or_default();
    let start = start.unwrap_or_default();
    let path = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = rest.get(..path).unwrap_or_default();
    let user = authority.rfind('@').map(|at| start..start + at);
    let query = rest.find(['?', '#']);
    let query = query.map(|at| start + at + 1..text.len());
    user.into_iter().chain(query).filter(|it| !it.is_empty())
}

/// `https://host/path`, without query or fragment.
pub(super) fn web_url(text: &str) -> Parsed<String> {
    match url(text)? {
        ServiceUrl::Https { .. } | ServiceUrl::Http { .. } => Ok(text.to_owned()),
        _ => Err(Wrong::all(
            codes::URL,
            text,
            "not a web address",
            "write `https://host/path`",
        )),
    }
}

/// `https://host[:port]`.
pub(super) fn origin(text: &str) -> Parsed<String> {
    let given = match url(text)? {
        ServiceUrl::Https { base, .. } | ServiceUrl::Http { base, .. } => Some(base),
        _ => None,
    };
    if given.is_some_and(|base| base.is_empty()) && !text.ends_with('/') && !text.ends_with(":443")
    {
        return Ok(text.to_owned());
    }
    let help = "write scheme, host and a port other than 443, such as `https://app.acme.example`";
    Err(Wrong::all(codes::URL, text, "not an origin", help))
}

/// `s3://bucket/prefix`.
pub(super) fn bucket(text: &str) -> Parsed<String> {
    let name = text
        .strip_prefix("s3://")
        .map(|rest| rest.split('/').next().unwrap_or_default());
    let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    if name.is_some_and(|name| (3..=63).contains(&name.len()) && name.bytes().all(fine)) {
        return Ok(text.to_owned());
    }
    let message = format!("`{}` is not a bucket", shortened(text));
    Err(Wrong::all(
        codes::URL,
        text,
        message,
        "write `s3://bucket/prefix`",
    ))
}

/// A DNS name, lower case.
pub(super) fn dns_name(text: &str) -> Parsed<String> {
    if text.parse::<IpAddr>().is_ok() {
        let message = "an address is no dns name";
        return Err(Wrong::all(
            codes::HOST,
            text,
            message,
            "write a name such as `api.globex.example`",
        ));
    }
    host(text)
}

fn base_path(path: &str) -> Parsed<String> {
    let trimmed = path.trim_end_matches('/');
    let canonical =
        trimmed.is_empty() || CanonicalPath::new(trimmed).is_ok_and(|it| it.as_str() == trimmed);
    if canonical && (trimmed == path || path == "/") {
        return Ok(trimmed.to_owned());
    }
    let help =
        "write a plain path without a slash at its end, a query or a fragment, such as `/v1`";
    Err(Wrong::all(
        codes::URL,
        path,
        "the base path of a url is not in canonical form",
        help,
    ))
}

fn authority_parts(authority: &str) -> Parsed<(String, Option<u16>)> {
    let wrong = |message: &str, help: &str| Err(Wrong::all(codes::URL, authority, message, help));
    let bracketed = authority
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'));
    let (name, port) = match bracketed {
        Some((address, rest)) => {
            let follows = rest.is_empty() || rest.starts_with(':');
            if !follows || address.parse::<Ipv6Addr>().is_err() {
                let help = "write `https://[2001:db8::1]:8443`";
                return wrong("not an ipv6 address in brackets", help);
            }
            (address, rest.strip_prefix(':'))
        }
        None => {
            (authority.split_once(':')).map_or((authority, None), |(name, port)| (name, Some(port)))
        }
    };
    let port = match port.map(str::parse::<u16>) {
        None => None,
        Some(Ok(port)) if port > 0 => Some(port),
        Some(_) => {
            return wrong(
                "the port is not a number up to 65535",
                "write `host:port`, such as `api.hms.svc:8443`",
            );
        }
    };
    if name.is_empty() {
        return wrong(
            "the url has no host",
            "write a host, such as `https://api.hms.svc:8443`",
        );
    }
    host(name).map(|host| (host, port)).map_err(|error| Wrong {
        code: codes::URL,
        ..error
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets() {
        for (text, address) in [
            (":8443", "[::]:8443"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("[::1]:443", "[::1]:443"),
        ] {
            assert_eq!(socket(text).unwrap(), address.parse().unwrap());
        }
        for text in [
            "",
            "8443",
            ":",
            ":99999",
            "localhost:1",
            "1.2.3.4",
            "::1:443",
            "app.example:1",
        ] {
            assert!(socket(text).is_err(), "{text}");
        }
    }

    #[test]
    fn hosts() {
        for text in ["a", "app.acme.example", "127.0.0.1", "::1", "x--y.z_1"] {
            assert_eq!(host(text).unwrap(), text);
        }
        for text in [
            "",
            "A.b",
            "a.",
            ".a",
            "a..b",
            "-a",
            "a:1",
            "https://a",
            "*.a",
            "a b",
            "é",
        ] {
            assert!(host(text).is_err(), "{text}");
        }
    }

    #[test]
    fn urls() {
        let https = |host: &str, port, base: &str| ServiceUrl::Https {
            host: host.to_owned(),
            port,
            base: base.to_owned(),
        };
        assert_eq!(url("https://a.b").unwrap(), https("a.b", 443, ""));
        assert_eq!(url("https://a.b/").unwrap(), https("a.b", 443, ""));
        assert_eq!(
            url("https://[2001:db8::1]:8443/v1").unwrap(),
            https("2001:db8::1", 8443, "/v1")
        );
        for text in [
            "http://localhost",
            "http://127.9.9.9:1/x",
            "http://[::1]:80",
        ] {
            assert!(matches!(url(text), Ok(ServiceUrl::Http { .. })), "{text}");
        }
        for (text, code) in [
            ("http://10.0.0.1", codes::HTTP_UPSTREAM),
            ("http://localhost.evil.example", codes::HTTP_UPSTREAM),
            ("http://127.0.0.1@evil.example", codes::URL),
            ("https://u:p@a", codes::URL),
            ("https://A.b", codes::URL),
            ("https://", codes::URL),
            ("https://a:0", codes::URL),
            ("https://a:99999", codes::URL),
            ("https://a/x/", codes::URL),
            ("https://a/x?y", codes::URL),
            ("https://a/x#y", codes::URL),
            ("https://a/../x", codes::URL),
            ("https://a?x", codes::URL),
            ("https://[::1", codes::URL),
            ("https://[::1]x", codes::URL),
            ("https://[a.b]", codes::URL),
            ("https://::1", codes::URL),
            ("ftp://a", codes::URL),
            ("a.b", codes::URL),
            ("unix:run/x", codes::URL),
            ("unix:/run/x/", codes::URL),
        ] {
            assert_eq!(url(text).unwrap_err().code, code, "{text}");
        }
    }
}
