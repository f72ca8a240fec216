//! Literal credentials anywhere in the file: reported, starred out of everything printed, and
//! taken out of the tree so that no other message can quote them.

use crate::config::codes;
use crate::config::diagnostic::Diagnostic;
use crate::config::diagnostic::Report;
use crate::config::sources::Sources;
use crate::config::sources::Span;
use crate::config::yaml::Node;
use crate::config::yaml::Value;
use crate::credentials;

/// The tree with credentials made [`Value::Broken`]. The text of the file is searched as well as
/// the values: comments are kept in repositories like everything else, and some keys are known only
/// by the word in front of them.
pub(super) fn refuse_literals(root: &Node, sources: &mut Sources, report: &mut Report) -> Node {
    let file = root.span.file;
    let written = credentials::find_in(sources.name(file), sources.text(file));
    let written = written.map(|it| Written {
        span: Span::new(file, it.range),
        rule: it.rule,
        said: false,
    });
    let mut walk = Walk {
        written: written.collect(),
        sources,
        report,
        secret: None,
    };
    let tree = walk.node(root, Depth::Top);
    walk.rest();
    tree
}

/// A credential in the text of the file.
struct Written {
    span: Span,
    rule: &'static str,
    /// Whether it was reported with the value that it is in.
    said: bool,
}

/// The error about a credential that is written into the file.
pub(super) fn literal(span: Span, secret: Option<&str>, label: &str) -> Diagnostic {
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
                Some(kind) => {
                    self.sources.mask(inner(node.span, self.sources));
                    let label = format!("looks like {kind}");
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
    fn looks_like(&mut self, span: Span, text: &str) -> Option<String> {
        let first = self.written.partition_point(|it| it.span.end <= span.start);
        let mut by_place = None;
        for it in self.written.iter_mut().skip(first) {
            if it.span.start >= span.end {
                break;
            }
            it.said = true;
            by_place = by_place.or(Some(it.rule));
        }
        let known = recognise(text).map(str::to_owned);
        let escaped = || {
            let same = text.is_empty() || self.sources.slice(span).contains(text);
            let mut found = (!same)
                .then(|| credentials::find(text))
                .into_iter()
                .flatten();
            found.next().map(|it| it.rule)
        };
        known.or_else(|| {
            by_place
                .or_else(escaped)
                .map(|rule| format!("a credential (`{rule}`)"))
        })
    }

    /// What is in no value is in a comment.
    fn rest(&mut self) {
        for it in self.written.iter().filter(|it| !it.said) {
            self.sources.mask(it.span);
            let label = format!("looks like a credential (`{}`)", it.rule);
            let help = "take it out of the comment and rotate it: it has been on disk in the clear";
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

/// What is masked: the text without its quotes, so that the line still reads as YAML.
pub(super) fn inner(span: Span, sources: &Sources) -> Span {
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

/// Prefixes that providers give their keys so that they can be found, with the least number of
/// characters that follow.
const PREFIXES: [(&str, usize, &str); 22] = [
    ("sk-ant-", 12, "an Anthropic key"),
    ("sk-", 12, "an OpenAI key"),
    ("sk_live_", 12, "a Stripe key"),
    ("rk_live_", 12, "a Stripe key"),
    ("ghp_", 16, "a GitHub token"),
    ("gho_", 16, "a GitHub token"),
    ("ghu_", 16, "a GitHub token"),
    ("ghs_", 16, "a GitHub token"),
    ("ghr_", 16, "a GitHub token"),
    ("github_pat_", 16, "a GitHub token"),
    ("glpat-", 16, "a GitLab token"),
    ("AKIA", 16, "an AWS access key"),
    ("ASIA", 16, "an AWS access key"),
    ("AIza", 30, "a Google API key"),
    ("xoxb-", 10, "a Slack token"),
    ("xoxa-", 10, "a Slack token"),
    ("xoxp-", 10, "a Slack token"),
    ("xoxr-", 10, "a Slack token"),
    ("xoxs-", 10, "a Slack token"),
    ("hvs.", 20, "a Vault token"),
    ("npm_", 30, "an npm token"),
    ("dop_v1_", 30, "a DigitalOcean token"),
];

/// What kind of credential a text looks like.
fn recognise(text: &str) -> Option<&'static str> {
    if text.contains("-----BEGIN ") && text.contains("PRIVATE KEY") {
        return Some("a private key");
    }
    let part_of_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.split(|c| !part_of_word(c)).find_map(recognise_word)
}

fn recognise_word(word: &str) -> Option<&'static str> {
    if is_jwt(word) {
        return Some("a JSON Web Token");
    }
    let hit = |(prefix, least, _): &&(&str, usize, &str)| {
        // Names are lower-case words; keys are not.
        let random = |rest: &str| {
            rest.bytes()
                .any(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
        };
        word.strip_prefix(prefix)
            .is_some_and(|rest| rest.len() >= *least && random(rest))
    };
    PREFIXES.iter().find(hit).map(|(_, _, kind)| *kind)
}

/// Three base64url parts, the first two of which start like `{"`.
fn is_jwt(word: &str) -> bool {
    let mut parts = word.split('.');
    let header = parts
        .next()
        .is_some_and(|part| part.starts_with("eyJ") && part.len() >= 16);
    header && parts.next().is_some_and(|part| part.starts_with("eyJ")) && parts.next().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_recognised_and_names_are_not() {
        for (text, kind) in [
            ("sk-proj-EXAMPLE...", "an OpenAI key"),
            ("Bearer ghp_0123456789abcdef0123", "a GitHub token"),
            ("AKIAIOSFODNN7EXAMPLE", "an AWS access key"),
            ("https://x.example/?k=xoxb-1234567890-abc", "a Slack token"),
            (
                "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln",
                "a JSON Web Token",
            ),
        ] {
            assert_eq!(recognise(text), Some(kind), "{text}");
        }
        let pem = format!("-----BEGIN EC {} KEY-----\nMHcC", "PRIVATE");
        assert_eq!(recognise(&pem), Some("a private key"));
        for text in [
            "openai",
            "sk-frontend-12",
            "risk-assessment-service-12",
            "store:openai",
            "report:read",
            "",
        ] {
            assert_eq!(recognise(text), None, "{text}");
        }
    }
}
