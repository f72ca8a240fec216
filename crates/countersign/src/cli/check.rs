//! `check`: is the configuration sound, and do its sentences hold?

use super::args::CheckArgs;
use super::args::Globals;
use super::diff::Side;
use super::ui::Answer;
use super::ui::Style;
use super::ui::Ui;
use super::ui::table;
use crate::boot;
use crate::operate::Failure;
use countersign_core::change::Difference;
use countersign_core::change::difference;
use countersign_core::config::Config;
use countersign_core::config::Loaded;
use countersign_core::config::Options;
use countersign_core::config::Place;
use countersign_core::config::Severity;
use countersign_core::config::Sources;
use countersign_core::config::Test;
use countersign_core::config::load;
use countersign_core::config::render_all;
use countersign_core::config::to_json;
use countersign_core::matrix::Filter;
use countersign_core::matrix::Row;
use countersign_core::matrix::rows;
use countersign_core::proving::Judgement;
use countersign_core::proving::Proved;
use countersign_core::proving::diagnostics;
use countersign_core::proving::prove_all;
use countersign_core::snapshot::Revocations;
use countersign_core::snapshot::Snapshot;
use countersign_core::snapshot::State;
use countersign_core::vocabulary::Digest;
use serde_json::Value;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;

/// What came of checking a configuration.
pub(crate) struct Checked {
    pub(crate) loaded: Loaded,
    pub(crate) tests: Tests,
}

/// How many sentences were judged, and what came out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tests {
    pub(crate) failed: usize,
    pub(crate) held: usize,
    pub(crate) undecided: usize,
}

/// Rows of `--explain` that fit on some screens; a program gets more.
const ROWS: usize = 200;
const ROWS_OF_DOCUMENT: usize = 20_000;

impl Checked {
    /// Whether it may be used.
    pub(crate) fn is_sound(&self) -> bool {
        self.loaded.config.is_some() && self.loaded.errors().next().is_none()
    }
}

impl Tests {
    pub(crate) fn of(proved: &[(&Test, Proved)]) -> Self {
        let count = |what: Judgement| proved.iter().filter(|(_, it)| it.outcome == what).count();
        Self {
            failed: count(Judgement::Fails),
            held: count(Judgement::Holds),
            undecided: count(Judgement::Undecided),
        }
    }

    pub(crate) const fn judged(self) -> usize {
        self.failed + self.held + self.undecided
    }

    /// `12 tests: 9 hold, 1 fails, 2 undecided`; `5 of 5 tests hold` if nothing else is to be told.
    pub(crate) fn told(self) -> String {
        let judged = self.judged();
        let noun = if judged == 1 { "test" } else { "tests" };
        if self.held == judged {
            return format!("{judged} of {judged} {noun} hold");
        }
        let mut parts = vec![format!("{} hold", self.held)];
        if self.failed > 0 {
            parts.push(format!("{} fail", self.failed));
        }
        if self.undecided > 0 {
            parts.push(format!("{} undecided", self.undecided));
        }
        format!("{judged} {noun}: {}", parts.join(", "))
    }
}

/// The configuration file that a command is about.
pub(crate) fn file(globals: &Globals) -> Result<PathBuf, Failure> {
    boot::find(globals.config.as_deref()).map_err(|error| {
        Failure::usage(error.to_string())
            .with_help("make one with `countersign init`, or name one with `-c FILE`")
    })
}

/// What the sentences of a configuration are judged on.
pub(crate) fn state(config: &Config, sources: &Sources) -> State {
    let mut bundle = boot::bundle(config, sources, None, false);
    // No authority is asked here: the callers of the sentences have certificates of this root.
    bundle.roots = vec![Digest::new([1; 32])];
    State {
        revocations: Arc::new(Revocations::default()),
        snapshot: Arc::new(Snapshot::new(bundle, config.clone())),
    }
}

/// Runs the sentences of a configuration; one that fails becomes an error of it, and with `strict`
/// so does one that can't be decided.
pub(crate) fn check(mut loaded: Loaded, strict: bool) -> Checked {
    let Some(config) = &loaded.config else {
        return Checked {
            loaded,
            tests: Tests::default(),
        };
    };
    let state = state(config, &loaded.sources);
    let proved = prove_all(&state);
    let mut told = diagnostics(&proved, &loaded.sources);
    if strict {
        told.iter_mut().for_each(|it| it.severity = Severity::Error);
    }
    loaded.diagnostics.extend(told);
    Checked {
        loaded,
        tests: Tests::of(&proved),
    }
}

/// `check`.
pub(crate) async fn run(
    args: &CheckArgs,
    globals: &Globals,
    ui: &mut Ui<'_>,
) -> Result<(), Failure> {
    let path = file(globals)?;
    let options = Options {
        dev: args.dev,
        strict: args.strict,
    };
    let loaded = load(&boot::DiskFiles, &path.display().to_string(), &options);
    let checked = check(loaded, args.strict);
    let sound = checked.is_sound();
    let running = match &checked.loaded.config {
        Some(config) if sound && args.explain => running(config, globals).await,
        _ => None,
    };
    if ui.is_document() {
        document(&checked, args, running.as_ref(), ui)?;
    } else {
        show(&checked, ui);
        if let (true, true, Some(config)) = (sound, args.explain, &checked.loaded.config) {
            ui.print(&permissions(config, &checked.loaded.sources, args))?;
            if let Some(running) = &running {
                ui.print(&running.told())?;
            }
        }
        if sound {
            let mark = ui.paint(Style::Good, "✔");
            ui.print(&format!("{mark} {}: {}", path.display(), summary(&checked)))?;
        }
    }
    if sound {
        Ok(())
    } else {
        Err(Failure::Check(summary(&checked)))
    }
}

/// What is running, compared with a file.
struct Running {
    difference: Difference,
    revision: Digest,
}

impl Running {
    fn told(&self) -> String {
        let rev = self.revision.short();
        if self.difference.is_empty() {
            return format!("vs running (rev {rev}): the same");
        }
        let more = if self.difference.allows_more() {
            "   allows more: see `countersign diff`"
        } else {
            ""
        };
        format!(
            "vs running (rev {rev}): {}{more}   apply with `countersign reload`",
            self.difference.summary()
        )
    }
}

/// The difference to what is running; nothing if nobody answers or tells.
async fn running(config: &Config, globals: &Globals) -> Option<Running> {
    let side = Side::running(&globals.admin(), None).await.ok()?;
    Some(Running {
        difference: difference(&side.config, config),
        revision: side.revision?,
    })
}

/// Writes what was found to standard error, as people read it.
pub(crate) fn show(checked: &Checked, ui: &mut Ui<'_>) {
    let loaded = &checked.loaded;
    if !loaded.diagnostics.is_empty() {
        let text = render_all(&loaded.diagnostics, &loaded.sources, ui.colour_err());
        ui.warn(&text);
    }
}

/// One line.
pub(crate) fn summary(checked: &Checked) -> String {
    let (errors, warnings) = (
        checked.loaded.errors().count(),
        checked.loaded.warnings().count(),
    );
    let of =
        |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let mut parts = vec![of(errors, "error"), of(warnings, "warning")];
    if checked.loaded.config.is_some() {
        parts.push(checked.tests.told());
    } else {
        parts.push("tests not run".to_owned());
    }
    parts.join(", ")
}

fn document(
    checked: &Checked,
    args: &CheckArgs,
    running: Option<&Running>,
    ui: &mut Ui<'_>,
) -> Result<(), Failure> {
    let loaded = &checked.loaded;
    let mut document = to_json(&loaded.diagnostics, &loaded.sources);
    if let Value::Object(members) = &mut document {
        members.insert("sound".to_owned(), checked.is_sound().into());
        let Tests {
            failed,
            held,
            undecided,
        } = checked.tests;
        let tests = json!({
            "failed": failed, "held": held, "judged": checked.tests.judged(), "undecided": undecided,
        });
        members.insert("tests".to_owned(), tests);
        if let (true, Some(config)) = (args.explain, &loaded.config) {
            let found = rows(config, &filter(args), ROWS_OF_DOCUMENT);
            let all = found.rows.iter().map(|row| entry(row, &loaded.sources));
            members.insert("permissions".to_owned(), all.collect());
            members.insert("more".to_owned(), found.more.into());
        }
        if let Some(running) = running {
            let told = json!({
                "difference": running.difference, "revision": running.revision,
            });
            members.insert("running".to_owned(), told);
        }
    }
    ui.answer(Answer {
        document,
        schema: "countersign.check/v1",
        short: "",
        text: "",
    })
}

fn filter(args: &CheckArgs) -> Filter {
    Filter {
        service: args.service.clone(),
        who: args.who.clone(),
    }
}

/// A row for a program.
fn entry(row: &Row, sources: &Sources) -> Value {
    let because = row.because.iter().map(|it| match it.place {
        Some(place) if place.line > 0 => {
            json!({ "file": sources.name(place.file), "line": place.line, "what": it.what })
        }
        _ => json!({ "what": it.what }),
    });
    json!({
        "because": because.collect::<Vec<_>>(), "conditions": row.conditions, "may": row.may_text(),
        "operation": row.operation, "service": row.service, "via": row.via, "who": row.who,
    })
}

/// The table of `--explain`.
fn permissions(config: &Config, sources: &Sources, args: &CheckArgs) -> String {
    let found = rows(config, &filter(args), ROWS);
    if found.rows.is_empty() {
        return "nobody may do anything".to_owned();
    }
    let line = |place| line(place, sources);
    let rows: Vec<_> = found
        .rows
        .iter()
        .map(|row| {
            vec![
                row.who.clone(),
                row.via_text(),
                row.may_text(),
                row.because_text(&line),
            ]
        })
        .collect();
    let mut text = table(&["WHO", "VIA", "MAY", "BECAUSE (line)"], &rows);
    if found.more {
        text.push_str(&format!(
            "\n.. and more than these {ROWS}: ask for some with `--who WHO` or `--service SERVICE`, or for \
             all with `-o json`"
        ));
    }
    text
}

/// The line of a place, with the name of its file if there are several.
pub(crate) fn line(place: Place, sources: &Sources) -> String {
    if place.file == 0 {
        place.line.to_string()
    } else {
        format!("{}:{}", sources.name(place.file), place.line)
    }
}

/// Loads and checks a configuration that is about to be used, or says why it can't be.
pub(crate) fn require(loaded: Loaded, ui: &mut Ui<'_>) -> Result<(Config, Sources), Failure> {
    let mut checked = check(loaded, false);
    let sound = checked.is_sound();
    checked
        .loaded
        .diagnostics
        .retain(|it| it.severity == Severity::Error);
    if !sound {
        show(&checked, ui);
        let text = format!("the configuration can't be used: {}", summary(&checked));
        return Err(Failure::Check(text));
    }
    let Loaded {
        config, sources, ..
    } = checked.loaded;
    config
        .map(|config| (config, sources))
        .ok_or_else(|| Failure::Check(String::new()))
}
