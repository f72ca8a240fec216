//! A disk that is full, of the one or the other: what can't be recorded is refused, what was
//! promised is kept, and it ends by itself.

use crate::pair::Pair;
use crate::pair::Running;
use crate::pair::call;
use crate::pair::until;
use countersign_client::CallError;
use countersign_client::Client;
use countersign_core::vocabulary::Code;
use countersign_testkit::not_run;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

/// The size of the small disk.
const DISK: &str = "16m";

fn can_mount() -> bool {
    let namespaces = Command::new("unshare").args(["--mount", "true"]).output();
    let can = namespaces.is_ok_and(|output| output.status.success());
    if !can {
        not_run("mounting a small disk needs root and unshare (util-linux)");
    }
    can
}

/// What starts a process with a small disk as its folder.
fn on_a_small_disk(folder: &str) -> [String; 6] {
    let mounted = format!(
        r#"mkdir -p {folder} && mount -t tmpfs -o mode=0700,size="$0" tmpfs {folder} && exec "$@""#
    );
    ["unshare", "--mount", "sh", "-c", &mounted, DISK].map(str::to_owned)
}

/// A folder as the process sees it.
fn seen_by(running: &Running, folder: &Path) -> PathBuf {
    let root = PathBuf::from(format!("/proc/{}/root", running.id()));
    root.join(folder.strip_prefix("/").unwrap())
}

/// Fills the disk to its last byte.
fn fill(filler: &Path) {
    let mut options = File::options();
    let mut file = options.create(true).append(true).open(filler).unwrap();
    for size in [1 << 20, 4096, 1] {
        let bytes = vec![0; size];
        while file.write(&bytes).is_ok_and(|written| written > 0) {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_without_space_refuses_and_recovers_while_its_server_is_well() {
    if !can_mount() {
        return;
    }
    let pair = Pair::new();
    let server = pair.server();
    let token = pair.token("gw1");
    let wrapper = on_a_small_disk("gateway");
    let wrapper = wrapper.each_ref().map(String::as_str);
    let join = ["--join-file", token.to_str().unwrap()];
    let mut gateway = pair.gateway_by(&wrapper, &join);
    let home = seen_by(&gateway, &pair.home());
    assert!(home.join("join.json").exists(), "not on the small disk");
    let client = Client::from_dir(pair.caller()).unwrap();
    let first = pair.served(&client, "api/items/1").await;

    let filler = home.join("filler");
    let refused = until("a refusal for want of space", async || {
        fill(&filler);
        match call(&client, "api/items/2").await {
            Err(CallError::AccessDenied(denied)) => denied.code,
            _ => None,
        }
    })
    .await;
    assert_eq!(refused, Code::LEDGER_REFUSED);
    let reached = pair.upstream.count();
    for _ in 0..20 {
        fill(&filler);
        match call(&client, "api/items/3").await {
            Err(CallError::AccessDenied(denied)) => {
                // It can't keep what it witnesses either, and after its bound knows too little.
                let code = denied.code.unwrap();
                assert!(
                    [Code::LEDGER_REFUSED, Code::STATE_STALE].contains(&code),
                    "{code}"
                );
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(pair.upstream.count(), reached, "something was sent on");
    assert!(gateway.lives(), "{}", pair.log("gateway"));
    // The server is as well as ever.
    pair.json(&["status"]);

    std::fs::remove_file(&filler).unwrap();
    let last = pair.served(&client, "api/items/4").await;
    for receipt in [first, last] {
        until("its record is in the log", async || {
            let shown = pair.run(&["audit", "show", &receipt], &pair.data());
            shown.status.success().then_some(())
        })
        .await;
    }
    assert!(gateway.lives());
    drop(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_space_loses_nothing_that_its_gateway_promised() {
    if !can_mount() {
        return;
    }
    let pair = Pair::new();
    let wrapper = on_a_small_disk("data");
    let wrapper = wrapper.each_ref().map(String::as_str);
    let mut server = pair.server_by(&wrapper);
    pair.within.set(server.id()).unwrap();
    let data = seen_by(&server, &pair.data());
    assert!(data.join("store.db").exists(), "not on the small disk");
    let token = pair.token("gw1");
    let gateway = pair.gateway(&["--join-file", token.to_str().unwrap()]);
    let client = Client::from_dir(pair.caller()).unwrap();
    let mut receipts = vec![pair.served(&client, "api/items/1").await];

    let filler = data.join("filler");
    fill(&filler);
    until("the server can't take what it is told", async || {
        fill(&filler);
        let revoked = pair.run(&["identity", "revoke", "identity", "page"], &pair.data());
        (!revoked.status.success()).then_some(())
    })
    .await;
    // For as long as what it knows is fresh, the gateway admits, and keeps what it promised.
    for number in 0..20 {
        let before = pair.upstream.count();
        match call(&client, &format!("api/items/full-{number}")).await {
            Ok(receipt) => receipts.push(receipt),
            Err(_) => assert_eq!(pair.upstream.count(), before, "sent on without a record"),
        }
    }
    assert!(server.lives(), "{}", pair.log("server"));

    std::fs::remove_file(&filler).unwrap();
    receipts.push(pair.served(&client, "api/items/again").await);
    for receipt in &receipts {
        until("its record is in the log", async || {
            let shown = pair.run(&["audit", "prove", receipt], &pair.data());
            shown.status.success().then_some(())
        })
        .await;
    }
    pair.json(&["identity", "revoke", "identity", "page"]);
    let key = server.said["log_key"].as_str().unwrap().to_owned();
    let log = pair.data().join("log");
    until("the log verifies", async || {
        let args = ["audit", "verify", log.to_str().unwrap(), "--key", &key];
        let output = pair.run(&args, &pair.data());
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success() && said.contains("VERIFIED")).then_some(())
    })
    .await;
    gateway.stop();
}
