//! Bodies by schema, and pages of other origins: what the enforcement point found is judged again
//! from the record alone.

use crate::fixture::*;
use crate::records::record_of;
use countersign_core::config::json_schema::Schema;
use countersign_core::hop::Hop;
use countersign_core::hop::SchemaFault;
use countersign_core::hop::SchemaVerdict;
use countersign_core::proving::Judgement;
use countersign_core::proving::diagnostics;
use countersign_core::proving::prove_all;
use countersign_core::record::Record;
use countersign_core::replay::replay;
use countersign_core::snapshot::Bundle;
use countersign_core::snapshot::Revocations;
use countersign_core::snapshot::Snapshot;
use countersign_core::snapshot::State;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::Operation;
use std::sync::Arc;

const SUMMARY: &str = r#"{"type":"object","required":["title"],"properties":{"title":{"type":"string","maxLength":5}}}"#;
/// Another rule of the same operation.
const BOUNDED: &str = r#"{"maxProperties":2}"#;

fn files(more: &str) -> Bundle {
    let text = include_str!("hms.yaml")
        .replace(
            r#"POST /ai/summary: { needs: "ai:invoke-summary" }"#,
            r#"POST /ai/summary: { needs: "ai:invoke-summary", body: { schema: summary.json } }
      POST /ai/*: { needs: edge, body: { schema: bounded.json } }"#,
        )
        .replace(
            "peer: browser, login: dev,",
            "peer: browser, login: dev, cors: { origins: [\"https://docs.acme.example\"], credentials: true },",
        )
        .replace("\ntests:\n", &format!("\ntests:\n{more}"));
    let files = [
        ("hms.yaml".to_owned(), text),
        ("summary.json".to_owned(), SUMMARY.to_owned()),
        ("bounded.json".to_owned(), BOUNDED.to_owned()),
    ];
    Bundle {
        files: files.into(),
        ..bundle()
    }
}

fn shaped(more: &str) -> State {
    State {
        revocations: Arc::new(Revocations::default()),
        snapshot: Arc::new(Snapshot::from_bundle(files(more)).unwrap()),
    }
}

fn judged(schema: &str, body: &str) -> SchemaVerdict {
    let body = serde_json::from_str(body).unwrap();
    Schema::compile(schema).unwrap().judge(&body)
}

/// alice asks for a summary with this body.
fn asks(body: &str) -> Hop {
    let mut hop = browser(
        Operation::named("POST", "/ai/summary"),
        &["ai:invoke-summary"],
    );
    hop.facts.schemas = vec![judged(SUMMARY, body), judged(BOUNDED, body)];
    hop.facts.body_bytes = Some(body.len() as u64);
    hop
}

#[test]
fn every_schema_of_the_operation_is_followed() {
    let state = shaped("");
    assert_eq!(outcome(asks(r#"{"title":"short"}"#), &state), None);
    let reason = denied_in(asks(r#"{"title":"too long"}"#), &state, Code::BODY_SCHEMA);
    let expected = "the body is refused (`maxLength`) by `summary.json`";
    assert_eq!(reason, expected);
    let reason = denied_in(
        asks(r#"{"title":"","a":1,"b":2}"#),
        &state,
        Code::BODY_SCHEMA,
    );
    assert!(reason.ends_with("by `bounded.json`"), "{reason}");
}

#[test]
fn only_the_word_of_this_very_schema_counts() {
    let state = shaped("");
    let good = r#"{"title":"short"}"#;
    let mut silent = asks(good);
    silent.facts.schemas.clear();
    let reason = denied_in(silent, &state, Code::BODY_SCHEMA);
    assert_eq!(reason, "the body was not judged by `summary.json`");
    let mut half = asks(good);
    half.facts.schemas.pop();
    denied_in(half, &state, Code::BODY_SCHEMA);
    // A schema of another revision, or of somebody else's.
    let mut other = asks(good);
    other.facts.schemas = vec![judged("{}", good), judged(BOUNDED, good)];
    denied_in(other, &state, Code::BODY_SCHEMA);
    // One word against another, and a refusal that lost its faults.
    let mut both = asks(good);
    let against = SchemaVerdict {
        faults: Vec::new(),
        schema: both.facts.schemas[0].schema,
        valid: false,
    };
    both.facts.schemas.push(against);
    let reason = denied_in(both, &state, Code::BODY_SCHEMA);
    assert_eq!(reason, "the body is refused by `summary.json`");
}

#[test]
fn who_may_not_ask_at_all_learns_nothing_of_the_body() {
    let mut hop = asks(r#"{"title":"too long"}"#);
    edit_claims(&mut hop, |it| it.scope.clear());
    denied_in(hop, &shaped(""), Code::SCOPE_LACKS);
}

#[test]
fn what_was_found_is_in_the_record_and_decides_again() {
    let state = shaped("");
    for body in [
        r#"{"title":"short"}"#,
        r#"{"title":"CANARY","x":["CANARY"]}"#,
    ] {
        let bytes = record_of(asks(body), &state);
        assert!(countersign_ledger::canonical::is_canonical(&bytes));
        assert!(!String::from_utf8_lossy(&bytes).contains("CANARY"));
        let record = Record::from_bytes(&bytes).unwrap();
        let again = replay(&record, &state, true).unwrap();
        assert!(again.same(), "{again:?}");
        let refused = body.contains("CANARY").then_some(Code::BODY_SCHEMA);
        assert_eq!(again.replayed, refused);
    }
    // Kept short where a stranger is refused before it counts.
    let mut forged = asks("{}");
    forged.facts.same_origin = Some(false);
    forged.facts.schemas[0].faults = vec![SchemaFault {
        pointer: "/long".repeat(50),
        rule: "type".to_owned(),
    }];
    let bytes = record_of(forged, &state);
    assert!(!String::from_utf8_lossy(&bytes).contains("/long"));
    let record = Record::from_bytes(&bytes).unwrap();
    assert!(replay(&record, &state, true).unwrap().same());
}

#[test]
fn a_sentence_needs_a_body_where_nothing_else_decides() {
    let sentence = |more: &str, expect: &str| {
        let text = format!(
            "  t: {{ as: user:alice, via: web, call: POST hms-api/ai/summary, {more}expect: {expect} }}\n"
        );
        let state = shaped(&text);
        let sources = countersign_core::config::load(
            &files(&text),
            "hms.yaml",
            &countersign_core::config::Options {
                dev: true,
                strict: false,
            },
        )
        .sources;
        let proved: Vec<_> = prove_all(&state)
            .into_iter()
            .filter(|(test, _)| test.name == "t")
            .collect();
        let said = diagnostics(&proved, &sources);
        (
            proved[0].1.outcome,
            said.first().and_then(|it| it.help.clone()),
        )
    };
    assert_eq!(
        sentence("with: { title: short }, ", "allow").0,
        Judgement::Holds
    );
    assert_eq!(
        sentence("with: { title: far too long }, ", "deny least-privilege").0,
        Judgement::Holds
    );
    assert_eq!(
        sentence("with: { name: short }, ", "allow").0,
        Judgement::Fails
    );
    for expect in ["allow", "deny least-privilege"] {
        let (outcome, help) = sentence("", expect);
        assert_eq!(outcome, Judgement::Undecided);
        let help = help.unwrap();
        assert!(help.ends_with("write the body in `with`"), "{help}");
    }
    assert_eq!(
        sentence("", "deny micro-segmentation").0,
        Judgement::Undecided
    );
}

#[test]
fn a_page_of_an_origin_that_the_door_shares_with_may_ask() {
    let state = shaped("");
    let from = |origin: Option<&str>, same_origin| {
        let mut hop = asks(r#"{"title":"short"}"#);
        hop.facts.same_origin = same_origin;
        hop.facts.cross_origin = origin.map(str::to_owned);
        hop
    };
    let docs = "https://docs.acme.example";
    assert_eq!(outcome(from(Some(docs), Some(false)), &state), None);
    for origin in [
        None,
        Some("null"),
        Some("https://docs.acme.example.evil.example"),
        Some("https://x.docs.acme.example"),
        Some("https://docs.acme.example:8443"),
        Some("http://docs.acme.example"),
        Some("https://DOCS.acme.example"),
        Some(""),
    ] {
        denied_in(from(origin, Some(false)), &state, Code::CROSS_SITE);
    }
    // Nobody looked who made it.
    denied_in(from(Some(docs), None), &state, Code::CROSS_SITE);
    // The door of another revision shares nothing.
    denied(from(Some(docs), Some(false)), Code::CROSS_SITE);
    let reads_only = |text: &str| text.replace(", credentials: true", "");
    let mut bundle = files("");
    let text = bundle.files.get("hms.yaml").map(|it| reads_only(it));
    bundle.files.insert("hms.yaml".to_owned(), text.unwrap());
    let reads = State {
        snapshot: Arc::new(Snapshot::from_bundle(bundle).unwrap()),
        ..state
    };
    denied_in(from(Some(docs), Some(false)), &reads, Code::CROSS_SITE);
}

#[test]
fn a_page_of_another_origin_may_use_the_methods_that_are_listed() {
    let listed = |methods: &str| {
        let mut bundle = files("");
        let keys = format!("{methods}credentials: true");
        let text = bundle.files["hms.yaml"].replace("credentials: true", &keys);
        bundle.files.insert("hms.yaml".to_owned(), text);
        State {
            snapshot: Arc::new(Snapshot::from_bundle(bundle).unwrap()),
            ..shaped("")
        }
    };
    let mut hop = asks(r#"{"title":"short"}"#);
    hop.facts.same_origin = Some(false);
    hop.facts.cross_origin = Some("https://docs.acme.example".to_owned());
    // A simple method gets here without a preflight (Fetch, CORS protocol).
    for methods in ["", "methods: [POST], ", "methods: [GET, POST], "] {
        assert_eq!(outcome(hop.clone(), &listed(methods)), None, "{methods}");
    }
    for methods in ["methods: [GET], ", "methods: [PUT, DELETE], "] {
        denied_in(hop.clone(), &listed(methods), Code::CROSS_SITE);
    }
    // What is not simple has to be listed.
    hop.operation = Operation::named("DELETE", "/ai/summary");
    denied_in(hop.clone(), &listed(""), Code::CROSS_SITE);
    let passed = outcome(hop, &listed("methods: [DELETE], "));
    assert_ne!(passed.map(|(code, _)| code), Some(Code::CROSS_SITE));
}

#[test]
fn a_gateway_apart_judges_by_the_same_schema() {
    let whole = shaped("").snapshot;
    let gateway = Name::new("gw").unwrap();
    let web = [Name::new("web").unwrap()].into();
    let part = whole.project(&gateway, &web).unwrap();
    assert_eq!(part.bundle().files.get("summary.json").unwrap(), SUMMARY);
    let bundle = Bundle::read(&part.bundle().bytes(), part.revision()).unwrap();
    let part = Snapshot::from_bundle(bundle).unwrap();
    let operation = Operation::named("POST", "/ai/summary");
    let hashes = |snapshot: &Snapshot| -> Vec<String> {
        let rules = snapshot.rules("hms-api", &operation);
        let schemas = rules.filter_map(|(place, _)| snapshot.body_schema("hms-api", place));
        let mut hashes: Vec<_> = schemas.map(|it| it.hash().to_string()).collect();
        // The order of rules means nothing.
        hashes.sort_unstable();
        hashes
    };
    assert_eq!(hashes(&part).len(), 2);
    assert_eq!(hashes(&part), hashes(&whole));
    let state = State {
        revocations: Arc::new(Revocations::default()),
        snapshot: Arc::new(part),
    };
    assert_eq!(outcome(asks(r#"{"title":"short"}"#), &state), None);
    denied_in(asks(r#"{"title":"too long"}"#), &state, Code::BODY_SCHEMA);
}
