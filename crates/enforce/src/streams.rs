use countersign_core::decide::Verdict;
use countersign_core::decide::decide;
use countersign_core::hop::Freshness;
use countersign_core::hop::Hop;
use countersign_core::hop::Token;
use countersign_core::snapshot::State;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Timestamp;
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;

/// The hops that were admitted and have not ended, so that what is revoked ends.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    next: AtomicU64,
    open: Mutex<HashMap<u64, Arc<Open>>>,
}

/// An admitted hop that has not ended.
#[derive(Debug)]
pub(crate) struct Open {
    hop: Hop,
    cut: Cut,
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

impl Streams {
    pub(crate) fn enter(&self, hop: Hop) -> (u64, Cut) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let cut = Cut::default();
        self.open.lock().insert(
            id,
            Arc::new(Open {
                hop,
                cut: cut.clone(),
            }),
        );
        (id, cut)
    }

    pub(crate) fn leave(&self, id: u64) {
        self.open.lock().remove(&id);
    }

    pub(crate) fn len(&self) -> usize {
        self.open.lock().len()
    }

    /// Decides every open hop again with its opening evidence, but for the token's expiry: an open
    /// stream outlives its token, and nothing else. Those that would be refused now are cut.
    pub(crate) fn again(&self, state: &State, freshness: Freshness, now: Timestamp) -> usize {
        let open: Vec<_> = self.open.lock().values().cloned().collect();
        let mut cut = 0;
        for stream in open {
            let mut hop = unexpiring(&stream.hop);
            hop.at = now;
            hop.facts.freshness = freshness;
            if let Verdict::Deny(denial) = decide(hop, state) {
                cut += usize::from(stream.cut.now(denial.code()));
            }
        }
        cut
    }
}

fn unexpiring(hop: &Hop) -> Hop {
    let mut hop = hop.clone();
    if let Token::Verified(token) = &mut hop.evidence.token {
        Arc::make_mut(token).claims.exp = i64::MAX / 2_000_000;
    }
    hop
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
