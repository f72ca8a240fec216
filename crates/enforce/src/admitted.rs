use crate::budgets::EXACT;
use crate::inner::Inner;
use crate::streams::Cut;
use crate::streams::Open;
use countersign_core::hop::Certificate;
use countersign_core::pillars::audit::Admission;
use countersign_core::record::Completion;
use countersign_core::record::Ending;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Timestamp;
use countersign_ledger::spool::SpoolError;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// An admitted hop under way.
///
/// It carries the [`Admission`], counts what flows, hears when the hop is ended by us, and writes
/// the completion record when the last clone goes: as `aborted`, unless somebody said how it
/// ended.
#[derive(Clone, Debug)]
pub struct Admitted {
    under_way: Arc<UnderWay>,
}

#[derive(Debug)]
struct UnderWay {
    admission: Admission,
    point: Arc<Inner>,
    stream: u64,
    open: Arc<Open>,
    started: Duration,
    at: Timestamp,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    /// Whether it consists of messages.
    messages: AtomicBool,
    messages_in: AtomicU64,
    messages_out: AtomicU64,
    status: AtomicU16,
    end: Mutex<End>,
}

#[derive(Debug, Default)]
struct End {
    attempts: Option<u32>,
    ending: Option<Ending>,
    body: Option<Digest>,
    cost: Option<u64>,
    upstream: Option<String>,
}

impl Admitted {
    pub(crate) fn new(admission: Admission, point: Arc<Inner>, at: Timestamp) -> Self {
        let started = point.clock.boot();
        let snapshot = admission.snapshot().clone();
        let (stream, open) = point
            .streams
            .enter(admission.shared_hop(), snapshot, started);
        Self {
            under_way: Arc::new(UnderWay {
                admission,
                point,
                stream,
                open,
                started,
                at,
                bytes_in: AtomicU64::new(0),
                bytes_out: AtomicU64::new(0),
                messages: AtomicBool::new(false),
                messages_in: AtomicU64::new(0),
                messages_out: AtomicU64::new(0),
                status: AtomicU16::new(0),
                end: Mutex::new(End::default()),
            }),
        }
    }

    /// What was admitted.
    pub fn admission(&self) -> &Admission {
        &self.under_way.admission
    }

    /// Tells when the hop was ended by us.
    #[must_use]
    pub fn cut(&self) -> &Cut {
        self.under_way.open.cut()
    }

    /// Marks it as a stream (server-sent events, a WebSocket, a tunnel): it outlives its token, and
    /// is decided again whenever policy changes and every 30 s. What is not marked is a request,
    /// which finishes on the policy it began on, unless it takes 30 s itself.
    pub fn mark_stream(&self) {
        self.under_way.open.mark();
    }

    /// Whether it was marked as a stream, or has been open for 30 s.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        let boot = self.under_way.point.clock.boot();
        self.under_way.open.is_stream(boot)
    }

    /// Ends it before anything was forwarded.
    pub(crate) fn withdraw(self, code: Code) {
        self.settle(0);
        self.under_way.open.cut().now(code);
    }

    /// Counts bytes from the caller.
    pub fn received(&self, bytes: u64) {
        self.under_way.bytes_in.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts bytes to the caller.
    pub fn sent(&self, bytes: u64) {
        self.under_way.bytes_out.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Says that it consists of messages (a WebSocket, gRPC, server-sent events), which are counted
    /// from now on.
    pub fn mark_messages(&self) {
        self.under_way.messages.store(true, Ordering::Relaxed);
    }

    /// Counts messages from the caller.
    pub fn messages_received(&self, messages: u64) {
        self.under_way
            .messages_in
            .fetch_add(messages, Ordering::Relaxed);
    }

    /// Counts messages to the caller.
    pub fn messages_sent(&self, messages: u64) {
        self.under_way
            .messages_out
            .fetch_add(messages, Ordering::Relaxed);
    }

    /// Notes that it is sent to this address, once more if it was sent before.
    pub fn attempted(&self, upstream: String) {
        let mut end = self.under_way.end.lock();
        end.attempts = Some(end.attempts.unwrap_or(0).saturating_add(1));
        end.upstream = Some(upstream);
    }

    /// Notes who is asked behind us, before anything is sent there: the hop is ended, too, when that
    /// is revoked. Of several, one after the other, the last one counts.
    pub fn reached(&self, upstream: Arc<Certificate>) {
        self.under_way.open.reached(upstream);
        // It may have been revoked between the handshake and this.
        let state = self.under_way.point.view.load().state();
        self.under_way.open.end_without_upstream(&state);
    }

    /// Notes the status the caller gets.
    pub fn answered(&self, status: u16) {
        self.under_way.status.store(status, Ordering::Relaxed);
    }

    /// Notes the commitment to the body, where it was seen whole.
    pub fn committed(&self, body: Digest) {
        self.under_way.end.lock().body = Some(body);
    }

    /// Gives back what the call did not use of what was set aside for it. The cost, in
    /// micro-dollars, counts up to 2^53-1.
    pub fn settle(&self, cost: u64) {
        let cost = cost.min(EXACT);
        let mut end = self.under_way.end.lock();
        if end.cost.replace(cost).is_none() {
            for outcome in self.under_way.admission.reserved() {
                self.under_way
                    .point
                    .budgets
                    .settle(&outcome.demand, self.under_way.at, cost);
            }
        }
    }

    /// Tells whoever counts what tokens a model used, by a name that policy has for it.
    pub fn used(&self, model: &str, input: u64, output: u64) {
        if let Some(observer) = self.under_way.point.observer.get() {
            observer.used(model, input, output);
        }
    }

    /// Says how it ended; the first word counts.
    pub fn ended(&self, ending: Ending) {
        self.under_way.end.lock().ending.get_or_insert(ending);
    }
}

impl UnderWay {
    fn completion(&mut self) -> Completion {
        let end = std::mem::take(self.end.get_mut());
        let code = self.open.cut().code();
        let messages = *self.messages.get_mut();
        let took = self.point.clock.boot().saturating_sub(self.started);
        let ended = end.ending.unwrap_or(Ending::Aborted);
        Completion {
            attempts: end.attempts,
            body: end.body,
            bytes_in: *self.bytes_in.get_mut(),
            bytes_out: *self.bytes_out.get_mut(),
            code,
            cost: end.cost,
            decision: self.admission.receipt().to_string(),
            duration_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            ending: code.map_or(ended, |_| Ending::Cut),
            messages_in: messages.then_some(*self.messages_in.get_mut()),
            messages_out: messages.then_some(*self.messages_out.get_mut()),
            status: *self.status.get_mut(),
            upstream: end.upstream,
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let completion = self.completion();
        let now = self.point.clock.now();
        let record = self.admission.completion(completion, now);
        // Called once for each hop that was admitted, so these never pile up beyond those. Nobody
        // is left to tell of a failure.
        let failed = |error: &SpoolError| {
            tracing::error!(%error, "the ledger can't take a completion");
        };
        if let Err(error) = self.point.spool.append_late(record, failed) {
            failed(&error);
        }
        // Last, so that whoever sees that it has left, and then has the spool flushed, has its
        // completion, too.
        self.point.streams.leave(self.stream);
    }
}
