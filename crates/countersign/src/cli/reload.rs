//! `reload`: another configuration in place of the one in force, or nothing at all.

use super::args::Globals;
use super::args::ReloadArgs;
use super::check;
use super::ui::Answer;
use super::ui::Ui;
use crate::boot;
use crate::boot::Bundle;
use crate::boot::DiskFiles;
use crate::operate::Failure;
use crate::operate::harmless;
use countersign_core::config::Options;
use countersign_core::config::load;
use countersign_server::admin::Reload;
use countersign_server::reload::Reloaded;
use std::path::Path;

/// `reload`.
pub(crate) async fn run(
    args: &ReloadArgs,
    globals: &Globals,
    ui: &mut Ui<'_>,
) -> Result<(), Failure> {
    let path = check::file(globals)?;
    let request = read(&path, false, args.dry_run, ui)?;
    let done: Reloaded = globals.admin().post("/v1/admin/reload", &request).await?;
    answer(&done, ui)
}

/// Says what a reload did.
pub(crate) fn answer(done: &Reloaded, ui: &mut Ui<'_>) -> Result<(), Failure> {
    let document = serde_json::to_value(done).map_err(|it| Failure::failed(it.to_string()))?;
    let (short, text) = (done.revision.to_string(), told(done));
    ui.answer(Answer {
        document,
        schema: "countersign.reload/v1",
        short: &short,
        text: &text,
    })
}

/// Checks a file that is to be put in force. The server checks it again: it trusts nobody's check.
pub(crate) fn read(
    path: &Path,
    dev: bool,
    dry_run: bool,
    ui: &mut Ui<'_>,
) -> Result<Reload, Failure> {
    let options = Options { dev, strict: false };
    let loaded = load(&DiskFiles, &path.display().to_string(), &options);
    let (config, sources) = check::require(loaded, ui)?;
    let Bundle { entry, files, .. } = boot::bundle(&config, &sources, None, false);
    Ok(Reload {
        dry_run,
        entry,
        files,
    })
}

/// What a reload changed, in a few lines.
pub(crate) fn told(done: &Reloaded) -> String {
    let (from, to) = (done.previous.short(), done.revision.short());
    if done.previous == done.revision {
        return format!("nothing to do: {from} is in force");
    }
    let mut lines = vec![if done.dry_run {
        format!(
            "{from} -> {to} would be put in force, {} tests hold",
            done.tests
        )
    } else {
        format!(
            "{from} -> {to}, {} tests hold, {} open streams ended",
            done.tests, done.ended
        )
    }];
    let difference = &done.difference;
    for finding in &difference.loosens {
        let (noun, what) = (finding.section.noun(), harmless(&finding.what));
        lines.push(format!(
            "  loosens {noun} {}: {what}",
            harmless(&finding.name)
        ));
    }
    for (what, tests) in [
        ("tests removed", &difference.tests_removed),
        ("tests weakened", &difference.tests_weakened),
    ] {
        if !tests.is_empty() {
            lines.push(format!("  {what}: {}", harmless(&tests.join(", "))));
        }
    }
    if done.needs_approval {
        lines.push("  a second person would have to approve it".to_owned());
    }
    lines.join("\n")
}
