//! `kill -9` and a new start: what was spent stays spent, who was signed in stays signed in, and
//! what was revoked stays revoked from the first moment.

use crate::door::Connection;
use crate::door::Door;
use crate::door::code;
use crate::door::receipt;
use crate::site::Running;
use crate::site::Site;
use crate::upstream::Upstream;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_client::Client;
use serde_json::Value;
use std::collections::HashSet;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

const BUDGET_SPENT: &str = "CSD507";
/// How long callers hammer at a server that has just started, and how often they are heard at
/// least.
const FIRST_SECONDS: Duration = Duration::from_secs(3);
const OFTEN: usize = 11;
/// How long anything may take to come about, however slow the machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The fake model as a process of its own, which ends with the test.
struct Model {
    child: Child,
}

impl Drop for Model {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts the fake model on a free port, with an authority of its own in `folder`.
fn model(folder: &Path) -> (Model, u16) {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    std::fs::write(folder.join("model.key"), "a-key-of-the-fake-model\n").unwrap();
    let listen = format!("127.0.0.1:{port}");
    let args = [
        "demo",
        "serve",
        "model",
        "--listen",
        &listen,
        "--folder",
        "ca",
        "--key-file",
        "model.key",
    ];
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command
        .args(args)
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let child = command.spawn().unwrap();
    let begun = Instant::now();
    while std::net::TcpListener::bind(&listen).is_ok() || !folder.join("ca/ca.pem").exists() {
        assert!(begun.elapsed() < PATIENCE, "the fake model does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    (Model { child }, port)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_spent_stays_spent() {
    let aside = tempfile::tempdir().unwrap();
    let (_model, port) = model(aside.path());
    // At these prices a token costs ten cents, so that some dozen calls spend the budget.
    let site = Site::new(&format!(
        "identities: {{ steady: {{}}, broken: {{}} }}
roles: {{ bot: {{ members: [steady, broken], may: [\"llm:chat\"] }} }}
services:
  model:
    peer: third-party
    url: \"https://localhost:{port}\"
    network: private
    credential: {{ secret: model, as: bearer }}
    operations: {{ POST /v1/chat/completions: {{ needs: \"llm:chat\", models: [\"gpt-*\"], budget: llm }} }}
edges:
  steady -> model: [POST /v1/chat/completions]
  broken -> model: [POST /v1/chat/completions]
secrets: {{ model: {{ from: \"store:model\" }} }}
budgets: {{ llm: {{ limit: $100/month, per: subject, prices: {{ \"gpt-*\": {{ input: $100000, output: $100000 }} }} }} }}
"
    ));
    let roots = aside.path().join("ca/ca.pem");
    let env = [("SSL_CERT_FILE", roots.to_str().unwrap())];
    let running = site.up_by(&[], &env);
    let key = aside.path().join("model.key");
    site.ok(&["secret", "put", "model", "--file", key.to_str().unwrap()]);
    let (steady, _) = site.issue("steady");
    let (broken, _) = site.issue("broken");

    // Who is never interrupted shows how many calls the budget has.
    let all = spend(&steady, site.mesh, usize::MAX).await;
    assert!((10..200).contains(&all), "{all} calls");
    let first = spend(&broken, site.mesh, all / 2).await;
    assert_eq!(first, all / 2);
    // What a call gives back of what was set aside for it is in its completion's record.
    completed(&site, all + first).await;
    running.kill();
    let running = site.up_by(&[], &env);
    assert_eq!(
        spend(&steady, site.mesh, usize::MAX).await,
        0,
        "a spent budget was there again"
    );
    let rest = spend(&broken, site.mesh, usize::MAX).await;
    assert_eq!(first + rest, all, "the half that was spent");
    println!("budget of {all} calls: {first} before kill -9, {rest} after");
    running.kill();
    let running = site.up_by(&[], &env);
    assert_eq!(
        spend(&broken, site.mesh, usize::MAX).await,
        0,
        "a spent budget was there again"
    );
    running.stop();
}

/// Waits until so many calls of the model are recorded as ended.
async fn completed(site: &Site, calls: usize) {
    let begun = Instant::now();
    loop {
        let listed = site.json(&["audit", "tail", "-n", "1000"]);
        let listed = listed["records"].as_array().unwrap();
        let to_model = listed.iter().filter(|it| {
            let record = &it["record"];
            record["status"] == "success" && record["resource"]["service"] == "model"
        });
        let to_model: HashSet<_> = to_model.filter_map(|it| it["receipt"].as_str()).collect();
        let ended = listed
            .iter()
            .filter_map(|it| it["record"]["completion"]["decision"].as_str())
            .filter(|decision| to_model.contains(decision))
            .count();
        if ended == calls {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{ended} of {calls} have ended");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Calls the model until its budget is spent, or so often; how many calls were let through.
async fn spend(identity: &Path, mesh: u16, most: usize) -> usize {
    let client = Client::from_dir(identity).unwrap();
    let body = r#"{"model":"gpt-4o","max_tokens":30,"messages":[{"role":"user","content":"one two three"}]}"#;
    let mut connection = Door::mesh(identity, "model", mesh).http1().await.unwrap();
    let mut spent = 0;
    while spent < most {
        // Drawn anew when it is about to end.
        let token = client.token("model", "llm:chat").await.unwrap();
        let bearer = format!("Bearer {}", token.expose());
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        let what = ("POST", "/v1/chat/completions");
        let response = connection.ask(what, &headers, body).await.unwrap();
        if code(&response).as_deref() == Some(BUDGET_SPENT) {
            break;
        }
        assert_eq!(response.status(), 200, "{response:?}");
        spent += 1;
    }
    spent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revoked_stays_revoked_and_signed_in_stays_signed_in() {
    let upstream = Upstream::start().await;
    let site = Site::new(&format!(
        "identities: {{ good: {{}}, gone: {{}}, half: {{}} }}
roles:
  reader: {{ members: [good, gone, half], may: [\"item:read\"] }}
  person: {{ members: [user:alice, user:grace], may: [\"item:read\"] }}
services:
  api:
    peer: service
    url: \"http://127.0.0.1:{}\"
    operations: {{ GET /items/**: {{ needs: \"item:read\" }} }}
edges:
  web -> api: [GET /items/**]
  good -> api: [GET /items/**]
  gone -> api: [GET /items/**]
  half -> api: [GET /items/**]
",
        upstream.port
    ));
    let running = site.up();
    let [good, gone, half] = ["good", "gone", "half"].map(|name| site.issue(name).0);
    let web = Door::browser(&good, site.web);
    let (alice, grace) = (
        sign_in(&web, "user:dev/alice").await,
        sign_in(&web, "user:dev/grace").await,
    );
    for identity in [&good, &gone, &half] {
        let (door, token) = caller(&site, identity).await;
        let mut connection = door.http1().await.unwrap();
        let response = connection.get("/items/1", &token).await.unwrap();
        assert_eq!(response.status(), 200, "{response:?}");
    }
    assert_eq!(visit(&web, &alice).await.unwrap(), None);
    let mut open = web.http1().await.unwrap();
    let answer = look(&mut open, &grace).await;
    assert_eq!(code(&answer), None);
    let record = site.record(&receipt(&answer));
    let sid = record
        .pointer("/hop/evidence/session/sid")
        .and_then(Value::as_str)
        .unwrap()
        .to_owned();

    // Each revocation is the last thing its server did, and each token is as young as it can be.
    let gone = caller(&site, &gone).await;
    let running = revoked_and_killed(&site, running, "identity", "gone");
    let half = caller(&site, &half).await;
    let running = revoked_and_killed(&site, running, "token", &jti(&half.1));
    let good = caller(&site, &good).await;
    site.ok(&["identity", "revoke", "session", &sid]);
    running.kill();

    // The callers are there before the doors are, so they are the first ones through them.
    let until = Instant::now() + FIRST_SECONDS;
    let (good, gone, half, guest, person, running) = tokio::join!(
        hammer(&good, until),
        hammer(&gone, until),
        hammer(&half, until),
        knock(&web, &grace, until),
        knock(&web, &alice, until),
        async { tokio::task::block_in_place(|| site.up()) },
    );
    assert_eq!(
        (good.refused.len(), person.refused.len()),
        (0, 0),
        "{good:?} {person:?}"
    );
    assert!(
        good.allowed >= OFTEN && person.allowed >= OFTEN,
        "{good:?} {person:?}"
    );
    for (what, heard, denial) in [
        ("identity", gone, "CSD303"),
        ("token", half, "CSD301"),
        ("session", guest, "CSD304"),
    ] {
        assert_eq!(
            heard.allowed, 0,
            "a revoked {what} was allowed after the restart"
        );
        assert!(
            heard.refused.iter().all(|code| code == denial),
            "{what}: {heard:?}"
        );
        println!(
            "{what}: revoked, kill -9, {} refusals in the first {FIRST_SECONDS:?}",
            heard.refused.len()
        );
        assert!(heard.refused.len() >= OFTEN, "{what}: {heard:?}");
    }
    running.stop();
}

/// A way to the mesh, and a token drawn now.
async fn caller(site: &Site, identity: &Path) -> (Door, String) {
    let client = Client::from_dir(identity).unwrap();
    let token = client.token("api", "item:read").await.unwrap();
    let door = Door::mesh(identity, "api", site.mesh);
    (door, token.expose().to_owned())
}

/// Revokes, kills at once, and starts again.
fn revoked_and_killed(site: &Site, running: Running, kind: &str, value: &str) -> Running {
    site.ok(&["identity", "revoke", kind, value]);
    running.kill();
    site.up()
}

/// What a caller got in the first seconds.
#[derive(Debug, Default)]
struct Heard {
    allowed: usize,
    refused: Vec<String>,
}

impl Heard {
    fn note(&mut self, code: Option<String>) {
        match code {
            None => self.allowed += 1,
            Some(code) => self.refused.push(code),
        }
    }

    /// Whether its time is over: until then, and longer where a slow machine has said little.
    fn enough(&self, until: Instant) -> bool {
        let now = Instant::now();
        let often = self.allowed + self.refused.len() >= OFTEN;
        now >= if often { until } else { until + PATIENCE }
    }
}

/// A workload that asks, on a new connection each time, whether or not there is a door.
async fn hammer((door, token): &(Door, String), until: Instant) -> Heard {
    let mut heard = Heard::default();
    while !heard.enough(until) {
        if let Ok(mut connection) = door.http1().await
            && let Ok(response) = connection.get("/items/early", token).await
        {
            assert!(
                response.status() == 200 || code(&response).is_some(),
                "{response:?}"
            );
            heard.note(code(&response));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    heard
}

/// The same from a browser.
async fn knock(web: &Door, cookie: &str, until: Instant) -> Heard {
    let mut heard = Heard::default();
    while !heard.enough(until) {
        if let Some(code) = visit(web, cookie).await {
            heard.note(code);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    heard
}

/// One look from a browser; the code of the refusal if it was refused, nothing if there is no
/// door.
async fn visit(web: &Door, cookie: &str) -> Option<Option<String>> {
    let mut connection = web.http1().await.ok()?;
    Some(code(&look(&mut connection, cookie).await))
}

async fn look(connection: &mut Connection, cookie: &str) -> http::Response<bytes::Bytes> {
    let headers = [
        ("cookie", cookie),
        ("sec-fetch-site", "same-origin"),
        ("accept", "application/json"),
    ];
    let response = connection
        .ask(("GET", "/items/seen"), &headers, "")
        .await
        .unwrap();
    assert!(
        response.status() == 200 || code(&response).is_some(),
        "{response:?}"
    );
    response
}

/// Signs in on the page of `login: dev`; the session's cookie.
async fn sign_in(web: &Door, member: &str) -> String {
    let mut connection = web.http1().await.unwrap();
    let page = connection
        .ask(("GET", "/.countersign/login"), &[], "")
        .await
        .unwrap();
    let html = String::from_utf8_lossy(page.body()).into_owned();
    let form = html
        .split("name=\"form\" value=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    let proof = cookie(&page, "__Host-cs-form=");
    let headers = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("cookie", proof.as_str()),
        ("sec-fetch-site", "same-origin"),
    ];
    let member = member.replace(':', "%3A").replace('/', "%2F");
    let body = format!("form={form}&return=%2F&member={member}");
    let answer = connection
        .ask(("POST", "/.countersign/login"), &headers, &body)
        .await
        .unwrap();
    cookie(&answer, "__Host-cs=")
}

fn cookie(response: &http::Response<bytes::Bytes>, start: &str) -> String {
    let set = response.headers().get_all("set-cookie").iter();
    let mut pairs = set.map(|it| it.to_str().unwrap().split(';').next().unwrap());
    let found = pairs.find(|pair| pair.starts_with(start));
    found
        .unwrap_or_else(|| panic!("no cookie {start}: {response:?}"))
        .to_owned()
}

fn jti(token: &str) -> String {
    let claims = URL_SAFE_NO_PAD
        .decode(token.split('.').nth(1).unwrap())
        .unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    claims["jti"].as_str().unwrap().to_owned()
}
