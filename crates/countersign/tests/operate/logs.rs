//! Whatever is logged, counted and traced: no secret, no token, no prompt.

use crate::door::Door;
use crate::door::code;
use crate::scene::Scene;
use countersign_testkit::collector::Collector;
use serde_json::Value;

const SECRET: &str = "canary-secret-4711";
const PROMPT: &str = "canary-prompt-4712";
const QUERY: &str = "canary-query-4713";
const COOKIE: &str = "canary-cookie-4714";
const FIELD: &str = "canary-field-4715";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_is_carried_is_written_down() {
    let collector = Collector::start();
    let endpoint = collector.endpoint();
    // Everything of everybody, also of the libraries that would write out header fields.
    let all = "trace,h2=trace,hyper=trace,hyper_util=trace,rustls=trace,tower=trace,tokio=trace";
    let scene = Scene::new(&[
        ("RUST_LOG", all),
        ("COUNTERSIGN_LOG", "json"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
    ]);
    let token = carry(&scene).await;
    let metrics = scene.get("/metrics").body;
    let site = scene.site;
    scene.running.stop();

    let logs = site.said();
    logged(&logs);
    let traced: Vec<u8> = collector
        .taken()
        .into_iter()
        .flat_map(|it| it.body)
        .collect();
    assert!(!traced.is_empty(), "nothing was traced at all");
    let traced = String::from_utf8_lossy(&traced).into_owned();
    // A signature alone is of no use, so the part that says most of a token is searched for, too.
    let parts: Vec<_> = token.split('.').collect();
    let [_, claims, signature] = parts.as_slice() else {
        panic!("no token");
    };
    let secrets = [SECRET, PROMPT, QUERY, COOKIE, FIELD, claims, signature];
    for (place, text) in [("logs", &logs), ("metrics", &metrics), ("traces", &traced)] {
        for secret in secrets {
            assert!(!text.contains(secret), "`{secret}` is in the {place}");
        }
        // As somebody's debug output of bytes would have it.
        assert!(!text.contains("Bearer e"), "a credential is in the {place}");
    }
}

/// Has everything carried that must not be written down. Returns the token.
async fn carry(scene: &Scene) -> String {
    let file = scene.site.path().join("value");
    std::fs::write(&file, SECRET).unwrap();
    let file = file.to_str().unwrap();
    scene.site.ok(&["secret", "put", "mailer", "--file", file]);
    let folder = scene.identity.to_str().unwrap();
    let get = ["secret", "get", "mailer", "--scope", "mail:key:read"];
    let got = scene.site.ok(&[&get[..], &["--identity", folder]].concat());
    assert_eq!(got.trim(), SECRET);
    let token = scene.token();
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("x-api-key", FIELD)];
    let path = format!("/items?q={QUERY}");
    let mesh = Door::mesh(&scene.identity, "api", scene.site.mesh);
    for mut connection in [mesh.http1().await.unwrap(), mesh.http2().await.unwrap()] {
        let posted = connection
            .ask(("POST", &path), &headers, PROMPT)
            .await
            .unwrap();
        assert_eq!(code(&posted), None, "{posted:?}");
        let nowhere = format!("/nowhere?q={QUERY}");
        let refused = connection.ask(("POST", &nowhere), &headers, PROMPT).await;
        assert!(code(&refused.unwrap()).is_some());
    }
    assert!(scene.application.last().contains(&format!("q={QUERY}")));
    let web = Door::browser(&scene.identity, scene.site.web);
    let cookie = format!("__Host-cs-session={COOKIE}");
    for mut connection in [web.http1().await.unwrap(), web.http2().await.unwrap()] {
        let headers = [
            ("cookie", cookie.as_str()),
            ("authorization", bearer.as_str()),
        ];
        connection
            .ask(("GET", "/app/1"), &headers, "")
            .await
            .unwrap();
    }
    token
}

/// Our own lines are there, one document each.
fn logged(logs: &str) {
    let lines: Vec<Value> = logs
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let own = lines.iter().any(|line| {
        let target = line["target"].as_str().unwrap_or_default();
        target.starts_with("countersign") && line["level"] == "INFO"
    });
    assert!(own, "nothing was logged at all: {logs}");
}
