//! Examples: for every key a value that the parser takes, made from the declaration.

use super::Form;
use super::Grammar;
use super::Key;
use super::Presence;
use super::Shape;

impl Key {
    /// The key with a value, on one line of YAML: `limits: { header: 64KiB }`.
    #[must_use]
    pub fn example(&self) -> String {
        format!("{}: {}", self.name, value(&self.form))
    }
}

fn value(form: &Form) -> String {
    match form {
        Form::Text(texts) | Form::TextOrTexts(texts) => of(texts),
        Form::Choice(words) | Form::ChoiceOr(words, _) => first(words),
        Form::Texts(texts) => format!("[{}]", of(texts)),
        Form::Choices(words) => format!("[{}]", first(words)),
        Form::Map(shape) => map(shape),
        Form::Entries(names, shape) => format!("{{ {}: {} }}", of(names), map(shape)),
        Form::Pairs(names, texts) => format!("{{ {}: {} }}", of(names), of(texts)),
        Form::Lists(names, texts) => format!("{{ {}: [{}] }}", of(names), of(texts)),
        Form::Any => "{ key: value }".to_owned(),
    }
}

/// What has to be there, or else the first key.
fn map(shape: &Shape) -> String {
    let required = |key: &&Key| key.presence == Presence::Required;
    let mut keys: Vec<_> = shape.keys.iter().filter(required).collect();
    if keys.is_empty() {
        let one = shape.one_of.first().and_then(|name| shape.key(name));
        keys.extend(one.or(shape.keys.first()));
    }
    let keys: Vec<_> = keys.iter().map(|key| key.example()).collect();
    format!("{{ {} }}", keys.join(", "))
}

fn first(words: &[&str]) -> String {
    words
        .first()
        .map(|word| quoted(word, false))
        .unwrap_or_default()
}

fn of(grammar: &Grammar) -> String {
    quoted(grammar.example, true)
}

/// In quotes where YAML could read it as something else.
fn quoted(text: &str, text_only: bool) -> String {
    let fine = |c: char| c.is_ascii_alphanumeric() || " ./$_*>@-:".contains(c);
    let number = text_only && text.parse::<f64>().is_ok() && text.contains('.');
    let plain = text.starts_with(|c: char| c.is_ascii_alphanumeric() || "/$".contains(c))
        && text.chars().all(fine)
        && !text.contains(": ")
        && !number;
    if plain {
        text.to_owned()
    } else {
        format!("\"{text}\"")
    }
}
