//! Refusals on their way into the ledger.

use crate::each_second::EachSecond;
use crate::excess::Over;
use crate::flood::Both;
use crate::flood::Counted;
use crate::observe::Watch;
use crate::point::EnforcementPoint;
use crate::refusal::Refusal;
use countersign_core::pillars::Denial;
use countersign_core::record::Charged;
use countersign_core::record::Context;
use countersign_core::record::Record;
use countersign_core::record::Resource;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Timestamp;
use countersign_ledger::spool::Promise;
use countersign_ledger::spool::SpoolError;
use std::borrow::Cow;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

static UNRECORDED: EachSecond = EachSecond::new();

impl EnforcementPoint {
    /// Records a refusal: what proven callers are refused may use the ledger's reserve, what
    /// strangers are refused has a quota of its own.
    pub(crate) async fn refuse(&self, denial: &Denial, context: &Context<'_>) -> Refusal {
        self.refuse_watched(denial, context, None).await
    }

    /// The same for a decision that was measured.
    pub(crate) async fn refuse_watched(
        &self,
        denial: &Denial,
        context: &Context<'_>,
        watch: Option<Watch>,
    ) -> Refusal {
        // In a box: whoever is admitted does not carry the room for it.
        Box::pin(self.record_refusal(denial, context, watch)).await
    }

    async fn record_refusal(
        &self,
        denial: &Denial,
        context: &Context<'_>,
        watch: Option<Watch>,
    ) -> Refusal {
        self.inner.refused.fetch_add(1, Ordering::Relaxed);
        let begun = Instant::now();
        let appended = self.append_refusal(denial, context).await;
        if let Ok(promise) = &appended {
            let took = promise.is_some().then(|| begun.elapsed());
            self.tell_refused(denial, took, watch);
        }
        match appended {
            Ok(promise) => Refusal {
                code: denial.code(),
                reason: denial.reason().to_owned(),
                receipt: promise.map(|it| it.receipt()),
                limit: denial.exceeded().cloned().map(Box::new),
                // Its budget is by the second.
                retry_after: (denial.code() == Code::TOKENS_UNKNOWN)
                    .then_some(Duration::from_secs(1))
                    .or(denial.exceeded().map(Charged::reset)),
            },
            // Whoever is proven is told that the ledger failed.
            Err(error) => self.unrecorded(denial, &error),
        }
    }

    async fn append_refusal(
        &self,
        denial: &Denial,
        context: &Context<'_>,
    ) -> Result<Option<Promise>, SpoolError> {
        if denial.is_stranger() {
            self.append_of_stranger(denial, context).await
        } else if denial.code() == Code::RATE_EXCEEDED {
            self.append_of_excess(denial, context).await
        } else {
            self.append(denial, context).await.map(Some)
        }
    }

    async fn append(&self, denial: &Denial, context: &Context<'_>) -> Result<Promise, SpoolError> {
        let record = denial.record(context).to_object();
        match self.inner.spool.append_reserved(record).await {
            Err(SpoolError::TooLarge { .. }) => {
                let record = denial.reduced_record(context).to_object();
                self.inner.spool.append_reserved(record).await
            }
            appended => appended,
        }
    }

    /// A stranger is refused with or without a record.
    async fn append_of_stranger(
        &self,
        denial: &Denial,
        context: &Context<'_>,
    ) -> Result<Option<Promise>, SpoolError> {
        let (source, code) = (context.source_ip, denial.code());
        let now = self.both();
        let (keep, counts) = self.inner.flood.admit(source, code, now);
        self.record_flood(counts);
        if !keep {
            return Ok(None);
        }
        if self.inner.reserve_only.load(Ordering::Relaxed) {
            self.inner.flood.count(source, code);
            return Ok(None);
        }
        let record = denial.record(context).to_bytes();
        if !self.inner.flood.afford(record.len(), now.boot) {
            self.inner.flood.count(source, code);
            return Ok(None);
        }
        match self.inner.spool.append(record).await {
            Ok(promise) => Ok(Some(promise)),
            Err(error) => {
                if let Some(untold) = UNRECORDED.tell() {
                    tracing::warn!(%error, untold, "a stranger's refusal was not recorded");
                }
                self.inner.flood.count(source, code);
                Ok(None)
            }
        }
    }

    /// Who calls too often is refused with or without a record of this very call, and its refusals
    /// leave the reserve alone: it chooses how many there are.
    async fn append_of_excess(
        &self,
        denial: &Denial,
        context: &Context<'_>,
    ) -> Result<Option<Promise>, SpoolError> {
        let record = denial.record(context);
        // All who come by a browser have one name there; the limit tells them apart.
        let person = denial.hop().evidence.session.is_some();
        let limited = denial.exceeded().filter(|_| person);
        let caller = limited.map_or(&*record.principal.id, |it| &*it.charge.key);
        let code = denial.code();
        let (keep, counts) = self.inner.excess.admit(caller, code, self.both());
        self.record_excess(counts);
        if !keep {
            return Ok(None);
        }
        if self.inner.reserve_only.load(Ordering::Relaxed) {
            self.inner.excess.count(caller, code);
            return Ok(None);
        }
        let appended = match self.inner.spool.append(record.to_object()).await {
            Err(SpoolError::TooLarge { .. }) => {
                let reduced = denial.reduced_record(context).to_object();
                self.inner.spool.append(reduced).await
            }
            appended => appended,
        };
        if matches!(appended, Err(SpoolError::Full)) {
            self.inner.excess.count(caller, code);
            return Ok(None);
        }
        appended.map(Some)
    }

    /// Refuses because the ledger took no record of this.
    pub(crate) fn unrecorded(&self, denial: &Denial, error: &SpoolError) -> Refusal {
        self.inner.unrecorded.fetch_add(1, Ordering::Relaxed);
        self.inner.failing.store(true, Ordering::Relaxed);
        self.tell_unrecorded(denial);
        tracing::error!(%error, "the ledger can't take a record");
        Refusal {
            code: Code::LEDGER_REFUSED,
            reason: error.to_string(),
            receipt: None,
            limit: None,
            retry_after: Some(Duration::from_secs(1)),
        }
    }

    /// Writes counts one after the other, as far as the quota goes.
    pub(crate) fn record_flood(&self, counts: Vec<Counted>) {
        if counts.is_empty() {
            return;
        }
        let inner = self.inner.clone();
        if !inner.flood.begin_writing() {
            inner.flood.put_back(counts);
            return;
        }
        self.inner.later(async move {
            for count in counts {
                let record = counted(&count);
                let affordable = inner.flood.afford(record.len(), inner.clock.boot());
                if !affordable || inner.spool.append(record).await.is_err() {
                    inner.flood.put_back([count]);
                }
            }
            inner.flood.end_writing();
        });
    }

    /// Writes counts of proven callers one after the other, as far as there is room beside the
    /// reserve.
    pub(crate) fn record_excess(&self, counts: Vec<Over>) {
        if counts.is_empty() {
            return;
        }
        let inner = self.inner.clone();
        if !inner.excess.begin_writing() {
            inner.excess.put_back(counts);
            return;
        }
        self.inner.later(async move {
            for count in counts {
                if inner.spool.append(counted_over(&count)).await.is_err() {
                    inner.excess.put_back([count]);
                }
            }
            inner.excess.end_writing();
        });
    }

    pub(crate) fn both(&self) -> Both {
        Both {
            boot: self.inner.clock.boot(),
            wall: self.inner.clock.now(),
        }
    }
}

fn counted(count: &Counted) -> Vec<u8> {
    let at = Timestamp::from_secs(count.second);
    let mut record = Record::event("authn.refusals.counted", at, "anonymous", LISTENERS);
    record.source_ip = Some(count.source);
    refusals(record, count.code, count.refusals)
}

fn counted_over(count: &Over) -> Vec<u8> {
    let at = Timestamp::from_secs(count.second);
    let record = Record::event("authz.refusals.counted", at, &count.caller, LISTENERS);
    refusals(record, count.code, count.refusals)
}

fn refusals(mut record: Record<'_>, code: Code, refusals: u64) -> Vec<u8> {
    record.code = Some(code);
    record.pillar = Some(code.pillar());
    let refusals = Cow::Owned(refusals.to_string());
    record.metadata.insert(Cow::Borrowed("refusals"), refusals);
    record.to_bytes()
}

/// Where refusals are counted.
const LISTENERS: Resource<'static> = Resource {
    id: Cow::Borrowed("listeners"),
    service: Cow::Borrowed("gateway"),
};
