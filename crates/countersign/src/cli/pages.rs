//! What `explain` says about a code or a key: the reference pages, in the terminal.

use super::reference::words;
use super::ui::Answer;
use super::ui::Ui;
use crate::operate::Failure;
use countersign_client::remedy;
use countersign_core::config::codes;
use countersign_core::config::codes::Page;
use countersign_core::config::schema;
use countersign_core::config::schema::Found;
use countersign_core::config::schema::NoSuchKey;
use countersign_core::config::schema::Presence;
use countersign_core::vocabulary::Code;
use serde_json::Value;
use serde_json::json;

const SCHEMA: &str = "countersign.explanation/v1";

/// The page of a code or a key; none if the text is neither.
pub(crate) fn show(what: &str, ui: &mut Ui<'_>) -> Option<Result<(), Failure>> {
    if let Some(page) = codes::page(what) {
        return Some(configuration(page, ui));
    }
    if let Some(code) = Code::parse(&what.to_ascii_uppercase()) {
        return Some(refusal(code, ui));
    }
    schema::find(what).ok().map(|found| key(&found, ui))
}

/// Why there is no page, with what was perhaps meant.
pub(crate) fn nothing(what: &str) -> Failure {
    let meant = match schema::find(what) {
        Err(NoSuchKey { meant, .. }) => meant,
        Ok(_) => Vec::new(),
    };
    let listed = |names: &[String]| {
        let quoted: Vec<_> = names.iter().map(|it| format!("`{it}`")).collect();
        quoted.join(", ")
    };
    match (near_code(what), meant.as_slice()) {
        (Some(code), []) => unknown(what).with_help(format!("did you mean `{code}`?")),
        (None, []) => unknown(what).with_help(
            "codes look like `CS0203` and `CSD401`, keys like `listeners.limits.header_time`, \
             receipts like `r-4f2k9q7xw3bt`",
        ),
        (_, [one]) => unknown(what).with_help(format!("did you mean `{one}`?")),
        (_, several) => Failure::usage(format!("`{what}` is the key of several maps"))
            .with_help(format!("say which: {}", listed(several))),
    }
}

fn unknown(what: &str) -> Failure {
    Failure::usage(format!("`{what}` is no code, key or receipt"))
}

/// The nearest code of the same series, where what was asked for looks like a code.
fn near_code(what: &str) -> Option<String> {
    let upper = what.to_ascii_uppercase();
    let digits = |prefix: &str| upper.strip_prefix(prefix)?.parse::<u16>().ok();
    let nearest = |wanted: u16, all: &mut dyn Iterator<Item = String>, prefix: &str| {
        all.min_by_key(|it| {
            let number = it
                .strip_prefix(prefix)
                .and_then(|it| it.parse::<u16>().ok());
            number.map_or(u16::MAX, |number| number.abs_diff(wanted))
        })
    };
    if let Some(wanted) = digits("CSD") {
        return nearest(wanted, &mut Code::ALL.iter().map(Code::to_string), "CSD");
    }
    let mut pages = codes::PAGES.iter().map(|page| page.code.to_string());
    nearest(digits("CS")?, &mut pages, "CS")
}

fn configuration(page: &Page, ui: &mut Ui<'_>) -> Result<(), Failure> {
    let text = format!("{}  {}\n\n{}", page.code, page.title, wrapped(page.text));
    let document = json!({ "code": page.code.as_str(), "text": page.text, "title": page.title });
    ui.answer(Answer {
        document,
        schema: SCHEMA,
        short: page.title,
        text: &text,
    })
}

fn refusal(code: Code, ui: &mut Ui<'_>) -> Result<(), Failure> {
    let (pillar, title, fix) = (
        code.pillar(),
        code.title(),
        remedy(code.pillar(), Some(code)),
    );
    let status = code.status();
    let text = format!(
        "{code}  {title}\n\npillar  {pillar}\nstatus  {status}\nfix     {fix}\n\n\
         The record of the refusal says more: `countersign explain <receipt>`."
    );
    let document = json!({
        "code": code, "fix": fix, "pillar": pillar, "status": status, "title": title,
    });
    ui.answer(Answer {
        document,
        schema: SCHEMA,
        short: title,
        text: &text,
    })
}

fn key(found: &Found, ui: &mut Ui<'_>) -> Result<(), Failure> {
    let key = found.key;
    let (form, example) = (words::form(&key.form), key.example());
    let default = match key.presence {
        Presence::Required => None,
        Presence::Default(default) => Some(default),
    };
    let mut lines = vec![
        found.path.clone(),
        String::new(),
        wrapped(key.doc),
        String::new(),
        format!("value    {form}"),
        format!("default  {}", default.unwrap_or("none, it is required")),
        format!("example  {example}"),
    ];
    let grammars = key.form.grammars().map(|it| {
        let (name, doc) = (it.name, it.doc);
        format!("\n{}", wrapped(&format!("{name}: {doc}")))
    });
    lines.extend(grammars);
    let below = found.below().map(|it| it.known().collect::<Vec<_>>());
    if let Some(keys) = &below {
        lines.push(format!("\nkeys     {}", keys.join(", ")));
    }
    let grammars = key.form.grammars().map(|it| {
        json!({ "doc": it.doc, "example": it.example, "name": it.name, "pattern": it.pattern })
    });
    let document = json!({
        "default": default, "example": example, "form": form,
        "grammars": grammars.collect::<Vec<Value>>(), "key": found.path, "keys": below,
        "required": default.is_none(), "text": key.doc,
    });
    ui.answer(Answer {
        document,
        schema: SCHEMA,
        short: key.doc,
        text: &lines.join("\n"),
    })
}

/// Lines of at most 80 characters.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let room = lines
            .last()
            .is_some_and(|line| line.len() + word.len() < 80);
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}
