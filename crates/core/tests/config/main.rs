//! The configuration language: broken files with the exact place of each error and a remedy that
//! works, realistic files that must be clean, and arbitrary bytes that must never panic.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test stops at the first surprise"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "the crate is pure; its tests read files and look at the clock"
)]

mod broken;
mod credentials;
mod declaration;
mod good;
mod hints;
mod properties;
mod rendering;
mod schema;

use countersign_core::config::FileError;
use countersign_core::config::Files;
use countersign_core::config::Loaded;
use countersign_core::config::Options;
use countersign_core::config::codes;
use countersign_core::config::is_listed;
use countersign_core::config::load;
use std::collections::BTreeMap;
use std::path::Path;

/// All files of a folder beside this one, by name.
fn files(folder: &str) -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/config")
        .join(folder);
    let mut files: Vec<_> = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(&path).unwrap())
        })
        .collect();
    files.sort();
    files
}

/// The lines `#! ..` at the top of a file, which tell the test what to expect.
fn directives(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map_while(|line| line.strip_prefix("#! "))
}

fn options(text: &str) -> Options {
    let has = |word| directives(text).any(|line| line.split(' ').any(|it| it == word));
    let plain = directives(text).any(|line| line == "dev" || line == "strict");
    Options {
        dev: plain && has("dev"),
        strict: plain && has("strict"),
    }
}

/// Values of a directive: `#! expect CS0203 9:14`.
fn directive<'t>(text: &'t str, word: &str) -> Vec<&'t str> {
    directives(text)
        .filter_map(|line| line.strip_prefix(word)?.strip_prefix(' '))
        .collect()
}

/// The name under which every case is read.
const ENTRY: &str = "countersign.yaml";

/// The files of a case: itself as [`ENTRY`], what it brings along (`#! file conf.d/a.yaml "text"`,
/// the text as in JSON), and everything below the folder `attached`, which all of them share.
#[derive(Clone, Debug)]
struct Case(BTreeMap<String, String>);

impl Case {
    fn new(text: &str) -> Self {
        // What a directive quotes is not what the case says.
        let head = directives(text).count();
        let blanked = |(index, line)| if index < head { "#\n" } else { line };
        let entry = text.split_inclusive('\n').enumerate().map(blanked);
        let mut files = BTreeMap::from([(ENTRY.to_owned(), entry.collect())]);
        for file in directive(text, "file") {
            let (path, text) = file.split_once(' ').unwrap();
            files.insert(path.to_owned(), serde_json::from_str(text).unwrap());
        }
        Self(files)
    }

    fn load(&self, options: &Options) -> Loaded {
        load(self, ENTRY, options)
    }
}

impl Files for Case {
    fn read(&self, path: &str) -> Result<String, FileError> {
        let shared = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/config/attached")
            .join(path);
        let own = self.0.get(path).cloned();
        own.or_else(|| std::fs::read_to_string(shared).ok())
            .ok_or_else(|| FileError {
                path: path.to_owned(),
                reason: "no such file".to_owned(),
            })
    }

    fn list(&self, pattern: &str) -> Result<Vec<String>, FileError> {
        let listed = self.0.keys().filter(|path| is_listed(pattern, path));
        Ok(listed.cloned().collect())
    }
}

fn check(text: &str) -> Loaded {
    Case::new(text).load(&options(text))
}

/// Code and place of everything found: `CS0203 9:14`.
fn found(loaded: &Loaded) -> Vec<String> {
    let one = |it: &countersign_core::config::Diagnostic| {
        let place = loaded.sources.place(it.span());
        format!("{} {}:{}", it.code, place.line, place.column)
    };
    loaded.diagnostics.iter().map(one).collect()
}

/// Everything found except what this build does not enforce.
fn found_in_any_build(loaded: &Loaded) -> Vec<String> {
    let mut found = found(loaded);
    found.retain(|it| !it.starts_with(codes::NOT_YET.as_str()));
    found
}

/// What this build does not enforce, each part once.
fn beyond(loaded: &Loaded) -> Vec<&str> {
    let mut parts: Vec<_> = loaded
        .diagnostics
        .iter()
        .filter(|it| it.code == codes::NOT_YET)
        .map(|it| it.message.strip_suffix(" is not in this build").unwrap())
        .collect();
    parts.sort_unstable();
    parts.dedup();
    parts
}
