//! What is measured, in which order.
//!
//! Contestants run beside each other and are asked in turns, round after round, so that whatever
//! else the machine does falls on all of them; a figure is the median of its rounds, a ratio the
//! median of the rounds' ratios.

use crate::assertion;
use crate::load::Report;
use crate::load::Spec;
use crate::load::Work;
use crate::load::connections::NO_TICKET;
use crate::machine;
use crate::machine::LOAD_CORE;
use crate::process::Process;
use crate::proof;
use crate::proxies;
use crate::proxies::Kind;
use crate::proxies::Proxy;
use crate::site::FRESH;
use crate::site::Shape;
use crate::site::Site;
use crate::site::TOKENS;
use crate::table;
use crate::table::Figures;
use crate::table::What;
use crate::table::Who;
use crate::tls::HOST;
use crate::upstream::BIG;
use crate::upstream::SMALL;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use clap::Args;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

/// Requests per second where latency is measured: less than the slowest can do.
const RATE: u32 = 2_000;

/// How long a run lasts before it counts, in seconds, unless it is a short one.
const WARM: f64 = 1.0;
/// How long after a run a proxy may still be busy with it.
const SETTLED: Duration = Duration::from_millis(30);

#[derive(Args)]
pub(crate) struct Options {
    /// The countersign to measure [default: beside this program]
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Envoy's program
    #[arg(long, value_name = "FILE", env = "ENVOY", default_value = "envoy")]
    envoy: PathBuf,
    /// How long each run lasts, in seconds
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// How many rounds
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Everything once and briefly: whether it works, not how fast
    #[arg(long)]
    smoke: bool,
    /// Only what concerns requests over kept connections
    #[arg(long, conflicts_with = "connections_only")]
    requests_only: bool,
    /// Only what concerns connections: handshakes and memory
    #[arg(long)]
    connections_only: bool,
    /// Exit with 4 if a ratio is above what is promised
    #[arg(long)]
    check: bool,
    /// Write the table here as well (Markdown)
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
    /// And the short one
    #[arg(long, value_name = "FILE")]
    short: Option<PathBuf>,
}

/// Everybody, running.
struct Field {
    whole: Site,
    apart: Site,
    synced: Site,
    others: Vec<(Who, Kind, Proxy)>,
}

/// One contestant as a run sees it.
pub(crate) struct Contestant<'a> {
    who: Who,
    address: SocketAddr,
    pid: u32,
    prefix: &'static str,
    /// Whose tokens and identities it takes.
    site: &'a Site,
}

const OTHERS: [(Who, Kind); 7] = [
    (Who::Haproxy, Kind::Haproxy { full: true }),
    (Who::HaproxyTls, Kind::Haproxy { full: false }),
    (Who::Nginx, Kind::Nginx),
    (Who::Envoy, Kind::Envoy { full: true }),
    (Who::EnvoyTls, Kind::Envoy { full: false }),
    (Who::Bare, Kind::Bare { proven: false }),
    (Who::Proven, Kind::Bare { proven: true }),
];

/// Runs it all. False if a ratio is above what is promised and that was to be checked.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let binary = match &options.binary {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("countersign"),
    };
    let mut about = vec![machine::description()];
    about.extend(proxies::versions(&options.envoy)?);
    for line in &about {
        eprintln!("{line}");
    }
    let folder = tempfile::tempdir()?;
    let field = Field::start(&binary, folder.path(), &options.envoy)?;
    field.prove()?;
    eprintln!("everybody refuses what must be refused");
    let mut figures = Figures::default();
    field.measure(options, &mut figures)?;
    let text = table::markdown(&figures, &about);
    println!("{text}");
    let short = table::short(&figures, &about);
    for (path, text) in [(&options.table, &text), (&options.short, &short)] {
        if let Some(path) = path {
            std::fs::write(path, text).with_context(|| path.display().to_string())?;
        }
    }
    let kept = table::promises(&figures);
    println!("{}", kept.text);
    Ok(kept.all || !options.check)
}

impl Field {
    fn start(binary: &Path, folder: &Path, envoy: &Path) -> Result<Self> {
        let start = |name: &str, shape, commit| {
            Site::start(binary, folder.join(name), shape, commit)
                .with_context(|| format!("starting countersign in `{name}`"))
        };
        let whole = start("whole", Shape::Whole, "os")?;
        let apart = start("apart", Shape::Apart, "os")?;
        let synced = start("synced", Shape::Whole, "fsync")?;
        proxies::prepare(&whole)?;
        let mut others = Vec::new();
        for (who, kind) in OTHERS {
            let proxy = kind.start(&whole, envoy);
            let proxy = proxy.with_context(|| {
                let log = whole.folder.join(format!("{}.log", kind.name()));
                let log = std::fs::read_to_string(log).unwrap_or_default();
                format!("starting {kind:?}: {log}")
            })?;
            others.push((who, kind, proxy));
        }
        Ok(Self {
            whole,
            apart,
            synced,
            others,
        })
    }

    fn prove(&self) -> Result<()> {
        for (name, site) in [
            ("whole", &self.whole),
            ("apart", &self.apart),
            ("synced", &self.synced),
        ] {
            proof::countersign(site, name)?;
        }
        for (_, kind, proxy) in &self.others {
            proof::other(*kind, proxy, &self.whole)?;
        }
        Ok(())
    }

    fn contestants(&self) -> Vec<Contestant<'_>> {
        let own = [
            (Who::Whole, &self.whole),
            (Who::Gateway, &self.apart),
            (Who::Synced, &self.synced),
        ];
        let own = own.into_iter().map(|(who, site)| Contestant {
            who,
            address: site.door,
            pid: site.measured.pid(),
            prefix: "/~/reports",
            site,
        });
        let others = self.others.iter();
        let others = others.map(|(who, _, proxy)| Contestant::other(*who, proxy, &self.whole));
        own.chain(others).collect()
    }

    fn measure(&self, options: &Options, figures: &mut Figures) -> Result<()> {
        let contestants = self.contestants();
        let (rounds, seconds) = if options.smoke {
            (1, 0.2)
        } else {
            (options.rounds.max(1), options.seconds)
        };
        let at_rest = |it: &&Contestant<'_>| What::AtRest.concerns(it.who);
        for contestant in contestants.iter().filter(at_rest) {
            let bytes = machine::memory(contestant.pid)?;
            figures.add(What::AtRest, contestant.who, mebi(bytes));
        }
        for round in 0..rounds {
            let of = format!("round {} of {rounds}", round + 1);
            if !options.connections_only {
                asked(&contestants, options.smoke, (&of, seconds), figures)?;
            }
            for contestant in contestants.iter().filter(|it| it.who.front()) {
                if !options.requests_only {
                    eprintln!("{of}: handshakes, {}", contestant.who.title());
                    contestant.handshakes(options.smoke, figures)?;
                }
            }
        }
        if options.requests_only {
            return Ok(());
        }
        for contestant in contestants.iter().filter(|it| it.who.front()) {
            contestant.idle(options.smoke, figures)?;
        }
        Ok(())
    }
}

/// One round of every kind of request.
fn asked(
    contestants: &[Contestant<'_>],
    smoke: bool,
    (of, seconds): (&str, f64),
    figures: &mut Figures,
) -> Result<()> {
    let micros = assertion::measured(smoke)?;
    for who in Who::OWN {
        figures.add(What::Assertion, who, micros);
    }
    for (what, work, path) in requests() {
        eprintln!("{of}: {}", what.title());
        let tokens = match (what, smoke) {
            (What::First, false) => FRESH,
            (What::First, true) => FRESH / 20,
            (_, false) => TOKENS,
            (_, true) => TOKENS / 20,
        };
        for contestant in contestants.iter().filter(|it| what.concerns(it.who)) {
            let tokens = contestant.site.draw(tokens, "report:read")?;
            contestant.requests(what, (work, path), seconds, tokens, figures)?;
        }
    }
    Ok(())
}

/// Every kind of request, how they are made, and what for.
fn requests() -> [(What, Work, &'static str); 8] {
    let http1 = |connections| Work::Http1 { connections };
    let http2 = Work::Http2 {
        connections: 4,
        streams: 8,
    };
    let paced = Work::Paced {
        connections: 32,
        rate: RATE,
    };
    [
        (What::One, http1(1), SMALL),
        (What::Kept, http1(32), SMALL),
        (What::Many, http1(256), SMALL),
        (What::Http2, http2, SMALL),
        (What::Big, http1(32), BIG),
        (What::Http2Big, http2, BIG),
        (What::Paced, paced, SMALL),
        (What::First, Work::Once { connections: 32 }, SMALL),
    ]
}

impl<'a> Contestant<'a> {
    /// A countersign by itself.
    pub(crate) fn own(site: &'a Site) -> Self {
        Self {
            who: Who::Whole,
            address: site.door,
            pid: site.measured.pid(),
            prefix: "/~/reports",
            site,
        }
    }

    /// One of the others, in front of the site's service.
    pub(crate) fn other(who: Who, proxy: &Proxy, site: &'a Site) -> Self {
        Self {
            who,
            address: proxy.address,
            pid: proxy.process.pid(),
            prefix: "",
            site,
        }
    }

    /// Every kind of request once, and connections.
    pub(crate) fn asked(&self, seconds: f64, smoke: bool) -> Result<()> {
        let mut figures = Figures::default();
        for (what, work, path) in requests() {
            let count = if what == What::First { FRESH } else { TOKENS };
            let tokens = self.site.draw(count / 4, "report:read")?;
            self.requests(what, (work, path), seconds, tokens, &mut figures)?;
        }
        if self.who.front() {
            self.handshakes(smoke, &mut figures)?;
        }
        Ok(())
    }

    /// CPU µs per request, and the percentiles of latency in µs, at the fixed rate over so many
    /// connections.
    pub(crate) fn paced(&self, connections: usize, seconds: f64) -> Result<(f64, [f64; 3])> {
        let work = Work::Paced {
            connections,
            rate: RATE,
        };
        let mut figures = Figures::default();
        let tokens = self.site.draw(TOKENS, "report:read")?;
        self.requests(What::Paced, (work, SMALL), seconds, tokens, &mut figures)?;
        let figure = |what| figures.median(what, self.who).unwrap_or(f64::NAN);
        Ok((figure(What::Paced), What::PERCENTILES.map(figure)))
    }

    /// Memory with so many idle connections, in MiB.
    pub(crate) fn with_idle(&self, connections: usize) -> Result<f64> {
        let tokens = self.site.draw(1, "report:read")?;
        Ok(mebi(self.held(connections, &tokens)?))
    }

    fn requests(
        &self,
        what: What,
        (work, path): (Work, &str),
        seconds: f64,
        tokens: PathBuf,
        figures: &mut Figures,
    ) -> Result<()> {
        let (report, cpu) = self.load(work, path, seconds, tokens)?;
        let failure = report.failure.as_deref().unwrap_or_default();
        ensure!(
            report.failed == 0 && report.done > 0,
            "{:?} at {}: {} of {} failed: {failure}",
            self.who,
            what.title(),
            report.failed,
            report.done + report.failed
        );
        #[expect(clippy::cast_precision_loss, reason = "counts of some seconds")]
        let done = report.done as f64;
        figures.add(what, self.who, cpu * 1e6 / done);
        if matches!(what, What::Kept | What::Many) {
            figures.add(what.throughput(), self.who, done / report.seconds);
        }
        if what == What::Paced {
            for (which, micros) in What::PERCENTILES.into_iter().zip(report.micros) {
                let micros = u32::try_from(micros).unwrap_or(u32::MAX);
                figures.add(which, self.who, f64::from(micros));
            }
        }
        Ok(())
    }

    fn handshakes(&self, smoke: bool, figures: &mut Figures) -> Result<()> {
        let tokens = self.site.draw(1, "report:read")?;
        let count = if smoke { 50 } else { 1_000 };
        for (what, resumed) in [(What::Full, false), (What::Resumed, true)] {
            let work = Work::Handshakes { resumed, count };
            let (report, cpu) = match self.load(work, SMALL, 0.0, tokens.clone()) {
                Err(error) if format!("{error:#}").contains(NO_TICKET) => {
                    figures.note(format!("{} resumes no session", self.who.title()));
                    continue;
                }
                outcome => outcome?,
            };
            let failure = report.failure.unwrap_or_default();
            ensure!(
                report.failed == 0,
                "{:?}, {}: {} of {count} failed: {failure}",
                self.who,
                what.title(),
                report.failed
            );
            #[expect(clippy::cast_precision_loss, reason = "a thousand")]
            let done = report.done as f64;
            figures.add(what, self.who, cpu * 1e6 / done);
        }
        Ok(())
    }

    fn idle(&self, smoke: bool, figures: &mut Figures) -> Result<()> {
        let connections = if smoke { 50 } else { 500 };
        let tokens = self.site.draw(1, "report:read")?;
        // What was taken for connections before is there to be used again: the first ones are to
        // take it, so that only what the next need is counted.
        let first = self.held(connections, &tokens)?;
        let both = self.held(connections * 2, &tokens)?;
        #[expect(clippy::cast_precision_loss, reason = "memory of a process")]
        let each = both.saturating_sub(first) as f64 / 1024.0;
        let count = u32::try_from(connections)?;
        figures.add(What::Idle, self.who, each / f64::from(count));
        Ok(())
    }

    /// Memory with that many idle connections.
    fn held(&self, connections: usize, tokens: &Path) -> Result<u64> {
        let spec = self.spec(Work::Idle { connections }, SMALL, 0.0, tokens.to_owned());
        let mut load = Load::start(&spec)?;
        // What a handshake needed is given back by now or not at all.
        std::thread::sleep(Duration::from_secs(1));
        let bytes = machine::memory(self.pid)?;
        load.finish()?;
        Ok(bytes)
    }

    /// Runs a load. Gives its report and the CPU time that it took here, in seconds.
    fn load(&self, work: Work, path: &str, seconds: f64, tokens: PathBuf) -> Result<(Report, f64)> {
        let mut load = Load::start(&self.spec(work, path, seconds, tokens))?;
        let before = machine::cpu(self.pid)?;
        let report = load.finish()?;
        // The other side may still be closing what was closed last.
        std::thread::sleep(SETTLED);
        Ok((report, machine::cpu(self.pid)? - before))
    }

    fn spec(&self, work: Work, path: &str, seconds: f64, tokens: PathBuf) -> Spec {
        Spec {
            address: self.address,
            host: HOST.to_owned(),
            identity: self.site.caller(),
            tokens,
            path: format!("{}{path}", self.prefix),
            work,
            seconds,
            warm: (seconds / 2.0).min(WARM),
        }
    }
}

/// A load generator that is ready.
struct Load {
    process: Process,
    output: BufReader<std::process::ChildStdout>,
}

impl Load {
    fn start(spec: &Spec) -> Result<Self> {
        let own = std::env::current_exe()?.display().to_string();
        let mut process = Process::piped("load", LOAD_CORE, &[own, "load".to_owned()])?;
        let output = process.child().stdout.take().context("no output")?;
        let mut load = Self {
            process,
            output: BufReader::new(output),
        };
        load.say(&serde_json::to_string(spec)?)?;
        let line = load.line()?;
        ensure!(line.trim() == "ready", "the load generator failed: {line}");
        Ok(load)
    }

    fn finish(&mut self) -> Result<Report> {
        self.say("go")?;
        let line = self.line()?;
        serde_json::from_str(&line).with_context(|| format!("the load generator said: {line}"))
    }

    fn say(&mut self, line: &str) -> Result<()> {
        let input = self.process.child().stdin.as_mut().context("no input")?;
        writeln!(input, "{line}")?;
        Ok(input.flush()?)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line)
    }
}

#[expect(clippy::cast_precision_loss, reason = "memory of a process")]
fn mebi(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
