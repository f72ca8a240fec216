//! An installation in a folder of its own, as one process or as a server and a gateway.

use crate::turn::Turn;
use countersign_client::Client;
use countersign_testkit::program::ports;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;
use serde_json::Value;
use std::io::BufRead as _;
use std::io::BufReader;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

/// Where nothing is fast: a machine that does many other things.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
/// The trust domain of every configuration here.
pub(crate) const DOMAIN: &str = "streams.dev.invalid";

/// How many processes it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Roles {
    Together,
    Apart,
}

/// A folder with a configuration, and the ports it names.
pub(crate) struct Place {
    folder: tempfile::TempDir,
    roles: Roles,
    control: u16,
    join: u16,
    pub(crate) mesh: u16,
    /// For doors that come and go.
    pub(crate) spare: [u16; 3],
    pub(crate) web: u16,
    _turn: Turn,
}

/// A running process, which ends with the test.
pub(crate) struct Running(Child);

impl Place {
    pub(crate) fn new(roles: Roles) -> Self {
        let turn = Turn::take();
        let [control, join, mesh, web, one, other, third] = ports();
        Self {
            folder: tempfile::tempdir().unwrap(),
            roles,
            control,
            join,
            mesh,
            spare: [one, other, third],
            web,
            _turn: turn,
        }
    }

    /// Writes a configuration: `listeners` beside the mesh door, and all that follows.
    pub(crate) fn configure(&self, listeners: &str, rest: &str) {
        let mesh = format!(
            "  mesh: {{ bind: \"127.0.0.1:{}\", peer: service }}\n",
            self.mesh
        );
        let text = format!(
            "trust_domain: {DOMAIN}\nenvironment: dev\nlisteners:\n{mesh}{listeners}{rest}"
        );
        std::fs::write(self.path().join("countersign.yaml"), text).unwrap();
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// What the processes wrote to standard error.
    pub(crate) fn said(&self) -> String {
        let logs = ["up", "server", "gateway"].map(|who| self.path().join(format!("{who}.log")));
        let logs = logs.map(|log| std::fs::read_to_string(log).unwrap_or_default());
        logs.concat()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.current_dir(self.path()).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("COUNTERSIGN_") || ["CI", "ZT_OFF", "RUST_LOG"].contains(&&*text) {
                command.env_remove(&name);
            }
        }
        command.env("COUNTERSIGN_DATA", self.path().join("data"));
        command.env("COUNTERSIGN_SOCKET", self.path().join("admin/admin.sock"));
        command
    }

    /// Runs a command that must succeed, with `-o json`; its document.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let output = self.command().args(args).args(["-o", "json"]).output();
        let output = output.unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {err}\n{}", self.said());
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The same from where nothing may be held up.
    pub(crate) async fn told(&self, args: &[&str]) -> Value {
        tokio::task::block_in_place(|| self.json(args))
    }

    /// The same, with when it was begun and when it returned.
    pub(crate) async fn timed(&self, args: &[&str]) -> (Instant, Value, Instant) {
        let asked = Instant::now();
        let said = self.told(args).await;
        (asked, said, Instant::now())
    }

    /// Issues an identity into a folder of its name; the folder, and what the command said.
    pub(crate) fn issue(&self, name: &str) -> (PathBuf, Value) {
        let folder = self.path().join("id").join(name);
        let out = folder.to_str().unwrap();
        let said = self.json(&["identity", "issue", name, "--out", out]);
        let file = folder.join("countersign.json");
        let mut ends: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        ends["mesh"] = format!("127.0.0.1:{}", self.mesh).into();
        std::fs::write(&file, ends.to_string()).unwrap();
        (folder, said)
    }

    /// A token of an identity for the service `api`, drawn now.
    pub(crate) async fn token(&self, identity: &Path) -> String {
        let client = Client::from_dir(identity).unwrap();
        let token = client.token("api", "item:read").await;
        let token = token.unwrap_or_else(|error| panic!("no token: {error:?}\n{}", self.said()));
        token.expose().to_owned()
    }

    /// The completions of these decisions, once they are in the log.
    pub(crate) async fn completions(
        &self,
        receipts: impl Iterator<Item = &String> + Clone,
    ) -> Vec<Value> {
        let until = Instant::now() + PATIENCE;
        loop {
            let tail = self.told(&["audit", "tail", "-n", "1000"]).await;
            let records = tail["records"].as_array().unwrap();
            let found = receipts.clone().map(|receipt| {
                let mut completions = records.iter().map(|it| &it["record"]["completion"]);
                completions.find(|it| it["decision"] == *receipt).cloned()
            });
            let found: Option<Vec<Value>> = found.collect();
            if let Some(found) = found {
                return found;
            }
            assert!(Instant::now() < until, "not all have ended: {tail}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Starts all of it, the process that has the doors last.
    pub(crate) fn start(&self) -> Vec<Running> {
        if self.roles == Roles::Together {
            let control = format!("127.0.0.1:{}", self.control);
            return vec![self.spawn("up", &["up", "--dev", "--control", &control], "data")];
        }
        let server = self.server();
        let mut token = vec!["gateway", "token", "--name", "gw1", "--listener", "mesh"];
        let text = std::fs::read_to_string(self.path().join("countersign.yaml")).unwrap();
        if text.contains("  second:") {
            token.extend(["--listener", "second"]);
        }
        let minted = self.json(&token);
        let file = self.path().join("gw1.token");
        std::fs::write(&file, minted["token"].as_str().unwrap()).unwrap();
        let join = ["gateway", "--dev", "--join-file", file.to_str().unwrap()];
        vec![server, self.spawn("gateway", &join, "gateway")]
    }

    /// Starts the server of an installation apart.
    pub(crate) fn server(&self) -> Running {
        let [control, join] = [self.control, self.join].map(|port| format!("127.0.0.1:{port}"));
        let args = ["server", "--dev", "--control", &control, "--join", &join];
        self.spawn("server", &args, "data")
    }

    fn spawn(&self, who: &str, args: &[&str], data: &str) -> Running {
        let mut options = std::fs::OpenOptions::new();
        let log = options.create(true).append(true);
        let log = log.open(self.path().join(format!("{who}.log"))).unwrap();
        let mut command = self.command();
        command.env("COUNTERSIGN_DATA", self.path().join(data));
        command.args(args).args(["-o", "json"]);
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut text = String::new();
        loop {
            let Some(Ok(line)) = lines.next() else {
                let _ = child.wait();
                panic!("{who} does not serve: {}", self.said());
            };
            text.push_str(&line);
            if serde_json::from_str::<Value>(&text).is_ok() {
                return Running(child);
            }
        }
    }
}

impl Running {
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    /// Waits until it has ended, which must be well.
    pub(crate) async fn ended(mut self) {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                assert!(status.success(), "{status}");
                return;
            }
            assert!(Instant::now() < until, "it does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Asks it to stop, which must succeed.
    pub(crate) async fn stop(self) {
        self.signal(Signal::TERM);
        self.ended().await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
