//! Whatever allows something that was refused before is told as such: every single change of a
//! realistic configuration, and random combinations, against the decision itself.

use crate::HMS;
use crate::config;
use countersign_core::change::difference;
use countersign_core::config::Budget;
use countersign_core::config::Config;
use countersign_core::config::Edge;
use countersign_core::config::Expectation;
use countersign_core::config::Hours;
use countersign_core::config::Member;
use countersign_core::config::Needs;
use countersign_core::config::OperationRule;
use countersign_core::config::Place;
use countersign_core::config::Test;
use countersign_core::proving::prove;
use countersign_core::snapshot::Bundle;
use countersign_core::snapshot::Revocations;
use countersign_core::snapshot::Snapshot;
use countersign_core::snapshot::State;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::Operation;
use countersign_core::vocabulary::OperationPattern;
use countersign_core::vocabulary::Permission;
use proptest::prelude::*;
use std::sync::Arc;

pub(crate) type Mutation = (String, Box<dyn Fn(&mut Config)>);

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn pattern(text: &str) -> OperationPattern {
    OperationPattern::parse(text).unwrap()
}

fn permission(text: &str) -> Permission {
    Permission::new(text).unwrap()
}

const PATTERNS: [&str; 9] = [
    "POST /ai/summary",
    "POST /ai/*",
    "GET /**",
    "GET /reports/**",
    "GET /reports/*",
    "POST /reports",
    "POST /**",
    "POST /v1/chat/completions",
    "read openai_primary",
];
const PERMISSIONS: [&str; 5] = [
    "ai:invoke-summary",
    "report:read",
    "report:write",
    "llm:chat",
    "ai:key:read",
];
const CALLERS: [&str; 4] = ["web", "hms-api", "stats-worker", "research-bot"];

fn person(sub: &str) -> Member {
    Member::User {
        login: "dev".to_owned(),
        sub: sub.to_owned(),
    }
}

fn members() -> Vec<Member> {
    let workloads = CALLERS.iter().skip(1).map(|it| Member::Identity(name(it)));
    workloads
        .chain(["alice", "grace", "eve"].map(person))
        .collect()
}

/// Every cell: who, by which way, does what, with which model.
pub(crate) fn cells() -> Vec<Test> {
    let mut all = Vec::new();
    let targets = [
        ("hms-api", "POST", "/ai/summary"),
        ("hms-api", "GET", "/reports/42"),
        ("hms-api", "GET", "/reports/42/pages"),
        ("hms-api", "HEAD", "/reports/42"),
        ("hms-api", "GET", "/reports/secret"),
        ("hms-api", "POST", "/reports"),
        ("hms-api", "GET", "/health"),
        ("hms-api", "POST", "/ai/other"),
        ("hms-api", "GET", "/REPORTS/42"),
        ("model", "POST", "/v1/chat/completions"),
        ("vault", "read", "openai_primary"),
        ("vault", "read", "model"),
    ];
    for subject in members() {
        let ways: Vec<Vec<Name>> = match subject {
            Member::Identity(_) => vec![vec![], vec![name("hms-api")]],
            _ => vec![
                vec![name("web")],
                vec![name("web"), name("hms-api")],
                vec![name("web"), name("stats-worker")],
            ],
        };
        for via in ways {
            for (service, verb, object) in targets {
                let models: &[Option<&str>] = if service == "model" {
                    &[None, Some("gpt-4o"), Some("o3")]
                } else {
                    &[None]
                };
                for model in models {
                    let with = model.map(|it| ("model".to_owned(), it.into()));
                    all.push(Test {
                        place: Place::default(),
                        expect_place: Place::default(),
                        name: format!("{subject} by {via:?}: {verb} {service} {object} {model:?}"),
                        subject: subject.clone(),
                        via: via.clone(),
                        service: service.to_owned(),
                        operation: Operation::named(verb, object),
                        with: with.into_iter().collect(),
                        expect: Expectation::Allow,
                    });
                }
            }
        }
    }
    all
}

pub(crate) fn allowed(config: &Config, cells: &[Test]) -> Vec<bool> {
    let bundle = Bundle {
        dev: true,
        roots: vec![Digest::new([1; 32])],
        ..Bundle::default()
    };
    let state = State {
        revocations: Arc::new(Revocations::default()),
        snapshot: Arc::new(Snapshot::new(bundle, config.clone())),
    };
    cells
        .iter()
        .map(|test| prove(&state, test).got.is_none())
        .collect()
}

fn rule<'a>(config: &'a mut Config, service: &str, at: usize) -> Option<&'a mut OperationRule> {
    config.services.get_mut(service)?.operations.get_mut(at)
}

#[expect(clippy::too_many_lines, reason = "a list of edits")]
fn of_rules(service: &'static str, at: usize, all: &mut Vec<Mutation>) {
    type Edit = Box<dyn Fn(&mut OperationRule)>;
    let mut edits: Vec<(String, Edit)> = vec![
        (
            "needs edge".to_owned(),
            Box::new(|it| it.needs = Needs::Edge),
        ),
        ("person".to_owned(), Box::new(|it| it.person = !it.person)),
        ("any model".to_owned(), Box::new(|it| it.models.clear())),
        (
            "other models".to_owned(),
            Box::new(|it| it.models = vec!["o*".to_owned()]),
        ),
        ("no budget".to_owned(), Box::new(|it| it.budget = None)),
        ("no excepts".to_owned(), Box::new(|it| it.except.clear())),
        (
            "weekend".to_owned(),
            Box::new(|it| {
                it.hours = Some(Hours {
                    first_day: 5,
                    last_day: 6,
                    from: 0,
                    to: 60,
                })
            }),
        ),
        (
            "night".to_owned(),
            Box::new(|it| {
                it.hours = Some(Hours {
                    first_day: 0,
                    last_day: 6,
                    from: 1200,
                    to: 300,
                })
            }),
        ),
        ("always".to_owned(), Box::new(|it| it.hours = None)),
        ("no body".to_owned(), Box::new(|it| it.body_max = None)),
    ];
    for text in PERMISSIONS {
        edits.push((
            format!("needs {text}"),
            Box::new(move |it| it.needs = Needs::Permission(permission(text))),
        ));
    }
    for text in PATTERNS {
        edits.push((
            format!("except {text}"),
            Box::new(move |it| it.except.push(pattern(text))),
        ));
        edits.push((
            format!("pattern {text}"),
            Box::new(move |it| it.pattern = Some(pattern(text))),
        ));
    }
    for (what, edit) in edits {
        all.push((
            format!("{service} {at} {what}"),
            Box::new(move |config| rule(config, service, at).into_iter().for_each(&edit)),
        ));
    }
    all.push((
        format!("{service} without rule {at}"),
        Box::new(move |config| {
            let rules = &mut config.services.get_mut(service).unwrap().operations;
            if at < rules.len() {
                rules.remove(at);
            }
        }),
    ));
}

fn of_edges(all: &mut Vec<Mutation>) {
    for at in 0..5 {
        all.push((
            format!("no edge {at}"),
            Box::new(move |it| {
                if at < it.edges.len() {
                    it.edges.remove(at);
                }
            }),
        ));
        all.push((
            format!("edge {at} shorter"),
            Box::new(move |it| {
                it.edges.get_mut(at).into_iter().for_each(|it| {
                    it.operations.pop();
                })
            }),
        ));
        for text in PATTERNS {
            all.push((
                format!("edge {at} with {text}"),
                Box::new(move |it| {
                    it.edges
                        .get_mut(at)
                        .into_iter()
                        .for_each(|it| it.operations.push(pattern(text)))
                }),
            ));
        }
    }
    for from in CALLERS {
        for to in ["hms-api", "model", "vault"] {
            for text in PATTERNS {
                let edge = Edge {
                    place: Place::default(),
                    from: name(from),
                    to: name(to),
                    operations: vec![pattern(text)],
                };
                all.push((
                    format!("new edge {from} -> {to} {text}"),
                    Box::new(move |it| it.edges.push(edge.clone())),
                ));
            }
        }
    }
}

fn of_roles(all: &mut Vec<Mutation>) {
    for role in ["analyst", "manager", "bot"] {
        let change =
            |what: String, edit: Box<dyn Fn(&mut countersign_core::config::Role)>| -> Mutation {
                (
                    format!("{role} {what}"),
                    Box::new(move |it| it.roles.get_mut(role).into_iter().for_each(&edit)),
                )
            };
        for member in members() {
            all.push(change(
                format!("gains {member}"),
                Box::new(move |it| it.members.push(member.clone())),
            ));
        }
        for text in PERMISSIONS {
            all.push(change(
                format!("may {text}"),
                Box::new(move |it| it.may.push(permission(text))),
            ));
            all.push(change(
                format!("may not {text}"),
                Box::new(move |it| it.may.retain(|it| it.as_str() != text)),
            ));
        }
        for other in ["analyst", "manager", "bot"] {
            all.push(change(
                format!("includes {other}"),
                Box::new(move |it| it.includes.push(name(other))),
            ));
        }
        all.push(change(
            "empty".to_owned(),
            Box::new(|it| it.members.clear()),
        ));
        all.push((
            format!("no {role}"),
            Box::new(move |it| {
                it.roles.shift_remove(role);
            }),
        ));
    }
}

#[expect(clippy::too_many_lines, reason = "a list of edits")]
fn of_the_rest(all: &mut Vec<Mutation>) {
    for secret in ["model", "openai_primary"] {
        for member in members() {
            all.push((
                format!("{secret} read by {member}"),
                Box::new(move |it| {
                    it.secrets
                        .get_mut(secret)
                        .into_iter()
                        .for_each(|it| it.readers.push(member.clone()))
                }),
            ));
        }
        all.push((
            format!("{secret} read by nobody"),
            Box::new(move |it| {
                it.secrets
                    .get_mut(secret)
                    .into_iter()
                    .for_each(|it| it.readers.clear())
            }),
        ));
        all.push((
            format!("{secret} needs less"),
            Box::new(move |it| {
                it.secrets
                    .get_mut(secret)
                    .into_iter()
                    .for_each(|it| it.needs = permission("llm:chat"))
            }),
        ));
        all.push((
            format!("no {secret}"),
            Box::new(move |it| {
                it.secrets.shift_remove(secret);
            }),
        ));
    }
    for limit in [0, 1, 100_000_000_000] {
        let set = move |it: &mut Budget| it.limit_microusd = limit;
        all.push((
            format!("budget {limit}"),
            Box::new(move |it| it.budgets.values_mut().for_each(set)),
        ));
    }
    all.push((
        "budget without prices".to_owned(),
        Box::new(|it| it.budgets.values_mut().for_each(|it| it.prices.clear())),
    ));
    all.push((
        "folded".to_owned(),
        Box::new(|it| {
            it.services
                .values_mut()
                .for_each(|it| it.fold_case = !it.fold_case)
        }),
    ));
    for text in PATTERNS {
        for needs in [Needs::Edge, Needs::Permission(permission("report:write"))] {
            all.push((
                format!("new rule {text} {needs:?}"),
                Box::new(move |it| {
                    let rules = &mut it.services.get_mut("hms-api").unwrap().operations;
                    let Some(like) = rules.first() else { return };
                    let known = rules.iter().any(|it| it.pattern == Some(pattern(text)));
                    let rule = OperationRule {
                        pattern: Some(pattern(text)),
                        needs: needs.clone(),
                        ..like.clone()
                    };
                    rules.extend((!known).then_some(rule));
                }),
            ));
        }
    }
}

pub(crate) fn mutations() -> Vec<Mutation> {
    let mut all = Vec::new();
    for at in 0..3 {
        of_rules("hms-api", at, &mut all);
    }
    of_rules("model", 0, &mut all);
    of_edges(&mut all);
    of_roles(&mut all);
    of_the_rest(&mut all);
    all
}

/// The clinic, with an exception, hours and a second rule for the same operation.
pub(crate) fn base() -> Config {
    config(&HMS.replace(
        "GET /reports/**:  { needs: \"report:read\" }",
        "GET /reports/**:  { needs: \"report:read\", except: [GET /reports/secret], hours: \"mon-fri 08:00-18:00\" }",
    ))
}

/// Whether something is allowed that was not; if so, the difference has to say it.
fn flips(what: &str, before: &Config, after: &Config, cells: &[Test], was: &[bool]) -> bool {
    let is = allowed(after, cells);
    let flipped: Vec<_> = was
        .iter()
        .zip(&is)
        .zip(cells)
        .filter(|((was, is), _)| !**was && **is)
        .map(|(_, cell)| &cell.name)
        .collect();
    let difference = difference(before, after);
    if was.iter().zip(&is).any(|(was, is)| was != is) {
        assert!(!difference.is_empty(), "{what}: a change that is not told");
    }
    assert!(
        flipped.is_empty() || difference.allows_more(),
        "{what}: allows {flipped:?}, told {difference:?}"
    );
    !flipped.is_empty()
}

#[test]
fn every_single_change_that_allows_more_is_told() {
    let (before, cells) = (base(), cells());
    let was = allowed(&before, &cells);
    let mut flipped = 0;
    for (what, mutate) in mutations() {
        let mut after = before.clone();
        mutate(&mut after);
        flipped += usize::from(flips(&what, &before, &after, &cells, &was));
        // The way back as well.
        let now = allowed(&after, &cells);
        flipped += usize::from(flips(
            &format!("undo {what}"),
            &after,
            &before,
            &cells,
            &now,
        ));
    }
    assert!(
        flipped > 100,
        "only {flipped} changes allow more: this proves little"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn combined_changes_that_allow_more_are_told(
        first in proptest::collection::vec(any::<proptest::sample::Index>(), 0..5),
        second in proptest::collection::vec(any::<proptest::sample::Index>(), 1..4),
    ) {
        let (all, cells) = (mutations(), cells());
        let mut before = base();
        for at in first {
            all[at.index(all.len())].1(&mut before);
        }
        let mut after = before.clone();
        let mut what = String::new();
        for at in second {
            let (name, mutate) = &all[at.index(all.len())];
            what.push_str(name);
            mutate(&mut after);
        }
        let was = allowed(&before, &cells);
        flips(&what, &before, &after, &cells, &was);
    }
}
