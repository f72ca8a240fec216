//! Whether an installation is healthy, seen from outside.

use crate::application::Application;
use crate::scene::Scene;
use crate::scene::site;
use crate::site::Site;
use serde_json::Value;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;

/// Exit code and document.
fn examine(site: &Site, more: &[&str]) -> (i32, Value) {
    let args = [&["doctor", "-o", "json"], more].concat();
    let output = site.run(&args);
    let said = String::from_utf8_lossy(&output.stderr);
    let document: Value = serde_json::from_slice(&output.stdout).expect(&said);
    assert_eq!(document["schema"], "countersign.doctor/v1");
    (output.status.code().unwrap(), document)
}

fn checks<'a>(document: &'a Value, what: &str) -> Vec<&'a Value> {
    let all = document["checks"].as_array().unwrap().iter();
    all.filter(|it| it["what"] == what).collect()
}

fn state<'a>(document: &'a Value, what: &str) -> &'a str {
    let found = checks(document, what);
    assert!(!found.is_empty(), "nothing about `{what}`: {document}");
    found[0]["state"].as_str().unwrap()
}

fn failed(document: &Value) -> Vec<&Value> {
    let all = document["checks"].as_array().unwrap().iter();
    all.filter(|it| it["state"] == "fail").collect()
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn metrics(scene: &Scene) -> String {
    scene.running.started["metrics"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_is_healthy_and_says_so() {
    let scene = Scene::new(&[]);
    let token = scene.token();
    scene.call("/items/1", &token).await;
    let at = metrics(&scene);
    let (code, document) = examine(&scene.site, &["--metrics", &at, "--running"]);
    assert_eq!(failed(&document), Vec::<&Value>::new());
    assert_eq!(code, 0, "{document}");
    for what in [
        "configuration",
        "configuration files",
        "data folder",
        "keys",
        "disk",
        "administration",
        "server",
        "health",
        "metrics",
        "in force",
        "certificates",
        "records",
        "log",
    ] {
        assert_eq!(state(&document, what), "ok", "{what}: {document}");
    }
    let doors = checks(&document, "door");
    assert_eq!(doors.len(), 3, "control, mesh and web: {document}");
    for door in doors {
        assert_eq!(door["state"], "ok", "{door}");
    }
    // Whoever is on this machine may ask the application without us.
    let upstreams = checks(&document, "upstreams");
    assert_eq!(upstreams[0]["state"], "warn");
    let (detail, hint) = (&upstreams[0]["detail"], &upstreams[0]["hint"]);
    assert!(detail.as_str().unwrap().contains("`api`"), "{detail}");
    assert!(hint.as_str().unwrap().contains("unix:"), "{hint}");
    let table = scene.site.run(&["doctor", "--metrics", &at]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.contains("ok    health"), "{table}");
    scene.running.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_found_and_has_a_hint() {
    let scene = Scene::new(&[]);
    let at = metrics(&scene);
    let flags = ["--metrics", at.as_str()];
    let wrong = |what: &str, hint: &str| {
        let (code, document) = examine(&scene.site, &flags);
        assert_eq!(code, 4, "{what}: {document}");
        let failed = failed(&document);
        assert_eq!(failed.len(), 1, "{failed:?}");
        assert_eq!(failed[0]["what"], what, "{failed:?}");
        let told = failed[0]["hint"].as_str().unwrap();
        assert!(told.contains(hint), "{told}");
    };
    let key = files(&scene.site.data().join("keys")).remove(0);
    mode(&key, 0o640);
    wrong("keys", "chmod 0600");
    mode(&key, 0o600);
    mode(&scene.site.data(), 0o755);
    wrong("data folder", "chmod 0700");
    mode(&scene.site.data(), 0o700);
    let file = scene.site.path().join("countersign.yaml");
    mode(&file, 0o666);
    wrong("configuration files", "chmod go-w");
    mode(&file, 0o644);
    let (code, document) = examine(&scene.site, &flags);
    assert_eq!(code, 0, "all of it was put right: {document}");
    // Something else is where health and metrics should be.
    let other = format!("127.0.0.1:{}", scene.application.port);
    let (code, document) = examine(&scene.site, &["--metrics", &other]);
    assert_eq!(code, 4, "{document}");
    assert_eq!(state(&document, "metrics"), "fail", "{document}");
    // A file that says something else works, but is told.
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}# changed\n")).unwrap();
    let (code, document) = examine(&scene.site, &flags);
    assert_eq!((code, state(&document, "in force")), (0, "warn"));
    std::fs::write(&file, format!("{text}nonsense: 1\n")).unwrap();
    let (code, document) = examine(&scene.site, &flags);
    assert_eq!((code, state(&document, "configuration")), (4, "fail"));
    scene.running.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_was_changed_is_found() {
    let scene = Scene::new(&[]);
    let token = scene.token();
    // A tile that is full is never written again.
    let mut connection = scene.mesh().await;
    for _ in 0..300 {
        connection.get("/items/1", &token).await.unwrap();
    }
    let at = metrics(&scene);
    let log = scene.site.data().join("log");
    let begun = std::time::Instant::now();
    let entries = loop {
        let full = |it: &PathBuf| {
            let text = it.to_str().unwrap();
            text.contains("entries") && !text.contains(".p/")
        };
        let entries: Vec<_> = files(&log).into_iter().filter(full).collect();
        if !entries.is_empty() {
            break entries;
        }
        assert!(
            begun.elapsed() < crate::scene::PATIENCE,
            "{:?}",
            files(&log)
        );
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    for path in entries {
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        let _ = std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600));
        std::fs::write(&path, bytes).unwrap();
    }
    let (code, document) = examine(&scene.site, &["--metrics", &at]);
    assert_eq!(code, 4, "{document}");
    let found = checks(&document, "log");
    assert_eq!(found[0]["state"], "fail", "{document}");
    let detail = found[0]["detail"].as_str().unwrap();
    assert!(detail.contains("TAMPERED"), "{detail}");
}

#[test]
fn where_nothing_runs_it_says_what_can_be_said() {
    let application = Application::start();
    let site = site(application.port);
    let nowhere = ["--metrics", "off"];
    let (_, document) = examine(&site, &nowhere);
    assert_eq!(state(&document, "configuration"), "ok", "{document}");
    assert_eq!(state(&document, "server"), "warn");
    assert_eq!(state(&document, "data folder"), "warn", "not there yet");
    let output = site.run(&["doctor", "--running", "--metrics", "off"]);
    assert_eq!(output.status.code(), Some(6));
    // Somebody else has what a door is to have.
    let taken = TcpListener::bind(("127.0.0.1", site.mesh)).unwrap();
    let (code, document) = examine(&site, &nowhere);
    assert_eq!((code, state(&document, "ports")), (4, "fail"), "{document}");
    let ports = checks(&document, "ports")[0]["detail"].to_string();
    assert!(ports.contains(&site.mesh.to_string()), "{ports}");
    drop(taken);
    std::fs::remove_file(site.path().join("countersign.yaml")).unwrap();
    let (code, document) = examine(&site, &nowhere);
    assert_eq!((code, state(&document, "configuration")), (4, "fail"));
    let hint = checks(&document, "configuration")[0]["hint"].to_string();
    assert!(hint.contains("countersign init"), "{hint}");
}
