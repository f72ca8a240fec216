//! What is on disk: configuration, folders, keys, room.

use super::finding::Finding;
use crate::boot;
use crate::boot::DiskFiles;
use crate::boot::Places;
use crate::cli::args::Globals;
use crate::cli::check;
use countersign_core::config::Config;
use countersign_core::config::Environment;
use countersign_core::config::Options;
use countersign_core::config::ServiceUrl;
use countersign_core::config::load;
use countersign_ledger::spool::SpoolOptions;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;

/// Where things are, as far as that can be found out.
pub(super) struct Installation {
    pub(super) config: Option<Config>,
    /// The files of the configuration.
    files: Vec<PathBuf>,
    /// The folder of a gateway of its own, if one has joined here.
    gateway: Option<PathBuf>,
    pub(super) places: Places,
}

/// Owner and group may read, write and search; nobody else.
const MODE: u32 = 0o7777;
/// Below so many files that a disk can still take, it is full soon.
const FILES: u64 = 1000;

impl Installation {
    /// Finds it, and says how its configuration is.
    pub(super) fn find(globals: &Globals) -> (Self, Vec<Finding>) {
        let mut findings = Vec::new();
        let file = boot::find(globals.config.as_deref()).ok();
        let (config, files) = match &file {
            Some(file) => configuration(file, &mut findings),
            None => (None, Vec::new()),
        };
        let dev = config.as_ref().map(|it| it.environment) == Some(Environment::Dev);
        let environment = if dev {
            Environment::Dev
        } else {
            Environment::Prod
        };
        let (data, socket) = (globals.data.as_deref(), globals.socket.as_deref());
        let mut places = Places::new(environment, file.as_deref(), data, socket);
        if socket.is_none() && file.is_none() {
            places.socket = boot::admin_socket(None, data, None);
        }
        let folder = data.map_or_else(|| places.data.join("gateway"), Path::to_owned);
        let gateway = folder.join("join.json").exists().then_some(folder);
        if file.is_none() && gateway.is_none() {
            findings.push(Finding::fail(
                "configuration",
                "there is none here, and none of the system",
                "make one with `countersign init`, or name one with `-c FILE`",
            ));
        }
        let found = Self {
            config,
            files,
            gateway,
            places,
        };
        (found, findings)
    }

    /// Whether a gateway of its own has joined here.
    pub(super) const fn is_gateway(&self) -> bool {
        self.gateway.is_some()
    }

    pub(super) fn is_development(&self) -> bool {
        let environment = self.config.as_ref().map(|it| it.environment);
        environment == Some(Environment::Dev)
    }

    /// Folders, keys and room.
    pub(super) fn files(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        findings.extend(self.writable());
        findings.extend(self.config.as_ref().map(upstreams));
        if let Some(folder) = &self.gateway {
            findings.extend(folder_findings("gateway folder", folder));
            findings.push(keys("gateway keys", std::slice::from_ref(folder)));
        }
        let data = &self.places.data;
        if self.gateway.as_ref() != Some(data) && (self.config.is_some() || data.exists()) {
            findings.extend(folder_findings("data folder", data));
            findings.push(keys("keys", &[data.join("keys"), data.join("store.db")]));
        }
        findings.extend(socket_folder(&self.places.socket));
        findings
    }

    /// Who may change the configuration says what is allowed.
    fn writable(&self) -> Option<Finding> {
        const WHAT: &str = "configuration files";
        let us = nix::unistd::geteuid().as_raw();
        let owner = std::fs::metadata(&self.places.data).map_or(us, |it| it.uid());
        for file in &self.files {
            let path = file.display();
            let Ok(found) = std::fs::metadata(file) else {
                continue;
            };
            if found.mode() & 0o022 != 0 {
                let detail = format!("others can write to `{path}`, and so decide what is allowed");
                return Some(Finding::fail(WHAT, detail, format!("chmod go-w '{path}'")));
            }
            if ![0, us, owner].contains(&found.uid()) {
                let uid = found.uid();
                let detail = format!("`{path}` belongs to user {uid}, who decides what is allowed");
                return Some(Finding::fail(WHAT, detail, format!("chown root '{path}'")));
            }
        }
        let count = self.files.len();
        (count > 0).then(|| Finding::ok(WHAT, format!("{count}, written by their owner alone")))
    }
}

/// Development has to be asked for where it is served; here its file is only looked at.
fn configuration(file: &Path, findings: &mut Vec<Finding>) -> (Option<Config>, Vec<PathBuf>) {
    const WHAT: &str = "configuration";
    let path = file.display().to_string();
    let read = |dev| load(&DiskFiles, &path, &Options { dev, strict: false });
    let mut loaded = read(false);
    if loaded.config.is_none() || loaded.errors().next().is_some() {
        let other = read(true);
        if other.errors().next().is_none() {
            loaded = other;
        }
    }
    let checked = check::check(loaded, false);
    let (sound, errors) = (checked.is_sound(), checked.loaded.errors().count());
    let names = checked.loaded.sources.files().map(|(name, _)| name.into());
    let files: Vec<PathBuf> = names.collect();
    findings.push(match &checked.loaded.config {
        Some(config) if sound => {
            let (listeners, services) = (config.listeners.len(), config.services.len());
            let tests = checked.tests.told();
            Finding::ok(
                WHAT,
                format!("`{path}`: {listeners} listeners, {services} services, {tests}"),
            )
        }
        _ => {
            let errors = errors.max(1);
            let detail = format!("`{path}` has {errors} errors");
            Finding::fail(WHAT, detail, format!("countersign check -c '{path}'"))
        }
    });
    (checked.loaded.config, files)
}

/// An application on a loopback port answers every process of this machine, so whoever is here
/// gets past us; a unix socket has an owner and a mode.
fn upstreams(config: &Config) -> Finding {
    const WHAT: &str = "upstreams";
    let (mut open, mut sockets) = (Vec::new(), 0);
    for (name, service) in &config.services {
        for url in &service.urls {
            match url {
                ServiceUrl::Http { .. } => open.push(format!("`{name}` at {url}")),
                ServiceUrl::Unix { path } => {
                    sockets += 1;
                    let found = std::fs::metadata(path);
                    let exposed = |it: std::fs::Metadata| {
                        it.file_type().is_socket() && it.mode() & 0o002 != 0
                    };
                    if found.is_ok_and(exposed) {
                        let detail = format!("`{name}`: everybody here may connect to `{path}`");
                        return Finding::warn(WHAT, detail, format!("chmod o-w '{path}'"));
                    }
                }
                _ => {}
            }
        }
    }
    if open.is_empty() {
        let detail = format!("none on a loopback port, {sockets} on unix sockets");
        return Finding::ok(WHAT, detail);
    }
    let detail = format!(
        "every process on this machine can reach {} without us",
        open.join(", ")
    );
    let hint = "let it listen on a unix socket that only we may use: `url: unix:/run/NAME.sock`";
    Finding::warn(WHAT, detail, hint)
}

fn folder_findings(what: &'static str, folder: &Path) -> Vec<Finding> {
    let path = folder.display();
    let found = match std::fs::metadata(folder) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let detail = format!("`{path}` is not there yet");
            return vec![Finding::warn(what, detail, "the first start makes it")];
        }
        Err(error) => {
            let detail = format!("can't look at `{path}`: {error}");
            return vec![Finding::fail(what, detail, "be its owner, or root")];
        }
    };
    let mode = found.mode() & MODE;
    let us = nix::unistd::geteuid().as_raw();
    let first = if mode & 0o077 != 0 {
        let detail = format!("`{path}` has mode {mode:04o}: others can look into it");
        Finding::fail(what, detail, format!("chmod 0700 '{path}'"))
    } else if us != 0 && found.uid() != us {
        let detail = format!("`{path}` belongs to user {}, not to you", found.uid());
        Finding::warn(what, detail, "be its owner, or root, to see all of it")
    } else {
        Finding::ok(what, format!("`{path}`, its owner's alone"))
    };
    vec![first, room(folder)]
}

/// What the ledger can still take: without room for a record nothing is allowed.
fn room(folder: &Path) -> Finding {
    const WHAT: &str = "disk";
    let path = folder.display();
    let bounds = SpoolOptions::default();
    let hint = "make space there; records that the log has may be archived";
    match rustix::fs::statvfs(folder) {
        Err(error) => Finding::fail(WHAT, format!("`{path}` does not say: {error}"), hint),
        Ok(disk) => {
            let left = disk.f_bavail.saturating_mul(disk.f_frsize);
            let mib = left >> 20;
            let detail = format!("{mib} MiB left for `{path}`");
            // Some file systems do not count files, and say 0 of 0.
            let few = disk.f_files > 0 && disk.f_favail < FILES;
            if left < bounds.reserve_bytes {
                let detail = format!("{detail}: only the reserve, strangers are not recorded");
                Finding::fail(WHAT, detail, hint)
            } else if few {
                let detail = format!("`{path}` can take {} more files", disk.f_favail);
                Finding::fail(WHAT, detail, hint)
            } else if left < bounds.warn_bytes {
                Finding::warn(WHAT, detail, hint)
            } else {
                let reserve = bounds.reserve_bytes >> 20;
                Finding::ok(WHAT, format!("{detail}, {reserve} MiB of it in reserve"))
            }
        }
    }
}

/// Nobody but the owner of the folder may read a key.
fn keys(what: &'static str, places: &[PathBuf]) -> Finding {
    let mut count = 0;
    for place in places {
        let files = match std::fs::read_dir(place) {
            Ok(entries) => entries.flatten().map(|it| it.path()).collect(),
            Err(_) if place.is_file() => vec![place.clone()],
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => {
                let detail = format!("can't look into `{}`: {error}", place.display());
                return Finding::warn(what, detail, "be its owner, or root");
            }
        };
        for file in files.into_iter().filter(|it| it.is_file()) {
            let path = file.display();
            let Ok(found) = std::fs::symlink_metadata(&file) else {
                continue;
            };
            count += 1;
            let mode = found.mode() & MODE;
            if mode & 0o077 != 0 {
                let detail = format!("`{path}` has mode {mode:04o}: others can read or change it");
                return Finding::fail(what, detail, format!("chmod 0600 '{path}'"));
            }
        }
    }
    Finding::ok(what, format!("{count} files, for their owner alone"))
}

/// Who may search the folder may try to administer.
fn socket_folder(socket: &Path) -> Option<Finding> {
    const WHAT: &str = "administration";
    let folder = socket.parent()?;
    let found = std::fs::metadata(folder).ok()?;
    let (path, mode) = (folder.display(), found.mode() & MODE);
    Some(if mode & 0o027 == 0 {
        Finding::ok(WHAT, format!("`{path}` has mode {mode:04o}"))
    } else {
        let detail = format!("`{path}` has mode {mode:04o}: others can reach the socket in it");
        Finding::fail(WHAT, detail, format!("chmod 0700 '{path}'"))
    })
}
