//! Calling: what travels, what comes back, and who is believed.

use crate::support::setup;
use crate::support::setup_with;
use countersign_client::CallError;
use countersign_client::Client;
use countersign_client::SetupError;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Pillar;
use serde_json::json;

const NOTHING: Option<&str> = None;

#[tokio::test]
async fn a_call_draws_a_token_for_one_service_and_permission_and_reuses_it() {
    let it = setup().await;
    it.server.grant("t1");
    it.mesh.say(
        200,
        &[("countersign-receipt", "r-1")],
        r#"{"summary":"well"}"#,
    );
    it.mesh.say(500, &[], "broken");
    let payload = json!({ "prompt": "Summarize" });
    let call = || {
        it.client
            .secure_call("hms-api/ai/summary?x=1", "POST", Some(&payload), "ai:go")
    };
    let response = call().await.unwrap();
    assert_eq!(
        response.json::<serde_json::Value>().unwrap()["summary"],
        "well"
    );
    assert_eq!(response.receipt(), Some("r-1"));
    // A failure of the service is an answer, not a refusal.
    assert_eq!(call().await.unwrap().status(), 500);

    let asked = it.server.seen();
    assert_eq!(asked.len(), 1, "the token was not reused");
    assert_eq!(asked[0].line, "POST /oauth2/token");
    let form = "grant_type=client_credentials\
        &client_id=spiffe%3A%2F%2Facme.internal%2Fhms-api&audience=hms-api&scope=ai%3Ago";
    assert_eq!(asked[0].body, form);
    let sent = it.mesh.seen();
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[0].line, "POST /ai/summary?x=1");
    assert_eq!(sent[0].authorization.as_deref(), Some("Bearer t1"));
    assert_eq!(sent[0].content_type.as_deref(), Some("application/json"));
    assert_eq!(sent[0].body, payload.to_string());
    assert!(
        sent[0].host.starts_with("hms-api.mesh.acme.internal:"),
        "{}",
        sent[0].host
    );
}

#[tokio::test]
async fn other_scopes_services_and_subjects_get_tokens_of_their_own() {
    let it = setup().await;
    for token in ["t1", "t2", "t3", "t4"] {
        it.server.grant(token);
    }
    let first = it.client.token("hms-api", "report:read").await.unwrap();
    assert_eq!(first.expose(), "t1");
    assert_eq!(
        it.client
            .token("hms-api", "report:write")
            .await
            .unwrap()
            .expose(),
        "t2"
    );
    assert_eq!(
        it.client
            .token("openai", "report:read")
            .await
            .unwrap()
            .expose(),
        "t3"
    );
    let exchanged = it
        .client
        .exchange("a.b.c", "hms-api", "report:read")
        .await
        .unwrap();
    assert_eq!(exchanged.expose(), "t4");
    let form = &it.server.seen()[3].body;
    for part in [
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&",
        "subject_token=a.b.c&",
        "subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token&",
        "client_id=spiffe%3A%2F%2Facme.internal%2Fhms-api&",
        "audience=hms-api&scope=report%3Aread",
    ] {
        assert!(form.contains(part), "{part} not in {form}");
    }
    assert_eq!(
        it.client
            .token("hms-api", "report:read")
            .await
            .unwrap()
            .expose(),
        "t1"
    );
}

#[tokio::test]
async fn a_refusal_names_pillar_code_receipt_and_remedy() {
    let it = setup().await;
    it.server.refuse(403, "micro-segmentation", "CSD401", "r-5");
    let error = it
        .client
        .secure_call("hms-api/x", "GET", NOTHING, "a:b")
        .await
        .unwrap_err();
    let CallError::AccessDenied(denied) = error else {
        panic!("{error:?}")
    };
    assert_eq!(
        (denied.pillar, denied.code),
        (Pillar::MicroSegmentation, Some(Code::NO_EDGE))
    );
    assert_eq!(denied.receipt.as_deref(), Some("r-5"));
    assert!(denied.fix.contains("edge"), "{}", denied.fix);
    assert!(it.mesh.seen().is_empty(), "a call went out without a token");

    it.server.grant("t1");
    it.mesh.refuse(403, "least-privilege", "CSD502", "r-6");
    let error = it
        .client
        .secure_call("hms-api/x", "GET", NOTHING, "a:b")
        .await
        .unwrap_err();
    let CallError::AccessDenied(denied) = error else {
        panic!("{error:?}")
    };
    assert_eq!(
        (denied.pillar, denied.code),
        (Pillar::LeastPrivilege, Some(Code::ROLE_LACKS))
    );
}

#[tokio::test]
async fn a_kept_token_that_ended_is_replaced_once() {
    let it = setup().await;
    it.server.grant("t1");
    it.mesh.say(200, &[], "first");
    it.client
        .secure_call("hms-api/x", "GET", NOTHING, "")
        .await
        .unwrap();
    it.mesh.refuse(401, "identity", "CSD215", "r-7");
    it.server.grant("t2");
    it.mesh.say(200, &[], "second");
    let response = it
        .client
        .secure_call("hms-api/x", "GET", NOTHING, "")
        .await
        .unwrap();
    assert_eq!(response.text().unwrap(), "second");
    let sent: Vec<_> = it
        .mesh
        .seen()
        .into_iter()
        .filter_map(|seen| seen.authorization)
        .collect();
    assert_eq!(sent, ["Bearer t1", "Bearer t1", "Bearer t2"]);

    // A second refusal in a row is the answer.
    it.mesh.refuse(401, "identity", "CSD215", "r-8");
    it.server.grant("t3");
    it.mesh.refuse(401, "identity", "CSD215", "r-9");
    let error = it
        .client
        .secure_call("hms-api/x", "GET", NOTHING, "")
        .await
        .unwrap_err();
    let CallError::AccessDenied(denied) = error else {
        panic!("{error:?}")
    };
    assert_eq!(denied.receipt.as_deref(), Some("r-9"));
}

#[tokio::test]
async fn a_workload_that_plays_the_gateway_gets_no_token() {
    for (server, gateway) in [
        ("countersign/server/main", "stats-worker"),
        ("countersign/server/main", "countersign/server/main"),
        ("stats-worker", "countersign/gateway/edge"),
    ] {
        let it = setup_with(server, gateway).await;
        it.server.grant("t1");
        it.mesh.say(200, &[], "gotcha");
        let error = it
            .client
            .secure_call("hms-api/x", "GET", NOTHING, "")
            .await
            .unwrap_err();
        assert!(matches!(error, CallError::Transport(_)), "{error:?}");
        assert!(it.mesh.seen().is_empty());
        assert!(server != "stats-worker" || it.server.seen().is_empty());
    }
}

#[tokio::test]
async fn reads_a_secret_as_vault_clients_do() {
    let it = setup().await;
    it.server.grant("t1");
    let envelope =
        r#"{"request_id":"1","data":{"data":{"value":"s3cret"},"metadata":{"version":3}}}"#;
    it.server.say(200, &[], envelope);
    let secret = it.client.read_secret("mailer").await.unwrap();
    assert_eq!((secret.value(), secret.version), (Some("s3cret"), 3));
    assert!(!format!("{secret:?}").contains("s3cret"));
    let asked = it.server.seen();
    let form = &asked[0].body;
    assert!(
        form.ends_with("&audience=vault&scope=secret%3Aread"),
        "{form}"
    );
    assert_eq!(asked[1].line, "GET /v1/secret/data/mailer");
    assert_eq!(asked[1].authorization.as_deref(), Some("Bearer t1"));

    // Vault's form has no room for a code.
    let headers = [
        ("countersign-pillar", "least-privilege"),
        ("countersign-receipt", "r-3"),
    ];
    it.server.say(
        401,
        &headers,
        r#"{"errors":["permission denied","AccessDenied: ..."]}"#,
    );
    let error = it.client.read_secret("mailer").await.unwrap_err();
    let CallError::AccessDenied(denied) = error else {
        panic!("{error:?}")
    };
    assert_eq!((denied.pillar, denied.code), (Pillar::LeastPrivilege, None));
}

#[tokio::test]
async fn what_is_no_call_is_said_before_anything_is_sent() {
    let it = setup().await;
    for (target, method) in [
        ("https://x/y", "GET"),
        ("hms-api/x", "G E T"),
        ("hms-api/ ", "GET"),
    ] {
        let error = it
            .client
            .secure_call(target, method, NOTHING, "")
            .await
            .unwrap_err();
        let harmless = matches!(error, CallError::Target(_) | CallError::Unexpected { .. });
        assert!(harmless, "{target} {error:?}");
    }
    assert!(it.mesh.seen().is_empty());
}

#[test]
fn a_folder_that_is_not_an_identity() {
    let folder = tempfile::tempdir().unwrap();
    let error = Client::from_dir(folder.path()).unwrap_err();
    assert!(matches!(error, SetupError::Read { .. }), "{error}");
    let json = r#"{"server":"nowhere","trust_domain":"acme.internal"}"#;
    std::fs::write(folder.path().join("countersign.json"), json).unwrap();
    let error = Client::from_dir(folder.path()).unwrap_err();
    assert!(
        error.to_string().ends_with("`nowhere` is no address"),
        "{error}"
    );
}
