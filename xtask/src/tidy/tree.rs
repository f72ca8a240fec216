//! Every text file of the repository, with what the rules ask of it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::source::Source;

/// Folders that hold nothing a person wrote here.
const SKIPPED: &[&str] = &["target", ".git", "__pycache__", "node_modules", ".venv"];

/// A text file longer than this is data.
const LARGEST: u64 = 1 << 20;

/// All text files, sorted by path.
pub(crate) struct Tree {
    pub(crate) files: Vec<File>,
}

/// One text file.
pub(crate) struct File {
    /// From the root of the repository, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
    /// The tokens of a Rust file; empty for any other, and for one that rustc would refuse.
    pub(crate) source: Source,
}

impl Tree {
    /// Reads the repository below `root`.
    ///
    /// # Errors
    /// When a folder or a file can't be read.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let mut files = Vec::new();
        read_folder(root, "", &mut files)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { files })
    }

    /// The file at `path`, if there is one.
    pub(crate) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// All Rust files.
    pub(crate) fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.path.ends_with(".rs"))
    }

    /// A tree of these paths and texts.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let files = files
            .iter()
            .map(|(path, text)| File::new(path, (*text).to_owned()))
            .collect();
        Self { files }
    }
}

impl File {
    fn new(path: &str, text: String) -> Self {
        let source = match path.ends_with(".rs") {
            true => Source::parse(&text),
            false => Source::default(),
        };
        Self {
            path: path.to_owned(),
            text,
            source,
        }
    }

    /// The crate's folder name for `crates/<name>/src/..`, and the rest of the path.
    pub(crate) fn crate_source(&self) -> Option<(&str, &str)> {
        self.path.strip_prefix("crates/")?.split_once("/src/")
    }

    /// Whether the whole file is test code: fixtures, fakes, benches and the task runner too.
    pub(crate) fn is_test(&self) -> bool {
        let path = self.path.as_str();
        let folder = [
            "testkit/",
            "xtask/",
            "bench/",
            "fuzz/",
            "conformance/",
            "tests/",
        ];
        folder.iter().any(|folder| path.starts_with(folder))
            || path.contains("/tests/")
            || path.contains("/benches/")
            || path.ends_with("/tests.rs")
    }

    /// Lines with their numbers, from 1.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line))
    }
}

fn read_folder(folder: &Path, prefix: &str, files: &mut Vec<File>) -> Result<()> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("can't read {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry.file_type()?;
        let path = format!("{prefix}{name}");
        if kind.is_dir() && !SKIPPED.contains(&name.as_str()) {
            read_folder(&entry.path(), &format!("{path}/"), files)?;
        } else if kind.is_file() && entry.metadata()?.len() <= LARGEST {
            let bytes = fs::read(entry.path()).with_context(|| format!("can't read {path}"))?;
            if let Ok(text) = String::from_utf8(bytes) {
                files.push(File::new(&path, text));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_read_without_what_was_built() {
        let folder = tempfile::tempdir().expect("a folder");
        for path in ["src/lib.rs", "target/debug/x.rs", ".git/config"] {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, "fn a() {}").expect("written");
        }
        fs::write(folder.path().join("image"), [0xff, 0xfe]).expect("written");
        let tree = Tree::read(folder.path()).expect("read");
        let paths: Vec<_> = tree.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["src/lib.rs"]);
    }
}
