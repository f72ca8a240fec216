//! A full disk: nothing is admitted that can't be recorded, nothing crashes, and it ends by itself
//! when there is space again.

use crate::door::Connection;
use crate::door::Door;
use crate::door::code;
use crate::door::receipt;
use crate::ledger::Merged;
use crate::site::Running;
use crate::site::Site;
use crate::upstream::Upstream;
use countersign_client::CallError;
use countersign_client::Client;
use countersign_testkit::not_run;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

/// The ledger can't take a record.
const UNRECORDED: &str = "CSD601";
/// From the return of space to the next admitted call: milliseconds, unless something has to be
/// done by hand.
const RECOVERY: Duration = Duration::from_secs(30);
/// How long the log may take in what is waiting for it, however slow the machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// The token has ended.
const TOKEN_TIME: &str = "CSD215";
/// The disk of the server.
const DISK: &str = "16m";

/// A write beyond the limit is a signal unless that is ignored; then it is an error like any.
const LIMITED: [&str; 4] = ["sh", "-c", r#"trap "" XFSZ && exec "$@""#, "sh"];

/// A site, the server that runs on a disk which can be filled, and a caller.
struct Scene {
    identity: PathBuf,
    running: Running,
    site: Site,
    /// Drawn last while there was space: none can be drawn without a record.
    token: String,
    upstream: Upstream,
    connections: Vec<Connection>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_and_recovers() {
    let namespaces = Command::new("unshare").args(["--mount", "true"]).output();
    if !namespaces.is_ok_and(|output| output.status.success()) {
        not_run("mounting a small disk needs root and unshare (util-linux)");
        return;
    }
    // The mount is the server's alone and goes with it.
    let mounted =
        r#"mkdir -p data && mount -t tmpfs -o mode=0700,size="$0" tmpfs data && exec "$@""#;
    let mut scene = Scene::new(&["unshare", "--mount", "sh", "-c", mounted, DISK]).await;
    let data = PathBuf::from(format!("/proc/{}/root", scene.running.id()));
    let data = data.join(scene.site.data().strip_prefix("/").unwrap());
    assert!(
        data.join("store.db").exists(),
        "the data folder is not on the small disk"
    );
    let filler = data.join("filler");

    let before = scene.is_open().await;
    fill(&filler);
    let refused = scene.is_shut(|| fill(&filler)).await;
    std::fs::remove_file(&filler).unwrap();
    scene.recovers("disk", before, refused).await;

    let key = scene.running.log_key();
    let copy = settled(&scene.site, &data.join("log"), &key).await;
    verify(&scene.site, &copy.path().join("log"), &key);
    scene.running.stop();
}

/// A copy of a log that is not of two moments: it moves while it has something to take in.
async fn settled(site: &Site, log: &Path, key: &str) -> tempfile::TempDir {
    let begun = Instant::now();
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let copy = tempfile::tempdir().unwrap();
        let mut cp = Command::new("cp");
        let copied = cp.arg("-r").arg(log).arg(copy.path()).status().unwrap();
        let copied_to = copy.path().join("log");
        let args = ["audit", "verify", copied_to.to_str().unwrap(), "--key", key];
        let whole = copied.success() && site.run(&args).status.success();
        if whole || begun.elapsed() > PATIENCE {
            return copy;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_on_files_refuses_and_recovers() {
    let mut scene = Scene::new(&LIMITED).await;
    let before = scene.is_open().await;
    // Its standard error is a file as well, and takes no more lines either.
    scene.limit(Some(1));
    let refused = scene.is_shut(|| ()).await;
    scene.limit(None);
    scene.recovers("limit", before, refused).await;
    let (log, key) = (scene.site.data().join("log"), scene.running.log_key());
    scene.running.stop();
    verify(&scene.site, &log, &key);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_could_not_write_for_a_while_goes_on() {
    let mut scene = Scene::new(&LIMITED).await;
    scene.is_open().await;
    // The store's journal is by far the longest file: it alone can't grow.
    let journal = scene.site.data().join("store.db-wal");
    scene.limit(Some(std::fs::metadata(journal).unwrap().len()));
    // What the ledger takes is let through; the index of it lies in the store.
    let mut receipts = scene.is_open().await;
    let refused = ["identity", "issue", "other", "--out", "id/shut"];
    let refused = scene.site.run(&refused);
    assert!(!refused.status.success(), "{refused:?}");
    let begun = Instant::now();
    while !scene.site.said().contains("disk I/O error") {
        assert!(begun.elapsed() < PATIENCE, "{}", scene.site.said());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    scene.limit(None);
    receipts.extend(scene.is_open().await);
    let begun = Instant::now();
    loop {
        let shown = scene.site.ok(&["audit", "tail", "-n", "100"]);
        if receipts.iter().all(|receipt| shown.contains(receipt)) {
            break;
        }
        let said = scene.site.said();
        assert!(begun.elapsed() < PATIENCE, "{receipts:?}\n{shown}\n{said}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    scene.site.issue("other");
    scene.running.stop();
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

impl Scene {
    async fn new(wrapper: &[&str]) -> Self {
        let upstream = Upstream::start().await;
        let site = Site::new(&format!(
            "identities: {{ caller: {{}}, other: {{}} }}
roles: {{ reader: {{ members: [caller], may: [\"item:read\"] }} }}
services:
  api:
    peer: service
    url: \"http://127.0.0.1:{}\"
    operations: {{ GET /items/**: {{ needs: \"item:read\" }}, GET /hidden/**: {{ needs: \"item:read\" }} }}
edges: {{ caller -> api: [GET /items/**] }}
secrets: {{ mailer: {{ from: \"store:mailer\", needs: \"mail:key:read\", readers: [caller] }} }}
",
            upstream.port
        ));
        let running = site.up_by(wrapper, &[]);
        if wrapper.contains(&"--mount") {
            site.within.set(running.id()).unwrap();
        }
        let (identity, _) = site.issue("caller");
        let token = draw(&identity).await.unwrap();
        let door = Door::mesh(&identity, "api", site.mesh);
        let connections = vec![
            door.http1().await.unwrap(),
            door.http1().await.unwrap(),
            door.http2().await.unwrap(),
        ];
        Self {
            identity,
            running,
            site,
            token,
            upstream,
            connections,
        }
    }

    /// No file that the server writes may be longer than this from now on.
    fn limit(&self, bytes: Option<u64>) {
        let pid = i32::try_from(self.running.id()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid);
        let limit = rustix::process::Rlimit {
            current: bytes,
            maximum: None,
        };
        rustix::process::prlimit(pid, rustix::process::Resource::Fsize, limit).unwrap();
    }

    /// Calls are let through; the receipts of some. What follows has a new token.
    async fn is_open(&mut self) -> Vec<String> {
        self.token = draw(&self.identity).await.unwrap();
        let mut receipts = Vec::new();
        for connection in &mut self.connections {
            let response = connection.get("/items/open", &self.token).await.unwrap();
            assert_eq!(response.status(), 200, "{response:?}");
            receipts.push(receipt(&response));
        }
        self.token = draw(&self.identity).await.unwrap();
        receipts
    }

    /// Calls are refused for want of a record and don't reach the upstream, and nothing else of
    /// the server breaks. A few records may still fit in what was begun, so `again` fills it up.
    /// Returns the number of refusals.
    async fn is_shut(&mut self, again: impl Fn()) -> usize {
        for _ in 0..200 {
            let response = self.connections[0]
                .get("/items/filling", &self.token)
                .await
                .unwrap();
            if code(&response).as_deref() == Some(UNRECORDED) {
                break;
            }
            assert_eq!(response.status(), 200, "{response:?}");
            again();
        }
        again();
        let (reached, mut refused) = (self.upstream.count(), 0);
        for _ in 0..20 {
            for connection in &mut self.connections {
                for path in ["/items/shut", "/hidden/shut"] {
                    let response = connection.get(path, &self.token).await.unwrap();
                    assert_eq!(response.status(), 503, "{path}: {response:?}");
                    assert_eq!(code(&response).as_deref(), Some(UNRECORDED), "{path}");
                    assert_eq!(response.headers()["countersign-pillar"], "audit");
                    assert!(
                        response.headers().contains_key("retry-after"),
                        "{response:?}"
                    );
                    refused += 1;
                }
            }
        }
        // The store is on the same disk, and what it can't keep is not done either.
        for args in [
            &["identity", "revoke", "identity", "other"][..],
            &["identity", "issue", "other", "--out", "id/shut"],
            &["secret", "put", "mailer", "--file", "countersign.yaml"],
        ] {
            let output = self.site.run(args);
            assert!(
                !output.status.success(),
                "{args:?} succeeded on a full disk: {output:?}"
            );
        }
        // The sequencer and the index meet the full disk as well.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        assert!(self.running.lives(), "it crashed: {}", self.site.said());
        assert_eq!(
            self.upstream.count(),
            reached,
            "something was sent on without a record"
        );
        refused
    }

    /// There is space again: calls are let through by the same process on the same connections,
    /// and everything else works again.
    async fn recovers(&mut self, what: &str, mut receipts: Vec<String>, refused: usize) {
        let freed = Instant::now();
        loop {
            let response = self.connections[0]
                .get("/items/again", &self.token)
                .await
                .unwrap();
            if response.status() == 200 {
                break;
            }
            let code = code(&response);
            if code.as_deref() == Some(TOKEN_TIME) {
                // All this took a slow machine a minute. The refusal is recorded, so a new one is.
                self.token = draw(&self.identity).await.unwrap();
                continue;
            }
            assert_eq!(code.as_deref(), Some(UNRECORDED), "{response:?}");
            assert!(
                freed.elapsed() < RECOVERY,
                "it does not recover: {}",
                self.site.said()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let took = freed.elapsed();
        receipts.extend(self.is_open().await);
        for (index, receipt) in receipts.iter().enumerate() {
            let file = format!("proof-{index}.json");
            self.site.ok(&["audit", "prove", receipt, "-o", &file]);
            let key = self.running.log_key();
            self.site.ok(&["audit", "verify", &file, "--key", &key]);
        }
        self.site.issue("other");
        self.site
            .ok(&["secret", "put", "mailer", "--file", "countersign.yaml"]);
        self.site.ok(&["identity", "revoke", "identity", "other"]);
        assert!(self.running.lives());
        println!(
            "{what}: {refused} refusals with 503 {UNRECORDED}, none sent on; the first call is let \
             through {:.1} ms after there is space",
            took.as_secs_f64() * 1000.0
        );
    }
}

async fn draw(identity: &Path) -> Result<String, CallError> {
    let client = Client::from_dir(identity)?;
    let token = client.token("api", "item:read").await?;
    Ok(token.expose().to_owned())
}

/// The log verifies and has something in it.
fn verify(site: &Site, log: &Path, key: &str) {
    let said = site.ok(&["audit", "verify", log.to_str().unwrap(), "--key", key]);
    assert!(said.contains("VERIFIED"), "{said}");
    assert!(!Merged::read(log, key).receipts().is_empty());
}
