//! As a service: units, sockets that were open before, the watchdog, and how it ends.

use crate::application::Application;
use crate::door::Door;
use crate::door::code;
use crate::scene::PATIENCE;
use crate::scene::Scene;
use crate::scene::site;
use countersign_testkit::not_run;
use http_body_util::BodyExt as _;
use rustix::process::Pid;
use rustix::process::Signal;
use std::net::TcpListener;
use std::net::TcpStream;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// Passes a socket on as `sd_listen_fds(3)` has it: its number, its name, whose it is said to be.
const PASS: &str = r#"
import os, sys
number, name, pid = int(sys.argv[1]), sys.argv[2], sys.argv[3]
if number != 3:
    os.dup2(number, 3)
os.set_inheritable(3, True)
os.environ["LISTEN_FDS"] = "1"
os.environ["LISTEN_FDNAMES"] = name
os.environ["LISTEN_PID"] = str(os.getpid()) if pid == "self" else pid
os.execv(sys.argv[4], sys.argv[4:])
"#;

fn inherited(port: u16) -> (TcpListener, String) {
    let socket = TcpListener::bind(("127.0.0.1", port)).unwrap();
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::empty()).unwrap();
    let number = socket.as_raw_fd().to_string();
    (socket, number)
}

fn terminate(id: u32) {
    let pid = Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_was_open_before_outlives_a_restart() {
    let application = Application::start();
    let site = site(application.port);
    let (socket, number) = inherited(site.mesh);
    let launcher = ["python3", "-c", PASS, &number, "mesh", "self"];
    let env = [("COUNTERSIGN_METRICS", "off")];
    let running = site.up_by(&launcher, &env);
    let at = socket.local_addr().unwrap().to_string();
    assert_eq!(running.started["listeners"]["mesh"], at);
    let (identity, _) = site.issue("caller");
    let ask = ["token", "--for", "api", "--scope", "item:read"];
    let ask = [&ask[..], &["--identity", identity.to_str().unwrap()]].concat();
    let door = || Door::mesh(&identity, "api", site.mesh);
    let token = site.ok(&ask);
    let mut connection = door().http1().await.unwrap();
    let answer = connection.get("/items/1", token.trim()).await.unwrap();
    assert_eq!(code(&answer), None);
    // Another address than the policy's is not made right by a socket: the reload is refused.
    let file = site.path().join("countersign.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let moved = text.replace(&at, &format!("127.0.0.2:{}", site.mesh));
    std::fs::write(&file, &moved).unwrap();
    assert_ne!(text, moved);
    let refused = site.run(&["reload"]);
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    // Other settings of the same door are put in force on the same socket.
    let more = text.replace(
        "peer: service }",
        "peer: service, limits: { streams: 50 } }",
    );
    assert_ne!(text, more);
    std::fs::write(&file, &more).unwrap();
    site.ok(&["reload"]);
    assert!(door().http1().await.is_ok());
    drop(connection);
    running.stop();
    // Nobody serves, and nobody is refused: who connects now is answered later.
    TcpStream::connect(&at).unwrap();
    let waiting = Door::mesh(&identity, "api", site.mesh);
    let waiting = tokio::spawn(async move { waiting.http1().await });
    let running = site.up_by(&launcher, &env);
    let mut connection = waiting.await.unwrap().unwrap();
    let token = site.ok(&ask);
    let answer = connection.get("/items/1", token.trim()).await.unwrap();
    assert_eq!(code(&answer), None);
    running.stop();
    drop(socket);
}

#[test]
fn a_socket_is_somebodys_or_nothing_starts() {
    let application = Application::start();
    let site = site(application.port);
    let (_socket, number) = inherited(site.mesh);
    let (_other, elsewhere) = inherited(0);
    let refused = |number: &str, name: &str, pid: &str| {
        let env = [("COUNTERSIGN_METRICS", "off")];
        site.refuses(&["python3", "-c", PASS, number, name, pid], &env)
    };
    let (code, said) = refused(&number, "wep", "self");
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("`wep`") && said.contains("mesh"), "{said}");
    let (code, said) = refused(&number, "", "self");
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("FileDescriptorName="), "{said}");
    let (code, said) = refused(&elsewhere, "mesh", "self");
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("the socket passed as `mesh` is at"), "{said}");
    // It is for another process, so it is not there, and the address is taken.
    let (code, said) = refused(&number, "mesh", "1");
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("can't listen on"), "{said}");
}

#[test]
fn the_watchdog_hears_that_it_is_well() {
    let application = Application::start();
    let site = site(application.port);
    let path = site.path().join("notify.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let next = || {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    let until = |wanted: &str| while next() != wanted {};
    let env = [
        ("NOTIFY_SOCKET", path.to_str().unwrap()),
        ("WATCHDOG_USEC", "3000000"),
        ("COUNTERSIGN_METRICS", "off"),
        ("COUNTERSIGN_DRAIN", "7s"),
    ];
    let running = site.up_by(&[], &env);
    until("READY=1");
    until("WATCHDOG=1");
    until("WATCHDOG=1");
    running.stop();
    until("STOPPING=1");
    until("EXTEND_TIMEOUT_USEC=37000000");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_end_in_time_is_cut() {
    let scene = Scene::new(&[("COUNTERSIGN_DRAIN", "1s")]);
    let (_connection, mut stream) = streaming(&scene).await;
    // It ends well although its stream does not.
    scene.running.stop();
    while let Some(Ok(_)) = stream.frame().await {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_twice_it_ends_at_once() {
    let mut scene = Scene::new(&[("COUNTERSIGN_DRAIN", "1h")]);
    let (_connection, _stream) = streaming(&scene).await;
    terminate(scene.running.id());
    let drained = scene.until("/readyz?verbose", |it| it.status == 503).await;
    assert!(drained.body.contains("serving failed\n"), "{drained:?}");
    assert!(scene.running.lives());
    terminate(scene.running.id());
    let begun = Instant::now();
    while scene.running.lives() {
        assert!(begun.elapsed() < PATIENCE, "it does not end");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

async fn streaming(scene: &Scene) -> (crate::door::Connection, hyper::body::Incoming) {
    let bearer = format!("Bearer {}", scene.token());
    let mut connection = scene.mesh().await;
    let fields = [("authorization", bearer.as_str())];
    let stream = connection
        .begin(("GET", "/items/stream"), &fields, "")
        .await;
    let mut stream = stream.unwrap().into_body();
    assert!(stream.frame().await.unwrap().is_ok());
    (connection, stream)
}

#[test]
fn the_units_are_what_systemd_understands() {
    let version = Command::new("systemd-analyze").arg("--version").output();
    let Ok(version) = version else {
        return not_run("systemd-analyze (Debian: systemd) is not installed");
    };
    let version = String::from_utf8(version.stdout).unwrap();
    let version = version.split(' ').nth(1).and_then(|it| it.parse().ok());
    let version: u32 = version.unwrap_or(0);
    let folder = tempfile::tempdir().unwrap();
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/systemd");
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(units).unwrap() {
        let from = entry.unwrap().path();
        let ends = from.extension().and_then(|it| it.to_str());
        if !matches!(ends, Some("service" | "socket")) {
            continue;
        }
        let text = std::fs::read_to_string(&from).unwrap();
        let mut text = text.replace("/usr/bin/countersign", env!("CARGO_BIN_EXE_countersign"));
        if version < 253 {
            text = text.replace("Type=notify-reload", "Type=notify");
        }
        let to = folder.path().join(from.file_name().unwrap());
        std::fs::write(&to, text).unwrap();
        paths.push(to);
    }
    assert_eq!(paths.len(), 6);
    let verified = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .args(&paths)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success(), "{said}");
    // Of other units of this machine it may say what it likes.
    let ours = said.lines().filter(|line| line.contains("countersign"));
    assert_eq!(ours.collect::<Vec<_>>(), Vec::<&str>::new());
    for path in paths
        .iter()
        .filter(|it| it.extension().unwrap() == "service")
    {
        let security = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--threshold=15"])
            .arg(path)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&security.stdout);
        assert!(security.status.success(), "{said}");
    }
}
