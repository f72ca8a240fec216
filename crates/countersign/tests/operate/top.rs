//! What a process does, as it is looked at.

use crate::scene::Scene;
use countersign_testkit::not_run;
use serde_json::Value;
use std::process::Command;

/// Runs a command on a terminal of its own, presses `q` once it has drawn, and says whether the
/// terminal is as it was.
const TERMINAL: &str = r#"
import os, pty, select, sys, termios
main, side = pty.openpty()
before = termios.tcgetattr(side)
child = os.fork()
if child == 0:
    os.login_tty(side) if hasattr(os, "login_tty") else (os.setsid(), [os.dup2(side, n) for n in range(3)])
    os.execvp(sys.argv[1], sys.argv[1:])
seen, pressed = b"", False
while True:
    ready, _, _ = select.select([main], [], [], 60)
    assert ready, seen
    seen += os.read(main, 65536)
    if b"REQUESTS/S" in seen and not pressed:
        os.write(main, b"q")
        pressed = True
    if b"\x1b[?1049l" in seen:
        break
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0, seen
assert seen.index(b"\x1b[?1049h") < seen.index(b"ready") < seen.index(b"\x1b[?1049l"), seen
assert termios.tcgetattr(side) == before, "the terminal is not as it was"
"#;

fn metrics(scene: &Scene) -> String {
    scene.running.started["metrics"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_picture_says_what_happened_meanwhile() {
    let scene = Scene::new(&[]);
    let token = scene.token();
    let at = metrics(&scene);
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command.args(["top", "--once", "--interval", "3s", "-o", "json"]);
    command
        .args(["--metrics", &at])
        .stdout(std::process::Stdio::piped());
    let mut looking = command.spawn().unwrap();
    while looking.try_wait().unwrap().is_none() {
        scene.call("/items/1", &token).await;
        scene.call("/items/1", "no token").await;
    }
    let output = looking.wait_with_output().unwrap();
    assert!(output.status.success());
    let picture: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(picture["schema"], "countersign.top/v1");
    let number = |path: &str| picture.pointer(path).unwrap().as_f64().unwrap();
    assert!(number("/requests_per_second") > 0.0, "{picture}");
    assert!(number("/denied_per_second") > 0.0, "{picture}");
    assert!(number("/overhead/p50") > 0.0, "{picture}");
    assert!(
        number("/overhead/p99") >= number("/overhead/p50"),
        "{picture}"
    );
    assert!(number("/spool_bytes") > 0.0, "{picture}");
    assert_eq!(picture["ready"], true);
    let routes = picture["routes"].as_array().unwrap();
    let named = routes.iter().any(|it| it["route"] == "api GET /items/**");
    assert!(named, "{picture}");
    let denials = picture["denials"].as_array().unwrap();
    assert!(
        denials
            .iter()
            .any(|it| it["per_second"].as_f64().unwrap() > 0.0),
        "{picture}"
    );
    scene.running.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_anybody_there_it_is_6_and_with_somebody_else_it_is_1() {
    let scene = Scene::new(&[]);
    let top = |at: &str| scene.site.run(&["top", "--once", "--metrics", at]);
    let other = top(&format!("127.0.0.1:{}", scene.application.port));
    assert_eq!(other.status.code(), Some(1));
    let off = top("off");
    assert_eq!(off.status.code(), Some(2));
    let at = metrics(&scene);
    scene.running.stop();
    let output = Command::new(env!("CARGO_BIN_EXE_countersign"))
        .args(["top", "--metrics", &at])
        .output();
    assert_eq!(output.unwrap().status.code(), Some(6));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_terminal_is_left_as_it_was() {
    let scene = Scene::new(&[]);
    let token = scene.token();
    scene.call("/items/1", &token).await;
    let mut command = Command::new("python3");
    command.args(["-c", TERMINAL, env!("CARGO_BIN_EXE_countersign"), "top"]);
    command.args(["--metrics", &metrics(&scene), "--interval", "200ms"]);
    command.env_remove("COUNTERSIGN_OUTPUT");
    let Ok(output) = command.output() else {
        return not_run("python3 is not installed");
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    scene.running.stop();
}
