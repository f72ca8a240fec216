//! Words that are never right: paths of one machine, package registries, notes to oneself,
//! lints switched off without a reason.

use super::Violation;
use super::tree::{File, Tree};

/// Text that only makes sense on one machine, and what to do instead.
const MACHINE: &[(&str, &str)] = &[
    (
        "/work/",
        "a path of one machine; everything a test reads is in the repository",
    ),
    ("/root/", "a path of one machine"),
    ("../shared", "a path outside the repository"),
];

/// Hosts of package registries: `Cargo.lock` names its own, nothing else needs to.
const REGISTRIES: &[&str] = &[
    "index.crates.io",
    "static.crates.io",
    "//crates.io",
    "pypi.org",
    "pythonhosted.org",
    "npmjs.org",
    "npmjs.com",
    "proxy.golang.org",
    "deb.debian.org",
];

/// Notes to oneself; an unfinished thing is an issue, not a comment.
const NOTES: &[&str] = &["TODO", "FIXME", "XXX"];

/// This rule has to spell what it forbids.
const EXEMPT: &str = "xtask/src/tidy/";

/// Every forbidden word of every file, and every `allow` attribute of Rust code.
pub(crate) fn check(tree: &Tree) -> Vec<Violation> {
    let files = tree
        .files
        .iter()
        .filter(|file| !file.path.starts_with(EXEMPT));
    files
        .flat_map(|file| words(file).into_iter().chain(allows(file)))
        .collect()
}

fn words(file: &File) -> Vec<Violation> {
    if file.path.ends_with("Cargo.lock") {
        return Vec::new();
    }
    let mut violations = Vec::new();
    for (line, text) in file.lines() {
        let mut refuse = |message: String| {
            violations.push(Violation::new(&file.path, line, message));
        };
        for (word, why) in MACHINE.iter().filter(|(word, _)| text.contains(word)) {
            refuse(format!("`{word}`: {why}"));
        }
        for host in REGISTRIES.iter().filter(|host| text.contains(**host)) {
            refuse(format!("`{host}`: the address of a package registry"));
        }
        for note in NOTES.iter().filter(|note| has_word(text, note)) {
            refuse(format!("`{note}`: finish it, or open an issue"));
        }
    }
    violations
}

fn allows(file: &File) -> Vec<Violation> {
    let outer: &[&str] = &["#", "[", "allow", "("];
    let inner: &[&str] = &["#", "!", "[", "allow", "("];
    let source = &file.source;
    let at = |index: usize| {
        let line = source.tokens.get(index).map_or(1, |token| token.line);
        let message = "`allow`: write `#[expect(lint, reason = \"..\")]`, \
            which also says when it is no longer needed";
        Violation::new(&file.path, line, message)
    };
    source
        .find(outer)
        .chain(source.find(inner))
        .map(at)
        .collect()
}

/// Whether `word` stands in `text` with nothing of a word on either side.
pub(crate) fn has_word(text: &str, word: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(start, _)| {
        let before = text.get(..start).and_then(|text| text.chars().next_back());
        let after = text
            .get(start + word.len()..)
            .and_then(|text| text.chars().next());
        !before.is_some_and(part_of_word) && !after.is_some_and(part_of_word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::reported;

    #[test]
    fn machine_paths_are_found_in_any_file() {
        let files = [("docs/a.md", "first\nsee /work/x and ../shared/data")];
        assert_eq!(
            reported(check, &files),
            [
                "docs/a.md:2: `/work/`: a path of one machine; \
                 everything a test reads is in the repository",
                "docs/a.md:2: `../shared`: a path outside the repository",
            ]
        );
    }

    #[test]
    fn registries_are_found_outside_the_lock_file() {
        assert_eq!(
            reported(check, &[(".ci/run", "curl https://static.crates.io/x")]).len(),
            1
        );
        assert!(reported(check, &[("Cargo.lock", "https://index.crates.io")]).is_empty());
    }

    #[test]
    fn notes_are_found_as_words() {
        assert_eq!(
            reported(check, &[("crates/x/src/a.rs", "// TODO: later")]).len(),
            1
        );
        assert_eq!(reported(check, &[("python/a.py", "# FIXME")]).len(), 1);
        assert!(reported(check, &[("a.sh", "mktemp /tmp/x.XXXXXX")]).is_empty());
    }

    #[test]
    fn an_allow_is_found_and_an_expect_is_not() {
        let text = "#![allow(dead_code)]\n#[allow(unused)]\nfn f() {}\n#[expect(unused, reason = \"\")]\nfn g() {}";
        let found = reported(check, &[("crates/x/src/a.rs", text)]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].starts_with("crates/x/src/a.rs:2: `allow`"),
            "{found:?}"
        );
        assert!(reported(check, &[("crates/x/src/a.rs", "// #[allow(x)]")]).is_empty());
    }
}
