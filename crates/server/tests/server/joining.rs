//! Join tokens at the server's own door for them.

use crate::support::DOMAIN;
use crate::support::World;
use countersign_core::vocabulary::Code;
use countersign_gateway::ApartError;
use countersign_gateway::join;
use countersign_server::admin::AdminError;
use countersign_server::store::Search;
use countersign_wire::admin::IssueIdentity;
use countersign_wire::join::JoinToken;
use countersign_wire::join::MintJoin;
use secrecy::ExposeSecret as _;
use std::net::SocketAddr;
use std::time::Duration;

async fn minted(world: &World, gateway: &str) -> JoinToken {
    let request = MintJoin {
        gateway: gateway.to_owned(),
        listeners: vec!["mesh".to_owned()],
    };
    let minted = world.operator.mint_join(&request).await.unwrap();
    JoinToken::from_text(minted.token.expose_secret()).unwrap()
}

async fn world() -> World {
    let world = World::new().await;
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    world.server.open_join(any).await.unwrap();
    world
}

async fn refusal(world: &World, joined: Result<(), ApartError>) -> Code {
    let Err(ApartError::Refused { code, receipt }) = joined else {
        panic!("{joined:?}")
    };
    let record = world.record(receipt.unwrap()).await.unwrap();
    assert_eq!(record["code"], code.to_string());
    assert_eq!(record["event_type"], "authn.cert.issue");
    code
}

#[tokio::test]
async fn a_token_is_used_once_by_however_many_try_at_once() {
    let world = world().await;
    let token = minted(&world, "gw7").await;
    assert_eq!(token.trust_domain, DOMAIN);
    let folders: Vec<_> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
    let attempts = folders
        .iter()
        .map(|folder| join(folder.path(), &token, None));
    let outcomes = futures_util::future::join_all(attempts).await;
    let good = outcomes.iter().filter(|it| it.is_ok()).count();
    assert_eq!(good, 1, "{outcomes:?}");
    for refused in outcomes.into_iter().filter(Result::is_err) {
        assert_eq!(refusal(&world, refused).await, Code::REPLAYED);
    }
}

#[tokio::test]
async fn a_token_ends_by_itself() {
    let world = world().await;
    let token = minted(&world, "gw7").await;
    world.advance(Duration::from_secs(601));
    let folder = tempfile::tempdir().unwrap();
    let late = join(folder.path(), &token, None).await;
    assert_eq!(refusal(&world, late).await, Code::TOKEN_TIME);
    assert!(!countersign_gateway::is_joined(folder.path()));
}

#[tokio::test]
async fn what_nobody_minted_is_no_token_and_what_nobody_serves_is_not_minted() {
    let world = world().await;
    let mut token = minted(&world, "gw7").await;
    token.secret = "guessed".to_owned().into();
    let folder = tempfile::tempdir().unwrap();
    let guessed = join(folder.path(), &token, None).await;
    assert_eq!(refusal(&world, guessed).await, Code::TOKEN_SIGNATURE);
    for (gateway, listener) in [("gw7", "nowhere"), ("Not A Name", "mesh"), ("n1", "mesh")] {
        let request = MintJoin {
            gateway: gateway.to_owned(),
            listeners: vec![listener.to_owned()],
        };
        let refused = world.operator.mint_join(&request).await;
        assert!(
            matches!(refused, Err(AdminError::Invalid(_))),
            "{refused:?}"
        );
    }
}

/// Records are told apart by the name of the node that wrote them.
#[tokio::test]
async fn no_gateway_is_made_under_the_name_of_the_server_s_own_node() {
    let world = world().await;
    let own = world.server.point().spool().node().to_owned();
    let request = MintJoin {
        gateway: own.clone(),
        listeners: Vec::new(),
    };
    let minted = world.operator.mint_join(&request).await.unwrap_err();
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    let request = IssueIdentity {
        csr: params.serialize_request(&key).unwrap().pem().unwrap(),
        gateway: true,
        name: own.clone(),
    };
    let issued = world.operator.issue_identity(&request).await.unwrap_err();
    for refused in [minted, issued] {
        assert!(matches!(refused, AdminError::Invalid(_)), "{refused:?}");
        let told = format!("`{own}` is this server's own node: a gateway needs another name");
        assert_eq!(refused.to_string(), told);
    }
    world.server.audit().advance().await.unwrap();
    let search = Search {
        event_type: Some("gateway.join.mint".to_owned()),
        ..Search::default()
    };
    let minted = world.server.audit().search(&search).await.unwrap();
    assert!(minted.is_empty(), "{minted:?}");
}
