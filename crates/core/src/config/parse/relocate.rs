//! Several files as one: paths in what was included start where the entry file is.

use super::beside;
use crate::config::schema;
use crate::config::schema::Form;
use crate::config::schema::Grammar;
use crate::config::schema::Shape;
use crate::config::sources::Sources;
use crate::config::yaml::Node;
use crate::config::yaml::Value;

/// A merged tree in which paths of files are relative to the entry. There is none if one of them
/// can't be said from there.
pub(super) fn relocated(root: Node, sources: &Sources) -> Option<Node> {
    let entry = beside("", sources.name(root.span.file));
    map(root, &schema::FILE, &entry, sources)
}

fn map(node: Node, shape: &Shape, entry: &str, sources: &Sources) -> Option<Node> {
    let Value::Map(entries) = node.value else {
        return Some(node);
    };
    let moved = |(key, value): (Node, Node)| {
        let known = shape.key(key.text().unwrap_or_default());
        let value = match known {
            Some(known) => form(value, &known.form, entry, sources)?,
            None => value,
        };
        Some((key, value))
    };
    let entries = entries.into_iter().map(moved).collect::<Option<_>>()?;
    Some(Node {
        value: Value::Map(entries),
        span: node.span,
    })
}

fn form(node: Node, form: &Form, entry: &str, sources: &Sources) -> Option<Node> {
    match form {
        Form::Text(grammar) | Form::TextOrTexts(grammar) | Form::Texts(grammar)
            if is_path(grammar) =>
        {
            path(node, entry, sources)
        }
        Form::Map(shape) | Form::ChoiceOr(_, shape) => map(node, shape, entry, sources),
        Form::Entries(_, shape) => {
            let Value::Map(entries) = node.value else {
                return Some(node);
            };
            let moved = |(key, value)| Some((key, map(value, shape, entry, sources)?));
            let entries = entries.into_iter().map(moved).collect::<Option<_>>()?;
            Some(Node {
                value: Value::Map(entries),
                span: node.span,
            })
        }
        _ => Some(node),
    }
}

fn is_path(grammar: &Grammar) -> bool {
    grammar.name == schema::FILE_PATH.name
}

fn path(mut node: Node, entry: &str, sources: &Sources) -> Option<Node> {
    node.value = match node.value {
        Value::Seq(items) => {
            let moved = items.into_iter().map(|item| path(item, entry, sources));
            Value::Seq(moved.collect::<Option<_>>()?)
        }
        Value::Scalar(mut scalar) => {
            let whole = beside(sources.name(node.span.file), &scalar.text);
            scalar.text = from(entry, &whole)?;
            Value::Scalar(scalar)
        }
        other => other,
    };
    Some(node)
}

/// What `beside` makes the path of, seen from a file.
fn from(entry: &str, path: &str) -> Option<String> {
    if path.starts_with('/') {
        return Some(path.to_owned());
    }
    let folder = entry.rsplit_once('/').map_or("", |(folder, _)| folder);
    let parts = folder.split('/').filter(|part| !part.is_empty());
    let up: Option<String> = parts.map(|part| (part != "..").then_some("../")).collect();
    Some(format!("{}{path}", up?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_the_same_file() {
        for (entry, path) in [
            ("countersign.yaml", "conf.d/a.json"),
            ("etc/cs/countersign.yaml", "etc/cs/conf.d/a.json"),
            ("etc/cs/countersign.yaml", "a.json"),
            ("/etc/cs/countersign.yaml", "/etc/cs/a.json"),
        ] {
            let text = from(entry, path);
            assert_eq!(text.map(|text| beside(entry, &text)).as_deref(), Some(path));
        }
        assert_eq!(from("../countersign.yaml", "../a.json"), None);
    }
}
