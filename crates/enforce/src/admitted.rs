use crate::inner::Inner;
use crate::streams::Cut;
use countersign_core::pillars::audit::Admission;
use countersign_core::record::Completion;
use countersign_core::record::Ending;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Timestamp;
use parking_lot::Mutex;
use std::sync::Arc;
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
    cut: Cut,
    started: Duration,
    at: Timestamp,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    status: AtomicU16,
    end: Mutex<End>,
}

#[derive(Debug, Default)]
struct End {
    ending: Option<Ending>,
    body: Option<Digest>,
    cost: Option<u64>,
}

impl Admitted {
    pub(crate) fn new(admission: Admission, point: Arc<Inner>, at: Timestamp) -> Self {
        let (stream, cut) = point.streams.enter(admission.hop().clone());
        let started = point.clock.boot();
        Self {
            under_way: Arc::new(UnderWay {
                admission,
                point,
                stream,
                cut,
                started,
                at,
                bytes_in: AtomicU64::new(0),
                bytes_out: AtomicU64::new(0),
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
        &self.under_way.cut
    }

    /// Counts bytes from the caller.
    pub fn received(&self, bytes: u64) {
        self.under_way.bytes_in.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts bytes to the caller.
    pub fn sent(&self, bytes: u64) {
        self.under_way.bytes_out.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Notes the status the caller gets.
    pub fn answered(&self, status: u16) {
        self.under_way.status.store(status, Ordering::Relaxed);
    }

    /// Notes the commitment to the body, where it was seen whole.
    pub fn committed(&self, body: Digest) {
        self.under_way.end.lock().body = Some(body);
    }

    /// Gives back what the call did not use of what was set aside for it.
    pub fn settle(&self, cost: u64) {
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

    /// Says how it ended; the first word counts.
    pub fn ended(&self, ending: Ending) {
        self.under_way.end.lock().ending.get_or_insert(ending);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.point.streams.leave(self.stream);
        let end = std::mem::take(self.end.get_mut());
        let cut = self.cut.code().map(|_| Ending::Cut);
        let completion = Completion {
            body: end.body,
            bytes_in: *self.bytes_in.get_mut(),
            bytes_out: *self.bytes_out.get_mut(),
            cost: end.cost,
            decision: self.admission.receipt().to_string(),
            duration_us: u64::try_from(
                self.point
                    .clock
                    .boot()
                    .saturating_sub(self.started)
                    .as_micros(),
            )
            .unwrap_or(u64::MAX),
            ending: cut.or(end.ending).unwrap_or(Ending::Aborted),
            status: *self.status.get_mut(),
        };
        let record = self
            .admission
            .completion(&completion, self.point.clock.now());
        self.point.append_later(record);
    }
}
