//! `explain`: the page of a code or key, or the story of a record.

use super::args::ExplainArgs;
use super::args::Globals;
use super::pages;
use super::ui::Answer;
use super::ui::Ui;
use crate::operate::Failure;
use crate::operate::harmless;
use countersign_ledger::ReceiptPrefix;
use serde_json::Value;

/// `explain`.
pub(crate) async fn run(
    args: &ExplainArgs,
    globals: &Globals,
    ui: &mut Ui<'_>,
) -> Result<(), Failure> {
    let what = args.what.trim();
    if let Some(shown) = pages::show(what, ui) {
        return shown;
    }
    if what.parse::<ReceiptPrefix>().is_ok() {
        return record(what, globals, ui).await;
    }
    Err(pages::nothing(what))
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
        None => "ADMITTED".to_owned(),
    };
    let leaf = text(document, "/entry/index").map(|index| format!("   leaf {index}"));
    let (at, receipt) = (some("/entry/record/timestamp"), some("/entry/receipt"));
    let leaf = leaf.unwrap_or_default();
    let mut lines = vec![format!("{head}  {at}   receipt {receipt}{leaf}")];
    let named = facts(document).into_iter().chain(ended(document));
    let named = named.chain(nearest(document));
    lines.extend(named.map(|(name, value)| format!("{name:<7} {value}")));
    lines.extend(remedy(document));
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

/// What became of it, where its completion is there: to be admitted is not to be answered.
fn ended(document: &Value) -> Option<(&'static str, String)> {
    let Some(receipt) = text(document, "/ended/receipt") else {
        let admitted = text(document, "/entry/record/pillar").is_none();
        let unknown = "unknown: it is still open, or its record is not near this one in the log";
        return admitted.then(|| ("ended", unknown.to_owned()));
    };
    let of = |path: &str| text(document, &format!("/ended/record/completion/{path}"));
    let status = of("status").filter(|it| it != "0");
    let parts = [
        of("ending"),
        of("code"),
        status.map(|it| format!("status {it}")),
        of("upstream").map(|it| format!("upstream {it}")),
        of("attempts").map(|it| format!("attempts {it}")),
        of("duration_us").map(|it| format!("{it} µs")),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    Some(("ended", format!("{}   receipt {receipt}", parts.join(", "))))
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
    let tried = document.pointer("/remedy").is_some_and(|it| !it.is_null());
    let fix = text(document, "/explanation/to_allow").filter(|_| !tried);
    let fix = fix.map(|it| ("fix", format!("add {it}")));
    near.chain(fix).collect()
}

/// What would let it through, which was tried, and what that breaks.
fn remedy(document: &Value) -> Option<String> {
    let add = text(document, "/remedy/add")?;
    let place = text(document, "/remedy/to/line").filter(|it| it != "0");
    let place = place.map(|line| format!(" (line {line})"));
    let names: Vec<_> = array(document, "/remedy/breaks")
        .iter()
        .filter_map(Value::as_str)
        .map(|name| format!("\"{}\"", harmless(name)))
        .collect();
    let then = match names.as_slice() {
        [] => "no test fails then".to_owned(),
        [one] => format!("then test {one} fails"),
        several => format!("then tests {} fail", several.join(", ")),
    };
    let still = text(document, "/remedy/then");
    let still = still.map(|code| format!("; it would still be refused with {code}"));
    Some(format!(
        "to allow, add:   {add}{}     {then}{}",
        place.unwrap_or_default(),
        still.unwrap_or_default()
    ))
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
