//! The load generator: a process of its own, on one thread.
//!
//! It reads what to do as one JSON line, prepares, prints `ready`, waits for a line, works, and
//! prints a report as one JSON line, so that whoever started it can read clocks in between. It
//! never asks again: a request that fails is counted, and voids the run.

pub(crate) mod connections;
pub(crate) mod http1;
mod http2;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use hdrhistogram::Histogram;
use serde::Deserialize;
use serde::Serialize;
use std::cell::Cell;
use std::cell::RefCell;
use std::io::BufRead as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

/// What to do.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Spec {
    /// The proxy.
    pub(crate) address: SocketAddr,
    /// `Host`, and the name in the TLS hello.
    pub(crate) host: String,
    /// Folder of the identity to show.
    pub(crate) identity: PathBuf,
    /// File with a token a line; they are used in rotation.
    pub(crate) tokens: PathBuf,
    /// What to ask for.
    pub(crate) path: String,
    /// How.
    pub(crate) work: Work,
    /// For how long, in seconds.
    pub(crate) seconds: f64,
    /// For how long before it counts, in seconds.
    pub(crate) warm: f64,
}

/// How to ask.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) enum Work {
    /// Kept connections of HTTP/1.1, each asking as soon as it has its answer.
    Http1 {
        /// How many.
        connections: usize,
    },
    /// Connections of HTTP/2 with this many streams at a time on each.
    Http2 {
        /// How many.
        connections: usize,
        /// Streams at a time on each.
        streams: usize,
    },
    /// Kept connections of HTTP/1.1 at a fixed rate; latency counts from when a request was due.
    Paced {
        /// How many.
        connections: usize,
        /// Requests per second over all of them.
        rate: u32,
    },
    /// Every token once, over kept connections of HTTP/1.1.
    Once {
        /// How many.
        connections: usize,
    },
    /// Connections one after the other, each with one handshake and nothing else.
    Handshakes {
        /// Whether they continue a session.
        resumed: bool,
        /// How many.
        count: usize,
    },
    /// Connections that do nothing.
    Idle {
        /// How many.
        connections: usize,
    },
}

/// What came of it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Report {
    /// Requests answered 200 in full, or handshakes.
    pub(crate) done: u64,
    /// Everything else.
    pub(crate) failed: u64,
    /// The first thing that went wrong.
    pub(crate) failure: Option<String>,
    /// How long it took, in seconds.
    pub(crate) seconds: f64,
    /// Latency at the 50th, 99th and 99.9th percentile, in microseconds.
    pub(crate) micros: [u64; 3],
}

/// What all connections share.
pub(crate) struct Shared {
    spec: Spec,
    tokens: Vec<String>,
    next: Cell<usize>,
    start: Cell<Instant>,
    deadline: Cell<Instant>,
    done: Cell<u64>,
    failed: Cell<u64>,
    failure: RefCell<Option<String>>,
    latency: RefCell<Histogram<u64>>,
}

impl Shared {
    fn new(spec: Spec) -> Result<Self> {
        let tokens = std::fs::read_to_string(&spec.tokens)
            .with_context(|| spec.tokens.display().to_string())?;
        let tokens: Vec<_> = tokens.lines().map(str::to_owned).collect();
        ensure!(!tokens.is_empty(), "no tokens");
        let now = Instant::now();
        Ok(Self {
            spec,
            tokens,
            next: Cell::new(0),
            start: Cell::new(now),
            deadline: Cell::new(now),
            done: Cell::new(0),
            failed: Cell::new(0),
            failure: RefCell::default(),
            latency: RefCell::new(Histogram::new_with_bounds(1, 60_000_000, 3)?),
        })
    }

    /// The number of the next request, from 0; none when the time is over, or, where every token
    /// is used once, when they are.
    pub(crate) fn next(&self) -> Option<usize> {
        let number = self.next.get();
        let over = match self.spec.work {
            Work::Once { .. } => number >= self.tokens.len(),
            _ => Instant::now() >= self.deadline.get(),
        };
        if over {
            return None;
        }
        self.next.set(number + 1);
        Some(number)
    }

    /// When request `number` is due, where there is a rate.
    pub(crate) fn due(&self, number: usize) -> Option<Instant> {
        let Work::Paced { rate, .. } = self.spec.work else {
            return None;
        };
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let after = Duration::from_secs_f64(f64::from(number) / f64::from(rate.max(1)));
        Some(self.start.get() + after)
    }

    pub(crate) fn answered(&self, since: Instant) {
        self.done.set(self.done.get() + 1);
        let micros = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.latency.borrow_mut().saturating_record(micros);
    }

    pub(crate) fn failed(&self, error: &anyhow::Error) {
        self.failed.set(self.failed.get() + 1);
        let mut first = self.failure.borrow_mut();
        first.get_or_insert_with(|| format!("{error:#}"));
    }

    /// From here on it counts.
    pub(crate) fn begin(&self) -> Result<()> {
        println!("ready");
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line)?;
        let now = Instant::now();
        self.next.set(0);
        self.done.set(0);
        self.latency.borrow_mut().reset();
        self.start.set(now);
        self.deadline
            .set(now + Duration::from_secs_f64(self.spec.seconds));
        Ok(())
    }

    /// Before it counts: some of it, so that pools and caches hold what they will.
    pub(crate) fn warm(&self) {
        let now = Instant::now();
        self.start.set(now);
        let warm = Duration::from_secs_f64(self.spec.warm);
        self.deadline.set(now + warm);
    }

    fn report(&self) -> Report {
        let latency = self.latency.borrow();
        Report {
            done: self.done.get(),
            failed: self.failed.get(),
            failure: self.failure.borrow().clone(),
            seconds: self.start.get().elapsed().as_secs_f64(),
            micros: [50.0, 99.0, 99.9].map(|it| latency.value_at_percentile(it)),
        }
    }
}

/// Reads what to do, does it, reports; or says in place of that what is wrong.
pub(crate) async fn run() -> Result<()> {
    if let Err(error) = work().await {
        println!("{error:#}");
        return Err(error);
    }
    Ok(())
}

async fn work() -> Result<()> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let spec: Spec = serde_json::from_str(&line)?;
    let work = spec.work;
    let shared = std::rc::Rc::new(Shared::new(spec)?);
    match work {
        Work::Http1 { connections } | Work::Paced { connections, .. } => {
            http1::run(&shared, connections, true).await?;
        }
        Work::Once { connections } => http1::run(&shared, connections, false).await?,
        Work::Http2 {
            connections,
            streams,
        } => http2::run(&shared, connections, streams).await?,
        Work::Handshakes { resumed, count } => {
            connections::handshakes(&shared, resumed, count).await?;
        }
        Work::Idle { connections } => connections::idle(&shared, connections).await?,
    }
    println!("{}", serde_json::to_string(&shared.report())?);
    Ok(())
}
