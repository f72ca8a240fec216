//! Strict YAML to a tree in which every node knows its bytes.
//!
//! YAML can do more than a policy file should: anchors make one place mean another, tags choose
//! types, merge keys hide where a value comes from, duplicate keys make two readers disagree. All
//! of it is refused, each with its own hint. What is left is text, maps and lists; whether a text
//! is a number or a permission is for the reader of that key to say, so `no` stays `no`.

mod wording;

use super::codes;
use super::codes::ConfigCode;
use super::diagnostic::Diagnostic;
use super::diagnostic::Report;
use super::sources::Span;
use hashbrown::HashMap;
use saphyr_parser::Event;
use saphyr_parser::Parser;
use saphyr_parser::ScalarStyle;
use saphyr_parser::ScanError;
use saphyr_parser::StrInput;
use wording::check_characters;
use wording::grammar_error;

/// Largest file in bytes.
pub(super) const MAX_BYTES: usize = 1 << 20;
/// Deepest nesting.
const MAX_DEPTH: usize = 64;
const TOO_DEEP: &str = "nested deeper than 64 levels";
/// Most nodes, keys included.
const MAX_NODES: usize = 200_000;
/// How often reading goes on behind a grammar error that one character explains.
const MAX_RECOVERIES: usize = 16;

/// A value with its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) span: Span,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Text, quoted or not.
    Scalar(Scalar),
    /// Entries in the order written, no key twice.
    Map(Vec<(Node, Node)>),
    /// Items.
    Seq(Vec<Node>),
    /// Already reported; readers pass over it.
    Broken,
}

#[derive(Clone, Debug)]
pub(super) struct Scalar {
    pub(super) text: String,
    /// Without quotes, where an empty text, `~` and `null` mean nothing.
    pub(super) plain: bool,
}

impl Node {
    /// The text of a scalar.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(scalar) => Some(&scalar.text),
            _ => None,
        }
    }

    /// Whether nothing was written.
    pub(super) fn is_nothing(&self) -> bool {
        matches!(&self.value, Value::Scalar(it) if it.plain && matches!(it.text.as_str(), "" | "~" | "null"))
    }

    /// As JSON: plain scalars are what the core schema of YAML 1.2 says, all others are text. None
    /// for what is broken, and for numbers that JSON can't hold.
    pub(super) fn json(&self) -> Option<serde_json::Value> {
        match &self.value {
            _ if self.is_nothing() => Some(serde_json::Value::Null),
            Value::Scalar(scalar) if scalar.plain => plain(&scalar.text),
            Value::Scalar(scalar) => Some(scalar.text.as_str().into()),
            Value::Seq(items) => items.iter().map(Self::json).collect(),
            Value::Map(entries) => {
                let member =
                    |(key, value): &(Self, Self)| Some((key.text()?.to_owned(), value.json()?));
                let members = entries
                    .iter()
                    .map(member)
                    .collect::<Option<serde_json::Map<_, _>>>();
                members.map(serde_json::Value::Object)
            }
            Value::Broken => None,
        }
    }

    /// What it is, for people.
    pub(super) fn kind(&self) -> &'static str {
        match &self.value {
            _ if self.is_nothing() => "nothing",
            Value::Scalar(_) => "text",
            Value::Map(_) => "a map",
            Value::Seq(_) => "a list",
            Value::Broken => "something broken",
        }
    }
}

/// YAML 1.2, section 10.3.2, without the octal, hexadecimal and non-finite numbers, which stay text.
fn plain(text: &str) -> Option<serde_json::Value> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let number = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && digits
            .bytes()
            .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    match text {
        "true" | "True" | "TRUE" => Some(true.into()),
        "false" | "False" | "FALSE" => Some(false.into()),
        _ if number => match (text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(whole), _) => Some(whole.into()),
            (_, Ok(float)) => serde_json::Number::from_f64(float).map(Into::into),
            // A version such as 1.2.3.
            _ => Some(text.into()),
        },
        _ => Some(text.into()),
    }
}

/// Reads one file; what is wrong goes into the report.
///
/// There is no tree if the grammar is broken in a way that nothing behind it can be trusted. `nodes`
/// counts the values of all files of one configuration.
pub(super) fn parse(file: u16, text: &str, report: &mut Report, nodes: &mut usize) -> Option<Node> {
    if text.len() > MAX_BYTES {
        let message = format!(
            "the file has {} bytes, at most {MAX_BYTES} are read",
            text.len()
        );
        let help = "split the configuration, or generate less of it";
        report.push(Diagnostic::error(codes::TOO_BIG, Span::new(file, 0..0), message).help(help));
        return None;
    }
    let (mut patched, mut poisoned) = check_characters(file, text, report);
    let mut recoveries = 0;
    loop {
        let mut attempt = Builder::new(file, &patched, &poisoned, *nodes);
        match attempt.run() {
            Ok(root) => {
                *nodes = attempt.nodes;
                attempt.found.into_iter().for_each(|it| report.push(it));
                return root;
            }
            Err(Stop::Limit(diagnostic)) => {
                report.push(*diagnostic);
                return None;
            }
            Err(Stop::Grammar { at, info }) => {
                let (mut diagnostic, recoverable) = grammar_error(file, text, at, &info);
                if let (Some(bracket), false) = (attempt.open_bracket(), recoverable) {
                    diagnostic =
                        diagnostic.and(Span::new(file, bracket..bracket + 1), "this is still open");
                }
                report.push(diagnostic);
                let again = recoverable && recoveries < MAX_RECOVERIES;
                let Some(next) = again.then(|| patch(&patched, at)).flatten() else {
                    attempt.found.into_iter().for_each(|it| report.push(it));
                    return None;
                };
                patched = next;
                recoveries += 1;
                poisoned.insert(poisoned.partition_point(|it| *it < at), at);
            }
        }
    }
}

/// Replaces one ASCII character so that it no longer means anything to YAML.
fn patch(text: &str, at: usize) -> Option<String> {
    let before = text.get(..at)?;
    let after = text.get(at + 1..)?;
    Some(format!("{before}_{after}"))
}

enum Stop {
    /// The grammar is broken at this byte.
    Grammar { at: usize, info: String },
    /// A limit is exceeded; reading on would be what an attacker wants.
    Limit(Box<Diagnostic>),
}

struct Builder<'t> {
    file: u16,
    text: &'t str,
    /// Byte offset of every character, if they differ.
    offsets: Option<Vec<usize>>,
    /// Places, in order, at which a text is not what it seems.
    poisoned: &'t [usize],
    found: Vec<Diagnostic>,
    open: Vec<Open>,
    nodes: usize,
}

/// A collection whose end has not come yet.
struct Open {
    start: usize,
    broken: bool,
    items: Items,
}

enum Items {
    Seq(Vec<Node>),
    Map {
        entries: Vec<(Node, Node)>,
        key: Option<Node>,
        seen: HashMap<String, Span>,
    },
}

impl<'t> Builder<'t> {
    fn new(file: u16, text: &'t str, poisoned: &'t [usize], nodes: usize) -> Self {
        let offsets = (!text.is_ascii()).then(|| text.char_indices().map(|(at, _)| at).collect());
        Self {
            file,
            text,
            offsets,
            poisoned,
            found: Vec::new(),
            open: Vec::new(),
            nodes,
        }
    }

    fn run(&mut self) -> Result<Option<Node>, Stop> {
        let mut parser = Parser::new_from_str(self.text);
        let mut root = None;
        while let Some(event) = self.next(&mut parser)? {
            let (event, start, end) = event;
            if matches!(event, Event::DocumentStart(_)) && root.is_some() {
                let help = "remove the `---` and what follows it, or use a second file";
                self.wrong(
                    codes::DOCUMENTS,
                    start..end,
                    "a second document starts here",
                    help,
                );
                break;
            }
            if let Some(node) = self.event(event, start, end)? {
                root = Some(node);
            }
        }
        if root.is_none() {
            let help = "write at least `listeners`, `services` and `edges`";
            self.wrong(codes::DOCUMENTS, 0..0, "the file is empty", help);
        }
        Ok(root)
    }

    fn next<'i>(
        &self,
        parser: &mut Parser<'i, StrInput<'i>>,
    ) -> Result<Option<(Event<'i>, usize, usize)>, Stop> {
        match parser.next_event() {
            None => Ok(None),
            Some(Ok((event, span))) => {
                let (start, end) = (self.byte(span.start.index()), self.byte(span.end.index()));
                Ok(Some((event, start, end.max(start))))
            }
            Some(Err(error)) if error.info().contains("recursion limit") => {
                Err(self.limit(self.byte(error.marker().index()), TOO_DEEP))
            }
            Some(Err(error)) => Err(self.stop(&error)),
        }
    }

    fn stop(&self, error: &ScanError) -> Stop {
        Stop::Grammar {
            at: self.byte(error.marker().index()),
            info: error.info().to_owned(),
        }
    }

    /// Takes in an event; gives the root when it is complete.
    fn event(&mut self, event: Event<'_>, start: usize, end: usize) -> Result<Option<Node>, Stop> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let broken = self.check_properties(anchor, tag.is_some(), start..end);
                let end = if style == ScalarStyle::Plain {
                    end
                } else {
                    self.trimmed(start, end)
                };
                let next = self.poisoned.partition_point(|at| *at < start);
                let poisoned = self
                    .poisoned
                    .get(next)
                    .is_some_and(|at| *at < end.max(start + 1));
                let scalar = Scalar {
                    text: text.into_owned(),
                    plain: style == ScalarStyle::Plain,
                };
                let value = if broken || poisoned {
                    Value::Broken
                } else {
                    Value::Scalar(scalar)
                };
                self.add(value, start..end)
            }
            Event::SequenceStart(anchor, tag) => {
                let broken = self.check_properties(anchor, tag.is_some(), start..end);
                self.begin(start, broken, Items::Seq(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                let broken = self.check_properties(anchor, tag.is_some(), start..end);
                let items = Items::Map {
                    entries: Vec::new(),
                    key: None,
                    seen: HashMap::new(),
                };
                self.begin(start, broken, items)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(end),
            Event::Alias(_) => {
                self.wrong(
                    codes::ALIAS,
                    start..end,
                    "yaml aliases are not used here",
                    "write the value out",
                );
                self.add(Value::Broken, start..end)
            }
            _ => Ok(None),
        }
    }

    fn begin(&mut self, start: usize, broken: bool, items: Items) -> Result<Option<Node>, Stop> {
        if self.open.len() >= MAX_DEPTH {
            return Err(self.limit(start, TOO_DEEP));
        }
        self.open.push(Open {
            start,
            broken,
            items,
        });
        Ok(None)
    }

    fn end(&mut self, end: usize) -> Result<Option<Node>, Stop> {
        let Some(open) = self.open.pop() else {
            return Ok(None);
        };
        let end = self.trimmed(open.start, end);
        let value = match open.items {
            _ if open.broken => Value::Broken,
            Items::Seq(items) => Value::Seq(items),
            Items::Map { entries, .. } => Value::Map(entries),
        };
        self.add(value, open.start..end)
    }

    fn add(&mut self, value: Value, range: std::ops::Range<usize>) -> Result<Option<Node>, Stop> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(self.limit(range.start, &format!("more than {MAX_NODES} values")));
        }
        let node = Node {
            value,
            span: Span::new(self.file, range),
        };
        let file = self.file;
        match self.open.last_mut().map(|open| &mut open.items) {
            None => return Ok(Some(node)),
            Some(Items::Seq(items)) => items.push(node),
            Some(Items::Map {
                key: key @ None, ..
            }) => *key = Some(node),
            Some(Items::Map { entries, key, seen }) => {
                let key = key.take().unwrap_or(Node {
                    value: Value::Broken,
                    span: Span::new(file, 0..0),
                });
                match check_key(&key, seen) {
                    Ok(()) => entries.push((key, node)),
                    Err(diagnostic) => self.found.extend(diagnostic.map(|it| *it)),
                }
            }
        }
        Ok(None)
    }

    /// The innermost bracket that is not closed yet.
    fn open_bracket(&self) -> Option<usize> {
        let start = self.open.last()?.start;
        self.text
            .get(start..)?
            .starts_with(['[', '{'])
            .then_some(start)
    }

    fn check_properties(
        &mut self,
        anchor: usize,
        tag: bool,
        range: std::ops::Range<usize>,
    ) -> bool {
        if tag {
            self.wrong(
                codes::TAG,
                range,
                "yaml tags are not used here",
                "remove the tag, or quote the text",
            );
        } else if anchor > 0 {
            self.wrong(
                codes::ALIAS,
                range,
                "yaml anchors are not used here",
                "remove the anchor, or quote the text",
            );
        }
        tag || anchor > 0
    }

    fn wrong(
        &mut self,
        code: ConfigCode,
        range: std::ops::Range<usize>,
        message: &str,
        help: &str,
    ) {
        self.found
            .push(Diagnostic::error(code, Span::new(self.file, range), message).help(help));
    }

    fn limit(&self, at: usize, message: &str) -> Stop {
        let it = Diagnostic::error(codes::TOO_BIG, Span::new(self.file, at..at), message);
        Stop::Limit(Box::new(it.help(
            "a configuration this large or deep is not read; split or flatten it",
        )))
    }

    /// The parser counts characters.
    fn byte(&self, character: usize) -> usize {
        match &self.offsets {
            None => character.min(self.text.len()),
            Some(offsets) => offsets.get(character).copied().unwrap_or(self.text.len()),
        }
    }

    /// The parser lets a collection and a quoted text end where the next thing starts.
    fn trimmed(&self, start: usize, end: usize) -> usize {
        let covered = self.text.get(start..end).unwrap_or_default();
        start + covered.trim_end().len()
    }
}

/// A key as it is compared: with single blanks, and with one on either side of an arrow.
pub(super) fn squeezed(text: &str) -> String {
    let apart = text.replace("->", " -> ");
    apart.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Keys are texts, each once per map, and none of them merges.
fn check_key(key: &Node, seen: &mut HashMap<String, Span>) -> Result<(), Option<Box<Diagnostic>>> {
    let error = |code, message: &str| Diagnostic::error(code, key.span, message);
    let scalar = match &key.value {
        Value::Broken => return Err(None),
        Value::Scalar(scalar) => scalar,
        Value::Map(_) | Value::Seq(_) => {
            let it = error(codes::SHAPE, "a key is text, not a map or a list");
            return Err(Some(Box::new(it.help(
                "write the key as one word, quoted if it starts with `[` or `{`",
            ))));
        }
    };
    if scalar.plain && scalar.text == "<<" {
        let it = error(codes::MERGE_KEY, "yaml merge keys are not used here");
        return Err(Some(Box::new(
            it.help("remove it and write the entries out"),
        )));
    }
    // `a -> b` and `a->b` are one edge, and `GET  /x` is `GET /x`.
    let squeezed = squeezed(&scalar.text);
    if let Some(first) = seen.get(&squeezed) {
        let it = error(
            codes::DUPLICATE_KEY,
            &format!("`{squeezed}` is there twice"),
        );
        let it = it.label("again").and(*first, "first here");
        return Err(Some(Box::new(
            it.help("remove one of them, or merge the two"),
        )));
    }
    seen.insert(squeezed, key.span);
    Ok(())
}
