use crate::support::World;
use crate::support::document;
use bytes::Bytes;
use countersign_core::vocabulary::Code;
use countersign_wire::admin::PutSecret;
use http::Request;
use secrecy::SecretString;
use serde_json::json;
use std::collections::BTreeMap;

const ENVELOPE: [&str; 9] = [
    "auth",
    "data",
    "lease_duration",
    "lease_id",
    "mount_type",
    "renewable",
    "request_id",
    "warnings",
    "wrap_info",
];
const PATH: &str = "/v1/secret/data/openai_primary";

#[tokio::test]
async fn a_reader_gets_vaults_envelope() {
    let world = World::new().await;
    let data = [("user", "svc"), ("password", "canary-5f1d")];
    let data = data.map(|(name, value)| (name.to_owned(), SecretString::from(value)));
    let data = PutSecret {
        data: BTreeMap::from(data),
    };
    world
        .operator
        .put_secret("openai_primary", &data)
        .await
        .unwrap();
    let api = world.workload("hms-api").await;
    let token = api.token("vault").await;
    let response = api.read(&token, "openai_primary").await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.headers()["cache-control"], "no-store");
    let body = document(&response);
    let keys: Vec<&str> = body
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(keys, ENVELOPE);
    assert_eq!(
        (&body["lease_id"], &body["auth"]),
        (&json!(""), &json!(null))
    );
    assert_eq!(body["request_id"].as_str().unwrap().len(), 36);
    assert_eq!(
        body["data"]["data"],
        json!({ "user": "svc", "password": "canary-5f1d" })
    );
    let metadata = &body["data"]["metadata"];
    assert_eq!(
        (&metadata["version"], &metadata["destroyed"]),
        (&json!(1), &json!(false))
    );
    assert_eq!(metadata["deletion_time"], "");
    assert!(metadata["created_time"].as_str().unwrap().ends_with('Z'));
    assert!(
        metadata
            .as_object()
            .unwrap()
            .contains_key("custom_metadata")
    );
    let receipt = response.headers()["countersign-receipt"]
        .to_str()
        .unwrap()
        .to_owned();
    let record = world.record(receipt).await.unwrap();
    assert_eq!(record["resource"]["id"], "vault/openai_primary");
    assert!(!record.to_string().contains("canary-5f1d") && !record.to_string().contains(&token));
    let bearer = Request::get(PATH).header("authorization", format!("Bearer {token}"));
    assert_eq!(
        api.send(bearer.body(Bytes::new()).unwrap()).await.status(),
        200
    );
}

#[tokio::test]
async fn versions_are_written_with_check_and_set() {
    let world = World::new().await;
    let rotator = world.workload("rotator").await;
    let token = rotator.token("vault").await;
    let put = async |body: &str| {
        let request = Request::post(PATH).header("x-vault-token", &token);
        rotator
            .send(request.body(Bytes::from(body.to_owned())).unwrap())
            .await
    };
    let first = put(r#"{"data":{"value":"one","n":7},"options":{"cas":0}}"#).await;
    let body = document(&first);
    assert_eq!(first.status(), 200, "{body}");
    assert_eq!(
        (&body["data"]["version"], &body["data"]["destroyed"]),
        (&json!(1), &json!(false))
    );
    assert_eq!(
        document(&put(r#"{"data":{"value":"two"}}"#).await)["data"]["version"],
        2
    );
    for (body, errors) in [
        (
            r#"{"data":{"value":"x"},"options":{"cas":1}}"#,
            json!(["check-and-set parameter did not match the current version"]),
        ),
        (r#"{"options":{}}"#, json!(["no data provided"])),
        (r#"{"data":{}}"#, json!(["no data provided"])),
        ("{", json!(["failed to parse JSON input"])),
    ] {
        let response = put(body).await;
        assert_eq!(response.status(), 400, "{body}");
        assert_eq!(document(&response), json!({ "errors": errors }));
    }
    let api = world.workload("hms-api").await;
    let token = api.token("vault").await;
    let value = async |name: &str| {
        let response = api.read(&token, name).await;
        (response.status().as_u16(), document(&response))
    };
    assert_eq!(
        value("openai_primary").await.1["data"]["data"]["value"],
        "two"
    );
    let (_, old) = value("openai_primary?version=1").await;
    assert_eq!(old["data"]["data"], json!({ "value": "one", "n": 7 }));
    assert_eq!(
        value("openai_primary?version=3").await,
        (404, json!({ "errors": [] }))
    );
    assert_eq!(value("openai_primary?version=x").await.0, 400);
}

#[tokio::test]
async fn only_who_is_admitted_learns_that_nothing_is_there() {
    let world = World::new().await;
    let api = world.workload("hms-api").await;
    let token = api.token("vault").await;
    let empty = api.read(&token, "openai_primary").await;
    assert_eq!(
        (empty.status().as_u16(), document(&empty)),
        (404, json!({ "errors": [] }))
    );
    let namespace = Request::get(PATH).header("x-vault-token", &token);
    let namespace = namespace
        .header("x-vault-namespace", "other")
        .body(Bytes::new())
        .unwrap();
    assert_eq!(api.send(namespace).await.status(), 404);
    for name in ["model", "nothing", "sub/folder", "..%2f", "UPPER"] {
        let refused = api.read(&token, name).await;
        let code = if name.contains('%') {
            Code::PATH_AMBIGUOUS
        } else {
            Code::NO_EDGE
        };
        world.refused(&refused, code).await;
    }
    let delete = Request::delete(PATH).header("x-vault-token", &token);
    let delete = api.send(delete.body(Bytes::new()).unwrap()).await;
    world.refused(&delete, Code::NO_EDGE).await;
}

#[tokio::test]
async fn everybody_else_is_refused_by_the_pillar_that_fails() {
    let world = World::new().await;
    world.put("openai_primary", "canary-77aa").await;
    let (api, worker) = (
        world.workload("hms-api").await,
        world.workload("stats-worker").await,
    );
    let rotator = world.workload("rotator").await;
    let token = api.token("vault").await;

    world
        .refused(&api.get(PATH).await, Code::TOKEN_ABSENT)
        .await;
    world
        .refused(
            &api.read("s.notours", "openai_primary").await,
            Code::CREDENTIAL_STATIC,
        )
        .await;
    let stolen = worker.read(&token, "openai_primary").await;
    let receipt = world.refused(&stolen, Code::TOKEN_BINDING).await;
    let record = world.record(receipt).await.unwrap();
    let (bound, shown) = (api.svid.current().leaf(), worker.svid.current().leaf());
    let reason = format!(
        "bound to certificate {}, shown by {}",
        bound.short(),
        shown.short()
    );
    assert_eq!(record["reason"], reason);
    assert!(
        !record.to_string().contains(&token),
        "a record holds no token"
    );

    let two = Request::get(PATH).header("x-vault-token", &token);
    let two = two
        .header("authorization", format!("Bearer {token}"))
        .body(Bytes::new())
        .unwrap();
    world
        .refused(&api.send(two).await, Code::TOKEN_MALFORMED)
        .await;
    let other = api.token("openai").await;
    world
        .refused(
            &api.read(&other, "openai_primary").await,
            Code::TOKEN_AUDIENCE,
        )
        .await;
    let writer = rotator.token("vault").await;
    let refused = rotator.read(&writer, "openai_primary").await;
    world.refused(&refused, Code::NOT_A_READER).await;
    let write = Request::post(PATH).header("x-vault-token", &token);
    let write = write
        .body(Bytes::from_static(b"{\"data\":{\"value\":\"x\"}}"))
        .unwrap();
    world.refused(&api.send(write).await, Code::NO_EDGE).await;
}

#[tokio::test]
async fn a_token_ends_and_no_other_path_is_open() {
    let world = World::new().await;
    let api = world.workload("hms-api").await;
    let token = api.token("vault").await;
    world.advance(std::time::Duration::from_secs(61));
    world
        .refused(&api.read(&token, "openai_primary").await, Code::TOKEN_TIME)
        .await;
    world
        .refused(&api.get("/v1/other").await, Code::TOKEN_ABSENT)
        .await;
}
