//! The clinic's story as processes of their own: model, server with gateway, API.
//!
//! Every address is this clinic's alone, so tests run beside each other. On the way to the API and
//! to the model stands a relay that counts what goes there. Run as root, the program is started as
//! an unprivileged user.

use crate::turn::Turn;
use countersign_testkit::not_run;
use serde_json::Value;
use serde_json::json;
use std::fs::File;
use std::io::Read as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

/// A running clinic; its processes end with it.
pub(crate) struct Clinic {
    /// Values that may be in no file, answer, record or argument list.
    pub(crate) canaries: Vec<String>,
    binary: PathBuf,
    counter: SocketAddr,
    folder: tempfile::TempDir,
    processes: Vec<(String, Child)>,
    started: Value,
    user: Option<u32>,
    /// Dropped last, when the processes have ended.
    _turn: Turn,
}

/// `nobody`: a user without anything of its own.
const NOBODY: u32 = 65_534;
const PATIENCE: Duration = Duration::from_secs(60);
const CONFIGURATION: &str = include_str!("../../../../examples/hms/countersign.yaml");

impl Clinic {
    /// Starts everything and waits until it serves. `verbose` makes the server log all it can.
    pub(crate) fn start(verbose: bool) -> Self {
        let turn = Turn::take();
        let folder = tempfile::tempdir().unwrap();
        let user = rustix::process::geteuid().is_root().then_some(NOBODY);
        let binary = reachable(&binary(), folder.path(), user);
        let canaries = ["model", "vault"].map(canary).to_vec();
        let counted = Arc::new(AtomicU64::new(0));
        let mut clinic = Self {
            canaries,
            binary,
            counter: counter(counted.clone()),
            folder,
            processes: Vec::new(),
            started: Value::Null,
            user,
            _turn: turn,
        };
        for name in ["id", "logs", "model"] {
            clinic.own(&clinic.path(name), |path| {
                std::fs::create_dir(path).unwrap()
            });
        }
        clinic.own(&clinic.path("."), |_| {});
        let (api, model) = (unused(), unused());
        let ports = [relay(api, counted.clone()), relay(model, counted)];
        clinic.configure(ports);
        clinic.serve_model(model);
        clinic.serve_control(verbose);
        clinic.put_secrets();
        for name in ["hms-api", "research-bot", "stats-worker"] {
            let folder = clinic.path("id").join(name);
            clinic.line(&["identity", "issue", name, "--out", text(&folder)]);
        }
        clinic.serve_api(api);
        clinic
    }

    /// A path below the clinic's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program with these arguments, as the clinic's user.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.unprivileged(&self.binary);
        command.args(arguments);
        command
    }

    /// Any program, as the clinic's user.
    pub(crate) fn unprivileged(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            let known = name.to_string_lossy();
            if known.starts_with("COUNTERSIGN_") || ["CI", "ZT_OFF", "RUST_LOG"].contains(&&*known)
            {
                command.env_remove(&name);
            }
        }
        command
            .current_dir(self.folder.path())
            .env("COUNTERSIGN_DATA", self.path("data"));
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }

    /// Runs a command that has to succeed; what it printed.
    pub(crate) fn line(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(
            output.status.success(),
            "{arguments:?}: {}\n{}",
            said(&output),
            self.logs()
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// The document that a command prints.
    pub(crate) fn document(&self, arguments: &[&str]) -> Value {
        let text = self.line(&[arguments, &["-o", "json"]].concat());
        serde_json::from_str(&text).unwrap()
    }

    /// Runs a script beside this file on the clinic; the document on its last line. None, with a
    /// note, where Python can't run it.
    pub(crate) fn script(&self, name: &str) -> Option<Value> {
        if !tools(&["openssl", "curl"]) || !python() {
            return None;
        }
        let settings = self.path("settings.json");
        std::fs::write(&settings, self.settings().to_string()).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/e2e")
            .join(name);
        let mut python = Command::new("python3");
        let output = python.arg("-B").arg(script).arg(settings).output().unwrap();
        assert!(
            output.status.success(),
            "{}\n{}",
            said(&output),
            self.logs()
        );
        let text = String::from_utf8(output.stdout).unwrap();
        let last = text.lines().last();
        last.map(|line| serde_json::from_str(line).unwrap())
    }

    /// The processes that run.
    pub(crate) fn processes(&self) -> impl Iterator<Item = u32> {
        self.processes.iter().map(|(_, child)| child.id())
    }

    /// Asks everything to stop, the server last, and waits until all of it has.
    pub(crate) fn stop(&mut self) {
        for (name, mut child) in std::mem::take(&mut self.processes).into_iter().rev() {
            let pid = rustix::process::Pid::from_child(&child);
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
            let status = child.wait().unwrap();
            assert!(
                name != "up" || status.success(),
                "{name}: {status}\n{}",
                self.logs()
            );
        }
    }

    fn settings(&self) -> Value {
        let port = |value: &Value| {
            let address: SocketAddr = value.as_str().unwrap().parse().unwrap();
            address.port()
        };
        let started = &self.started;
        json!({
            "binary": self.binary, "canaries": self.canaries,
            "config": self.path("countersign.yaml"), "control": port(&started["control"]),
            "counter": self.counter.port(), "data": self.path("data"), "folder": self.folder.path(),
            "log_key": started["log_key"], "mesh": port(&started["listeners"]["mesh"]),
            "trust_domain": started["trust_domain"], "user": self.user,
            "web": port(&started["listeners"]["web"]),
        })
    }

    /// The story's configuration with other addresses, and nothing else changed.
    fn configure(&self, [api, model]: [SocketAddr; 2]) {
        let mut text = CONFIGURATION.to_owned();
        let (api, model) = (
            format!("localhost:{}", api.port()),
            format!("localhost:{}", model.port()),
        );
        for (from, to) in [
            ("127.0.0.1:8443", "127.0.0.1:0"),
            ("127.0.0.1:9443", "127.0.0.1:0"),
            ("localhost:7101", api.as_str()),
            ("localhost:7102", model.as_str()),
        ] {
            assert_eq!(text.matches(from).count(), 1, "{from}");
            text = text.replace(from, to);
        }
        self.own(&self.path("countersign.yaml"), |path| {
            std::fs::write(path, text).unwrap()
        });
    }

    fn serve_model(&mut self, at: SocketAddr) {
        let key = self.path("model/key");
        self.own(&key, |path| {
            std::fs::write(path, &self.canaries[0]).unwrap()
        });
        let folder = self.path("model");
        let at_text = at.to_string();
        let arguments = [
            "--listen",
            &at_text,
            "--folder",
            text(&folder),
            "--key-file",
            text(&key),
        ];
        let command = self.command(&[&["demo", "serve", "model"][..], &arguments].concat());
        self.spawn("model", command);
        self.listens("model", at);
    }

    fn serve_control(&mut self, verbose: bool) {
        let arguments = ["up", "--dev", "--control", "127.0.0.1:0", "-o", "json"];
        let mut command = self.command(&arguments);
        command.env("SSL_CERT_FILE", self.path("model/ca.pem"));
        if verbose {
            command.arg("-vv");
        }
        self.spawn("up", command);
        let out = self.path("logs/up.out");
        let read = || serde_json::from_slice(&std::fs::read(&out).unwrap()).ok();
        self.started = self.eventually("up", read);
    }

    fn put_secrets(&self) {
        let key = self.path("model/key");
        self.line(&["secret", "put", "model", "--file", text(&key)]);
        let mut command = self.command(&["secret", "put", "openai_primary"]);
        let piped = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut put = piped.spawn().unwrap();
        put.stdin
            .take()
            .unwrap()
            .write_all(self.canaries[1].as_bytes())
            .unwrap();
        let output = put.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
    }

    fn serve_api(&mut self, at: SocketAddr) {
        let identity = self.path("id/hms-api");
        let listen = at.to_string();
        let arguments = [
            "demo",
            "serve",
            "hms-api",
            "--listen",
            &listen,
            "--identity",
            text(&identity),
        ];
        let command = self.command(&arguments);
        self.spawn("hms-api", command);
        self.listens("hms-api", at);
    }

    fn spawn(&mut self, name: &str, mut command: Command) {
        let log = |end: &str| File::create(self.path(&format!("logs/{name}.{end}"))).unwrap();
        command
            .stdin(Stdio::null())
            .stdout(log("out"))
            .stderr(log("err"));
        self.processes
            .push((name.to_owned(), command.spawn().unwrap()));
    }

    fn listens(&mut self, name: &str, at: SocketAddr) {
        self.eventually(name, || dial(at).ok());
    }

    /// Waits for something that a process does, as long as the process lives.
    fn eventually<T>(&mut self, name: &str, mut done: impl FnMut() -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(value) = done() {
                return value;
            }
            let (_, child) = self.processes.last_mut().unwrap();
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none(), "{name} ended: {ended:?}\n{}", self.logs());
            assert!(
                Instant::now() < end,
                "{name} does not serve\n{}",
                self.logs()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Makes something that belongs to the clinic's user.
    fn own(&self, path: &Path, make: impl FnOnce(&Path)) {
        make(path);
        if self.user.is_some() {
            std::os::unix::fs::chown(path, self.user, self.user).unwrap();
        }
    }

    /// The end of what the processes logged.
    fn logs(&self) -> String {
        let mut all = String::new();
        for name in ["model.err", "up.err", "hms-api.err"] {
            let text = std::fs::read(self.path("logs").join(name)).unwrap_or_default();
            all.push_str(&format!("--- {name}\n{}\n", last_lines(&text, 25)));
        }
        all
    }
}

impl Drop for Clinic {
    fn drop(&mut self) {
        for (_, child) in self.processes.iter_mut().rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The program under test: `COUNTERSIGN_BIN`, such as a release, or the one just built.
pub(crate) fn binary() -> PathBuf {
    let given = std::env::var_os("COUNTERSIGN_BIN").map(PathBuf::from);
    let path = given.unwrap_or_else(|| env!("CARGO_BIN_EXE_countersign").into());
    path.canonicalize()
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Whether these programs are here; says so if not.
pub(crate) fn tools(names: &[&str]) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let missing =
        |name: &&&str| !std::env::split_paths(&paths).any(|path| path.join(name).is_file());
    match names.iter().find(missing) {
        None => true,
        Some(name) => {
            not_run(&format!("`{name}` is not installed"));
            false
        }
    }
}

/// Whether Python can do cryptography; says so if not.
pub(crate) fn python() -> bool {
    let imported = Command::new("python3")
        .args(["-c", "import cryptography"])
        .output();
    let here = imported.is_ok_and(|output| output.status.success());
    if !here {
        not_run("python3 with the package `cryptography` is not installed");
    }
    here
}

/// How a process ended and the end of what it said: why it failed stands on standard error and in
/// the last lines, so they come first and are not cut off by whoever shows a part of this.
pub(crate) fn said(output: &Output) -> String {
    format!(
        "{}\n--- standard error\n{}\n--- standard output\n{}",
        output.status,
        last_lines(&output.stderr, 60),
        last_lines(&output.stdout, 60)
    )
}

fn last_lines(text: &[u8], most: usize) -> String {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<_> = text.lines().collect();
    let left_out = lines.len().saturating_sub(most);
    let (before, shown) = lines.split_at(left_out);
    let mark = match before.len() {
        0 => String::new(),
        number => format!("({number} lines before)\n"),
    };
    format!("{mark}{}", shown.join("\n"))
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The program where the user can start it: build folders are often closed to others.
fn reachable(binary: &Path, folder: &Path, user: Option<u32>) -> PathBuf {
    let Some(user) = user else {
        return binary.to_owned();
    };
    let tried = Command::new(binary)
        .arg("version")
        .uid(user)
        .gid(user)
        .output();
    if tried.is_ok_and(|output| output.status.success()) {
        return binary.to_owned();
    }
    let copy = folder.join("countersign");
    std::fs::copy(binary, &copy).unwrap();
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).unwrap();
    copy
}

fn canary(name: &str) -> String {
    let mut random = [0; 16];
    File::open("/dev/urandom")
        .unwrap()
        .read_exact(&mut random)
        .unwrap();
    format!("canary-{name}-{}", hex::encode(random))
}

/// A free port of a loopback address that nothing else uses: it is of this process and this call.
fn unused() -> SocketAddr {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let [.., a, b] = std::process::id().to_be_bytes();
    let call = CALLS.fetch_add(1, Ordering::SeqCst) % 254 + 1;
    let address = Ipv4Addr::new(127, 160 + (a & 63), b, u8::try_from(call).unwrap());
    let listener = TcpListener::bind((address, 0)).unwrap();
    listener.local_addr().unwrap()
}

#[expect(clippy::disallowed_methods, reason = "the test is the client")]
fn dial(at: SocketAddr) -> std::io::Result<TcpStream> {
    TcpStream::connect(at)
}

/// Passes bytes on to `target` and counts them, and each connection, on their way there.
fn relay(target: SocketAddr, counted: Arc<AtomicU64>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for inward in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::SeqCst);
            let Ok(outward) = dial(target) else { continue };
            let (back, forth) = (inward.try_clone().unwrap(), outward.try_clone().unwrap());
            let counted = counted.clone();
            std::thread::spawn(move || {
                pass(inward, forth, |bytes| {
                    counted.fetch_add(bytes, Ordering::SeqCst);
                })
            });
            std::thread::spawn(move || pass(outward, back, |_| {}));
        }
    });
    address
}

fn pass(mut from: TcpStream, mut to: TcpStream, count: impl Fn(u64)) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        count(read as u64);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}

/// Whoever connects is told the count.
fn counter(counted: Arc<AtomicU64>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = write!(stream, "{}", counted.load(Ordering::SeqCst));
        }
    });
    address
}
