use crate::support::CONFIG;
use crate::support::World;
use crate::support::options;
use countersign_core::snapshot::Revoked;
use countersign_core::vocabulary::Code;
use countersign_enforce::SystemClock;
use countersign_server::Server;
use countersign_server::ServerError;
use countersign_server::Start;
use countersign_wire::admin::Revoke;
use serde_json::json;
use std::sync::Arc;

#[tokio::test]
async fn a_restart_forgets_nothing() {
    let world = World::new().await;
    world.put("openai_primary", "sk-1").await;
    let api = world.workload("hms-api").await;
    let leaf = api.svid.current().leaf();
    let what = Revoked::Certificate(leaf);
    world
        .operator
        .revoke(Revoke { lift: false, what })
        .await
        .unwrap();
    let refused = api.ask_token("vault").await;
    let receipt = world.refused(&refused, Code::CERTIFICATE_REVOKED).await;
    let (log, size) = (
        world.server.log_key().to_string(),
        world.server.audit().log().size(),
    );
    world.server.stop().await;
    let World {
        folder,
        server,
        operator,
        ..
    } = world;
    drop((server, operator));

    let world = World::in_folder(folder).await;
    assert_eq!(world.server.log_key().to_string(), log);
    assert!(world.server.audit().log().size() >= size);
    assert_eq!(world.server.point().state().revocations.epoch(), 1);
    let api = crate::support::Workload {
        client: world.client(&api.svid),
        ..api
    };
    let refused = api.ask_token("vault").await;
    world.refused(&refused, Code::CERTIFICATE_REVOKED).await;
    assert!(world.operator.replay(&receipt).await.unwrap().same);
    let fresh = world.workload("hms-api").await;
    let token = fresh.token("vault").await;
    assert_eq!(fresh.read(&token, "openai_primary").await.status(), 200);
    world.server.audit().verify().await.unwrap();
}

#[tokio::test]
async fn development_and_the_rest_never_meet() {
    let folder = tempfile::tempdir().unwrap();
    let open = async |change: &dyn Fn(&mut countersign_server::ServerOptions)| {
        let mut options = options(folder.path(), CONFIG);
        change(&mut options);
        Server::open(options, Arc::new(SystemClock)).await
    };
    let text = |options: &mut countersign_server::ServerOptions, from: &str, to: &str| {
        let file = options.bundle.files.get_mut("hms.yaml").unwrap();
        *file = file.replace(from, to);
    };
    let foreign = open(&|it| text(it, "hms.dev.invalid", "hms.example"))
        .await
        .unwrap_err();
    assert!(
        matches!(
            foreign,
            ServerError::NotDevelopment(_) | ServerError::Configuration(_)
        ),
        "{foreign}"
    );
    let public = open(&|it| it.control = "0.0.0.0:0".parse().unwrap())
        .await
        .unwrap_err();
    assert!(matches!(public, ServerError::NotLoopback(_)), "{public}");
    let broken = open(&|it| text(it, "peer: browser", "peer: bowser"))
        .await
        .unwrap_err();
    assert!(matches!(broken, ServerError::Configuration(_)), "{broken}");
    assert!(!folder.path().join("data").exists(), "nothing was made");
    drop(open(&|_| {}).await.unwrap());
    let other = open(&|it| text(it, "hms.dev.invalid", "other.dev.invalid"))
        .await
        .unwrap_err();
    assert!(
        matches!(other, ServerError::OtherDeployment { .. }),
        "{other}"
    );
    assert!(
        other
            .to_string()
            .contains("belongs to hms.dev.invalid (dev)"),
        "{other}"
    );
}

#[tokio::test]
async fn a_server_starts_once() {
    let world = World::new().await;
    assert!(matches!(
        world.server.start().await,
        Err(ServerError::Started)
    ));
    world.server.stop().await;
}

/// A call to a model, as a gateway would ask for it; what it cost is settled.
async fn spend(world: &World, api: &crate::support::Workload, cost: u64) -> serde_json::Value {
    let established = countersign_core::hop::Tls::Established {
        cipher: "TLS_AES_256_GCM_SHA384".to_owned(),
        group: "X25519MLKEM768".to_owned(),
        resumed: false,
        version: countersign_core::hop::TlsVersion::V13,
    };
    let verifier = countersign_net::TokenVerifier::new(
        world.server.keys().clone(),
        "https://hms.dev.invalid".to_owned(),
        1,
    );
    let now = world.server.point().now();
    let mut evidence = evidence_of(world, api);
    evidence.tls = established;
    evidence.token = verifier.verify_token(
        &api.token("openai").await,
        countersign_net::token::Presenter::Ourselves,
        now,
    );
    let path = countersign_core::vocabulary::CanonicalPath::new("/v1/chat/completions").unwrap();
    let ask = countersign_enforce::Ask {
        door: countersign_core::vocabulary::Name::new("mesh").unwrap(),
        service: "openai".to_owned(),
        operation: countersign_core::vocabulary::Operation::http("POST", &path),
        evidence,
        facts: countersign_core::hop::Facts {
            body_bytes: Some(100),
            max_output_tokens: Some(1000),
            model: Some("gpt-4o".to_owned()),
            ..Default::default()
        },
        context: Default::default(),
    };
    let admitted = world.server.point().enforce(ask).await.unwrap();
    admitted.settle(cost);
    let receipt = admitted.admission().receipt().to_string();
    drop(admitted);
    world.record(receipt).await.unwrap()
}

fn evidence_of(world: &World, api: &crate::support::Workload) -> countersign_core::hop::Evidence {
    let svid = api.svid.current();
    let root = world.roots().current().digests().next().unwrap();
    let mut evidence = countersign_core::hop::Evidence::none();
    evidence.peer =
        countersign_core::hop::Peer::Certificate(Arc::new(countersign_core::hop::Certificate {
            issuer: root,
            issuers_above: Box::default(),
            leaf: svid.leaf(),
            not_after: svid.not_after(),
            not_before: countersign_core::vocabulary::Timestamp::from_secs(0),
            root,
            serial: "01".to_owned(),
            spiffe_id: svid.spiffe_id().clone(),
        }));
    evidence
}

#[tokio::test]
async fn what_was_spent_stays_spent() {
    let world = World::new().await;
    let api = world.workload("hms-api").await;
    let first = spend(&world, &api, 1_234).await;
    assert_eq!(first["reservations"][0]["spent"], json!(0));
    let second = spend(&world, &api, 766).await;
    assert_eq!(second["reservations"][0]["spent"], json!(1_234));
    world.server.stop().await;
    let World {
        folder,
        server,
        operator,
        ..
    } = world;
    drop((server, operator));
    let world = World::in_folder(folder).await;
    let api = crate::support::Workload {
        client: world.client(&api.svid),
        ..api
    };
    let third = spend(&world, &api, 1).await;
    assert_eq!(third["reservations"][0]["spent"], json!(2_000), "{third}");
}

#[tokio::test]
async fn a_start_with_another_file_is_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let first = Server::open(options(folder.path(), CONFIG), Arc::new(SystemClock)).await;
    let first = first.unwrap();
    let previous = first.point().snapshot().revision().to_string();
    first.stop().await;
    drop(first);
    let without = CONFIG
        .lines()
        .filter(|line| !line.contains("the worker has no vault"));
    let config = without.collect::<Vec<_>>().join("\n");
    let clock = Arc::new(SystemClock);
    let again = Server::open_with(options(folder.path(), &config), Start::File, clock).await;
    let again = again.unwrap();
    again.audit().advance().await.unwrap();
    let search = countersign_server::store::Search {
        kind: Some("event".to_owned()),
        ..Default::default()
    };
    let found = again.audit().search(&search).await.unwrap();
    let changes = found
        .iter()
        .map(|it| &it.record)
        .filter(|it| it["event_type"] == "config.change");
    let changes: Vec<_> = changes.collect();
    assert_eq!(changes.len(), 1, "the first start changed nothing");
    assert_eq!(changes[0]["principal"]["id"], "start");
    let metadata = &changes[0]["metadata"];
    let revision = again.point().snapshot().revision().to_string();
    assert_eq!(metadata["previous"], previous);
    assert_eq!(metadata["revision"], revision);
    assert_eq!(metadata["tests_removed"], "the worker has no vault");
}

#[tokio::test]
async fn a_bad_key_of_one_gateway_stops_nobody() {
    let world = World::new().await;
    let plane = world.plane().await;
    let key = countersign_net::SigningKey::generate(countersign_net::KeyAlgorithm::EdDsa).unwrap();
    let mut set = countersign_net::KeySet::empty(1);
    set.add(&key);
    let jwk = set.to_jwks()["keys"][0].clone();
    plane.publish_key(jwk.clone()).await.unwrap();
    world.server.stop().await;
    drop(plane);
    let World {
        folder,
        server,
        operator,
        ..
    } = world;
    drop((server, operator));
    let store = folder.path().join("data/store.db");
    let store = countersign_server::store::Store::open(&store)
        .await
        .unwrap();
    let now = countersign_core::vocabulary::Timestamp::from_secs(1);
    let name = |text| countersign_core::vocabulary::Name::new(text).unwrap();
    for (gateway, bad) in [
        ("empty", json!({})),
        (
            "private",
            json!({ "kty": "OKP", "crv": "Ed25519", "kid": "p", "d": "AA", "x": "AA" }),
        ),
        (
            "point",
            json!({ "kty": "OKP", "crv": "Ed25519", "kid": "q", "x": "AA" }),
        ),
    ] {
        assert!(
            store
                .put_gateway_key(&name(gateway), &bad, now)
                .await
                .unwrap()
        );
    }
    let stolen = store.put_gateway_key(&name("thief"), &jwk, now).await;
    assert!(!stolen.unwrap(), "the key has its owner");
    store.close().await;

    let world = World::in_folder(folder).await;
    let api = world.workload("hms-api").await;
    let published = api.get("/.well-known/countersign-assertion-keys").await;
    let published = crate::support::document(&published);
    assert_eq!(published["keys"].as_array().unwrap().len(), 1);
    assert_eq!(published["keys"][0]["kid"], key.kid());
    world.server.audit().advance().await.unwrap();
    let search = countersign_server::store::Search {
        kind: Some("event".to_owned()),
        ..Default::default()
    };
    let found = world.server.audit().search(&search).await.unwrap();
    let skipped = found
        .iter()
        .filter(|it| it.record["event_type"] == "gateway.key.skip");
    assert_eq!(skipped.count(), 3);
}
