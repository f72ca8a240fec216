//! `diff`: what another configuration would change, and whether it allows more.

use super::args::DiffArgs;
use super::args::Globals;
use super::check;
use super::ui::Answer;
use super::ui::Style;
use super::ui::Ui;
use crate::boot;
use crate::operate::Admin;
use crate::operate::Failure;
use crate::operate::harmless;
use countersign_core::change::Change;
use countersign_core::change::Difference;
use countersign_core::change::Key;
use countersign_core::change::Kind;
use countersign_core::change::difference;
use countersign_core::config::Config;
use countersign_core::config::Environment;
use countersign_core::config::Files;
use countersign_core::config::Options;
use countersign_core::config::Sources;
use countersign_core::config::load;
use countersign_core::config::render_all;
use countersign_core::snapshot::Bundle;
use countersign_core::vocabulary::Digest;
use countersign_server::admin::Configuration;
use serde_json::Value;
use serde_json::json;
use std::path::Path;

/// One of two configurations that are compared.
pub(crate) struct Side {
    pub(crate) config: Config,
    /// Its file, or its revision.
    pub(crate) name: String,
    pub(crate) revision: Option<Digest>,
    pub(crate) sources: Sources,
}

impl Side {
    /// A file. Its tests need not hold.
    pub(crate) fn file(path: &Path, dev: bool, ui: &mut Ui<'_>) -> Result<Self, Failure> {
        let name = path.display().to_string();
        Self::read(&boot::DiskFiles, &name, dev).map_err(|text| {
            ui.warn(&text);
            Failure::Check(format!("`{name}` has errors"))
        })
    }

    /// What is in force, or what was under a revision.
    pub(crate) async fn running(admin: &Admin, revision: Option<&str>) -> Result<Self, Failure> {
        let path = match revision {
            None => "/v1/admin/configuration".to_owned(),
            Some(revision) => format!("/v1/admin/configuration/{revision}"),
        };
        let Configuration {
            dev,
            entry,
            files,
            revision,
        } = admin.get(&path).await?;
        let bundle = Bundle {
            dev,
            entry,
            files,
            ..Bundle::default()
        };
        let side = Self::read(&bundle, &bundle.entry, dev).map_err(|_| {
            let short = revision.short();
            Failure::failed(format!("revision {short} can't be read by this version"))
        })?;
        Ok(Self {
            name: format!("rev {}", revision.short()),
            revision: Some(revision),
            ..side
        })
    }

    fn read(files: &dyn Files, entry: &str, dev: bool) -> Result<Self, String> {
        let options = Options { dev, strict: false };
        let loaded = load(files, entry, &options);
        match loaded.config {
            Some(config) => Ok(Self {
                config,
                name: entry.to_owned(),
                revision: None,
                sources: loaded.sources,
            }),
            None => Err(render_all(&loaded.diagnostics, &loaded.sources, false)),
        }
    }

    fn is_dev(&self) -> bool {
        self.config.environment == Environment::Dev
    }

    fn told(&self) -> Value {
        let files: Vec<_> = self.sources.files().map(|(name, _)| name).collect();
        json!({ "files": files, "name": self.name, "revision": self.revision })
    }
}

/// `diff`.
pub(crate) async fn run(
    args: &DiffArgs,
    globals: &Globals,
    ui: &mut Ui<'_>,
) -> Result<(), Failure> {
    let before = against(args, globals, ui).await?;
    let path = match &args.file {
        Some(path) => path.clone(),
        None => check::file(globals)?,
    };
    let after = Side::file(&path, args.dev || before.is_dev(), ui)?;
    let difference = difference(&before.config, &after.config);
    let document = json!({
        "after": after.told(), "before": before.told(), "difference": difference,
        "loosens": difference.allows_more(), "same": difference.is_empty(),
        "summary": difference.summary(),
    });
    let text = told(&difference, &before, &after, ui);
    ui.answer(Answer {
        document,
        schema: "countersign.diff/v1",
        short: &difference.summary(),
        text: &text,
    })?;
    warn(&difference, &after, ui);
    if args.exit_code && !difference.is_empty() {
        return Err(Failure::Check(difference.summary()));
    }
    Ok(())
}

/// What it is compared with: a word, the digits of a revision, or else a file.
async fn against(args: &DiffArgs, globals: &Globals, ui: &mut Ui<'_>) -> Result<Side, Failure> {
    let asked = args.against.as_str();
    let digits = asked.len() >= 8 && asked.bytes().all(|it| it.is_ascii_hexdigit());
    if asked == "running" {
        return Side::running(&globals.admin(), None).await;
    }
    if digits && !Path::new(asked).exists() {
        return Side::running(&globals.admin(), Some(asked)).await;
    }
    Side::file(Path::new(asked), args.dev, ui)
}

fn told(difference: &Difference, before: &Side, after: &Side, ui: &Ui<'_>) -> String {
    let head = format!("{} -> {}", before.name, after.name);
    if difference.is_empty() {
        return format!("{head}: no difference");
    }
    let mut lines = vec![head];
    for change in &difference.changes {
        lines.push(entry(change, before, after, ui));
        let keys = change.keys.iter();
        let width = keys.clone().map(|it| it.key.len()).max().unwrap_or(0);
        lines.extend(keys.map(|it| key(it, change.kind, width)));
    }
    lines.push(difference.summary());
    lines.join("\n")
}

fn entry(change: &Change, before: &Side, after: &Side, ui: &Ui<'_>) -> String {
    let place = match (change.after, change.before) {
        (Some(place), _) => Some((place, after)),
        (None, Some(place)) => Some((place, before)),
        (None, None) => None,
    };
    let at = place
        .filter(|(place, _)| place.line > 0)
        .map(|(place, side)| format!("   {}:{}", side.sources.name(place.file), place.line));
    let style = match change.kind {
        Kind::Added => Style::Good,
        Kind::Changed => Style::Bold,
        Kind::Removed => Style::Bad,
    };
    let head = format!(
        "{} {} {}",
        change.kind.sign(),
        change.section,
        harmless(&change.name)
    );
    let effect = if change.effect.loosens {
        "   allows more"
    } else {
        ""
    };
    format!(
        "{}{effect}{}",
        ui.paint(style, &head),
        at.map(|it| harmless(&it)).unwrap_or_default()
    )
}

fn key(key: &Key, kind: Kind, width: usize) -> String {
    let of = |text: &Option<String>| match text {
        Some(text) => harmless(text),
        None => "(nothing)".to_owned(),
    };
    let text = match kind {
        Kind::Added => of(&key.after),
        Kind::Removed => of(&key.before),
        Kind::Changed if key.before == key.after => format!("{} (other contents)", of(&key.after)),
        Kind::Changed => format!("{} -> {}", of(&key.before), of(&key.after)),
    };
    format!("    {:width$}  {text}", key.key)
}

/// What somebody should look at twice.
fn warn(difference: &Difference, after: &Side, ui: &mut Ui<'_>) {
    let label = ui.paint_err(Style::Bad, "warning");
    if difference.allows_more() {
        let count = difference.loosens.len();
        let noun = if count == 1 {
            "change allows"
        } else {
            "changes allow"
        };
        ui.warn(&format!("{label}: {count} {noun} more than before"));
        for finding in &difference.loosens {
            let line = if finding.place.line == 0 {
                String::new()
            } else {
                format!(" (line {})", check::line(finding.place, &after.sources))
            };
            ui.warn(&format!(
                "  {} {}: {}{line}",
                finding.section,
                harmless(&finding.name),
                harmless(&finding.what)
            ));
        }
    }
    for (what, tests) in [
        ("removed", &difference.tests_removed),
        ("weakened or changed", &difference.tests_weakened),
    ] {
        if !tests.is_empty() {
            let names: Vec<_> = tests.iter().map(|it| harmless(it)).collect();
            ui.warn(&format!("{label}: tests {what}: {}", names.join("; ")));
        }
    }
}
