//! `kill -9` under load: whatever a caller was told has its record, and the next start repairs
//! what the kill tore.

use crate::ledger::Merged;
use crate::ledger::Records;
use crate::site::Seeded;
use crate::site::Site;
use crate::upstream::Upstream;
use countersign_client::CallError;
use countersign_client::Client;
use countersign_core::vocabulary::Code;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

/// Connections under load at once.
const CALLERS: usize = 5;
/// A start that takes longer did not happen by itself.
const START: Duration = Duration::from_secs(60);
/// How long a round may take to its share of answers, however slow the machine.
const ANSWERS: Duration = Duration::from_secs(60);
/// Answers of each kind for each round, on average. A load of nothing would lose nothing.
const ALLOWED: usize = 10;
const REFUSED: usize = 2;

/// An answer that a caller has received to its last byte.
struct Answered {
    allowed: bool,
    /// What it asked for, as records name it: no two questions ask for the same.
    resource: String,
    receipt: String,
}

/// What the callers of one round share.
#[derive(Default)]
struct Round {
    killed: AtomicBool,
    next: AtomicU64,
    /// Answers that callers have received, over all rounds.
    allowed: AtomicUsize,
    refused: AtomicUsize,
}

impl Round {
    /// Waits until this many rounds have had their share of answers.
    async fn have_had_load(&self, rounds: usize) {
        let begun = Instant::now();
        loop {
            let allowed = self.allowed.load(Ordering::SeqCst);
            let refused = self.refused.load(Ordering::SeqCst);
            if allowed > ALLOWED * rounds && refused > REFUSED * rounds {
                return;
            }
            assert!(
                begun.elapsed() < ANSWERS,
                "only {allowed} allowed and {refused} refused answers in {rounds} rounds"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_kills_under_load_lose_nothing_that_was_synced() {
    kills("fsync", 50, 0x5eed_0001).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_under_load_lose_nothing_that_was_written() {
    kills("os", 15, 0x5eed_0002).await;
}

async fn kills(commit: &str, rounds: usize, seed: u64) {
    let upstream = Upstream::start().await;
    let site = Site::new(&format!(
        "identities: {{ caller: {{}} }}
roles: {{ reader: {{ members: [caller], may: [\"item:read\"] }} }}
services:
  api:
    peer: service
    url: \"http://127.0.0.1:{}\"
    operations: {{ GET /items/**: {{ needs: \"item:read\" }}, GET /hidden/**: {{ needs: \"item:read\" }} }}
edges: {{ caller -> api: [GET /items/**] }}
audit: {{ commit: {commit} }}
",
        upstream.port
    ));
    let running = site.up();
    let key = running.log_key();
    let (identity, _) = site.issue("caller");
    running.kill();

    let mut seeded = Seeded(seed);
    let mut records = Records::default();
    let (mut answers, mut slowest, begun) = (Vec::new(), Duration::ZERO, Instant::now());
    let round = Arc::new(Round::default());
    let mut stillborn = 0;
    for number in 0..rounds {
        if seeded.below(5) == 0 {
            // A start can be killed as well, in the middle of its repairs.
            site.stillborn(Duration::from_millis(seeded.below(300)));
            stillborn += 1;
        }
        let running = site.up();
        slowest = slowest.max(running.took);
        assert!(
            running.took < START,
            "start {number} took {:?}",
            running.took
        );
        assert_eq!(running.log_key(), key, "it made itself another key");
        round.killed.store(false, Ordering::SeqCst);
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                tokio::spawn(load(
                    identity.clone(),
                    round.clone(),
                    seeded.below(u64::MAX),
                ))
            })
            .collect();
        // At any moment, from the handshakes on; later where a slow machine has answered little.
        tokio::time::sleep(Duration::from_millis(100 + seeded.below(500))).await;
        round.have_had_load(number + 1).await;
        round.killed.store(true, Ordering::SeqCst);
        running.kill();
        let mut received = Vec::new();
        for caller in callers {
            received.extend(caller.await.unwrap());
        }
        verify(&site, &key);
        records.read(&site, &key);
        check(&records, &received, &upstream.take(), number);
        answers.extend(received);
    }

    site.up().stop();
    verify(&site, &key);
    records.read(&site, &key);
    let log = Merged::read(&site.data().join("log"), &key);
    records.are_all_in(&log);
    let receipts = log.receipts();
    assert!(
        answers
            .iter()
            .all(|answer| receipts.contains(&answer.receipt))
    );
    let allowed = answers.iter().filter(|answer| answer.allowed).count();
    let refused = answers.len() - allowed;
    println!(
        "{commit}: {rounds} kills under load and {stillborn} during a start in {:.1} s: {allowed} \
         allowed and {refused} refused answers received, {} records, slowest start {:.2} s",
        begun.elapsed().as_secs_f64(),
        records.len(),
        slowest.as_secs_f64(),
    );
    assert!(
        allowed > ALLOWED * rounds && refused > REFUSED * rounds,
        "{allowed} {refused}"
    );
}

/// One caller: asks until the server is killed, on a connection of its own.
async fn load(identity: impl AsRef<Path>, round: Arc<Round>, seed: u64) -> Vec<Answered> {
    let client = Client::from_dir(identity).unwrap();
    let mut seeded = Seeded(seed);
    let mut received = Vec::new();
    loop {
        let number = round.next.fetch_add(1, Ordering::Relaxed);
        let asked = match seeded.below(4) {
            0 => format!("api/hidden/{number}"),
            _ => format!("api/items/{number}"),
        };
        let hidden = asked.starts_with("api/hidden");
        match client
            .secure_call(&asked, "GET", None::<&Value>, "item:read")
            .await
        {
            Ok(response) => {
                assert!(!hidden && response.status() == 200, "{asked}: {response:?}");
                received.push(Answered {
                    allowed: true,
                    receipt: response.receipt().expect("no receipt").to_owned(),
                    resource: asked,
                });
                round.allowed.fetch_add(1, Ordering::SeqCst);
            }
            Err(CallError::AccessDenied(denied)) => {
                assert!(
                    hidden && denied.code == Some(Code::NO_EDGE),
                    "{asked}: {denied}"
                );
                received.push(Answered {
                    allowed: false,
                    receipt: denied.receipt.expect("no receipt"),
                    resource: asked,
                });
                round.refused.fetch_add(1, Ordering::SeqCst);
            }
            Err(error) => {
                assert!(round.killed.load(Ordering::SeqCst), "{asked}: {error:?}");
                return received;
            }
        }
    }
}

/// The command that an auditor would use.
fn verify(site: &Site, key: &str) {
    let log = site.data().join("log");
    let said = site.ok(&["audit", "verify", log.to_str().unwrap(), "--key", key]);
    assert!(said.contains("VERIFIED"), "{said}");
}

fn check(records: &Records, received: &[Answered], upstream: &[String], round: usize) {
    for answer in received {
        let resource = &answer.resource;
        let found = records.decisions(resource);
        assert_eq!(
            found.len(),
            1,
            "round {round}: {resource} was decided more or less than once"
        );
        assert_eq!(
            found[0].receipt, answer.receipt,
            "round {round}: {resource}"
        );
        assert_eq!(
            found[0].allowed, answer.allowed,
            "round {round}: {resource}"
        );
        assert!(records.has(&answer.receipt));
    }
    // Recorded before it was sent on: also where the caller never heard of it.
    for path in upstream {
        let found = records.decisions(&format!("api{path}"));
        let allowed = found.iter().filter(|decision| decision.allowed).count();
        assert_eq!(
            allowed, 1,
            "round {round}: {path} went upstream without a record"
        );
    }
}
