use countersign_core::hop::Hop;
use countersign_core::snapshot::Snapshot;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Pillar;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

/// Hears what an enforcement point does, to count it. It is called on the way of every hop, so it
/// may neither wait nor fail, and nothing depends on it.
pub trait Observer: fmt::Debug + Send + Sync {
    /// A hop was decided, and its record is durable or counted.
    fn decided(&self, decided: &Decided<'_>);

    /// A model's answer said how many tokens went in and came out. `model` is the name in the
    /// prices of a budget, so there are no more names than are configured.
    fn used(&self, model: &str, input: u64, output: u64);

    /// A revocation is in force and what it ends has ended, so long after the server took it in.
    fn revoked(&self, after: Duration);
}

/// A decision as an [`Observer`] hears of it.
#[derive(Clone, Copy, Debug)]
pub struct Decided<'a> {
    /// What was asked.
    pub hop: &'a Hop,
    /// The policy it was decided on.
    pub snapshot: &'a Snapshot,
    /// Why it was refused, if it was.
    pub code: Option<Code>,
    /// Whether it has a record of its own; refusals in a flood are counted instead.
    pub recorded: bool,
    /// How long the record took to become durable, where one was written.
    pub appended: Option<Duration>,
    /// How long each pillar took that was proved, the last one (which is `appended`) excepted;
    /// measured in one of [`SAMPLE`] decisions.
    pub pillars: Option<&'a [(Pillar, Duration)]>,
}

/// One of so many decisions is measured pillar by pillar: reading the clock six times costs about
/// as much as the cheapest of them.
pub const SAMPLE: u64 = 64;

/// The clock beside a decision that is measured.
#[derive(Debug)]
pub(crate) struct Watch {
    begun: Instant,
    /// Nanoseconds after the beginning when each pillar held; 0 where it did not. Atomic only to
    /// be carried from thread to thread.
    held: [AtomicU64; 5],
}

impl Watch {
    pub(crate) fn start() -> Self {
        Self {
            begun: Instant::now(),
            held: Default::default(),
        }
    }

    /// A pillar holds.
    pub(crate) fn held(&self, pillar: Pillar) {
        let nanos = u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        if let Some(place) = self.held.get(pillar as usize) {
            place.store(nanos.max(1), Ordering::Relaxed);
        }
    }

    /// What each of them took.
    pub(crate) fn read(&self) -> Vec<(Pillar, Duration)> {
        let mut before = 0;
        let held = self.held.iter().map(|it| it.load(Ordering::Relaxed));
        let held = Pillar::ALL.into_iter().zip(held);
        held.take_while(|(_, at)| *at > 0)
            .map(|(pillar, at)| {
                let took = at.saturating_sub(std::mem::replace(&mut before, at));
                (pillar, Duration::from_nanos(took))
            })
            .collect()
    }
}
