//! `edges` and `secrets`.

use super::Edge;
use super::Secret;
use super::Spanned;
use super::credentials;
use super::grammar;
use super::reader::Reader;
use super::reader::Wrong;
use super::reader::shortened;
use super::roles;
use crate::config::SecretSource;
use crate::config::codes;
use crate::config::schema;
use crate::config::sources::Span;
use crate::config::yaml::Node;
use crate::config::yaml::Value;
use crate::vocabulary::Name;
use crate::vocabulary::OperationPattern;

pub(super) fn edges(reader: &mut Reader<'_>, node: &Node) -> Option<Vec<Edge>> {
    let mut edges = Vec::new();
    for (key, value) in reader.entries(node)? {
        let ends = ends(reader, key);
        let operations = match operations(reader, value) {
            Some(all) => super::Given::Is(Spanned {
                value: all,
                span: value.span,
            }),
            None => super::Given::Broken,
        };
        if let Some((from, to)) = ends {
            edges.push(Edge {
                span: key.span,
                from,
                to,
                operations,
            });
        }
    }
    Some(edges)
}

/// `a -> b`, each end with its own place.
fn ends(reader: &mut Reader<'_>, key: &Node) -> Option<(Spanned<Name>, Spanned<Name>)> {
    let text = reader.text(key)?;
    let mut parts = text.split("->");
    let (Some(from), Some(to), None) = (parts.next(), parts.next(), parts.next()) else {
        let words: Vec<_> = text
            .split(|c: char| c.is_whitespace() || "->=".contains(c))
            .filter(|it| !it.is_empty())
            .collect();
        let help = match words.as_slice() {
            [from, to] => format!("write `{} -> {}`", shortened(from), shortened(to)),
            _ => "write one arrow between two names: `web -> frontend`".to_owned(),
        };
        reader.error(
            codes::ARROW,
            key.span,
            format!("`{}` is not an arrow", shortened(text)),
            help,
        );
        return None;
    };
    let from = end(reader, key, from, 0);
    let to = end(reader, key, to, text.len() - to.len());
    Some((from?, to?))
}

fn end(reader: &mut Reader<'_>, key: &Node, part: &str, start: usize) -> Option<Spanned<Name>> {
    let word = part.trim();
    let start = start + part.len() - part.trim_start().len();
    let span = reader.inside(key, start..start + word.len());
    match grammar::name(word) {
        Ok(value) => Some(Spanned { value, span }),
        Err(wrong) => {
            let message = format!("`{}` is not a name", shortened(word));
            reader.error(codes::ARROW, span, message, wrong.help);
            None
        }
    }
}

/// A list of operations, or one.
fn operations(reader: &mut Reader<'_>, node: &Node) -> Option<Vec<Spanned<OperationPattern>>> {
    if node.text().is_some() && !node.is_nothing() {
        let value = reader.grammar(node, grammar::operation)?;
        return Some(vec![Spanned {
            value,
            span: node.span,
        }]);
    }
    if matches!(&node.value, Value::Seq(items) if items.is_empty()) {
        let help = "list what may be called, such as `[GET /v1/**]`, or remove the edge";
        reader.error(codes::SHAPE, node.span, "an edge that allows nothing", help);
        return None;
    }
    reader.list(node, grammar::operation)
}

pub(super) fn secret(reader: &mut Reader<'_>, node: &Node, name: Span) -> Option<Secret> {
    let fields = reader.fields(node, &schema::SECRET, name)?;
    Some(Secret {
        name,
        from: fields.read(reader, "from", |reader, node| source(reader, node, name)),
        needs: fields.text(reader, "needs", grammar::permission),
        readers: fields.texts(reader, "readers", roles::member),
        rotate: fields.text(reader, "rotate", grammar::duration),
    })
}

fn source(reader: &mut Reader<'_>, node: &Node, name: Span) -> Option<SecretSource> {
    const KINDS: [&str; 6] = ["store", "env", "file", "vault", "aws", "k8s"];
    let text = reader.text(node)?;
    let kind = text
        .split_once(':')
        .map(|(kind, _)| kind)
        .filter(|kind| KINDS.contains(kind));
    if kind.is_none() {
        // Whatever it is, it may be the secret itself, so it is not quoted.
        let secret = reader
            .sources
            .slice(name)
            .trim_matches(['"', '\''])
            .to_owned();
        let label = "names no source, so this would be the secret itself";
        let secret = Some(secret.as_str());
        credentials::refuse_value(node.span, secret, label, reader.sources, reader.report);
        return None;
    }
    reader.grammar(node, secret_source)
}

fn secret_source(text: &str) -> Result<SecretSource, Wrong> {
    let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
    let at = kind.len() + 1..text.len();
    let word =
        |fine: fn(u8) -> bool| !rest.is_empty() && rest.len() <= 255 && rest.bytes().all(fine);
    let field = rest
        .split_once('#')
        .filter(|(path, field)| !field.is_empty() && path.split('/').all(|part| !part.is_empty()));
    let plain: fn(u8) -> bool = |b| b.is_ascii_graphic();
    match kind {
        "store" if word(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b)) => {
            Ok(SecretSource::Store(rest.to_owned()))
        }
        "store" => Err(Wrong::at(
            codes::SOURCE,
            at,
            "not the name of a stored secret",
            "write a name such as `store:openai`",
        )),
        "env" if word(|b| b.is_ascii_alphanumeric() || b == b'_') => {
            Ok(SecretSource::Env(rest.to_owned()))
        }
        "env" => Err(Wrong::at(
            codes::SOURCE,
            at,
            "not an environment variable",
            "write a name such as `env:OPENAI_KEY`",
        )),
        "file" if word(|b| !b.is_ascii_control()) => Ok(SecretSource::File(rest.to_owned())),
        "file" => Err(Wrong::at(
            codes::SOURCE,
            at,
            "not a path",
            "write a path such as `file:/run/secrets/openai`",
        )),
        "vault" if field.is_some_and(|(path, _)| path.contains('/')) && word(plain) => {
            Ok(SecretSource::Vault(rest.to_owned()))
        }
        "vault" => Err(Wrong::at(
            codes::SOURCE,
            at,
            "not a field of a vault secret",
            "write `vault:<mount>/<path>#<field>`",
        )),
        "aws" if word(plain) => Ok(SecretSource::Aws(rest.to_owned())),
        "aws" => Err(Wrong::at(
            codes::SOURCE,
            at,
            "not the name of a secret",
            "write a name or arn, such as `aws:prod/openai`",
        )),
        _ if field.is_some_and(|(path, _)| path.split('/').count() == 2) && word(plain) => {
            Ok(SecretSource::K8s(rest.to_owned()))
        }
        _ => Err(Wrong::at(
            codes::SOURCE,
            at,
            "not a key of a kubernetes secret",
            "write `k8s:<namespace>/<name>#<key>`",
        )),
    }
}
