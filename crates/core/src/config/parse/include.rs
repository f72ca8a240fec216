//! `include`: further files, merged into one tree before anything else reads it.
//!
//! A name is in one file only, so that no file quietly changes what another one says.

use super::beside;
use super::credentials;
use super::grammar;
use super::reader::Reader;
use crate::config::codes;
use crate::config::diagnostic::Diagnostic;
use crate::config::schema;
use crate::config::schema::Form;
use crate::config::sources::Span;
use crate::config::yaml::Node;
use crate::config::yaml::Value;
use crate::config::yaml::squeezed;
use hashbrown::HashMap;
use hashbrown::HashSet;

/// Most files, the entry among them.
const MAX_FILES: usize = 256;
/// Most bytes of all files together.
const MAX_BYTES: usize = 4 << 20;
const KEY: &str = "include";

/// The tree of the entry file with those of the files it includes. There is none if one of them
/// can't be trusted to say what it seems to.
pub(super) fn merged(root: Node, reader: &mut Reader<'_>, nodes: &mut usize) -> Option<Node> {
    let Value::Map(entries) = &root.value else {
        return Some(root);
    };
    let include = entries.iter().find(|(key, _)| key.text() == Some(KEY));
    let Some((_, patterns)) = include else {
        return Some(root);
    };
    // Names that the missing files may have are not to be called unknown.
    let mut whole = true;
    let paths = paths(reader, patterns, &mut whole);
    let mut trees = Vec::with_capacity(paths.len());
    let mut bytes = reader.sources.text(root.span.file).len();
    for (path, span) in paths {
        match read(reader, &path, span, &mut bytes, nodes) {
            Some(tree) => trees.push(tree),
            None => whole = false,
        }
    }
    let root = trees.into_iter().fold(Merge::of(root), |mut all, tree| {
        all.add(reader, tree);
        all
    });
    whole.then(|| root.done())
}

/// The tree without the key itself.
pub(super) fn without(mut root: Node) -> Node {
    if let Value::Map(entries) = &mut root.value {
        entries.retain(|(key, _)| key.text() != Some(KEY));
    }
    root
}

/// The files that the patterns stand for, each once, with the place that named it first; they are
/// not `whole` if an error keeps some out.
fn paths(reader: &mut Reader<'_>, patterns: &Node, whole: &mut bool) -> Vec<(String, Span)> {
    let given: Vec<&Node> = match &patterns.value {
        Value::Seq(items) => items.iter().collect(),
        _ => vec![patterns],
    };
    let entry = beside("", reader.sources.name(patterns.span.file));
    let mut seen = HashSet::new();
    let mut paths = Vec::new();
    for node in given {
        let pattern = reader.grammar(node, grammar::pattern_of_files);
        let Some(listed) = pattern.and_then(|it| listed(reader, node, &it)) else {
            *whole = false;
            continue;
        };
        for path in listed {
            if beside("", &path) == entry {
                let help = "put what is included into a folder of its own: `conf.d/*.yaml`";
                let message = format!("`{path}` includes itself");
                reader.error(codes::INCLUDE, node.span, message, help);
            } else if seen.insert(path.clone()) {
                paths.push((path, node.span));
            }
        }
    }
    if let Some((_, span)) = paths.get(MAX_FILES - 1) {
        let message = format!("{} files are included", paths.len());
        let help = format!("a configuration has at most {MAX_FILES} files; merge some");
        reader.error(codes::TOO_BIG, *span, message, help);
        paths.clear();
        *whole = false;
    }
    paths
}

fn listed(reader: &mut Reader<'_>, node: &Node, pattern: &str) -> Option<Vec<String>> {
    let pattern = beside(reader.sources.name(node.span.file), pattern);
    if !pattern.contains('*') {
        return Some(vec![pattern]);
    }
    match reader.files.list(&pattern) {
        Ok(mut paths) => {
            if paths.is_empty() {
                let message = format!("no file is named `{pattern}`");
                let help = "correct the pattern, or remove it until there is a file";
                let it = Diagnostic::warning(codes::NOTHING_INCLUDED, node.span, message);
                reader.report.push(it.help(help));
            }
            paths.sort();
            Some(paths)
        }
        Err(error) => {
            let message = format!("`{}` can't be searched: {}", error.path, error.reason);
            let help = "correct the folder, and check who may read it";
            reader.error(codes::NO_FILE, node.span, message, help);
            None
        }
    }
}

fn read(
    reader: &mut Reader<'_>,
    path: &str,
    span: Span,
    bytes: &mut usize,
    nodes: &mut usize,
) -> Option<Node> {
    let text = match reader.files.read(path) {
        Ok(text) => text,
        Err(error) => {
            let message = format!("`{path}` can't be read: {}", error.reason);
            let help = error.remedy("correct the path, and check who may read it");
            reader.error(codes::NO_FILE, span, message, help);
            return None;
        }
    };
    *bytes = bytes.saturating_add(text.len());
    if *bytes > MAX_BYTES {
        let message = format!("the files have more than {MAX_BYTES} bytes together");
        let help = "generate less of it, or use a second installation";
        reader.error(codes::TOO_BIG, span, message, help);
        return None;
    }
    let file = reader.sources.add(path, text);
    credentials::tree(file, reader.sources, reader.report, nodes)
}

/// What was merged so far.
struct Merge {
    span: Span,
    entries: Vec<(Node, Node)>,
    /// Where each key of the file is in `entries`.
    places: HashMap<String, usize>,
    /// Where each name of each section was written first.
    names: HashMap<(usize, String), Span>,
}

impl Merge {
    fn of(root: Node) -> Self {
        let entries = match root.value {
            Value::Map(entries) => entries,
            _ => Vec::new(),
        };
        let mut all = Self {
            span: root.span,
            entries,
            places: HashMap::new(),
            names: HashMap::new(),
        };
        for index in 0..all.entries.len() {
            all.remember(index);
        }
        all
    }

    fn done(self) -> Node {
        Node {
            value: Value::Map(self.entries),
            span: self.span,
        }
    }

    fn add(&mut self, reader: &mut Reader<'_>, tree: Node) {
        if reader.entries(&tree).is_none() {
            return;
        }
        let Value::Map(entries) = tree.value else {
            return;
        };
        for (key, value) in entries {
            let word = key.text().unwrap_or_default();
            if word == KEY {
                let message = "an included file can't include others";
                let help = "name the files in the first one, and remove `include` here";
                reader.error(codes::INCLUDE, key.span, message, help);
                continue;
            }
            match self.places.get(word).copied() {
                None => {
                    self.entries.push((key, value));
                    self.remember(self.entries.len() - 1);
                }
                Some(index) if has_names(word) => self.section(reader, index, value),
                Some(index) => {
                    let first = self.entries.get(index).map(|(key, _)| key.span);
                    twice(reader, word, key.span, first.unwrap_or(self.span));
                }
            }
        }
    }

    /// Adds the entries of a section that an earlier file has as well.
    fn section(&mut self, reader: &mut Reader<'_>, index: usize, section: Node) {
        if reader.entries(&section).is_none() {
            return;
        }
        let Value::Map(entries) = section.value else {
            return;
        };
        for (key, value) in entries {
            let name = squeezed(key.text().unwrap_or_default());
            let place = (index, name);
            if let Some(first) = self.names.get(&place) {
                twice(reader, &place.1, key.span, *first);
                continue;
            }
            self.names.insert(place, key.span);
            if let Some((
                _,
                Node {
                    value: Value::Map(all),
                    ..
                },
            )) = self.entries.get_mut(index)
            {
                all.push((key, value));
            }
        }
    }

    /// Notes what the entry at an index of the file, and the names in it.
    fn remember(&mut self, index: usize) {
        let Some((key, value)) = self.entries.get(index) else {
            return;
        };
        self.places
            .insert(key.text().unwrap_or_default().to_owned(), index);
        if let Value::Map(entries) = &value.value {
            for (name, _) in entries {
                let word = squeezed(name.text().unwrap_or_default());
                self.names.insert((index, word), name.span);
            }
        }
    }
}

/// Whether the section is a map of entries by name, which can be in several files.
fn has_names(key: &str) -> bool {
    let form = schema::FILE.key(key).map(|key| &key.form);
    matches!(
        form,
        Some(Form::Entries(..) | Form::Pairs(..) | Form::Lists(..))
    )
}

fn twice(reader: &mut Reader<'_>, word: &str, again: Span, first: Span) {
    let word = super::reader::shortened(word);
    let (here, there) = (
        reader.sources.name(again.file),
        reader.sources.name(first.file),
    );
    let message = format!("`{word}` is in `{there}` and in `{here}`");
    let it = Diagnostic::error(codes::DUPLICATE_KEY, again, message)
        .label("again")
        .and(first, "first here");
    reader
        .report
        .push(it.help("remove one of them, or merge the two"));
}
