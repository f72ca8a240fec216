//! Every package takes the workspace's lints: one that does not is checked by nobody.

use super::Violation;
use super::tree::Tree;

/// Every manifest of a package without `[lints] workspace = true`.
pub(crate) fn check(tree: &Tree) -> Vec<Violation> {
    let manifests = tree.files.iter().filter(|file| {
        let member = ["crates/", "testkit/", "xtask/"];
        file.path.ends_with("/Cargo.toml") && member.iter().any(|m| file.path.starts_with(m))
    });
    manifests
        .filter(|file| {
            let mut lines = file.text.lines().map(str::trim);
            let found = lines.by_ref().any(|line| line == "[lints]");
            !found || lines.find(|line| !line.is_empty()) != Some("workspace = true")
        })
        .map(|file| Violation::new(&file.path, 1, "lacks `[lints]` with `workspace = true`"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::reported;

    #[test]
    fn a_package_with_its_own_lints_is_found() {
        let expect = ["crates/x/Cargo.toml:1: lacks `[lints]` with `workspace = true`"];
        for text in [
            "[package]\nname = \"x\"",
            "[lints]\n\n[lints.clippy]",
            "[lints]\nrust = {}",
        ] {
            assert_eq!(
                reported(check, &[("crates/x/Cargo.toml", text)]),
                expect,
                "{text}"
            );
        }
        let good = "[package]\n\n[lints]\nworkspace = true\n";
        assert!(reported(check, &[("crates/x/Cargo.toml", good)]).is_empty());
    }
}
