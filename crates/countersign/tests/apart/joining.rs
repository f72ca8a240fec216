//! One token, one gateway, once.

use crate::pair::Pair;
use crate::pair::call;
use crate::pair::until;
use countersign_client::CallError;
use countersign_client::Client;
use countersign_core::vocabulary::Code;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_joins_once_serves_its_part_and_starts_again_without_a_token() {
    let pair = Pair::new();
    let server = pair.server();
    let token = pair.token("gw1");
    let token = token.to_str().unwrap();
    let gateway = pair.gateway(&["--join-file", token]);
    assert_eq!(gateway.said["gateway"], "gw1");
    let listeners = gateway.said["listeners"].as_object().unwrap();
    assert_eq!(listeners.keys().collect::<Vec<_>>(), ["mesh"]);
    let client = Client::from_dir(pair.caller()).unwrap();
    let receipt = pair.served(&client, "api/items/1").await;
    // The record is the gateway's, and in the server's log.
    let record = until("the record is in the log", async || {
        let output = pair.run(&["audit", "show", &receipt, "-o", "json"], &pair.data());
        let shown: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        Some(shown["record"].clone())
    })
    .await;
    assert_eq!(record["node"], "gw1");

    let kept = std::fs::read_to_string(pair.home().join("snapshot.json")).unwrap();
    assert!(kept.contains("mesh") && !kept.contains("/app/") && !kept.contains("\"web"));
    let mode = std::fs::metadata(pair.home().join("svid.pem")).unwrap();
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);

    gateway.stop();
    let again = pair.gateway(&[]);
    pair.served(&client, "api/items/2").await;
    drop(again);

    // The token was used: in another folder it opens nothing.
    let elsewhere = pair.path().join("elsewhere");
    let replayed = pair.run(&["gateway", "--dev", "--join-file", token], &elsewhere);
    let said = refused(&replayed);
    assert!(said.contains(&Code::REPLAYED.to_string()), "{said}");
    assert!(!elsewhere.join("join.json").exists());
    until("the replay is in the log", async || {
        let joins = pair.events("authn.cert.issue");
        let replayed = |it: &serde_json::Value| it["code"] == Code::REPLAYED.to_string();
        joins.iter().any(replayed).then_some(())
    })
    .await;
    let minted = pair.events("gateway.join.mint");
    assert_eq!(minted.len(), 1, "{minted:?}");
    drop(server);
}

#[test]
fn what_is_no_token_of_this_server_is_refused_and_recorded() {
    let pair = Pair::new();
    let _server = pair.server();
    let token = std::fs::read_to_string(pair.token("gw1")).unwrap();
    let home = pair.home();
    let join = |text: &str| {
        let file = pair.path().join("forged.token");
        std::fs::write(&file, text).unwrap();
        pair.run(
            &["gateway", "--dev", "--join-file", file.to_str().unwrap()],
            &home,
        )
    };
    assert_eq!(join("csjoin_e30").status.code(), Some(2));
    let forged = |key: &str, value: &str| {
        use base64::Engine as _;
        use base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let text = token.trim_end().strip_prefix("csjoin_").unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(text).unwrap();
        let mut document: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        document[key] = value.into();
        format!("csjoin_{}", URL_SAFE_NO_PAD.encode(document.to_string()))
    };
    let said = refused(&join(&forged("secret", "guessed")));
    assert!(said.contains(&Code::TOKEN_SIGNATURE.to_string()), "{said}");
    // A server whose root has another hash is not told the secret, and the token stays good.
    let pinned = join(&forged("pin", &"00".repeat(32)));
    assert_eq!(pinned.status.code(), Some(6), "{pinned:?}");
    assert!(!home.join("join.json").exists());
    let token = pair.path().join("gw1.token");
    let gateway = pair.gateway(&["--join-file", token.to_str().unwrap()]);
    gateway.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_start_in_any_order_and_regain_each_other() {
    let pair = Pair::new();
    let (server, gateway) = pair.both();
    let client = Client::from_dir(pair.caller()).unwrap();
    pair.served(&client, "api/items/1").await;
    gateway.stop();
    server.stop();
    // Without a server it stands, and admits nothing.
    let gateway = pair.gateway(&[]);
    let before = pair.upstream.count();
    let alone = call(&client, "api/items/2").await;
    assert!(alone.is_err(), "{alone:?}");
    assert_eq!(pair.upstream.count(), before);
    let server = pair.server();
    pair.served(&client, "api/items/3").await;
    // The server is started anew under a gateway that stays.
    server.kill();
    let server = pair.server();
    pair.served(&client, "api/items/4").await;
    // Who was revoked while the gateway was away is so when it is back.
    gateway.kill();
    pair.json(&["identity", "revoke", "identity", "caller"]);
    let gateway = pair.gateway(&[]);
    let before = pair.upstream.count();
    let refused = until("the gateway serves again and refuses", async || {
        match call(&client, "api/items/5").await {
            Err(CallError::AccessDenied(denied)) => denied.code,
            Ok(receipt) => panic!("admitted: {receipt}"),
            Err(_) => None,
        }
        .filter(|code| *code != Code::STATE_STALE && *code != Code::LEDGER_REFUSED)
    })
    .await;
    assert!(
        [Code::CERTIFICATE_REVOKED, Code::SUBJECT_REVOKED].contains(&refused),
        "{refused}"
    );
    assert_eq!(pair.upstream.count(), before);
    drop((server, gateway));
}
