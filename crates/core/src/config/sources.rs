use super::Place;
use crate::credentials::Literal;
use crate::credentials::find_all;
use crate::credentials::find_marked;
use aho_corasick::AhoCorasick;
use aho_corasick::MatchKind;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// A range of bytes of one configuration file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// Which file, as an index into [`Sources`].
    pub file: u16,
    /// First byte.
    pub start: u32,
    /// The byte after the last.
    pub end: u32,
}

impl Span {
    /// Bytes `start..end` of a file; offsets beyond 4 GiB are capped.
    #[must_use]
    pub fn new(file: u16, range: Range<usize>) -> Self {
        let cap = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX);
        Self {
            file,
            start: cap(range.start),
            end: cap(range.end.max(range.start)),
        }
    }

    /// The bytes as a range.
    #[must_use]
    pub const fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// The configuration files that were read: their names and exact texts.
///
/// It turns a [`Span`] into the line and column that people read, keeps the bytes that a snapshot
/// is addressed by, and knows which parts must never be printed.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    files: Vec<Source>,
    /// Files that those name, by path.
    attached: BTreeMap<String, Arc<str>>,
}

/// A part of a line that fits on a screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Excerpt {
    /// The part, with credentials starred out.
    pub(crate) text: String,
    /// How many characters of it stand in front of the span.
    pub(crate) lead: usize,
    /// Whether the line goes on in front of it.
    pub(crate) cut_before: bool,
    /// Whether the line goes on behind it.
    pub(crate) cut_after: bool,
}

#[derive(Clone, Debug)]
struct Source {
    name: String,
    text: String,
    /// Byte offset of the start of each line.
    lines: Vec<usize>,
    /// Characters in front of each block, so that a column costs the same on a line of a megabyte.
    blocks: Vec<usize>,
    /// What looks like a credential, in the order of the text.
    literals: Arc<[Literal]>,
    /// Parts that are starred out in excerpts.
    masked: Vec<Range<usize>>,
    /// Those of them that messages must not quote either.
    unsaid: Vec<Range<usize>>,
}

/// What no message may hold, to be searched for.
#[derive(Debug)]
pub(crate) struct Unsaid<'s> {
    /// Finds how a text starts, in either case.
    starts: Option<AhoCorasick>,
    /// The texts that start so.
    texts: Vec<Vec<&'s str>>,
}

/// Shorter texts are in every message.
const LEAST_UNSAID: usize = 4;
const START: usize = 8;

const BLOCK: usize = 1024;

impl Source {
    fn new(name: &str, text: String) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines = std::iter::once(0)
            .chain(breaks.map(|(at, _)| at + 1))
            .collect();
        let block = |total: &mut usize, bytes: &[u8]| {
            let before = *total;
            *total += characters(bytes);
            Some(before)
        };
        let blocks = text.as_bytes().chunks(BLOCK).scan(0, block).collect();
        let literals = find_all(name, &text);
        let masked: Vec<_> = literals.iter().map(|it| it.range.clone()).collect();
        Self {
            name: name.to_owned(),
            text,
            lines,
            blocks,
            literals: literals.into(),
            unsaid: masked.clone(),
            masked,
        }
    }

    /// How many characters start before this byte.
    fn characters_before(&self, offset: usize) -> usize {
        let block = offset / BLOCK;
        let rest = self
            .text
            .as_bytes()
            .get(block * BLOCK..offset)
            .unwrap_or_default();
        self.blocks.get(block).copied().map_or_else(
            || characters(self.text.as_bytes()),
            |before| before + characters(rest),
        )
    }

    /// The bytes of a line (from 1), without its line break.
    fn line(&self, line: usize) -> Range<usize> {
        let start = self
            .lines
            .get(line.wrapping_sub(1))
            .copied()
            .unwrap_or(self.text.len());
        let end = self
            .lines
            .get(line)
            .map_or(self.text.len(), |next| next - 1);
        let text = self.text.get(start..end).unwrap_or_default();
        start..start + text.strip_suffix('\r').unwrap_or(text).len()
    }

    /// A part of the text with credentials starred out.
    fn printable(&self, range: Range<usize>) -> String {
        let touched = self
            .masked
            .iter()
            .filter(|mask| mask.start < range.end && range.start < mask.end);
        let mut masks: Vec<_> = touched.cloned().collect();
        masks.sort_by_key(|mask| mask.start);
        let mut masks = masks.into_iter().peekable();
        let text = self.text.get(range.clone()).unwrap_or_default();
        let star = |(at, c): (usize, char)| {
            let at = range.start + at;
            while masks.next_if(|mask| mask.end <= at).is_some() {}
            if masks.peek().is_some_and(|mask| mask.contains(&at)) {
                '*'
            } else {
                c
            }
        };
        text.char_indices().map(star).collect()
    }
}

impl Unsaid<'_> {
    /// A message with credentials starred out: those of the files, also where only their start is
    /// quoted or their case was changed, and those that are written with escapes there.
    pub(crate) fn without(&self, message: &str) -> String {
        let mut ranges: Vec<_> = find_marked(message)
            .into_iter()
            .map(|it| it.range)
            .collect();
        for hit in self.starts.iter().flat_map(|it| it.find_iter(message)) {
            let rest = message.get(hit.start()..).unwrap_or_default();
            let texts = self
                .texts
                .get(hit.pattern().as_usize())
                .into_iter()
                .flatten();
            let length = texts.map(|text| same(text, rest)).max().unwrap_or_default();
            ranges.push(hit.start()..hit.start() + length.max(hit.len()));
        }
        if ranges.is_empty() {
            return message.to_owned();
        }
        let starred = |(at, c): (usize, char)| {
            let within = ranges.iter().any(|range| range.contains(&at));
            if within { '*' } else { c }
        };
        message.char_indices().map(starred).collect()
    }
}

/// How many bytes two texts share at their start, in either case.
fn same(one: &str, other: &str) -> usize {
    let pairs = one.bytes().zip(other.bytes());
    pairs
        .take_while(|(one, other)| one.eq_ignore_ascii_case(other))
        .count()
}

/// UTF-8 continuation bytes start no character.
fn characters(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte & 0xc0 != 0x80).count()
}

impl Sources {
    /// Adds a file and returns its index. What looks like a credential in it is not printed, even
    /// if the file can't be read as what it should be.
    pub fn add(&mut self, name: &str, text: String) -> u16 {
        self.files.push(Source::new(name, text));
        u16::try_from(self.files.len() - 1).unwrap_or(u16::MAX)
    }

    /// Name and text of every file: the configuration in the order read, then the files it names.
    pub fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        let own = self
            .files
            .iter()
            .map(|file| (file.name.as_str(), file.text.as_str()));
        own.chain(
            self.attached
                .iter()
                .map(|(path, text)| (path.as_str(), &**text)),
        )
    }

    /// Keeps a file that the configuration names.
    pub(crate) fn attach(&mut self, path: &str, text: &Arc<str>) {
        self.attached.insert(path.to_owned(), Arc::clone(text));
    }

    /// The text of a file that the configuration names, if it was read already.
    pub(crate) fn attached(&self, path: &str) -> Option<Arc<str>> {
        self.attached.get(path).map(Arc::clone)
    }

    /// How many bytes the files have that the configuration names.
    pub(crate) fn attached_bytes(&self) -> usize {
        self.attached.values().map(|text| text.len()).sum()
    }

    /// The name of a file; empty if there is no such file.
    #[must_use]
    pub fn name(&self, file: u16) -> &str {
        self.file(file).map_or("", |file| &file.name)
    }

    /// The whole text of a file; empty if there is no such file.
    #[must_use]
    pub fn text(&self, file: u16) -> &str {
        self.file(file).map_or("", |file| &file.text)
    }

    /// What a span covers; empty if it lies outside of the file.
    #[must_use]
    pub fn slice(&self, span: Span) -> &str {
        self.text(span.file).get(span.range()).unwrap_or_default()
    }

    /// Line and column at which a span starts.
    #[must_use]
    pub fn place(&self, span: Span) -> Place {
        self.place_at(span.file, span.start as usize)
    }

    /// Line and column of a byte, which is capped to the length of the file.
    #[must_use]
    pub fn place_at(&self, file: u16, offset: usize) -> Place {
        let Some(source) = self.file(file) else {
            return Place {
                file,
                line: 1,
                column: 1,
            };
        };
        let offset = offset.min(source.text.len());
        let line = source
            .lines
            .partition_point(|start| *start <= offset)
            .max(1);
        let start = source.lines.get(line - 1).copied().unwrap_or_default();
        let column = source
            .characters_before(offset)
            .saturating_sub(source.characters_before(start));
        let cap = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Place {
            file,
            line: cap(line),
            column: cap(column + 1),
        }
    }

    /// What is written at a place, to the end of the word.
    pub(crate) fn word_at(&self, place: Place) -> Span {
        let Some(source) = self.file(place.file) else {
            return Span::default();
        };
        let line = source.line(place.line as usize);
        let text = source.text.get(line.clone()).unwrap_or_default();
        let column = (place.column as usize).saturating_sub(1);
        let at = text
            .char_indices()
            .nth(column)
            .map_or(text.len(), |(at, _)| at);
        let rest = text.get(at..).unwrap_or_default();
        let end = rest
            .find([':', ',', '{', '}', '[', ']'])
            .unwrap_or(rest.len());
        let word = rest.get(..end).unwrap_or_default().trim_end();
        Span::new(place.file, line.start + at..line.start + at + word.len())
    }

    /// The text of the line of a place, without its line break, with credentials starred out.
    #[must_use]
    pub fn line(&self, place: Place) -> String {
        let source = self.file(place.file);
        source.map_or_else(String::new, |source| {
            source.printable(source.line(place.line as usize))
        })
    }

    /// At most `width` characters of the line on which a span starts, `lead` of them in front of
    /// it if the line is longer than that.
    pub(crate) fn excerpt(&self, span: Span, lead: usize, width: usize) -> Excerpt {
        let Some(source) = self.file(span.file) else {
            return Excerpt {
                text: String::new(),
                lead: 0,
                cut_before: false,
                cut_after: false,
            };
        };
        let line = source.line(self.place(span).line as usize);
        let at = (span.start as usize).clamp(line.start, line.end);
        let count = source.characters_before(line.end) - source.characters_before(line.start);
        let before = source.text.get(line.start..at).unwrap_or_default();
        let whole = count <= width;
        let from = if whole {
            Some(0)
        } else {
            before
                .char_indices()
                .rev()
                .nth(lead.saturating_sub(1))
                .map(|(at, _)| at)
        };
        let start = line.start + from.unwrap_or_default();
        let rest = source.text.get(start..line.end).unwrap_or_default();
        let end = if whole {
            None
        } else {
            rest.char_indices().nth(width).map(|(at, _)| start + at)
        };
        let end = end.unwrap_or(line.end);
        Excerpt {
            text: source.printable(start..end),
            lead: source.characters_before(at) - source.characters_before(start),
            cut_before: start > line.start,
            cut_after: end < line.end,
        }
    }

    /// Keeps what may be a credential out of the lines that are printed; for what no message quotes.
    pub(crate) fn mask(&mut self, span: Span) {
        if let Some(source) = self.files.get_mut(usize::from(span.file)) {
            source.masked.push(span.range());
        }
    }

    /// Keeps what may be a credential out of lines and messages.
    pub(crate) fn hide(&mut self, span: Span) {
        self.mask(span);
        if let Some(source) = self.files.get_mut(usize::from(span.file)) {
            source.unsaid.push(span.range());
        }
    }

    /// What looks like a credential in a file, in the order of its text.
    pub(crate) fn literals(&self, file: u16) -> Arc<[Literal]> {
        self.file(file)
            .map_or_else(|| Arc::from([]), |source| Arc::clone(&source.literals))
    }

    /// What messages must not quote.
    pub(crate) fn unsaid(&self) -> Unsaid<'_> {
        let mut by_start: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for source in &self.files {
            let texts = source.unsaid.iter();
            for text in texts.filter_map(|range| source.text.get(range.clone())) {
                if text.len() >= LEAST_UNSAID {
                    let start = text.get(..text.floor_char_boundary(START)).unwrap_or(text);
                    let texts = by_start.entry(start.to_ascii_lowercase()).or_default();
                    texts.push(text);
                }
            }
        }
        let starts = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::LeftmostLongest)
            .build(by_start.keys());
        Unsaid {
            starts: starts.ok().filter(|_| !by_start.is_empty()),
            texts: by_start
                .into_values()
                .map(|mut texts| {
                    texts.sort_unstable();
                    texts.dedup();
                    texts
                })
                .collect(),
        }
    }

    fn file(&self, file: u16) -> Option<&Source> {
        self.files.get(usize::from(file))
    }
}

/// A path relative to the folder of a file, with `.` and `..` worked in as far as they go.
pub(super) fn beside(file: &str, path: &str) -> String {
    if path.starts_with('/') {
        return path.to_owned();
    }
    let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
    let rooted = file.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    if rooted { format!("/{joined}") } else { joined }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_relative_to_the_file_that_names_them() {
        for (file, path, is) in [
            ("countersign.yaml", "a/b.pem", "a/b.pem"),
            ("/etc/c/c.yaml", "conf.d/x.yaml", "/etc/c/conf.d/x.yaml"),
            ("/etc/c/c.yaml", "../x.yaml", "/etc/x.yaml"),
            ("/c.yaml", "../../x.yaml", "/x.yaml"),
            ("a/c.yaml", "../../x.yaml", "../x.yaml"),
            ("c.yaml", "/x.yaml", "/x.yaml"),
            ("./c.yaml", "./x/./y", "x/y"),
        ] {
            assert_eq!(beside(file, path), is, "{file} {path}");
        }
    }

    #[test]
    fn places_count_characters() {
        let mut sources = Sources::default();
        let file = sources.add("a.yaml", "ä: b\r\nc: d".to_owned());
        assert_eq!(
            sources.place_at(file, 4),
            Place {
                file,
                line: 1,
                column: 4
            }
        );
        assert_eq!(
            sources.place_at(file, 7),
            Place {
                file,
                line: 2,
                column: 1
            }
        );
        assert_eq!(
            sources.place_at(file, 900),
            Place {
                file,
                line: 2,
                column: 5
            }
        );
        assert_eq!(
            sources.line(Place {
                file,
                line: 1,
                column: 1
            }),
            "ä: b"
        );
        assert_eq!(
            sources.line(Place {
                file,
                line: 2,
                column: 1
            }),
            "c: d"
        );
        assert_eq!(
            sources.line(Place {
                file,
                line: 9,
                column: 1
            }),
            ""
        );
    }

    #[test]
    fn columns_on_long_lines() {
        let text = "aé€🦀".repeat(2_000);
        let mut sources = Sources::default();
        let file = sources.add("a.yaml", text.clone());
        for (count, (at, _)) in text.char_indices().enumerate() {
            let column = u32::try_from(count + 1).unwrap();
            assert_eq!(
                sources.place_at(file, at),
                Place {
                    file,
                    line: 1,
                    column
                }
            );
        }
        let excerpt = sources.excerpt(Span::new(file, 5_000..5_001), 2, 4);
        assert_eq!(
            excerpt,
            Excerpt {
                text: "€🦀aé".into(),
                lead: 2,
                cut_before: true,
                cut_after: true
            }
        );
    }

    #[test]
    fn credentials_are_starred_out() {
        let mut sources = Sources::default();
        let file = sources.add("a.yaml", "k: secret # é".to_owned());
        sources.mask(Span::new(file, 5..9));
        assert_eq!(
            sources.line(Place {
                file,
                line: 1,
                column: 1
            }),
            "k: se**** # é"
        );
    }
}
