use crate::admitted::Admitted;
use crate::budgets::EXACT;
use crate::clock::Clock;
use crate::excess::Excess;
use crate::flood::Flood;
use crate::inner::Inner;
use crate::observe::Watch;
use crate::rates::Rates;
use crate::refusal::Refusal;
use crate::reserving::Held;
use crate::streams::Moment;
use crate::streams::Streams;
use crate::streams::Which;
use crate::tasks::Tasks;
use crate::view::Heard;
use crate::view::View;
use crate::view::Wall;
use arc_swap::ArcSwap;
use arc_swap::ArcSwapOption;
use countersign_core::decide::Verdict;
use countersign_core::decide::decide;
use countersign_core::decide::decide_watched;
use countersign_core::hop::Evidence;
use countersign_core::hop::Facts;
use countersign_core::hop::Freshness;
use countersign_core::hop::Hop;
use countersign_core::pillars::Denial;
use countersign_core::pillars::least_privilege::PrivilegeProof;
use countersign_core::record::Context;
use countersign_core::record::Record;
use countersign_core::record::Status;
use countersign_core::snapshot::Revocation;
use countersign_core::snapshot::RevocationGap;
use countersign_core::snapshot::Revocations;
use countersign_core::snapshot::Snapshot;
use countersign_core::snapshot::State;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::Operation;
use countersign_core::vocabulary::Timestamp;
use countersign_ledger::spool::Promise;
use countersign_ledger::spool::Spool;
use countersign_ledger::spool::SpoolError;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tokio::sync::watch;

/// The point where hops are enforced; clones share one.
#[derive(Clone, Debug)]
pub struct EnforcementPoint {
    pub(crate) inner: Arc<Inner>,
}

/// One question, as a front asks it.
#[derive(Debug)]
pub struct Ask<'a> {
    /// The listener it came in by.
    pub door: Name,
    /// The service asked for.
    pub service: String,
    /// What is wanted of it.
    pub operation: Operation,
    /// What was proved about the caller.
    pub evidence: Evidence,
    /// What else was seen; freshness is filled in here.
    pub facts: Facts,
    /// What goes into the record beside the hop.
    pub context: Context<'a>,
}

/// How many hops were decided since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Admitted and recorded.
    pub admitted: u64,
    /// Refused and recorded, or counted in a flood.
    pub refused: u64,
    /// Refused because the ledger took no record.
    pub unrecorded: u64,
}

impl EnforcementPoint {
    /// A point that decides on `snapshot` and records into `spool`, in the process that policy and
    /// revocations come from. What it knows counts as heard now; [`heartbeat`](Self::heartbeat)
    /// keeps it fresh.
    #[must_use]
    pub fn new(spool: Spool, snapshot: Arc<Snapshot>, clock: Arc<dyn Clock>) -> Self {
        let heard = Heard::all(clock.boot(), clock.now());
        Self::with(spool, snapshot, clock, heard)
    }

    /// A point of a node that has not heard from a server yet: what it knows counts as never heard,
    /// so it admits nothing, until the first heartbeat that agrees with it.
    #[must_use]
    pub fn unheard(spool: Spool, snapshot: Arc<Snapshot>, clock: Arc<dyn Clock>) -> Self {
        Self::with(spool, snapshot, clock, Heard::default())
    }

    fn with(spool: Spool, snapshot: Arc<Snapshot>, clock: Arc<dyn Clock>, heard: Heard) -> Self {
        let view = View {
            snapshot,
            revocations: Arc::new(Revocations::default()),
            heard,
        };
        Self {
            inner: Arc::new(Inner {
                wall: Wall::new(clock.now()),
                since: clock.now(),
                tasks: Tasks::default(),
                clock,
                streams: Streams::default(),
                budgets: Arc::default(),
                rates: Rates::default(),
                view: ArcSwap::from_pointee(view),
                excess: Excess::default(),
                flood: Flood::default(),
                spool,
                unsound: ArcSwapOption::empty(),
                late: watch::Sender::new(0),
                admitted: AtomicU64::new(0),
                refused: AtomicU64::new(0),
                unrecorded: AtomicU64::new(0),
                failing: AtomicBool::new(false),
                low: AtomicBool::new(false),
                reserve_only: AtomicBool::new(false),
                observer: OnceLock::new(),
            }),
        }
    }

    /// Decides, reserves, records: an admission whose record is as durable as the ledger promises,
    /// or a refusal whose record is there too.
    ///
    /// # Errors
    /// The refusal.
    pub async fn enforce(&self, ask: Ask<'_>) -> Result<Admitted, Refusal> {
        let now = self.inner.clock.now();
        let (state, freshness) = self.known(now);
        let context = ask.context;
        let hop = hop(ask, now, freshness);
        let watch = self.watch();
        let (proof, held) = match self.prove(hop, &state, now, watch.as_ref()) {
            Ok(proved) => proved,
            Err(denial) => {
                return Err(self.refuse_watched(&denial, &context, watch).await);
            }
        };
        let sealed = proof.seal(&context);
        if let Some(why) = self.inner.unsound.load_full() {
            let denial = sealed.refused(why.as_str());
            return Err(self.refuse(&denial, &context).await);
        }
        let begun = Instant::now();
        let appended = self.inner.spool.append_reserved(sealed.record());
        let promise = match appended.await {
            Ok(promise) => promise,
            Err(error @ SpoolError::TooLarge { .. }) => {
                let denial = sealed.refused(error.to_string());
                return Err(self.refuse(&denial, &context).await);
            }
            Err(error) => {
                let denial = sealed.refused(error.to_string());
                return Err(self.unrecorded(&denial, &error));
            }
        };
        let appended = begun.elapsed();
        self.inner.took_a_record();
        let admission = match sealed.admit(promise) {
            Ok(admission) => admission,
            Err(mismatch) => {
                return Err(Refusal {
                    code: Code::LEDGER_REFUSED,
                    reason: mismatch.to_string(),
                    receipt: None,
                    limit: None,
                    retry_after: None,
                });
            }
        };
        held.budgets.keep();
        let admitted = Admitted::new(admission, self.inner.clone(), now);
        if let Some(denial) = self.overtaken(&admitted, &state) {
            admitted.withdraw(denial.code());
            return Err(self.refuse(&denial, &context).await);
        }
        held.rates.keep();
        self.inner.admitted.fetch_add(1, Ordering::Relaxed);
        self.tell_admitted(admitted.admission(), appended, watch);
        Ok(admitted)
    }

    /// Whether this is refused whatever its body says, by what is known of it without: so that
    /// nobody's body is read who may not call at all. This admits nothing, sets nothing aside and
    /// records nothing; where it says no, nothing is decided yet.
    #[must_use]
    pub fn refuses_unread(&self, ask: Ask<'_>) -> bool {
        let now = self.inner.clock.now();
        let (state, freshness) = self.known(now);
        match decide(hop(ask, now, freshness), &state) {
            Verdict::Allow(_) => false,
            // What is said of a body that nobody has read yet is no last word.
            Verdict::Deny(denial) => !matches!(
                denial.code(),
                Code::BODY_SCHEMA
                    | Code::BODY_UNREADABLE
                    | Code::BODY_TOO_LARGE
                    | Code::MODEL_REFUSED
                    | Code::BUDGET_SPENT
            ),
        }
    }

    /// Five pillars and the reservations they demand.
    fn prove(
        &self,
        hop: Hop,
        state: &State,
        now: Timestamp,
        watch: Option<&Watch>,
    ) -> Result<(PrivilegeProof, Held<'_>), Box<Denial>> {
        let verdict = match watch {
            Some(watch) => decide_watched(hop, state, |pillar| watch.held(pillar)),
            None => decide(hop, state),
        };
        let pending = match verdict {
            Verdict::Deny(denial) => return Err(denial),
            Verdict::Allow(pending) => pending,
        };
        let (held, reservation) = Held::take(&self.inner, &pending, now);
        let proof = pending.complete(reservation)?;
        Ok((proof, held))
    }

    /// What was revoked or changed while the record was being written has not seen this hop among
    /// the open ones, so it is decided again now that it is.
    fn overtaken(&self, admitted: &Admitted, decided: &State) -> Option<Box<Denial>> {
        let state = self.state();
        let same = state.snapshot.revision() == decided.snapshot.revision()
            && state.revocations.epoch() == decided.revocations.epoch();
        if same {
            return None;
        }
        match decide(admitted.admission().shared_hop(), &state) {
            Verdict::Allow(_) => None,
            Verdict::Deny(denial) => Some(denial),
        }
    }

    pub(crate) fn known(&self, now: Timestamp) -> (State, Freshness) {
        let view = self.inner.view.load();
        let back = self.inner.wall.see(now);
        let freshness = view.freshness(self.inner.clock.boot(), now, back);
        (view.state(), freshness)
    }

    /// The state in force.
    #[must_use]
    pub fn state(&self) -> State {
        self.inner.view.load().state()
    }

    /// The snapshot in force.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.inner.view.load().snapshot.clone()
    }

    /// The time, by this point's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    /// This point's clock.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.clock
    }

    /// The tasks that this point can't do without.
    #[must_use]
    pub fn tasks(&self) -> &Tasks {
        &self.inner.tasks
    }

    /// This node's spool.
    #[must_use]
    pub fn spool(&self) -> &Spool {
        &self.inner.spool
    }

    /// Takes in a heartbeat of the server. What is known counts as heard now only as far as it is
    /// what the server has: revocations if none are missing up to its `epoch`, policy if its
    /// `revision` is in force here.
    pub fn heartbeat(&self, epoch: u64, revision: &Digest, server_time: Timestamp) {
        let now = self.both();
        self.inner.view.rcu(|view| {
            let policy = view.snapshot.revision() == revision;
            let revocations = view.revocations.epoch() >= epoch;
            View {
                heard: view
                    .heard
                    .renew((policy, revocations), now.boot, server_time),
                ..View::clone(view)
            }
        });
        self.inner.wall.heard(now.wall);
        self.record_flood(self.inner.flood.turn(now));
        self.record_excess(self.inner.excess.turn(now));
    }

    /// Puts another snapshot in force and decides every open stream again; short requests finish on
    /// the one they began on. Gives the number of streams it ended.
    pub fn install(&self, snapshot: &Arc<Snapshot>) -> usize {
        self.inner.view.rcu(|view| View {
            snapshot: snapshot.clone(),
            ..View::clone(view)
        });
        self.decide_again(Which::Streams)
    }

    /// Takes in revocations and ends what they end. Gives the number of open hops it ended.
    ///
    /// # Errors
    /// [`RevocationGap`] if lines are missing: those before the gap are in force, and the log has
    /// to be sent again from the gap on. Until then heartbeats do not renew what is known of
    /// revocations.
    pub fn revoke(&self, lines: &[Revocation]) -> Result<usize, RevocationGap> {
        let mut gap = None;
        let before = self.inner.view.load().revocations.epoch();
        self.inner.view.rcu(|view| {
            let mut revocations = Revocations::clone(&view.revocations);
            gap = lines.iter().find_map(|line| revocations.apply(line).err());
            View {
                revocations: Arc::new(revocations),
                ..View::clone(view)
            }
        });
        let ended = self.decide_again(Which::All);
        self.tell_revoked(lines, before);
        gap.map_or(Ok(ended), Err)
    }

    /// Decides every open stream again, as is done every 30 s. Gives the number it ended. Streams
    /// don't outlive the trust in the ledger: what they do would be in no record that counts.
    pub fn again(&self) -> usize {
        let distrusted = self.inner.unsound.load().is_some();
        let ended = if distrusted {
            let boot = self.inner.clock.boot();
            self.inner.streams.end(boot, Code::LEDGER_REFUSED)
        } else {
            0
        };
        ended + self.decide_again(Which::Streams)
    }

    fn decide_again(&self, which: Which) -> usize {
        let now = self.inner.clock.now();
        let (state, freshness) = self.known(now);
        let moment = Moment {
            boot: self.inner.clock.boot(),
            freshness,
            now,
            state,
        };
        self.inner.streams.again(which, &moment)
    }

    /// How many admitted hops have not ended.
    #[must_use]
    pub fn open(&self) -> usize {
        self.inner.streams.len()
    }

    /// How many hops were decided since the start.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            admitted: self.inner.admitted.load(Ordering::Relaxed),
            refused: self.inner.refused.load(Ordering::Relaxed),
            unrecorded: self.inner.unrecorded.load(Ordering::Relaxed),
        }
    }

    /// Says that records written here may never count (the log they go to is not the one it was, or
    /// they have not reached it for too long), or that they do again. Until then whoever would be
    /// admitted is refused by the audit pillar.
    pub fn distrust_ledger(&self, why: Option<String>) {
        self.inner.unsound.store(why.map(Arc::new));
    }

    /// Records something that happened without a decision of its own.
    ///
    /// # Errors
    /// The ledger's, if it took no record.
    pub async fn record_event(&self, record: &Record<'_>) -> Result<Promise, SpoolError> {
        self.inner.spool.append_reserved(record.to_object()).await
    }

    /// Takes in what was spent before, from a decision's record and, if there is one, its
    /// completion: without one, what was set aside counts as spent. What was refused after all,
    /// for its rate or another budget, was given back at once.
    pub fn restore_spending(&self, decision: &Record<'_>, cost: Option<u64>) {
        if decision.status != Status::Success {
            return;
        }
        let now = self.inner.clock.now();
        for outcome in decision
            .reservations
            .iter()
            .filter(|outcome| outcome.granted)
        {
            let cost = cost.unwrap_or(outcome.demand.amount).min(EXACT);
            self.inner
                .budgets
                .restore(&outcome.demand, decision.timestamp, cost, now);
        }
    }
}

fn hop(ask: Ask<'_>, at: Timestamp, freshness: Freshness) -> Hop {
    let mut facts = ask.facts;
    facts.freshness = freshness;
    // Numbers out of bodies: a larger one would be no canonical JSON (RFC 8785 section 3.2.2.3).
    for number in [&mut facts.body_bytes, &mut facts.max_output_tokens] {
        *number = number.map(|it| it.min(EXACT));
    }
    Hop {
        at,
        door: ask.door,
        evidence: ask.evidence,
        facts,
        operation: ask.operation,
        service: ask.service,
    }
}
