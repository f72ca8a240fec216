//! Processes of a run, each on its core, ended with it.

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use std::fs::File;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

/// How long something may take to come up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    name: String,
}

impl Process {
    /// Starts `command` on `core`; standard output and error go to `<name>.log` in `folder`.
    pub(crate) fn start(name: &str, core: &str, command: &[String], folder: &Path) -> Result<Self> {
        let log = File::create(folder.join(format!("{name}.log")))?;
        let mut pinned = pinned(core, command)?;
        pinned.stdin(Stdio::null());
        pinned.stdout(log.try_clone()?).stderr(log);
        let child = pinned.spawn().with_context(|| command.join(" "))?;
        let name = name.to_owned();
        Ok(Self { child, name })
    }

    /// Starts a command with pipes for its standard input and output.
    pub(crate) fn piped(name: &str, core: &str, command: &[String]) -> Result<Self> {
        let mut pinned = pinned(core, command)?;
        pinned.stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = pinned.spawn().with_context(|| command.join(" "))?;
        let name = name.to_owned();
        Ok(Self { child, name })
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end and waits until it has.
    pub(crate) fn end(&mut self) -> Result<()> {
        let pid = self.child.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).status()?;
        ensure!(asked.success(), "{} is gone", self.name);
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "{} ended with {status}", self.name);
                return Ok(());
            }
            ensure!(start.elapsed() < PATIENCE, "{} does not end", self.name);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until somebody listens at `address`.
    #[expect(
        clippy::disallowed_methods,
        reason = "a measurement on loopback is not the product, whose dialer is `net`'s"
    )]
    pub(crate) fn listens(&mut self, address: SocketAddr) -> Result<()> {
        let start = Instant::now();
        loop {
            if TcpStream::connect(address).is_ok() {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status}; see its log", self.name);
            }
            if start.elapsed() > PATIENCE {
                bail!("{} does not listen at {address}", self.name);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `taskset` replaces itself by the command, so that the process is the one that is measured.
fn pinned(core: &str, command: &[String]) -> Result<Command> {
    let mut pinned = Command::new("taskset");
    pinned.args(["-c", core]).args(command);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("COUNTERSIGN_") || ["CI", "ZT_OFF", "RUST_LOG"].contains(&&*text) {
            pinned.env_remove(&name);
        }
    }
    Ok(pinned)
}

/// An address of this machine that nobody uses.
pub(crate) fn unused() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
