//! A test that sees a refusal sees all of it.
//!
//! A status alone proves little: a crash answers 500, a typo 404, and a 403 may come from the
//! wrong pillar. `refused(pillar, code)` checks status, body, header, record and that nothing
//! went upstream; so a test that compares with 403 by itself fails here.

use super::Violation;
use super::tree::{File, Tree};

/// Crates below the enforcement point answer no request; their tests pin the table of statuses.
const BELOW: &[&str] = &[
    "crates/ledger/",
    "crates/core/",
    "crates/wire/",
    "crates/net/",
];

const MESSAGE: &str = "a refusal's status alone: use testkit's `refused(pillar, code)`, \
    which also checks body, header, record and that nothing went upstream";

/// Every bare comparison with 403 in test code.
pub(crate) fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in &tree.files {
        if BELOW.iter().any(|below| file.path.starts_with(below)) || defines_helper(file) {
            continue;
        }
        if file.path.ends_with(".rs") {
            violations.extend(rust(file));
        } else if is_test_script(&file.path) {
            violations.extend(script(file));
        }
    }
    violations
}

/// One helper for Rust, in testkit; a script that shares no code with us has its own.
fn defines_helper(file: &File) -> bool {
    let rust = file.path.starts_with("testkit/");
    (rust && file.source.find(&["fn", "refused"]).next().is_some())
        || file.text.contains("def refused(")
}

/// The status compared with `==`, matched by a pattern, or inside an assertion.
fn rust(file: &File) -> Vec<Violation> {
    let whole = file.is_test() && !file.path.starts_with("xtask/");
    let source = &file.source;
    let mut violations = Vec::new();
    let mut assertion_ends = 0;
    for (index, token) in source.tokens.iter().enumerate() {
        let before = |back: usize| index.checked_sub(back).map_or("", |at| source.text(at));
        if token.text == "!" && is_assertion(before(1)) {
            assertion_ends = assertion_ends.max(closing(file, index + 1));
        }
        if !(whole || token.test)
            || !matches!(
                token.text.as_str(),
                "403" | "403_u16" | "403u16" | "FORBIDDEN"
            )
        {
            continue;
        }
        // `StatusCode::FORBIDDEN` is compared before its path begins.
        let start = if before(1) == "::" { 3 } else { 1 };
        let compared = [before(start), source.text(index + 1)];
        let compared = compared.iter().any(|sign| matches!(*sign, "==" | "!="));
        if compared || index < assertion_ends {
            violations.push(Violation::new(&file.path, token.line, MESSAGE));
        }
    }
    violations
}

fn is_assertion(name: &str) -> bool {
    name.starts_with("assert") || name.starts_with("debug_assert") || name == "matches"
}

/// The index of the token that closes the group opened at `open`.
fn closing(file: &File, open: usize) -> usize {
    let mut depth = 0_usize;
    for (index, token) in file.source.tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return index;
        }
    }
    open
}

fn is_test_script(path: &str) -> bool {
    let script = path.ends_with(".py") || path.ends_with(".sh");
    script && (path.contains("test") || path.starts_with("examples/"))
}

fn script(file: &File) -> Vec<Violation> {
    let compared = |text: &str| {
        [
            "== 403",
            "==403",
            "!= 403",
            "-eq 403",
            "-ne 403",
            "= 403 ]",
            "= \"403\"",
            "== \"403\"",
        ]
        .iter()
        .any(|form| text.contains(form))
    };
    file.lines()
        .filter(|(_, text)| compared(text))
        .map(|(line, _)| Violation::new(&file.path, line, MESSAGE))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::reported;

    fn lines(path: &str, text: &str) -> usize {
        reported(check, &[(path, text)]).len()
    }

    #[test]
    fn comparisons_in_tests_are_found() {
        let path = "crates/gateway/tests/it/a.rs";
        assert_eq!(
            lines(path, "fn t() { assert_eq!(response.status(), 403); }"),
            1
        );
        assert_eq!(
            lines(path, "fn t() { if status == StatusCode::FORBIDDEN { } }"),
            1
        );
        assert_eq!(
            lines(
                path,
                "fn t() { assert!(matches!(s, Some(StatusCode::FORBIDDEN))); }"
            ),
            1
        );
        assert_eq!(lines(path, "fn t() { 403 != status }"), 1);
    }

    #[test]
    fn unit_tests_count_and_the_product_does_not() {
        let text = "fn f() -> u16 { 403 }\nfn is(s: u16) -> bool { s == 403 }\n\
            #[cfg(test)]\nmod tests { fn t() { assert_eq!(f(), 403); } }";
        let found = reported(check, &[("crates/server/src/a.rs", text)]);
        assert_eq!(found.len(), 1);
        assert!(
            found[0].starts_with("crates/server/src/a.rs:4: "),
            "{found:?}"
        );
    }

    #[test]
    fn the_helper_and_the_lower_crates_may() {
        let text = "pub fn refused() { assert_eq!(status, 403); }";
        assert_eq!(lines("testkit/src/refused.rs", text), 0);
        assert_eq!(lines("crates/gateway/tests/a.rs", text), 1);
        assert_eq!(
            lines("crates/core/tests/a.rs", "fn t() { assert_eq!(s, 403); }"),
            0
        );
        assert_eq!(
            lines("testkit/src/other.rs", "fn t() { assert_eq!(s, 403); }"),
            1
        );
    }

    #[test]
    fn scripts_are_read_too() {
        assert_eq!(
            lines("crates/countersign/tests/e2e.py", "assert r.status == 403"),
            1
        );
        assert_eq!(lines("examples/hms/run.sh", "[ \"$code\" -eq 403 ]"), 1);
        assert_eq!(
            lines("tests/a.py", "def refused(r):\n  assert r.status == 403"),
            0
        );
    }

    #[test]
    fn a_number_that_is_no_status_is_fine() {
        assert_eq!(
            lines(
                "crates/gateway/tests/a.rs",
                "fn t() { port(403); assert!(ok); }"
            ),
            0
        );
    }
}
