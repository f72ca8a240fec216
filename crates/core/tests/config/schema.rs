//! The JSON Schema and the parser say the same about files, as far as a schema can.

use super::check;
use super::files;
use countersign_core::config::Options;
use countersign_core::config::codes;
use countersign_core::config::load_text;
use countersign_core::config::schema;
use countersign_core::config::schema::Form;
use countersign_core::config::schema::Grammar;
use countersign_core::config::schema::Plain;
use countersign_core::config::schema::Shape;
use jsonschema::Validator;
use proptest::prelude::*;
use proptest::test_runner::Config;
use proptest::test_runner::TestRunner;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeSet;

/// Files with an error of form that the schema lets through.
const BEYOND_A_SCHEMA: [(&str, &str); 3] = [
    ("agent-without-owner", "which keys a kind needs"),
    ("partner-without-certificate", "which keys a kind needs"),
    ("pipeline-without-claims", "which keys `login` needs"),
];

/// Files whose form is right by the codes, and that the schema refuses all the same.
const WRONG_EARLIER: [(&str, &str); 6] = [
    (
        "http-upstream",
        "the pattern has `http://` on loopback only",
    ),
    ("literal-key", "a secret itself is no source of one"),
    ("literal-unknown", "a secret itself is no source of one"),
    ("tls-off", "`off` is none of the choices"),
    ("url-user", "the pattern has no `@` in front of the host"),
    ("wrong-peer", "a listener has fewer kinds than a service"),
];

/// Whether a code is about the form of the configuration: not about YAML itself, the content of
/// another file, or what names mean.
fn is_of_form(code: &str) -> bool {
    ("CS0109".."CS0140").contains(&code) && code != codes::NOT_YET.as_str()
}

fn validator() -> Validator {
    jsonschema::validator_for(&schema::json()).unwrap()
}

/// What an editor makes of a file: by another YAML parser than ours.
fn document(text: &str) -> Option<Value> {
    serde_saphyr::from_str(text).ok()
}

#[test]
fn it_is_a_json_schema() {
    let schema = schema::json();
    assert!(jsonschema::meta::is_valid(&schema));
    assert_eq!(schema["$id"], schema::ID);
    assert_eq!(schema.to_string(), schema::json().to_string());
    let definitions = schema["$defs"].as_object().unwrap();
    assert_eq!(definitions.len(), schema::GRAMMARS.len(), "a name is taken");
}

#[test]
fn good_files_are_valid() {
    let validator = validator();
    let example = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../examples/hms/countersign.yaml"
    );
    let example = (
        "example".to_owned(),
        std::fs::read_to_string(example).unwrap(),
    );
    for (name, text) in files("good").into_iter().chain([example]) {
        let document = document(&text).unwrap();
        let errors: Vec<_> = validator
            .iter_errors(&document)
            .map(|it| format!("{}: {it}", it.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{name}: {errors:#?}");
    }
}

#[test]
fn broken_files_are_invalid_where_a_schema_can_tell() {
    let validator = validator();
    let (mut through, mut early, mut judged) = (BTreeSet::new(), BTreeSet::new(), 0);
    for (name, text) in files("broken") {
        let code = check(&text).diagnostics.swap_remove(0).code;
        if code.as_str() < "CS0109" {
            continue;
        }
        let of_form = is_of_form(code.as_str());
        let document = document(&text).unwrap_or_else(|| panic!("{name} is no yaml"));
        let valid = validator.is_valid(&document);
        judged += 1;
        match (of_form, valid) {
            (true, true) => drop(through.insert(name)),
            (false, false) => drop(early.insert(name)),
            _ => {}
        }
    }
    assert!(judged > 60, "{judged}");
    let listed = |list: &[(&str, &str)]| {
        let names = list.iter().map(|(name, _)| (*name).to_owned());
        names.collect::<BTreeSet<_>>()
    };
    assert_eq!(through, listed(&BEYOND_A_SCHEMA));
    assert_eq!(early, listed(&WRONG_EARLIER));
}

/// A place in a file where a text of a grammar stands.
struct Place {
    before: String,
    after: String,
    grammar: &'static Grammar,
}

impl Place {
    /// Whether the parser takes a text here, whatever the names in it mean.
    fn takes(&self, text: &str) -> bool {
        let quoted = Value::from(text).to_string();
        let whole = format!("{}{quoted}{}", self.before, self.after);
        let loaded = load_text("a.yaml", whole.as_str(), &Options::default());
        let place = self.before.len()..self.before.len() + quoted.len();
        // What is missing below a name is reported at the name.
        let of_form = |code: &str| is_of_form(code) && code != codes::MISSING_KEY.as_str();
        let refuses =
            |code: &str| code < "CS0109" || of_form(code) || matches!(code, "CS0301" | "CS0401");
        let mut inside = loaded.errors().filter(|it| {
            place.contains(&(it.span().start as usize)) || it.code.as_str() < "CS0109"
        });
        !inside.any(|it| refuses(it.code.as_str()))
    }
}

/// Every place where a text of a small grammar can stand.
fn places() -> Vec<Place> {
    let mut places = Vec::new();
    walk(&schema::FILE, "", "", &mut places);
    places
}

fn walk(shape: &Shape, before: &str, after: &str, places: &mut Vec<Place>) {
    for key in shape.keys {
        let start = format!("{before}{{ \"{}\": ", key.name);
        let end = format!(" }}{after}");
        let mut add = |grammar, open: &str, close: &str| {
            places.push(Place {
                before: format!("{start}{open}"),
                after: format!("{close}{end}"),
                grammar,
            });
        };
        let named = |grammar: &Grammar| format!("{{ \"{}\": ", grammar.example);
        match key.form {
            Form::Text(texts) => add(texts, "", ""),
            Form::Texts(texts) => add(texts, "[", "]"),
            Form::TextOrTexts(texts) => {
                add(texts, "", "");
                add(texts, "[", "]");
            }
            Form::Entries(names, inner) => {
                add(names, "{ ", ": {} }");
                walk(
                    inner,
                    &format!("{start}{}", named(names)),
                    &format!(" }}{end}"),
                    places,
                );
            }
            Form::Pairs(names, texts) => {
                add(names, "{ ", &format!(": \"{}\" }}", texts.example));
                add(texts, &named(names), " }");
            }
            Form::Lists(names, texts) => {
                add(names, "{ ", &format!(": [\"{}\"] }}", texts.example));
                add(texts, &format!("{}[", named(names)), "] }");
                add(texts, &named(names), " }");
            }
            Form::Map(inner) | Form::ChoiceOr(_, inner) => walk(inner, &start, &end, places),
            Form::Choice(_) | Form::Choices(_) | Form::Any => {}
        }
    }
}

fn pattern(grammar: &Grammar) -> Validator {
    let schema = json!({ "pattern": grammar.pattern, "type": "string" });
    jsonschema::validator_for(&schema).unwrap()
}

#[test]
fn every_grammar_matches_its_example_and_is_used() {
    let places = places();
    for grammar in schema::GRAMMARS {
        let example = Value::from(grammar.example);
        assert!(pattern(grammar).is_valid(&example), "{}", grammar.name);
        let used = places.iter().any(|it| std::ptr::eq(it.grammar, *grammar));
        assert!(used, "{} is used nowhere", grammar.name);
    }
    for place in places {
        let Place {
            grammar, before, ..
        } = &place;
        let listed = schema::GRAMMARS
            .iter()
            .any(|it| std::ptr::eq(*it, *grammar));
        assert!(listed, "{} is not listed", grammar.name);
        assert!(place.takes(grammar.example), "{before}{}", grammar.example);
    }
}

/// What the reference shows for each key is valid, as far as its own keys go.
#[test]
fn every_example_of_a_key_is_valid() {
    fn check(shape: &Shape, validator: &Validator, path: &str, around: &dyn Fn(String) -> String) {
        for key in shape.keys {
            let path = format!("{path}/{}", key.name);
            let text = around(format!("{{ {} }}", key.example()));
            let document = document(&text).unwrap_or_else(|| panic!("{text} is no yaml"));
            for error in validator.iter_errors(&document) {
                // Its neighbours may be missing, nothing below it.
                let place = error.instance_path().to_string();
                assert!(!place.starts_with(&path), "{text}: {place}: {error}");
            }
            let below = |inner, name: &str, path: &str| {
                let around = |it: String| around(format!("{{ {}: {name}{it}", key.name));
                let close = if name.is_empty() { " }" } else { " } }" };
                check(inner, validator, path, &|it| around(format!("{it}{close}")));
            };
            match key.form {
                Form::Map(inner) | Form::ChoiceOr(_, inner) => below(inner, "", &path),
                Form::Entries(names, inner) => {
                    let name = names.example;
                    let pointer = name.replace('~', "~0").replace('/', "~1");
                    below(
                        inner,
                        &format!("{{ \"{name}\": "),
                        &format!("{path}/{pointer}"),
                    );
                }
                _ => {}
            }
        }
    }
    check(&schema::FILE, &validator(), "", &|it| it);
}

/// Unquoted, YAML takes these for numbers and truth values.
#[test]
fn what_looks_like_a_number_is_let_through_as_one() {
    let digits = "9".repeat(64);
    let whole = ["1", "100", "12345678", &digits];
    let others = [
        "-1",
        "1.2",
        "1.5",
        "1e3",
        "0x1f",
        ".5",
        "1234567.5",
        "true",
        "false",
    ];
    for grammar in schema::GRAMMARS {
        let pattern = pattern(grammar);
        let hits = |texts: &[&str]| texts.iter().any(|it| pattern.is_valid(&Value::from(*it)));
        let plain = match (hits(&whole), hits(&others)) {
            (_, true) => Plain::Any,
            (true, false) => Plain::Count,
            (false, false) => Plain::Text,
        };
        // A hash of digits alone is one number, and no other hash is.
        let hash = grammar.name == "a hash";
        assert!(grammar.plain == plain || hash, "{}", grammar.name);
    }
}

/// Editors compile patterns with the flag `u` of ECMA-262, which knows few escapes.
#[test]
fn patterns_have_only_escapes_that_everybody_knows() {
    for grammar in schema::GRAMMARS {
        let mut characters = grammar.pattern.chars();
        while let Some(c) = characters.next() {
            if c == '\\' {
                let escaped = characters.next().unwrap();
                assert!("$.*+?()[]{}|\\/^sSx".contains(escaped), "{}", grammar.name);
            }
        }
        let whole = grammar.pattern.starts_with('^') && grammar.pattern.ends_with('$');
        assert!(whole, "{}", grammar.name);
    }
}

/// Texts of a pattern, and examples with a few characters changed.
fn texts(grammar: &'static Grammar) -> impl Strategy<Value = String> {
    let inner = grammar
        .pattern
        .trim_start_matches('^')
        .trim_end_matches('$');
    let of_pattern = proptest::string::string_regex(inner).unwrap();
    let edit = (
        any::<prop::sample::Index>(),
        "[a-zA-Z0-9 ./:#%*@?+~\\[\\]\t-]{0,2}",
        0..3_usize,
    );
    let edits = proptest::collection::vec(edit, 1..4);
    let mutated = edits.prop_map(|edits| {
        let mut text: Vec<char> = grammar.example.chars().collect();
        for (at, new, cut) in edits {
            let start = at.index(text.len() + 1);
            let end = (start + cut).min(text.len());
            text.splice(start..end, new.chars());
        }
        text.into_iter().collect()
    });
    prop_oneof![of_pattern, mutated]
}

#[test]
fn whatever_the_parser_takes_the_pattern_matches() {
    for place in places() {
        let pattern = pattern(place.grammar);
        let mut runner = TestRunner::new(Config {
            cases: 120,
            failure_persistence: None,
            ..Config::default()
        });
        let outcome = runner.run(&texts(place.grammar), |text| {
            let matches = pattern.is_valid(&Value::from(text.as_str()));
            prop_assert!(matches || !place.takes(&text), "{text:?}");
            Ok(())
        });
        if let Err(error) = outcome {
            panic!("{} at {}: {error}", place.grammar.name, place.before);
        }
    }
}
