//! The configuration language: broken files with the exact place of each error and a remedy that
//! works, realistic files that must be clean, and arbitrary bytes that must never panic.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![expect(
    clippy::disallowed_methods,
    reason = "the crate is pure; its tests read files and look at the clock"
)]

mod broken;
mod declaration;
mod good;
mod properties;
mod rendering;

use countersign_core::config::Loaded;
use countersign_core::config::Options;
use countersign_core::config::load_text;
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

fn check(text: &str) -> Loaded {
    load_text("countersign.yaml", text, &options(text))
}

/// Code and place of everything found: `CS0203 9:14`.
fn found(loaded: &Loaded) -> Vec<String> {
    let one = |it: &countersign_core::config::Diagnostic| {
        let place = loaded.sources.place(it.span());
        format!("{} {}:{}", it.code, place.line, place.column)
    };
    loaded.diagnostics.iter().map(one).collect()
}
