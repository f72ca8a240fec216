//! `policy`: one question to the policy, and its tests by themselves.

use super::args::EvalArgs;
use super::args::Globals;
use super::args::PolicyArgs;
use super::args::PolicyCommand;
use super::args::PolicyTestArgs;
use super::check;
use super::check::Tests;
use super::ui::Answer;
use super::ui::Style;
use super::ui::Ui;
use crate::boot;
use crate::operate::Failure;
use crate::operate::harmless;
use countersign_client::AccessDenied;
use countersign_client::remedy;
use countersign_core::config::Loaded;
use countersign_core::config::Options;
use countersign_core::config::Sources;
use countersign_core::config::Test;
use countersign_core::config::load;
use countersign_core::config::load_asking;
use countersign_core::config::render_all;
use countersign_core::explain::Explanation;
use countersign_core::explain::explain;
use countersign_core::proving;
use countersign_core::proving::Judgement;
use countersign_core::proving::Proved;
use countersign_core::snapshot::Bundle;
use countersign_core::vocabulary::Pillar;
use countersign_server::admin::Configuration;
use serde_json::Value;
use serde_json::json;

/// `policy`.
pub(crate) async fn run(
    args: &PolicyArgs,
    globals: &Globals,
    ui: &mut Ui<'_>,
) -> Result<(), Failure> {
    match &args.command {
        PolicyCommand::Eval(args) => eval(args, globals, ui).await,
        PolicyCommand::Test(args) => test(args, globals, ui),
    }
}

/// The name of the sentence that a question becomes.
const QUESTION: &str = "the question";

/// The caller is taken to have done everything right, as in the tests of a configuration: what
/// comes out is the policy's answer.
async fn eval(args: &EvalArgs, globals: &Globals, ui: &mut Ui<'_>) -> Result<(), Failure> {
    let sentences = sentence(args)?;
    let loaded = if args.running {
        let Configuration {
            dev, entry, files, ..
        } = globals.admin().get("/v1/admin/configuration").await?;
        let bundle = Bundle {
            dev,
            entry,
            files,
            ..Bundle::default()
        };
        let options = Options { dev, strict: false };
        load_asking(&bundle, &bundle.entry, &options, &sentences)
    } else {
        let path = check::file(globals)?;
        let options = Options {
            dev: args.dev,
            strict: false,
        };
        load_asking(
            &boot::DiskFiles,
            &path.display().to_string(),
            &options,
            &sentences,
        )
    };
    let Some(config) = &loaded.config else {
        return Err(unasked(&loaded, ui));
    };
    let state = check::state(config, &loaded.sources);
    let Some(asked) = config.tests.last() else {
        return Err(Failure::failed("the question got lost"));
    };
    let proved = proving::prove(&state, asked);
    let explained = explain(proving::asked(&state.snapshot, asked), &state);
    let answer = Asked {
        explained: &explained,
        proved: &proved,
        sources: &loaded.sources,
    };
    ui.answer(Answer {
        document: answer.document(),
        schema: "countersign.evaluation/v1",
        short: answer.word(),
        text: &answer.text(ui),
    })?;
    match proved.got {
        None => Ok(()),
        Some(code) => Err(AccessDenied {
            pillar: code.pillar(),
            code: Some(code),
            receipt: None,
            fix: remedy(code.pillar(), Some(code)),
        }
        .into()),
    }
}

/// The question as a sentence of `tests`; JSON is YAML.
fn sentence(args: &EvalArgs) -> Result<String, Failure> {
    let mut fields = serde_json::Map::new();
    fields.insert("as".to_owned(), args.subject.as_str().into());
    if let Some(via) = &args.via {
        fields.insert("via".to_owned(), via.as_str().into());
    }
    fields.insert("call".to_owned(), args.call.as_str().into());
    let mut with = serde_json::Map::new();
    for given in &args.with {
        let Some((name, value)) = given.split_once('=') else {
            let text = format!("`--with {given}` is not `NAME=VALUE`");
            return Err(Failure::usage(text).with_help("such as `--with model=gpt-4o`"));
        };
        let read = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        with.insert(name.to_owned(), read);
    }
    if !with.is_empty() {
        fields.insert("with".to_owned(), with.into());
    }
    fields.insert("expect".to_owned(), "allow".into());
    Ok(json!({ QUESTION: fields }).to_string())
}

/// Something is wrong with the configuration, or with the question.
fn unasked(loaded: &Loaded, ui: &mut Ui<'_>) -> Failure {
    let errors: Vec<_> = loaded.errors().cloned().collect();
    ui.warn(&render_all(&errors, &loaded.sources, ui.colour_err()));
    let of_question = |it: &countersign_core::config::Diagnostic| {
        loaded.sources.name(it.span().file) == "command line"
    };
    if errors.iter().all(of_question) {
        Failure::usage("that is no question to this configuration")
    } else {
        Failure::Check("the configuration has errors".to_owned())
    }
}

struct Asked<'a> {
    explained: &'a Explanation,
    proved: &'a Proved,
    sources: &'a Sources,
}

impl Asked<'_> {
    const fn word(&self) -> &'static str {
        match (self.proved.got, self.proved.outcome) {
            (_, Judgement::Undecided) => "undecided",
            (None, _) => "allow",
            (Some(_), _) => "deny",
        }
    }

    /// The six lines. A way that has no edge is refused before the call itself is asked.
    fn lines(&self) -> Vec<(Pillar, Option<bool>, String)> {
        let of_call = self.explained.pillars.iter();
        let mut lines: Vec<_> = of_call
            .map(|line| (line.pillar, Some(line.holds), line.text.clone()))
            .collect();
        if let Some(code) = self
            .proved
            .got
            .filter(|it| Some(*it) != self.explained.code)
        {
            lines.retain(|(pillar, ..)| *pillar < code.pillar());
            lines.push((code.pillar(), Some(false), self.proved.reason.clone()));
        }
        for pillar in Pillar::ALL {
            if !lines.iter().any(|(it, ..)| *it == pillar) {
                let text = if pillar == Pillar::Audit {
                    "a question leaves no record"
                } else {
                    "not asked any more"
                };
                lines.push((pillar, None, text.to_owned()));
            }
        }
        lines
    }

    fn text(&self, ui: &Ui<'_>) -> String {
        let mut lines: Vec<_> = self
            .lines()
            .into_iter()
            .map(|(pillar, holds, text)| {
                let mark = match holds {
                    Some(true) => ui.paint(Style::Good, "✔"),
                    Some(false) => ui.paint(Style::Bad, "✘"),
                    None => ui.paint(Style::Dim, "-"),
                };
                format!("{mark} {:<24} {}", pillar.to_string(), harmless(&text))
            })
            .collect();
        for near in &self.proved.rules {
            let line = check::line(near.place, self.sources);
            let hint = harmless(&near.hint);
            lines.push(format!(
                "rule  {}   line {line}: {hint}",
                harmless(&near.rule)
            ));
        }
        lines.push(format!(
            "{}: {}",
            self.word(),
            harmless(&self.proved.reason)
        ));
        lines.join("\n")
    }

    fn document(&self) -> Value {
        let lines = self
            .lines()
            .into_iter()
            .map(|(pillar, holds, text)| json!({ "holds": holds, "pillar": pillar, "text": text }));
        let rules = self.proved.rules.iter().map(|it| {
            json!({
                "file": self.sources.name(it.place.file), "hint": it.hint, "line": it.place.line,
                "rule": it.rule,
            })
        });
        json!({
            "answer": self.word(), "code": self.proved.got, "pillars": lines.collect::<Vec<_>>(),
            "reason": self.proved.reason, "rules": rules.collect::<Vec<_>>(),
        })
    }
}

/// The tests of a configuration, one line each.
fn test(args: &PolicyTestArgs, globals: &Globals, ui: &mut Ui<'_>) -> Result<(), Failure> {
    let path = match &args.file {
        Some(path) => path.clone(),
        None => check::file(globals)?,
    };
    let options = Options {
        dev: args.dev,
        strict: false,
    };
    let loaded = load(&boot::DiskFiles, &path.display().to_string(), &options);
    let Some(config) = &loaded.config else {
        let errors: Vec<_> = loaded.errors().cloned().collect();
        ui.warn(&render_all(&errors, &loaded.sources, ui.colour_err()));
        return Err(Failure::Check("the configuration has errors".to_owned()));
    };
    let state = check::state(config, &loaded.sources);
    let proved = proving::prove_all(&state);
    let tests = Tests::of(&proved);
    let (document, text) = (
        report(&proved, tests, &loaded.sources),
        list(&proved, tests, ui),
    );
    ui.answer(Answer {
        document,
        schema: "countersign.policy-test/v1",
        short: &tests.told(),
        text: &text,
    })?;
    if !ui.is_document() {
        let told = proving::diagnostics(&proved, &loaded.sources);
        if !told.is_empty() {
            let text = render_all(&told, &loaded.sources, ui.colour_err());
            ui.warn(&text);
        }
    }
    if tests.failed > 0 || (args.strict && tests.undecided > 0) {
        return Err(Failure::Check(tests.told()));
    }
    Ok(())
}

const fn word(outcome: Judgement) -> &'static str {
    match outcome {
        Judgement::Holds => "holds",
        Judgement::Fails => "fails",
        Judgement::Undecided => "undecided",
    }
}

fn list(proved: &[(&Test, Proved)], tests: Tests, ui: &Ui<'_>) -> String {
    let mut lines: Vec<_> = proved
        .iter()
        .map(|(test, proved)| {
            let mark = match proved.outcome {
                Judgement::Holds => ui.paint(Style::Good, "✔"),
                Judgement::Fails => ui.paint(Style::Bad, "✘"),
                Judgement::Undecided => ui.paint(Style::Dim, "?"),
            };
            format!(
                "{mark} {:<9} {}",
                word(proved.outcome),
                harmless(&test.name)
            )
        })
        .collect();
    lines.push(tests.told());
    lines.join("\n")
}

fn report(proved: &[(&Test, Proved)], tests: Tests, sources: &Sources) -> Value {
    let each = proved.iter().map(|(test, proved)| {
        json!({
            "code": proved.got, "file": sources.name(test.place.file), "line": test.place.line,
            "name": test.name, "outcome": word(proved.outcome), "reason": proved.reason,
        })
    });
    json!({
        "failed": tests.failed, "held": tests.held, "tests": each.collect::<Vec<_>>(),
        "undecided": tests.undecided,
    })
}
