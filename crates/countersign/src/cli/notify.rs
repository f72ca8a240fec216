//! Telling the service manager where we are: datagrams to `NOTIFY_SOCKET` (sd_notify(3)), for
//! `Type=notify-reload`.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

/// What the service manager is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// We serve, or serve again.
    Ready,
    /// We reload.
    Reloading,
    /// We end.
    Stopping,
    /// Ending may take as long from now on.
    Within(Duration),
    /// We are well.
    Well,
}

/// Tells the service manager, if there is one.
pub(crate) fn notify(phase: Phase) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET").filter(|it| !it.is_empty()) else {
        return;
    };
    if let Err(error) = send(&socket, &text(phase)) {
        tracing::warn!(%error, "the service manager is not told");
    }
}

fn text(phase: Phase) -> String {
    match phase {
        Phase::Ready => "READY=1".to_owned(),
        Phase::Stopping => "STOPPING=1".to_owned(),
        Phase::Within(time) => format!("EXTEND_TIMEOUT_USEC={}", time.as_micros()),
        Phase::Well => "WATCHDOG=1".to_owned(),
        Phase::Reloading => {
            // The clock that tells this reload's answer from an earlier one's.
            let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
            let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
            format!("RELOADING=1\nMONOTONIC_USEC={micros}")
        }
    }
}

fn send(socket: &OsStr, text: &str) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let sent = UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address)?;
    if sent == text.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::WriteZero.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_per_phase_by_path_and_by_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify.sock");
        let by_path = UnixDatagram::bind(&path).unwrap();
        let name = format!("countersign-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let by_name = UnixDatagram::bind_addr(&address).unwrap();
        let abstract_name = format!("@{name}");
        for (at, socket) in [
            (path.as_os_str(), by_path),
            (OsStr::new(&abstract_name), by_name),
        ] {
            let time = Duration::from_secs(40);
            for phase in [
                Phase::Ready,
                Phase::Reloading,
                Phase::Stopping,
                Phase::Within(time),
                Phase::Well,
            ] {
                send(at, &text(phase)).unwrap();
            }
            let mut buffer = [0; 256];
            let mut next = || {
                let length = socket.recv(&mut buffer).unwrap();
                String::from_utf8(buffer[..length].to_vec()).unwrap()
            };
            assert_eq!(next(), "READY=1");
            let reloading = next();
            let usec = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
            assert!(usec.unwrap().parse::<u64>().unwrap() > 0);
            assert_eq!(next(), "STOPPING=1");
            assert_eq!(next(), "EXTEND_TIMEOUT_USEC=40000000");
            assert_eq!(next(), "WATCHDOG=1");
        }
        assert!(send(OsStr::new("/nowhere/at/all"), "READY=1").is_err());
    }
}
