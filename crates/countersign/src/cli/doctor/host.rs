//! The machine: clock, service manager, ports.

use super::finding::Finding;
use super::installation::Installation;
use crate::cli::scrape::Probe;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

/// Where units are looked for, by systemd as well (systemd.unit(5)).
const UNITS: [&str; 4] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
];
/// Made when the clock was set by the network for the first time (systemd-timesyncd.service(8)).
const SYNCHRONISED: &str = "/run/systemd/timesync/synchronized";
/// Where the server is by default.
const CONTROL: &str = "127.0.0.1:7443";

/// What there is to say whether or not anything runs.
pub(super) fn findings(installation: &Installation) -> Vec<Finding> {
    let mut findings = vec![clock()];
    if !installation.is_development() {
        findings.push(unit());
    }
    findings
}

/// Whether what is to be opened can be: nothing of ours runs.
pub(super) fn ports(installation: &Installation, probe: Option<&Probe>) -> Option<Finding> {
    const WHAT: &str = "ports";
    let config = installation.config.as_ref()?;
    let listeners = config.listeners.iter();
    let mut wanted: Vec<(String, SocketAddr)> = listeners
        .map(|(name, listener)| (name.to_string(), listener.bind))
        .collect();
    wanted.extend(CONTROL.parse().map(|at| ("control".to_owned(), at)));
    wanted.extend(probe.map(|it| ("metrics".to_owned(), it.address)));
    let taken = wanted.iter().filter(|(_, address)| address.port() != 0);
    for (name, address) in taken {
        // Closed at once: it is only asked for.
        if let Err(error) = TcpListener::bind(address) {
            let detail = format!("`{address}` for `{name}` can't be had: {error}");
            let hint = match error.kind() {
                std::io::ErrorKind::PermissionDenied => {
                    "run it as a service (`packaging/systemd`), which may have ports below 1024"
                        .to_owned()
                }
                _ => format!("see who has it: ss -ltnp 'sport = :{}'", address.port()),
            };
            return Some(Finding::fail(WHAT, detail, hint));
        }
    }
    Some(Finding::ok(WHAT, format!("all {} are free", wanted.len())))
}

/// Certificates, tokens and sessions end by the clock.
fn clock() -> Finding {
    const WHAT: &str = "clock";
    if Path::new(SYNCHRONISED).exists() {
        return Finding::ok(WHAT, "set by the network");
    }
    match synchronised() {
        Some(true) => Finding::ok(WHAT, "set by the network"),
        Some(false) => Finding::warn(
            WHAT,
            "not set by the network: certificates and tokens end too early or too late",
            "timedatectl set-ntp true",
        ),
        None => Finding::warn(
            WHAT,
            "nobody here says whether it is set by the network",
            "run systemd-timesyncd or chrony on this machine, or on the one it is part of",
        ),
    }
}

/// What the kernel says of its clock, by the one program that every service for it tells.
fn synchronised() -> Option<bool> {
    let mut command = Command::new("timedatectl");
    command.args(["show", "--property=NTPSynchronized", "--value"]);
    command.stdin(Stdio::null()).stderr(Stdio::null());
    let output = command.output().ok().filter(|it| it.status.success())?;
    match output.stdout.trim_ascii() {
        b"yes" => Some(true),
        b"no" => Some(false),
        _ => None,
    }
}

fn unit() -> Finding {
    const WHAT: &str = "service";
    if !Path::new("/run/systemd/system").exists() {
        return Finding::ok(WHAT, "systemd does not run here");
    }
    let folders = UNITS
        .into_iter()
        .filter_map(|it| std::fs::read_dir(it).ok());
    let names = folders.flat_map(|entries| entries.flatten().map(|it| it.file_name()));
    let found = names
        .filter_map(|name| name.into_string().ok())
        .find(|name| {
            name.starts_with("countersign")
                && Path::new(name).extension() == Some("service".as_ref())
        });
    match found {
        Some(name) => Finding::ok(WHAT, format!("`{name}` is installed")),
        None => Finding::warn(
            WHAT,
            "nothing starts it with the machine",
            "install the units in `packaging/systemd`, then: systemctl enable --now countersign",
        ),
    }
}
