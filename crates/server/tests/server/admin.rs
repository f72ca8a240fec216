use crate::support::CONFIG;
use crate::support::World;
use crate::support::administer;
use crate::support::decided;
use crate::support::document;
use crate::support::socket;
use bytes::Bytes;
use countersign_core::snapshot::Revoked;
use countersign_core::vocabulary::Code;
use countersign_ledger::receipt::Receipt;
use http::Response;
use serde_json::Value;
use serde_json::json;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

async fn call(world: &World, method: &str, path: &str, body: &Value) -> Response<Bytes> {
    world.administer(method, path, body).await
}

async fn get(world: &World, path: &str) -> Value {
    let response = call(world, "GET", path, &Value::Null).await;
    assert_eq!(response.status(), 200, "{path}: {:?}", response.body());
    document(&response)
}

#[tokio::test]
async fn the_socket_is_its_owners() {
    let world = World::new().await;
    let path = socket(world.folder.path());
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    let status = get(&world, "/v1/admin/status").await;
    assert_eq!(
        (&status["dev"], &status["trust_domain"]),
        (&json!(true), &json!("hms.dev.invalid"))
    );
    assert_eq!(status["log_key"], world.server.log_key().to_string());
    assert_eq!(
        status["listeners"][0],
        json!(["control", world.address.to_string()])
    );
    let join = get(&world, "/v1/admin/join").await;
    assert_eq!(
        join["snapshot_key"],
        hex::encode(world.server.snapshot_key())
    );
    world.server.stop().await;
    assert!(!path.exists(), "the socket goes with the server");
}

#[tokio::test]
async fn verbs_over_the_socket() {
    let world = World::new().await;
    let body = json!({ "data": { "value": "sk" } });
    let put = call(&world, "POST", "/v1/admin/secret/model", &body).await;
    assert_eq!(document(&put)["version"], 1);
    let listed = get(&world, "/v1/admin/secret").await;
    assert_eq!(listed[0]["name"], "model");
    assert_eq!(
        (&listed[0]["version"], &listed[1]["version"]),
        (&json!(1), &json!(0))
    );
    assert!(!listed.to_string().contains("sk"));
    let read = call(&world, "GET", "/v1/admin/secret/model", &Value::Null).await;
    world.refused(&read, Code::NOT_A_READER).await;
    let unknown = json!({ "data": { "value": "x" } });
    assert_eq!(
        call(&world, "POST", "/v1/admin/secret/nope", &unknown)
            .await
            .status(),
        404
    );
    let revoke = json!({ "what": { "token": "t1" } });
    let revoked = document(&call(&world, "POST", "/v1/admin/revoke", &revoke).await);
    assert_eq!(revoked["revocation"]["epoch"], 1);
    let what: Revoked = serde_json::from_value(revoked["revocation"]["what"].clone()).unwrap();
    assert_eq!(what, Revoked::Token("t1".to_owned()));
    let identities = get(&world, "/v1/admin/identity").await;
    assert_eq!(
        identities[0]["spiffe_id"],
        "spiffe://hms.dev.invalid/hms-api"
    );
    let bad = json!({ "csr": "no", "name": "hms-api" });
    assert_eq!(
        call(&world, "POST", "/v1/admin/identity/issue", &bad)
            .await
            .status(),
        400
    );
    let unread = call(&world, "POST", "/v1/admin/revoke", &json!({ "what": 7 })).await;
    assert_eq!(unread.status(), 400);
    let nowhere = call(&world, "GET", "/v1/admin/nothing", &Value::Null).await;
    world.refused(&nowhere, Code::NO_EDGE).await;
}

#[tokio::test]
async fn records_are_found_explained_and_proved() {
    let world = World::new().await;
    let worker = world.workload("stats-worker").await;
    let refused = worker.ask_token("vault").await;
    let receipt = world.refused(&refused, Code::NO_EDGE).await;
    let proof = get(&world, &format!("/v1/admin/records/{receipt}/proof")).await;
    let proof = Receipt::from_json(proof.to_string().as_bytes()).unwrap();
    proof.verify(world.server.log_key(), None).unwrap();
    let record = get(&world, &format!("/v1/admin/records/{receipt}")).await;
    assert_eq!(record["record"]["code"], "CSD401");
    assert!(record["index"].is_number(), "it is in the log by now");
    // The index follows the checkpoint that the proof was waiting for.
    world.server.audit().advance().await.unwrap();
    let found = get(&world, "/v1/admin/records?code=CSD401&limit=5").await;
    assert!(
        found
            .as_array()
            .unwrap()
            .iter()
            .any(|it| it["receipt"] == receipt.as_str())
    );
    let explained = get(&world, &format!("/v1/admin/records/{receipt}/explain")).await;
    assert_eq!(explained["configuration"], "hms.yaml");
    assert_eq!(explained["explanation"]["code"], "CSD401");
    let replayed = get(&world, &format!("/v1/admin/records/{receipt}/replay")).await;
    assert_eq!(
        (&replayed["same"], &replayed["recorded"]),
        (&json!(true), &json!("CSD401"))
    );
    let checkpoint = get(&world, "/v1/admin/checkpoint").await;
    assert!(
        checkpoint["checkpoint"]
            .as_str()
            .unwrap()
            .starts_with("hms.dev.invalid/log\n")
    );
    let missing = call(
        &world,
        "GET",
        "/v1/admin/records/r-zzzzzzzzzzzz",
        &Value::Null,
    )
    .await;
    assert!(matches!(missing.status().as_u16(), 400 | 404));
}

/// The records of reloads, done or not.
async fn reloads(world: &World) -> Vec<Value> {
    world.server.audit().advance().await.unwrap();
    let found = get(world, "/v1/admin/records?event_type=config.reload").await;
    let found = found.as_array().unwrap().iter();
    found.map(|it| it["record"].clone()).collect()
}

#[tokio::test]
async fn a_reload_swaps_or_changes_nothing() {
    let world = World::new().await;
    let before = *world.server.point().snapshot().revision();
    let reload = async |text: String| {
        let body = json!({ "entry": "hms.yaml", "files": { "hms.yaml": text } });
        call(&world, "POST", "/v1/admin/reload", &body).await
    };
    let broken = reload(CONFIG.replace("peer: browser", "peer: bowser")).await;
    assert_eq!(broken.status(), 422);
    assert!(
        document(&broken)["text"]
            .as_str()
            .unwrap()
            .contains("hms.yaml")
    );
    let edge = "  rotator -> vault:";
    let opened = CONFIG.replace(
        edge,
        &format!("  stats-worker -> vault: [read openai_primary]\n{edge}"),
    );
    let opened = opened.replace("readers: [hms-api]", "readers: [hms-api, stats-worker]");
    let failing = reload(opened.clone()).await;
    assert_eq!(failing.status(), 422);
    assert_eq!(
        document(&failing)["tests"][0]["name"],
        "the worker has no vault"
    );
    let other = reload(CONFIG.replace("hms.dev.invalid", "other.dev.invalid")).await;
    assert_eq!(other.status(), 422);
    assert_eq!(*world.server.point().snapshot().revision(), before);
    let worker = world.workload("stats-worker").await;
    world
        .refused(&worker.ask_token("vault").await, Code::NO_EDGE)
        .await;

    let without = opened
        .lines()
        .filter(|line| !line.contains("the worker has no vault"));
    let done = reload(without.collect::<Vec<_>>().join("\n")).await;
    let done = document(&done);
    assert_eq!(
        done["tests_removed"],
        json!(["the worker has no vault"]),
        "{done}"
    );
    assert_eq!(done["previous"], before.to_string());
    worker.token("vault").await;
    let records = reloads(&world).await.into_iter();
    let (done, refused): (Vec<_>, Vec<_>) = records.partition(|it| it["status"] == "success");
    assert_eq!(refused.len(), 3, "what was refused is recorded too");
    let event = &done[0];
    assert_eq!(
        event["metadata"]["tests_removed"],
        "the worker has no vault"
    );
    let actor = event["principal"]["id"].as_str().unwrap();
    assert!(actor.starts_with("unix:"), "{actor}");
}

/// The kernel keeps others out of the folder; whoever gets past that (root, or a mistaken mode)
/// still meets the decision.
#[tokio::test]
async fn another_user_is_refused() {
    if !nix::unistd::getuid().is_root() {
        countersign_testkit::not_run("needs root to become somebody else");
        return;
    }
    let curl = Command::new("curl").arg("--version").output();
    if curl.is_err() {
        countersign_testkit::not_run("curl is not installed");
        return;
    }
    let world = World::new().await;
    let path = socket(world.folder.path());
    let ask = async |path: &std::path::Path| {
        let mut command = tokio::process::Command::new("curl");
        command
            .uid(65534)
            .args(["-s", "-i", "--unix-socket"])
            .arg(path);
        command
            .arg("http://localhost/v1/admin/status")
            .output()
            .await
            .unwrap()
    };
    let outside = ask(&path).await;
    assert_eq!(outside.status.code(), Some(7), "the kernel says no");
    for (path, mode) in [
        (world.folder.path(), 0o755),
        (path.parent().unwrap(), 0o755),
        (path.as_path(), 0o666),
    ] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let inside = ask(&path).await;
    let text = String::from_utf8(inside.stdout).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().to_owned();
    let mut response = Response::builder().status(status.as_str());
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        response = response.header(name, value);
    }
    let response = response.body(Bytes::from(body.to_owned())).unwrap();
    let receipt = world.refused(&response, Code::IDENTITY_UNKNOWN).await;
    let record = world.record(receipt).await.unwrap();
    assert_eq!(record["hop"]["evidence"]["peer"]["local"]["uid"], 65534);
}

/// A production-like operator: no edge and no permission but those written down.
async fn operated(folder: &std::path::Path, may: &str, edges: &str) -> countersign_server::Server {
    let ours = format!(
        "  ops: {{ attest: {{ unix: {{ user: {} }} }} }}\n",
        crate::support::user()
    );
    let role = format!("  operators: {{ members: [ops], may: [{may}] }}\n");
    let config = CONFIG
        .replace(
            "  hms-api:      {}\n",
            &format!("  hms-api:      {{}}\n{ours}"),
        )
        .replace("roles:\n", &format!("roles:\n{role}"))
        .replace("edges:\n", &format!("edges:\n{edges}"));
    let mut options = crate::support::options(folder, &config);
    options.bundle.dev_operator = None;
    let clock = std::sync::Arc::new(countersign_enforce::SystemClock);
    countersign_server::Server::open(options, clock)
        .await
        .unwrap()
}

#[tokio::test]
async fn the_configuration_is_read_by_whoever_administers_it_and_nobody_else() {
    const PATH: &str = "/v1/admin/configuration";
    let edge = "  ops -> console: [admin configuration]\n";
    for (may, edges, refused) in [
        (r#""config:admin""#, edge, None),
        (r#""config:admin""#, "", Some(Code::NO_EDGE)),
        (
            r#""config:admin""#,
            "  ops -> console: [admin status]\n",
            Some(Code::NO_EDGE),
        ),
        (r#""identity:issue""#, edge, Some(Code::ROLE_LACKS)),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let server = operated(folder.path(), may, edges).await;
        server.start().await.unwrap();
        let answer = administer(folder.path(), "GET", PATH, &Value::Null).await;
        let lookup = async |receipt: String| {
            let entry = server.audit().lookup(&receipt).await.ok()?;
            Some(entry.record)
        };
        let record = if let Some(code) = refused {
            let receipt = countersign_testkit::refused(&answer, code.pillar(), code, lookup).await;
            let text = String::from_utf8_lossy(answer.body()).into_owned();
            assert!(!text.contains("stats-worker"), "{text}");
            lookup(receipt).await.unwrap()
        } else {
            let shown = document(&answer);
            let snapshot = server.point().snapshot();
            assert_eq!(shown["revision"], snapshot.revision().to_string());
            assert_eq!(shown["entry"], "hms.yaml");
            assert_eq!(
                shown["files"]["hms.yaml"],
                snapshot.bundle().files["hms.yaml"]
            );
            decided(&server, "console/configuration").await
        };
        assert_eq!(record["action"], "admin", "{record}");
        assert_eq!(
            record["resource"]["id"], "console/configuration",
            "{record}"
        );
        assert_eq!(record["resource"]["service"], "console", "{record}");
        assert_eq!(record["status"] == "denied", refused.is_some(), "{record}");
        assert_eq!(
            record["hop"]["evidence"]["peer"]["local"]["user"],
            crate::support::user()
        );
        server.stop().await;
    }
}

#[tokio::test]
async fn issuing_for_gateways_and_lifting_take_edges_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let may = r#""identity:issue", "gateway:issue", "identity:revoke""#;
    let edges = "  ops -> issuer: [issue *, revoke *]\n";
    let server = operated(folder.path(), may, edges).await;
    let operator = server.operator().unwrap();
    let issue = async |gateway| {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        let csr = params.serialize_request(&key).unwrap().pem().unwrap();
        let name = "hms-api".to_owned();
        operator
            .issue_identity(&countersign_wire::admin::IssueIdentity { csr, gateway, name })
            .await
    };
    let refused = |error| match error {
        countersign_server::admin::AdminError::Refused(refusal) => refusal.code,
        other => panic!("{other}"),
    };
    issue(false).await.unwrap();
    assert_eq!(refused(issue(true).await.unwrap_err()), Code::NO_EDGE);
    let revoke = async |lift| {
        let what = Revoked::Token("t".to_owned());
        operator
            .revoke(countersign_wire::admin::Revoke { lift, what })
            .await
    };
    revoke(false).await.unwrap();
    assert_eq!(refused(revoke(true).await.unwrap_err()), Code::NO_EDGE);
    let revoked = server.point().state();
    assert!(
        revoked.revocations.token("t").is_some(),
        "nothing was lifted"
    );
}

#[tokio::test]
async fn a_folder_that_others_may_enter_is_neither_used_nor_closed() {
    let folder = tempfile::tempdir().unwrap();
    let admin = folder.path().join("admin");
    std::fs::create_dir(&admin).unwrap();
    let mode = |mode| std::fs::set_permissions(&admin, std::fs::Permissions::from_mode(mode));
    mode(0o755).unwrap();
    let options = crate::support::options(folder.path(), CONFIG);
    let clock = std::sync::Arc::new(countersign_enforce::SystemClock);
    let server = countersign_server::Server::open(options, clock)
        .await
        .unwrap();
    let refused = server.start().await.unwrap_err();
    assert!(
        matches!(refused, countersign_server::ServerError::Socket(_)),
        "{refused}"
    );
    let left = std::fs::metadata(&admin).unwrap().permissions().mode();
    assert_eq!(left & 0o777, 0o755);
    mode(0o700).unwrap();
    server.start().await.unwrap();
    server.stop().await;
}
