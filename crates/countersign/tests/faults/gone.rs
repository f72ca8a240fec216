//! An application that is gone, refuses, breaks off, talks rubbish or never answers: the caller is
//! told that it was not refused, the record of the call says how it ended, and it ends by itself.

use crate::door::Door;
use crate::site::Site;
use countersign_client::Client;
use parking_lot::Mutex;
use serde_json::Value;
use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

/// How long anything may take to come about, however slow the machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the application does with each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Answer,
    /// Ends the connection before a word.
    HangUp,
    /// With an RST.
    Reset,
    Rubbish,
    /// Less than it announced.
    Short,
    /// Says nothing and keeps the connection.
    Silent,
}

/// An application whose port stays the same, whether it is there or not.
struct Application {
    mood: Arc<Mutex<Mood>>,
    reached: Arc<Mutex<usize>>,
}

impl Application {
    fn start(listener: TcpListener) -> Self {
        let (mood, reached) = (Arc::new(Mutex::new(Mood::Answer)), Arc::default());
        let it = Self { mood, reached };
        let (mood, reached) = (it.mood.clone(), it.reached.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mood, reached) = (mood.clone(), reached.clone());
                // Whoever is at the other end may be gone at any moment.
                std::thread::spawn(move || stream.map(|it| serve(it, &mood, &reached)));
            }
        });
        it
    }

    fn be(&self, mood: Mood) {
        *self.mood.lock() = mood;
    }
}

fn serve(mut stream: TcpStream, mood: &Mutex<Mood>, reached: &Mutex<usize>) -> std::io::Result<()> {
    let mut held = Vec::new();
    let mut chunk = [0; 4096];
    while let read @ 1.. = stream.read(&mut chunk)? {
        held.extend_from_slice(&chunk[..read]);
        while let Some(end) = memchr::memmem::find(&held, b"\r\n\r\n") {
            held.drain(..end + 4);
            *reached.lock() += 1;
            let mood = *mood.lock();
            let answer: &[u8] = match mood {
                Mood::Answer => b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
                Mood::HangUp => return Ok(()),
                Mood::Reset => {
                    let socket =
                        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
                    return Ok(socket?);
                }
                Mood::Rubbish => b"\x16\x03\x01 certainly not HTTP\r\n\r\n",
                Mood::Short => b"HTTP/1.1 200 OK\r\ncontent-length: 200\r\n\r\nok",
                Mood::Silent => b"",
            };
            stream.write_all(answer)?;
            if !matches!(mood, Mood::Answer | Mood::Silent) {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// A listener on a port that nobody else gets.
fn bound(port: u16) -> TcpListener {
    let begun = Instant::now();
    loop {
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(listener) => return listener,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_that_fails_is_no_refusal_and_the_record_says_how_it_ended() {
    let free = bound(0);
    let port = free.local_addr().unwrap().port();
    drop(free);
    let site = Site::new(&format!(
        "identities: {{ caller: {{}} }}
roles: {{ reader: {{ members: [caller], may: [\"item:write\"] }} }}
services:
  api:
    peer: service
    url: \"http://127.0.0.1:{port}\"
    timeout: 2s
    operations: {{ POST /items/**: {{ needs: \"item:write\" }} }}
edges: {{ caller -> api: [POST /items/**] }}
"
    ));
    let running = site.up();
    let (identity, _) = site.issue("caller");
    let client = Client::from_dir(&identity).unwrap();
    // There is nobody yet.
    let (status, completion) = ask(&site, &client, &identity).await;
    assert_eq!(status, 502);
    assert_eq!(completion["ending"], "upstream-failed", "{completion}");
    explained(&site, completion["decision"].as_str().unwrap());

    let application = Application::start(bound(port));
    recovers(&site, &client, &identity).await;
    for (mood, wanted) in [
        (Mood::HangUp, 502),
        (Mood::Reset, 502),
        (Mood::Rubbish, 502),
        (Mood::Silent, 504),
    ] {
        application.be(mood);
        let (status, completion) = ask(&site, &client, &identity).await;
        assert_eq!(status, wanted, "{mood:?}: {completion}");
        assert_eq!(
            completion["ending"], "upstream-failed",
            "{mood:?}: {completion}"
        );
        assert_eq!(completion["status"], wanted, "{mood:?}: {completion}");
        application.be(Mood::Answer);
        recovers(&site, &client, &identity).await;
    }
    // What begins and breaks off has a status of its own, and an ending that says so.
    application.be(Mood::Short);
    let token = client.token("api", "item:write").await.unwrap();
    let bearer = format!("Bearer {}", token.expose());
    let headers = [("authorization", bearer.as_str())];
    let mut connection = Door::mesh(&identity, "api", site.mesh)
        .http1()
        .await
        .unwrap();
    let broken = connection
        .ask(("POST", "/items/short"), &headers, "{}")
        .await;
    assert!(broken.is_err(), "{broken:?}");
    let broken_off = |it: &Value| it["ending"] == "upstream-failed" && it["status"] == 200;
    completions(&site, broken_off).await;

    // Out of use for a while: nobody waits for it, and it is not asked.
    application.be(Mood::Reset);
    let mut held_back = 0;
    for _ in 0..30 {
        let before = *application.reached.lock();
        let (status, _) = ask(&site, &client, &identity).await;
        assert!([502, 503].contains(&status), "{status}");
        if *application.reached.lock() == before {
            held_back += 1;
        }
    }
    assert!(held_back > 0, "it was asked each time");
    application.be(Mood::Answer);
    recovers(&site, &client, &identity).await;
    running.stop();
}

/// The story of a decision says how it ended, and the receipt of its completion leads to it.
fn explained(site: &Site, decision: &str) {
    let listed = site.json(&["audit", "tail", "-n", "60"]);
    let mut records = listed["records"].as_array().unwrap().iter();
    let ended = records.find(|it| it["record"]["completion"]["decision"] == decision);
    let ended = ended.unwrap()["receipt"].as_str().unwrap();
    let story = site.ok(&["explain", ended]);
    let mut lines = story.lines();
    let head = lines.next().unwrap();
    assert!(head.starts_with("ADMITTED  "), "{story}");
    assert!(head.contains(decision), "{story}");
    let ending = lines.find(|line| line.starts_with("ended ")).unwrap();
    assert!(ending.contains("upstream-failed, "), "{story}");
    assert!(ending.contains(" status 502, "), "{story}");
    assert!(ending.ends_with(ended), "{story}");
    assert_eq!(site.ok(&["explain", decision]), story);
}

/// Asks once; the status, and what the record says of how it ended.
async fn ask(site: &Site, client: &Client, identity: &std::path::Path) -> (u16, Value) {
    let token = client.token("api", "item:write").await.unwrap();
    let bearer = format!("Bearer {}", token.expose());
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
    ];
    let door = Door::mesh(identity, "api", site.mesh);
    let mut connection = door.http1().await.unwrap();
    let answer = connection.ask(("POST", "/items/1"), &headers, "{}").await;
    let answer = answer.unwrap();
    if answer.status() == 200 {
        return (200, Value::Null);
    }
    // Nobody was refused, and nothing is told of where the application is.
    assert!(
        !answer.headers().contains_key("countersign-pillar"),
        "{answer:?}"
    );
    let text = String::from_utf8_lossy(answer.body()).into_owned();
    assert!(!text.contains("127.0.0.1"), "{text}");
    let problem: Value = serde_json::from_str(&text).unwrap();
    let decided = problem["receipt"].as_str().unwrap().to_owned();
    let found = completions(site, |it| it["decision"] == decided.as_str()).await;
    (answer.status().as_u16(), found[0].clone())
}

/// Completions that are recorded and like this, once there are any.
async fn completions(site: &Site, like: impl Fn(&Value) -> bool) -> Vec<Value> {
    let begun = Instant::now();
    loop {
        let listed = site.json(&["audit", "tail", "-n", "60"]);
        let records = listed["records"].as_array().unwrap().iter();
        let found = records.map(|it| &it["record"]["completion"]);
        let found: Vec<_> = found
            .filter(|it| it.is_object() && like(it))
            .cloned()
            .collect();
        if !found.is_empty() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "no completion: {listed}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn recovers(site: &Site, client: &Client, identity: &std::path::Path) {
    let begun = Instant::now();
    loop {
        let (status, completion) = ask(site, client, identity).await;
        if status == 200 {
            return;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "it stays {status}: {completion}"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
