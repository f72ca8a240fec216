//! clippy reads the nearest `clippy.toml` and no other, so a crate with its own must repeat the
//! root's settings: a threshold changed in one place only would be a different rule per crate.

use super::Violation;
use super::tree::{File, Tree};

const ROOT: &str = "clippy.toml";

/// Every setting of the root that a crate's own file lacks or changes.
pub(crate) fn check(tree: &Tree) -> Vec<Violation> {
    let Some(root) = tree.file(ROOT) else {
        return Vec::new();
    };
    let others = tree
        .files
        .iter()
        .filter(|file| file.path.ends_with("/clippy.toml"));
    others
        .flat_map(|other| {
            let theirs: Vec<&str> = settings(other).collect();
            settings(root)
                .filter(move |setting| !theirs.contains(setting))
                .map(|setting| {
                    let message = format!("lacks `{setting}` of the root's clippy.toml");
                    Violation::new(&other.path, 1, message)
                })
        })
        .collect()
}

/// Plain `key = value` lines and single entries of lists, without comments.
fn settings(file: &File) -> impl Iterator<Item = &str> {
    file.lines()
        .map(|(_, text)| text.trim())
        .filter(|text| !text.starts_with('#') && !text.ends_with('['))
        .filter_map(|text| match text.strip_prefix("{ path = \"") {
            // Another crate may have its own reason to forbid the same thing.
            Some(path) => path.split('"').next(),
            None => text.contains(" = ").then_some(text),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::reported;

    const ROOT_TEXT: &str =
        "# why\na = 60\nlist = [\n  { path = \"std::x\", reason = \"r\" },\n]\n";

    #[test]
    fn a_setting_that_is_not_repeated_is_found() {
        let other = ("crates/core/clippy.toml", "a = 61\nlist = [\n]");
        assert_eq!(
            reported(check, &[(ROOT, ROOT_TEXT), other]),
            [
                "crates/core/clippy.toml:1: lacks `a = 60` of the root's clippy.toml",
                "crates/core/clippy.toml:1: lacks `std::x` of the root's clippy.toml",
            ]
        );
    }

    #[test]
    fn more_settings_and_other_reasons_are_fine() {
        let other = "b = 1\na = 60\nlist = [\n  { path = \"std::x\", reason = \"another\" },\n]\n";
        assert!(
            reported(
                check,
                &[(ROOT, ROOT_TEXT), ("crates/core/clippy.toml", other)]
            )
            .is_empty()
        );
    }
}
