//! `explain`: the page of a code, or the story of a record.

use super::args::ExplainArgs;
use super::args::Globals;
use super::ui::Answer;
use super::ui::Ui;
use crate::operate::Failure;
use crate::operate::harmless;
use countersign_client::remedy;
use countersign_core::config::codes::Page;
use countersign_core::config::codes::page;
use countersign_core::vocabulary::Code;
use countersign_ledger::ReceiptPrefix;
use serde_json::Value;
use serde_json::json;

/// `explain`.
pub(crate) async fn run(
    args: &ExplainArgs,
    globals: &Globals,
    ui: &mut Ui<'_>,
) -> Result<(), Failure> {
    let what = args.what.trim();
    if let Some(page) = page(what) {
        return configuration(page, ui);
    }
    if let Some(code) = Code::parse(&what.to_ascii_uppercase()) {
        return refusal(code, ui);
    }
    if what.parse::<ReceiptPrefix>().is_ok() {
        return record(what, globals, ui).await;
    }
    let text = format!("`{what}` is neither a code nor a receipt");
    let help = "codes look like `CS0203` and `CSD401`, receipts like `r-4f2k9q7xw3bt`";
    Err(Failure::usage(text).with_help(help))
}

fn configuration(page: &Page, ui: &mut Ui<'_>) -> Result<(), Failure> {
    let text = format!("{}  {}\n\n{}", page.code, page.title, wrapped(page.text));
    let document = json!({ "code": page.code.as_str(), "text": page.text, "title": page.title });
    ui.answer(Answer {
        document,
        schema: "countersign.explanation/v1",
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
        schema: "countersign.explanation/v1",
        short: title,
        text: &text,
    })
}

async fn record(receipt: &str, globals: &Globals, ui: &mut Ui<'_>) -> Result<(), Failure> {
    let admin = globals.admin();
    let document: Value = admin
        .get(&format!("/v1/admin/records/{receipt}/explain"))
        .await?;
    let text = story(&document);
    let short = text.lines().next().unwrap_or_default().to_owned();
    ui.answer(Answer {
        document,
        schema: "countersign.decision/v1",
        short: &short,
        text: &text,
    })
}

/// An explanation as people read it.
fn story(document: &Value) -> String {
    let some = |path: &str| text(document, path).unwrap_or_default();
    let head = match text(document, "/entry/record/pillar") {
        Some(pillar) => format!("DENIED at {pillar}"),
        None => some("/entry/record/status").to_uppercase(),
    };
    let leaf = text(document, "/entry/index").map(|index| format!("   leaf {index}"));
    let (at, receipt) = (some("/entry/record/timestamp"), some("/entry/receipt"));
    let leaf = leaf.unwrap_or_default();
    let mut lines = vec![format!("{head}  {at}   receipt {receipt}{leaf}")];
    let named = facts(document).into_iter().chain(nearest(document));
    lines.extend(named.map(|(name, value)| format!("{name:<7} {value}")));
    for pillar in array(document, "/explanation/pillars") {
        let holds = pillar.get("holds").and_then(Value::as_bool) == Some(true);
        let mark = if holds { "✔" } else { "✘" };
        let of = |path: &str| text(pillar, path).unwrap_or_default();
        lines.push(format!("{mark} {:<24} {}", of("/pillar"), of("/text")));
    }
    lines.join("\n")
}

/// Who asked what, and why it came out so.
fn facts(document: &Value) -> Vec<(&'static str, String)> {
    let of = |path: &str| text(document, &format!("/entry/record/{path}"));
    let after = |path: &str, before: &str, end: &str| {
        of(path)
            .map(|it| format!("{before}{it}{end}"))
            .unwrap_or_default()
    };
    let subject = after("principal/on_behalf_of", " for ", "");
    let asked = after("resource/id", " ", "");
    let code = after("code", " (", ")");
    let facts = [
        ("who", of("principal/id").map(|it| it + &subject)),
        ("asked", of("action").map(|it| it + &asked)),
        ("why", of("reason").map(|it| it + &code)),
        ("by", of("way")),
    ];
    facts
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

/// The rules that come close, and what would let it through.
fn nearest(document: &Value) -> Vec<(&'static str, String)> {
    let file = text(document, "/configuration").unwrap_or_default();
    let near = array(document, "/explanation/near").iter().map(|near| {
        let of = |path: &str| text(near, path).unwrap_or_default();
        (
            "near",
            format!(
                "{}   {file} line {}: {}",
                of("/rule"),
                of("/place/line"),
                of("/hint")
            ),
        )
    });
    let fix = text(document, "/explanation/to_allow").map(|it| ("fix", format!("add {it}")));
    near.chain(fix).collect()
}

/// What is there, made harmless for a terminal.
fn text(document: &Value, path: &str) -> Option<String> {
    match document.pointer(path)? {
        Value::Null => None,
        Value::String(text) => Some(harmless(text)),
        other => Some(harmless(&other.to_string())),
    }
}

fn array<'a>(document: &'a Value, path: &str) -> &'a [Value] {
    document
        .pointer(path)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
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
