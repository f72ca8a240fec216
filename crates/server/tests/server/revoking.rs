use crate::support::DOMAIN;
use crate::support::World;
use crate::support::access_token;
use crate::support::claims;
use countersign_core::hop::Evidence;
use countersign_core::record::Context;
use countersign_core::snapshot::Revoked;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::SpiffeId;
use countersign_wire::admin::Revoke;
use countersign_wire::control::ControlError;
use countersign_wire::control::IssuerRequest;
use countersign_wire::control::Known;
use countersign_wire::control::SessionTokenRequest;
use countersign_wire::control::SignIn;
use countersign_wire::control::Update;
use futures_util::StreamExt as _;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

async fn revoke(world: &World, what: Revoked, lift: bool) -> u64 {
    let done = world.operator.revoke(Revoke { lift, what }).await.unwrap();
    done.revocation.epoch
}

fn root(world: &World) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(world.server.roots_pem().as_bytes()).unwrap()
}

/// SHA-256 of a certificate's public key.
fn key(der: &CertificateDer<'_>) -> Digest {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).unwrap();
    Digest::new(countersign_ledger::tree::sha256(
        certificate.public_key().raw,
    ))
}

#[tokio::test]
async fn each_kind_ends_the_next_read_and_can_be_lifted() {
    let world = World::new().await;
    world.put("openai_primary", "sk-1").await;
    let api = world.workload("hms-api").await;
    let id = SpiffeId::parse(&format!("spiffe://{DOMAIN}/hms-api")).unwrap();
    let token = api.token("vault").await;
    let jti = claims(&token)["jti"].as_str().unwrap().to_owned();
    let kinds = [
        (Revoked::Token(jti), Code::TOKEN_REVOKED),
        (
            // A workload that is revoked as a subject is revoked as whatever it comes as.
            Revoked::Subject(id.as_str().to_owned()),
            Code::CERTIFICATE_REVOKED,
        ),
        (
            Revoked::Certificate(api.svid.current().leaf()),
            Code::CERTIFICATE_REVOKED,
        ),
        (Revoked::Identity(id), Code::CERTIFICATE_REVOKED),
        // Whoever signed it, and whoever vouches for them.
        (
            Revoked::Issuer(key(&api.svid.current().credential().chain()[1])),
            Code::CERTIFICATE_REVOKED,
        ),
        (
            Revoked::Issuer(key(&root(&world))),
            Code::CERTIFICATE_REVOKED,
        ),
    ];
    for (epoch, (what, code)) in (1..).step_by(2).zip(kinds) {
        assert_eq!(api.read(&token, "openai_primary").await.status(), 200);
        assert_eq!(revoke(&world, what.clone(), false).await, epoch);
        let refused = api.read(&token, "openai_primary").await;
        let receipt = world.refused(&refused, code).await;
        let record = world.record(receipt.clone()).await.unwrap();
        assert_eq!(record["state"]["epoch"], epoch);
        assert!(world.operator.replay(&receipt).await.unwrap().same);
        revoke(&world, what, true).await;
    }
    assert_eq!(api.read(&token, "openai_primary").await.status(), 200);
}

#[tokio::test]
async fn a_revoked_client_gets_no_token_on_the_same_connection() {
    let world = World::new().await;
    let api = world.workload("hms-api").await;
    assert_eq!(api.ask_token("vault").await.status(), 200);
    revoke(
        &world,
        Revoked::Certificate(api.svid.current().leaf()),
        false,
    )
    .await;
    let refused = api.ask_token("vault").await;
    assert_eq!(refused.status(), 401);
    world.refused(&refused, Code::CERTIFICATE_REVOKED).await;
}

#[tokio::test]
async fn ones_own_token_is_revoked_by_right() {
    let world = World::new().await;
    world.put("openai_primary", "sk-1").await;
    let (api, worker) = (
        world.workload("hms-api").await,
        world.workload("stats-worker").await,
    );
    let token = api.token("vault").await;
    let stranger = worker.form("/oauth2/revoke", &[("token", &token)]).await;
    world.refused(&stranger, Code::NO_EDGE).await;
    assert_eq!(api.read(&token, "openai_primary").await.status(), 200);
    let fields = [
        ("token", token.as_str()),
        ("token_type_hint", "access_token"),
    ];
    let done = api.form("/oauth2/revoke", &fields).await;
    assert_eq!((done.status().as_u16(), done.body().len()), (200, 0));
    world
        .refused(
            &api.read(&token, "openai_primary").await,
            Code::TOKEN_REVOKED,
        )
        .await;
    let unknown = api.form("/oauth2/revoke", &[("token", "garbage")]).await;
    assert_eq!(unknown.status(), 200);
    let twice = api
        .form("/oauth2/revoke", &[("token", "a"), ("token", "b")])
        .await;
    world.refused(&twice, Code::BODY_UNREADABLE).await;
}

#[tokio::test]
async fn a_token_is_nobodys_own() {
    let world = World::new().await;
    world.put("openai_primary", "sk-1").await;
    let api = world.workload("hms-api").await;
    let token = api.token("vault").await;
    let door = Name::new("web").unwrap();
    let plane = world.plane().await;
    let form = format!("token={token}");
    let request = IssuerRequest {
        body: form.as_bytes(),
        chain: &[],
        context: Context::default(),
        door: &door,
        evidence: Evidence::none(),
        method: "POST",
        path: "/oauth2/revoke",
    };
    let answer = plane.issuer(request).unwrap().await.unwrap();
    assert_ne!(answer.status, 200);
    let mut headers = answer.headers.iter();
    let receipt = headers.find(|(name, _)| *name == "countersign-receipt");
    let record = world.record(receipt.unwrap().1.clone()).await.unwrap();
    assert_eq!(record["action"], "revoke");
    assert_eq!(record["resource"]["id"], "issuer/token", "{record}");
    assert_eq!(api.read(&token, "openai_primary").await.status(), 200);
}

fn text(secret: &secrecy::SecretString) -> String {
    use secrecy::ExposeSecret as _;
    secret.expose_secret().to_owned()
}

#[tokio::test]
async fn sessions_and_people_end_everywhere() {
    let world = World::new().await;
    let plane = world.plane().await;
    let frontend = world.workload("frontend").await;
    let door = Name::new("web").unwrap();
    let service = Name::new("frontend").unwrap();
    let sign_in = async |member: &str| {
        let request = SignIn {
            door: door.clone(),
            member: member.to_owned(),
            source_ip: None,
        };
        plane.sign_in(request).await
    };
    let draw = async |cookie: secrecy::SecretString| {
        let (door, service) = (door.clone(), service.clone());
        plane
            .session_token(SessionTokenRequest {
                cookie,
                door,
                service,
            })
            .await
    };
    let nobody = sign_in("user:dev/mallory").await.unwrap_err();
    let ControlError::Refused { code, receipt } = nobody else {
        panic!("{nobody:?}")
    };
    assert_eq!(code, Code::IDENTITY_UNKNOWN);
    assert!(world.record(receipt.unwrap()).await.is_some());

    let alice = sign_in("user:dev/alice").await.unwrap().cookie;
    let drawn = draw(alice.clone()).await.unwrap();
    revoke(&world, Revoked::Session(drawn.sid), false).await;
    let refused = draw(alice.clone()).await.unwrap_err();
    assert!(matches!(
        refused,
        ControlError::Refused {
            code: Code::SESSION_REVOKED,
            ..
        }
    ));
    let token = text(&drawn.token);
    let exchange = frontend.exchange(&token, "hms-api", "").await;
    world.refused(&exchange, Code::SESSION_REVOKED).await;

    let again = sign_in("user:dev/alice").await.unwrap().cookie;
    let fresh = draw(again.clone()).await.unwrap();
    assert_ne!(fresh.sid, drawn.sid, "a new session has a new id");
    let token = text(&fresh.token);
    access_token(&frontend.exchange(&token, "hms-api", "").await);
    revoke(&world, Revoked::Subject("dev:alice".to_owned()), false).await;
    let exchange = frontend.exchange(&token, "hms-api", "").await;
    world.refused(&exchange, Code::SUBJECT_REVOKED).await;

    plane.sign_out(again.clone()).await.unwrap();
    assert_eq!(draw(again).await.unwrap_err(), ControlError::NoSession);
    let unknown = secrecy::SecretString::from("x".repeat(43));
    assert_eq!(draw(unknown).await.unwrap_err(), ControlError::NoSession);
}

#[tokio::test]
async fn signing_out_ends_the_tokens_that_are_out() {
    let world = World::new().await;
    let plane = world.plane().await;
    let frontend = world.workload("frontend").await;
    let (door, service) = (Name::new("web").unwrap(), Name::new("frontend").unwrap());
    let request = SignIn {
        door: door.clone(),
        member: "user:dev/alice".to_owned(),
        source_ip: None,
    };
    let cookie = plane.sign_in(request).await.unwrap().cookie;
    let draw = SessionTokenRequest {
        cookie: cookie.clone(),
        door,
        service,
    };
    let drawn = plane.session_token(draw).await.unwrap();
    let token = text(&drawn.token);
    access_token(&frontend.exchange(&token, "hms-api", "").await);
    plane.sign_out(cookie.clone()).await.unwrap();
    assert!(
        world
            .server
            .point()
            .state()
            .revocations
            .session(&drawn.sid)
            .is_some()
    );
    let exchange = frontend.exchange(&token, "hms-api", "").await;
    world.refused(&exchange, Code::SESSION_REVOKED).await;
    plane.sign_out(cookie).await.unwrap();
    assert_eq!(
        world.server.point().state().revocations.epoch(),
        1,
        "once is enough"
    );
}

#[tokio::test]
async fn gateways_of_this_process_are_told_at_once() {
    let world = World::new().await;
    let plane = world.plane().await;
    let mut updates = plane.updates(Known::default());
    while !matches!(updates.next().await.unwrap(), Update::Heartbeat(_)) {}
    revoke(&world, Revoked::Token("t".to_owned()), false).await;
    let told = async {
        loop {
            if let Update::Revocations(lines) = updates.next().await.unwrap() {
                return lines;
            }
        }
    };
    let lines = tokio::time::timeout(std::time::Duration::from_secs(60), told)
        .await
        .unwrap();
    assert_eq!(lines[0].what, Revoked::Token("t".to_owned()));
}
