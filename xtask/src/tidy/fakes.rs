//! Test keys and fakes live in `testkit/` or `tests/`, never in what is shipped.

use super::Violation;
use super::tree::{File, Tree};

/// A key that is in the source is a key that everyone has.
const KEYS: &[&str] = &[
    "BEGIN PRIVATE KEY",
    "BEGIN EC PRIVATE KEY",
    "BEGIN RSA PRIVATE KEY",
    "BEGIN ENCRYPTED PRIVATE KEY",
    "BEGIN OPENSSH PRIVATE KEY",
];

const NAMES: &[&str] = &["Fake", "Mock", "Dummy", "Stub"];

/// `countersign demo` runs against a model API that says it is a fake.
const SHIPPED_FAKES: &[&str] = &["crates/countersign/src/demo"];

/// Keys and fakes under `crates/*/src`, outside tests.
pub(crate) fn check(tree: &Tree) -> Vec<Violation> {
    let shipped = tree
        .files
        .iter()
        .filter(|file| file.crate_source().is_some());
    shipped
        .flat_map(|file| keys(file).into_iter().chain(fakes(file)))
        .collect()
}

fn keys(file: &File) -> Vec<Violation> {
    file.lines()
        .filter(|(_, text)| KEYS.iter().any(|key| text.contains(key)))
        .map(|(line, _)| {
            let message = "a private key under `src/`: test keys are made by testkit when needed";
            Violation::new(&file.path, line, message)
        })
        .collect()
}

fn fakes(file: &File) -> Vec<Violation> {
    if file.is_test()
        || SHIPPED_FAKES
            .iter()
            .any(|folder| file.path.starts_with(folder))
    {
        return Vec::new();
    }
    let named = ["struct", "enum", "trait", "fn", "mod", "type"];
    let tokens = &file.source.tokens;
    tokens
        .windows(2)
        .filter_map(|pair| {
            let [keyword, name] = pair else { return None };
            (named.contains(&keyword.text.as_str()) && !name.test && is_fake(&name.text)).then(
                || {
                    let message = format!("`{}`: fakes live in testkit or `tests/`", name.text);
                    Violation::new(&file.path, name.line, message)
                },
            )
        })
        .collect()
}

fn is_fake(name: &str) -> bool {
    NAMES.iter().any(|fake| {
        let snake = fake.to_lowercase();
        let camel = name
            .strip_prefix(fake)
            .is_some_and(|rest| !rest.starts_with(char::is_lowercase));
        camel || name == snake || name.starts_with(&format!("{snake}_"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::reported;

    #[test]
    fn a_key_in_the_source_is_found_even_in_its_tests() {
        let text = "#[cfg(test)]\nconst K: &str = \"-----BEGIN EC PRIVATE KEY-----\";";
        assert_eq!(
            reported(check, &[("crates/net/src/a.rs", text)]),
            ["crates/net/src/a.rs:2: a private key under `src/`: \
              test keys are made by testkit when needed"]
        );
        assert!(reported(check, &[("testkit/src/a.rs", text)]).is_empty());
    }

    #[test]
    fn a_fake_in_the_product_is_found() {
        let text = "struct FakeClock;\nfn mock_upstream() {}\nmod stub {}\nstruct Mocking;\nfn stubborn() {}";
        assert_eq!(reported(check, &[("crates/net/src/a.rs", text)]).len(), 3);
        let text = "#[cfg(test)]\nmod tests { struct FakeClock; }";
        assert!(reported(check, &[("crates/net/src/a.rs", text)]).is_empty());
        let text = "struct FakeModel;";
        assert!(reported(check, &[("crates/countersign/src/demo/model.rs", text)]).is_empty());
    }
}
