//! An installation in a folder of its own: its ports stay the same however often it is started.

use crate::turn::Turn;
use countersign_testkit::program::ports;
use serde_json::Value;
use std::io::BufRead;
use std::io::BufReader;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;
use std::time::Instant;

/// A folder with a configuration, and the ports it names.
pub(crate) struct Site {
    folder: tempfile::TempDir,
    /// Port of the mTLS door for control, issuer and vault.
    control: u16,
    /// The process whose view of the file system commands share, if it has one of its own: an
    /// administrator without it is not let in.
    pub(crate) within: OnceLock<u32>,
    /// Port of the browser door.
    pub(crate) web: u16,
    /// Port of the mesh door.
    pub(crate) mesh: u16,
    _turn: Turn,
}

/// A running `countersign up`, which ends with the test.
pub(crate) struct Running {
    child: Child,
    /// From its start until it said that it serves.
    pub(crate) took: Duration,
    /// What it said.
    pub(crate) started: Value,
}

/// The trust domain of every configuration here.
pub(crate) const DOMAIN: &str = "faults.dev.invalid";

/// Numbers from a seed: the same ones each time, so that a failure can be looked at again.
pub(crate) struct Seeded(pub(crate) u64);

impl Seeded {
    /// The next number below `end` (splitmix64).
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut it = self.0;
        it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (it ^ (it >> 31)) % end
    }
}

impl Site {
    /// A site whose configuration is these lines behind domain, environment and listeners: `mesh`,
    /// and `web` if an edge leads from there.
    pub(crate) fn new(lines: &str) -> Self {
        let turn = Turn::take();
        let folder = tempfile::tempdir().unwrap();
        let [control, web, mesh] = ports();
        let web_door = if lines.contains("web ->") {
            let rest = "peer: browser, hosts: [localhost], login: dev";
            format!("  web: {{ bind: \"127.0.0.1:{web}\", {rest} }}\n")
        } else {
            String::new()
        };
        let mesh_door = format!("  mesh: {{ bind: \"127.0.0.1:{mesh}\", peer: service }}\n");
        let text = format!(
            "trust_domain: {DOMAIN}\nenvironment: dev\nlisteners:\n{web_door}{mesh_door}{lines}"
        );
        std::fs::write(folder.path().join("countersign.yaml"), text).unwrap();
        Self {
            folder,
            control,
            within: OnceLock::new(),
            web,
            mesh,
            _turn: turn,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.path().join("up.log")
    }

    /// What the server wrote to standard error so far.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// The program with nothing of the caller's environment that matters.
    fn command(&self, program: &str) -> Command {
        let mut command = match self.within.get() {
            None => Command::new(program),
            Some(process) => {
                let folder = format!("--wd={}", self.path().display());
                let mut command = Command::new("nsenter");
                command.args([
                    "--mount",
                    "--target",
                    &process.to_string(),
                    &folder,
                    "--",
                    program,
                ]);
                command
            }
        };
        command.current_dir(self.path()).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("COUNTERSIGN_") || ["CI", "ZT_OFF", "RUST_LOG"].contains(&&*text) {
                command.env_remove(&name);
            }
        }
        command.env("COUNTERSIGN_DATA", self.data());
        command.env("COUNTERSIGN_SOCKET", self.path().join("admin/admin.sock"));
        command
    }

    /// Runs a command of the program to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        let mut command = self.command(env!("CARGO_BIN_EXE_countersign"));
        command.args(args).output().unwrap()
    }

    /// Runs a command that must succeed; what it printed.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {err}\n{}", self.said());
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must succeed, with `-o json`.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.ok(&[args, &["-o", "json"]].concat())).unwrap()
    }

    /// Issues an identity into a folder of its name; the folder, and what the command said.
    pub(crate) fn issue(&self, name: &str) -> (PathBuf, Value) {
        let folder = self.path().join("id").join(name);
        let out = folder.to_str().unwrap();
        let said = self.json(&["identity", "issue", name, "--out", out]);
        (folder, said)
    }

    /// A record by its receipt.
    pub(crate) fn record(&self, receipt: &str) -> Value {
        self.json(&["audit", "show", receipt])["record"]["record"].clone()
    }

    /// Starts the server and waits until it serves.
    pub(crate) fn up(&self) -> Running {
        self.up_by(&[], &[])
    }

    /// The same, started by another program (`wrapper`, with its arguments before ours) and with
    /// variables of the environment.
    pub(crate) fn up_by(&self, wrapper: &[&str], env: &[(&str, &str)]) -> Running {
        let begun = Instant::now();
        let mut child = self.spawn(wrapper, env);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut text = String::new();
        let started = loop {
            let Some(Ok(line)) = lines.next() else {
                let _ = child.wait();
                panic!("it does not serve: {}", self.said());
            };
            text.push_str(&line);
            if let Ok(document) = serde_json::from_str(&text) {
                break document;
            }
        };
        let took = begun.elapsed();
        Running {
            child,
            took,
            started,
        }
    }

    /// Starts a server that must refuse to: its exit code, and what it says.
    pub(crate) fn refuses(&self, wrapper: &[&str], env: &[(&str, &str)]) -> (i32, String) {
        let said = self.said().len();
        let mut child = self.spawn(wrapper, env);
        let output = child.stdout.take().unwrap();
        let lines: Vec<_> = BufReader::new(output)
            .lines()
            .map_while(Result::ok)
            .collect();
        let status = child.wait().unwrap();
        assert!(lines.is_empty() && !status.success(), "{lines:?}");
        (status.code().unwrap(), self.said().split_off(said))
    }

    /// Starts the server and kills it while it is still starting, or shortly after.
    pub(crate) fn stillborn(&self, after: Duration) {
        let mut child = self.spawn(&[], &[]);
        std::thread::sleep(after);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn spawn(&self, wrapper: &[&str], env: &[(&str, &str)]) -> Child {
        let ours = env!("CARGO_BIN_EXE_countersign");
        let control = format!("127.0.0.1:{}", self.control);
        let args = ["up", "--dev", "--control", &control, "-o", "json"];
        let mut command = match wrapper.split_first() {
            None => self.command(ours),
            Some((program, before)) => {
                let mut command = self.command(program);
                command.args(before).arg(ours);
                command
            }
        };
        let mut options = std::fs::OpenOptions::new();
        let log = options.create(true).append(true).open(self.log()).unwrap();
        command.args(args).envs(env.iter().copied());
        command.stdout(Stdio::piped()).stderr(log).spawn().unwrap()
    }
}

impl Running {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log_key(&self) -> String {
        self.started["log_key"].as_str().unwrap().to_owned()
    }

    /// Whether it still runs.
    pub(crate) fn lives(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop, which must succeed.
    pub(crate) fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
