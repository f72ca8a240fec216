//! JSONTestSuite against the one parser of outside JSON: see `conformance/json/README.md`.

use countersign_ledger::canonical;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// How many files of the suite begin with each letter.
const CASES: [(char, usize); 3] = [('i', 35), ('n', 188), ('y', 95)];

fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../../conformance/json"]
        .iter()
        .collect()
}

/// `name accepted|refused reason ..` per line.
fn listed(file: &str) -> BTreeMap<String, bool> {
    let text = std::fs::read_to_string(folder().join(file)).unwrap();
    let mut listed = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let (name, outcome) = (words.next().unwrap(), words.next().unwrap());
        assert!(words.next().is_some(), "{name} has no reason");
        assert!(["accepted", "refused"].contains(&outcome), "{line}");
        let twice = listed.insert(name.to_owned(), outcome == "accepted");
        assert!(twice.is_none(), "{name} is listed twice");
    }
    listed
}

#[test]
fn json_test_suite() {
    let mut free = listed("free.txt");
    let mut excepted = listed("exceptions.txt");
    assert!(excepted.len() <= 2, "the ceiling");
    let (mut counts, mut wrong) = (BTreeMap::new(), Vec::new());
    for entry in std::fs::read_dir(folder().join("data/test_parsing")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let parsed = canonical::parse_unique(&bytes);
        let letter = name.chars().next().unwrap();
        *counts.entry(letter).or_insert(0) += 1;
        let expected = match letter {
            'i' => free.remove(name),
            letter => Some(excepted.remove(name).unwrap_or(letter == 'y')),
        };
        if expected != Some(parsed.is_ok()) {
            wrong.push(format!("{name}: {:?}", parsed.as_ref().err()));
        }
        // What is taken has one canonical form, and reads back from it.
        if let Ok(value) = parsed {
            let canonical = canonical::to_canonical(&value).unwrap();
            assert!(canonical::is_canonical(&canonical), "{name}");
        }
    }
    assert!(
        wrong.is_empty(),
        "{} unexpected:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert_eq!(counts, BTreeMap::from(CASES));
    assert!(
        free.is_empty() && excepted.is_empty(),
        "listed, but no case: {free:?} {excepted:?}"
    );
}
