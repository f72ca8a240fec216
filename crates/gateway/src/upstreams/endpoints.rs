//! The addresses of one service, and which of them is called next.

use super::circuit::Circuit;
use super::circuit::Leave;
use super::pool::Pool;
use crate::body::BodyError;
use crate::body::Downlink;
use bytes::Bytes;
use countersign_core::config::Balance;
use http_body::Frame;
use http_body::SizeHint;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use tokio::time::Instant;

/// The addresses of one service.
#[derive(Debug)]
pub(super) struct Endpoints {
    all: Vec<Arc<Endpoint>>,
    balance: Balance,
    turn: AtomicUsize,
}

/// One address. A name counts as one, whatever it resolves to: the dialer tries its addresses.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) pool: Pool,
    circuit: Circuit,
    /// Calls under way, to the end of their answers.
    pending: AtomicUsize,
    /// What probes found last.
    well: AtomicBool,
}

/// One call at one address, until its answer has ended.
#[derive(Debug)]
pub(super) struct Lease {
    endpoint: Arc<Endpoint>,
    leave: Leave,
    /// Nobody said what became of it.
    open: bool,
}

/// None of the addresses may be called now; one may be after this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoneLeft(pub(super) Duration);

impl Endpoints {
    /// Calls go to one of these.
    pub(super) fn new(pools: Vec<Pool>, balance: Balance) -> Self {
        let all = pools.into_iter().map(|pool| Arc::new(Endpoint::new(pool)));
        Self {
            all: all.collect(),
            balance,
            turn: AtomicUsize::new(0),
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> &[Arc<Endpoint>] {
        &self.all
    }

    /// The address for the next call, other than the one that was `tried`. `draw` gives two random
    /// numbers.
    pub(super) fn pick(
        &self,
        tried: Option<&Lease>,
        now: Instant,
        draw: impl FnOnce() -> (usize, usize),
    ) -> Result<Lease, NoneLeft> {
        let fits = |it: &&Arc<Endpoint>| {
            !tried.is_some_and(|tried| Arc::ptr_eq(&tried.endpoint, it))
                && it.well.load(Ordering::Relaxed)
                && it.circuit.wait(now).is_zero()
        };
        let mut left: Vec<&Arc<Endpoint>> = self.all.iter().filter(fits).collect();
        if left.len() > 1 {
            let first = match self.balance {
                Balance::RoundRobin => self.turn.fetch_add(1, Ordering::Relaxed) % left.len(),
                Balance::LeastPending => less_pending(&left, draw()),
            };
            left.rotate_left(first);
        }
        let mut leases = left.into_iter().filter_map(|it| it.lease(now));
        leases.next().ok_or_else(|| NoneLeft(self.wait(now)))
    }

    /// Until when it makes no sense to come again; at least a second.
    fn wait(&self, now: Instant) -> Duration {
        let waits = self.all.iter().map(|it| it.circuit.wait(now));
        waits.min().unwrap_or_default().max(Duration::from_secs(1))
    }
}

/// The better of two drawn at random: nearly as even as comparing all of them, and unlike that it
/// does not send everybody at once to the one that has just become idle.
fn less_pending(left: &[&Arc<Endpoint>], (one, other): (usize, usize)) -> usize {
    let first = one % left.len();
    let second = (first + 1 + other % (left.len() - 1)) % left.len();
    let pending = |at: usize| {
        left.get(at)
            .map(|it| it.pending.load(Ordering::Relaxed))
            .unwrap_or(usize::MAX)
    };
    if pending(second) < pending(first) {
        second
    } else {
        first
    }
}

impl Endpoint {
    fn new(pool: Pool) -> Self {
        Self {
            pool,
            circuit: Circuit::default(),
            pending: AtomicUsize::new(0),
            well: AtomicBool::new(true),
        }
    }

    /// Notes what probes found.
    pub(super) fn probed(&self, well: bool) {
        if self.well.swap(well, Ordering::Relaxed) == well {
            return;
        }
        if well {
            tracing::info!(address = %self.pool, "an address of an upstream is well again");
        } else {
            tracing::warn!(address = %self.pool, "an address of an upstream is not well");
        }
    }

    fn lease(self: &Arc<Self>, now: Instant) -> Option<Lease> {
        let leave = self.circuit.enter(now)?;
        self.pending.fetch_add(1, Ordering::Relaxed);
        Some(Lease {
            endpoint: self.clone(),
            leave,
            open: true,
        })
    }
}

impl Lease {
    /// Where to.
    pub(super) fn pool(&self) -> &Pool {
        &self.endpoint.pool
    }

    /// There was an answer.
    pub(super) fn succeeded(&mut self) {
        self.open = false;
        self.endpoint.circuit.succeeded();
    }

    /// There was no connection, or it broke without an answer.
    pub(super) fn failed(&mut self) {
        let open = std::mem::replace(&mut self.open, false);
        if open && self.endpoint.circuit.failed(self.leave, Instant::now()) {
            tracing::warn!(address = %self.endpoint.pool, "an address of an upstream is not called for a while");
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.endpoint.pending.fetch_sub(1, Ordering::Relaxed);
        if self.open {
            self.endpoint.circuit.abandoned(self.leave, Instant::now());
        }
    }
}

/// A body that keeps its address busy until it has ended.
pub(super) struct Leased {
    pub(super) body: Downlink,
    pub(super) _lease: Lease,
}

impl http_body::Body for Leased {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::super::pool::Reach;
    use super::*;

    fn endpoints(count: u16, balance: Balance) -> Endpoints {
        let pool = |nth| {
            Pool::new(
                format!("u{nth}"),
                String::new(),
                Reach::Unix("/s".into()),
                None,
            )
        };
        Endpoints::new((0..count).map(pool).collect(), balance)
    }

    fn pick(endpoints: &Endpoints, draw: (usize, usize)) -> Lease {
        endpoints.pick(None, Instant::now(), || draw).unwrap()
    }

    fn name(lease: &Lease) -> String {
        lease.pool().to_string()
    }

    #[test]
    fn in_turn() {
        let endpoints = endpoints(3, Balance::RoundRobin);
        let names: Vec<String> = (0..6).map(|_| name(&pick(&endpoints, (0, 0)))).collect();
        assert_eq!(names, ["u0", "u1", "u2", "u0", "u1", "u2"]);
    }

    #[test]
    fn the_less_busy_of_two() {
        let endpoints = endpoints(3, Balance::LeastPending);
        let busy = pick(&endpoints, (0, 0));
        assert_eq!(name(&busy), "u0");
        assert_eq!(name(&pick(&endpoints, (0, 0))), "u1");
        assert_eq!(name(&pick(&endpoints, (2, 0))), "u2");
        drop(busy);
        assert_eq!(name(&pick(&endpoints, (0, 1))), "u0");
    }

    #[test]
    fn never_the_one_that_was_tried_nor_one_that_is_not_well() {
        let endpoints = endpoints(3, Balance::LeastPending);
        let tried = pick(&endpoints, (0, 0));
        endpoints.all()[1].probed(false);
        for draw in 0..6 {
            let lease = endpoints.pick(Some(&tried), Instant::now(), || (draw, draw));
            assert_eq!(name(&lease.unwrap()), "u2");
        }
        endpoints.all()[2].probed(false);
        let none = endpoints.pick(Some(&tried), Instant::now(), || (0, 0));
        assert!(none.is_err());
    }

    #[test]
    fn one_that_fails_is_left_out_until_its_time_has_come() {
        let endpoints = endpoints(2, Balance::RoundRobin);
        for _ in 0..10 {
            let mut lease = pick(&endpoints, (0, 0));
            if name(&lease) == "u0" {
                lease.failed();
            } else {
                lease.succeeded();
            }
        }
        let names: Vec<String> = (0..4).map(|_| name(&pick(&endpoints, (0, 0)))).collect();
        assert_eq!(names, ["u1", "u1", "u1", "u1"]);
        for _ in 0..5 {
            pick(&endpoints, (0, 0)).failed();
        }
        let none = endpoints.pick(None, Instant::now(), || (0, 0));
        assert_eq!(none.unwrap_err(), NoneLeft(Duration::from_secs(1)));
        let later = Instant::now() + Duration::from_secs(2);
        let trial = endpoints.pick(None, later, || (0, 0)).unwrap();
        let other = endpoints.pick(None, later, || (0, 0)).unwrap();
        assert_ne!(name(&trial), name(&other));
        assert!(
            endpoints.pick(None, later, || (0, 0)).is_err(),
            "a third trial of two"
        );
    }
}
