//! A server and a gateway in folders of their own, with ports that stay the same.

use countersign_client::CallError;
use countersign_client::Client;
use countersign_testkit::program::ports;
use serde_json::Value;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

/// Where nothing is fast: a machine that does many other things.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
pub(crate) const DOMAIN: &str = "apart.dev.invalid";

pub(crate) struct Pair {
    folder: tempfile::TempDir,
    /// The process whose view of the file system the operator shares, if it has one of its own.
    pub(crate) within: OnceLock<u32>,
    control: u16,
    join: u16,
    pub(crate) mesh: u16,
    pub(crate) upstream: Upstream,
}

/// A running process, which ends with the test.
pub(crate) struct Running {
    child: Child,
    pub(crate) said: Value,
}

/// An application on loopback that answers everything.
pub(crate) struct Upstream {
    pub(crate) port: u16,
    seen: Arc<AtomicUsize>,
}

impl Upstream {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen: Arc<AtomicUsize> = Arc::default();
        let counting = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let counting = counting.clone();
                std::thread::spawn(move || {
                    // Whoever is at the other end may be killed at any moment.
                    let Ok(mut stream) = stream else { return };
                    let mut held = Vec::new();
                    let mut chunk = [0; 4096];
                    while let Ok(read @ 1..) = stream.read(&mut chunk) {
                        held.extend_from_slice(&chunk[..read]);
                        while let Some(end) = memchr::memmem::find(&held, b"\r\n\r\n") {
                            held.drain(..end + 4);
                            counting.fetch_add(1, Ordering::SeqCst);
                            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                            if stream.write_all(answer).is_err() {
                                return;
                            }
                        }
                    }
                });
            }
        });
        Self { port, seen }
    }

    pub(crate) fn count(&self) -> usize {
        self.seen.load(Ordering::SeqCst)
    }
}

impl Pair {
    pub(crate) fn new() -> Self {
        Self::configured(|_, text| text)
    }

    /// With another configuration, and the files that it names.
    pub(crate) fn configured(change: impl FnOnce(&Path, String) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [control, join, mesh, web] = ports();
        let upstream = Upstream::start();
        let text = format!(
            r#"trust_domain: {DOMAIN}
environment: dev
listeners:
  mesh: {{ bind: "127.0.0.1:{mesh}", peer: service }}
  web:  {{ bind: "127.0.0.1:{web}", peer: browser, hosts: [localhost], login: dev }}
identities: {{ caller: {{}}, page: {{}} }}
roles: {{ reader: {{ members: [caller, user:alice], may: ["item:read"] }} }}
services:
  api:
    peer: service
    url: "http://127.0.0.1:{}"
    operations: {{ GET /items/**: {{ needs: "item:read" }} }}
  page:
    peer: service
    url: "http://127.0.0.1:{}"
    operations: {{ GET /app/**: {{ needs: "item:read" }} }}
edges: {{ caller -> api: [GET /items/**], web -> page: [GET /app/**] }}
"#,
            upstream.port, upstream.port
        );
        let text = change(folder.path(), text);
        std::fs::write(folder.path().join("countersign.yaml"), text).unwrap();
        Self {
            folder,
            within: OnceLock::new(),
            control,
            join,
            mesh,
            upstream,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The server's folder.
    pub(crate) fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    /// The gateway's folder.
    pub(crate) fn home(&self) -> PathBuf {
        self.path().join("gateway")
    }

    pub(crate) fn log(&self, who: &str) -> String {
        std::fs::read_to_string(self.path().join(format!("{who}.log"))).unwrap_or_default()
    }

    fn command(&self) -> Command {
        self.program(env!("CARGO_BIN_EXE_countersign"))
    }

    fn program(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.path()).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("COUNTERSIGN_") || ["CI", "ZT_OFF", "RUST_LOG"].contains(&&*text) {
                command.env_remove(&name);
            }
        }
        command.env("COUNTERSIGN_SOCKET", self.path().join("admin/admin.sock"));
        command
    }

    /// Runs a command to its end, with these folders for data.
    pub(crate) fn run(&self, args: &[&str], data: &Path) -> Output {
        let mut command = match self.within.get() {
            None => self.command(),
            Some(process) => {
                let mut command = self.program("nsenter");
                let folder = format!("--wd={}", self.path().display());
                command.args(["--mount", "--target", &process.to_string(), &folder, "--"]);
                command.arg(env!("CARGO_BIN_EXE_countersign"));
                command
            }
        };
        command.env("COUNTERSIGN_DATA", data);
        command.args(args).output().unwrap()
    }

    /// A command of the operator, which must succeed; its document.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let output = self.run(&[args, &["-o", "json"]].concat(), &self.data());
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{args:?}: {err}\n{}",
            self.log("server")
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub(crate) fn server(&self) -> Running {
        self.server_of(&[], &[])
    }

    /// The server, with further arguments.
    pub(crate) fn server_with(&self, more: &[&str]) -> Running {
        self.server_of(&[], more)
    }

    /// The server, started by another program with its arguments before ours.
    pub(crate) fn server_by(&self, wrapper: &[&str]) -> Running {
        self.server_of(wrapper, &[])
    }

    fn server_of(&self, wrapper: &[&str], more: &[&str]) -> Running {
        let control = format!("127.0.0.1:{}", self.control);
        let join = format!("127.0.0.1:{}", self.join);
        let args = ["server", "--dev", "--control", &control, "--join", &join];
        let args = [&args[..], more].concat();
        self.start("server", &args, &self.data(), wrapper)
    }

    pub(crate) fn gateway(&self, more: &[&str]) -> Running {
        self.gateway_by(&[], more)
    }

    /// The gateway, started by another program with its arguments before ours.
    pub(crate) fn gateway_by(&self, wrapper: &[&str], more: &[&str]) -> Running {
        let args = [&["gateway", "--dev"], more].concat();
        self.start("gateway", &args, &self.home(), wrapper)
    }

    /// A gateway that must refuse to start: what it says.
    pub(crate) fn gateway_refuses(&self) -> String {
        let output = self.run(&["gateway", "--dev"], &self.home());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        said
    }

    fn start(&self, who: &str, args: &[&str], data: &Path, wrapper: &[&str]) -> Running {
        let log = self.path().join(format!("{who}.log"));
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log);
        let ours = env!("CARGO_BIN_EXE_countersign");
        let mut command = match wrapper.split_first() {
            None => self.command(),
            Some((program, before)) => {
                let mut command = self.program(program);
                command.args(before).arg(ours);
                command
            }
        };
        command
            .env("COUNTERSIGN_DATA", data)
            .args(args)
            .args(["-o", "json"]);
        command.stdout(Stdio::piped()).stderr(log.unwrap());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut text = String::new();
        let said = loop {
            let Some(Ok(line)) = lines.next() else {
                let _ = child.wait();
                panic!("{who} does not serve: {}", self.log(who));
            };
            text.push_str(&line);
            if let Ok(document) = serde_json::from_str(&text) {
                break document;
            }
        };
        Running { child, said }
    }

    /// A join token in a file, for the mesh listener alone.
    pub(crate) fn token(&self, name: &str) -> PathBuf {
        self.token_for(name, "mesh")
    }

    /// A join token in a file, for one listener.
    pub(crate) fn token_for(&self, name: &str, listener: &str) -> PathBuf {
        let args = ["gateway", "token", "--name", name, "--listener", listener];
        let minted = self.run(&args, &self.data());
        assert!(minted.status.success(), "{minted:?}");
        // As `> FILE` writes it: the token and nothing else.
        let file = self.path().join(format!("{name}.token"));
        std::fs::write(&file, minted.stdout).unwrap();
        file
    }

    /// A server, and a gateway that has joined it.
    pub(crate) fn both(&self) -> (Running, Running) {
        let server = self.server();
        let token = self.token("gw1");
        let gateway = self.gateway(&["--join-file", token.to_str().unwrap()]);
        (server, gateway)
    }

    /// The caller's identity, which finds the mesh where the gateway is.
    pub(crate) fn caller(&self) -> PathBuf {
        let folder = self.path().join("id");
        let out = folder.to_str().unwrap();
        self.json(&["identity", "issue", "caller", "--out", out]);
        let file = folder.join("countersign.json");
        let mut ends: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        ends["mesh"] = format!("127.0.0.1:{}", self.mesh).into();
        std::fs::write(&file, ends.to_string()).unwrap();
        folder
    }

    /// Records of the log whose event is this.
    pub(crate) fn events(&self, event: &str) -> Vec<Value> {
        let tail = self.json(&["audit", "tail", "-n", "200"]);
        let all = tail["records"].as_array().cloned().unwrap_or_default();
        let records = all.into_iter().map(|entry| entry["record"].clone());
        records
            .filter(|record| record["event_type"] == event)
            .collect()
    }

    /// Waits until a call is answered 200.
    pub(crate) async fn served(&self, client: &Client, path: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            match call(client, path).await {
                Ok(receipt) => return receipt,
                Err(error) => {
                    let (server, gateway) = (self.log("server"), self.log("gateway"));
                    assert!(Instant::now() < until, "{error:?}\n{server}\n{gateway}");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }
}

/// A call that is answered 200, and its receipt.
pub(crate) async fn call(client: &Client, path: &str) -> Result<String, CallError> {
    let response = client
        .secure_call(path, "GET", None::<&Value>, "item:read")
        .await?;
    assert_eq!(response.status(), 200, "{response:?}");
    Ok(response.receipt().expect("no receipt").to_owned())
}

/// Tries until something is so.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

impl Running {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub(crate) fn lives(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Holds it where it is, or lets it go on.
    pub(crate) fn hold(&self, held: bool) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let signal = if held {
            rustix::process::Signal::STOP
        } else {
            rustix::process::Signal::CONT
        };
        rustix::process::kill_process(pid, signal).unwrap();
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
