//! `configuration.md`: every section and key of the language.

use super::MADE;
use super::head;
use super::row;
use super::words;
use countersign_core::config::schema;
use countersign_core::config::schema::Form;
use countersign_core::config::schema::Key;
use countersign_core::config::schema::Presence;
use countersign_core::config::schema::Shape;

const INTRODUCTION: &str = "\
The configuration is one YAML file, `countersign.yaml`, with the files that it includes. Of YAML it \
takes text, maps and lists: no anchors, tags or merge keys, and no key twice. `countersign check` \
says everything that is wrong with it at once, `countersign explain listeners.limits.header_time` \
prints the entry of a key, and `countersign explain CS0203` that of an [error](errors.md).

For completion and checks while typing, write the [JSON Schema](countersign.schema.json) beside the \
file with `countersign schema -o countersign.schema.json`, and begin the file with

```yaml
# yaml-language-server: $schema=./countersign.schema.json
```

The schema knows the form of the file. What its names mean, and whether it is safe, \
`countersign check` alone can say.";

pub(super) fn page() -> String {
    let mut lines = vec![
        MADE.to_owned(),
        "# Configuration reference".to_owned(),
        INTRODUCTION.to_owned(),
    ];
    section("", &schema::FILE, &mut lines);
    lines.push(grammars());
    lines.join("\n\n") + "\n"
}

/// A map with its keys, then the maps below it.
fn section(path: &str, shape: &Shape, lines: &mut Vec<String>) {
    lines.push(match path {
        "" => "## The file".to_owned(),
        path => format!("## `{path}`"),
    });
    lines.push(shape.doc.to_owned());
    if !shape.one_of.is_empty() {
        let words: Vec<_> = shape.one_of.iter().map(|it| format!("`{it}`")).collect();
        lines.push(format!(
            "Exactly one of {} has to be there.",
            words.join(", ")
        ));
    }
    let rows = shape.keys.iter().map(|it| entry(path, it));
    let table: Vec<_> = [head(["Key", "Value", "Default", "Meaning", "Example"])]
        .into_iter()
        .chain(rows)
        .collect();
    lines.push(table.join("\n"));
    for key in shape.keys {
        if let Some(inner) = key.form.shape() {
            section(&below(path, key), inner, lines);
        }
    }
}

/// The path of what stands below a key.
fn below(path: &str, key: &Key) -> String {
    let dot = if path.is_empty() { "" } else { "." };
    let entry = match key.form {
        Form::Entries(..) => ".<name>",
        _ => "",
    };
    format!("{path}{dot}{}{entry}", key.name)
}

fn entry(path: &str, key: &Key) -> String {
    let name = match key.form.shape() {
        Some(_) => format!("[`{}`](#{})", key.name, anchor(&below(path, key))),
        None => format!("`{}`", key.name),
    };
    let default = match key.presence {
        Presence::Required => "**required**",
        Presence::Default(default) => default,
    };
    let example = format!("`{}`", key.example());
    row([&name, &words::form(&key.form), default, key.doc, &example])
}

/// What a heading is called in links.
fn anchor(heading: &str) -> String {
    let fine = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    heading.to_lowercase().chars().filter(fine).collect()
}

fn grammars() -> String {
    let rows = schema::GRAMMARS
        .iter()
        .map(|it| row([it.name, it.doc, &format!("`{}`", it.example)]));
    let table: Vec<_> = [head(["Value", "How it is written", "Example"])]
        .into_iter()
        .chain(rows)
        .collect();
    format!("## Small grammars\n\n{}", table.join("\n"))
}
