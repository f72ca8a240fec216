//! `kill -9` of either side under load: every answer that a caller saw has exactly one record in
//! the server's log.

use crate::pair::Pair;
use crate::pair::call;
use crate::pair::until;
use countersign_client::Client;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

#[derive(Default)]
struct Load {
    next: AtomicU64,
    over: AtomicBool,
}

/// Asks until the end; the receipts of all that was answered.
async fn ask(identity: PathBuf, load: Arc<Load>) -> Vec<(String, String)> {
    let mut answered = Vec::new();
    let mut client = Client::from_dir(&identity).unwrap();
    while !load.over.load(Ordering::SeqCst) {
        let number = load.next.fetch_add(1, Ordering::SeqCst);
        let path = format!("api/items/{number}");
        match call(&client, &path).await {
            Ok(receipt) => answered.push((path, receipt)),
            Err(_) => {
                // Whoever was killed comes back.
                client = Client::from_dir(&identity).unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    answered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_answer_has_one_record_whoever_is_killed() {
    let pair = Pair::new();
    let (mut server, mut gateway) = pair.both();
    let log_key = server.said["log_key"].as_str().unwrap().to_owned();
    let identity = pair.caller();
    let client = Client::from_dir(&identity).unwrap();
    pair.served(&client, "api/items/begin").await;
    let load = Arc::new(Load::default());
    let callers: Vec<_> = (0..3)
        .map(|_| tokio::spawn(ask(identity.clone(), load.clone())))
        .collect();
    for round in 0..4 {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        if round % 2 == 0 {
            gateway.kill();
            gateway = pair.gateway(&[]);
        } else {
            server.kill();
            server = pair.server();
        }
        pair.served(&client, &format!("api/items/after-{round}"))
            .await;
    }
    load.over.store(true, Ordering::SeqCst);
    let mut answered = Vec::new();
    for caller in callers {
        answered.extend(caller.await.unwrap());
    }
    assert!(answered.len() > 20, "a load of nothing: {}", answered.len());
    // The gateway is gone for good: what it promised was shipped before, or is at its next start.
    gateway.stop();
    let gateway = pair.gateway(&[]);
    let last = pair.served(&client, "api/items/end").await;
    until("the last record is in the log", async || {
        let shown = pair.run(&["audit", "show", &last], &pair.data());
        shown.status.success().then_some(())
    })
    .await;
    gateway.stop();
    server.stop();
    each_once(&pair, &log_key, &answered);
}

/// Judges the log that the server left, without it.
fn each_once(pair: &Pair, log_key: &str, answered: &[(String, String)]) {
    let log = pair.data().join("log");
    let path = log.to_str().unwrap();
    let verified = pair.run(&["audit", "verify", path, "--key", log_key], &pair.data());
    let said = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(
        verified.status.success() && said.contains("VERIFIED"),
        "{said}"
    );
    let mut times: HashMap<(String, String), usize> = HashMap::new();
    for (receipt, resource) in decisions(&log) {
        *times.entry((resource, receipt)).or_default() += 1;
    }
    for answer in answered {
        assert_eq!(times.get(answer), Some(&1), "{answer:?}");
    }
}

/// Receipt and resource of each decision of the gateway that the log's entries hold.
fn decisions(log: &std::path::Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![log.join("tile/entries")];
    let mut files: HashMap<PathBuf, PathBuf> = HashMap::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            // `000.p/12` is a beginning of `000`: the longest one counts.
            let parent = path.parent().unwrap().to_owned();
            let partial = parent.extension().is_some_and(|it| it == "p");
            let whole = if partial {
                parent.with_extension("")
            } else {
                path.clone()
            };
            let size = |path: &PathBuf| std::fs::metadata(path).unwrap().len();
            let longer = files
                .get(&whole)
                .is_none_or(|known| size(known) < size(&path));
            if longer {
                files.insert(whole, path);
            }
        }
    }
    for file in files.values() {
        let bytes = std::fs::read(file).unwrap();
        for leaf in countersign_ledger::tiles::entries(&bytes) {
            let leaf = leaf.unwrap();
            let envelope: serde_json::Value = serde_json::from_slice(leaf).unwrap();
            let record = &envelope["record"];
            if envelope["node"] != "gw1" || record["kind"] != "decision" {
                continue;
            }
            let hash = countersign_ledger::tree::leaf_hash(leaf);
            let receipt = countersign_ledger::ReceiptId::from(&hash).to_string();
            let resource = record["resource"]["id"].as_str().unwrap_or_default();
            found.push((receipt, resource.to_owned()));
        }
    }
    found
}
