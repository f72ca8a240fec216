//! Sockets that listened before the process began, by name: socket activation, as
//! `sd_listen_fds(3)` has it. Whoever takes them from the environment puts them here.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::sync::Arc;

/// Listening sockets that were passed to this process. Clones share them.
///
/// They stay open as long as this lives, so a listener that is closed and opened again by another
/// configuration has the same one, and whoever connects meanwhile waits instead of being refused.
#[derive(Clone, Default)]
pub struct Sockets(Arc<BTreeMap<String, TcpListener>>);

/// A socket that was passed is not the one that is wanted.
#[derive(Debug, thiserror::Error)]
#[error("the socket passed as `{name}` is at `{passed}`, not at `{wanted}`")]
struct Elsewhere {
    name: String,
    passed: SocketAddr,
    wanted: SocketAddr,
}

impl Sockets {
    /// These, by name.
    #[must_use]
    pub fn new(passed: BTreeMap<String, TcpListener>) -> Self {
        Self(Arc::new(passed))
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Where the socket of this name listens, if there is one.
    #[must_use]
    pub fn address(&self, name: &str) -> Option<SocketAddr> {
        self.0.get(name)?.local_addr().ok()
    }

    /// The socket that was passed for `name`, or else a new one at `wanted`; nobody accepts there
    /// yet. Does not wait, so it can't be left half done. Needs a runtime.
    ///
    /// # Errors
    /// The system's; and [`io::ErrorKind::AddrNotAvailable`] if the socket that was passed listens
    /// elsewhere: where a door is open is what the policy says, not the service manager. Port 0
    /// is any port.
    pub fn listen(&self, name: &str, wanted: SocketAddr) -> io::Result<tokio::net::TcpListener> {
        let socket = match self.0.get(name) {
            None => TcpListener::bind(wanted)?,
            Some(passed) => {
                let at = passed.local_addr()?;
                if !is_meant(at, wanted) {
                    let elsewhere = Elsewhere {
                        name: name.to_owned(),
                        passed: at,
                        wanted,
                    };
                    return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, elsewhere));
                }
                passed.try_clone()?
            }
        };
        socket.set_nonblocking(true)?;
        tokio::net::TcpListener::from_std(socket)
    }
}

/// An IPv4 address may be written as an IPv6 one that stands for it; the addresses for "all" are
/// two different things.
fn is_meant(passed: SocketAddr, wanted: SocketAddr) -> bool {
    let port = wanted.port() == 0 || passed.port() == wanted.port();
    port && passed.ip().to_canonical() == wanted.ip().to_canonical()
}

impl fmt::Debug for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn a_passed_socket_is_used_again_and_again() {
        let passed = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = passed.local_addr().unwrap();
        let sockets = Sockets::new(BTreeMap::from([("web".to_owned(), passed)]));
        for _ in 0..2 {
            let socket = sockets.listen("web", address).unwrap();
            assert_eq!(socket.local_addr().unwrap(), address);
        }
        let other = sockets.listen("mesh", at("127.0.0.1:0")).unwrap();
        assert_ne!(other.local_addr().unwrap(), address);
        assert_eq!(sockets.address("web"), Some(address));
        assert_eq!(sockets.address("mesh"), None);
        // It is still bound, though nobody accepts.
        assert!(TcpListener::bind(address).is_err());
    }

    #[tokio::test]
    async fn a_passed_socket_that_is_elsewhere_is_an_error() {
        let passed = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = passed.local_addr().unwrap();
        let sockets = Sockets::new(BTreeMap::from([("web".to_owned(), passed)]));
        let wanted = SocketAddr::from(([127, 0, 0, 2], address.port()));
        let error = sockets.listen("web", wanted).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
        assert!(error.to_string().contains(&wanted.to_string()), "{error}");
        assert!(sockets.listen("web", at("127.0.0.1:1")).is_err());
        assert!(sockets.listen("web", at("127.0.0.1:0")).is_ok());
    }

    #[test]
    fn addresses_are_compared_by_what_they_mean() {
        assert!(is_meant(at("[::ffff:10.0.0.1]:80"), at("10.0.0.1:80")));
        assert!(!is_meant(at("[::]:80"), at("0.0.0.0:80")));
        assert!(!is_meant(at("127.0.0.1:80"), at("0.0.0.0:80")));
    }
}
