//! Each broken file says which errors it has and what the first one's help is; typing what the
//! help says makes the file clean.

use super::check;
use super::directives;
use super::files;
use super::found;
use countersign_core::config::codes;
use countersign_core::config::load_text;
use std::collections::BTreeSet;

fn directive<'t>(text: &'t str, word: &str) -> Vec<&'t str> {
    directives(text)
        .filter_map(|line| line.strip_prefix(word)?.strip_prefix(' '))
        .collect()
}

/// Applies `#! fix "from" |> "to"` to what follows the directives.
fn repaired(text: &str) -> String {
    let head = directives(text).map(|line| line.len() + 4).sum::<usize>();
    let (head, mut body) = (
        text.get(..head).unwrap(),
        text.get(head..).unwrap().to_owned(),
    );
    for fix in directive(text, "fix") {
        let (from, to) = fix.split_once(" |> ").unwrap();
        let from: String = serde_json::from_str(from).unwrap();
        let to: String = serde_json::from_str(to).unwrap();
        assert!(body.contains(&from), "there is no {from:?} to replace");
        body = body.replacen(&from, &to, 1);
    }
    format!("{head}{body}")
}

#[test]
fn every_error_has_its_code_place_and_help() {
    for (name, text) in files("broken") {
        let loaded = check(&text);
        let expected: Vec<_> = directive(&text, "expect")
            .iter()
            .flat_map(|it| it.split(", "))
            .collect();
        let rendered =
            countersign_core::config::render_all(&loaded.diagnostics, &loaded.sources, false);
        assert_eq!(found(&loaded), expected, "{name}\n{rendered}");
        let help: String = serde_json::from_str(directive(&text, "help").first().unwrap()).unwrap();
        assert_eq!(
            loaded.diagnostics.first().unwrap().help.as_deref(),
            Some(help.as_str()),
            "{name}"
        );
        assert!(loaded.config.is_none(), "{name}");
    }
}

#[test]
fn typing_what_the_help_says_makes_it_go_away() {
    for (name, text) in files("broken") {
        let repaired = repaired(&text);
        let loaded = load_text(
            "countersign.yaml",
            repaired.as_str(),
            &super::options(&text),
        );
        let rendered =
            countersign_core::config::render_all(&loaded.diagnostics, &loaded.sources, false);
        assert_eq!(loaded.errors().count(), 0, "{name}\n{rendered}");
        assert!(loaded.config.is_some(), "{name}");
    }
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
