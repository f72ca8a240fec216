//! The configuration: its model, and the language it is read from.
//!
//! [`Config`] is what a checked file means: names are resolved, small strings are parsed, defaults
//! are filled in, and every entry remembers the [`Place`] it was written at, because explanations
//! name lines. [`load`] reads one; it reports every error at once, and gives a configuration only
//! if there is none.
//!
//! On the way: `yaml` (text to a tree with places), `parse` (tree to document, by the declaration
//! in [`schema`]), `resolve` (names to references, and the floors below which nothing goes).

pub mod codes;
mod diagnostic;
mod model;
mod parse;
mod render;
mod resolve;
pub mod schema;
mod sources;
mod suggest;
mod yaml;

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
    match files.read(path) {
        Ok(text) => load_text(path, text, options),
        Err(error) => {
            let mut sources = Sources::default();
            let file = sources.add(path, String::new());
            let message = format!("the configuration can't be read: {}", error.reason);
            let help = "check the path and who may read it, or make one with `countersign init`";
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
    let mut sources = Sources::default();
    let mut report = Report::default();
    let file = sources.add(name, text.into());
    let root = yaml::parse(file, sources.text(file), &mut report);
    let document = root.and_then(|root| parse::document(&root, &mut sources, &mut report));
    let config = document.and_then(|it| resolve::resolve(&it, &sources, &mut report, options));
    let mut diagnostics = report.finish();
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
