//! `reload`: another configuration in place of the one in force, or nothing at all.

use super::args::Globals;
use super::check;
use super::ui::Answer;
use super::ui::Ui;
use crate::boot;
use crate::boot::Bundle;
use crate::boot::DiskFiles;
use crate::operate::Admin;
use crate::operate::Failure;
use countersign_core::config::Options;
use countersign_core::config::load;
use countersign_server::admin::Reload;
use countersign_server::reload::Reloaded;
use std::path::Path;

/// `reload`.
pub(crate) async fn run(globals: &Globals, ui: &mut Ui<'_>) -> Result<(), Failure> {
    let path = check::file(globals)?;
    let done = put(&path, false, &globals.admin(), ui).await?;
    let document = serde_json::to_value(&done).map_err(|it| Failure::failed(it.to_string()))?;
    let (short, text) = (done.revision.to_string(), told(&done));
    ui.answer(Answer {
        document,
        schema: "countersign.reload/v1",
        short: &short,
        text: &text,
    })
}

/// Checks a file and puts it in force. The server checks it again: it trusts nobody's check.
pub(crate) async fn put(
    path: &Path,
    dev: bool,
    admin: &Admin,
    ui: &mut Ui<'_>,
) -> Result<Reloaded, Failure> {
    let options = Options { dev, strict: false };
    let loaded = load(&DiskFiles, &path.display().to_string(), &options);
    let (config, sources) = check::require(loaded, ui)?;
    let Bundle { entry, files, .. } = boot::bundle(&config, &sources, None, false);
    admin
        .post("/v1/admin/reload", &Reload { entry, files })
        .await
}

/// What a reload changed, in a line.
pub(crate) fn told(done: &Reloaded) -> String {
    let removed = if done.tests_removed.is_empty() {
        String::new()
    } else {
        format!("; tests removed: {}", done.tests_removed.join(", "))
    };
    let (from, to) = (done.previous.short(), done.revision.short());
    format!(
        "{from} -> {to}, {} tests hold, {} open streams ended{removed}",
        done.tests, done.ended
    )
}
