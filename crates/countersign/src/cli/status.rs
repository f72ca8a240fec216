//! `status` and `version`.

use super::args::Globals;
use super::ui::Answer;
use super::ui::Style;
use super::ui::Ui;
use crate::operate::Failure;
use crate::operate::harmless;
use countersign_wire::admin::Drift;
use countersign_wire::admin::FileStatus;
use countersign_wire::admin::Status;
use serde_json::json;

/// `status`.
pub(crate) async fn run(globals: &Globals, ui: &mut Ui<'_>) -> Result<(), Failure> {
    let status: Status = globals.admin().get("/v1/admin/status").await?;
    let environment = if status.dev {
        ui.paint(Style::Bad, "DEVELOPMENT")
    } else {
        "production".to_owned()
    };
    let mut lines = vec![
        format!(
            "{}  {environment}  countersign {}",
            status.trust_domain, status.version
        ),
        format!("since      {}", status.started),
        format!("revision   {}", revision(&status)),
        format!(
            "hops       {} admitted, {} refused, {} open",
            status.admitted, status.refused, status.open
        ),
        format!(
            "log        {} records signed by {}",
            status.log_size, status.log_key
        ),
    ];
    let doors = status
        .listeners
        .iter()
        .map(|(name, at)| format!("door       {name} at {at}"));
    lines.extend(doors);
    lines.extend(status.file.as_ref().map(|it| {
        let text = drift(it);
        let painted = match it.drift {
            Drift::None => text,
            Drift::Differs | Drift::Unreadable => ui.paint(Style::Bad, &text),
        };
        format!("file       {painted}")
    }));
    let document = serde_json::to_value(&status).map_err(|it| Failure::failed(it.to_string()))?;
    ui.answer(Answer {
        document,
        schema: "countersign.status/v1",
        short: "up",
        text: &lines.join("\n"),
    })
}

/// Which, since when, by whom.
fn revision(status: &Status) -> String {
    let since = status.activated.zip(status.activated_by.as_ref());
    let since = since.map(|(at, by)| format!(", since {at} by {}", harmless(by)));
    let (revision, epoch) = (status.revision.short(), status.epoch);
    format!("{revision}{}, epoch {epoch}", since.unwrap_or_default())
}

/// What the file says against what is in force.
fn drift(file: &FileStatus) -> String {
    let path = harmless(&file.path);
    match file.drift {
        Drift::None => format!("{path}, as in force"),
        Drift::Differs => {
            format!("{path} DIFFERS from what is in force; `countersign reload` applies it")
        }
        Drift::Unreadable => format!("{path} CAN'T BE READ; what is in force stays"),
    }
}

/// `version`.
pub(crate) fn version(ui: &mut Ui<'_>) -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    let text = format!("countersign {version}");
    let document = json!({ "version": version });
    ui.answer(Answer {
        document,
        schema: "countersign.version/v1",
        short: version,
        text: &text,
    })
}
