use super::Place;
use std::ops::Range;

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
}

#[derive(Clone, Debug)]
struct Source {
    name: String,
    text: String,
    /// Byte offset of the start of each line.
    lines: Vec<usize>,
    /// Parts that look like credentials.
    masked: Vec<Range<usize>>,
}

impl Sources {
    /// Adds a file and returns its index.
    pub fn add(&mut self, name: &str, text: String) -> u16 {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines = std::iter::once(0)
            .chain(breaks.map(|(at, _)| at + 1))
            .collect();
        self.files.push(Source {
            name: name.to_owned(),
            text,
            lines,
            masked: Vec::new(),
        });
        u16::try_from(self.files.len() - 1).unwrap_or(u16::MAX)
    }

    /// Name and text of every file, in the order read.
    pub fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files
            .iter()
            .map(|file| (file.name.as_str(), file.text.as_str()))
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
        let before = source.text.get(start..offset).unwrap_or_default();
        let cap = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Place {
            file,
            line: cap(line),
            column: cap(before.chars().count() + 1),
        }
    }

    /// The text of the line of a place, without its line break, with credentials starred out.
    #[must_use]
    pub fn line(&self, place: Place) -> String {
        let range = self.line_range(place);
        let Some(source) = self.file(place.file) else {
            return String::new();
        };
        let Some(line) = source.text.get(range.clone()) else {
            return String::new();
        };
        let secret = |at: usize| {
            source
                .masked
                .iter()
                .any(|mask| mask.contains(&(range.start + at)))
        };
        line.char_indices()
            .map(|(at, c)| if secret(at) { '*' } else { c })
            .collect()
    }

    /// Keeps a credential out of everything that is printed.
    pub(crate) fn mask(&mut self, span: Span) {
        if let Some(source) = self.files.get_mut(usize::from(span.file)) {
            source.masked.push(span.range());
        }
    }

    fn line_range(&self, place: Place) -> Range<usize> {
        let Some(source) = self.file(place.file) else {
            return 0..0;
        };
        let line = place.line as usize;
        let start = source
            .lines
            .get(line.wrapping_sub(1))
            .copied()
            .unwrap_or(source.text.len());
        let end = source
            .lines
            .get(line)
            .map_or(source.text.len(), |next| next - 1);
        let text = source.text.get(start..end).unwrap_or_default();
        start..start + text.strip_suffix('\r').unwrap_or(text).len()
    }

    fn file(&self, file: u16) -> Option<&Source> {
        self.files.get(usize::from(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
