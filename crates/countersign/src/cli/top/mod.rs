//! `top`: what a running process does, from its metrics.

mod picture;
mod screen;

use super::args::Globals;
use super::args::TopArgs;
use super::scrape::Probe;
use super::scrape::Samples;
use super::ui::Answer;
use super::ui::Ui;
use crate::operate::Failure;
use picture::Picture;
use screen::Screen;
use std::io::IsTerminal as _;
use std::time::Duration;
use std::time::Instant;

/// Rates of less time than that say nothing.
const LEAST: Duration = Duration::from_millis(100);

/// `top`.
pub(crate) async fn run(args: &TopArgs, globals: &Globals, ui: &mut Ui<'_>) -> Result<(), Failure> {
    if args.interval < LEAST {
        return Err(Failure::usage("`--interval` is at least `100ms`"));
    }
    let probe = Probe::at(args.metrics, globals.timeout);
    let probe = probe.ok_or_else(|| Failure::usage("there is nothing to see: `--metrics off`"))?;
    let first = (probe.samples().await?, Instant::now());
    if args.once || ui.is_program_read() || !std::io::stdout().is_terminal() {
        tokio::time::sleep(args.interval).await;
        let (picture, _) = look(&probe, &first).await?;
        let document = serde_json::to_value(&picture);
        let document = document.map_err(|error| Failure::failed(error.to_string()))?;
        return ui.answer(Answer {
            document,
            schema: "countersign.top/v1",
            short: &format!("{:.1}", picture.requests_per_second),
            text: &picture.lines(ui, usize::MAX).join("\n"),
        });
    }
    live(&probe, first, args.interval, ui).await
}

async fn look(
    probe: &Probe,
    (before, then): &(Samples, Instant),
) -> Result<(Picture, (Samples, Instant)), Failure> {
    let (now, at) = (probe.samples().await?, Instant::now());
    let picture = Picture::new(&now, before, at.duration_since(*then));
    Ok((picture, (now, at)))
}

/// A picture each interval, until `q`; the terminal is left as it was found.
async fn live(
    probe: &Probe,
    first: (Samples, Instant),
    interval: Duration,
    ui: &mut Ui<'_>,
) -> Result<(), Failure> {
    let mut screen = Screen::open().map_err(|error| {
        Failure::failed(format!("can't draw on this terminal: {error}")).with_help("use `--once`")
    })?;
    let mut before = first;
    let mut lines = vec![format!("looking at {} ...", probe.address)];
    loop {
        let (text, height) = screen.page(&lines);
        ui.bytes(text.as_bytes())?;
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = screen.quit() => return Ok(()),
        }
        match look(probe, &before).await {
            Ok((picture, now)) => {
                lines = picture.lines(ui, height);
                before = now;
            }
            // It may be started again: what was seen last is still worth something.
            Err(failure) => {
                lines.truncate(1);
                lines.push(format!("{failure}"));
            }
        }
    }
}
