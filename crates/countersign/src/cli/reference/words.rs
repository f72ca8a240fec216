//! The forms of values in words.

use countersign_core::config::schema::Form;

/// What a value looks like, as the reference and `explain` say it.
pub(crate) fn form(form: &Form) -> String {
    match form {
        Form::Text(texts) => texts.name.to_owned(),
        Form::Choice(words) => choice(words),
        Form::ChoiceOr(words, _) => format!("{}, or a map", choice(words)),
        Form::Texts(texts) => format!("a list; each item: {}", texts.name),
        Form::Choices(words) => format!("a list; each item: {}", choice(words)),
        Form::TextOrTexts(texts) => format!("{0}, or a list; each item: {0}", texts.name),
        Form::Map(_) => "a map".to_owned(),
        Form::Entries(names, shape) => format!("a map; each {}", entry(names.name, shape.name)),
        Form::Pairs(names, texts) => format!("a map; each {}", entry(names.name, texts.name)),
        Form::Lists(names, texts) => {
            format!(
                "a map; each {} or a list of such",
                entry(names.name, texts.name)
            )
        }
        Form::Any => "a map of any keys and values".to_owned(),
    }
}

fn entry(name: &str, value: &str) -> String {
    format!("key: {name}, each value: {value}")
}

fn choice(words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.join(""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_said_in_words() {
        assert_eq!(form(&Form::Choice(&["a"])), "`a`");
        assert_eq!(
            form(&Form::Choices(&["a", "b", "c"])),
            "a list; each item: `a`, `b` or `c`"
        );
        assert_eq!(form(&Form::Any), "a map of any keys and values");
    }
}
