use super::diagnostic::Diagnostic;
use super::diagnostic::Label;
use super::diagnostic::Severity;
use super::sources::Sources;
use std::fmt::Write as _;

/// How many characters of a long source line are shown.
const WIDTH: usize = 160;
/// How many of them stand in front of the place.
const LEAD: usize = 60;

/// A diagnostic as people read it: code, place, source line, caret and remedy.
///
/// ```text
/// error[CS0203]: edge to nowhere: nothing is named `opneai`
///    --> countersign.yaml:77:16
/// 77 |   hms-api   -> opneai:     [POST /v1/chat/completions]
///    |                ^^^^^^ not a service
///    = help: did you mean `openai`?
/// ```
///
/// Control characters of the file are replaced, so that a file can't write to the terminal.
#[must_use]
pub fn render(diagnostic: &Diagnostic, sources: &Sources, colour: bool) -> String {
    let paint = Paint { on: colour };
    let accent = match diagnostic.severity {
        Severity::Error => "1;31",
        Severity::Warning => "1;33",
    };
    let head = format!("{}[{}]", diagnostic.severity.word(), diagnostic.code);
    let mut out = format!(
        "{}: {}\n",
        paint.with(accent, &head),
        paint.with("1", &harmless(&diagnostic.message))
    );
    let line_of = |label: &Label| sources.place(label.span).line;
    let gutter = diagnostic
        .labels
        .iter()
        .map(line_of)
        .max()
        .unwrap_or(1)
        .to_string()
        .len();
    for (index, label) in diagnostic.labels.iter().enumerate() {
        let mark = if index == 0 {
            ('^', accent)
        } else {
            ('-', "1;34")
        };
        snippet(&mut out, label, sources, gutter, mark, &paint);
    }
    if let Some(help) = &diagnostic.help {
        let equals = paint.with("1;34", "=");
        let _ = writeln!(
            out,
            "{:gutter$} {equals} {}: {}",
            "",
            paint.with("1", "help"),
            harmless(help)
        );
    }
    out
}

/// Several diagnostics with an empty line between them.
#[must_use]
pub fn render_all(diagnostics: &[Diagnostic], sources: &Sources, colour: bool) -> String {
    let each = diagnostics
        .iter()
        .map(|diagnostic| render(diagnostic, sources, colour));
    each.collect::<Vec<_>>().join("\n")
}

fn snippet(
    out: &mut String,
    label: &Label,
    sources: &Sources,
    gutter: usize,
    (mark, accent): (char, &str),
    paint: &Paint,
) {
    let place = sources.place(label.span);
    let end = sources.place_at(label.span.file, label.span.end as usize);
    let excerpt = sources.excerpt(label.span, LEAD, WIDTH);
    let shown = harmless(&excerpt.text);
    let left = shown.chars().count().saturating_sub(excerpt.lead);
    let covered = if end.line == place.line {
        end.column.saturating_sub(place.column) as usize
    } else {
        left
    };
    let (before, after) = (ellipsis(excerpt.cut_before), ellipsis(excerpt.cut_after));
    let indent = " ".repeat(before.chars().count() + excerpt.lead);
    let marks = mark.to_string().repeat(covered.min(left).max(1));
    let carets = paint.with(accent, &format!("{marks}{}", spaced(&label.text)));
    let arrow = paint.with("1;34", "-->");
    let bar = paint.with("1;34", "|");
    let number = paint.with("1;34", &format!("{:>gutter$}", place.line));
    let file = harmless(sources.name(place.file));
    let _ = writeln!(
        out,
        "{:gutter$} {arrow} {file}:{}:{}",
        "", place.line, place.column
    );
    let _ = writeln!(out, "{number} {bar} {before}{shown}{after}");
    let _ = writeln!(out, "{:gutter$} {bar} {indent}{carets}", "");
}

/// Stands for the rest of a long line.
const fn ellipsis(cut: bool) -> &'static str {
    if cut { "…" } else { "" }
}

fn spaced(text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!(" {}", harmless(text))
    }
}

/// Control and direction-changing characters replaced one for one, so that columns stay.
fn harmless(text: &str) -> String {
    let replace = |c: char| match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}'
        | '\u{feff}' => '\u{fffd}',
        c => c,
    };
    text.chars().map(replace).collect()
}

struct Paint {
    on: bool,
}

impl Paint {
    fn with(&self, style: &str, text: &str) -> String {
        if self.on {
            format!("\u{1b}[{style}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}
