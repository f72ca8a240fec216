use countersign_core::decide::Verdict;
use countersign_core::decide::decide;
use countersign_core::hop::Certificate;
use countersign_core::hop::Freshness;
use countersign_core::hop::Hop;
use countersign_core::hop::Token;
use countersign_core::snapshot::Snapshot;
use countersign_core::snapshot::State;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Timestamp;
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::time::Duration;

/// The hops that were admitted and have not ended, so that what is revoked ends.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    next: AtomicU64,
    open: Mutex<HashMap<u64, Arc<Open>>>,
}

/// An admitted hop that has not ended.
#[derive(Debug)]
pub(crate) struct Open {
    hop: Arc<Hop>,
    /// The policy it was admitted by.
    snapshot: Arc<Snapshot>,
    /// When it was admitted, by the boot-time clock.
    since: Duration,
    marked: AtomicBool,
    /// Who is asked behind us, where that is proved.
    upstream: Mutex<Option<Arc<Certificate>>>,
    cut: Cut,
}

/// Which open hops are decided again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// Something was revoked: all of them.
    All,
    /// Policy changed, or time went by: streams. Short requests finish on their old revision.
    Streams,
}

/// What open hops are decided again by.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    pub(crate) boot: Duration,
    pub(crate) freshness: Freshness,
    pub(crate) now: Timestamp,
    pub(crate) state: State,
}

/// Tells a forwarder that its hop was ended by us. Clones share one state.
#[derive(Clone, Debug, Default)]
pub struct Cut {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    code: OnceLock<Code>,
    wakers: Mutex<Vec<Waker>>,
}

/// What is open for so long is a stream, whatever it was opened as.
const STREAM_AGE: Duration = Duration::from_secs(30);

impl Streams {
    pub(crate) fn enter(
        &self,
        hop: Arc<Hop>,
        snapshot: Arc<Snapshot>,
        since: Duration,
    ) -> (u64, Arc<Open>) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let open = Arc::new(Open {
            hop,
            snapshot,
            since,
            marked: AtomicBool::new(false),
            upstream: Mutex::default(),
            cut: Cut::default(),
        });
        self.open.lock().insert(id, open.clone());
        (id, open)
    }

    pub(crate) fn leave(&self, id: u64) {
        self.open.lock().remove(&id);
    }

    pub(crate) fn len(&self) -> usize {
        self.open.lock().len()
    }

    /// Ends every open stream, for one reason; short requests finish. Gives how many.
    pub(crate) fn end(&self, boot: Duration, code: Code) -> usize {
        let open: Vec<_> = self.open.lock().values().cloned().collect();
        let streams = open.iter().filter(|it| it.is_stream(boot));
        streams.filter(|it| it.cut.now(code)).count()
    }

    /// Decides open hops again; those that would be refused now are cut. Gives how many.
    pub(crate) fn again(&self, which: Which, moment: &Moment) -> usize {
        let open: Vec<_> = self.open.lock().values().cloned().collect();
        let mut cut = 0;
        for stream in open {
            if stream.end_without_upstream(&moment.state) {
                cut += 1;
                continue;
            }
            let verdict = if stream.is_stream(moment.boot) {
                stream.as_stream(moment)
            } else if which == Which::All {
                stream.as_request(moment)
            } else {
                continue;
            };
            if let Verdict::Deny(denial) = verdict {
                cut += usize::from(stream.cut.now(denial.code()));
            }
        }
        cut
    }
}

impl Open {
    pub(crate) const fn cut(&self) -> &Cut {
        &self.cut
    }

    pub(crate) fn mark(&self) {
        self.marked.store(true, Ordering::Relaxed);
    }

    pub(crate) fn reached(&self, upstream: Arc<Certificate>) {
        *self.upstream.lock() = Some(upstream);
    }

    /// Cuts it if whoever is asked behind us was revoked: what the caller still says would reach
    /// them. Tells whether this was the first to cut it.
    pub(crate) fn end_without_upstream(&self, state: &State) -> bool {
        let revocations = &state.revocations;
        let upstream = self.upstream.lock().clone();
        let revoked = upstream.and_then(|upstream| {
            let leaf = revocations.certificate(&upstream.leaf);
            leaf.or_else(|| revocations.path(&upstream.issuer, &upstream.issuers_above))
                .or_else(|| revocations.workload(&upstream.spiffe_id))
        });
        revoked.is_some() && self.cut.now(Code::CERTIFICATE_REVOKED)
    }

    pub(crate) fn is_stream(&self, boot: Duration) -> bool {
        self.marked.load(Ordering::Relaxed) || boot.saturating_sub(self.since) >= STREAM_AGE
    }

    /// As of now with its opening evidence, but for the token's expiry: an open stream outlives
    /// its token, and nothing else.
    fn as_stream(&self, moment: &Moment) -> Verdict {
        let mut hop = Hop::clone(&self.hop);
        if let Token::Verified(token) = &mut hop.evidence.token {
            Arc::make_mut(token).claims.exp = i64::MAX / 2_000_000;
        }
        hop.at = moment.now;
        hop.facts.freshness = moment.freshness;
        decide(hop, &moment.state)
    }

    /// As it was decided, but for what was revoked since.
    fn as_request(&self, moment: &Moment) -> Verdict {
        let state = State {
            revocations: moment.state.revocations.clone(),
            snapshot: self.snapshot.clone(),
        };
        decide(self.hop.clone(), &state)
    }
}

impl Cut {
    /// Why it was ended, once it was.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        self.shared.code.get().copied()
    }

    /// Ready once it was ended.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<Code> {
        if let Some(code) = self.code() {
            return Poll::Ready(code);
        }
        let mut wakers = self.shared.wakers.lock();
        if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            wakers.push(cx.waker().clone());
        }
        drop(wakers);
        // It may have been ended between the look and the registration.
        self.code().map_or(Poll::Pending, Poll::Ready)
    }

    /// Waits until it was ended.
    pub async fn wait(&self) -> Code {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    pub(crate) fn now(&self, code: Code) -> bool {
        let first = self.shared.code.set(code).is_ok();
        for waker in self.shared.wakers.lock().drain(..) {
            waker.wake();
        }
        first
    }
}
