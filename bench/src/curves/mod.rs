//! How the cost grows: routes, revocations, tokens, connections, records.
//!
//! Each curve is a table of its own, a line per size. What is pure is measured in this process,
//! connections at a running countersign.

mod connections;
mod policy;
mod records;
mod tokens;

use crate::machine;
use crate::machine::PROXY_CORE;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use clap::Args;
use clap::ValueEnum;
use std::fmt::Write as _;
use std::hint::black_box;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

#[derive(Args)]
pub(crate) struct Options {
    /// The countersign to measure [default: beside this program]
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Fewer and smaller sizes: whether it works, not where it leads
    #[arg(long)]
    quick: bool,
    /// Only this one
    #[arg(long)]
    only: Option<Curve>,
    /// How long records may be added, in seconds; the curve ends there
    #[arg(long, default_value_t = 480)]
    budget: u64,
    /// Write the tables here as well (Markdown)
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
    /// Already on the core that it measures on
    #[arg(long, hide = true)]
    pinned: bool,
}

/// What grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Curve {
    /// Operations of a service, and services, each with an edge
    Routes,
    /// Lines of the revocation log
    Revocations,
    /// Tokens in rotation
    Tokens,
    /// Open connections
    Connections,
    /// Records in spool and log
    Records,
}

impl Curve {
    const ALL: [Self; 5] = [
        Self::Routes,
        Self::Revocations,
        Self::Tokens,
        Self::Connections,
        Self::Records,
    ];
}

/// Measures and prints.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut text = format!("{}.\n", machine::description());
    for curve in Curve::ALL {
        if options.only.is_none_or(|only| only == curve) {
            eprintln!("{curve:?}");
            text += "\n";
            // Connections are at home on both cores; the rest has the proxies' core to itself.
            text += &match curve {
                Curve::Connections => connections::curve(&binary(options)?, options.quick)?,
                _ if !options.pinned => pinned(options, curve)?,
                Curve::Routes => policy::routes(options.quick)?,
                Curve::Revocations => policy::revocations(options.quick)?,
                Curve::Tokens => tokens::curve(options.quick)?,
                Curve::Records => {
                    records::curve(options.quick, Duration::from_secs(options.budget))?
                }
            };
        }
    }
    if options.pinned {
        // Whoever started this has described the machine.
        text = text.split_off(text.find('\n').map_or(0, |at| at + 2));
    }
    print!("{text}");
    if let Some(path) = &options.table {
        std::fs::write(path, &text).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

fn binary(options: &Options) -> Result<PathBuf> {
    Ok(match &options.binary {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("countersign"),
    })
}

/// The curve as this program prints it when it is on the proxies' core.
fn pinned(options: &Options, curve: Curve) -> Result<String> {
    let name = curve.to_possible_value().context("no name")?;
    let mut command = Command::new("taskset");
    command
        .args(["-c", PROXY_CORE])
        .arg(std::env::current_exe()?);
    command.args(["curves", "--pinned", "--only", name.get_name()]);
    command.args(["--budget", &options.budget.to_string()]);
    if options.quick {
        command.arg("--quick");
    }
    let output = command.stderr(std::process::Stdio::inherit()).output()?;
    ensure!(output.status.success(), "`{}` failed", name.get_name());
    Ok(String::from_utf8(output.stdout)?)
}

/// A table with a column of sizes and one per figure.
struct Table(String);

impl Table {
    fn new(columns: &[&str]) -> Self {
        let mut text = String::new();
        let _ = writeln!(text, "| {} |", columns.join(" | "));
        let _ = writeln!(text, "|{}", "---:|".repeat(columns.len()));
        Self(text)
    }

    fn line(&mut self, size: u64, figures: &[f64]) {
        let _ = write!(self.0, "| {}", thousands(size));
        for figure in figures {
            let _ = write!(self.0, " | {}", number(*figure));
        }
        self.0.push_str(" |\n");
    }
}

fn number(value: f64) -> String {
    match value {
        value if value.is_nan() => "–".to_owned(),
        value if value < 10.0 => format!("{value:.2}"),
        value if value < 1000.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How long a sample lasts at least.
const SAMPLE: Duration = Duration::from_millis(40);
/// How many samples; the fastest counts, for all that others can do is to slow one down.
const SAMPLES: u32 = 7;

/// Microseconds that one `work` takes; `next` makes what it works on and is not counted.
fn micros<T, O>(mut next: impl FnMut() -> T, mut work: impl FnMut(T) -> O) -> f64 {
    /// At a time: what is worked on is fresh in the cache, as it is in life.
    const AT_ONCE: u32 = 16;
    let mut best = f64::INFINITY;
    for _ in 0..SAMPLES {
        let (mut took, mut count) = (Duration::ZERO, 0_u32);
        let begun = Instant::now();
        while begun.elapsed() < SAMPLE {
            let inputs: Vec<T> = (0..AT_ONCE).map(|_| next()).collect();
            let start = Instant::now();
            for input in inputs {
                black_box(work(black_box(input)));
            }
            took += start.elapsed();
            count += AT_ONCE;
        }
        best = best.min(took.as_secs_f64() * 1e6 / f64::from(count.max(1)));
    }
    best
}

/// Microseconds that `work` takes once.
fn once<O>(work: impl FnOnce() -> O) -> (O, f64) {
    let start = Instant::now();
    let outcome = work();
    (outcome, start.elapsed().as_secs_f64() * 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_000), "1,000");
        assert_eq!(thousands(10_000_000), "10,000,000");
        assert_eq!(number(f64::NAN), "–");
        assert_eq!(number(1.234), "1.23");
    }

    #[test]
    fn every_pure_curve_can_be_drawn() {
        for text in [
            policy::routes(true),
            policy::revocations(true),
            tokens::curve(true),
            records::curve(true, Duration::from_secs(60)),
        ] {
            let text = text.unwrap();
            let lines = text.lines().filter(|it| it.starts_with('|')).count();
            assert!(lines >= 4, "{text}");
        }
    }
}
