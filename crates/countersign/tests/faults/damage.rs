//! What lies on the disk is not what was written there: the start refuses, says where and what
//! helps, and goes on without it only when it is told to, on the record.

use crate::ledger::Merged;
use crate::site::Site;
use crate::upstream::Upstream;
use countersign_client::Client;
use countersign_testkit::not_run;
use serde_json::Value;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

const SET_ASIDE: (&str, &str) = ("COUNTERSIGN_SET_ASIDE_DAMAGED", "true");

/// A site that has served some calls, and its caller.
async fn served(upstream: &Upstream) -> (Site, PathBuf, String) {
    let site = Site::new(&format!(
        "identities: {{ caller: {{}} }}
roles: {{ reader: {{ members: [caller], may: [\"item:read\"] }} }}
services:
  api:
    peer: service
    url: \"http://127.0.0.1:{}\"
    operations: {{ GET /items/**: {{ needs: \"item:read\" }} }}
edges: {{ caller -> api: [GET /items/**] }}
",
        upstream.port
    ));
    let running = site.up();
    let key = running.log_key();
    let (identity, _) = site.issue("caller");
    for number in 0..10 {
        call(&identity, number).await;
    }
    running.stop();
    (site, identity, key)
}

async fn call(identity: &Path, number: u32) -> String {
    let client = Client::from_dir(identity).unwrap();
    let path = format!("api/items/{number}");
    let response = client.secure_call(&path, "GET", None::<&Value>, "item:read");
    let response = response.await.unwrap();
    assert_eq!(response.status(), 200);
    response.receipt().unwrap().to_owned()
}

/// The newest segment of the spool.
fn segment(site: &Site) -> PathBuf {
    let folder = std::fs::read_dir(site.data().join("spool/main")).unwrap();
    let files = folder.map(|entry| entry.unwrap().path());
    let segments = files.filter(|path| path.extension().is_some_and(|it| it == "seg"));
    segments.max().unwrap()
}

/// Changes one bit of a file; at which place of it in percent.
fn flip(path: &Path, percent: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = bytes.len() * percent / 100;
    bytes[at] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

fn verifies(site: &Site, key: &str) {
    let log = site.data().join("log");
    let said = site.ok(&["audit", "verify", log.to_str().unwrap(), "--key", key]);
    assert!(said.contains("VERIFIED"), "{said}");
    assert!(!Merged::read(&log, key).receipts().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_spool_stops_the_start_and_is_set_aside_on_the_record() {
    let upstream = Upstream::start().await;
    let (site, identity, key) = served(&upstream).await;
    let path = segment(&site);
    flip(&path, 50);
    let damaged = std::fs::read(&path).unwrap();

    for _ in 0..2 {
        let (code, said) = site.refuses(&[], &[]);
        assert_eq!(code, 1, "{said}");
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(said.contains(&format!("spool/main/{name}")), "{said}");
        assert!(said.contains("corrupt at byte"), "{said}");
        assert!(said.contains("--set-aside-damaged"), "{said}");
    }
    assert_eq!(std::fs::read(&path).unwrap(), damaged, "it was touched");

    let running = site.up_by(&[], &[SET_ASIDE]);
    let said = site.said();
    assert!(said.contains("could not be read from byte"), "{said}");
    let aside = site.data().join("set-aside/main-1");
    let kept = std::fs::read(aside.join(path.file_name().unwrap())).unwrap();
    assert_eq!(kept, damaged, "nothing is deleted");
    let tail = site.json(&["audit", "tail", "-n", "100"]);
    let records = tail["records"].as_array().unwrap().iter();
    let alarms: Vec<_> = records
        .map(|entry| &entry["record"])
        .filter(|record| record["event_type"] == "ledger.damage.alarm")
        .collect();
    let [alarm] = alarms.as_slice() else {
        panic!("{alarms:?}")
    };
    // All of it was in the log, so that nothing is missed.
    assert_eq!(alarm["metadata"]["lost"], "0", "{alarm}");
    let files = alarm["metadata"]["files"].as_str().unwrap();
    assert!(files.contains("set-aside/main-1/"), "{files}");

    let receipt = call(&identity, 11).await;
    site.ok(&["audit", "prove", &receipt, "-o", "proof.json"]);
    running.stop();
    verifies(&site, &key);
    // The flag may stay: nothing is damaged now.
    site.up_by(&[], &[SET_ASIDE]).stop();
    assert!(!site.data().join("set-aside/main-2").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_tail_is_cut_and_said_and_a_foreign_file_is_nobodys() {
    let upstream = Upstream::start().await;
    let (site, identity, key) = served(&upstream).await;
    let path = segment(&site);
    std::fs::write(path.with_file_name("notes.txt"), "not ours").unwrap();
    let whole = std::fs::metadata(&path).unwrap().len();
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap();
    file.write_all(b"\xf5cs\x01 torn").unwrap();
    drop(file);
    let running = site.up();
    assert!(site.said().contains("cut off"), "{}", site.said());
    call(&identity, 11).await;
    running.stop();
    assert!(std::fs::metadata(&path).unwrap().len() > whole);
    verifies(&site, &key);

    // Less than the log has of it is another matter.
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.truncate(20);
    std::fs::write(&path, bytes).unwrap();
    let (code, said) = site.refuses(&[], &[]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("but the log has had"), "{said}");
    assert!(said.contains("--set-aside-damaged"), "{said}");
    let running = site.up_by(&[], &[SET_ASIDE]);
    call(&identity, 12).await;
    running.stop();
    verifies(&site, &key);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_never_share_a_data_folder() {
    let upstream = Upstream::start().await;
    let (site, identity, _) = served(&upstream).await;
    let running = site.up();
    let (code, said) = site.refuses(&[], &[]);
    assert_eq!(code, 1, "{said}");
    let data = site.data().display().to_string();
    let told = format!("another process uses the data folder `{data}`");
    assert!(
        said.contains(&told) && said.contains("--data DIR"),
        "{said}"
    );
    let (code, said) = site.refuses(&[], &[SET_ASIDE]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains(&told), "{said}");
    call(&identity, 11).await;
    running.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_keys_and_a_changed_store_stop_the_start() {
    let upstream = Upstream::start().await;
    let (site, identity, _) = served(&upstream).await;
    let sealed = sealed(&site.data().join("keys"));
    assert!(!sealed.is_empty());
    for path in sealed {
        let good = std::fs::read(&path).unwrap();
        flip(&path, 60);
        let (code, said) = site.refuses(&[], &[]);
        assert_eq!(code, 1, "{}: {said}", path.display());
        assert!(said.contains("keys/"), "{}: {said}", path.display());
        std::fs::write(&path, good).unwrap();
    }
    let store = site.data().join("store.db");
    let good = std::fs::read(&store).unwrap();
    std::fs::write(&store, [&[0x58; 100], &good[100..]].concat()).unwrap();
    let (code, said) = site.refuses(&[], &[]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("`store.db` is damaged"), "{said}");
    assert!(said.contains("from one backup"), "{said}");
    std::fs::write(&store, good).unwrap();
    let running = site.up();
    call(&identity, 11).await;
    running.stop();
}

/// The sealed private keys that a start opens: the root's is used to rotate, and for nothing else.
fn sealed(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sealed(&path));
        } else if path.extension().is_some_and(|it| it == "sealed")
            && !path.ends_with("ca-root.sealed")
        {
            found.push(path);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_another_process_holds_refuses_what_it_can_t_keep_until_it_is_let_go() {
    let script = "import sqlite3, sys
it = sqlite3.connect(sys.argv[1], isolation_level=None)
it.execute('BEGIN IMMEDIATE')
print('held', flush=True)
sys.stdin.read()
it.execute('ROLLBACK')
";
    let python = Command::new("python3")
        .args(["-c", "import sqlite3"])
        .status();
    if !python.is_ok_and(|status| status.success()) {
        not_run("holding the store needs python3 with sqlite3");
        return;
    }
    let upstream = Upstream::start().await;
    let (site, identity, key) = served(&upstream).await;
    let store = site.data().join("store.db");
    let hold = || {
        let mut command = Command::new("python3");
        command.args(["-c", script]).arg(&store);
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        let mut line = String::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        lines.read_line(&mut line).unwrap();
        assert_eq!(line, "held\n");
        child
    };
    let mut holder = hold();
    let (code, said) = site.refuses(&[], &[]);
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("`store.db` is locked by another process"),
        "{said}"
    );
    drop(holder.stdin.take());
    holder.wait().unwrap();

    let running = site.up();
    let mut holder = hold();
    // What would have to be kept is not done, and says so; calls that need nothing of it go on.
    call(&identity, 11).await;
    let revoked = site.run(&["identity", "revoke", "identity", "caller"]);
    assert!(!revoked.status.success(), "{revoked:?}");
    call(&identity, 12).await;
    drop(holder.stdin.take());
    holder.wait().unwrap();
    site.ok(&["identity", "revoke", "identity", "caller"]);
    let client = Client::from_dir(&identity).unwrap();
    let refused = client.secure_call("api/items/13", "GET", None::<&Value>, "item:read");
    assert!(refused.await.is_err());
    running.stop();
    verifies(&site, &key);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_can_only_be_read_starts_nothing() {
    let namespaces = Command::new("unshare").args(["--mount", "true"]).output();
    if !namespaces.is_ok_and(|output| output.status.success()) {
        not_run("a read-only mount needs root and unshare (util-linux)");
        return;
    }
    let upstream = Upstream::start().await;
    let (site, identity, key) = served(&upstream).await;
    let before = Merged::read(&site.data().join("log"), &key).receipts();
    let mounted = r#"mount --bind data data && mount -o remount,bind,ro data && exec "$@""#;
    let (code, said) = site.refuses(&["unshare", "--mount", "sh", "-c", mounted, "sh"], &[]);
    assert_eq!(code, 1, "{said}");
    let data = site.data().display().to_string();
    assert!(said.contains(&data) && said.contains("Read-only"), "{said}");
    assert_eq!(
        Merged::read(&site.data().join("log"), &key).receipts(),
        before
    );
    let running = site.up();
    call(&identity, 11).await;
    running.stop();
}
