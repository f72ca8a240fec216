//! Literal credentials anywhere in the file: reported, and taken out of the tree so that no reader
//! takes them for something else. [`Sources`] keeps them out of everything printed.

use crate::config::codes;
use crate::config::diagnostic::Diagnostic;
use crate::config::diagnostic::Report;
use crate::config::sources::Sources;
use crate::config::sources::Span;
use crate::config::yaml;
use crate::config::yaml::Node;
use crate::config::yaml::Value;
use crate::credentials;
use crate::credentials::Kind;

/// The tree of a file, with credentials made [`Value::Broken`]; none if it can't be read. The text
/// is searched as well as the values: comments are kept in repositories like everything else, some
/// keys are known only by the word in front of them, and what is no tree has credentials too.
pub(in crate::config) fn tree(
    file: u16,
    sources: &mut Sources,
    report: &mut Report,
    nodes: &mut usize,
) -> Option<Node> {
    let root = yaml::parse(file, sources.text(file), report, nodes);
    let literals = sources.literals(file);
    let written = literals.iter().map(|it| Written {
        span: Span::new(file, it.range.clone()),
        kind: it.kind,
        said: false,
    });
    let mut walk = Walk {
        written: written.collect(),
        sources,
        report,
        secret: None,
    };
    let tree = root.map(|root| walk.node(&root, Depth::Top));
    walk.rest();
    tree
}

/// A credential in the text of the file.
struct Written {
    span: Span,
    kind: Kind,
    /// Whether it was reported with the value that it is in.
    said: bool,
}

/// The error about a credential that is written into the file.
fn literal(span: Span, secret: Option<&str>, label: &str) -> Diagnostic {
    let name = secret.unwrap_or("<name>");
    let help = format!(
        "`countersign secret put {name}`, write `from: \"store:{name}\"`, and rotate this key: it has been on disk in the clear"
    );
    Diagnostic::error(
        codes::LITERAL_CREDENTIAL,
        span,
        "a literal credential is in the file",
    )
    .label(label)
    .help(help)
}

/// The error about the password of a URL.
fn password(span: Span) -> Diagnostic {
    let help = "remove what stands before the `@`, keep it with `countersign secret put <name>`, and rotate it: it has been on disk in the clear";
    let message = "a password is in a url";
    let it = Diagnostic::error(codes::LITERAL_CREDENTIAL, span, message);
    it.label("in the clear").help(help)
}

struct Walk<'a> {
    /// In the order of the text.
    written: Vec<Written>,
    sources: &'a mut Sources,
    report: &'a mut Report,
    /// The entry of `secrets` we are in.
    secret: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    Top,
    Secrets,
    Elsewhere,
}

impl Walk<'_> {
    fn node(&mut self, node: &Node, depth: Depth) -> Node {
        let value = match &node.value {
            Value::Scalar(scalar) => match self.looks_like(node.span, &scalar.text) {
                None => node.value.clone(),
                Some(Kind::Userinfo) => {
                    self.userinfo(node.span);
                    Value::Broken
                }
                Some(kind) => {
                    self.sources.mask(inner(node.span, self.sources));
                    let label = format!("looks like {}", kind.words());
                    self.report
                        .push(literal(node.span, self.secret.as_deref(), &label));
                    Value::Broken
                }
            },
            Value::Seq(items) => Value::Seq(
                items
                    .iter()
                    .map(|item| self.node(item, Depth::Elsewhere))
                    .collect(),
            ),
            Value::Map(entries) => Value::Map(
                entries
                    .iter()
                    .map(|entry| self.entry(entry, depth))
                    .collect(),
            ),
            Value::Broken => Value::Broken,
        };
        Node {
            value,
            span: node.span,
        }
    }

    /// What kind of credential a value is, if it is one: by its own text, or by what stands around
    /// it in the file.
    fn looks_like(&mut self, span: Span, text: &str) -> Option<Kind> {
        let first = self.written.partition_point(|it| it.span.end <= span.start);
        let mut found = None;
        for it in self.written.iter_mut().skip(first) {
            if it.span.start >= span.end {
                break;
            }
            it.said = true;
            found = found.or(Some(it.kind));
        }
        // Escapes hide it in the file.
        let escaped = || {
            let same = text.is_empty() || self.sources.slice(span).contains(text);
            let found = (!same).then(|| credentials::find_any(text));
            found.into_iter().flatten().next().map(|it| it.kind)
        };
        found.or_else(escaped)
    }

    /// A URL is fine without its password.
    fn userinfo(&mut self, span: Span) {
        let within = |it: &&Written| span.start <= it.span.start && it.span.end <= span.end;
        let place = self.written.iter().find(within).map_or(span, |it| it.span);
        if place == span {
            self.sources.mask(inner(span, self.sources));
        }
        self.report.push(password(place));
    }

    /// What is in no value: in a comment, in an entry that is there twice, in a file that is not
    /// YAML.
    fn rest(&mut self) {
        for it in self.written.iter().filter(|it| !it.said) {
            if it.kind == Kind::Userinfo {
                self.report.push(password(it.span));
                continue;
            }
            let label = format!("looks like {}", it.kind.words());
            let help = "take it out of the file and rotate it: it has been on disk in the clear";
            let message = "a literal credential is in the file";
            let it = Diagnostic::error(codes::LITERAL_CREDENTIAL, it.span, message);
            self.report.push(it.label(label).help(help));
        }
    }

    fn entry(&mut self, (key, value): &(Node, Node), depth: Depth) -> (Node, Node) {
        let word = key.text().unwrap_or_default();
        let key = self.node(key, Depth::Elsewhere);
        let value = match depth {
            Depth::Top if word == "secrets" => self.node(value, Depth::Secrets),
            Depth::Secrets => {
                self.secret = Some(word.to_owned()).filter(|_| !matches!(key.value, Value::Broken));
                let value = self.node(value, Depth::Elsewhere);
                self.secret = None;
                value
            }
            Depth::Top | Depth::Elsewhere => self.node(value, Depth::Elsewhere),
        };
        (key, value)
    }
}

/// Refuses what stands where the name of a secret belongs and can't be one: it may be the secret
/// itself, so it is not quoted.
pub(super) fn refuse_value(
    span: Span,
    secret: Option<&str>,
    label: &str,
    sources: &mut Sources,
    report: &mut Report,
) {
    let masked = inner(span, sources);
    sources.mask(masked);
    report.push(literal(span, secret, label));
}

/// What is masked: the text without its quotes, so that the line still reads as YAML.
fn inner(span: Span, sources: &Sources) -> Span {
    let quoted = sources.slice(span).starts_with(['"', '\'']) && span.end - span.start >= 2;
    if quoted {
        Span {
            start: span.start + 1,
            end: span.end - 1,
            ..span
        }
    } else {
        span
    }
}
