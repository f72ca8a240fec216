//! What a run leaves behind: a record for each decision and no other, each of which comes out the
//! same when it is decided again; and none of the secrets that went through.

use crate::fixture::Clinic;
use crate::fixture::said;
use crate::fixture::text;
use crate::fixture::tools;
use base64::Engine as _;
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;

/// The records of a log folder, as anybody reads them who knows the tile layout of C2SP
/// tlog-tiles: entry bundles of 256, each entry behind its length in 16 bits.
fn entries(log: &Path, size: u64) -> Vec<Value> {
    let mut found = Vec::new();
    for bundle in 0..size.div_ceil(256) {
        assert!(bundle < 1000, "this reader knows one folder of bundles");
        let width = (size - bundle * 256).min(256);
        let whole = log.join(format!("tile/entries/{bundle:03}"));
        let path = match width {
            256 => whole,
            _ => whole.with_extension("p").join(width.to_string()),
        };
        let bytes =
            std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut rest = bytes.as_slice();
        while let [high, low, entry @ ..] = rest {
            let (leaf, more) = entry.split_at(usize::from(u16::from_be_bytes([*high, *low])));
            found.push(serde_json::from_slice(leaf).unwrap());
            rest = more;
        }
    }
    assert_eq!(found.len() as u64, size);
    found
}

/// The size that the checkpoint signs.
fn signed_size(log: &Path) -> u64 {
    let note = std::fs::read_to_string(log.join("checkpoint")).unwrap();
    note.lines().nth(1).unwrap().parse().unwrap()
}

fn of_kind<'a>(records: &'a [Value], kind: &str) -> Vec<&'a Value> {
    let records = records.iter().map(|leaf| &leaf["record"]);
    records.filter(|record| record["kind"] == kind).collect()
}

/// Every way of writing a secret that a careless program might.
fn written(secret: &str) -> Vec<Vec<u8>> {
    let standard = base64::engine::general_purpose::STANDARD_NO_PAD.encode(secret);
    // Cut where the end of what stands before or after it shows.
    let inner = standard.len().saturating_sub(2);
    vec![
        secret.as_bytes().to_vec(),
        standard.as_bytes()[..inner].to_vec(),
        hex::encode(secret).into_bytes(),
    ]
}

fn files(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files(&entry.path(), found);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
}

/// Looks for secrets in everything the processes wrote and were started with.
fn leaks(clinic: &Clinic, secrets: &BTreeSet<String>) -> Vec<String> {
    let mut paths = Vec::new();
    files(&clinic.path("data"), &mut paths);
    files(&clinic.path("logs"), &mut paths);
    for pid in clinic.processes() {
        paths.push(format!("/proc/{pid}/cmdline").into());
        paths.push(format!("/proc/{pid}/environ").into());
    }
    assert!(paths.len() > 10, "{paths:?}");
    let needles: Vec<_> = secrets.iter().map(|it| (it, written(it))).collect();
    let mut found = Vec::new();
    for path in paths {
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            // The last tile is replaced as the log grows; its successor has what was in it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => panic!("{}: {error}", path.display()),
        };
        for (secret, forms) in &needles {
            if forms.iter().any(|form| find(&bytes, form)) {
                found.push(format!("`{secret}` in {}", path.display()));
            }
        }
        // A compact JWS, ours or not: header and payload are JSON objects.
        if find(&bytes, b".eyJ") {
            found.push(format!("a token in {}", path.display()));
        }
    }
    found
}

fn find(hay: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(hay, needle).is_some()
}

/// Decides each of these again, by the administration socket.
fn replayed(clinic: &Clinic, receipts: &[String]) -> Vec<Value> {
    let mut found = Vec::new();
    for some in receipts.chunks(100) {
        let mut curl = clinic.unprivileged(Path::new("curl"));
        curl.args(["-sS", "--max-time", "60", "--unix-socket"]);
        curl.arg(clinic.path("data/run/admin/admin.sock"));
        curl.args(
            some.iter()
                .map(|id| format!("http://localhost/v1/admin/records/{id}/replay")),
        );
        let output = curl.output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let answers = serde_json::Deserializer::from_slice(&output.stdout).into_iter::<Value>();
        found.extend(
            answers.map(|it| it.unwrap_or_else(|error| panic!("{error}: {}", said(&output)))),
        );
    }
    found
}

#[test]
fn a_run_is_accounted_for_and_keeps_no_secret() {
    if !tools(&["curl"]) {
        return;
    }
    let mut clinic = Clinic::start(true);
    let Some(traffic) = clinic.script("traffic.py") else {
        return;
    };
    assert!(traffic["answers"].as_u64().unwrap() > 80, "{traffic}");
    every_decision_comes_out_the_same(&clinic);
    // While they run, with their arguments and what they have open, and what is left in the end.
    no_secret_is_kept(&clinic, &traffic);
    decisions_are_records_are_forwards_and_refusals(&mut clinic);
    no_secret_is_kept(&clinic, &traffic);
}

fn every_decision_comes_out_the_same(clinic: &Clinic) {
    let listed = clinic.document(&["audit", "tail", "-n", "1000"]);
    let listed = listed["records"].as_array().unwrap();
    let decisions = listed
        .iter()
        .filter(|entry| entry["record"]["kind"] == "decision");
    let recorded: BTreeMap<String, Value> = decisions
        .map(|entry| {
            (
                entry["receipt"].as_str().unwrap().to_owned(),
                entry["record"]["code"].clone(),
            )
        })
        .collect();
    let refused = recorded.values().filter(|code| !code.is_null()).count();
    assert!(
        refused > 30 && recorded.len() - refused > 60,
        "{refused} of {}",
        recorded.len()
    );
    let receipts: Vec<_> = recorded.keys().cloned().collect();
    let replays = replayed(clinic, &receipts);
    assert_eq!(replays.len(), recorded.len());
    // Before and after a revocation, and on either policy.
    let states = |of: &str| -> BTreeSet<String> {
        let states = listed.iter().map(|entry| &entry["record"]["state"][of]);
        states
            .filter(|it| !it.is_null())
            .map(Value::to_string)
            .collect()
    };
    assert!(states("epoch").len() >= 3 && states("revision").len() >= 2);
    for replay in &replays {
        let receipt = replay["receipt"]
            .as_str()
            .unwrap_or_else(|| panic!("{replay}"));
        assert_eq!(replay["same"], true, "{replay}");
        assert_eq!(replay["replayed"], recorded[receipt], "{replay}");
    }
}

fn no_secret_is_kept(clinic: &Clinic, traffic: &Value) {
    let never = traffic["never"].as_array().unwrap().iter();
    let mut secrets: BTreeSet<String> = never.map(|it| it.as_str().unwrap().to_owned()).collect();
    assert!(secrets.len() > 50, "{secrets:?}");
    secrets.extend(clinic.canaries.iter().cloned());
    assert_eq!(leaks(clinic, &secrets), Vec::<String>::new());
    // The search finds what is there: the log names who asked, and as much was logged as may be.
    let known = BTreeSet::from([
        "spiffe://hms.dev.invalid/research-bot".to_owned(),
        "INFO".to_owned(),
    ]);
    let found = leaks(clinic, &known);
    for place in ["/log/tile/entries/", "/spool/", "/logs/up.err"] {
        assert!(
            found.iter().any(|line| line.contains(place)),
            "{place}: {found:?}"
        );
    }
}

fn decisions_are_records_are_forwards_and_refusals(clinic: &mut Clinic) {
    // Asking is a decision as well, and the last one.
    let status = clinic.document(&["status"]);
    let key = status["log_key"].as_str().unwrap().to_owned();
    clinic.stop();
    let log = clinic.path("data/log");
    let verified = clinic.line(&["audit", "verify", text(&log), "--key", &key]);
    assert!(verified.contains("VERIFIED"), "{verified}");
    let leaves = entries(&log, signed_size(&log));
    let decisions = of_kind(&leaves, "decision");
    let count = |status: &str| decisions.iter().filter(|it| it["status"] == status).count() as u64;
    assert_eq!(count("success"), status["admitted"].as_u64().unwrap());
    assert_eq!(count("denied"), status["refused"].as_u64().unwrap());
    assert_eq!(count("success") + count("denied"), decisions.len() as u64);
    // What was admitted went on, and ended: one completion each.
    let completions = of_kind(&leaves, "completion");
    let ended: BTreeSet<_> = completions
        .iter()
        .map(|it| it["completion"]["decision"].to_string())
        .collect();
    assert_eq!(ended.len(), completions.len(), "a decision ended twice");
    assert_eq!(completions.len() as u64, count("success"));
}
