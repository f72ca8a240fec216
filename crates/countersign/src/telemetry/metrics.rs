use super::exposition;
use super::exposition::Form;
use super::families::Families;
use super::handles::Handles;
use super::health::Health;
use super::traces::Outcome;
use super::traces::Traces;
use countersign_core::snapshot::Snapshot;
use countersign_core::vocabulary::Pillar;
use countersign_core::vocabulary::Timestamp;
use countersign_enforce::Decided;
use countersign_enforce::EnforcementPoint;
use countersign_gateway::Answered;
use parking_lot::Mutex;
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Everything that is counted, and where it is read.
#[derive(Debug)]
pub(crate) struct Metrics {
    families: Families,
    handles: Handles,
    pillars: Vec<super::durations::Durations>,
    registry: Registry,
    spans: Spans,
    /// Holds the process, which holds this; taken out at its end.
    measured: Mutex<Option<Box<dyn Measured>>>,
}

/// What is read when metrics are asked for.
pub(crate) trait Measured: fmt::Debug + Send + Sync {
    /// The point where hops are decided.
    fn point(&self) -> &EnforcementPoint;

    /// Our own certificates and when they end.
    fn certificates(&self) -> Vec<(String, Timestamp)>;

    /// Records of this node that are not known to be in the log.
    fn unshipped(&self) -> u64;

    /// Leaves of the log, where it is here.
    fn log_size(&self) -> Option<u64>;

    /// Whether the last attempt to change the configuration did not fail, where that is done here.
    fn reloaded(&self) -> Option<bool>;
}

/// Hears of everything, counts it and has it traced.
#[derive(Debug)]
pub(crate) struct Observer {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) traces: Option<Traces>,
}

/// What became of spans.
#[derive(Clone, Debug)]
pub(super) struct Spans {
    exported: Counter,
    dropped: Counter,
    failed: Counter,
}

impl Metrics {
    /// Nothing counted yet, of a process with this role.
    pub(crate) fn new(role: &'static str) -> Self {
        let families = Families::default();
        let pillars = Pillar::ALL.iter().map(|pillar| {
            let labels = [("pillar", pillar.word().to_owned())];
            families.decisions.get_or_create_owned(&labels)
        });
        let spans = |outcome: &str| {
            let labels = [("outcome", outcome.to_owned())];
            families.spans.get_or_create_owned(&labels)
        };
        let spans = Spans {
            exported: spans("exported"),
            dropped: spans("dropped"),
            failed: spans("failed"),
        };
        Self {
            handles: Handles::default(),
            measured: Mutex::new(None),
            pillars: pillars.collect(),
            registry: families.registry(role),
            spans,
            families,
        }
    }

    /// Says where to read what is only read when somebody asks, if anywhere.
    pub(super) fn measure(&self, measured: Option<Box<dyn Measured>>) {
        *self.measured.lock() = measured;
    }

    pub(super) fn spans(&self) -> &Spans {
        &self.spans
    }

    /// All of it as text.
    pub(super) fn render(&self, health: &Health, form: Form) -> Result<String, fmt::Error> {
        self.refresh(health);
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(match form {
            Form::OpenMetrics => text,
            Form::Prometheus => exposition::prometheus(&text),
        })
    }

    fn refresh(&self, health: &Health) {
        let all = &self.families;
        all.ready.set(health.is_ready().into());
        all.draining.set(health.is_draining().into());
        let measured = self.measured.lock();
        let Some(measured) = measured.as_deref() else {
            return;
        };
        let point = measured.point();
        all.open.set(whole(point.open() as u64));
        all.spool.set(whole(point.spool().used_bytes()));
        // Where the disk does not say, there is none to count on.
        let free = point.spool().room().map_or(0, |room| room.left);
        all.spool_free.set(whole(free));
        all.unshipped.set(whole(measured.unshipped()));
        if let Some(size) = measured.log_size() {
            all.tree.set(whole(size));
        }
        if let Some(reloaded) = measured.reloaded() {
            all.reloaded.set(reloaded.into());
        }
        for (name, ends) in measured.certificates() {
            let labels = [("name", name)];
            all.certificates.get_or_create(&labels).set(ends.as_secs());
        }
        for spending in point.spending() {
            let labels = [("budget", spending.budget.to_string())];
            all.budgets.get_or_create(&labels).set(spending.ratio);
        }
    }

    fn pillar(&self, pillar: Pillar, took: Duration) {
        if let Some(durations) = self.pillars.get(pillar as usize) {
            durations.observe(took);
        }
    }
}

impl Spans {
    pub(super) fn count(&self, outcome: Outcome, spans: usize) {
        let counter = match outcome {
            Outcome::Exported => &self.exported,
            Outcome::Dropped => &self.dropped,
            Outcome::Failed => &self.failed,
        };
        counter.inc_by(spans as u64);
    }
}

impl countersign_enforce::Observer for Observer {
    fn decided(&self, decided: &Decided<'_>) {
        let metrics = &self.metrics;
        let asked = (decided.snapshot, decided.hop);
        metrics
            .handles
            .decided(&metrics.families, asked, decided.code);
        for (pillar, took) in decided.pillars.unwrap_or_default() {
            metrics.pillar(*pillar, *took);
        }
        match decided.appended {
            Some(took) => {
                metrics.families.appends.observe(took);
                if decided.code.is_none() {
                    metrics.pillar(Pillar::Audit, took);
                }
            }
            None if !decided.recorded && decided.code.is_some() => {
                metrics.families.counted.inc();
            }
            None => {}
        }
    }

    fn used(&self, model: &str, input: u64, output: u64) {
        for (direction, tokens) in [("input", input), ("output", output)] {
            let labels = [
                ("model", model.to_owned()),
                ("direction", direction.to_owned()),
            ];
            let family = &self.metrics.families.tokens;
            family.get_or_create(&labels).inc_by(tokens);
        }
    }

    fn revoked(&self, after: Duration) {
        self.metrics.families.revocations.observe(after);
    }
}

impl countersign_gateway::Observer for Observer {
    fn sample(&self, trace: &str, parent: Option<bool>) -> Option<bool> {
        let traces = self.traces.as_ref()?;
        Some(traces.sample(trace, parent))
    }

    fn called(&self, service: &str, snapshot: &Snapshot, took: Duration) {
        let metrics = &self.metrics;
        let calls = metrics.handles.calls(&metrics.families, snapshot, service);
        if let Some(calls) = calls {
            calls.observe(took);
        }
    }

    fn answered(&self, answered: &Answered<'_>) {
        let upstream = answered.upstream.map(|it| it.took).unwrap_or_default();
        let beside = answered.waited.saturating_add(upstream);
        let overhead = answered.took.saturating_sub(beside);
        self.metrics.families.overhead.observe(overhead);
        if let Some(traces) = &self.traces {
            traces.answered(answered);
        }
    }
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
