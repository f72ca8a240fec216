use super::durations::Durations;
use super::durations::FAST;
use super::durations::SLOW;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::family::MetricConstructor;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;

/// Labels: names with their values.
pub(super) type Labels<const N: usize> = [(&'static str, String); N];
pub(super) type Share = Gauge<f64, AtomicU64>;

/// Makes histograms with these bounds.
#[derive(Clone, Copy, Debug)]
pub(super) struct With(&'static [f64]);

/// Every metric there is.
#[derive(Debug)]
pub(super) struct Families {
    pub(super) appends: Durations,
    pub(super) budgets: Family<Labels<1>, Share>,
    pub(super) certificates: Family<Labels<1>, Gauge>,
    pub(super) counted: Counter,
    pub(super) decisions: Family<Labels<1>, Durations, With>,
    pub(super) denials: Family<Labels<3>, Counter>,
    pub(super) draining: Gauge,
    pub(super) open: Gauge,
    pub(super) overhead: Durations,
    pub(super) ready: Gauge,
    pub(super) reloaded: Gauge,
    pub(super) requests: Family<Labels<3>, Counter>,
    pub(super) revocations: Durations,
    pub(super) spans: Family<Labels<1>, Counter>,
    pub(super) spool: Gauge,
    pub(super) spool_free: Gauge,
    pub(super) tokens: Family<Labels<2>, Counter>,
    pub(super) tree: Gauge,
    pub(super) unshipped: Gauge,
    pub(super) upstream: Family<Labels<1>, Durations, With>,
}

impl MetricConstructor<Durations> for With {
    fn new_metric(&self) -> Durations {
        Durations::new(self.0)
    }
}

impl Default for Families {
    fn default() -> Self {
        Self {
            appends: Durations::new(SLOW),
            budgets: Family::default(),
            certificates: Family::default(),
            counted: Counter::default(),
            decisions: Family::new_with_constructor(With(FAST)),
            denials: Family::default(),
            draining: Gauge::default(),
            open: Gauge::default(),
            overhead: Durations::new(SLOW),
            ready: Gauge::default(),
            reloaded: Gauge::default(),
            requests: Family::default(),
            revocations: Durations::new(SLOW),
            spans: Family::default(),
            spool: Gauge::default(),
            spool_free: Gauge::default(),
            tokens: Family::default(),
            tree: Gauge::default(),
            unshipped: Gauge::default(),
            upstream: Family::new_with_constructor(With(SLOW)),
        }
    }
}

impl Families {
    /// A registry of all of them; what only a server has is there only for one.
    pub(super) fn registry(&self, role: &'static str) -> Registry {
        let mut all = Registry::with_prefix("countersign");
        let version = env!("CARGO_PKG_VERSION");
        let build = Info::new([("version", version), ("role", role)]);
        all.register("build", "What runs", build);
        self.hops(&mut all);
        self.ledger(&mut all);
        self.process(&mut all);
        if role != "gateway" {
            let text = "Leaves under the log's last signed checkpoint";
            all.register("audit_tree_size", text, self.tree.clone());
            let text = "1 if the last attempt to change the configuration did not fail";
            all.register("config_last_reload_successful", text, self.reloaded.clone());
        }
        all
    }

    fn hops(&self, all: &mut Registry) {
        let text = "Hops decided, by configured route and caller";
        all.register("requests", text, self.requests.clone());
        let text = "Hops refused, by pillar, code and configured route";
        all.register("denials", text, self.denials.clone());
        let text = "Refusals of strangers that were counted instead of recorded one by one, because of a flood";
        all.register("refusals_counted", text, self.counted.clone());
        let text = "Time a pillar took where it held; pillars in memory are measured in one of 64 decisions, audit in all";
        all.register("decision_duration_seconds", text, self.decisions.clone());
        let text = "Time from a request's head to its answer's head, without waiting for the caller's body and for the upstream";
        all.register("overhead_duration_seconds", text, self.overhead.clone());
        let text = "Time until an upstream answered or failed, tries included";
        all.register("upstream_duration_seconds", text, self.upstream.clone());
        let text = "Admitted hops that have not ended";
        all.register("open_streams", text, self.open.clone());
        let text = "Highest share of a budget that is spent or set aside in its window, of one kept per subject by whoever spent most";
        all.register("budget_spent_ratio", text, self.budgets.clone());
        let text = "Tokens that models say they used, by the name in a budget's prices";
        all.register("tokens", text, self.tokens.clone());
        let text = "Time from taking in a revocation to the end of all that it ends here";
        all.register(
            "revocation_propagation_seconds",
            text,
            self.revocations.clone(),
        );
    }

    fn ledger(&self, all: &mut Registry) {
        let text = "Time until a decision's record was durable";
        all.register("audit_append_duration_seconds", text, self.appends.clone());
        let text = "Records of this node that are durable and not known to be in the log";
        all.register("audit_unshipped_records", text, self.unshipped.clone());
        let text = "What the spool takes on disk";
        all.register("spool_bytes", text, self.spool.clone());
        let text = "What the spool may still take on disk";
        all.register("spool_free_bytes", text, self.spool_free.clone());
    }

    fn process(&self, all: &mut Registry) {
        let text = "When a certificate of ours ends, since the epoch";
        let ends = self.certificates.clone();
        all.register("certificate_not_after_timestamp_seconds", text, ends);
        let text = "1 if /readyz says so";
        all.register("ready", text, self.ready.clone());
        let text = "1 from the signal to stop on";
        all.register("draining", text, self.draining.clone());
        let text = "Spans of traces by what became of them: exported, dropped because the queue was full, failed at the collector";
        all.register("trace_spans", text, self.spans.clone());
    }
}
