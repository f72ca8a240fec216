use crate::support::CONFIG;
use crate::support::World;
use crate::support::options;
use countersign_core::snapshot::Revoked;
use countersign_core::vocabulary::Code;
use countersign_enforce::SystemClock;
use countersign_server::Server;
use countersign_server::ServerError;
use countersign_wire::admin::Revoke;
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
