use crate::support::DOMAIN;
use crate::support::Workload;
use crate::support::World;
use crate::support::claims;
use countersign_core::snapshot::Revoked;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Name;
use countersign_gateway::remote;
use countersign_gateway::remote::RemotePlane;
use countersign_net::KeyAlgorithm;
use countersign_net::KeySet;
use countersign_net::SigningKey;
use countersign_wire::admin::Join;
use countersign_wire::admin::Revoke;
use countersign_wire::control::ControlError;
use countersign_wire::control::ControlPlane;
use countersign_wire::control::Delivery;
use countersign_wire::control::Known;
use countersign_wire::control::SessionTokenRequest;
use countersign_wire::control::SignIn;
use countersign_wire::control::Update;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use secrecy::ExposeSecret as _;
use std::time::Duration;

/// A gateway that joined with what the server told its operator.
async fn joined(world: &World) -> (RemotePlane, Workload) {
    let told = serde_json::to_value(world.operator.join().await.unwrap()).unwrap();
    let join: Join = serde_json::from_value(told).unwrap();
    assert_eq!(
        remote::snapshot_key(&join).unwrap(),
        world.server.snapshot_key()
    );
    let gateway = world.gateway("gw2").await;
    (
        RemotePlane::new(&join, gateway.svid.clone()).unwrap(),
        gateway,
    )
}

async fn next(updates: &mut BoxStream<'static, Update>, wanted: fn(&Update) -> bool) -> Update {
    let wanted = async {
        loop {
            let update = updates.next().await.unwrap();
            if wanted(&update) {
                return update;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wanted)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_joined_gateway_does_what_a_local_one_does() {
    let world = World::new().await;
    world.put("model", "sk-model").await;
    let (plane, _) = joined(&world).await;
    let door = Name::new("web").unwrap();
    let request = |member: &str| SignIn {
        door: door.clone(),
        member: member.to_owned(),
        source_ip: None,
    };
    let cookie = plane
        .sign_in(request("user:dev/alice"))
        .await
        .unwrap()
        .cookie;
    let service = Name::new("frontend").unwrap();
    let draw = || SessionTokenRequest {
        cookie: cookie.clone(),
        door: door.clone(),
        service: service.clone(),
    };
    let drawn = plane.session_token(draw()).await.unwrap();
    let token = claims(drawn.token.expose_secret());
    assert_eq!(
        token["client_id"],
        format!("spiffe://{DOMAIN}/countersign/gateway/gw2")
    );
    let secret = plane.credential(Name::new("model").unwrap()).await.unwrap();
    assert_eq!(
        (secret.value.expose_secret(), secret.version),
        ("sk-model", 1)
    );
    let nobody = plane
        .sign_in(request("user:dev/mallory"))
        .await
        .unwrap_err();
    let ControlError::Refused { code, receipt } = nobody else {
        panic!("{nobody:?}")
    };
    assert_eq!(code, Code::IDENTITY_UNKNOWN);
    assert_eq!(
        world.record(receipt.unwrap()).await.unwrap()["code"],
        code.to_string()
    );
    plane.sign_out(cookie.clone()).await.unwrap();
    assert_eq!(
        plane.session_token(draw()).await.unwrap_err(),
        ControlError::NoSession
    );
}

#[tokio::test]
async fn it_delivers_its_records_and_its_key() {
    let world = World::new().await;
    let (plane, _) = joined(&world).await;
    let node = Name::new("gw2").unwrap();
    let gap = Delivery {
        first: 3,
        leaves: vec!["{}".into()],
        node,
    };
    assert_eq!(
        plane.deliver(gap).await,
        Err(ControlError::OutOfOrder { wanted: 0 })
    );
    let key = SigningKey::generate(KeyAlgorithm::EdDsa).unwrap();
    let mut set = KeySet::empty(1);
    set.add(&key);
    plane
        .publish_key(set.to_jwks()["keys"][0].clone())
        .await
        .unwrap();
}

#[tokio::test]
async fn updates_go_on_where_they_were_cut() {
    let world = World::new().await;
    let (plane, gateway) = joined(&world).await;
    let mut updates = plane.updates(Known::default());
    let beat = |update: &Update| matches!(update, Update::Heartbeat(_));
    let lines = |update: &Update| matches!(update, Update::Revocations(_));
    next(&mut updates, |update| matches!(update, Update::Snapshot(_))).await;
    next(&mut updates, beat).await;
    let own = Revoked::Certificate(gateway.svid.current().leaf());
    let revoke = async |what: Revoked, lift| {
        world.operator.revoke(Revoke { lift, what }).await.unwrap();
    };
    revoke(own.clone(), false).await;
    revoke(Revoked::Token("while-away".to_owned()), false).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    revoke(own, true).await;
    let mut epochs = Vec::new();
    while epochs.last() != Some(&3) {
        let Update::Revocations(lines) = next(&mut updates, lines).await else {
            panic!("not what was waited for")
        };
        epochs.extend(lines.iter().map(|line| line.epoch));
    }
    assert_eq!(epochs, [1, 2, 3], "none is missed and none comes twice");
    next(&mut updates, beat).await;
}
