//! Inline tests, explanations, `ZT_OFF`, local administration.

use crate::fixture::*;
use countersign_core::explain::explain;
use countersign_core::hop::Evidence;
use countersign_core::hop::Peer;
use countersign_core::hop::Tls;
use countersign_core::hop::Token;
use countersign_core::proving::Judgement;
use countersign_core::proving::prove_all;
use countersign_core::snapshot::Bundle;
use countersign_core::snapshot::CompileError;
use countersign_core::snapshot::Snapshot;
use countersign_core::snapshot::State;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::Operation;
use countersign_core::vocabulary::Pillar;
use std::sync::Arc;

#[test]
fn the_sentences_of_the_file_hold() {
    let state = state();
    let proved = prove_all(&state);
    assert_eq!(proved.len(), 3);
    for (test, proved) in proved {
        assert_eq!(
            proved.outcome,
            Judgement::Holds,
            "{}: {}",
            test.name,
            proved.reason
        );
    }
}

#[test]
fn a_sentence_that_does_not_hold_says_so() {
    let mut bundle = bundle();
    let text = bundle.files.get_mut("hms.yaml").unwrap();
    *text = text.replace("expect: deny micro-segmentation", "expect: allow");
    let snapshot = Arc::new(Snapshot::from_bundle(bundle).unwrap());
    let state = State {
        snapshot,
        ..state()
    };
    let proved = prove_all(&state);
    let (_, worker) = proved
        .iter()
        .find(|(test, _)| test.name.starts_with("the worker"))
        .unwrap();
    assert_eq!(worker.outcome, Judgement::Fails);
    assert_eq!(worker.reason, "no edge `stats-worker -> vault`");
}

#[test]
fn explains_an_allowed_hop_by_its_six_lines() {
    let explained = explain(summary(), &state());
    let lines: Vec<_> = explained
        .pillars
        .iter()
        .map(|line| format!("{} {}", line.pillar, line.text))
        .collect();
    assert_eq!(
        lines,
        [
            "encryption TLS 1.3 X25519MLKEM768",
            "identity spiffe://hms.dev.invalid/frontend for dev:alice",
            "continuous-verification token 10 s old, not revoked, heard 0 ms ago",
            "micro-segmentation frontend -> hms-api (line 48)",
            "least-privilege ai:invoke-summary (role analyst)",
        ]
    );
}

#[test]
fn explains_a_missing_edge_by_the_nearest_one() {
    let mut hop = vault_read();
    edit_certificate(&mut hop, |it| {
        it.spiffe_id = id("stats-worker");
        it.leaf = leaf("hms-api");
    });
    edit_claims(&mut hop, |it| {
        it.sub = id("stats-worker").as_str().to_owned()
    });
    let explained = explain(hop, &state());
    assert_eq!(
        explained.why.as_deref(),
        Some("no edge `stats-worker -> vault`")
    );
    assert_eq!(
        explained.near[0].rule,
        "hms-api -> vault [read openai_primary]"
    );
    assert_eq!(
        explained.to_allow.as_deref(),
        Some("stats-worker -> vault: [read openai_primary]")
    );
    let failed: Vec<_> = explained
        .pillars
        .iter()
        .filter(|line| !line.holds)
        .map(|line| line.pillar)
        .collect();
    assert_eq!(failed, [Pillar::MicroSegmentation]);
}

fn administered(user: &str, service: &str, operation: Operation) -> countersign_core::hop::Hop {
    let mut hop = vault_read();
    hop.door = Name::admin();
    hop.evidence = Evidence {
        peer: Peer::Local {
            pid: 1,
            uid: 1000,
            user: Some(user.to_owned()),
        },
        session: None,
        tls: Tls::Kernel,
        token: Token::Absent,
    };
    hop.service = service.to_owned();
    hop.operation = operation;
    hop
}

#[test]
fn local_administration_passes_the_same_pillars() {
    allowed(administered(
        "ops",
        "vault",
        Operation::named("write", "model"),
    ));
    denied(
        administered("ops", "vault", Operation::named("write", "openai_primary")),
        Code::NO_EDGE,
    );
    denied(
        administered("ops", "vault", Operation::named("read", "openai_primary")),
        Code::NO_EDGE,
    );
    denied(
        administered("root", "vault", Operation::named("write", "model")),
        Code::IDENTITY_UNKNOWN,
    );
    allowed(administered(
        "ops",
        "issuer",
        Operation::named("revoke", "x"),
    ));
    denied(
        administered("ops", "console", Operation::named("admin", "reload")),
        Code::NO_EDGE,
    );
}

#[test]
fn development_adds_an_operator_only_where_nobody_is_named() {
    let mut named = bundle();
    named.dev_operator = Some("root".into());
    let with = |bundle: Bundle| State {
        snapshot: Arc::new(Snapshot::from_bundle(bundle).unwrap()),
        ..state()
    };
    let put = || administered("root", "vault", Operation::named("write", "model"));
    denied_in(put(), &with(named.clone()), Code::IDENTITY_UNKNOWN);
    let text = named.files.get_mut("hms.yaml").unwrap();
    *text = text.replace("{ attest: { unix: { user: ops } } }", "{}");
    assert_eq!(outcome(put(), &with(named.clone())), None);
    // It administers; it reads no secret and speaks for nobody.
    let read = administered("root", "vault", Operation::named("read", "openai_primary"));
    denied_in(read, &with(named), Code::NOT_A_READER);
}

#[test]
fn outside_development_a_user_administers_on_the_nodes_of_the_identity() {
    let on = |nodes: &str, dev: bool| {
        let mut bundle = bundle();
        let text = bundle.files.get_mut("hms.yaml").unwrap();
        *text = text.replace("{ user: ops }", &format!("{{ user: ops{nodes} }}"));
        let config = Snapshot::from_bundle(bundle.clone())
            .unwrap()
            .config()
            .clone();
        bundle.dev = dev;
        bundle.node = Some("srv-1".to_owned());
        let snapshot = Snapshot::new(bundle, config);
        snapshot.local_identity("ops").is_some()
    };
    assert!(on("", true) && on(", nodes: [srv-2]", true));
    assert!(on("", false));
    assert!(on(", nodes: [srv-1]", false) && on(", nodes: [srv-2, srv-1]", false));
    assert!(!on(", nodes: [srv-2]", false));
}

#[test]
fn a_door_with_the_operators_name_is_not_the_operator() {
    let mut bundle = bundle();
    bundle.dev_operator = Some("root".into());
    let text = bundle.files.get_mut("hms.yaml").unwrap();
    *text = text.replace("{ attest: { unix: { user: ops } } }", "{}");
    let mut config = Snapshot::from_bundle(bundle.clone())
        .unwrap()
        .config()
        .clone();
    // No file can say this; it must not matter if one could.
    let web = config.listeners.get("web").unwrap().clone();
    config.listeners.insert(Name::new("operator").unwrap(), web);
    let state = State {
        snapshot: Arc::new(Snapshot::new(bundle, config)),
        ..state()
    };
    let mut hop = browser(Operation::named("admin", "reload"), &[]);
    hop.door = Name::new("operator").unwrap();
    hop.service = "console".to_owned();
    edit_claims(&mut hop, |it| {
        it.aud = "https://hms.dev.invalid/svc/console".to_owned();
    });
    denied_in(hop, &state, Code::NO_EDGE);
}

#[test]
fn zt_off_is_for_development_only() {
    let mut open = bundle();
    open.zt_off = true;
    open.dev = false;
    assert!(matches!(
        Snapshot::from_bundle(open),
        Err(CompileError::OpenOutsideDevelopment)
    ));
}

#[test]
fn zt_off_goes_through_the_same_decision() {
    let mut open = bundle();
    open.zt_off = true;
    let state = State {
        snapshot: Arc::new(Snapshot::from_bundle(open).unwrap()),
        ..state()
    };
    let mut hop = summary();
    hop.evidence = Evidence::none();
    assert_eq!(outcome(hop.clone(), &state), None);
    let mut only_people = hop.clone();
    only_people.operation = Operation::named("POST", "/reports");
    assert_eq!(outcome(only_people, &state), None);
    // A token shown there does not narrow anything.
    let mut reading = vault_read();
    edit_claims(&mut reading, |it| it.scope.clear());
    assert_eq!(outcome(reading, &state), None);
    hop.service = "nothing".into();
    denied_in(hop, &state, Code::NO_EDGE);
}
