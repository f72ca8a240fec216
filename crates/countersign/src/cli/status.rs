//! `status` and `version`.

use super::args::Globals;
use super::ui::Answer;
use super::ui::Style;
use super::ui::Ui;
use crate::operate::Failure;
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
        format!(
            "revision   {}, epoch {}",
            status.revision.short(),
            status.epoch
        ),
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
    let document = serde_json::to_value(&status).map_err(|it| Failure::failed(it.to_string()))?;
    ui.answer(Answer {
        document,
        schema: "countersign.status/v1",
        short: "up",
        text: &lines.join("\n"),
    })
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
