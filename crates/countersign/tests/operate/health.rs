//! Whether the process is well, and who may ask.

use crate::application::Application;
use crate::door::code;
use crate::scene::PATIENCE;
use crate::scene::Scene;
use crate::scene::site;
use http_body_util::BodyExt as _;
use std::net::TcpListener;
use std::net::TcpStream;
use std::time::Instant;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpSocket;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_on_this_machine_may_ask() {
    let scene = Scene::new(&[]);
    let live = scene.get("/livez");
    assert_eq!((live.status, live.body.as_str()), (200, "ok\n"));
    let ready = scene.get("/readyz?verbose");
    let all = "started ok\nserving ok\nledger ok\nfresh ok\ntasks ok\nlisteners ok\n";
    assert_eq!((ready.status, ready.body.as_str()), (200, all));
    let head = scene.ask("HEAD /readyz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert!(head.head.contains("content-length: 3"), "{head:?}");
    assert_eq!(scene.get("/").status, 404);
    let post = scene.ask("POST /livez HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(post.status, 405);
    assert!(post.head.contains("allow: get, head"), "{post:?}");
    for host in [
        "host: evil.example",
        "host: evil.example\r\nhost: localhost",
        "host: 10.9.8.7",
        "x: y",
    ] {
        let rebound = scene.ask(&format!("GET /metrics HTTP/1.1\r\n{host}\r\n\r\n"));
        assert_eq!(rebound.status, 421, "{host}: {rebound:?}");
        assert_eq!(rebound.body, "misdirected\n");
    }
    let absolute = "GET http://evil.example/metrics HTTP/1.1\r\nhost: localhost\r\n\r\n";
    assert_eq!(scene.ask(absolute).status, 421);
    scene.running.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_keeps_the_probes_of_others_out() {
    let scene = Scene::new(&[]);
    let address = scene.running.started["metrics"].as_str().unwrap();
    let silent: Vec<_> = (0..64)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut probe = socket.connect(address.parse().unwrap()).await.unwrap();
    let request = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n";
    probe.write_all(request).await.unwrap();
    let mut answer = String::new();
    let read = tokio::time::timeout(PATIENCE, probe.read_to_string(&mut answer)).await;
    read.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    drop(silent);
    scene.running.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_draining_process_says_so_while_it_finishes() {
    let mut scene = Scene::new(&[]);
    let token = scene.token();
    let bearer = format!("Bearer {token}");
    let mut connection = scene.mesh().await;
    let fields = [("authorization", bearer.as_str())];
    let stream = connection
        .begin(("GET", "/items/stream"), &fields, "")
        .await;
    let mut stream = stream.unwrap().into_body();
    assert!(stream.frame().await.unwrap().is_ok());
    let pid = rustix::process::Pid::from_raw(i32::try_from(scene.running.id()).unwrap());
    rustix::process::kill_process(pid.unwrap(), rustix::process::Signal::TERM).unwrap();
    let drained = scene.until("/readyz?verbose", |it| it.status == 503).await;
    assert!(drained.body.contains("serving failed\n"), "{drained:?}");
    assert!(drained.body.contains("ledger ok\n"), "{drained:?}");
    assert_eq!(scene.get("/livez").status, 200);
    assert!(
        scene
            .get("/metrics")
            .body
            .contains("\ncountersign_draining 1\n")
    );
    assert!(scene.running.lives(), "a stream is under way");
    drop((stream, connection));
    let begun = Instant::now();
    while scene.running.lives() {
        assert!(begun.elapsed() < PATIENCE, "it does not end");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_takes_nothing_is_not_ready_and_recovers_without_a_caller() {
    // A write beyond the limit is a signal unless that is ignored; then it is an error like any.
    let ignored = r#"trap "" XFSZ && exec "$@""#;
    let scene = Scene::by(&["sh", "-c", ignored, "sh"], &[]);
    let token = scene.token();
    assert_eq!(code(&scene.call("/items/1", &token).await), None);
    assert_eq!(scene.get("/readyz").status, 200);
    let pid = i32::try_from(scene.running.id()).unwrap();
    let limit = |bytes| {
        let pid = rustix::process::Pid::from_raw(pid);
        let limit = rustix::process::Rlimit {
            current: bytes,
            maximum: None,
        };
        rustix::process::prlimit(pid, rustix::process::Resource::Fsize, limit).unwrap();
    };
    limit(Some(1));
    let refused = scene.call("/items/2", &token).await;
    assert_eq!(code(&refused).as_deref(), Some("CSD601"));
    let failed = scene.get("/readyz?verbose");
    assert_eq!(failed.status, 503);
    assert!(failed.body.contains("ledger failed\n"), "{failed:?}");
    limit(None);
    // Nobody calls, since whoever asks sends nobody: it has to notice by itself.
    scene.until("/readyz", |it| it.status == 200).await;
    assert_eq!(code(&scene.call("/items/3", &token).await), None);
    scene.running.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_was_asked_for_is_had_or_nothing_starts() {
    let application = Application::start();
    let site = site(application.port);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap().to_string();
    let (code, said) = site.refuses(&[], &[("COUNTERSIGN_METRICS", &at)]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains(&at), "{said}");
    let (code, said) = site.refuses(&[], &[("COUNTERSIGN_METRICS", "0.0.0.0:0")]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("loopback"), "{said}");
    let (code, said) = site.refuses(&[], &[("COUNTERSIGN_METRICS", "nowhere")]);
    assert_eq!(code, 2, "{said}");
    let running = site.up_by(&[], &[("COUNTERSIGN_METRICS", "off")]);
    assert!(running.started["metrics"].is_null(), "{}", running.started);
    running.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_being_asked_for_the_default_port_may_be_somebody_elses() {
    // Whoever has it, somebody has.
    let _taken = TcpListener::bind("127.0.0.1:9464");
    let application = Application::start();
    let site = site(application.port);
    let running = site.up();
    assert!(running.started["metrics"].is_null(), "{}", running.started);
    let said = site.said();
    assert!(said.contains("no health and metrics"), "{said}");
    assert!(said.contains("--metrics"), "{said}");
    running.stop();
}
