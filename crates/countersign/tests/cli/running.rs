//! From nothing to a call through all six pillars, and back to its record.

use crate::support::Done;
use crate::support::Place;
use crate::support::Serving;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

/// An application on loopback that counts the requests it sees.
fn application() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines
                .next()
                .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
            {}
            count.fetch_add(1, Ordering::SeqCst);
            let body = r#"{"visits":7}"#;
            let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json";
            let _ = write!(
                stream,
                "{head}\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
        }
    });
    (port, seen)
}

/// What `init` wrote, with doors on free ports and this application.
fn adapted(place: &Place, port: u16) {
    let file = place.path().join("countersign.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text
        .replace("127.0.0.1:8443", "127.0.0.1:0")
        .replace("127.0.0.1:9443", "127.0.0.1:0");
    std::fs::write(
        &file,
        text.replace("127.0.0.1:8000", &format!("127.0.0.1:{port}")),
    )
    .unwrap();
}

/// An installation that runs, its application, and the folder `id/worker` of `stats-worker`.
struct Installation {
    log_key: String,
    place: Place,
    seen: Arc<AtomicUsize>,
    serving: Serving,
}

impl Installation {
    fn start(env: &[(&str, &str)]) -> Self {
        let place = Place::new();
        let (port, seen) = application();
        let made = place.line("init -o json").ok();
        let made = made.document("countersign.init/v1");
        assert_eq!(made["trust_domain"], "hms.dev.invalid");
        place.line("check --strict").ok();
        adapted(&place, port);
        let serving = place.serve(&["up", "--control", "127.0.0.1:0"], env);
        let issue = "identity issue stats-worker --out id/worker";
        place.line(issue).ok();
        let log_key = made["log_key"].as_str().unwrap().to_owned();
        Self {
            log_key,
            place,
            seen,
            serving,
        }
    }

    fn as_worker(&self, line: &str) -> Done {
        let arguments: Vec<_> = line.split_whitespace().collect();
        let identity = [("COUNTERSIGN_IDENTITY", "id/worker")];
        self.place.run_with(&arguments, &identity, "")
    }

    /// Refused, in words and by exit code, by this pillar and for this reason.
    fn refused(&self, line: &str, pillar: &str, code: &str) -> Done {
        let done = self.as_worker(line);
        assert_eq!(done.code, 3, "{line}: {done:?}");
        let told = format!("pillar {pillar} failed ({code})");
        assert!(done.err.contains(&told), "{line}: {}", done.err);
        let next = "countersign explain r-";
        assert!(done.err.contains(next), "{line}: {}", done.err);
        done
    }
}

const CALL: &str = "call GET hms-api/stats --scope stats:read";

#[test]
fn init_check_up_issue_token_call() {
    let it = Installation::start(&[]);
    let again = it.place.line("init");
    assert_eq!(again.code, 1, "keys were made over keys");
    assert_eq!(it.serving.started["schema"], "countersign.up/v1");
    let same = it.serving.started["log_key"] == *it.log_key;
    assert!(same, "another log than the one of init");
    let status = it.place.line("status -o json").ok();
    assert_eq!(status.document("countersign.status/v1")["dev"], true);
    let listed = it.place.line("identity ls -o short").ok();
    assert_eq!(listed.out, "hms-api\nstats-worker\n");
    let key = it.place.path().join("id/worker/key.pem");
    let mode = std::fs::metadata(key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let token = it.as_worker("token --for hms-api --scope stats:read").ok();
    assert_eq!(token.out.trim().split('.').count(), 3, "{}", token.out);
    let called = it.as_worker(CALL).ok();
    assert_eq!(called.out, "{\"visits\":7}\n");
    assert_eq!(called.err.matches('✔').count(), 6, "{}", called.err);
    let json = it.as_worker(&format!("{CALL} -o json")).ok();
    let document = json.document("countersign.call/v1");
    assert_eq!(document["body"]["visits"], 7);
    assert_eq!(it.seen.load(Ordering::SeqCst), 2);
}

#[test]
fn a_call_is_explained_proved_and_verified_after_the_end() {
    let it = Installation::start(&[]);
    let json = it.as_worker(&format!("{CALL} -o json")).ok();
    let document = json.document("countersign.call/v1");
    let receipt = document["receipt"].as_str().unwrap();
    let proof = format!("audit prove {receipt} -o proof.json");
    it.place.line(&proof).ok();
    let verify = format!("audit verify proof.json --key {}", it.log_key);
    let verified = it.place.line(&verify).ok();
    assert!(verified.out.contains(receipt), "{}", verified.out);
    assert!(verified.out.contains("VERIFIED"), "{}", verified.out);
    let story = it.place.line(&format!("explain {receipt}")).ok();
    assert!(story.out.contains("stats-worker"), "{}", story.out);
    assert!(story.out.contains("GET hms-api/stats"), "{}", story.out);
    assert!(story.out.starts_with("ADMITTED  "), "{}", story.out);
    let tail = it.place.line("audit tail -n 100").ok();
    assert!(tail.out.contains(receipt), "{}", tail.out);

    assert_eq!(it.serving.stop(), 0);
    let verify = format!("audit verify --key {}", it.log_key);
    let whole = it.place.line(&verify).ok();
    assert!(whole.out.contains("VERIFIED"), "{}", whole.out);
}

#[test]
fn a_refusal_is_3_and_names_the_pillar() {
    let it = Installation::start(&[]);
    let other = "call GET hms-api/stats --scope report:read";
    it.refused(other, "least-privilege", "CSD502");
    for line in [
        "call GET vault/x --scope secret:read",
        "call POST hms-api/stats --scope stats:read",
        "secret get mailer --scope mail:key:read",
    ] {
        it.refused(line, "micro-segmentation", "CSD401");
    }
    it.place.line("identity revoke identity stats-worker").ok();
    let call = format!("{CALL} -o json");
    let done = it.refused(&call, "continuous-verification", "CSD303");
    let document = done.document("countersign.call/v1");
    assert_eq!(document["verdict"], "deny");
    let receipt = document["receipt"].as_str().unwrap();
    let story = it.place.line(&format!("explain {receipt}")).ok();
    let head = "DENIED at continuous-verification";
    assert!(story.out.starts_with(head), "{}", story.out);
    let upstream = it.seen.load(Ordering::SeqCst);
    assert_eq!(upstream, 0, "a refused call went upstream");
}

#[test]
fn a_revocation_says_when_there_is_nothing_of_that_name() {
    let it = Installation::start(&[]);
    let known = |what: &str| {
        let done = it.place.line(&format!("identity revoke {what} -o json"));
        let document = done.ok().document("countersign.revocation/v1");
        assert!(document["revocation"]["epoch"].is_u64(), "{document}");
        document["known"].clone()
    };
    assert_eq!(known("identity hms-api"), true);
    assert_eq!(known("identity hms-apy"), false);
    assert_eq!(
        known("identity spiffe://hms.dev.invalid/stats-worker"),
        true
    );
    assert_eq!(known(&format!("certificate {}", "ab".repeat(32))), false);
    // Whose a subject is, only its sign-in knows.
    assert!(known("subject dev:alice").is_null());
    let mistyped = it.place.line("identity revoke identity hms-apy").ok();
    assert!(mistyped.out.contains("a typo?"), "{}", mistyped.out);
    let right = it.place.line("identity revoke identity hms-api").ok();
    assert!(!right.out.contains("a typo?"), "{}", right.out);
}

#[test]
fn a_secret_is_put_by_the_operator_and_read_by_its_reader_alone() {
    let place = Place::new();
    place.run(&["init"]).ok();
    adapted(&place, 9);
    let _serving = place.serve(&["up", "--control", "127.0.0.1:0"], &[]);
    let canary = "canary-4711-value";
    let put = place
        .run_with(&["secret", "put", "mailer"], &[], &format!("{canary}\n"))
        .ok();
    assert!(put.out.contains("version 1"), "{}", put.out);
    let listed = place.run(&["secret", "ls", "-o", "json"]).ok();
    assert!(!listed.out.contains(canary));
    assert_eq!(
        listed.document("countersign.secrets/v1")["secrets"][0]["version"],
        1
    );
    place
        .run(&["identity", "issue", "hms-api", "--out", "id/api"])
        .ok();
    let get = [
        "secret",
        "get",
        "mailer",
        "--scope",
        "mail:key:read",
        "--identity",
        "id/api",
    ];
    assert_eq!(place.run(&get).ok().out, format!("{canary}\n"));
    place
        .run(&["identity", "issue", "stats-worker", "--out", "id/worker"])
        .ok();
    let get = [
        "secret",
        "get",
        "mailer",
        "--scope",
        "mail:key:read",
        "--identity",
        "id/worker",
    ];
    let done = place.run(&get);
    assert_eq!(done.code, 3, "{done:?}");
    assert!(!format!("{done:?}").contains(canary));
}

#[test]
fn reload_and_hangup_put_a_changed_file_in_force_or_nothing() {
    let place = Place::new();
    place.run(&["init"]).ok();
    adapted(&place, 9);
    let serving = place.serve(&["up", "--control", "127.0.0.1:0"], &[]);
    let revision = || {
        let status = place.run(&["status", "-o", "json"]).ok();
        status.document("countersign.status/v1")["revision"].clone()
    };
    let (file, before) = (place.path().join("countersign.yaml"), revision());
    let good = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, good.replace("\"stats:read\" }", "\"stats:raed\" }")).unwrap();
    assert_eq!(place.run(&["reload"]).code, 4);
    assert_eq!(revision(), before);
    std::fs::write(&file, format!("{good}# changed\n")).unwrap();
    place.run(&["reload"]).ok();
    let after = revision();
    assert_ne!(after, before);
    std::fs::write(&file, format!("{good}# changed again\n")).unwrap();
    serving.signal(rustix::process::Signal::HUP);
    let begun = std::time::Instant::now();
    while revision() == after {
        let waited = begun.elapsed();
        assert!(waited.as_secs() < 60, "a hangup changed nothing");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn zt_off_in_development_is_decided_and_recorded() {
    let it = Installation::start(&[("ZT_OFF", "true")]);
    // No edge leads there, and no role allows it.
    let called = it.as_worker("call GET hms-api/reports/42 -o json").ok();
    let called = called.document("countersign.call/v1");
    assert_eq!(it.seen.load(Ordering::SeqCst), 1);
    let receipt = called["receipt"].as_str().unwrap();
    let shown = it.place.line(&format!("audit show {receipt} -o json")).ok();
    let shown = shown.document("countersign.record/v1");
    assert_eq!(shown["record"]["record"]["way"], "ZT_OFF");
    assert_eq!(shown["record"]["record"]["metadata"]["zt_off"], "true");
}
