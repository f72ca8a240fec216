//! Every code that a person can meet is explained, and every refusal has a test that meets it.
//!
//! Refusals (`CSD<p>nn`) are listed in one table in `core`; configuration errors (`CS0nnn`) have
//! a page each below `docs/errors/`, or a table of their own.

use std::collections::BTreeSet;

use super::Violation;
use super::forbidden::has_word;
use super::tree::{File, Tree};

/// Files that list codes with what they mean.
const TABLES: &[&str] = &[
    "crates/core/src/vocabulary/code.rs",
    "crates/core/src/config/codes.rs",
];

/// The table of refusals: `NAME = 401, ..` for `CSD401`.
const REFUSALS: &str = "crates/core/src/vocabulary/code.rs";

/// Codes without an explanation, and refusals that no test sees.
pub(crate) fn check(tree: &Tree) -> Vec<Violation> {
    let refusals = refusals(tree);
    let mut violations = unexplained(tree, &refusals);
    violations.extend(unseen(tree, &refusals));
    violations
}

/// One row of the table of refusals.
struct Refusal {
    /// `CSD401`
    code: String,
    /// `NO_EDGE`
    name: String,
    line: usize,
}

fn refusals(tree: &Tree) -> Vec<Refusal> {
    let Some(table) = tree.file(REFUSALS) else {
        return Vec::new();
    };
    let tokens = &table.source.tokens;
    tokens
        .windows(4)
        .filter_map(|window| {
            let [name, equals, number, comma] = window else {
                return None;
            };
            let row = equals.text == "=" && comma.text == "," && is_constant(&name.text);
            let code = format!("CSD{}", number.text);
            (row && is_refusal(&code)).then(|| Refusal {
                code,
                name: name.text.clone(),
                line: name.line,
            })
        })
        .collect()
}

fn unexplained(tree: &Tree, refusals: &[Refusal]) -> Vec<Violation> {
    let mut known: BTreeSet<&str> = refusals.iter().map(|row| row.code.as_str()).collect();
    for file in &tree.files {
        let page = file
            .path
            .strip_prefix("docs/errors/")
            .and_then(|p| p.strip_suffix(".md"));
        known.extend(page);
        if TABLES.contains(&file.path.as_str()) && file.path != REFUSALS {
            known.extend(codes(&file.text));
        }
    }
    let mut violations = Vec::new();
    for file in tree.rust().filter(|file| file.crate_source().is_some()) {
        for (line, text) in file.lines().filter(|(line, _)| !in_test(file, *line)) {
            for code in codes(text).filter(|code| !known.contains(code)) {
                let message = format!(
                    "`{code}` is explained nowhere: add it to the code table, \
                     or a page `docs/errors/{code}.md`"
                );
                violations.push(Violation::new(&file.path, line, message));
            }
        }
    }
    violations
}

/// A refusal no test names, by its code or by its constant, can be any refusal.
fn unseen(tree: &Tree, refusals: &[Refusal]) -> Vec<Violation> {
    let seen = |row: &Refusal| {
        tree.files
            .iter()
            .filter(|file| file.path != REFUSALS)
            .any(|file| {
                // The task runner's own examples see nothing happen.
                let whole = file.path.contains("tests/")
                    || (file.is_test() && !file.path.starts_with("xtask/"));
                let tokens = &file.source.tokens;
                let code = |text: &str| has_word(text, &row.code) || has_word(text, &row.name);
                match whole {
                    true => code(&file.text),
                    false => {
                        !file.path.starts_with("xtask/")
                            && tokens.iter().any(|token| token.test && code(&token.text))
                    }
                }
            })
    };
    refusals
        .iter()
        .filter(|row| !seen(row))
        .map(|row| {
            let message = format!("no test sees `{}` (`{}`) refused", row.code, row.name);
            Violation::new(REFUSALS, row.line, message)
        })
        .collect()
}

/// Whether a test build alone compiles this line.
fn in_test(file: &File, line: usize) -> bool {
    let mut tokens = file
        .source
        .tokens
        .iter()
        .filter(|token| token.line == line)
        .peekable();
    tokens.peek().is_some() && tokens.all(|token| token.test)
}

/// The codes in a text, whole words only.
fn codes(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| is_refusal(word) || is_configuration(word))
}

fn is_refusal(word: &str) -> bool {
    let digits = word.strip_prefix("CSD").unwrap_or_default();
    digits.len() == 3 && digits.starts_with(|c| ('1'..='6').contains(&c)) && all_digits(digits)
}

fn is_configuration(word: &str) -> bool {
    let digits = word.strip_prefix("CS0").unwrap_or_default();
    digits.len() == 3 && all_digits(digits)
}

fn all_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_constant(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase())
        && name
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::reported;

    const TABLE: &str =
        "codes! {\n  /// No edge. `CSD401`\n  NO_EDGE = 401, Forbidden, \"no edge\";\n}";

    #[test]
    fn a_code_that_nothing_explains_is_found() {
        let files = [
            (REFUSALS, TABLE),
            (
                "crates/gateway/src/a.rs",
                "// like CSD499\nconst A: &str = \"CSD401 CS0301\";",
            ),
            ("crates/gateway/tests/a.rs", "fn t() { refused(CSD401) }"),
        ];
        assert_eq!(
            reported(check, &files),
            [
                "crates/gateway/src/a.rs:1: `CSD499` is explained nowhere: \
                 add it to the code table, or a page `docs/errors/CSD499.md`",
                "crates/gateway/src/a.rs:2: `CS0301` is explained nowhere: \
                 add it to the code table, or a page `docs/errors/CS0301.md`",
            ]
        );
    }

    #[test]
    fn a_page_or_a_table_explains() {
        let files = [
            ("crates/core/src/config/codes.rs", "// CS0301"),
            ("docs/errors/CS0302.md", "# page"),
            (
                "crates/core/src/config/a.rs",
                "const A: &str = \"CS0301 CS0302\";",
            ),
        ];
        assert!(reported(check, &files).is_empty());
    }

    #[test]
    fn a_refusal_that_no_test_sees_is_found() {
        assert_eq!(
            reported(check, &[(REFUSALS, TABLE)]),
            ["crates/core/src/vocabulary/code.rs:3: no test sees `CSD401` (`NO_EDGE`) refused"]
        );
        let code = ("crates/gateway/src/a.rs", "const A: &str = \"CSD401\";");
        assert_eq!(reported(check, &[(REFUSALS, TABLE), code]).len(), 1);
    }

    #[test]
    fn a_test_may_name_the_code_or_its_constant() {
        for test in [
            (
                "crates/gateway/tests/it/a.rs",
                "fn t() { refused(p, \"CSD401\") }",
            ),
            (
                "crates/enforce/src/a.rs",
                "#[cfg(test)]\nmod tests { fn t() { is(Code::NO_EDGE) } }",
            ),
            ("crates/countersign/tests/e2e.py", "refused('CSD401')"),
        ] {
            assert!(
                reported(check, &[(REFUSALS, TABLE), test]).is_empty(),
                "{test:?}"
            );
        }
    }
}
