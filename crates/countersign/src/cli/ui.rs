//! What a command says: the answer on standard output, everything else on standard error.

use super::args::Globals;
use super::args::Output;
use super::args::When;
use crate::operate::Failure;
use serde_json::Value;
use std::io;
use std::io::Write;

/// Where a command writes, and whether somebody is looking.
pub struct Streams<'a> {
    /// Standard error.
    pub err: &'a mut dyn Write,
    /// Whether standard error is a terminal.
    pub err_terminal: bool,
    /// Standard output.
    pub out: &'a mut dyn Write,
    /// Whether standard output is a terminal.
    pub out_terminal: bool,
}

/// What a command writes with.
pub(crate) struct Ui<'a> {
    pub(crate) output: Output,
    colour_err: bool,
    colour_out: bool,
    quiet: bool,
    streams: Streams<'a>,
}

/// An answer in its forms.
pub(crate) struct Answer<'a> {
    /// The document; `schema` is put into it.
    pub(crate) document: Value,
    /// Its name and version, such as `countersign.status/v1`.
    pub(crate) schema: &'a str,
    /// The one thing a script wants.
    pub(crate) short: &'a str,
    /// For people.
    pub(crate) text: &'a str,
}

/// Colours of the terminal.
#[derive(Clone, Copy)]
pub(crate) enum Style {
    Banner,
    Bold,
    Good,
    Bad,
    Dim,
}

impl<'a> Ui<'a> {
    pub(crate) fn new(globals: &Globals, streams: Streams<'a>) -> Self {
        let colour = |terminal: bool| match globals.color {
            When::Always => true,
            When::Never => false,
            When::Auto => terminal && colour_allowed(),
        };
        Self {
            output: globals.output.clone(),
            colour_err: colour(streams.err_terminal),
            colour_out: colour(streams.out_terminal),
            quiet: globals.quiet,
            streams,
        }
    }

    /// Gives the answer in the form that was asked for.
    pub(crate) fn answer(&mut self, answer: Answer<'_>) -> Result<(), Failure> {
        let Answer {
            mut document,
            schema,
            short,
            text,
        } = answer;
        if let Value::Object(members) = &mut document {
            members.insert("schema".to_owned(), schema.into());
        }
        let text = match self.output {
            Output::Json => serde_json::to_string_pretty(&document)
                .map_err(|error| Failure::failed(error.to_string()))?,
            Output::Yaml => serde_saphyr::to_string(&document)
                .map_err(|error| Failure::failed(error.to_string()))?,
            Output::Short => short.to_owned(),
            Output::Table | Output::Svg | Output::File(_) => text.to_owned(),
        };
        self.print(&text)
    }

    /// Writes to standard output, with a line break at the end.
    pub(crate) fn print(&mut self, text: &str) -> Result<(), Failure> {
        let end = if text.is_empty() || text.ends_with('\n') {
            ""
        } else {
            "\n"
        };
        self.bytes(format!("{text}{end}").as_bytes())
    }

    /// Writes to standard output as it is.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = self
            .streams
            .out
            .write_all(bytes)
            .and_then(|()| self.streams.out.flush());
        match written {
            // Whoever read it has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(error) => Err(Failure::failed(format!("standard output: {error}"))),
            Ok(()) => Ok(()),
        }
    }

    /// Something beside the answer; not with `--quiet`.
    pub(crate) fn note(&mut self, text: &str) {
        if !self.quiet {
            self.warn(text);
        }
    }

    /// Something that is said even with `--quiet`.
    pub(crate) fn warn(&mut self, text: &str) {
        // There is nowhere left to say that this failed.
        let _ = writeln!(self.streams.err, "{text}");
    }

    /// Why there is no answer.
    pub(crate) fn failed(&mut self, failure: &Failure) {
        let bad = self.paint_err(Style::Bad, "error");
        self.warn(&format!("{bad}: {failure}"));
        if let Some(help) = failure.help() {
            let label = self.paint_err(Style::Bold, "help");
            self.warn(&format!("  = {label}: {help}"));
        }
    }

    /// Whether the answer is read by a program.
    pub(crate) const fn is_document(&self) -> bool {
        matches!(self.output, Output::Json | Output::Yaml)
    }

    /// Whether the answer is for a program: a document, or the one thing of it.
    pub(crate) const fn is_program_read(&self) -> bool {
        self.is_document() || matches!(self.output, Output::Short)
    }

    pub(crate) const fn colour_err(&self) -> bool {
        self.colour_err
    }

    pub(crate) fn paint(&self, style: Style, text: &str) -> String {
        paint(self.colour_out, style, text)
    }

    pub(crate) fn paint_err(&self, style: Style, text: &str) -> String {
        paint(self.colour_err, style, text)
    }
}

/// Whether the user has not asked for none (no-color.org).
pub(crate) fn colour_allowed() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Lines of columns, each as wide as its widest entry.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let widest = cells
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default();
        widest.max(head.get(column).map_or(0, |name| name.chars().count()))
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded = cells
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(&mut head.iter().copied())];
    lines.extend(
        rows.iter()
            .map(|row| line(&mut row.iter().map(String::as_str))),
    );
    lines.join("\n")
}

fn paint(on: bool, style: Style, text: &str) -> String {
    let code = match style {
        Style::Banner => "1;37;41",
        Style::Bold => "1",
        Style::Good => "32",
        Style::Bad => "1;31",
        Style::Dim => "2",
    };
    if on {
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = vec![
            vec!["a".to_owned(), "long entry".to_owned()],
            vec!["länger".to_owned(), "b".to_owned()],
        ];
        assert_eq!(
            table(&["ONE", "TWO"], &rows),
            "ONE     TWO\na       long entry\nlänger  b"
        );
    }
}
