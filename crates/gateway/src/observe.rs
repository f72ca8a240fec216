//! What is told of a request to whoever counts and traces.

use countersign_core::snapshot::Snapshot;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::Operation;
use countersign_core::vocabulary::Timestamp;
use countersign_enforce::Admitted;
use std::fmt;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

/// Hears what becomes of requests. It is called on the way of each, so it may neither wait nor
/// fail, and nothing depends on it.
pub trait Observer: fmt::Debug + Send + Sync {
    /// Whether the request with this trace id is to be traced. `parent` is what a proven caller
    /// says of its own part, if it says anything. None where nothing is traced at all: the
    /// caller's word then goes on as it came.
    fn sample(&self, trace: &str, parent: Option<bool>) -> Option<bool>;

    /// An upstream was called, and answered or failed, in this time.
    fn called(&self, service: &str, snapshot: &Snapshot, took: Duration);

    /// The head of an answer is ready.
    fn answered(&self, answered: &Answered<'_>);
}

/// A request and the head of its answer, as an [`Observer`] hears of them. There is no path,
/// query, header or body in it but what was decided on.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'a> {
    /// When its head was read.
    pub at: Timestamp,
    /// From then to the answer's head.
    pub took: Duration,
    /// How much of that was waiting for the caller's body, which a rule reads.
    pub waited: Duration,
    /// The listener.
    pub door: &'a Name,
    /// The method as it came.
    pub method: &'a str,
    /// Whether it came by HTTP/2.
    pub http2: bool,
    /// The policy it was read with.
    pub snapshot: &'a Snapshot,
    /// Service and operation that were asked for. Only of what is traced.
    pub asked: Option<(&'a str, &'a Operation)>,
    /// The status of the answer.
    pub status: u16,
    /// Why it was refused, if it was.
    pub code: Option<Code>,
    /// Names the record.
    pub receipt: Option<&'a str>,
    /// The call of an upstream, if there was one.
    pub upstream: Option<Called>,
    /// Its place in a trace, if it is traced.
    pub trace: Option<Trace<'a>>,
}

/// A call of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Called {
    /// How long after the request was read.
    pub after: Duration,
    /// How long until it answered or failed, tries included.
    pub took: Duration,
    /// The status of its answer, if it gave one.
    pub status: Option<u16>,
}

/// Names in a trace, in hex (W3C Trace Context section 3.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace<'a> {
    /// The trace.
    pub id: &'a str,
    /// This request.
    pub span: &'a str,
    /// The caller's part that it belongs to.
    pub parent: Option<&'a str>,
    /// The call of the upstream, which the upstream was told.
    pub call: &'a str,
}

/// Where a request's time goes.
#[derive(Debug)]
pub(crate) struct Journey {
    observer: Option<Arc<dyn Observer>>,
    begun: Instant,
    waited: AtomicU64,
    called: OnceLock<(Duration, Duration)>,
    status: AtomicU16,
    asked: OnceLock<(String, Operation)>,
}

impl Journey {
    pub(crate) fn new(observer: Option<Arc<dyn Observer>>) -> Self {
        Self {
            observer,
            begun: Instant::now(),
            waited: AtomicU64::new(0),
            called: OnceLock::new(),
            status: AtomicU16::new(0),
            asked: OnceLock::new(),
        }
    }

    pub(crate) fn observer(&self) -> Option<&dyn Observer> {
        self.observer.as_deref()
    }

    /// What is asked for; kept for traces.
    pub(crate) fn asks(&self, service: &str, operation: &Operation) {
        let _ = self.asked.set((service.to_owned(), operation.clone()));
    }

    /// So long was waited for the caller.
    pub(crate) fn waited(&self, since: Instant) {
        let micros = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.waited.fetch_add(micros, Ordering::Relaxed);
    }

    /// The upstream of this hop was called since then; `status` is what it answered.
    pub(crate) fn called(&self, since: Instant, admitted: &Admitted, status: Option<u16>) {
        let Some(observer) = self.observer() else {
            return;
        };
        let after = since.saturating_duration_since(self.begun);
        let took = since.elapsed();
        let _ = self.called.set((after, took));
        self.status.store(status.unwrap_or(0), Ordering::Relaxed);
        let admission = admitted.admission();
        observer.called(&admission.hop().service, admission.snapshot(), took);
    }

    /// Tells that the answer's head is ready. `answered` has what is not known here.
    pub(crate) fn answered(&self, answered: Answered<'_>) {
        let Some(observer) = self.observer() else {
            return;
        };
        let status = self.status.load(Ordering::Relaxed);
        let called = self.called.get();
        let asked = self.asked.get();
        observer.answered(&Answered {
            took: self.begun.elapsed(),
            waited: Duration::from_micros(self.waited.load(Ordering::Relaxed)),
            asked: asked.map(|(service, operation)| (service.as_str(), operation)),
            upstream: called.map(|(after, took)| Called {
                after: *after,
                took: *took,
                status: (status > 0).then_some(status),
            }),
            ..answered
        });
    }
}
