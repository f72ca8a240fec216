//! What was put back to an earlier state is refused: a server from a backup, a file of the gateway.

use crate::pair::Pair;
use crate::pair::Running;
use crate::pair::call;
use crate::pair::until;
use countersign_client::CallError;
use countersign_client::Client;
use countersign_core::vocabulary::Code;
use std::path::Path;
use std::process::Command;

fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.unwrap().success());
}

fn change(pair: &Pair) {
    let file = pair.path().join("countersign.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let (old, new) = ("  api:\n", "  api:\n    timeout: 20s\n");
    assert!(text.contains(old));
    let text = text.replace(old, new);
    std::fs::write(&file, text).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_from_an_older_backup_is_not_believed() {
    let pair = Pair::new();
    let (server, gateway) = pair.both();
    let client = Client::from_dir(pair.caller()).unwrap();
    pair.served(&client, "api/items/1").await;
    server.stop();
    let backup = pair.path().join("backup");
    copy(&pair.data(), &backup);
    let server = pair.server();
    let receipt = pair.served(&client, "api/items/2").await;
    // The gateway has witnessed a log that holds this call.
    until("the call is in the log", async || {
        let shown = pair.run(&["audit", "show", &receipt], &pair.data());
        shown.status.success().then_some(())
    })
    .await;
    let size = |text: String| text.lines().nth(1).and_then(|it| it.parse::<u64>().ok());
    let backed = size(std::fs::read_to_string(backup.join("log/checkpoint")).unwrap()).unwrap();
    until(
        "the gateway has witnessed more than the backup",
        async || {
            let seen = std::fs::read_to_string(pair.home().join("checkpoint")).ok()?;
            (size(seen)? > backed + 2).then_some(())
        },
    )
    .await;
    server.kill();
    copy(&backup, &pair.data());
    let server = pair.server();
    let refused = until("a refusal for the log's sake", async || {
        let before = pair.upstream.count();
        match call(&client, "api/items/3").await {
            Err(CallError::AccessDenied(denied)) => {
                assert_eq!(pair.upstream.count(), before);
                denied.code.filter(|code| *code == Code::LEDGER_REFUSED)
            }
            _ => None,
        }
    })
    .await;
    assert_eq!(refused, Code::LEDGER_REFUSED);
    let said = pair.log("gateway");
    assert!(said.contains("the server's log is not believed"), "{said}");
    // Not a passing fault: it stays so, also for a gateway that was started anew.
    gateway.stop();
    let gateway = pair.gateway(&[]);
    let before = pair.upstream.count();
    for _ in 0..5 {
        assert!(call(&client, "api/items/4").await.is_err());
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
    assert_eq!(pair.upstream.count(), before);
    let said = pair.log("gateway");
    assert!(said.contains("asked again after a pause"), "{said}");
    drop(gateway);
    goes_on_after_a_recorded_break(&pair, server, &client).await;
}

/// The break is recorded, the gateway that knew better stays out, and one that joins under another
/// name is let in.
async fn goes_on_after_a_recorded_break(pair: &Pair, server: Running, client: &Client) {
    server.stop();
    let size = |text: String| text.lines().nth(1).and_then(|it| it.parse::<u64>().ok());
    let size = size(std::fs::read_to_string(pair.data().join("log/checkpoint")).unwrap());
    let _server = pair.server_with(&["--restored"]);
    let said = pair.log("server");
    assert!(said.contains("gw1 have to join anew"), "{said}");
    let broken = until("the break is in the log", async || {
        pair.events("ledger.restore.alarm").pop()
    })
    .await;
    assert_eq!(broken["metadata"]["gateways"], "gw1");
    assert_eq!(broken["metadata"]["size"], size.unwrap().to_string());
    let epoch = pair.json(&["status"])["epoch"].as_u64().unwrap();
    let before: u64 = broken["metadata"]["epoch"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(epoch, before + 1, "a new epoch");

    let said = pair.gateway_refuses();
    assert!(
        said.contains("CSD303") && said.contains("join anew"),
        "{said}"
    );
    std::fs::remove_dir_all(pair.home()).unwrap();
    let token = pair.token("gw2");
    let gateway = pair.gateway(&["--join-file", token.to_str().unwrap()]);
    assert_eq!(gateway.said["gateway"], "gw2");
    pair.served(client, "api/items/6").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_snapshot_on_disk_is_refused() {
    let pair = Pair::new();
    let (_server, gateway) = pair.both();
    let client = Client::from_dir(pair.caller()).unwrap();
    pair.served(&client, "api/items/1").await;
    let snapshot = pair.home().join("snapshot.json");
    let old = std::fs::read(&snapshot).unwrap();
    change(&pair);
    pair.json(&["reload"]);
    until("the gateway has kept the new policy", async || {
        (std::fs::read(&snapshot).unwrap() != old).then_some(())
    })
    .await;
    pair.served(&client, "api/items/2").await;
    gateway.stop();
    std::fs::write(&snapshot, &old).unwrap();
    let started = pair.run(&["gateway", "--dev"], &pair.home());
    let said = String::from_utf8_lossy(&started.stderr);
    assert!(
        !started.status.success() && said.contains("serial"),
        "{said}"
    );
    // A changed one is not the server's.
    let text = String::from_utf8(old).unwrap();
    let higher = text.replace("\"serial\":1", "\"serial\":9");
    assert_ne!(higher, text);
    std::fs::write(&snapshot, higher).unwrap();
    let started = pair.run(&["gateway", "--dev"], &pair.home());
    let said = String::from_utf8_lossy(&started.stderr);
    assert!(
        !started.status.success() && said.contains("signature"),
        "{said}"
    );
    // Without any it asks the server.
    std::fs::remove_file(&snapshot).unwrap();
    let _gateway = pair.gateway(&[]);
    pair.served(&client, "api/items/3").await;
}
