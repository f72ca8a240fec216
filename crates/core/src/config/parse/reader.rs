//! The means by which sections read their keys: each reader reports what is wrong and goes on.
// long: one reader of everything that a section can hold, and what each of them says

use crate::config::Attached;
use crate::config::Files;
use crate::config::codes;
use crate::config::codes::ConfigCode;
use crate::config::diagnostic::Diagnostic;
use crate::config::diagnostic::Report;
use crate::config::pem::has_private_key;
use crate::config::schema::Presence;
use crate::config::schema::Shape;
use crate::config::sources::Sources;
use crate::config::sources::Span;
use crate::config::suggest::closest;
use crate::config::yaml::Node;
use crate::config::yaml::Value;
use crate::vocabulary::Name;
use hashbrown::HashSet;
use indexmap::IndexMap;
use std::ops::Range;

/// Most bytes of a file that the configuration names.
const MAX_ATTACHED: usize = 1 << 20;
/// Most bytes of all of them.
const MAX_ALL_ATTACHED: usize = 8 << 20;

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::config) struct Spanned<T> {
    pub(in crate::config) value: T,
    pub(in crate::config) span: Span,
}

/// The value of an optional key.
///
/// What was written and reported as wrong is not absent: nothing else is to be said about it.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::config) enum Given<T> {
    Absent,
    Broken,
    Is(Spanned<T>),
}

impl<T> Given<T> {
    pub(in crate::config) const fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    pub(in crate::config) const fn spanned(&self) -> Option<&Spanned<T>> {
        match self {
            Self::Is(it) => Some(it),
            Self::Absent | Self::Broken => None,
        }
    }

    pub(in crate::config) fn span(&self) -> Option<Span> {
        self.spanned().map(|it| it.span)
    }

    pub(in crate::config) fn value(&self) -> Option<&T> {
        self.spanned().map(|it| &it.value)
    }

    pub(in crate::config) fn or(self, default: T) -> T {
        match self {
            Self::Is(it) => it.value,
            Self::Absent | Self::Broken => default,
        }
    }
}

impl<T> Given<Vec<T>> {
    pub(in crate::config) fn items(&self) -> &[T] {
        self.value().map_or(&[], Vec::as_slice)
    }
}

/// What a small grammar has against a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct Wrong {
    pub(in crate::config) code: ConfigCode,
    /// Which bytes of the text.
    pub(in crate::config) at: Range<usize>,
    pub(in crate::config) message: String,
    pub(in crate::config) label: String,
    pub(in crate::config) help: String,
}

impl Wrong {
    /// About the whole of a text.
    pub(in crate::config) fn all(
        code: ConfigCode,
        text: &str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self::at(code, 0..text.len(), message, help)
    }

    /// About some bytes of it.
    pub(in crate::config) fn at(
        code: ConfigCode,
        at: Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self {
            code,
            at,
            message: message.into(),
            label: String::new(),
            help: help.into(),
        }
    }

    pub(in crate::config) fn label(mut self, text: impl Into<String>) -> Self {
        self.label = text.into();
        self
    }

    /// The same about a text that this one is a part of.
    pub(in crate::config) fn shifted(mut self, by: usize) -> Self {
        self.at = self.at.start + by..self.at.end + by;
        self
    }
}

/// A section of named entries.
#[derive(Debug)]
pub(in crate::config) struct Section<T> {
    entries: IndexMap<Name, T>,
    /// Names whose entries could not be read; they exist all the same.
    broken: HashSet<Name>,
    /// Nothing of the section could be read, so that any name may exist.
    illegible: bool,
    /// Something in it was reported, so that what it adds up to is not known.
    trouble: bool,
}

impl<T> Section<T> {
    /// Whether an entry of this name may exist.
    pub(in crate::config) fn knows(&self, name: &Name) -> bool {
        self.illegible || self.entries.contains_key(name) || self.broken.contains(name)
    }

    /// Whether the sum of its entries is not known.
    pub(in crate::config) const fn trouble(&self) -> bool {
        self.trouble
    }
}

impl<T> std::ops::Deref for Section<T> {
    type Target = IndexMap<Name, T>;

    fn deref(&self) -> &IndexMap<Name, T> {
        &self.entries
    }
}

/// The keys of one map, all of them known.
pub(super) struct Fields<'n> {
    entries: Vec<(&'static str, &'n Node)>,
    /// Keys that something unknown was probably meant to be.
    misspelt: Vec<&'static str>,
}

impl<'n> Fields<'n> {
    pub(super) fn node(&self, key: &str) -> Option<&'n Node> {
        self.entries
            .iter()
            .find(|(name, _)| *name == key)
            .map(|(_, node)| *node)
    }

    /// Reads a key if it is there.
    pub(super) fn read<T>(
        &self,
        reader: &mut Reader<'_>,
        key: &str,
        read: impl FnOnce(&mut Reader<'_>, &'n Node) -> Option<T>,
    ) -> Given<T> {
        let Some(node) = self.node(key) else {
            return if self.misspelt.contains(&key) {
                Given::Broken
            } else {
                Given::Absent
            };
        };
        match read(reader, node) {
            Some(value) => Given::Is(Spanned {
                value,
                span: node.span,
            }),
            None => Given::Broken,
        }
    }

    /// Reads a key with a small grammar if it is there.
    pub(super) fn text<T>(
        &self,
        reader: &mut Reader<'_>,
        key: &str,
        grammar: fn(&str) -> Result<T, Wrong>,
    ) -> Given<T> {
        self.read(reader, key, |reader, node| reader.grammar(node, grammar))
    }

    /// Reads a key that names an entry of `secrets` if it is there. What can't be a name may be the
    /// secret itself.
    pub(super) fn secret(&self, reader: &mut Reader<'_>, key: &str) -> Given<Name> {
        self.read(reader, key, |reader, node| {
            let name = node.text().and_then(|text| Name::new(text).ok());
            if matches!(node.value, Value::Broken) || node.is_nothing() {
                return reader.grammar(node, super::grammar::name);
            }
            if name.is_none() {
                let label = "is no name of a secret, so this would be the secret itself";
                let (sources, report) = (&mut *reader.sources, &mut *reader.report);
                super::credentials::refuse_value(node.span, None, label, sources, report);
            }
            name
        })
    }

    /// Reads a key that names a file, with the file, if it is there.
    pub(super) fn attached(&self, reader: &mut Reader<'_>, key: &str) -> Given<Attached> {
        self.read(reader, key, |reader, node| reader.attached(node))
    }

    /// Reads a key that is one of a few words if it is there.
    pub(super) fn choice<T: Copy>(
        &self,
        reader: &mut Reader<'_>,
        key: &str,
        words: &[(&str, T)],
    ) -> Given<T> {
        self.read(reader, key, |reader, node| reader.choice(node, words))
    }

    /// Reads a key that holds a list of texts with a small grammar if it is there.
    pub(super) fn texts<T>(
        &self,
        reader: &mut Reader<'_>,
        key: &str,
        grammar: impl Fn(&str) -> Result<T, Wrong>,
    ) -> Given<Vec<Spanned<T>>> {
        self.read(reader, key, |reader, node| reader.list(node, grammar))
    }
}

/// Reads nodes of one file.
pub(super) struct Reader<'a> {
    /// Where the files come from that the configuration names.
    pub(super) files: &'a dyn Files,
    pub(super) sources: &'a mut Sources,
    pub(super) report: &'a mut Report,
    /// How often something already reported was passed over.
    pub(super) passed_over: usize,
}

impl Reader<'_> {
    pub(super) fn error(
        &mut self,
        code: ConfigCode,
        span: Span,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.report
            .push(Diagnostic::error(code, span, message).help(help));
    }

    /// The keys of a map, after saying which of them are unknown, not in this build, or missing.
    pub(super) fn fields<'n>(
        &mut self,
        node: &'n Node,
        shape: &'static Shape,
        owner: Span,
    ) -> Option<Fields<'n>> {
        let entries = self.entries(node)?;
        let mut fields = Fields {
            entries: Vec::with_capacity(entries.len()),
            misspelt: Vec::new(),
        };
        for (key, value) in entries {
            let text = key.text().unwrap_or_default();
            match shape.key(text) {
                Some(known) => fields.entries.push((known.name, value)),
                None => fields
                    .misspelt
                    .extend(self.unknown_key(key.span, text, shape)),
            }
        }
        for key in shape.keys {
            let there = fields.node(key.name).is_some() || fields.misspelt.contains(&key.name);
            if key.presence == Presence::Required && !there {
                self.missing(owner, shape.name, key.name, key.form.example());
            }
        }
        self.check_one_of(&fields, shape, owner);
        Some(fields)
    }

    /// Of some maps exactly one key says what they are.
    fn check_one_of(&mut self, fields: &Fields<'_>, shape: &'static Shape, owner: Span) {
        let there = |key: &&str| fields.node(key).is_some() || fields.misspelt.contains(key);
        let mut given = shape.one_of.iter().filter(|key| there(key));
        match (given.next(), given.next()) {
            (None, _) if !shape.one_of.is_empty() => {
                let words = listed(shape.one_of.iter().copied());
                let it = Diagnostic::error(
                    codes::MISSING_KEY,
                    owner,
                    format!("{} is empty", shape.name),
                );
                self.report
                    .push(it.label("says nothing").help(format!("add one of {words}")));
            }
            (Some(first), Some(second)) => {
                let span = fields.node(second).map_or(owner, |node| node.span);
                let message = format!("{} is `{first}` and `{second}` at once", shape.name);
                self.error(
                    codes::KEY_NOT_HERE,
                    span,
                    message,
                    format!("remove one of `{first}` and `{second}`"),
                );
            }
            _ => {}
        }
    }

    /// The text of a file that the configuration names.
    pub(super) fn attached(&mut self, node: &Node) -> Option<Attached> {
        let path = self.path(node)?;
        // One text for one path, whatever happens to the file meanwhile.
        if let Some(text) = self.sources.attached(&path) {
            return Some(Attached { path, text });
        }
        match self.files.read(&path) {
            Ok(text) => self.attach(node, path, text),
            Err(error) => {
                let message = format!("`{}` can't be read: {}", shortened(&path), error.reason);
                let help = "write a path relative to this file, to a text file that is there";
                let help = error.remedy(help);
                self.error(codes::NO_FILE, node.span, message, help);
                None
            }
        }
    }

    fn attach(&mut self, node: &Node, path: String, text: String) -> Option<Attached> {
        let all = self.sources.attached_bytes() + text.len();
        if text.len() > MAX_ATTACHED || all > MAX_ALL_ATTACHED {
            let message = format!("`{}` makes the files too big", shortened(&path));
            let help = "name files of at most 1 MiB, 8 MiB together";
            self.error(codes::TOO_BIG, node.span, message, help);
            return None;
        }
        // Every gateway gets these files, and each revision is kept.
        if has_private_key(&text) {
            let message = format!("a private key is in `{}`", shortened(&path));
            let help = "name a file without it, and keep the key as an entry of `secrets`";
            self.error(codes::KEY_IN_FILE, node.span, message, help);
            return None;
        }
        let text: std::sync::Arc<str> = text.into();
        self.sources.attach(&path, &text);
        Some(Attached { path, text })
    }

    /// A path, as it is from where the paths of the files themselves start.
    pub(super) fn path(&mut self, node: &Node) -> Option<String> {
        let text = self.grammar(node, super::grammar::path)?;
        Some(super::super::sources::beside(
            self.sources.name(node.span.file),
            &text,
        ))
    }

    /// Says that a key must be there.
    pub(super) fn missing(&mut self, owner: Span, shape: &str, key: &str, example: &str) {
        let message = format!("{shape} needs `{key}`");
        let it =
            Diagnostic::error(codes::MISSING_KEY, owner, message).label(format!("has no `{key}`"));
        self.report
            .push(it.help(format!("add `{key}`, such as `{key}: {example}`")));
    }

    /// Says that there is no such key, and gives the one that was probably meant.
    fn unknown_key(&mut self, span: Span, text: &str, shape: &Shape) -> Option<&'static str> {
        let may_suggest = self.report.may_suggest();
        let meant = may_suggest.then(|| closest(text, shape.known())).flatten();
        let help = match meant {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("remove it, or use one of {}", listed(shape.known())),
        };
        self.error(
            codes::UNKNOWN_KEY,
            span,
            format!("{} has no key `{}`", shape.name, shortened(text)),
            help,
        );
        meant
    }

    /// The entries of a map.
    pub(super) fn entries<'n>(&mut self, node: &'n Node) -> Option<&'n [(Node, Node)]> {
        if let Value::Map(entries) = &node.value {
            return Some(entries);
        }
        let help = if node.is_nothing() {
            "write `{}` for an empty map"
        } else {
            "write a map: `{ key: value }`"
        };
        self.shape(node, "a map", help);
        None
    }

    /// A map of any keys and values, as JSON; plain scalars are what YAML 1.2's core schema says.
    pub(super) fn object(
        &mut self,
        node: &Node,
    ) -> Option<serde_json::Map<String, serde_json::Value>> {
        let entries = self.entries(node)?;
        let mut object = serde_json::Map::with_capacity(entries.len());
        for (key, value) in entries {
            let (Some(key), Some(value)) = (self.text(key), value.json()) else {
                self.passed_over += 1;
                return None;
            };
            object.insert(key.to_owned(), value);
        }
        Some(object)
    }

    /// A section of named entries, each read on its own.
    pub(super) fn section<T>(
        &mut self,
        fields: &Fields<'_>,
        key: &str,
        read: fn(&mut Self, &Node, Span) -> Option<T>,
    ) -> Section<T> {
        let before = self.said();
        let mut section = Section {
            entries: IndexMap::new(),
            broken: HashSet::new(),
            illegible: false,
            trouble: false,
        };
        let entries = fields.read(self, key, |reader, node| reader.entries(node));
        section.illegible = !entries.is_absent() && entries.value().is_none();
        for (key, value) in entries.value().copied().unwrap_or_default() {
            let name = self.grammar(key, super::grammar::name);
            match (name, read(self, value, key.span)) {
                (Some(name), Some(entry)) => drop(section.entries.insert(name, entry)),
                (Some(name), None) => drop(section.broken.insert(name)),
                (None, _) => {}
            }
        }
        section.trouble = section.illegible || self.said() > before;
        section
    }

    /// Grows when something is reported or was.
    pub(super) const fn said(&self) -> usize {
        self.report.count() + self.passed_over
    }

    /// A text.
    pub(super) fn text<'n>(&mut self, node: &'n Node) -> Option<&'n str> {
        if let (Value::Scalar(scalar), false) = (&node.value, node.is_nothing()) {
            return Some(&scalar.text);
        }
        let help = match &node.value {
            Value::Map(entries) => quoted_entry(entries, "write text"),
            _ => "write text".to_owned(),
        };
        self.shape(node, "text", &help);
        None
    }

    /// A text in a small grammar.
    pub(super) fn grammar<T>(
        &mut self,
        node: &Node,
        grammar: impl Fn(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        let text = self.text(node)?;
        match grammar(text) {
            Ok(value) => Some(value),
            Err(wrong) => {
                self.hide_url(node);
                let span = self.inside(node, wrong.at);
                let it = Diagnostic::error(wrong.code, span, wrong.message).label(wrong.label);
                self.report.push(it.help(wrong.help));
                None
            }
        }
    }

    /// A list of texts in a small grammar; those that are wrong are left out.
    pub(super) fn list<T>(
        &mut self,
        node: &Node,
        grammar: impl Fn(&str) -> Result<T, Wrong>,
    ) -> Option<Vec<Spanned<T>>> {
        let Value::Seq(items) = &node.value else {
            self.hide_url(node);
            let help = match node.text().filter(|_| !node.is_nothing()) {
                Some(text) => format!("write a list: `[{}]`", shortened(text)),
                None => "write a list: `[a, b]`, or `[]` for none".to_owned(),
            };
            self.shape(node, "a list", &help);
            return None;
        };
        let read = |item| {
            Some(Spanned {
                value: self.grammar(item, &grammar)?,
                span: item.span,
            })
        };
        Some(items.iter().filter_map(read).collect())
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&mut self, node: &Node, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(node)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        self.hide_url(node);
        let known = words.iter().map(|(word, _)| *word);
        let help = match closest(text, known.clone()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("use {}", listed(known)),
        };
        self.error(
            codes::CHOICE,
            node.span,
            format!("`{}` is not one of the choices", shortened(text)),
            help,
        );
        None
    }

    /// Says that a value has another form.
    pub(super) fn shape(&mut self, node: &Node, wanted: &str, help: &str) {
        if matches!(node.value, Value::Broken) {
            self.passed_over += 1;
        } else {
            let message = format!("this is {}, but {wanted} is needed", node.kind());
            self.error(codes::SHAPE, node.span, message, help);
        }
    }

    /// Keeps user and query of a URL that is refused out of what is printed: they may be
    /// credentials in forms that nobody knows.
    fn hide_url(&mut self, node: &Node) {
        let Some(text) = node.text() else {
            return;
        };
        for range in super::address::private_parts(text) {
            self.sources.hide(self.inside(node, range));
        }
    }

    /// The place of some bytes of a node's text; the whole node if escapes or line breaks make
    /// the text differ from what is written.
    pub(super) fn inside(&self, node: &Node, at: Range<usize>) -> Span {
        let Some(text) = node.text() else {
            return node.span;
        };
        if at == (0..text.len()) {
            return node.span;
        }
        let written = self.sources.slice(node.span);
        let quote = usize::from(written.starts_with(['"', '\'']));
        let same = written.get(quote..quote + text.len()) == Some(text);
        if !same || at.end > text.len() {
            return node.span;
        }
        let start = node.span.start as usize + quote;
        Span::new(node.span.file, start + at.start..start + at.end)
    }
}

/// Words in backticks for a message.
pub(in crate::config) fn listed<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let mut words = words.into_iter();
    let mut out: Vec<_> = words
        .by_ref()
        .take(24)
        .map(|word| format!("`{}`", shortened(word)))
        .collect();
    if words.next().is_some() {
        out.push("…".to_owned());
    }
    out.join(", ")
}

/// A text of the file as far as a message can hold it.
pub(in crate::config) fn shortened(text: &str) -> String {
    let mut characters = text.chars();
    let start: String = characters.by_ref().take(80).collect();
    if characters.next().is_some() {
        format!("{start}…")
    } else {
        start
    }
}

/// The hint for `- a: b` where text was meant.
fn quoted_entry(entries: &[(Node, Node)], otherwise: &str) -> String {
    if let [(key, value)] = entries
        && let (Some(key), Some(value)) = (key.text(), value.text())
    {
        // No text of the language has a blank behind its colon.
        let text = shortened(&format!("{key}:{value}"));
        return format!("a blank behind `:` makes a map; for one text write `\"{text}\"`");
    }
    otherwise.to_owned()
}
