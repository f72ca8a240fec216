//! Each broken file says which errors it has and what the first one's help is; typing what the
//! help says makes the file clean.

use super::Case;
use super::ENTRY;
use super::check;
use super::directive;
use super::directives;
use super::files;
use super::found;
use super::found_in_any_build;
use countersign_core::config::codes;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Applies `#! fix "from" |> "to"` to what follows the directives, and
/// `#! fix conf.d/a.yaml "from" |> "to"` to another file of the case.
fn repaired(text: &str) -> Case {
    // Their lines are blank by then.
    let head = directives(text).count() * "#\n".len();
    let mut case = Case::new(text);
    for fix in directive(text, "fix") {
        let (from, to) = fix.split_once(" |> ").unwrap();
        let (path, from) = from.split_at(from.find('"').unwrap());
        let from: String = serde_json::from_str(from).unwrap();
        let to: String = serde_json::from_str(to).unwrap();
        let (path, head) = match path.trim() {
            "" => (ENTRY, head),
            path => (path, 0),
        };
        let file = case.0.get_mut(path).unwrap();
        let body = file.split_off(head);
        assert!(body.contains(&from), "there is no {from:?} to replace");
        file.push_str(&body.replacen(&from, &to, 1));
    }
    case
}

#[test]
fn every_error_has_its_code_place_and_help() {
    let mut wrong = String::new();
    for (name, text) in files("broken") {
        let loaded = check(&text);
        let expected: Vec<_> = directive(&text, "expect")
            .iter()
            .flat_map(|it| it.split(", "))
            .collect();
        let rendered =
            countersign_core::config::render_all(&loaded.diagnostics, &loaded.sources, false);
        // What else a build lacks is beside the point of a case.
        let found = if expected.iter().any(|it| it.starts_with("CS0112")) {
            found(&loaded)
        } else {
            found_in_any_build(&loaded)
        };
        let help: String = serde_json::from_str(directive(&text, "help").first().unwrap()).unwrap();
        let first = loaded.diagnostics.iter().find(|it| {
            expected
                .first()
                .is_some_and(|code| code.starts_with(it.code.as_str()))
        });
        let given = first.and_then(|it| it.help.as_deref());
        let unusable = loaded.config.is_none() == loaded.errors().next().is_some();
        if found != expected || given != Some(help.as_str()) || !unusable {
            writeln!(
                wrong,
                "## {name}: {expected:?}, {help:?}\n{found:?}\n{rendered}"
            )
            .unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn typing_what_the_help_says_makes_it_go_away() {
    let mut wrong = String::new();
    for (name, text) in files("broken") {
        let loaded = repaired(&text).load(&super::options(&text));
        let rendered =
            countersign_core::config::render_all(&loaded.diagnostics, &loaded.sources, false);
        let expected = directive(&text, "expect").join(" ");
        let left = found_in_any_build(&loaded);
        let errors = loaded.errors().filter(|it| it.code != codes::NOT_YET);
        let first = expected.split(' ').next().unwrap();
        if errors.count() > 0 || left.iter().any(|it| it.starts_with(first)) {
            writeln!(wrong, "## {name}\n{rendered}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Where the help names what to type, it is what the fix types.
#[test]
fn a_suggested_word_is_the_remedy() {
    let mut suggestions = 0;
    for (name, text) in files("broken") {
        let help: String = serde_json::from_str(directive(&text, "help").first().unwrap()).unwrap();
        let Some(word) = help
            .strip_prefix("did you mean `")
            .and_then(|it| it.strip_suffix("`?"))
        else {
            continue;
        };
        let remedies = directive(&text, "fix");
        assert!(
            remedies
                .first()
                .is_some_and(|it| it.split(" |> ").nth(1).is_some_and(|to| to.contains(word))),
            "{name}"
        );
        suggestions += 1;
    }
    assert!(suggestions >= 15, "only {suggestions}");
}

#[test]
fn all_errors_are_reported_at_once() {
    let text = files("broken")
        .into_iter()
        .find(|(name, _)| name == "two-errors")
        .unwrap()
        .1;
    assert_eq!(check(&text).errors().count(), 2);
}

/// A code nobody can see is a code nobody has tested.
#[test]
fn every_code_has_a_broken_file() {
    let elsewhere = [
        // Limits and files that can't be read: see `properties` and `good`.
        codes::TOO_BIG,
        codes::NO_FILE,
        // Given out by the evaluator.
        codes::TEST_FAILED,
        codes::TEST_UNDECIDED,
    ];
    let seen: BTreeSet<_> = files("broken")
        .iter()
        .flat_map(|(_, text)| found(&check(text)))
        .collect();
    for page in codes::PAGES
        .iter()
        .filter(|page| !elsewhere.contains(&page.code))
    {
        assert!(
            seen.iter().any(|it| it.starts_with(page.code.as_str())),
            "{} has no broken file",
            page.code
        );
    }
}
