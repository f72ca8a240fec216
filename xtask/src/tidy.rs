//! `cargo xtask tidy`: the rules of this repository that rustc and clippy can't see.
//!
//! One rule, one module, each with tests that show a violation being caught. A rule sees the
//! [`Tree`] (every text file, Rust sources also as tokens, so that a comment or a string never
//! counts as code) and returns what it found; it prints nothing.

mod book;
mod clippy_settings;
mod codes;
mod crate_graph;
mod documents;
mod fakes;
mod forbidden;
mod lints;
mod module_graph;
mod raw_refusals;
mod single_place;
mod size;
mod source;
mod threats;
mod tree;

use std::fmt;

use anyhow::Result;

use crate::shell;
use tree::Tree;

/// Checks every rule and prints what breaks one; true when nothing does.
///
/// # Errors
/// When the tree can't be read or cargo can't describe the workspace.
pub(crate) fn run() -> Result<bool> {
    let tree = Tree::read(&shell::root())?;
    let mut violations = crate_graph::check(&crate_graph::packages(&tree)?);
    for (_, rule) in RULES {
        violations.extend(rule(&tree));
    }
    violations.sort();
    violations.dedup();
    for violation in &violations {
        println!("{violation}");
    }
    match violations.len() {
        0 => println!(
            "tidy: {} files, {} rules kept",
            tree.files.len(),
            RULES.len() + 1
        ),
        found => println!("tidy: {found} found"),
    }
    Ok(violations.is_empty())
}

type Rule = fn(&Tree) -> Vec<Violation>;

const RULES: &[(&str, Rule)] = &[
    ("module graph", module_graph::check),
    ("single place", single_place::check),
    ("forbidden words", forbidden::check),
    ("raw refusals", raw_refusals::check),
    ("size", size::check),
    ("codes", codes::check),
    ("documents", documents::check),
    ("book", book::check),
    ("threats", threats::check),
    ("fakes", fakes::check),
    ("clippy settings", clippy_settings::check),
    ("lints", lints::check),
];

/// One place that breaks one rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Violation {
    path: String,
    line: usize,
    message: String,
}

impl Violation {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line,
            message: message.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// Checks one rule over an invented tree; tests compare the lines it reports.
#[cfg(test)]
fn reported(rule: Rule, files: &[(&str, &str)]) -> Vec<String> {
    rule(&Tree::of(files))
        .iter()
        .map(ToString::to_string)
        .collect()
}
