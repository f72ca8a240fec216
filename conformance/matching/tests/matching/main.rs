//! The compiled decision against the naive one, and wrong copies of the compiled one against both.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests"
)]

mod drafts;
mod hops;
mod reference;

use countersign_conformance_matching::Decider;
use countersign_conformance_matching::MUTANTS;
use countersign_conformance_matching::real;
use countersign_core::config::Config;
use countersign_core::vocabulary::Code;
use drafts::Draft;
use drafts::draft;
use hops::ask;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use reference::Ask;
use reference::reasons;
use std::collections::BTreeMap;

/// A file, and what is asked of it.
struct Case {
    text: String,
    config: Config,
    asks: Vec<(Ask, Vec<Code>)>,
}

const CASES: usize = 120;
const ASKS: usize = 120;

/// The same cases on every run.
fn corpus() -> Vec<Case> {
    let mut runner = TestRunner::deterministic();
    let mut cases = Vec::new();
    let mut refused = 0;
    while cases.len() < CASES {
        let draft = draft().new_tree(&mut runner).unwrap().current();
        let config = match draft.config() {
            Ok(config) => config,
            Err(why) => {
                refused += 1;
                assert!(refused < CASES, "most drafts are no configuration: {why}");
                continue;
            }
        };
        let questions = ask(draft.arrows());
        let asks = (0..ASKS).map(|_| {
            let ask = questions.new_tree(&mut runner).unwrap().current();
            let expected = reasons(&config, &ask);
            (ask, expected)
        });
        cases.push(Case {
            asks: asks.collect(),
            text: draft.text(),
            config,
        });
    }
    cases
}

/// An answer is right if it is yes where nothing is wrong, and names one of the reasons otherwise.
fn is_right(expected: &[Code], got: Option<Code>) -> bool {
    match got {
        None => expected.is_empty(),
        Some(code) => expected.contains(&code),
    }
}

/// The first question that is answered wrongly.
fn first_wrong(cases: &[Case], compile: fn(Config) -> Decider) -> Option<String> {
    cases.iter().find_map(|case| {
        let decide = compile(case.config.clone());
        case.asks.iter().find_map(|(ask, expected)| {
            let got = decide(ask.hop());
            (!is_right(expected, got)).then(|| told(&case.text, ask, expected, got))
        })
    })
}

fn told(text: &str, ask: &Ask, expected: &[Code], got: Option<Code>) -> String {
    let name = |code: &Code| code.to_string();
    let expected: Vec<_> = expected.iter().map(name).collect();
    let got = got.as_ref().map_or("yes".to_owned(), name);
    format!("{got}, not one of {expected:?}: {ask:?}\n{text}")
}

#[test]
fn the_decision_agrees_with_the_naive_one() {
    if let Some(wrong) = first_wrong(&corpus(), real) {
        panic!("{wrong}");
    }
}

#[test]
fn every_wrong_copy_is_found_out() {
    let cases = corpus();
    assert!(MUTANTS.len() >= 10, "{}", MUTANTS.len());
    let mut alive = Vec::new();
    for mutant in MUTANTS {
        match first_wrong(&cases, mutant.compile) {
            Some(wrong) => println!("{}: {}", mutant.name, wrong.lines().next().unwrap()),
            None => alive.push(mutant.name),
        }
    }
    assert_eq!(
        alive,
        Vec::<&str>::new(),
        "nothing asked tells these from the real one"
    );
}

#[test]
fn the_questions_are_answered_in_every_way() {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for (_, expected) in corpus().iter().flat_map(|case| &case.asks) {
        let way = match expected.as_slice() {
            [] => "yes".to_owned(),
            [code] => code.to_string(),
            _ => "several reasons".to_owned(),
        };
        *seen.entry(way).or_default() += 1;
    }
    println!("{seen:?}");
    assert!(seen["yes"] > CASES * ASKS / 20, "{seen:?}");
    for code in [
        Code::IDENTITY_UNKNOWN,
        Code::TLS_ABSENT,
        Code::TOKEN_ABSENT,
        Code::SESSION_ABSENT,
        Code::TOKEN_AUDIENCE,
        Code::TOKEN_BINDING,
        Code::NO_EDGE,
        Code::SCOPE_LACKS,
        Code::ROLE_LACKS,
        Code::NOT_A_READER,
        Code::PERSON_REQUIRED,
        Code::MODEL_REFUSED,
        Code::HOURS,
        Code::BODY_TOO_LARGE,
        Code::BODY_UNREADABLE,
    ] {
        let count = seen.get(&code.to_string()).copied().unwrap_or_default();
        assert!(
            count >= 5,
            "{code} alone is answered {count} times: {seen:?}"
        );
    }
}

fn case() -> impl Strategy<Value = (Draft, Vec<Ask>)> {
    draft().prop_flat_map(|draft| {
        let asks = prop::collection::vec(ask(draft.arrows()), 60);
        (Just(draft), asks)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    /// The same with other cases on each run, and the smallest one that differs.
    #[test]
    fn what_is_decided_follows_from_the_file((draft, asks) in case()) {
        let config = draft.config();
        prop_assume!(config.is_ok());
        let config = config.unwrap();
        let decide = real(config.clone());
        for ask in asks {
            let expected = reasons(&config, &ask);
            let got = decide(ask.hop());
            prop_assert!(
                is_right(&expected, got),
                "{}",
                told(&draft.text(), &ask, &expected, got)
            );
        }
    }
}
