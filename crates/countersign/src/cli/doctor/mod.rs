//! `doctor`: is this installation healthy, and what is to be done where it is not?
//!
//! It looks at what is on disk and, where a server runs, asks it, looks at its metrics, and knocks
//! at each of its doors as a stranger would. It changes nothing, and prints no secret.

mod doors;
mod finding;
mod host;
mod installation;
mod log;
mod running;

use super::args::DoctorArgs;
use super::args::Globals;
use super::scrape::Probe;
use super::ui::Answer;
use super::ui::Style;
use super::ui::Ui;
use crate::operate::Failure;
use finding::Finding;
use finding::State;
use installation::Installation;
use serde_json::json;

/// `doctor`.
pub(crate) async fn run(
    args: &DoctorArgs,
    globals: &Globals,
    ui: &mut Ui<'_>,
) -> Result<(), Failure> {
    countersign_net::install_crypto().map_err(|error| Failure::failed(error.to_string()))?;
    let (installation, mut findings) = Installation::find(globals);
    findings.extend(installation.files());
    findings.extend(host::findings(&installation));
    let probe = Probe::at(args.metrics, globals.timeout);
    let asked = running::ask(globals, &mut findings).await;
    let mut runs = asked.is_some();
    match &asked {
        Some(server) => {
            let metrics = running::telemetry(probe.as_ref(), true, &mut findings).await;
            findings.extend(running::findings(server, metrics.as_ref()).await);
            findings.extend(log::findings(&installation, server));
            findings.extend(doors::findings(&installation, server, globals.timeout).await);
        }
        None if installation.is_gateway() => {
            let metrics = running::telemetry(probe.as_ref(), false, &mut findings).await;
            findings.extend(running::of_metrics(metrics.as_ref()));
            runs = metrics.is_some();
        }
        // Whoever does not let us ask has its ports.
        None if !is_refused(&findings) => {
            findings.extend(host::ports(&installation, probe.as_ref()));
        }
        None => runs = true,
    }
    tell(&findings, ui)?;
    if args.running && !runs {
        return Err(Failure::unreachable("nothing runs here")
            .with_help("start it with `countersign up`, or name its socket with `--socket`"));
    }
    match count(&findings, State::Fail) {
        0 => Ok(()),
        failed => Err(Failure::Check(format!(
            "{failed} of {} checks failed",
            findings.len()
        ))),
    }
}

fn is_refused(findings: &[Finding]) -> bool {
    let mut server = findings.iter().filter(|it| it.what == running::SERVER);
    server.any(|it| it.state == State::Fail)
}

fn tell(findings: &[Finding], ui: &mut Ui<'_>) -> Result<(), Failure> {
    let width = findings.iter().map(|it| it.what.len()).max().unwrap_or(0);
    let mut lines = Vec::new();
    for it in findings {
        let style = match it.state {
            State::Ok => Style::Good,
            State::Warn => Style::Bold,
            State::Fail => Style::Bad,
        };
        let word = ui.paint(style, &format!("{:<4}", it.state.word()));
        lines.push(format!("{word}  {:<width$}  {}", it.what, it.detail));
        if let Some(hint) = &it.hint {
            lines.push(format!("      {:width$}  -> {hint}", ""));
        }
    }
    let counts = [State::Ok, State::Warn, State::Fail].map(|it| (it, count(findings, it)));
    let told = counts.map(|(state, count)| format!("{count} {}", state.word()));
    lines.push(told.join(", "));
    let mut document = json!({ "checks": findings });
    if let Some(members) = document.as_object_mut() {
        members.extend(counts.map(|(state, count)| (state.word().to_owned(), count.into())));
    }
    let worst = findings.iter().map(|it| it.state).max();
    ui.answer(Answer {
        document,
        schema: "countersign.doctor/v1",
        short: worst.unwrap_or(State::Ok).word(),
        text: &lines.join("\n"),
    })
}

fn count(findings: &[Finding], state: State) -> usize {
    findings.iter().filter(|it| it.state == state).count()
}
