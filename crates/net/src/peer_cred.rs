//! Who is at the other end of a unix socket, as the kernel says (`SO_PEERCRED`).

use countersign_core::hop::Peer;
use std::io;
use tokio::net::UnixStream;

/// A local process at the other end of a unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalProcess {
    /// Group id.
    pub gid: u32,
    /// Process id when it connected.
    pub pid: i32,
    /// User id.
    pub uid: u32,
    /// User name, if the system knows one.
    pub user: Option<String>,
}

/// The credentials of the process that connected.
///
/// # Errors
/// What the kernel says, or [`io::ErrorKind::Unsupported`] where it names no process.
pub fn of(stream: &UnixStream) -> io::Result<LocalProcess> {
    let credentials = stream.peer_cred()?;
    // Zero is a process of a pid namespace that we don't see into.
    let pid = credentials
        .pid()
        .filter(|pid| *pid > 0)
        .ok_or(io::ErrorKind::Unsupported)?;
    let uid = credentials.uid();
    Ok(LocalProcess {
        gid: credentials.gid(),
        pid,
        uid,
        user: user_name(uid),
    })
}

impl LocalProcess {
    /// As evidence.
    #[must_use]
    pub fn peer(&self) -> Peer {
        Peer::Local {
            pid: self.pid,
            uid: self.uid,
            user: self.user.clone(),
        }
    }

    /// Whether it sees the files and processes that we see: same mount and pid namespaces.
    ///
    /// # Errors
    /// When the process is gone, or belongs to somebody whose namespaces we may not read.
    pub fn shares_our_namespaces(&self) -> io::Result<bool> {
        for namespace in ["mnt", "pid"] {
            let theirs = std::fs::read_link(format!("/proc/{}/ns/{namespace}", self.pid))?;
            if theirs != std::fs::read_link(format!("/proc/self/ns/{namespace}"))? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn user_name(uid: u32) -> Option<String> {
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)).ok()??;
    Some(user.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn we_are_who_we_are() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let process = of(&ours).unwrap();
        assert_eq!(process.pid, i32::try_from(std::process::id()).unwrap());
        assert_eq!(process.uid, nix::unistd::getuid().as_raw());
        assert!(process.shares_our_namespaces().unwrap());
        let Peer::Local { uid, user, .. } = process.peer() else {
            panic!("not local")
        };
        assert_eq!(uid == 0, user.as_deref() == Some("root"));
    }

    #[test]
    fn nobody_has_this_number() {
        assert_eq!(user_name(3_999_999_999), None);
    }
}
