use super::codes::ConfigCode;
use super::sources::Sources;
use super::sources::Span;
use serde_json::Value;
use serde_json::json;

/// Something wrong (or doubtful) in a configuration, with the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Its stable code.
    pub code: ConfigCode,
    /// Whether it keeps the configuration from being used.
    pub severity: Severity,
    /// What is wrong, in one line.
    pub message: String,
    /// Where; the first label is the place that is printed first, the others are background.
    pub labels: Vec<Label>,
    /// What to type instead; applying it makes this diagnostic go away.
    pub help: Option<String>,
}

/// A place with what there is to say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The place.
    pub span: Span,
    /// What to say beside the caret; may be empty.
    pub text: String,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The configuration can't be used.
    Error,
    /// It can, but was it meant?
    Warning,
}

impl Severity {
    /// The word in front of the code.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

impl Diagnostic {
    /// An error at a place.
    #[must_use]
    pub fn error(code: ConfigCode, span: Span, message: impl Into<String>) -> Self {
        let labels = vec![Label {
            span,
            text: String::new(),
        }];
        Self {
            code,
            severity: Severity::Error,
            message: message.into(),
            labels,
            help: None,
        }
    }

    /// A warning at a place.
    #[must_use]
    pub fn warning(code: ConfigCode, span: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(code, span, message)
        }
    }

    /// What to say beside the caret.
    #[must_use]
    pub fn label(mut self, text: impl Into<String>) -> Self {
        if let Some(label) = self.labels.first_mut() {
            label.text = text.into();
        }
        self
    }

    /// Another place that belongs to it.
    #[must_use]
    pub fn and(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label {
            span,
            text: text.into(),
        });
        self
    }

    /// What to type instead.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(text.into());
        self
    }

    /// The place that is printed first.
    #[must_use]
    pub fn span(&self) -> Span {
        self.labels
            .first()
            .map(|label| label.span)
            .unwrap_or_default()
    }

    /// Whether it keeps the configuration from being used.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// All diagnostics as one document of the schema `countersign.diagnostics/v1`.
///
/// Lines and columns count from 1, columns in characters; the end is exclusive.
#[must_use]
pub fn to_json(diagnostics: &[Diagnostic], sources: &Sources) -> Value {
    let entry = |diagnostic: &Diagnostic| {
        let labels: Vec<_> = diagnostic
            .labels
            .iter()
            .map(|it| label_json(it, sources))
            .collect();
        json!({
            "code": diagnostic.code.as_str(),
            "help": diagnostic.help,
            "labels": labels,
            "message": diagnostic.message,
            "severity": diagnostic.severity.word(),
        })
    };
    json!({
        "diagnostics": diagnostics.iter().map(entry).collect::<Vec<_>>(),
        "schema": "countersign.diagnostics/v1",
    })
}

fn label_json(label: &Label, sources: &Sources) -> Value {
    let start = sources.place(label.span);
    let end = sources.place_at(label.span.file, label.span.end as usize);
    json!({
        "column": start.column,
        "end_column": end.column,
        "end_line": end.line,
        "file": sources.name(label.span.file),
        "line": start.line,
        "text": label.text,
    })
}

/// Collects what is found while reading; nothing stops at the first error.
#[derive(Debug, Default)]
pub(crate) struct Report {
    errors: Kept,
    warnings: Kept,
}

/// The first of one severity, and how many more there were.
#[derive(Debug, Default)]
struct Kept {
    found: Vec<Diagnostic>,
    dropped: usize,
}

/// A file that is wrong in more places than this is not a configuration.
const MAX_DIAGNOSTICS: usize = 1_000;
/// Did-you-mean compares with every name there is, so a hopeless file does without.
const MAX_SUGGESTIONS: usize = 100;

impl Report {
    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        let kept = match diagnostic.severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
        };
        if kept.found.len() < MAX_DIAGNOSTICS {
            kept.found.push(diagnostic);
        } else {
            kept.dropped += 1;
        }
    }

    /// How much was said so far.
    pub(crate) const fn count(&self) -> usize {
        self.errors.count() + self.warnings.count()
    }

    /// Whether comparing names for a suggestion is still worth it.
    pub(crate) fn may_suggest(&self) -> bool {
        self.count() < MAX_SUGGESTIONS
    }

    /// Everything, in the order of the files, once each, and without the credentials of the files.
    /// Beside errors there are no warnings: most would be about what an error left out.
    pub(crate) fn finish(self, sources: &Sources) -> Vec<Diagnostic> {
        let (kept, severity) = if self.errors.found.is_empty() {
            (self.warnings, Severity::Warning)
        } else {
            (self.errors, Severity::Error)
        };
        let Kept { mut found, dropped } = kept;
        found.sort_by_key(|it| (it.span(), it.code));
        found.dedup();
        if let (true, Some(last)) = (dropped > 0, found.last().map(Diagnostic::span)) {
            let message = format!("{dropped} more problems are not shown");
            let more = Diagnostic::error(super::codes::TOO_BIG, last, message);
            let more = more.help("correct those above first");
            found.push(Diagnostic { severity, ..more });
        }
        let unsaid = sources.unsaid();
        for it in &mut found {
            it.message = unsaid.without(&it.message);
            it.help = it.help.as_deref().map(|help| unsaid.without(help));
            for label in &mut it.labels {
                label.text = unsaid.without(&label.text);
            }
        }
        found
    }
}

impl Kept {
    const fn count(&self) -> usize {
        self.found.len() + self.dropped
    }
}
