//! What is said about sentences that do not hold: which rule decided, and where it is written.

use countersign_core::config::Diagnostic;
use countersign_core::config::Options;
use countersign_core::config::Severity;
use countersign_core::config::load;
use countersign_core::proving::Judgement;
use countersign_core::proving::diagnostics;
use countersign_core::proving::prove_all;
use countersign_core::snapshot::Bundle;
use countersign_core::snapshot::Revocations;
use countersign_core::snapshot::Snapshot;
use countersign_core::snapshot::State;
use std::collections::BTreeMap;
use std::sync::Arc;

const SHOP: &str = r#"environment: dev
listeners:
  web:      { bind: "127.0.0.1:8443", peer: browser, login: dev }
  mesh:     { bind: "127.0.0.1:9443", peer: service }
identities: { frontend: {}, orders: {}, stranger: {} }
roles:
  clerks: { members: [group:clerks], may: ["order:read"] }
services:
  frontend: { peer: service, url: "https://127.0.0.1:9001", needs: edge }
  orders:
    peer: service
    url: https://127.0.0.1:9002
    operations:
      GET /v1/**:   { needs: "order:read" }
      POST /v1/**:  { needs: edge, policy: buying }
      PUT /v1/**:   { needs: "order:read", policy: buying }
edges:
  web      -> frontend: [GET /**, POST /**]
  frontend -> orders:   [GET /v1/**, POST /v1/**, PUT /v1/**]
policies: { buying: { rego: buying.rego } }
tests:
  the one: { SENTENCE }
"#;

/// What comes of a sentence: its judgement, and what is said about it.
fn said(sentence: &str) -> (Judgement, Vec<Diagnostic>, Vec<u32>) {
    said_of(SHOP, sentence)
}

fn said_of(shop: &str, sentence: &str) -> (Judgement, Vec<Diagnostic>, Vec<u32>) {
    let text = shop.replace("SENTENCE", sentence);
    let files = BTreeMap::from([
        ("a.yaml".to_owned(), text),
        ("buying.rego".to_owned(), "package buying\n".to_owned()),
    ]);
    let bundle = Bundle {
        entry: "a.yaml".to_owned(),
        files,
        ..crate::fixture::bundle()
    };
    let options = Options {
        dev: true,
        strict: false,
    };
    let loaded = load(&bundle, "a.yaml", &options);
    let config = loaded.config.clone().unwrap();
    let state = State {
        revocations: Arc::new(Revocations::default()),
        snapshot: Arc::new(Snapshot::new(bundle, config)),
    };
    let proved = prove_all(&state);
    let found = diagnostics(&proved, &loaded.sources);
    let labels = found.iter().flat_map(|it| &it.labels);
    let lines = labels.map(|it| loaded.sources.place(it.span).line);
    (proved[0].1.outcome, found.clone(), lines.collect())
}

#[test]
fn an_unwanted_call_names_the_edge_that_allows_it() {
    let (outcome, found, lines) =
        said("as: group:clerks, via: web, call: GET frontend/x, expect: deny micro-segmentation");
    assert_eq!(outcome, Judgement::Fails);
    let help = found[0].help.as_deref();
    let wanted = "edge at line 18 allows it and no operation asks for more";
    assert_eq!((help, lines), (Some(wanted), vec![22, 18]));
    assert_eq!(found[0].severity, Severity::Error);
    assert_eq!(found[0].code.as_str(), "CS0900");
    let label = &found[0].labels[0].text;
    assert_eq!(label, "expected deny micro-segmentation, got allow");
}

#[test]
fn an_unwanted_call_names_what_the_subject_has() {
    let (_, found, lines) = said(
        "as: group:clerks, via: web > frontend, call: GET orders/v1/7, expect: deny least-privilege",
    );
    let help = "edge at line 19 allows it, and the subject has `order:read`";
    assert_eq!(found[0].help.as_deref(), Some(help));
    assert_eq!(lines, [22, 19, 14]);
}

#[test]
fn a_refused_call_names_the_nearest_rule() {
    let (outcome, found, lines) = said("as: stranger, call: GET orders/v1/7, expect: allow");
    assert_eq!(outcome, Judgement::Fails);
    let help = "no edge `stranger -> orders`; the nearest rule is `frontend -> orders [GET /v1/**, POST /v1/**, PUT /v1/**]` at line 19";
    assert_eq!(found[0].help.as_deref(), Some(help));
    assert_eq!(lines, [22, 19]);
}

#[test]
fn what_this_build_lacks_is_undecided_only_when_all_else_agrees() {
    for (sentence, outcome) in [
        (
            "as: group:clerks, via: web > frontend, call: POST orders/v1/7, expect: allow",
            Judgement::Undecided,
        ),
        (
            "as: group:clerks, via: web > frontend, call: POST orders/v1/7, expect: needs-approval",
            Judgement::Undecided,
        ),
        (
            "as: stranger, call: POST orders/v1/7, expect: allow",
            Judgement::Fails,
        ),
        (
            "as: stranger, call: POST orders/v1/7, expect: deny micro-segmentation",
            Judgement::Holds,
        ),
        (
            "as: group:others, via: web > frontend, call: PUT orders/v1/7, expect: deny least-privilege",
            Judgement::Holds,
        ),
        (
            "as: group:others, via: web > frontend, call: PUT orders/v1/7, expect: allow",
            Judgement::Fails,
        ),
    ] {
        let (came, found, _) = said(sentence);
        assert_eq!(came, outcome, "{sentence}");
        let severity = found.first().map(|it| it.severity);
        let wanted = match outcome {
            Judgement::Holds => None,
            Judgement::Fails => Some(Severity::Error),
            Judgement::Undecided => Some(Severity::Warning),
        };
        assert_eq!(severity, wanted, "{sentence}");
    }
}

#[test]
fn no_call_of_a_service_that_this_build_can_not_reach_is_proved() {
    let plain = "frontend: { peer: service, url: \"https://127.0.0.1:9001\", needs: edge }";
    for (kind, edges, call) in [
        (
            "frontend: { peer: service, through: agent, url: \"https://127.0.0.1:9001\", needs: edge }",
            "[GET /**, POST /**]",
            "GET frontend/x",
        ),
        (
            "frontend: { peer: database, url: \"postgres://127.0.0.1:5432/shop\", lease: { ttl: 15m, grants: [SELECT on a] }, needs: edge }",
            "[connect]",
            "connect frontend",
        ),
    ] {
        let shop = SHOP
            .replace(plain, kind)
            .replace("[GET /**, POST /**]", edges);
        let of = |expect: &str| {
            let sentence = format!("as: group:clerks, via: web, call: {call}, expect: {expect}");
            let (outcome, found, _) = said_of(&shop, &sentence);
            let severity = found.first().map(|it| it.severity);
            assert_eq!(severity, Some(Severity::Warning), "{sentence}");
            outcome
        };
        for expect in ["allow", "deny micro-segmentation"] {
            assert_eq!(of(expect), Judgement::Undecided, "{kind}");
        }
        // What is refused before it comes to that, is.
        let sentence = format!("as: stranger, call: {call}, expect: deny micro-segmentation");
        assert_eq!(said_of(&shop, &sentence).0, Judgement::Holds, "{kind}");
    }
}
