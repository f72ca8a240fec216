//! `change`: what waits for a second person.

use super::args::ChangeArgs;
use super::args::ChangeCommand;
use super::args::Globals;
use super::reload;
use super::ui::Answer;
use super::ui::Ui;
use super::ui::table;
use crate::operate::Failure;
use crate::operate::harmless;
use countersign_server::admin::ShownChange;
use countersign_server::reload::Pending;
use countersign_server::reload::Reloaded;
use serde_json::json;

/// `change`.
pub(crate) async fn run(
    args: ChangeArgs,
    globals: &Globals,
    ui: &mut Ui<'_>,
) -> Result<(), Failure> {
    match args.command {
        ChangeCommand::Ls => list(globals, ui).await,
        ChangeCommand::Show(it) => show(&path(&it.id, "")?, globals, ui).await,
        ChangeCommand::Approve(it) => {
            let path = path(&it.id, "/approve")?;
            let done: Reloaded = globals.admin().post(&path, &json!({})).await?;
            reload::answer(&done, ui)
        }
        ChangeCommand::Deny(it) => {
            let path = path(&it.id, "/deny")?;
            let denied: Pending = globals.admin().post(&path, &json!({})).await?;
            let document = serde_json::to_value(&denied);
            ui.answer(Answer {
                document: document.map_err(|it| Failure::failed(it.to_string()))?,
                schema: "countersign.change/v1",
                short: &denied.id,
                text: &format!("{} is denied and will never be in force", denied.id),
            })
        }
    }
}

/// Where a change is; what could lead elsewhere is no name of one.
fn path(id: &str, verb: &str) -> Result<String, Failure> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if id.is_empty() || !id.chars().all(plain) {
        return Err(Failure::usage(format!(
            "`{id}` is no change such as `c-1f2e3d4c5b6a`"
        )));
    }
    Ok(format!("/v1/admin/change/{id}{verb}"))
}

async fn list(globals: &Globals, ui: &mut Ui<'_>) -> Result<(), Failure> {
    let changes: Vec<Pending> = globals.admin().get("/v1/admin/change").await?;
    let rows = changes.iter().map(|it| {
        vec![
            it.id.clone(),
            it.state.clone(),
            it.requested_by.clone(),
            it.requested.to_string(),
            format!("{} -> {}", it.base.short(), it.revision.short()),
        ]
    });
    let rows: Vec<_> = rows.collect();
    let ids: Vec<_> = changes.iter().map(|it| it.id.as_str()).collect();
    ui.answer(Answer {
        document: json!({ "changes": changes }),
        schema: "countersign.changes/v1",
        short: &ids.join("\n"),
        text: &table(&["CHANGE", "STATE", "BY", "ASKED FOR", "REVISIONS"], &rows),
    })
}

async fn show(path: &str, globals: &Globals, ui: &mut Ui<'_>) -> Result<(), Failure> {
    let shown: ShownChange = globals.admin().get(path).await?;
    let change = &shown.change;
    let mut lines = vec![format!(
        "{}  {}  {} -> {}, asked for by {} at {}",
        change.id,
        change.state,
        change.base.short(),
        change.revision.short(),
        change.requested_by,
        change.requested
    )];
    for change in &shown.difference.changes {
        let (sign, noun) = (change.kind.sign(), change.section.noun());
        lines.push(format!("  {sign} {noun} {}", harmless(&change.name)));
    }
    lines.extend(
        change
            .loosens
            .iter()
            .map(|it| format!("  loosens {}", harmless(it))),
    );
    for test in &shown.difference.tests_removed {
        lines.push(format!("  test removed: {}", harmless(test)));
    }
    for test in &shown.difference.tests_weakened {
        lines.push(format!("  test weakened: {}", harmless(test)));
    }
    if change.state == "pending" {
        let others = change.others.join(", ");
        lines.push(format!("until {}, by one of: {others}", change.ends));
    }
    let document = serde_json::to_value(&shown).map_err(|it| Failure::failed(it.to_string()))?;
    ui.answer(Answer {
        document,
        schema: "countersign.change/v1",
        short: &change.id,
        text: &lines.join("\n"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_nowhere_else() {
        assert_eq!(
            path("c-1f2e", "/deny").unwrap(),
            "/v1/admin/change/c-1f2e/deny"
        );
        for bad in ["", "../secret/x", "c-1/approve?", "c 1"] {
            assert!(path(bad, "").is_err(), "{bad}");
        }
    }
}
