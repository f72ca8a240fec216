//! TLS sessions of a listener that may be resumed.

use crate::recent::Recent;
use parking_lot::Mutex;
use rustls::server::StoresServerSessions;
use std::fmt;

/// Sessions in memory, each of them resumed once.
///
/// A ticket is worth nothing without the entry, so that a listener that trusts somebody else now
/// forgets its sessions by forgetting this (RFC 8446 section 2.2, and appendix C.4 on using a
/// ticket once). The store that comes with the TLS library searches all entries whenever one is
/// taken.
pub(crate) struct Sessions(Mutex<Recent<Box<[u8]>, Vec<u8>>>);

impl Sessions {
    /// Keeps at most `capacity` sessions.
    pub(crate) fn new(capacity: usize) -> Self {
        Self(Mutex::new(Recent::new(capacity)))
    }
}

impl StoresServerSessions for Sessions {
    fn put(&self, key: Vec<u8>, mut value: Vec<u8>) -> bool {
        value.shrink_to_fit();
        self.0.lock().insert(key.into_boxed_slice(), value);
        true
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.lock().find(key).cloned()
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.lock().take(key)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sessions")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_resumed_once() {
        let sessions = Sessions::new(4);
        assert!(sessions.put(vec![1], vec![10]));
        assert_eq!(sessions.get(&[1]), Some(vec![10]));
        assert_eq!(sessions.take(&[1]), Some(vec![10]));
        assert_eq!(sessions.take(&[1]), None);
        assert_eq!(sessions.get(&[1]), None);
    }
}
