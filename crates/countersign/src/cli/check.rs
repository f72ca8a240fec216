//! `check`: is the configuration sound, and do its sentences hold?

use super::args::CheckArgs;
use super::args::Globals;
use super::ui::Answer;
use super::ui::Style;
use super::ui::Ui;
use super::ui::table;
use crate::boot;
use crate::operate::Failure;
use countersign_core::config::Config;
use countersign_core::config::Diagnostic;
use countersign_core::config::Expectation;
use countersign_core::config::Loaded;
use countersign_core::config::Member;
use countersign_core::config::Needs;
use countersign_core::config::Options;
use countersign_core::config::Place;
use countersign_core::config::Role;
use countersign_core::config::Severity;
use countersign_core::config::Sources;
use countersign_core::config::Span;
use countersign_core::config::Test;
use countersign_core::config::codes;
use countersign_core::config::load;
use countersign_core::config::render_all;
use countersign_core::config::to_json;
use countersign_core::proving::Judgement;
use countersign_core::proving::Proved;
use countersign_core::proving::prove_all;
use countersign_core::snapshot::Revocations;
use countersign_core::snapshot::Snapshot;
use countersign_core::snapshot::State;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::Permission;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

/// What came of checking a configuration.
pub(crate) struct Checked {
    /// Sentences that hold, and all that could be judged.
    pub(crate) held: usize,
    pub(crate) loaded: Loaded,
    pub(crate) tests: usize,
}

impl Checked {
    /// Whether it may be used.
    pub(crate) fn is_sound(&self) -> bool {
        self.loaded.config.is_some() && self.loaded.errors().next().is_none()
    }
}

/// The configuration file that a command is about.
pub(crate) fn file(globals: &Globals) -> Result<PathBuf, Failure> {
    boot::find(globals.config.as_deref()).map_err(|error| {
        Failure::usage(error.to_string())
            .with_help("make one with `countersign init`, or name one with `-c FILE`")
    })
}

/// Runs the sentences of a configuration; a broken one becomes an error of it.
pub(crate) fn check(mut loaded: Loaded) -> Checked {
    let Some(config) = loaded.config.clone() else {
        return Checked {
            held: 0,
            loaded,
            tests: 0,
        };
    };
    let mut bundle = boot::bundle(&config, &loaded.sources, None, false);
    // No authority is asked here: the callers of the sentences have certificates of this root.
    bundle.roots = vec![Digest::new([1; 32])];
    let snapshot = Arc::new(Snapshot::new(bundle, config));
    let state = State {
        revocations: Arc::new(Revocations::default()),
        snapshot,
    };
    let proved = prove_all(&state);
    let failed = proved
        .iter()
        .filter(|(_, proved)| proved.outcome != Judgement::Holds);
    let failed: Vec<_> = failed
        .map(|(test, proved)| broken(test, proved, &loaded.sources))
        .collect();
    let (tests, held) = (proved.len(), proved.len() - failed.len());
    loaded.diagnostics.extend(failed);
    Checked {
        held,
        loaded,
        tests,
    }
}

/// `check`.
pub(crate) fn run(args: &CheckArgs, globals: &Globals, ui: &mut Ui<'_>) -> Result<(), Failure> {
    let path = file(globals)?;
    let options = Options {
        dev: args.dev,
        strict: args.strict,
    };
    let checked = check(load(
        &boot::DiskFiles,
        &path.display().to_string(),
        &options,
    ));
    let sound = checked.is_sound();
    if ui.is_document() {
        document(&checked, args, ui)?;
    } else {
        show(&checked, ui);
        if let (true, true, Some(config)) = (sound, args.explain, &checked.loaded.config) {
            ui.print(&permissions(config))?;
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
        parts.push(format!(
            "{} of {} hold",
            checked.held,
            of(checked.tests, "test")
        ));
    } else {
        parts.push("tests not run".to_owned());
    }
    parts.join(", ")
}

fn document(checked: &Checked, args: &CheckArgs, ui: &mut Ui<'_>) -> Result<(), Failure> {
    let loaded = &checked.loaded;
    let mut document = to_json(&loaded.diagnostics, &loaded.sources);
    if let serde_json::Value::Object(members) = &mut document {
        members.insert("sound".to_owned(), checked.is_sound().into());
        let tests = serde_json::json!({ "held": checked.held, "judged": checked.tests });
        members.insert("tests".to_owned(), tests);
        if let (true, Some(config)) = (args.explain, &loaded.config) {
            let head = ["who", "via", "may", "because"];
            let rows = rows(config).into_iter().map(|row| {
                let named = head
                    .iter()
                    .map(|it| (*it).to_owned())
                    .zip(row.into_iter().map(Into::into));
                serde_json::Value::Object(named.collect())
            });
            members.insert("permissions".to_owned(), rows.collect());
        }
    }
    ui.answer(Answer {
        document,
        schema: "countersign.check/v1",
        short: "",
        text: "",
    })
}

/// A sentence that does not hold, at the place where it says what it expects.
fn broken(test: &Test, proved: &Proved, sources: &Sources) -> Diagnostic {
    let expected = match test.expect {
        Expectation::Allow => "allow".to_owned(),
        Expectation::Deny(pillar) => format!("deny {pillar}"),
        Expectation::NeedsApproval => "needs-approval".to_owned(),
    };
    let place = span(test.expect_place, sources);
    if proved.outcome == Judgement::Undecided {
        let message = format!("test undecided: {}", test.name);
        return Diagnostic::warning(codes::TEST_UNDECIDED, place, message)
            .label(proved.reason.clone())
            .help("it is not counted as passed; use a build that has this part");
    }
    let got = match proved.got {
        None => "allow".to_owned(),
        Some(code) => format!("deny {} ({code})", Code::pillar(code)),
    };
    let message = format!("test failed: {}", test.name);
    Diagnostic::error(codes::TEST_FAILED, place, message)
        .label(format!("expected {expected}, got {got}"))
        .help(proved.reason.clone())
}

/// The word at a place.
fn span(place: Place, sources: &Sources) -> Span {
    let text = sources.text(place.file);
    let line = usize::try_from(place.line).unwrap_or(1).saturating_sub(1);
    let start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let rest = text.get(start..).unwrap_or_default();
    let column = usize::try_from(place.column).unwrap_or(1).saturating_sub(1);
    let before: usize = rest.chars().take(column).map(char::len_utf8).sum();
    let value = rest.get(before..).unwrap_or_default();
    let end = value
        .find(['\n', '\r', ',', '}', '#'])
        .unwrap_or(value.len());
    let value = value.get(..end).unwrap_or_default().trim_end();
    Span::new(place.file, start + before..start + before + value.len())
}

fn permissions(config: &Config) -> String {
    let rows = rows(config);
    if rows.is_empty() {
        return "nobody may do anything".to_owned();
    }
    table(&["WHO", "VIA", "MAY", "BECAUSE (line)"], &rows)
}

/// Who may do what, and because of which lines.
fn rows(config: &Config) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for edge in &config.edges {
        let Some(service) = config.services.get(&edge.to) else {
            rows.extend(edge.operations.iter().map(|operation| {
                let may = format!("{operation} {}", edge.to);
                row(
                    edge.from.as_str(),
                    "-",
                    may,
                    format!("edge {}", edge.place.line),
                )
            }));
            continue;
        };
        for rule in &service.operations {
            let pattern = rule.pattern.as_ref();
            let asked = edge
                .operations
                .iter()
                .filter(|it| pattern.is_none_or(|own| own.overlaps(it)));
            for operation in asked {
                let may = format!("{operation} {}", edge.to);
                let because = format!("edge {}, operation {}", edge.place.line, rule.place.line);
                match &rule.needs {
                    Needs::Edge => rows.push(row(edge.from.as_str(), "-", may, because)),
                    Needs::Permission(permission) => {
                        rows.extend(holders(config, permission).into_iter().filter_map(|it| {
                            let (who, via) = by(&it.0, &edge.from, config)?;
                            let because = format!("{because}, {permission}, role {}", it.1);
                            Some(row(&who, &via, may.clone(), because))
                        }));
                    }
                }
            }
        }
    }
    rows
}

fn row(who: &str, via: &str, may: String, because: String) -> Vec<String> {
    vec![who.to_owned(), via.to_owned(), may, because]
}

/// Who calls by an edge: people by a door or a workload that acts for them, a workload for itself.
fn by(member: &Member, from: &Name, config: &Config) -> Option<(String, String)> {
    match member {
        Member::Identity(name) if name == from => Some((name.to_string(), "-".to_owned())),
        Member::Identity(_) => None,
        person => {
            let known = config.listeners.contains_key(from) || config.identities.contains_key(from);
            known.then(|| (person.to_string(), from.to_string()))
        }
    }
}

/// Everybody who has a permission, with the role it comes by.
fn holders(config: &Config, permission: &Permission) -> BTreeSet<(Member, Name)> {
    let mut holders = BTreeSet::new();
    for (name, role) in &config.roles {
        if grants(config, role, permission, 0) {
            holders.extend(
                role.members
                    .iter()
                    .map(|member| (member.clone(), name.clone())),
            );
        }
    }
    holders
}

/// Roles include each other to a depth that the language bounds.
const MAX_DEPTH: u8 = 32;

fn grants(config: &Config, role: &Role, permission: &Permission, depth: u8) -> bool {
    role.may.contains(permission)
        || (depth < MAX_DEPTH
            && role
                .includes
                .iter()
                .filter_map(|name| config.roles.get(name))
                .any(|included| grants(config, included, permission, depth + 1)))
}

/// Loads and checks a configuration that is about to be used, or says why it can't be.
pub(crate) fn require(loaded: Loaded, ui: &mut Ui<'_>) -> Result<(Config, Sources), Failure> {
    let mut checked = check(loaded);
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
