//! The configuration: its model, and the language it is read from.
//!
//! [`Config`] is what a checked file means: names are resolved, small strings are parsed, defaults
//! are filled in, and every entry remembers the [`Place`] it was written at, because explanations
//! name lines. [`load`] reads one; it reports every error at once, and gives a configuration only
//! if there is none.
//!
//! On the way: `yaml` (text to a tree with places), `parse` (tree to document, by the declaration
//! in [`schema`]), `resolve` (names to references, and the floors below which nothing goes).

mod beyond;
pub mod codes;
mod diagnostic;
pub mod json_schema;
mod model;
mod parse;
mod pem;
pub(crate) mod project;
mod render;
mod resolve;
pub mod schema;
mod sources;
mod suggest;
mod yaml;

pub use beyond::Beyond;
pub use diagnostic::Diagnostic;
pub use diagnostic::Label;
pub use diagnostic::Severity;
pub use diagnostic::to_json;
pub use model::*;
pub use render::render;
pub use render::render_all;
pub use sources::Sources;
pub use sources::Span;

use diagnostic::Report;

/// Where files come from: this crate opens none.
pub trait Files {
    /// The text of a file.
    ///
    /// # Errors
    /// [`FileError`] if there is no such file, it can't be read, or it is not UTF-8.
    fn read(&self, path: &str) -> Result<String, FileError>;

    /// The text of the file that a user names, which may be a pipe.
    ///
    /// # Errors
    /// Those of [`read`](Self::read).
    fn entry(&self, path: &str) -> Result<String, FileError> {
        self.read(path)
    }

    /// The paths that match a pattern, sorted; `*` stands for any part of the name of a file that
    /// does not start with a dot.
    ///
    /// # Errors
    /// [`FileError`] if a folder on the way can't be read.
    fn list(&self, pattern: &str) -> Result<Vec<String>, FileError>;
}

/// No files: for a configuration that names none.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFiles;

impl Files for NoFiles {
    fn read(&self, path: &str) -> Result<String, FileError> {
        Err(FileError {
            path: path.to_owned(),
            reason: "there are no files here".to_owned(),
        })
    }

    fn list(&self, _: &str) -> Result<Vec<String>, FileError> {
        Ok(Vec::new())
    }
}

/// Why a configuration file can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{path}`: {reason}")]
pub struct FileError {
    /// The file.
    pub path: String,
    /// Why, in words.
    pub reason: String,
}

impl FileError {
    /// The reason if the bytes of a file are not UTF-8.
    pub const NOT_UTF8: &str = "it is not UTF-8 text";
    /// The reason if it is a folder.
    pub const FOLDER: &str = "it is a folder, not a file";
    /// The reason if it is a pipe, a socket or a device.
    pub const NOT_REGULAR: &str = "it is not a regular file";

    /// What helps against the reason, if it is one of those that have a remedy of their own.
    fn remedy(&self, otherwise: &'static str) -> &'static str {
        match self.reason.as_str() {
            Self::NOT_UTF8 => "save the file as UTF-8",
            Self::FOLDER => "name a file in it",
            Self::NOT_REGULAR => "copy what it gives into a file, and name that",
            _ => otherwise,
        }
    }
}

/// Whether [`Files::list`] gives a path for a pattern.
#[must_use]
pub fn is_listed(pattern: &str, path: &str) -> bool {
    let (mut patterns, mut parts) = (pattern.split('/'), path.split('/'));
    loop {
        match (patterns.next(), parts.next()) {
            (None, None) => return true,
            (Some(pattern), Some(part)) if part_is_listed(pattern, part) => {}
            _ => return false,
        }
    }
}

/// `*` is any text; a part that starts with a dot has to be written out.
fn part_is_listed(pattern: &str, part: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == part;
    };
    if start.is_empty() && part.starts_with('.') {
        return false;
    }
    let Some(mut left) = part.strip_prefix(start) else {
        return false;
    };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let end = pieces.pop().unwrap_or_default();
    for piece in pieces {
        let Some((_, after)) = left.split_once(piece) else {
            return false;
        };
        left = after;
    }
    left.ends_with(end)
}

/// How a configuration is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Whether `--dev` was given: the environment is `dev` unless the file says otherwise.
    pub dev: bool,
    /// Whether warnings are errors.
    pub strict: bool,
}

/// What came of reading a configuration.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration, if nothing is wrong with it.
    pub config: Option<Config>,
    /// Everything found, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
    /// The files read.
    pub sources: Sources,
}

impl Loaded {
    /// What keeps it from being used.
    pub fn errors(&self) -> impl Iterator<Item = &Diagnostic> {
        self.diagnostics.iter().filter(|it| it.is_error())
    }

    /// What may not have been meant.
    pub fn warnings(&self) -> impl Iterator<Item = &Diagnostic> {
        self.diagnostics.iter().filter(|it| !it.is_error())
    }
}

/// Reads, checks and resolves a configuration.
#[must_use]
pub fn load(files: &dyn Files, path: &str, options: &Options) -> Loaded {
    load_part(files, path, options, None)
}

/// The same for a part of a configuration if there are `logins`: those of the whole, also of doors
/// that are not in the part.
pub(crate) fn load_part(
    files: &dyn Files,
    path: &str,
    options: &Options,
    logins: Option<&[String]>,
) -> Loaded {
    match files.entry(path) {
        Ok(text) => load_with(files, path, text, options, (logins, None)),
        Err(error) => {
            let mut sources = Sources::default();
            let file = sources.add(path, String::new());
            let message = format!("the configuration can't be read: {}", error.reason);
            let help = error
                .remedy("check the path and who may read it, or make one with `countersign init`");
            let it = Diagnostic::error(codes::NO_FILE, Span::new(file, 0..0), message).help(help);
            Loaded {
                config: None,
                diagnostics: vec![it],
                sources,
            }
        }
    }
}

/// Reads, checks and resolves a configuration that is already in memory.
#[must_use]
pub fn load_text(name: &str, text: impl Into<String>, options: &Options) -> Loaded {
    load_with(&NoFiles, name, text.into(), options, (None, None))
}

/// Reads a configuration with sentences that are not in it, for questions that nobody wrote down:
/// a mapping like that of `tests`. They are the last of its tests; what is wrong with them is
/// reported like the rest, as of the file `command line`.
#[must_use]
pub fn load_asking(files: &dyn Files, path: &str, options: &Options, sentences: &str) -> Loaded {
    match files.entry(path) {
        Ok(text) => load_with(files, path, text, options, (None, Some(sentences))),
        Err(_) => load(files, path, options),
    }
}

fn load_with(
    files: &dyn Files,
    name: &str,
    text: String,
    options: &Options,
    (logins, sentences): (Option<&[String]>, Option<&str>),
) -> Loaded {
    let mut sources = Sources::default();
    let mut report = Report::default();
    let file = sources.add(name, text);
    let mut nodes = 0;
    let root = parse::tree(file, &mut sources, &mut report, &mut nodes);
    let mut document =
        root.and_then(|root| parse::document(root, files, &mut sources, &mut report, &mut nodes));
    if let (Some(document), Some(text)) = (&mut document, sentences) {
        let file = sources.add("command line", text.to_owned());
        let root = yaml::parse(file, sources.text(file), &mut report, &mut nodes);
        let asked = root.and_then(|root| parse::sentences(&root, files, &mut sources, &mut report));
        document.tests.extend(asked.into_iter().flatten());
    }
    let config = document.and_then(|mut it| {
        it.is_part = logins.is_some();
        it.other_logins = logins.unwrap_or_default().to_vec();
        resolve::resolve(&it, &sources, &mut report, options)
    });
    for part in config.iter().flat_map(Config::beyond) {
        let span = sources.word_at(part.place);
        let message = format!("{} is not in this build", part.what);
        let help =
            "`up` and `reload` refuse this configuration; remove it, or use a build that has it";
        report.push(Diagnostic::warning(codes::NOT_YET, span, message).help(help));
    }
    let mut diagnostics = report.finish(&sources);
    if options.strict {
        diagnostics
            .iter_mut()
            .for_each(|it| it.severity = Severity::Error);
    }
    let config = config.filter(|_| !diagnostics.iter().any(Diagnostic::is_error));
    Loaded {
        config,
        diagnostics,
        sources,
    }
}
