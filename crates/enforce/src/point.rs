use crate::admitted::Admitted;
use crate::budgets::Budgets;
use crate::clock::Clock;
use crate::flood::Counted;
use crate::flood::Flood;
use crate::inner::Inner;
use crate::refusal::Refusal;
use crate::streams::Streams;
use crate::view::Heard;
use crate::view::View;
use arc_swap::ArcSwap;
use countersign_core::decide::Verdict;
use countersign_core::decide::decide;
use countersign_core::hop::Evidence;
use countersign_core::hop::Facts;
use countersign_core::hop::Hop;
use countersign_core::pillars::Denial;
use countersign_core::pillars::least_privilege::Reservation;
use countersign_core::record::Context;
use countersign_core::record::Record;
use countersign_core::record::Resource;
use countersign_core::snapshot::Revocation;
use countersign_core::snapshot::Revocations;
use countersign_core::snapshot::Snapshot;
use countersign_core::snapshot::State;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::Operation;
use countersign_core::vocabulary::Pillar;
use countersign_core::vocabulary::Timestamp;
use countersign_ledger::spool::Promise;
use countersign_ledger::spool::Spool;
use countersign_ledger::spool::SpoolError;
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The point where hops are enforced; clones share one.
#[derive(Clone, Debug)]
pub struct EnforcementPoint {
    inner: Arc<Inner>,
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
    /// A point that decides on `snapshot` and records into `spool`. What it knows counts as heard
    /// now; [`heartbeat`](Self::heartbeat) keeps it fresh.
    #[must_use]
    pub fn new(spool: Spool, snapshot: Arc<Snapshot>, clock: Arc<dyn Clock>) -> Self {
        let heard = Heard::now(&*clock, clock.now());
        let view = View {
            snapshot,
            revocations: Arc::new(Revocations::default()),
            heard,
        };
        Self {
            inner: Arc::new(Inner {
                clock,
                streams: Streams::default(),
                budgets: Budgets::default(),
                view: ArcSwap::from_pointee(view),
                flood: Flood::default(),
                spool,
                admitted: AtomicU64::new(0),
                refused: AtomicU64::new(0),
                unrecorded: AtomicU64::new(0),
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
        let view = self.inner.view.load();
        let Ask {
            door,
            service,
            operation,
            evidence,
            mut facts,
            context,
        } = ask;
        facts.freshness = view.freshness(&*self.inner.clock, now);
        let hop = Hop {
            at: now,
            door,
            evidence,
            facts,
            operation,
            service,
        };
        let state = view.state();
        drop(view);
        let proof = match decide(hop, &state) {
            Verdict::Deny(denial) => return Err(self.refuse(&denial, &context).await),
            Verdict::Allow(pending) => {
                let outcomes = self.inner.budgets.reserve(pending.demands(), now);
                match pending.complete(Reservation::new(outcomes)) {
                    Ok(proof) => proof,
                    Err(denial) => return Err(self.refuse(&denial, &context).await),
                }
            }
        };
        let sealed = proof.seal(&context);
        let promise = match self.inner.spool.append(sealed.record().to_vec()).await {
            Ok(promise) => promise,
            Err(error) => return Err(self.unrecorded(&error)),
        };
        match sealed.admit(promise) {
            Ok(admission) => {
                self.inner.admitted.fetch_add(1, Ordering::Relaxed);
                Ok(Admitted::new(admission, self.inner.clone(), now))
            }
            Err(mismatch) => Err(refused(Code::LEDGER_REFUSED, mismatch.to_string())),
        }
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

    /// This node's spool.
    #[must_use]
    pub fn spool(&self) -> &Spool {
        &self.inner.spool
    }

    /// Takes in a heartbeat of the server: what is known is known to be current.
    pub fn heartbeat(&self, server_time: Timestamp) {
        let heard = Heard::now(&*self.inner.clock, server_time);
        self.inner.view.rcu(|view| View {
            heard,
            ..View::clone(view)
        });
        self.record_flood(self.inner.flood.turn(self.inner.clock.now()));
    }

    /// Puts another snapshot in force and decides every open hop again. Gives the number of hops
    /// it ended.
    pub fn install(&self, snapshot: &Arc<Snapshot>) -> usize {
        self.inner.view.rcu(|view| View {
            snapshot: snapshot.clone(),
            ..View::clone(view)
        });
        self.again()
    }

    /// Takes in revocations and ends what they end. Gives the number of open hops it ended.
    pub fn revoke(&self, lines: &[Revocation]) -> usize {
        self.inner.view.rcu(|view| {
            let mut revocations = Revocations::clone(&view.revocations);
            lines.iter().for_each(|line| revocations.apply(line));
            View {
                revocations: Arc::new(revocations),
                ..View::clone(view)
            }
        });
        self.again()
    }

    /// Decides every open hop again, as is done every 30 s.
    pub fn again(&self) -> usize {
        let now = self.inner.clock.now();
        let view = self.inner.view.load_full();
        let freshness = view.freshness(&*self.inner.clock, now);
        self.inner.streams.again(&view.state(), freshness, now)
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

    /// Records something that happened without a decision of its own.
    ///
    /// # Errors
    /// The ledger's, if it took no record.
    pub async fn record_event(&self, record: &Record<'_>) -> Result<Promise, SpoolError> {
        self.inner.spool.append_reserved(record.to_bytes()).await
    }

    /// Takes in what was spent before, from a decision's record and, if there is one, its
    /// completion: without one, what was set aside counts as spent.
    pub fn restore_spending(&self, decision: &Record<'_>, cost: Option<u64>) {
        let now = self.inner.clock.now();
        for outcome in decision
            .reservations
            .iter()
            .filter(|outcome| outcome.granted)
        {
            let cost = cost.unwrap_or(outcome.demand.amount);
            self.inner
                .budgets
                .restore(&outcome.demand, decision.timestamp, cost, now);
        }
    }

    async fn refuse(&self, denial: &Denial, context: &Context<'_>) -> Refusal {
        self.inner.refused.fetch_add(1, Ordering::Relaxed);
        let stranger =
            denial.pillar() <= Pillar::Identity && denial.hop().evidence.certificate().is_none();
        if stranger {
            let (keep, counts) =
                self.inner
                    .flood
                    .admit(context.source_ip, denial.code(), denial.hop().at);
            self.record_flood(counts);
            if !keep {
                return refused(denial.code(), denial.reason().to_owned());
            }
        }
        let record = denial.record(context).to_bytes();
        let appended = if stranger {
            self.inner.spool.append(record).await
        } else {
            self.inner.spool.append_reserved(record).await
        };
        let mut refusal = refused(denial.code(), denial.reason().to_owned());
        match appended {
            Ok(promise) => refusal.receipt = Some(promise.receipt()),
            // A stranger is refused with or without a record; whoever is proven is told that the
            // ledger failed.
            Err(error) if stranger => tracing::warn!(%error, "a refusal was not recorded"),
            Err(error) => return self.unrecorded(&error),
        }
        refusal
    }

    fn unrecorded(&self, error: &SpoolError) -> Refusal {
        self.inner.unrecorded.fetch_add(1, Ordering::Relaxed);
        tracing::error!(%error, "the ledger can't take a record");
        let mut refusal = refused(Code::LEDGER_REFUSED, error.to_string());
        refusal.retry_after = Some(Duration::from_secs(1));
        refusal
    }

    fn record_flood(&self, counts: Vec<Counted>) {
        for count in counts {
            let at = Timestamp::from_secs(count.second);
            let resource = Resource {
                id: Cow::Borrowed("listeners"),
                service: Cow::Borrowed("gateway"),
            };
            let mut record = Record::event("authn.refusals.counted", at, "anonymous", resource);
            record.code = Some(count.code);
            record.pillar = Some(count.code.pillar());
            record.source_ip = Some(count.source);
            record.metadata.insert(
                Cow::Borrowed("refusals"),
                Cow::Owned(count.refusals.to_string()),
            );
            self.inner.append_later(record.to_bytes());
        }
    }
}

fn refused(code: Code, reason: String) -> Refusal {
    Refusal {
        code,
        reason,
        receipt: None,
        retry_after: None,
    }
}
