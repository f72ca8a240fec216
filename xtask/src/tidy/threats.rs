//! What the threat model says is tested: each test that `SECURITY.md` names is there.

use std::collections::BTreeSet;

use super::Violation;
use super::tree::Tree;

const THREATS: &str = "SECURITY.md";
/// A line that names tests starts with this.
const TESTS: &str = "Tests: ";

/// Every named test that no file has.
pub(crate) fn check(tree: &Tree) -> Vec<Violation> {
    let Some(threats) = tree.file(THREATS) else {
        return Vec::new();
    };
    let there = functions(tree);
    threats
        .lines()
        .filter_map(|(line, text)| Some((line, text.strip_prefix(TESTS)?)))
        .flat_map(|(line, text)| {
            let named = text.split('`').skip(1).step_by(2);
            named.map(move |name| (line, name))
        })
        .filter(|(_, name)| !there.contains(name))
        .map(|(line, name)| {
            let message = format!("there is no test `{name}`: what it held may be untested now");
            Violation::new(THREATS, line, message)
        })
        .collect()
}

/// Every function of test code.
fn functions(tree: &Tree) -> BTreeSet<&str> {
    tree.rust()
        .flat_map(|file| {
            let whole = file.is_test();
            let pairs = file.source.tokens.windows(2);
            pairs.filter_map(move |pair| match pair {
                [keyword, name] if keyword.text == "fn" && (whole || name.test) => {
                    Some(name.text.as_str())
                }
                _ => None,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::reported;

    #[test]
    fn a_test_that_went_is_found() {
        let files = [
            (
                THREATS,
                "# Security\n\n`prose_is_none`\n\nTests: `stays`, `went`, `within`.\n",
            ),
            ("crates/a/tests/it.rs", "#[test]\nfn stays() {}"),
            (
                "crates/a/src/lib.rs",
                "fn went() {}\n#[cfg(test)]\nmod tests { #[test] fn within() {} }",
            ),
        ];
        assert_eq!(
            reported(check, &files),
            ["SECURITY.md:5: there is no test `went`: what it held may be untested now"]
        );
    }
}
