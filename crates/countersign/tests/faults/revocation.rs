//! Revocation under load: from the return of the command on, whatever was revoked gets nothing
//! more, on no connection and by no stream that was open before.

use crate::door::Connection;
use crate::door::Door;
use crate::door::code;
use crate::site::DOMAIN;
use crate::site::Site;
use crate::upstream::Upstream;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_client::CallError;
use countersign_client::Client;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// From the return of the command to the end of the last stream. In practice it is a few
/// milliseconds. The command itself says how many it ended, so what is left is the time until this
/// process is told, which is long on a machine with other things to do.
const BOUND: Duration = Duration::from_secs(30);
/// How long callers go on asking after the command, and how often at least.
const AFTER: Duration = Duration::from_millis(500);
const OFTEN: usize = 11;
/// Calls that others make meanwhile, at least.
const LOAD: usize = 100;
/// How long anything may take to come about, however slow the machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Streams of each kind: events and plain bytes, over HTTP/1.1 and HTTP/2.
const EACH: usize = 3;

/// One caller with everything it has open.
struct Caller {
    door: Door,
    identity: PathBuf,
    leaf: String,
    name: &'static str,
    token: String,
}

/// A request on a kept connection.
struct Asked {
    answer: Answer,
    ended: Instant,
    sent: Instant,
}

#[derive(Debug, PartialEq)]
enum Answer {
    Allowed,
    /// Its body was under way and ended early, or the connection is gone since that happened.
    Cut,
    Refused(String),
}

/// A revocation from the command line.
struct Command {
    asked: Instant,
    kind: &'static str,
    returned: Instant,
    said: Value,
}

/// How a stream ended.
struct Ended {
    at: Instant,
    /// Whether its last event said why.
    told: bool,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_open_ends_when_the_command_returns() {
    let upstream = Upstream::start().await;
    let site = Arc::new(Site::new(&format!(
        "identities: {{ by-name: {{}}, by-subject: {{}}, by-token: {{}}, by-leaf: {{}}, loader: {{}} }}
roles: {{ reader: {{ members: [by-name, by-subject, by-token, by-leaf, loader], may: [\"item:read\"] }} }}
services:
  api:
    peer: service
    url: \"http://127.0.0.1:{}\"
    operations: {{ GET /**: {{ needs: \"item:read\" }} }}
edges:
  by-name -> api: [GET /**]
  by-subject -> api: [GET /**]
  by-token -> api: [GET /**]
  by-leaf -> api: [GET /**]
  loader -> api: [GET /**]
",
        upstream.port
    )));
    let running = site.up();
    let (ended, calls) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let (loader, _) = site.issue("loader");
    let loads: Vec<_> = (0..2)
        .map(|_| tokio::spawn(background(loader.clone(), ended.clone(), calls.clone())))
        .collect();

    for (kind, name, denial) in [
        ("identity", "by-name", &["CSD303"][..]),
        // A workload is its own subject: whichever is looked at first.
        ("subject", "by-subject", &["CSD302", "CSD303"]),
        ("token", "by-token", &["CSD301"]),
        ("certificate", "by-leaf", &["CSD303"]),
    ] {
        let caller = Caller::new(&site, name).await;
        let value = match kind {
            "identity" => name.to_owned(),
            "subject" => format!("spiffe://{DOMAIN}/{name}"),
            "token" => caller.jti(),
            _ => caller.leaf.clone(),
        };
        caller.loses_everything(&site, kind, &value, denial).await;
    }

    let waiting = Instant::now();
    while calls.load(Ordering::Relaxed) <= LOAD && waiting.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let before = calls.load(Ordering::Relaxed);
    ended.store(true, Ordering::Relaxed);
    for load in loads {
        load.await.unwrap();
    }
    assert!(before > LOAD, "only {before} calls of the load");
    println!("load meanwhile: {before} calls of another identity, all allowed");
    running.stop();
}

/// Calls of somebody who is not revoked; every one must be let through.
async fn background(identity: PathBuf, ended: Arc<AtomicBool>, calls: Arc<AtomicUsize>) {
    let client = Client::from_dir(identity).unwrap();
    while !ended.load(Ordering::Relaxed) {
        let call = client
            .secure_call("api/items/1", "GET", None::<&Value>, "item:read")
            .await;
        assert_eq!(call.expect("the load was refused").status(), 200);
        calls.fetch_add(1, Ordering::Relaxed);
    }
}

impl Caller {
    async fn new(site: &Site, name: &'static str) -> Self {
        let (identity, said) = site.issue(name);
        let client = Client::from_dir(&identity).unwrap();
        let token = client.token("api", "item:read").await.unwrap();
        Self {
            door: Door::mesh(&identity, "api", site.mesh),
            leaf: said["leaf"].as_str().unwrap().to_owned(),
            name,
            token: token.expose().to_owned(),
            identity,
        }
    }

    fn jti(&self) -> String {
        let claims = self.token.split('.').nth(1).unwrap();
        let claims = URL_SAFE_NO_PAD.decode(claims).unwrap();
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        claims["jti"].as_str().unwrap().to_owned()
    }

    /// Opens everything, revokes, and measures.
    async fn loses_everything(
        self,
        site: &Arc<Site>,
        kind: &'static str,
        value: &str,
        denial: &[&str],
    ) {
        let streams = self.streams().await;
        let over = Arc::new(OnceLock::new());
        let (http1, http2) = (
            self.door.http1().await.unwrap(),
            self.door.http2().await.unwrap(),
        );
        let kept = [
            ask_on(http1, self.token.clone(), over.clone()).await,
            ask_on(http2, self.token.clone(), over.clone()).await,
        ];
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(
            streams.iter().all(|stream| !stream.is_finished()),
            "{kind}: a stream ended before"
        );

        let command = Command::run(site, kind, value).await;
        let last = command.ended(streams).await;
        over.set(command.returned).unwrap();
        let mut first = Vec::new();
        for connection in kept {
            first.push(command.nothing_after(&connection.await.unwrap(), denial));
        }
        let resumed = self.gets_nothing_anew(kind, denial).await;
        println!(
            "{kind}: the command took {:.1} ms; {} streams ended within {:.1} ms of its beginning and \
             {:.1} ms of its return, first refusals {:.1} ms (h1 keep-alive) and {:.1} ms (h2) after \
             its beginning; {resumed}",
            millis(command.returned - command.asked),
            4 * EACH,
            millis(last - command.asked),
            millis(last.saturating_duration_since(command.returned)),
            millis(first[0]),
            millis(first[1]),
        );
    }

    /// Endless answers: each over a connection of its own in HTTP/1.1, all over one in HTTP/2.
    async fn streams(&self) -> Vec<JoinHandle<Ended>> {
        let bearer = format!("Bearer {}", self.token);
        let headers = [("authorization", bearer.as_str())];
        let mut shared = self.door.http2().await.unwrap();
        let mut streams = Vec::new();
        for path in ["/events", "/slow"] {
            for _ in 0..EACH {
                let mut own = self.door.http1().await.unwrap();
                let response = own.begin(("GET", path), &headers, "").await.unwrap();
                assert_eq!(response.status(), 200);
                streams.push(follow(response.into_body(), own).await);
                let response = shared.begin(("GET", path), &headers, "").await.unwrap();
                assert_eq!(response.status(), 200);
                streams.push(follow(response.into_body(), ()).await);
            }
        }
        // The connection lives as long as its streams, not as long as this handle.
        drop(shared);
        streams
    }

    /// What was revoked tries what is left: a resumed TLS session with the token it has, and a new
    /// token. Says how the connection came about.
    async fn gets_nothing_anew(&self, kind: &str, denial: &[&str]) -> &'static str {
        let mut resumed = "the handshake was refused";
        if let Ok(mut again) = self.door.http1().await {
            resumed = if again.resumed {
                "resumed session refused"
            } else {
                "new session refused"
            };
            // The refusal of a certificate may come as an alert behind the client's handshake.
            if let Ok(response) = again.get("/items/again", &self.token).await {
                let code = code(&response);
                assert!(is(code.as_deref(), denial), "{kind}: {response:?}");
            } else {
                resumed = "the handshake was refused";
            }
        }
        let client = Client::from_dir(&self.identity).unwrap();
        match (kind, client.token("api", "item:read").await) {
            // One token was revoked, not who it was for.
            ("token", Ok(token)) => {
                let answer = self
                    .door
                    .http1()
                    .await
                    .unwrap()
                    .get("/items/new", token.expose())
                    .await;
                assert_eq!(
                    answer.unwrap().status(),
                    200,
                    "{}: another token",
                    self.name
                );
            }
            ("token", Err(error)) => panic!("{}: no new token: {error}", self.name),
            (_, Ok(_)) => panic!("{}: it drew a new token", self.name),
            (_, Err(CallError::AccessDenied(_) | CallError::Transport(_))) => {}
            (_, Err(error)) => panic!("{}: {error:?}", self.name),
        }
        resumed
    }
}

/// Reads a body to its end, whatever that is; returns once it flows.
async fn follow<T: Send + 'static>(mut body: Incoming, keep: T) -> JoinHandle<Ended> {
    let (flows, flowing) = oneshot::channel();
    let following = tokio::spawn(async move {
        let mut flows = Some(flows);
        let mut last = Vec::new();
        while let Some(Ok(frame)) = body.frame().await {
            if let Some(data) = frame.data_ref() {
                last = data.to_vec();
            }
            if let Some(flows) = flows.take() {
                flows.send(()).unwrap();
            }
        }
        drop(keep);
        let told = String::from_utf8_lossy(&last).contains("event: error");
        Ended {
            at: Instant::now(),
            told,
        }
    });
    flowing.await.unwrap();
    following
}

/// Asks on one connection again and again, until it has asked often and for a while after the
/// moment that is set in `over`. Returns once it was answered.
async fn ask_on(
    connection: Connection,
    token: String,
    over: Arc<OnceLock<Instant>>,
) -> JoinHandle<Vec<Asked>> {
    let (answered, first) = oneshot::channel();
    let asking = tokio::spawn(ask_until(connection, token, over, answered));
    first.await.expect("it had no access before");
    asking
}

async fn ask_until(
    mut connection: Connection,
    token: String,
    over: Arc<OnceLock<Instant>>,
    answered: oneshot::Sender<()>,
) -> Vec<Asked> {
    let mut answered = Some(answered);
    let enough = |all: &[Asked], over: Instant| {
        let after = all.iter().filter(|it| it.sent > over).count();
        after >= OFTEN && over.elapsed() > AFTER
    };
    let mut all = Vec::new();
    while !over.get().is_some_and(|over| enough(&all, *over)) {
        let sent = Instant::now();
        let answer = match connection.get("/items/kept", &token).await {
            Err(_cut) => Answer::Cut,
            Ok(response) => match code(&response) {
                Some(code) => Answer::Refused(code),
                None if response.status() == 200 => Answer::Allowed,
                None => panic!("{response:?}"),
            },
        };
        all.push(Asked {
            answer,
            ended: Instant::now(),
            sent,
        });
        if let Some(answered) = answered.take() {
            answered.send(()).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    all
}

impl Command {
    async fn run(site: &Arc<Site>, kind: &'static str, value: &str) -> Self {
        let (site, value) = (site.clone(), value.to_owned());
        let run = tokio::task::spawn_blocking(move || {
            let asked = Instant::now();
            let said = site.json(&["identity", "revoke", kind, &value]);
            let returned = Instant::now();
            Self {
                asked,
                kind,
                returned,
                said,
            }
        });
        run.await.unwrap()
    }

    /// Checks that every stream ends, in time; when the last did.
    async fn ended(&self, streams: Vec<JoinHandle<Ended>>) -> Instant {
        let (kind, mut ends) = (self.kind, Vec::new());
        for stream in streams {
            let ended = tokio::time::timeout(PATIENCE, stream).await;
            let ended = ended.unwrap_or_else(|_| panic!("{kind}: a stream goes on"));
            ends.push(ended.unwrap());
        }
        assert_eq!(ends.len(), 4 * EACH);
        let early = ends.iter().filter(|it| it.at < self.asked).count();
        assert_eq!(early, 0, "{kind}: streams that ended before the command");
        let open = self.said["ended"].as_u64().unwrap();
        assert!(open >= ends.len() as u64, "{kind}: {}", self.said);
        // Each event stream was told why; plain bytes have no words for it.
        let told = ends.iter().filter(|it| it.told).count();
        assert_eq!(told, 2 * EACH, "{kind}: event streams that were told");
        let last = ends.iter().map(|it| it.at).max().unwrap();
        let late = last.saturating_duration_since(self.returned);
        assert!(late < BOUND, "{kind}: it ended {late:?} after the command");
        last
    }

    /// Checks that nothing sent after the command was allowed, and that all of it was refused by
    /// name, unless the command ended an answer, and its connection with it; how long after its
    /// beginning the first call failed.
    fn nothing_after(&self, all: &[Asked], denial: &[&str]) -> Duration {
        let kind = self.kind;
        let before = all.first().map(|first| &first.answer);
        assert_eq!(before, Some(&Answer::Allowed), "{kind}: before");
        let refused = all.iter().find(|it| it.answer != Answer::Allowed);
        let refused = refused.expect("it was never refused").ended;
        assert!(refused > self.asked, "{kind}: refused before the command");
        let cut = all.iter().find(|it| it.answer == Answer::Cut);
        let under_way = cut.is_some_and(|it| it.sent <= self.returned);
        let late: Vec<_> = all.iter().filter(|it| it.sent > self.returned).collect();
        assert!(late.len() >= OFTEN, "{kind}: it did not go on asking");
        for it in late {
            let (answer, after) = (&it.answer, it.sent - self.returned);
            let nothing = match answer {
                Answer::Allowed => false,
                Answer::Cut => under_way,
                Answer::Refused(code) => is(Some(code), denial),
            };
            assert!(nothing, "{kind}: {answer:?} {after:?} after it");
        }
        refused - self.asked
    }
}

/// Whether it was refused, by one of these codes.
fn is(code: Option<&str>, codes: &[&str]) -> bool {
    code.is_some_and(|code| codes.contains(&code))
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
