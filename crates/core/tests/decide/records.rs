//! Records: canonical, the same fields for allowed and refused, and decided again with the same
//! answer.

use crate::fixture::*;
use crate::limits::chat;
use countersign_core::decide::Verdict;
use countersign_core::decide::decide;
use countersign_core::hop::Hop;
use countersign_core::hop::Peer;
use countersign_core::hop::RequestFault;
use countersign_core::hop::Tls;
use countersign_core::hop::TlsFault;
use countersign_core::hop::Token;
use countersign_core::hop::TokenFault;
use countersign_core::pillars::least_privilege::Outcome;
use countersign_core::pillars::least_privilege::Reservation;
use countersign_core::record::Context;
use countersign_core::record::Record;
use countersign_core::replay::ReplayError;
use countersign_core::replay::replay;
use countersign_core::snapshot::Bundle;
use countersign_core::snapshot::Revoked;
use countersign_core::snapshot::State;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Operation;
use countersign_ledger::canonical;
use countersign_ledger::spool::Commit;
use countersign_ledger::spool::Spool;
use countersign_ledger::spool::SpoolOptions;
use countersign_ledger::storage::FsStorage;
use std::sync::Arc;

fn context() -> Context<'static> {
    Context {
        request_id: "0b9f",
        source_ip: "192.0.2.7".parse().ok(),
        trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736"),
        user_agent: Some("curl/8 \u{1F600} \"quoted\""),
    }
}

pub(crate) fn record_of(hop: Hop, state: &State) -> Vec<u8> {
    match decide(hop, state) {
        Verdict::Deny(denial) => denial.record(&context()).to_bytes(),
        Verdict::Allow(pending) => {
            let outcomes = pending.demands().iter();
            let outcomes = outcomes
                .map(|demand| Outcome {
                    demand: demand.clone(),
                    granted: true,
                    spent: 7,
                })
                .collect();
            let proof = pending.complete(Reservation::new(outcomes)).unwrap();
            proof.seal(&context()).record().unwrap().to_vec()
        }
    }
}

pub(crate) fn samples() -> Vec<(Hop, State)> {
    let mut stranger = summary();
    stranger.evidence.peer = Peer::Anonymous;
    let mut bad = summary();
    bad.evidence.token = Token::Invalid {
        fault: TokenFault::Signature,
        hash: leaf("x"),
    };
    let mut odd = summary();
    odd.facts.fault = Some(RequestFault {
        code: Code::PATH_AMBIGUOUS,
        detail: "é\u{7f}\u{2028}\\\"".into(),
    });
    vec![
        (summary(), state()),
        (vault_read(), state()),
        (chat(Some("gpt-4o")), state()),
        (chat(Some("o1")), state()),
        (summary(), revoked(Revoked::Token("jti-1".into()))),
        (stranger, state()),
        (bad, state()),
        (odd, state()),
    ]
}

#[test]
fn every_record_is_canonical_json() {
    for (hop, state) in samples() {
        let bytes = record_of(hop, &state);
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(
            bytes,
            canonical::to_canonical(&value).unwrap(),
            "{}",
            String::from_utf8_lossy(&bytes)
        );
        assert!(canonical::is_canonical(&bytes));
    }
}

#[test]
fn allowed_and_refused_have_the_same_fields() {
    let keys = |bytes: Vec<u8>| -> Vec<String> {
        let value: serde_json::Map<_, _> = serde_json::from_slice(&bytes).unwrap();
        let only_refused = ["code", "pillar", "reason"];
        let only_allowed = ["way"];
        value
            .keys()
            .filter(|key| {
                !only_refused.contains(&key.as_str()) && !only_allowed.contains(&key.as_str())
            })
            .cloned()
            .collect()
    };
    let allowed = keys(record_of(summary(), &state()));
    let mut refused = summary();
    refused.operation.object = "/nothing".into();
    assert_eq!(allowed, keys(record_of(refused, &state())));
    for field in [
        "timestamp",
        "event_type",
        "status",
        "principal",
        "resource",
        "action",
        "source_ip",
        "user_agent",
        "trace_id",
        "metadata",
    ] {
        assert!(allowed.iter().any(|key| key == field), "{field}");
    }
}

#[test]
fn deciding_again_gives_the_same_answer() {
    for (hop, state) in samples() {
        let bytes = record_of(hop, &state);
        let record = Record::from_bytes(&bytes).unwrap();
        let again = replay(&record, &state, true).unwrap();
        assert!(again.same(), "{again:?}");
        // The way back from the kept bundle gives the same revision and the same answer.
        let kept = state.snapshot.bundle().bytes();
        let bundle = Bundle::read(&kept, &record.state.unwrap().revision).unwrap();
        let snapshot = countersign_core::snapshot::Snapshot::from_bundle(bundle).unwrap();
        let rebuilt = State {
            snapshot: Arc::new(snapshot),
            revocations: state.revocations.clone(),
        };
        assert_eq!(replay(&record, &rebuilt, true).unwrap(), again);
    }
}

#[test]
fn what_a_stranger_chose_is_kept_short_and_decided_again() {
    let long = || "\u{e9}/".repeat(10_000);
    let mut anonymous = summary();
    anonymous.evidence.peer = Peer::Anonymous;
    let mut encrypted = summary();
    encrypted.evidence.peer = Peer::Anonymous;
    encrypted.evidence.tls = Tls::Refused {
        fault: TlsFault::Version,
    };
    let mut signed_in = browser(Operation::named("GET", "/"), &[]);
    signed_in.facts.same_origin = None;
    for (mut hop, code) in [
        (anonymous, Code::CERTIFICATE_ABSENT),
        (encrypted, Code::TLS_VERSION),
        (signed_in, Code::TOKEN_AUDIENCE),
    ] {
        hop.service = long();
        hop.operation.object = format!("/{}", long());
        hop.facts.requested_service = Some(long());
        hop.facts.requested_scope = vec![long(); 3];
        let state = state();
        let bytes = record_of(hop, &state);
        assert!(bytes.len() < 4096, "{}", bytes.len());
        let record = Record::from_bytes(&bytes).unwrap();
        assert_eq!(record.code, Some(code));
        let kept = record.hop.as_ref().unwrap();
        for text in [
            &*kept.service,
            &*kept.operation.object,
            &*record.resource.id,
            &*record.resource.service,
        ] {
            assert!((250..=256).contains(&text.len()), "{}", text.len());
        }
        assert!(replay(&record, &state, true).unwrap().same());
    }
}

#[test]
fn a_reduced_record_says_who_and_why_in_little_room() {
    let mut hop = summary();
    hop.operation.object = format!("/{}", "a".repeat(70_000));
    let Verdict::Deny(denial) = decide(hop, &state()) else {
        panic!("allowed");
    };
    assert!(!denial.is_stranger());
    assert!(denial.record(&context()).to_bytes().len() > 65_535);
    let bytes = denial.reduced_record(&context()).to_bytes();
    assert!(bytes.len() < 2048, "{}", bytes.len());
    let record = Record::from_bytes(&bytes).unwrap();
    assert_eq!(
        (record.code, record.principal.on_behalf_of.as_deref()),
        (Some(Code::NO_EDGE), Some("dev:alice"))
    );
    assert_eq!(
        replay(&record, &state(), false),
        Err(ReplayError::NotADecision)
    );
}

#[test]
fn replay_wants_the_state_of_that_moment() {
    let bytes = record_of(summary(), &state());
    let record = Record::from_bytes(&bytes).unwrap();
    let later = revoked(Revoked::Token("jti-1".into()));
    assert_eq!(replay(&record, &later, true), Err(ReplayError::OtherState));
    let what_if = replay(&record, &later, false).unwrap();
    assert_eq!(
        (what_if.recorded, what_if.replayed),
        (None, Some(Code::TOKEN_REVOKED))
    );
}

#[test]
fn no_token_bytes_and_nothing_secret_in_a_record() {
    let bytes = record_of(summary(), &state());
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.contains("\"jti\":\"jti-1\""));
    assert!(!text.contains("Authorization") && !text.contains("eyJ"));
}

#[test]
fn a_promise_for_another_record_admits_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let storage = Arc::new(FsStorage::new(folder.path()));
    let options = SpoolOptions {
        commit: Commit::Os,
        ..SpoolOptions::default()
    };
    let (spool, _) = Spool::open(storage, "n1", options).unwrap();
    let sealed = |hop| match decide(hop, &state()) {
        Verdict::Allow(pending) => pending
            .complete(Reservation::default())
            .unwrap()
            .seal(&context()),
        Verdict::Deny(denial) => panic!("{}", denial.reason()),
    };
    let mine_again = || sealed(summary());
    let (mine, other) = (sealed(summary()), sealed(vault_read()));
    let promise = spool
        .append_blocking(other.record().unwrap().to_vec())
        .unwrap();
    assert!(mine.admit(promise).is_err());
    let promise = spool.append_blocking(other.record()).unwrap();
    let admission = other.admit(promise).unwrap();
    assert_eq!(admission.hop().service, "vault");
    assert_eq!(admission.receipt(), admission.promise().receipt());
    // Not even one that differs in a single byte.
    let mine_text = String::from_utf8(mine_again().record().unwrap().to_vec()).unwrap();
    let changed = mine_text.replacen("summary", "summarY", 1);
    assert_ne!(changed, mine_text);
    let promise = spool.append_blocking(changed.into_bytes()).unwrap();
    assert!(mine_again().admit(promise).is_err());
}
