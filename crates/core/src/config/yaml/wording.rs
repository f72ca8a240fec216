//! What a broken file is told: characters that have no place in it, and the errors of YAML's grammar
//! in words for somebody who has never read its specification.

use crate::config::codes;
use crate::config::codes::ConfigCode;
use crate::config::diagnostic::Diagnostic;
use crate::config::diagnostic::Report;
use crate::config::sources::Span;

/// Reports characters that have no place in a configuration and replaces them by blanks of the
/// same length, so that reading goes on; also gives their places, in order.
pub(super) fn check_characters(file: u16, text: &str, report: &mut Report) -> (String, Vec<usize>) {
    let mut clean = String::with_capacity(text.len());
    let mut places = Vec::new();
    let (mut tab_line, mut carriage_returns) = (false, false);
    for (at, c) in text.char_indices() {
        let carriage = c == '\r' && text.as_bytes().get(at + 1) == Some(&b'\n');
        tab_line &= c != '\n';
        let bad = (c.is_control() && c != '\n' && !carriage) || c == '\u{feff}';
        if !bad {
            clean.push(c);
            continue;
        }
        let said = (c == '\t' && tab_line) || (c == '\r' && carriage_returns);
        if !said {
            report.push(bad_character(c, Span::new(file, at..at + c.len_utf8())));
        }
        tab_line |= c == '\t';
        carriage_returns |= c == '\r';
        places.push(at);
        clean.extend(std::iter::repeat_n(' ', c.len_utf8()));
    }
    (clean, places)
}

fn bad_character(c: char, span: Span) -> Diagnostic {
    let (code, message, help) = match c {
        '\t' => (
            codes::TAB,
            "a tab".to_owned(),
            "use spaces, or write `\\t` inside double quotes",
        ),
        '\u{feff}' => {
            let message = "a byte order mark".to_owned();
            (
                codes::CHARACTER,
                message,
                "remove it: save the file as UTF-8 without a byte order mark",
            )
        }
        '\r' => (
            codes::CHARACTER,
            "a carriage return without a line feed".to_owned(),
            "save the file with line feeds at the ends of its lines",
        ),
        c => (
            codes::CHARACTER,
            format!("the control character U+{:04X}", u32::from(c)),
            "remove it",
        ),
    };
    Diagnostic::error(code, span, format!("{message} is in the file")).help(help)
}

/// What a grammar error means to somebody who has never read the YAML specification, and whether
/// replacing the character at its place lets reading go on.
pub(super) fn grammar_error(file: u16, text: &str, at: usize, info: &str) -> (Diagnostic, bool) {
    let rest = text.get(at..).unwrap_or_default();
    let first = rest.chars().next();
    let word: String = rest
        .chars()
        .take_while(|c| !c.is_whitespace() && !",]}".contains(*c))
        .take(60)
        .collect();
    let span = Span::new(
        file,
        at..at + word.len().max(first.map_or(0, char::len_utf8)),
    );
    let error = |code: ConfigCode, message: &str| Diagnostic::error(code, span, message);
    match first {
        Some('*') => {
            let it = error(
                codes::ALIAS,
                "an unquoted `*` starts a yaml alias, which is not used here",
            );
            (it.help(format!("quote it: `\"{word}\"`")), true)
        }
        Some('@' | '`' | '%') => {
            let it = error(
                codes::GRAMMAR,
                "text that starts with this character must be quoted",
            );
            (it.help(format!("quote it: `\"{word}\"`")), true)
        }
        Some(':') if !info.contains("illegal placement") => {
            let span = Span::new(file, at..at + 1);
            let it = Diagnostic::error(codes::GRAMMAR, span, "a second `: ` in one entry");
            let help = "if it belongs to the value, quote the value: `key: \"a: b\"`; otherwise start a new line";
            (it.label("a map can't start here").help(help), true)
        }
        Some('!') => (
            error(codes::TAG, "yaml tags are not used here")
                .help("remove the tag, or quote the text"),
            false,
        ),
        Some('&') => (
            error(codes::ALIAS, "yaml anchors are not used here")
                .help("remove the anchor, or quote the text"),
            false,
        ),
        _ => (
            error(
                codes::GRAMMAR,
                &format!("this is not yaml: {}", plain_words(info)),
            )
            .help(remedy(info)),
            false,
        ),
    }
}

fn plain_words(info: &str) -> &str {
    let after = |mark: &str| info.split_once(mark).map(|(_, rest)| rest);
    after(", did not find ")
        .or_else(|| after(", found "))
        .unwrap_or(info)
}

fn remedy(info: &str) -> &'static str {
    match info {
        it if it.contains("quoted scalar") => {
            "close the quote, and write `\\\\` for a backslash inside double quotes"
        }
        it if it.contains("flow") || it.contains("bracket") || it.contains("illegal placement") => {
            "check that every `[` and `{` is closed and that a comma stands between entries"
        }
        it if it.contains("block mapping")
            || it.contains("indent")
            || it.contains("block collection") =>
        {
            "indent entries of one map or list by the same number of spaces"
        }
        _ => "look at this line and the one above it; quoting the text often helps",
    }
}
