use crate::support::DOMAIN;
use crate::support::Workload;
use crate::support::World;
use crate::support::claims;
use crate::support::document;
use bytes::Bytes;
use countersign_core::snapshot::Revoked;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Name;
use countersign_net::Connector;
use countersign_net::Dialer;
use countersign_net::Expected;
use countersign_net::KeyAlgorithm;
use countersign_net::KeySet;
use countersign_net::SigningKey;
use countersign_net::SvidSource;
use countersign_testkit::pki::Defect;
use countersign_testkit::pki::Pki;
use countersign_wire::admin::Revoke;
use countersign_wire::control::ControlError;
use countersign_wire::control::Delivery;
use countersign_wire::control::DeliveryError;
use countersign_wire::control::Update;
use http::Request;
use http::Response;
use http_body_util::BodyExt as _;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use secrecy::ExposeSecret as _;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

async fn ask(gateway: &Workload, what: &str, body: &Value) -> Response<Bytes> {
    gateway
        .post(
            &format!("/v1/control/{what}"),
            "application/json",
            body.to_string(),
        )
        .await
}

async fn deliver(gateway: &Workload, body: impl Into<Bytes>) -> Response<Bytes> {
    let form = Delivery::CONTENT_TYPE;
    gateway.post("/v1/control/records", form, body.into()).await
}

#[tokio::test]
async fn a_gateway_elsewhere_signs_people_in_and_draws_their_tokens() {
    let world = World::new().await;
    let gateway = world.gateway("gw2").await;
    let sign_in = json!({ "door": "web", "member": "user:dev/alice", "source_ip": "192.0.2.7" });
    let signed_in = document(&ask(&gateway, "sign-in", &sign_in).await);
    let cookie = signed_in["cookie"].as_str().unwrap();
    assert_eq!(cookie.len(), 43, "256 bits");
    let draw = json!({ "cookie": cookie, "door": "web", "service": "frontend" });
    let drawn = document(&ask(&gateway, "session-token", &draw).await);
    let token = claims(drawn["token"].as_str().unwrap());
    assert_eq!(token["sub"], "dev:alice");
    assert_eq!(
        token["client_id"],
        format!("spiffe://{DOMAIN}/countersign/gateway/gw2")
    );
    assert_eq!(token["sid"], drawn["sid"]);
    let elsewhere = json!({ "cookie": cookie, "door": "mesh", "service": "frontend" });
    let elsewhere = ask(&gateway, "session-token", &elsewhere).await;
    assert_eq!(
        (elsewhere.status().as_u16(), document(&elsewhere)),
        (409, json!("no-session"))
    );
    let unreachable = json!({ "cookie": cookie, "door": "web", "service": "archive" });
    let unreachable = ask(&gateway, "session-token", &unreachable).await;
    world.refused(&unreachable, Code::NO_EDGE).await;
    let out = json!({ "cookie": cookie });
    assert_eq!(ask(&gateway, "sign-out", &out).await.status(), 200);
    assert_eq!(ask(&gateway, "session-token", &draw).await.status(), 409);
    let stored = std::fs::read(world.folder.path().join("data/store.db")).unwrap();
    let wal = std::fs::read(world.folder.path().join("data/store.db-wal")).unwrap_or_default();
    let has = |bytes: &[u8]| {
        bytes
            .windows(cookie.len())
            .any(|it| it == cookie.as_bytes())
    };
    assert!(!has(&stored) && !has(&wal), "the cookie is kept nowhere");
}

#[tokio::test]
async fn a_workload_is_no_gateway() {
    let world = World::new().await;
    world.put("model", "sk-model").await;
    let (api, gateway) = (world.workload("hms-api").await, world.gateway("gw2").await);
    for (what, body) in [
        ("updates", json!({ "epoch": 0 })),
        (
            "sign-in",
            json!({ "door": "web", "member": "user:dev/alice" }),
        ),
        ("sign-out", json!({ "cookie": "x" })),
        ("credential", json!({ "secret": "model" })),
        ("key", json!({ "jwk": {} })),
        ("nothing", json!({})),
    ] {
        let refused = ask(&api, what, &body).await;
        world.refused(&refused, Code::TOKEN_ABSENT).await;
    }
    let refused = deliver(&api, "{\"first\":0,\"node\":\"hms-api\"}\n").await;
    world.refused(&refused, Code::SUBJECT_MISMATCH).await;
    let credential = document(&ask(&gateway, "credential", &json!({ "secret": "model" })).await);
    assert_eq!(credential, json!({ "value": "sk-model", "version": 1 }));
    let other = ask(
        &gateway,
        "credential",
        &json!({ "secret": "openai_primary" }),
    )
    .await;
    world.refused(&other, Code::NO_EDGE).await;
    let unread = ask(&gateway, "sign-in", &json!({ "door": 7 })).await;
    world.refused(&unread, Code::BODY_UNREADABLE).await;
    let foreign = deliver(&gateway, "{\"first\":0,\"node\":\"n1\"}\n").await;
    world.refused(&foreign, Code::SUBJECT_MISMATCH).await;
    let gap = deliver(&gateway, "{\"first\":7,\"node\":\"gw2\"}\n{}\n").await;
    let error: ControlError = serde_json::from_slice(gap.body()).unwrap();
    assert_eq!(error, ControlError::OutOfOrder { wanted: 0 });
}

#[tokio::test]
async fn an_assertion_key_is_its_gateways() {
    let world = World::new().await;
    let plane = world.plane().await;
    let key = SigningKey::generate(KeyAlgorithm::EdDsa).unwrap();
    let mut set = KeySet::empty(1);
    let other = format!("spiffe://{DOMAIN}/countersign/gateway/other");
    set.add_owned(
        &key,
        countersign_core::vocabulary::SpiffeId::parse(&other).unwrap(),
    );
    plane
        .publish_key(set.to_jwks()["keys"][0].clone())
        .await
        .unwrap();
    let api = world.workload("hms-api").await;
    let published = document(&api.get("/.well-known/countersign-assertion-keys").await);
    assert_eq!(published["keys"][0]["kid"], key.kid());
    let own = format!("spiffe://{DOMAIN}/countersign/gateway/gw");
    assert_eq!(
        published["keys"][0]["spiffe_id"], own,
        "whatever it says it is"
    );
    let tokens = document(&api.get("/oauth2/jwks").await);
    assert!(
        !tokens.to_string().contains(key.kid()),
        "no key for two purposes"
    );
    let nothing = plane
        .publish_key(json!({ "kty": "oct", "k": "AA", "kid": "x" }))
        .await;
    assert!(matches!(
        nothing,
        Err(ControlError::Refused {
            code: Code::BODY_UNREADABLE,
            ..
        })
    ));
}

#[tokio::test]
async fn a_gateway_publishes_its_own_key_under_its_own_name() {
    let world = World::new().await;
    let plane = world.plane().await;
    let jwk = |algorithm| {
        let mut set = KeySet::empty(1);
        set.add(&SigningKey::generate(algorithm).unwrap());
        set.to_jwks()["keys"][0].clone()
    };
    let key = jwk(KeyAlgorithm::EdDsa);
    let mut renamed = jwk(KeyAlgorithm::EdDsa);
    renamed["kid"] = key["kid"].clone();
    let refusal = async |jwk: &Value| match plane.publish_key(jwk.clone()).await {
        Err(ControlError::Refused { code, .. }) => code,
        other => panic!("{other:?}"),
    };
    assert_eq!(refusal(&renamed).await, Code::BODY_UNREADABLE);
    assert_eq!(
        refusal(&jwk(KeyAlgorithm::Es256)).await,
        Code::BODY_UNREADABLE
    );
    plane.publish_key(key.clone()).await.unwrap();
    plane.publish_key(key.clone()).await.unwrap();
    let gateway = world.gateway("gw2").await;
    let copied = ask(&gateway, "key", &json!({ "jwk": key })).await;
    world.refused(&copied, Code::SUBJECT_MISMATCH).await;
    let mut decorated = jwk(KeyAlgorithm::EdDsa);
    decorated["x5u"] = "https://elsewhere.example".into();
    let published = ask(&gateway, "key", &json!({ "jwk": decorated })).await;
    assert_eq!(published.status(), 200);
    let keys = document(&gateway.get("/.well-known/countersign-assertion-keys").await);
    assert_eq!(keys["keys"].as_array().unwrap().len(), 2);
    assert!(!keys.to_string().contains("x5u"), "written anew: {keys}");
}

#[tokio::test]
async fn a_workload_learns_nothing_about_sessions() {
    let world = World::new().await;
    let (api, gateway) = (world.workload("hms-api").await, world.gateway("gw2").await);
    let sign_in = json!({ "door": "web", "member": "user:dev/alice" });
    let cookie = document(&ask(&gateway, "sign-in", &sign_in).await)["cookie"].clone();
    for cookie in [cookie, "x".repeat(43).into()] {
        let draw = json!({ "cookie": cookie, "door": "web", "service": "frontend" });
        let refused = ask(&api, "session-token", &draw).await;
        world.refused(&refused, Code::SUBJECT_MISMATCH).await;
    }
    let absent = json!({ "cookie": "x".repeat(43), "door": "web", "service": "frontend" });
    assert_eq!(ask(&gateway, "session-token", &absent).await.status(), 409);
    world.server.audit().advance().await.unwrap();
    let search = countersign_server::store::Search {
        code: Some(Code::SESSION_ABSENT.to_string()),
        ..Default::default()
    };
    let records = world.server.audit().search(&search).await.unwrap();
    assert_eq!(records.len(), 1, "decided and recorded");
}

#[tokio::test]
async fn a_large_body_is_read_for_gateways_only() {
    let world = World::new().await;
    let (api, gateway) = (world.workload("hms-api").await, world.gateway("gw2").await);
    let large = "{\"first\":0,\"node\":\"hms-api\"}\n".to_owned();
    let large = large + &("x".repeat(60_000) + "\n").repeat(3);
    let refused = deliver(&api, large.clone()).await;
    let receipt = world.refused(&refused, Code::TOKEN_ABSENT).await;
    let record = world.record(receipt).await.unwrap();
    assert_eq!(
        record["hop"]["facts"]["fault"]["code"],
        Code::BODY_UNREADABLE.to_string()
    );
    assert_eq!(
        record["hop"]["facts"]["fault"]["detail"],
        "the body is too large"
    );
    let heard = deliver(&gateway, large).await;
    world.refused(&heard, Code::SUBJECT_MISMATCH).await;
}

#[tokio::test]
async fn what_is_no_delivery_is_refused_and_the_record_says_why() {
    let world = World::new().await;
    let gateway = world.gateway("gw2").await;
    let first = "{\"first\":0,\"node\":\"gw2\"}\n";
    let json = json!({ "first": 0, "leaves": ["{}"], "node": "gw2" }).to_string();
    let after = |rest: &[u8]| [first.as_bytes(), rest].concat();
    for (body, why) in [
        (json.clone().into_bytes(), DeliveryError::Header),
        ((json + "\n").into_bytes(), DeliveryError::Header),
        (Vec::new(), DeliveryError::Header),
        (b"{}\n".to_vec(), DeliveryError::Header),
        (after(b"{}\n\n{}\n"), DeliveryError::Empty(2)),
        (after(b"{}\n{}"), DeliveryError::Unended),
        (after(b"\"\xff\"\n"), DeliveryError::NotUtf8),
        (
            after(&b"{}\n".repeat(Delivery::LEAVES + 1)),
            DeliveryError::TooMany,
        ),
        (
            after(&[&[b'x'; 65_536][..], b"\n"].concat()),
            DeliveryError::TooLong(1),
        ),
    ] {
        let refused = deliver(&gateway, body).await;
        let receipt = world.refused(&refused, Code::BODY_UNREADABLE).await;
        let record = world.record(receipt).await.unwrap();
        assert_eq!(
            record["hop"]["facts"]["fault"]["detail"],
            format!("the body is no delivery: {why}")
        );
    }
    // Lines that the log is asked about, and which it does not take.
    let none = deliver(&gateway, after(b"{}\n")).await;
    assert_eq!(none.status(), 503);
    let nothing = deliver(&gateway, first).await;
    assert_eq!(document(&nothing)["next"], 0);
}

#[tokio::test]
async fn an_injected_secret_is_read_as_the_gateway() {
    let world = World::new().await;
    world.put("model", "sk-model").await;
    let plane = world.plane().await;
    let secret = plane.credential(Name::new("model").unwrap()).await.unwrap();
    assert_eq!(
        (secret.value.expose_secret(), secret.version),
        ("sk-model", 1)
    );
    world.server.audit().advance().await.unwrap();
    let search = countersign_server::store::Search {
        service: Some("vault".to_owned()),
        kind: Some("decision".to_owned()),
        ..Default::default()
    };
    let records = world.server.audit().search(&search).await.unwrap();
    let record = &records.last().unwrap().record;
    assert_eq!(record["action"], "inject");
    assert_eq!(
        record["principal"]["id"],
        format!("spiffe://{DOMAIN}/countersign/gateway/gw")
    );
    assert_eq!(
        record["hop"]["evidence"]["tls"]["established"]["version"],
        "1.3"
    );
}

/// The stream of updates, as it comes over the wire.
async fn updates_of(world: &World, gateway: &Workload) -> Incoming {
    let deadline = Instant::now() + Duration::from_secs(60);
    let server = Expected::Process("server");
    let connector = Connector::mutual(gateway.svid.clone(), world.roots(), server).unwrap();
    let stream = Dialer.connect(&world.target(), deadline).await.unwrap();
    let (stream, _) = connector
        .connect(stream, "localhost", deadline)
        .await
        .unwrap();
    let io = TokioIo::new(stream);
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let nonce = "5a".repeat(32);
    let request = Request::post("https://localhost/v1/control/updates");
    let request = request
        .body(Full::new(Bytes::from(format!(
            "{{\"epoch\":0,\"nonce\":\"{nonce}\"}}"
        ))))
        .unwrap();
    sender.send_request(request).await.unwrap().into_body()
}

#[tokio::test]
async fn updates_come_as_lines_until_the_gateway_is_revoked() {
    let world = World::new().await;
    let gateway = world.gateway("gw2").await;
    let mut body = updates_of(&world, &gateway).await;
    let mut text = Vec::new();
    let mut updates = Vec::new();
    let revoked = Revoked::Identity(gateway.svid.current().spiffe_id().clone());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map(|frame| frame.into_data().unwrap_or_default()) else {
            break;
        };
        text.extend_from_slice(&data);
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            updates.push(serde_json::from_slice::<Update>(&line).unwrap());
        }
        if updates.len() == 5 {
            let what = revoked.clone();
            world
                .operator
                .revoke(Revoke { lift: false, what })
                .await
                .unwrap();
        }
        assert!(
            updates.len() < 20,
            "the stream goes on after the revocation"
        );
    }
    // The log's growth comes in between as it likes.
    updates.retain(|update| !matches!(update, Update::Checkpoint(_)));
    assert!(matches!(updates[0], Update::Keys(_)));
    let Update::Snapshot(snapshot) = &updates[2] else {
        panic!("{:?}", updates[2])
    };
    assert_eq!((snapshot.epoch, snapshot.serial), (0, 1));
    // Its own part, and no more: this one has every listener.
    assert!(
        snapshot
            .bundle
            .contains("\"projection\":{\"gateway\":\"gw2\"")
    );
    assert!(!snapshot.bundle.contains("alice opens the page"));
    let Update::SignedHeartbeat(beat) = &updates[3] else {
        panic!("{:?}", updates[3])
    };
    assert_eq!((beat.number, beat.serial), (1, 1));
}

#[tokio::test]
async fn a_handshake_that_fails_is_decided_and_recorded() {
    let world = World::new().await;
    let stranger = Pki::new(DOMAIN);
    for (defect, name) in [(Defect::None, "hms-api"), (Defect::NoName, "x")] {
        let svid = stranger.issue_with(name, defect);
        let svid = if defect == Defect::None {
            svid.svid()
        } else {
            stranger.svid("y")
        };
        let client = world.client(&SvidSource::new(svid));
        let limits = countersign_net::http::Limits {
            body: 100,
            time: Duration::from_secs(60),
        };
        let request = Request::get("/livez").body(Bytes::new()).unwrap();
        assert!(client.request(request, limits).await.is_err());
    }
    let search = countersign_server::store::Search {
        code: Some(Code::CERTIFICATE_UNTRUSTED.to_string()),
        ..Default::default()
    };
    let mut records = Vec::new();
    for _ in 0..1200 {
        world.server.audit().advance().await.unwrap();
        records = world.server.audit().search(&search).await.unwrap();
        if records.len() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(records.len(), 2);
    let record = &records[0].record;
    assert_eq!(
        (&record["pillar"], &record["status"]),
        (&json!("identity"), &json!("denied"))
    );
    assert_eq!(record["source_ip"], "127.0.0.1");
    assert!(record["principal"]["cert_sha256"].is_string());
}
