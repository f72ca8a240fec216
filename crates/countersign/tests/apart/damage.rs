//! A gateway's folder that is not what was written there, and its spool above all: the start
//! refuses and says what helps; what is lost is on the record; what was put back, the server notices.

use crate::pair::Pair;
use crate::pair::Running;
use crate::pair::call;
use crate::pair::until;
use countersign_client::Client;
use std::path::PathBuf;

/// The newest segment of the gateway's spool.
fn segment(pair: &Pair) -> PathBuf {
    let folder = std::fs::read_dir(pair.home().join("spool/gw1")).unwrap();
    let files = folder.map(|entry| entry.unwrap().path());
    let segments = files.filter(|path| path.extension().is_some_and(|it| it == "seg"));
    segments.max().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_lost_to_damage_are_on_the_record() {
    let pair = Pair::new();
    let (server, gateway) = pair.both();
    let client = Client::from_dir(pair.caller()).unwrap();
    let first = pair.served(&client, "api/items/1").await;
    until("the first call is in the log", async || {
        let shown = pair.run(&["audit", "show", &first], &pair.data());
        shown.status.success().then_some(())
    })
    .await;
    // Nothing is shipped while the server stands still; the gateway goes on for its bound.
    server.hold(true);
    let mut lost = Vec::new();
    for number in 0..4 {
        lost.push(
            call(&client, &format!("api/items/held-{number}"))
                .await
                .unwrap(),
        );
    }
    gateway.kill();
    server.hold(false);

    let path = segment(&pair);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = memchr::memmem::find(&bytes, b"api/items/held-0").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let said = pair.gateway_refuses();
    assert!(
        said.contains("spool/gw1/") && said.contains("corrupt at byte"),
        "{said}"
    );
    assert!(said.contains("--set-aside-damaged"), "{said}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "it was touched");

    let gateway = pair.gateway(&["--set-aside-damaged"]);
    let name = path.file_name().unwrap();
    let aside = pair.home().join("set-aside/gw1-1").join(name);
    assert_eq!(std::fs::read(aside).unwrap(), bytes, "nothing is deleted");
    pair.served(&client, "api/items/2").await;
    let alarm = until("the alarm is in the log", async || {
        pair.events("ledger.damage.alarm").pop()
    })
    .await;
    assert_eq!(alarm["principal"]["id"], "gateway:gw1", "{alarm}");
    let count = |name: &str| alarm["metadata"][name].as_str().unwrap().parse::<u64>();
    assert!(count("lost").unwrap() >= 4, "{alarm}");
    assert_eq!(count("broken"), count("resumed"), "{alarm}");
    for receipt in &lost {
        let shown = pair.run(&["audit", "show", receipt], &pair.data());
        assert!(!shown.status.success(), "{shown:?}");
    }
    judged(&pair, server, gateway);
}

/// What the auditor says, with the log's key and with the witness's.
fn judged(pair: &Pair, server: Running, gateway: Running) {
    let key = server.said["log_key"].as_str().unwrap().to_owned();
    let witness_key = gateway.said["witness_key"].as_str().unwrap().to_owned();
    gateway.stop();
    server.stop();
    let (log, line) = (pair.data().join("log"), pair.data().join("witness/gw1"));
    let (log, line) = (log.to_str().unwrap(), line.to_str().unwrap());
    let witness = ["--witness", line, "--witness-key", &witness_key];
    let verify = ["audit", "verify", log];
    let both = [&verify[..], &witness, &["--key", &key]].concat();
    let verified = pair.run(&both, &pair.data());
    let said = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(
        verified.status.success() && said.contains("VERIFIED"),
        "{verified:?}"
    );
    // What came after its last line, the gateway does not vouch for.
    let verified = pair.run(&[&verify[..], &witness].concat(), &pair.data());
    let said = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(verified.status.success(), "{verified:?}");
    assert!(said.contains("witness/gw1"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spool_that_was_put_back_is_noticed_and_admits_nothing() {
    let pair = Pair::new();
    let (_server, gateway) = pair.both();
    let client = Client::from_dir(pair.caller()).unwrap();
    pair.served(&client, "api/items/1").await;
    gateway.stop();
    let path = segment(&pair);
    let old = std::fs::read(&path).unwrap();
    let gateway = pair.gateway(&[]);
    let last = pair.served(&client, "api/items/2").await;
    until("the second call is in the log", async || {
        let shown = pair.run(&["audit", "show", &last], &pair.data());
        shown.status.success().then_some(())
    })
    .await;
    gateway.stop();
    std::fs::write(&path, &old).unwrap();

    // It looks whole. Only the log knows better, and nothing is admitted on it.
    let gateway = pair.gateway(&[]);
    let reached = pair.upstream.count();
    until("the server notices", async || {
        let alarms = pair.events("ledger.head.alarm");
        let mut words = alarms.iter().map(|it| &it["metadata"]["alarm"]);
        words.find(|word| **word == "forked" || **word == "regressed")?;
        Some(())
    })
    .await;
    for _ in 0..5 {
        assert!(call(&client, "api/items/3").await.is_err());
    }
    assert_eq!(pair.upstream.count(), reached, "something was sent on");
    gateway.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_home_says_which_file_and_what_helps() {
    let pair = Pair::new();
    let (_server, gateway) = pair.both();
    let client = Client::from_dir(pair.caller()).unwrap();
    pair.served(&client, "api/items/1").await;
    until("a checkpoint is kept", async || {
        pair.home().join("checkpoint").exists().then_some(())
    })
    .await;
    let said = pair.gateway_refuses();
    assert!(said.contains("another process uses the folder"), "{said}");
    assert!(said.contains("--data DIR"), "{said}");
    gateway.stop();
    for (name, named, help) in [
        ("snapshot.json", "`snapshot.json`", "remove `snapshot.json`"),
        ("high.json", "`high.json`", "join anew"),
        ("checkpoint", "`checkpoint`", "join anew"),
        ("svid.pem", "", "join anew"),
        ("join.json", "`join.json`", "join anew"),
    ] {
        let path = pair.home().join(name);
        let good = std::fs::read(&path).unwrap();
        std::fs::write(&path, &good[..good.len() / 2]).unwrap();
        let said = pair.gateway_refuses();
        assert!(
            said.contains(named) && said.contains(help),
            "{name}: {said}"
        );
        std::fs::write(&path, &good).unwrap();
    }
    std::fs::remove_file(pair.home().join("snapshot.json")).unwrap();
    let _gateway = pair.gateway(&[]);
    pair.served(&client, "api/items/2").await;
}
