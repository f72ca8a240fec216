use crate::support::ACCESS_TOKEN;
use crate::support::CONFIG;
use crate::support::DOMAIN;
use crate::support::EXCHANGE;
use crate::support::World;
use crate::support::access_token;
use crate::support::claims;
use crate::support::document;
use crate::support::part;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Name;
use countersign_server::admin::Reload;
use countersign_testkit::tokens::Signature;
use countersign_testkit::tokens::forge;
use countersign_wire::control::SessionTokenRequest;
use countersign_wire::control::SignIn;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// A token of a person, as a gateway draws it for a service behind door `web`.
async fn drawn(world: &World, member: &str, service: &str) -> String {
    use secrecy::ExposeSecret as _;
    let plane = world.plane().await;
    let door = Name::new("web").unwrap();
    let sign_in = SignIn {
        door: door.clone(),
        member: member.to_owned(),
        source_ip: None,
    };
    let cookie = plane.sign_in(sign_in).await.unwrap().cookie;
    let service = Name::new(service).unwrap();
    let token = plane
        .session_token(SessionTokenRequest {
            cookie,
            door,
            service,
        })
        .await
        .unwrap();
    token.token.expose_secret().to_owned()
}

#[tokio::test]
async fn a_workload_gets_a_token_bound_to_its_certificate() {
    use base64::Engine as _;
    let world = World::new().await;
    let api = world.workload("hms-api").await;
    let response = api.ask_token("vault").await;
    let body = document(&response);
    assert_eq!(
        (&body["scope"], &body["expires_in"]),
        (&json!("ai:key:read"), &json!(60))
    );
    assert!(body.get("issued_token_type").is_none() && body.get("refresh_token").is_none());
    let token = access_token(&response);
    assert_eq!(part(&token, 0)["typ"], "at+jwt");
    assert_eq!(part(&token, 0)["alg"], "ES256");
    let claims = claims(&token);
    let id = format!("spiffe://{DOMAIN}/hms-api");
    assert_eq!(claims["sub"], id);
    assert_eq!(claims["client_id"], id);
    assert_eq!(claims["aud"], format!("https://{DOMAIN}/svc/vault"));
    assert_eq!(claims["iss"], format!("https://{DOMAIN}"));
    let leaf = api.svid.current().leaf();
    let bound = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(leaf.as_bytes());
    assert_eq!(claims["cnf"]["x5t#S256"], bound);
    assert_eq!(
        claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(),
        60
    );
    let jti = claims["jti"].as_str().unwrap();
    assert_eq!(jti.len(), 32, "128 bits");
    assert!(
        jti.bytes().all(|byte| byte.is_ascii_alphanumeric()),
        "no option of a command: {jti}"
    );
    assert!(claims.get("act").is_none());
    let again = crate::support::claims(&api.token("vault").await);
    assert_ne!(claims["jti"], again["jti"]);
    let receipt = response.headers()["countersign-receipt"]
        .to_str()
        .unwrap()
        .to_owned();
    let record = world.record(receipt).await.unwrap();
    assert_eq!(
        (&record["status"], &record["event_type"]),
        (&json!("success"), &json!("authn.token.issue"))
    );
}

/// Forms, the error of their answer, and the code of their record.
fn faulty() -> Vec<(String, &'static str, Code)> {
    let good = "grant_type=client_credentials&client_id=hms-api&audience=vault";
    let exchange = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange\
        &client_id=hms-api&audience=vault&subject_token=x&subject_token_type";
    let cases: [(&str, &'static str, Code); 12] = [
        ("", "invalid_request", Code::NO_EDGE),
        ("%zz", "invalid_request", Code::NO_EDGE),
        (
            "grant_type=client_credentials&client_id=hms-api",
            "invalid_request",
            Code::NO_EDGE,
        ),
        (
            "client_id=hms-api&audience=vault",
            "invalid_request",
            Code::BODY_UNREADABLE,
        ),
        (
            "grant_type=client_credentials&audience=vault",
            "invalid_request",
            Code::BODY_UNREADABLE,
        ),
        (
            "grant_type=password&client_id=hms-api&audience=vault",
            "unsupported_grant_type",
            Code::BODY_UNREADABLE,
        ),
        (
            &format!("{good}&client_id=hms-api"),
            "invalid_request",
            Code::BODY_UNREADABLE,
        ),
        (
            &format!("{good}&grant_type=password"),
            "invalid_request",
            Code::BODY_UNREADABLE,
        ),
        (
            &format!("{good}&resource=openai"),
            "invalid_target",
            Code::NO_EDGE,
        ),
        (
            &format!("{good}&scope=a&scope=b"),
            "invalid_request",
            Code::BODY_UNREADABLE,
        ),
        (
            &format!("{good}&scope=%22"),
            "invalid_scope",
            Code::BODY_UNREADABLE,
        ),
        (
            &format!("{exchange}=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Ajwt"),
            "invalid_request",
            Code::CREDENTIAL_STATIC,
        ),
    ];
    cases
        .map(|(body, error, code)| (body.to_owned(), error, code))
        .to_vec()
}

#[tokio::test]
async fn what_a_form_lacks_is_refused_and_recorded() {
    let world = World::new().await;
    let api = world.workload("hms-api").await;
    for (body, error, code) in faulty() {
        let of = "application/x-www-form-urlencoded";
        let response = api.post("/oauth2/token", of, body.clone()).await;
        assert_eq!(document(&response)["error"], error, "{body}");
        assert_eq!(response.status(), 400, "{body}");
        world.refused(&response, code).await;
    }
}

#[tokio::test]
async fn a_body_of_another_type_or_size_is_refused() {
    let world = World::new().await;
    let api = world.workload("hms-api").await;
    let json = api
        .post("/oauth2/token", "application/json", "{}".to_owned())
        .await;
    world.refused(&json, Code::NO_EDGE).await;
    let large = format!("audience=vault&x={}", "y".repeat(70_000));
    let large = api
        .post("/oauth2/token", "application/x-www-form-urlencoded", large)
        .await;
    assert_eq!(large.status(), 413);
    world.refused(&large, Code::NO_EDGE).await;
}

#[tokio::test]
async fn who_asks_for_more_is_refused() {
    let world = World::new().await;
    let api = world.workload("hms-api").await;
    let worker = world.workload("stats-worker").await;
    let ask = async |service: &str, scope: &str, client: &str| {
        let fields = [
            ("grant_type", "client_credentials"),
            ("client_id", client),
            ("audience", service),
            ("scope", scope),
        ];
        api.form("/oauth2/token", &fields).await
    };
    let own = format!("spiffe://{DOMAIN}/hms-api");
    assert_eq!(ask("vault", "ai:key:read", &own).await.status(), 200);
    let url = format!("https://{DOMAIN}/svc/vault");
    assert_eq!(ask(&url, "", "hms-api").await.status(), 200);

    let other = ask("vault", "", "frontend").await;
    assert_eq!(
        (other.status().as_u16(), &document(&other)["error"]),
        (401, &json!("invalid_client"))
    );
    world.refused(&other, Code::IDENTITY_UNKNOWN).await;
    for service in ["archive", "nowhere", "https://elsewhere.example/svc/vault"] {
        let refused = ask(service, "", "hms-api").await;
        assert_eq!(document(&refused)["error"], "invalid_target", "{service}");
        world.refused(&refused, Code::NO_EDGE).await;
    }
    let more = ask("vault", "secret:write", "hms-api").await;
    assert_eq!(document(&more)["error"], "invalid_scope");
    world.refused(&more, Code::ROLE_LACKS).await;
    let worker = worker.ask_token("vault").await;
    let receipt = world.refused(&worker, Code::NO_EDGE).await;
    let explained = world.operator.explain(&receipt).await.unwrap();
    assert_eq!(
        explained.explanation.why.as_deref(),
        Some("no edge `stats-worker -> vault`")
    );
    assert!(
        explained
            .explanation
            .near
            .iter()
            .any(|near| near.rule.starts_with("hms-api -> vault"))
    );
    let replayed = world.operator.replay(&receipt).await.unwrap();
    assert!(replayed.same, "{replayed:?}");
}

#[tokio::test]
async fn delegation_narrows_at_every_hop() {
    let world = World::new().await;
    let (frontend, api) = (
        world.workload("frontend").await,
        world.workload("hms-api").await,
    );
    let first = drawn(&world, "user:dev/alice", "frontend").await;
    let one = claims(&first);
    assert_eq!(one["sub"], "dev:alice");
    assert_eq!(
        one["act"],
        json!({ "sub": format!("spiffe://{DOMAIN}/countersign/door/web") })
    );
    assert_eq!(
        (&one["scope"], &one["ceil"]),
        (&json!("report:read"), &json!("llm:chat report:read"))
    );

    let response = frontend.exchange(&first, "hms-api", "").await;
    assert_eq!(document(&response)["issued_token_type"], ACCESS_TOKEN);
    let second = access_token(&response);
    let two = claims(&second);
    assert_eq!(
        (&two["scope"], &two["ceil"]),
        (&json!("report:read"), &json!("llm:chat"))
    );
    assert_eq!(two["sub"], "dev:alice");
    assert_eq!(two["sid"], one["sid"]);

    let third = access_token(&api.exchange(&second, "openai", "llm:chat").await);
    let three = claims(&third);
    assert_eq!(three["scope"], "llm:chat");
    assert!(three.get("ceil").is_none(), "nothing lies beyond: {three}");
    let id = |name: &str| format!("spiffe://{DOMAIN}/{name}");
    let door = json!({ "sub": id("countersign/door/web") });
    let chain = json!({ "sub": id("hms-api"), "act": { "sub": id("frontend"), "act": door } });
    assert_eq!(three["act"], chain);
    assert_eq!(three["client_id"], id("hms-api"));
}

#[tokio::test]
async fn a_stolen_token_is_exchanged_by_nobody_else() {
    let world = World::new().await;
    let (frontend, api) = (
        world.workload("frontend").await,
        world.workload("hms-api").await,
    );
    let token = drawn(&world, "user:dev/alice", "frontend").await;
    let stolen = api.exchange(&token, "openai", "").await;
    world.refused(&stolen, Code::SUBJECT_MISMATCH).await;
    for (token, code) in [
        ("garbage".to_owned(), Code::CREDENTIAL_STATIC),
        ("a.b.c".to_owned(), Code::CREDENTIAL_STATIC),
        (format!("{token}x"), Code::TOKEN_MALFORMED),
        (
            forge(
                r#"{"alg":"none","kid":"k","typ":"at+jwt"}"#,
                "{}",
                Signature::Empty,
            ),
            Code::TOKEN_MALFORMED,
        ),
        (
            forge(
                r#"{"alg":"ES256","kid":"k","typ":"at+jwt"}"#,
                "{}",
                Signature::Bytes(&[1; 64]),
            ),
            Code::TOKEN_SIGNATURE,
        ),
        (
            forge(
                r#"{"alg":"ES256","kid":"k","typ":"JWT"}"#,
                "{}",
                Signature::Bytes(&[1; 64]),
            ),
            Code::TOKEN_AUDIENCE,
        ),
    ] {
        let refused = frontend.exchange(&token, "hms-api", "").await;
        assert_eq!(document(&refused)["error"], "invalid_request");
        world.refused(&refused, code).await;
    }
    let none = frontend.exchange("", "hms-api", "").await;
    world.refused(&none, Code::BODY_UNREADABLE).await;
    let actor = [
        ("grant_type", EXCHANGE),
        ("client_id", "frontend"),
        ("audience", "hms-api"),
        ("subject_token", &token),
        ("subject_token_type", ACCESS_TOKEN),
        ("actor_token", &token),
    ];
    world
        .refused(
            &frontend.form("/oauth2/token", &actor).await,
            Code::BODY_UNREADABLE,
        )
        .await;
}

#[tokio::test]
async fn a_good_token_leads_along_edges_and_in_time() {
    let world = World::new().await;
    let frontend = world.workload("frontend").await;
    let token = drawn(&world, "user:dev/alice", "frontend").await;
    let elsewhere = frontend.exchange(&token, "archive", "").await;
    world.refused(&elsewhere, Code::NO_EDGE).await;
    world.advance(Duration::from_secs(61));
    let late = frontend.exchange(&token, "hms-api", "").await;
    world.refused(&late, Code::TOKEN_TIME).await;
}

#[tokio::test]
async fn an_exchange_lives_no_longer_than_its_parent() {
    let world = World::new().await;
    let frontend = world.workload("frontend").await;
    let token = drawn(&world, "user:dev/alice", "frontend").await;
    world.advance(Duration::from_secs(40));
    let child = access_token(&frontend.exchange(&token, "hms-api", "").await);
    let (parent, child) = (claims(&token), claims(&child));
    assert_eq!(parent["exp"], child["exp"]);
    assert!(
        child["exp"].as_i64().unwrap() - child["iat"].as_i64().unwrap() <= 21,
        "{child}"
    );
}

/// A permission that the subject gained, over an edge that was added, after the token was drawn:
/// what it may hand on was settled when it was.
#[tokio::test]
async fn an_exchange_stays_below_the_ceiling() {
    let world = World::new().await;
    let (frontend, api) = (
        world.workload("frontend").await,
        world.workload("hms-api").await,
    );
    let first = drawn(&world, "user:dev/alice", "frontend").await;
    let token = access_token(&frontend.exchange(&first, "hms-api", "").await);
    let edge = "  hms-api -> openai: ";
    let more = CONFIG.replace(
        edge,
        &format!("  hms-api -> archive: [GET /archive/**]\n{edge}"),
    );
    let files = BTreeMap::from([("hms.yaml".to_owned(), more)]);
    let reload = Reload {
        dry_run: false,
        entry: "hms.yaml".to_owned(),
        files,
    };
    world.operator.reload(reload).await.unwrap();
    let above = api.exchange(&token, "archive", "report:archive").await;
    world.refused(&above, Code::ABOVE_CEILING).await;
    let unasked = claims(&access_token(&api.exchange(&token, "archive", "").await));
    assert!(unasked.get("scope").is_none(), "{unasked}");
    let first = drawn(&world, "user:dev/alice", "frontend").await;
    let token = access_token(&frontend.exchange(&first, "hms-api", "").await);
    let now = claims(&access_token(
        &api.exchange(&token, "archive", "report:archive").await,
    ));
    assert_eq!(now["scope"], "report:archive");
}

#[tokio::test]
async fn a_chain_has_eight_workloads() {
    let world = World::new().await;
    let mut token = world.workload("w1").await.token("w2").await;
    for hop in 2..=9 {
        let workload = world.workload(&format!("w{hop}")).await;
        token = access_token(
            &workload
                .exchange(&token, &format!("w{}", hop + 1), "")
                .await,
        );
    }
    let mut act = &claims(&token)["act"];
    let mut length = 0;
    while act.is_object() {
        length += 1;
        act = &act["act"];
    }
    assert_eq!(length, 8);
    let refused = world
        .workload("w10")
        .await
        .exchange(&token, "w11", "")
        .await;
    world.refused(&refused, Code::ABOVE_CEILING).await;
}

#[tokio::test]
async fn keys_rotate_and_no_token_is_refused() {
    let world = World::new().await;
    world.put("openai_primary", "sk-1").await;
    let api = world.workload("hms-api").await;
    let kids = async || -> Vec<String> {
        let set = document(&api.get("/oauth2/jwks").await);
        let keys = set["keys"].as_array().unwrap().clone();
        keys.iter()
            .map(|key| key["kid"].as_str().unwrap().to_owned())
            .collect()
    };
    let signed_by = |token: &str| part(token, 0)["kid"].as_str().unwrap().to_owned();
    let before = kids().await;
    let next = world.server.rotate_token_keys().await.unwrap();
    assert!(kids().await.contains(&next) && kids().await.contains(&before[0]));
    let waiting = api.token("vault").await;
    assert_eq!(
        signed_by(&waiting),
        before[0],
        "nobody has fetched the new key yet"
    );
    assert_eq!(api.read(&waiting, "openai_primary").await.status(), 200);
    world.advance(Duration::from_secs(301));
    let fresh = api.token("vault").await;
    assert_eq!(signed_by(&fresh), next);
    assert_eq!(api.read(&fresh, "openai_primary").await.status(), 200);
    assert!(
        kids().await.contains(&before[0]),
        "tokens it signed may still be shown"
    );
    let cached = api.get("/oauth2/jwks").await;
    assert_eq!(cached.headers()["cache-control"], "max-age=300");
}

#[tokio::test]
async fn documents_are_public_and_agree() {
    let world = World::new().await;
    let worker = world.workload("stats-worker").await;
    let openid = document(&worker.get("/.well-known/openid-configuration").await);
    let oauth = document(&worker.get("/.well-known/oauth-authorization-server").await);
    assert_eq!(openid, oauth);
    assert_eq!(openid["issuer"], format!("https://{DOMAIN}"));
    assert_eq!(
        openid["token_endpoint_auth_methods_supported"],
        json!(["tls_client_auth"])
    );
    let alias = format!("https://{}/oauth2/token", world.address);
    assert_eq!(openid["mtls_endpoint_aliases"]["token_endpoint"], alias);
    let bundle = document(&worker.get("/.well-known/spiffe-bundle").await);
    assert_eq!(bundle["keys"][0]["use"], "x509-svid");
    assert_eq!(bundle["keys"][0]["x5c"].as_array().unwrap().len(), 1);
    assert!(bundle["keys"][0].get("kid").is_none());
    assert_eq!(worker.get("/livez").await.status(), 200);
    for set in ["/oauth2/jwks", "/.well-known/countersign-assertion-keys"] {
        assert!(
            !worker
                .get(set)
                .await
                .body()
                .windows(3)
                .any(|it| it == b"\"d\""),
            "{set}"
        );
    }
    let nothing = worker.get("/oauth2/nothing").await;
    world.refused(&nothing, Code::NO_EDGE).await;
    let get = worker.get("/oauth2/token").await;
    world.refused(&get, Code::NO_EDGE).await;
}

#[tokio::test]
async fn introspection_tells_those_concerned() {
    let world = World::new().await;
    let (frontend, api) = (
        world.workload("frontend").await,
        world.workload("hms-api").await,
    );
    let first = drawn(&world, "user:dev/alice", "frontend").await;
    let token = access_token(&frontend.exchange(&first, "hms-api", "").await);
    let ask = async |token: &str| -> Value {
        let response = api.form("/oauth2/introspect", &[("token", token)]).await;
        assert_eq!(response.status(), 200);
        document(&response)
    };
    let active = ask(&token).await;
    assert_eq!(
        (&active["active"], &active["sub"]),
        (&json!(true), &json!("dev:alice"))
    );
    assert_eq!(active["cnf"], claims(&token)["cnf"]);
    let inactive = json!({ "active": false });
    assert_eq!(ask(&first).await, inactive, "it is for another workload");
    assert_eq!(ask("garbage").await, inactive);
    let fresh = drawn(&world, "user:dev/alice", "frontend").await;
    let fresh = access_token(&frontend.exchange(&fresh, "hms-api", "").await);
    let jti = claims(&fresh)["jti"].as_str().unwrap().to_owned();
    let what = countersign_core::snapshot::Revoked::Token(jti);
    world
        .operator
        .revoke(countersign_wire::admin::Revoke { lift: false, what })
        .await
        .unwrap();
    assert_eq!(ask(&fresh).await, inactive);
    assert_eq!(ask(&token).await["active"], true);
    world.advance(Duration::from_secs(61));
    assert_eq!(ask(&token).await, inactive);
    let stranger = frontend
        .form("/oauth2/introspect", &[("token", &token)])
        .await;
    world.refused(&stranger, Code::NO_EDGE).await;
    let empty = api.form("/oauth2/introspect", &[]).await;
    world.refused(&empty, Code::BODY_UNREADABLE).await;
}
