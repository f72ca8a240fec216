//! The declaration as JSON Schema (draft 2020-12), for editors and for whoever makes files.
//!
//! It is what the parser checks before names are resolved, and errs on the side of letting
//! through: where a regular expression can't say it, the parser alone does. Plain scalars reach it
//! as what YAML makes of them, so that texts which look like a number are let through as one.

use super::FILE;
use super::Form;
use super::GRAMMARS;
use super::Grammar;
use super::Key;
use super::Plain;
use super::Presence;
use super::Shape;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

/// The name of the schema; nothing has to be there.
pub const ID: &str = "https://countersign.github.io/countersign/countersign.schema.json";

/// The JSON Schema of a configuration, the same for every run of one version.
#[must_use]
pub fn json() -> Value {
    let mut schema = shape(&FILE);
    let grammars = GRAMMARS.iter().map(|it| (slug(it.name), grammar(it)));
    put(&mut schema, "$defs", Value::Object(grammars.collect()));
    put(&mut schema, "$id", ID.into());
    let draft = "https://json-schema.org/draft/2020-12/schema";
    put(&mut schema, "$schema", draft.into());
    put(&mut schema, "title", "countersign.yaml".into());
    // Maps keep the order of insertion in some builds and are sorted in others.
    schema.sort_all_objects();
    schema
}

/// The name of a grammar in `$defs` and in links: `an address to listen on` is
/// `address-to-listen-on`.
pub(super) fn slug(name: &str) -> String {
    let bare = ["a ", "an "]
        .iter()
        .find_map(|article| name.strip_prefix(article));
    bare.unwrap_or(name).replace(' ', "-").to_lowercase()
}

fn shape(shape: &Shape) -> Value {
    let keys: Map<_, _> = shape
        .keys
        .iter()
        .map(|it| (it.name.to_owned(), key(it)))
        .collect();
    let required: Vec<_> = shape.keys.iter().filter(|it| is_required(it)).collect();
    let mut schema = json!({
        "additionalProperties": false,
        "description": shape.doc,
        "properties": keys,
        "type": "object",
    });
    if !required.is_empty() {
        let names = required.iter().map(|it| Value::from(it.name));
        put(&mut schema, "required", names.collect());
    }
    if !shape.one_of.is_empty() {
        let one = shape.one_of.iter().map(|it| json!({ "required": [it] }));
        put(&mut schema, "oneOf", one.collect());
    }
    schema
}

fn is_required(key: &Key) -> bool {
    key.presence == Presence::Required
}

fn key(key: &Key) -> Value {
    let description = match key.presence {
        Presence::Required => format!("{}\n\nRequired.", key.doc),
        Presence::Default(default) => format!("{}\n\nDefault: {default}.", key.doc),
    };
    let mut schema = form(&key.form);
    put(&mut schema, "description", description.into());
    put(&mut schema, "title", key.name.into());
    schema
}

fn form(form: &Form) -> Value {
    match form {
        Form::Text(grammar) => reference(grammar),
        Form::Choice(words) => choice(words),
        Form::ChoiceOr(words, inner) => json!({ "anyOf": [choice(words), shape(inner)] }),
        Form::Texts(grammar) => list(&reference(grammar)),
        Form::Choices(words) => list(&choice(words)),
        Form::TextOrTexts(grammar) => one_or_more(grammar),
        Form::Map(inner) => shape(inner),
        Form::Entries(names, inner) => entries(names, &shape(inner)),
        Form::Pairs(names, texts) => entries(names, &reference(texts)),
        Form::Lists(names, texts) => entries(names, &one_or_more(texts)),
        Form::Any => json!({ "type": "object" }),
    }
}

fn entries(names: &Grammar, value: &Value) -> Value {
    json!({
        "additionalProperties": false,
        "patternProperties": { names.pattern: value },
        "type": "object",
    })
}

fn one_or_more(grammar: &Grammar) -> Value {
    json!({ "anyOf": [reference(grammar), list(&reference(grammar))] })
}

fn list(items: &Value) -> Value {
    json!({ "items": items, "type": "array" })
}

fn reference(grammar: &Grammar) -> Value {
    json!({ "$ref": format!("#/$defs/{}", slug(grammar.name)) })
}

/// A word that YAML takes for a number or a truth value may come as that.
fn choice(words: &[&str]) -> Value {
    let texts = words.iter().map(|it| Value::from(*it));
    let others = words.iter().filter_map(|it| {
        let value: Value = serde_json::from_str(it).ok()?;
        (value.is_boolean() || value.is_number()).then_some(value)
    });
    json!({ "enum": texts.chain(others).collect::<Vec<_>>() })
}

fn grammar(grammar: &Grammar) -> Value {
    let mut schema = json!({
        "description": grammar.doc,
        "examples": [grammar.example],
        "pattern": grammar.pattern,
        "title": grammar.name,
    });
    let types = match grammar.plain {
        Plain::Text => json!("string"),
        Plain::Count => json!(["string", "integer"]),
        Plain::Any => json!(["string", "number", "boolean"]),
    };
    put(&mut schema, "type", types);
    if grammar.plain == Plain::Count {
        put(&mut schema, "minimum", 1.into());
    }
    schema
}

fn put(schema: &mut Value, name: &str, value: Value) {
    if let Value::Object(members) = schema {
        members.insert(name.to_owned(), value);
    }
}
