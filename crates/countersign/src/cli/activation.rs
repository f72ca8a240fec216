//! Sockets that the service manager opened for us (socket activation, `sd_listen_fds(3)`).
//!
//! They are known by their names: a listener's, or `control`, `join`, `metrics`. The socket for
//! administration is always our own, since its folder is half of what protects it.

use crate::operate::Failure;
use countersign_net::Sockets;
use listenfd::ListenFd;
use rustix::net::sockopt;
use std::collections::BTreeMap;
use std::net::TcpListener;

/// Takes what was passed to this very process, and the variables that say so: none of it is for a
/// child of ours. Call it before there are threads.
pub(crate) fn sockets() -> Result<Sockets, Failure> {
    let variable = |name: &str| std::env::var(name).ok();
    let (pid, names) = (variable("LISTEN_PID"), variable("LISTEN_FDNAMES"));
    // A dialect of the protocol, by which any file of ours could be meant.
    let elsewhere = variable("LISTEN_FDS_FIRST_FD").is_some();
    let mut passed = ListenFd::from_env();
    let ours = pid.and_then(|it| it.parse().ok()) == Some(std::process::id());
    if !ours || passed.len() == 0 {
        return Ok(Sockets::default());
    }
    if elsewhere {
        return Err(Failure::usage("`LISTEN_FDS_FIRST_FD` is not supported"));
    }
    let names = names.unwrap_or_default();
    let names: Vec<_> = names.split(':').filter(|it| !it.is_empty()).collect();
    if names.len() != passed.len() {
        let (sockets, names) = (passed.len(), names.len());
        let text = format!("`{sockets}` sockets were passed, and `{names}` names for them");
        return Err(Failure::usage(text).with_help(
            "name each by `FileDescriptorName=` of its unit: a listener, `control`, `join` or \
             `metrics`",
        ));
    }
    let mut sockets = BTreeMap::new();
    for (index, name) in names.into_iter().enumerate() {
        let socket = listening(&mut passed, index);
        let socket = socket.map_err(|why| {
            Failure::usage(format!("what was passed as `{name}` can't be used: {why}"))
        })?;
        if sockets.insert(name.to_owned(), socket).is_some() {
            let text = format!("more than one socket was passed as `{name}`");
            return Err(Failure::usage(text));
        }
    }
    Ok(Sockets::new(sockets))
}

/// A socket that nobody asks for would be open, and nobody would answer there.
pub(crate) fn check<'a>(
    sockets: &Sockets,
    ours: &[&str],
    listeners: impl Iterator<Item = &'a str>,
) -> Result<(), Failure> {
    let listeners: Vec<_> = listeners.collect();
    for name in sockets.names() {
        match (ours.contains(&name), listeners.contains(&name)) {
            (true, false) | (false, true) => {}
            (true, true) => {
                let text = format!("a socket was passed as `{name}`, which is a listener, too");
                return Err(Failure::usage(text).with_help("give that listener another name"));
            }
            (false, false) => {
                let text =
                    format!("a socket was passed as `{name}`, and nothing here has that name");
                let known: Vec<_> = ours.iter().chain(&listeners).copied().collect();
                let help = format!("its `FileDescriptorName=` is one of {}", known.join(", "));
                return Err(Failure::usage(text).with_help(help));
            }
        }
    }
    Ok(())
}

fn listening(passed: &mut ListenFd, index: usize) -> Result<TcpListener, String> {
    let socket = passed.take_tcp_listener(index);
    let socket = socket.map_err(|error| error.to_string())?;
    let socket = socket.ok_or("it was taken already")?;
    match sockopt::socket_acceptconn(&socket) {
        Ok(true) => Ok(socket),
        Ok(false) => Err("it does not listen".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(names: &[&str]) -> Sockets {
        let any = |name: &&str| {
            let socket = TcpListener::bind("127.0.0.1:0").unwrap();
            ((*name).to_owned(), socket)
        };
        Sockets::new(names.iter().map(any).collect())
    }

    #[test]
    fn every_name_is_that_of_one_thing() {
        let listeners = || ["web", "mesh"].into_iter();
        let ours = ["control", "metrics"];
        assert!(check(&passed(&[]), &ours, listeners()).is_ok());
        assert!(check(&passed(&["web", "control"]), &ours, listeners()).is_ok());
        for wrong in ["wep", "join", "admin"] {
            let failure = check(&passed(&["web", wrong]), &ours, listeners()).unwrap_err();
            assert!(failure.to_string().contains(wrong), "{failure}");
            assert_eq!(failure.exit_code(), 2);
        }
        let both = check(&passed(&["control"]), &ours, ["control"].into_iter());
        assert!(both.is_err());
    }
}
