//! What would let a refused call through is tried, and so is what it breaks.

use crate::HMS;
use crate::config;
use countersign_core::proving::asked;
use countersign_core::remedy::Remedy;
use countersign_core::remedy::remedy;
use countersign_core::snapshot::Bundle;
use countersign_core::snapshot::Revocations;
use countersign_core::snapshot::Snapshot;
use countersign_core::snapshot::State;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Digest;
use std::sync::Arc;

/// The remedy for the call of the test of this name.
fn of(name: &str, text: &str) -> Option<Remedy> {
    let bundle = Bundle {
        dev: true,
        roots: vec![Digest::new([1; 32])],
        ..Bundle::default()
    };
    let state = State {
        revocations: Arc::new(Revocations::default()),
        snapshot: Arc::new(Snapshot::new(bundle, config(text))),
    };
    let tests = &state.snapshot.config().tests;
    let test = tests.iter().find(|it| it.name == name).unwrap();
    remedy(&asked(&state.snapshot, test), &state)
}

#[test]
fn an_edge_and_the_test_that_holds_against_it() {
    let found = of("the worker has no api", HMS).unwrap();
    assert_eq!(found.add, "stats-worker -> hms-api: [POST /ai/summary]");
    assert_eq!(
        found.breaks,
        ["the worker has no api"],
        "another pillar refuses it then"
    );
    assert_eq!(found.then, Some(Code::ROLE_LACKS));
    let reader = HMS.replace("readers: [hms-api]", "readers: [hms-api, stats-worker]");
    let found = of("the worker has no vault", &reader).unwrap();
    assert_eq!(found.add, "stats-worker -> vault: [read openai_primary]");
    assert_eq!(found.breaks, ["the worker has no vault"]);
}

#[test]
fn a_role_by_its_members() {
    let found = of("alice files no report", HMS).unwrap();
    assert_eq!(found.add, "user:dev/alice to the members of role manager");
    assert_eq!(
        (found.breaks, found.then),
        (vec!["alice files no report".to_owned()], None)
    );
    assert_eq!(found.to.unwrap().line, 17);
}

#[test]
fn a_reader_of_a_secret() {
    let edge = "hms-api      -> vault:   [read openai_primary]";
    let with = HMS.replace(
        edge,
        &format!("{edge}\n  stats-worker -> vault:   [read openai_primary]"),
    );
    let with = with.replace(
        "expect: deny micro-segmentation }\n  the worker has no api",
        "expect: deny least-privilege }\n  the worker has no api",
    );
    let found = of("the worker has no vault", &with).unwrap();
    assert_eq!(
        found.add,
        "stats-worker to the readers of secret openai_primary"
    );
    assert_eq!(found.breaks, ["the worker has no vault"]);
}

#[test]
fn what_is_allowed_or_refused_for_another_reason_has_none() {
    assert_eq!(of("alice reads a report", HMS), None);
    assert_eq!(of("not any model", HMS), None);
}
