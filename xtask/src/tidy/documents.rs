//! Documents explain the thing, not how it came about: they name no issue numbers.

use super::Violation;
use super::tree::Tree;

/// Every issue number in a document.
pub(crate) fn check(tree: &Tree) -> Vec<Violation> {
    let documents = tree.files.iter().filter(|file| file.path.ends_with(".md"));
    documents
        .flat_map(|file| {
            file.lines()
                .filter(|(_, text)| names_issue(text))
                .map(|(line, _)| {
                    let message = "an issue number: say what the reader needs to know instead";
                    Violation::new(&file.path, line, message)
                })
        })
        .collect()
}

/// `#12` as a word of its own, or `issue 12`.
fn names_issue(text: &str) -> bool {
    let starts_with_digit = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    let hash = text.match_indices('#').any(|(at, _)| {
        let before = text.get(..at).and_then(|before| before.chars().next_back());
        let after = text.get(at + 1..).unwrap_or_default();
        let digits = after.chars().take_while(char::is_ascii_digit).count();
        let ends = after
            .chars()
            .nth(digits)
            .is_none_or(|c| !c.is_alphanumeric() && c != '-');
        digits > 0
            && ends
            && before
                .is_none_or(|c| c.is_whitespace() || c == '[' || (c == '(' && !is_link(text, at)))
    });
    let lower = text.to_lowercase();
    let word = ["issue ", "issues ", "pull request "].iter().any(|word| {
        lower.match_indices(word).any(|(at, _)| {
            let rest = lower.get(at + word.len()..).unwrap_or_default();
            starts_with_digit(rest.trim_start_matches('#'))
        })
    });
    hash || word
}

/// `[text](#1)`: an anchor of the same page.
fn is_link(text: &str, hash: usize) -> bool {
    text.get(..hash)
        .is_some_and(|before| before.ends_with("]("))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::reported;

    #[test]
    fn issue_numbers_are_found() {
        for text in [
            "see #12",
            "(#12)",
            "[#12](x)",
            "as issue 3 says",
            "Issue #3",
            "#7 first",
        ] {
            let found = reported(check, &[("docs/a.md", text)]);
            assert_eq!(found.len(), 1, "{text}");
        }
        let found = reported(check, &[("README.md", "one\nsee #12")]);
        assert_eq!(
            found,
            ["README.md:2: an issue number: say what the reader needs to know instead"]
        );
    }

    #[test]
    fn headings_anchors_and_colours_are_not() {
        for text in [
            "# 1 Title",
            "[a](#1-start)",
            "[a](#1)",
            "`#0a0b0c`",
            "rustls#374",
            "issues a token",
        ] {
            assert!(reported(check, &[("docs/a.md", text)]).is_empty(), "{text}");
        }
    }
}
