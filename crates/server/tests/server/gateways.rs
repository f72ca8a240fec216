//! What a gateway in another process is refused although it is one: what is another's, and what it
//! had before it was replaced.

use crate::support::CONFIG;
use crate::support::DOMAIN;
use crate::support::Workload;
use crate::support::World;
use crate::support::document;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use countersign_core::record::Record;
use countersign_core::record::Resource;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::Timestamp;
use countersign_gateway::ApartError;
use countersign_gateway::join;
use countersign_gateway::remote::RemotePlane;
use countersign_ledger::spool::Spool;
use countersign_ledger::spool::SpoolOptions;
use countersign_ledger::storage::FsStorage;
use countersign_net::Svid;
use countersign_net::SvidSource;
use countersign_server::store::Search;
use countersign_wire::control::ControlError;
use countersign_wire::control::ControlPlane as _;
use countersign_wire::control::Delivery;
use countersign_wire::control::Known;
use countersign_wire::control::SessionTokenRequest;
use countersign_wire::control::SignIn;
use countersign_wire::control::SignedSnapshot;
use countersign_wire::control::Update;
use countersign_wire::join::JoinToken;
use countersign_wire::join::MintJoin;
use futures_util::StreamExt as _;
use http::Response;
use secrecy::ExposeSecret as _;
use serde_json::Value;
use serde_json::json;
use std::borrow::Cow;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

async fn world() -> World {
    let web = "  web:  { bind: \"127.0.0.1:8443\", peer: browser, login: dev, routes: { \"localhost/**\": frontend } }\n";
    let shop = web.replace("web: ", "shop:").replace("8443", "8444");
    let config = CONFIG
        .replace(web, &format!("{web}{shop}"))
        .replace("edges:\n", "edges:\n  shop -> frontend:    [GET /app/**]\n");
    let world = World::with(&config).await;
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    world.server.open_join(any).await.unwrap();
    world
}

async fn minted(world: &World, gateway: &str, listener: &str) -> JoinToken {
    let request = MintJoin {
        gateway: gateway.to_owned(),
        listeners: vec![listener.to_owned()],
    };
    let minted = world.operator.mint_join(&request).await.unwrap();
    JoinToken::from_text(minted.token.expose_secret()).unwrap()
}

fn kept(world: &World, folder: &Path) -> Workload {
    let pem = std::fs::read(folder.join("svid.pem")).unwrap();
    showing(world, Svid::from_pem(&pem, &pem).unwrap())
}

fn showing(world: &World, svid: Svid) -> Workload {
    let svid = SvidSource::new(svid);
    Workload {
        client: world.client(&svid),
        name: "gw7".to_owned(),
        svid,
    }
}

/// `gw7`, with one listener.
pub(crate) async fn gateway(world: &World, folder: &Path, listener: &str) -> Workload {
    let token = minted(world, "gw7", listener).await;
    join(folder, &token, None).await.unwrap();
    kept(world, folder)
}

pub(crate) async fn ask(gateway: &Workload, what: &str, body: &Value) -> Response<Bytes> {
    let path = format!("/v1/control/{what}");
    gateway
        .post(&path, "application/json", body.to_string())
        .await
}

async fn renewed(world: &World, gateway: &Workload) -> Result<Workload, Response<Bytes>> {
    let key = rcgen::KeyPair::generate().unwrap();
    let csr = rcgen::CertificateParams::default().serialize_request(&key);
    let csr = json!({ "csr": csr.unwrap().pem().unwrap() });
    let answer = ask(gateway, "renew", &csr).await;
    if answer.status() != 200 {
        return Err(answer);
    }
    let chain = document(&answer)["chain"].as_str().unwrap().to_owned();
    let svid = Svid::from_pem(chain.as_bytes(), key.serialize_pem().as_bytes());
    Ok(showing(world, svid.unwrap()))
}

/// The record of a refused attempt to join.
async fn refusal(world: &World, joined: Result<(), ApartError>) -> Value {
    let Err(ApartError::Refused { code, receipt }) = joined else {
        panic!("{joined:?}")
    };
    let record = world.record(receipt.unwrap()).await.unwrap();
    assert_eq!(record["code"], code.to_string());
    record
}

async fn events(world: &World, event: &str) -> Vec<Value> {
    world.server.audit().advance().await.unwrap();
    let search = Search {
        event_type: Some(event.to_owned()),
        ..Search::default()
    };
    let found = world.server.audit().search(&search).await.unwrap();
    found.into_iter().map(|it| it.record).collect()
}

#[tokio::test]
async fn a_gateway_gets_no_secret_that_is_used_behind_another_s_listeners() {
    let world = world().await;
    world.put("model", "sk-model").await;
    let wanted = json!({ "secret": "model" });
    let folder = tempfile::tempdir().unwrap();
    let web = gateway(&world, folder.path(), "web").await;
    let refused = ask(&web, "credential", &wanted).await;
    let receipt = world.refused(&refused, Code::NO_EDGE).await;
    let record = world.record(receipt).await.unwrap();
    assert_eq!(record["resource"]["id"], "vault/model", "{record}");
    assert_eq!(
        record["reason"],
        "the secret is not used behind this gateway's listeners"
    );
    // A certificate made by hand for the same gateway does not give it all listeners.
    let by_hand = world.gateway("gw7").await;
    let refused = ask(&by_hand, "credential", &wanted).await;
    world.refused(&refused, Code::NO_EDGE).await;
    let folder = tempfile::tempdir().unwrap();
    let token = minted(&world, "gw8", "mesh").await;
    join(folder.path(), &token, None).await.unwrap();
    let mesh = kept(&world, folder.path());
    let given = document(&ask(&mesh, "credential", &wanted).await);
    assert_eq!(given["value"], "sk-model");
}

#[tokio::test]
async fn a_gateway_has_nothing_to_do_with_sessions_of_another_s_door() {
    let world = world().await;
    let everywhere = world.gateway("gw2").await;
    let sign_in = |door: &str| json!({ "door": door, "member": "user:dev/alice" });
    let signed_in = document(&ask(&everywhere, "sign-in", &sign_in("web")).await);
    let draw =
        |door: &str| json!({ "cookie": signed_in["cookie"], "door": door, "service": "frontend" });
    let folder = tempfile::tempdir().unwrap();
    let shop = gateway(&world, folder.path(), "shop").await;
    for (what, body) in [
        ("sign-in", sign_in("web")),
        ("sign-in", sign_in("nowhere")),
        ("session-token", draw("web")),
        ("sign-out", json!({ "cookie": signed_in["cookie"] })),
    ] {
        let refused = ask(&shop, what, &body).await;
        let receipt = world.refused(&refused, Code::NO_EDGE).await;
        let record = world.record(receipt).await.unwrap();
        assert_eq!(
            record["reason"],
            "the door is not among this gateway's listeners"
        );
    }
    // Saying that it was shown elsewhere does not help, and its own door works.
    assert_ne!(
        ask(&shop, "session-token", &draw("shop")).await.status(),
        200
    );
    assert_eq!(ask(&shop, "sign-in", &sign_in("shop")).await.status(), 200);
    let still = ask(&everywhere, "session-token", &draw("web")).await;
    assert_eq!(still.status(), 200, "it was not signed out");
}

#[tokio::test]
async fn a_certificate_that_was_replaced_gets_no_other_and_no_policy() {
    let world = world().await;
    let folder = tempfile::tempdir().unwrap();
    let first = gateway(&world, folder.path(), "mesh").await;
    let lost = renewed(&world, &first).await.unwrap();
    // The answer did not arrive: the one before still renews, and takes its place.
    let second = renewed(&world, &first).await.unwrap();
    let known = json!({ "epoch": 0, "nonce": "07".repeat(32) });
    let refused = [
        renewed(&world, &lost).await.err().unwrap(),
        ask(&lost, "updates", &known).await,
    ];
    for refused in refused {
        let receipt = world.refused(&refused, Code::CERTIFICATE_REVOKED).await;
        let record = world.record(receipt).await.unwrap();
        assert_eq!(
            record["reason"],
            "another certificate of this gateway took the place of this one"
        );
    }
    let third = renewed(&world, &second).await.unwrap();
    // Whoever joins under the name is the gateway from then on.
    let folder = tempfile::tempdir().unwrap();
    let anew = gateway(&world, folder.path(), "mesh").await;
    for gone in [&second, &third] {
        let refused = ask(gone, "credential", &json!({ "secret": "model" })).await;
        world.refused(&refused, Code::CERTIFICATE_REVOKED).await;
    }
    let revoked = events(&world, "identity.revocation.add").await;
    assert_eq!(revoked.len(), 4, "{revoked:?}");
    renewed(&world, &anew).await.unwrap();
}

#[tokio::test]
async fn a_name_with_records_in_the_log_goes_on_from_them_or_not_at_all() {
    let world = world().await;
    let folder = tempfile::tempdir().unwrap();
    let gateway = gateway(&world, folder.path(), "mesh").await;
    let storage = Arc::new(FsStorage::new(folder.path()));
    let (spool, _) = Spool::open(storage, "gw7", SpoolOptions::default()).unwrap();
    let resource = Resource {
        id: Cow::Borrowed("x"),
        service: Cow::Borrowed("x"),
    };
    let record = Record::event("test.event", Timestamp::from_secs(1), "test", resource);
    drop(spool.append(record.to_bytes()).await.unwrap());
    let leaves = spool.read_from(0, 9).unwrap();
    drop(spool);
    let delivery = Delivery {
        first: 0,
        leaves: leaves.iter().map(|it| it.leaf.clone()).collect(),
        node: Name::new("gw7").unwrap(),
    };
    let body = delivery.encode().unwrap();
    let taken = gateway
        .post("/v1/control/records", Delivery::CONTENT_TYPE, body)
        .await;
    assert_eq!(document(&taken)["next"], leaves.len());

    let empty = tempfile::tempdir().unwrap();
    let token = minted(&world, "gw7", "mesh").await;
    let record = refusal(&world, join(empty.path(), &token, None).await).await;
    assert_eq!(record["code"], Code::SUBJECT_MISMATCH.to_string());
    let why = record["reason"].as_str().unwrap();
    assert!(why.ends_with("a new folder needs a new name"), "{why}");
    let token = minted(&world, "gw8", "mesh").await;
    join(empty.path(), &token, None).await.unwrap();
    // The folder that wrote them goes on under its name.
    let token = minted(&world, "gw7", "mesh").await;
    join(folder.path(), &token, None).await.unwrap();
}

#[tokio::test]
async fn a_store_that_does_not_answer_lets_nobody_join_and_that_is_recorded() {
    let world = world().await;
    let good = minted(&world, "gw7", "mesh").await;
    let mut guessed = good.clone();
    guessed.secret = "guessed".to_owned().into();
    let path = world.folder.path().join("data/store.db");
    let url = format!("sqlite://{}", path.display());
    let sql = sqlx::SqlitePool::connect(&url).await.unwrap();
    let held = sql.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let guess = join(folder.path(), &guessed, None).await;
    let refused = join(folder.path(), &good, None).await;
    held.rollback().await.unwrap();
    // Who guesses has nothing to wait for.
    let record = refusal(&world, guess).await;
    assert_eq!(record["code"], Code::TOKEN_SIGNATURE.to_string());
    assert!(
        matches!(refused, Err(ApartError::Answer(503))),
        "{refused:?}"
    );
    let attempts = events(&world, "authn.cert.issue").await;
    let unknown = |it: &&Value| it["reason"] == "whether the token is good is not known";
    let record = attempts.iter().find(unknown).unwrap();
    assert_eq!(record["code"], Code::TOKEN_ABSENT.to_string());
    // Nothing was used up.
    join(folder.path(), &good, None).await.unwrap();
}

#[tokio::test]
async fn a_certificate_names_what_is_meshed_at_its_own_listeners() {
    let world = world().await;
    for (listener, meshed) in [("web", false), ("mesh", true)] {
        let folder = tempfile::tempdir().unwrap();
        let token = minted(&world, &format!("gw-{listener}"), listener).await;
        join(folder.path(), &token, None).await.unwrap();
        let pem = std::fs::read_to_string(folder.path().join("svid.pem")).unwrap();
        let (_, leaf) = pem.split_once("-----BEGIN CERTIFICATE-----").unwrap();
        let (leaf, _) = leaf.split_once("-----END").unwrap();
        let leaf = STANDARD.decode(leaf.replace('\n', "")).unwrap();
        let names = String::from_utf8_lossy(&leaf).into_owned();
        assert!(names.contains("localhost"));
        let mesh = format!("*.mesh.{DOMAIN}");
        assert_eq!(names.contains(&mesh), meshed, "{names}");
        // One name for all: a certificate tells nobody which services there are.
        assert!(!names.contains("hms-api"), "{names}");
    }
}

#[tokio::test]
async fn a_restore_ends_sessions_and_join_tokens() {
    let world = world().await;
    let plane = world.plane().await;
    let sign_in = SignIn {
        door: Name::new("web").unwrap(),
        member: "user:dev/alice".to_owned(),
        source_ip: None,
    };
    let cookie = plane.sign_in(sign_in).await.unwrap().cookie;
    let draw = || SessionTokenRequest {
        cookie: cookie.clone(),
        door: Name::new("web").unwrap(),
        service: Name::new("frontend").unwrap(),
    };
    plane.session_token(draw()).await.unwrap();
    let token = minted(&world, "gw7", "web").await;
    world.server.record_restore().await.unwrap();

    let over = plane.session_token(draw()).await.unwrap_err();
    assert_eq!(over, ControlError::NoSession);
    let folder = tempfile::tempdir().unwrap();
    let record = refusal(&world, join(folder.path(), &token, None).await).await;
    assert_eq!(record["code"], Code::REPLAYED.to_string(), "{record}");
    let token = minted(&world, "gw7", "web").await;
    join(folder.path(), &token, None).await.unwrap();
}

#[tokio::test]
async fn a_gateway_joins_as_whom_its_token_says() {
    let world = world().await;
    let mut token = minted(&world, "gw7", "mesh").await;
    token.gateway = "gw8".parse().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let joined = join(folder.path(), &token, None).await;
    assert!(matches!(joined, Err(ApartError::Token(_))), "{joined:?}");
    assert!(!countersign_gateway::is_joined(folder.path()));
}

#[tokio::test]
async fn a_revision_is_left_out_only_under_the_serial_that_it_is_known_under() {
    let world = world().await;
    let told = world.operator.join().await.unwrap();
    let gateway = world.gateway("gw2").await;
    let plane = RemotePlane::new(&told, gateway.svid.clone()).unwrap();
    let first = snapshot(&plane, Known::default()).await.unwrap();
    let bundle: countersign_core::snapshot::Bundle = serde_json::from_str(&first.bundle).unwrap();
    let known = |serial| Known {
        revision: Some(bundle.revision()),
        serial,
        ..Known::default()
    };
    assert_eq!(snapshot(&plane, known(first.serial)).await, None);
    let again = snapshot(&plane, known(first.serial + 1)).await;
    assert_eq!(again, Some(first));
}

/// The policy that comes before the first heartbeat.
async fn snapshot(plane: &RemotePlane, known: Known) -> Option<SignedSnapshot> {
    let mut updates = plane.updates(known);
    let told = async {
        loop {
            match updates.next().await.unwrap() {
                Update::Snapshot(signed) => return Some(signed),
                Update::Heartbeat(_) => return None,
                _ => {}
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), told)
        .await
        .unwrap()
}
