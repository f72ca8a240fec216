//! A file that does not fit in one's head is split, or says why not.
//!
//! Functions over 60 lines are clippy's business (`too_many_lines`).

use super::Violation;
use super::tree::Tree;

const MOST: usize = 600;

/// The explanation stands near the top, where a reader starts.
const HEAD: usize = 40;

/// Every Rust or Python file that is too long without a reason.
pub(crate) fn check(tree: &Tree) -> Vec<Violation> {
    let code = tree
        .files
        .iter()
        .filter(|f| f.path.ends_with(".rs") || f.path.ends_with(".py"));
    code.filter_map(|file| {
        let lines = file.lines().count();
        let explained = file.lines().take(HEAD).any(|(_, text)| is_reason(text));
        (lines > MOST && !explained).then(|| {
            let message = format!(
                "{lines} lines, more than {MOST}: split it, or say in its head `// long: <why>`"
            );
            Violation::new(&file.path, lines, message)
        })
    })
    .collect()
}

fn is_reason(line: &str) -> bool {
    let comment = line
        .trim_start()
        .trim_start_matches(['/', '#', '!'])
        .trim_start();
    comment
        .strip_prefix("long:")
        .is_some_and(|why| !why.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::reported;

    #[test]
    fn a_long_file_is_found_unless_it_says_why() {
        let body = "fn f() {}\n".repeat(601);
        assert_eq!(
            reported(check, &[("crates/x/src/a.rs", &body)]),
            ["crates/x/src/a.rs:601: 601 lines, more than 600: \
              split it, or say in its head `// long: <why>`"]
        );
        let explained = format!("//! A table.\n// long: one row per RFC status\n{body}");
        assert!(reported(check, &[("crates/x/src/a.rs", &explained)]).is_empty());
        let empty = format!("// long:\n{body}");
        assert_eq!(reported(check, &[("crates/x/src/a.rs", &empty)]).len(), 1);
    }

    #[test]
    fn six_hundred_lines_are_not_too_many() {
        let body = "fn f() {}\n".repeat(600);
        assert!(reported(check, &[("crates/x/src/a.rs", &body)]).is_empty());
    }
}
