//! Another configuration in place of the one in force: read, resolved, its own tests run, its
//! doors bound, kept, made active, swapped. Whatever fails changes nothing.
//!
//! Whoever asks means "in place of what was in force when I asked": of two reloads at once one
//! wins, and the other is told of it. Where the configuration in force says so
//! (`change: { approve }`), one that allows more waits for a second person ([`Pending`]).

mod check;
mod pending;
mod prepare;
mod report;

pub(crate) use check::checked;
pub(crate) use check::compile;
pub(crate) use check::same_files;
pub use pending::Pending;
pub use prepare::Prepare;
pub use prepare::Prepared;
pub(crate) use report::Report;

use crate::snapshots::SnapshotError;
use crate::snapshots::Snapshots;
use crate::store::Store;
use crate::store::StoreError;
use crate::updates::Updates;
use crate::whole::whole;
use countersign_core::change::Difference;
use countersign_core::change::difference;
use countersign_core::config::Diagnostic;
use countersign_core::config::Sources;
use countersign_core::snapshot::Bundle;
use countersign_core::snapshot::Snapshot;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Timestamp;
use countersign_enforce::EnforcementPoint;
use parking_lot::Mutex;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

/// A test of the configuration that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedTest {
    /// The line it is written on.
    pub line: u32,
    /// The sentence.
    pub name: String,
    /// What came out instead, and why.
    pub reason: String,
}

/// How a change of the configuration was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    /// A second person approved it.
    Approval,
    /// `countersign reload`.
    Command,
    /// A hangup signal.
    Sighup,
    /// The process was started with it.
    Start,
}

/// A configuration to put in force.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// For the record.
    pub(crate) actor: String,
    /// Everything but the doing.
    pub(crate) dry_run: bool,
    /// The file to start from.
    pub(crate) entry: String,
    /// The files by name.
    pub(crate) files: BTreeMap<String, String>,
    /// For the record.
    pub(crate) via: Via,
}

/// What a reload changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// What is different.
    pub difference: Difference,
    /// Whether it was only tried; then nothing changed.
    pub dry_run: bool,
    /// Open streams that the new policy ended.
    pub ended: u64,
    /// In a trial: whether a second person would have to approve it.
    pub needs_approval: bool,
    /// The revision that was in force.
    pub previous: Digest,
    /// The revision in force, or that would be.
    pub revision: Digest,
    /// The tests that held, all of them.
    pub tests: u64,
    /// Tests that the configuration before had and this one has not.
    pub tests_removed: Vec<String>,
}

/// Why nothing was reloaded.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The configuration has errors.
    #[error("the configuration has {} errors", .0.len())]
    Configuration(Vec<Diagnostic>, Box<Sources>),
    /// It asks for what this build does not enforce.
    #[error("{} is not in this build", .0.join(", "))]
    NotInBuild(Vec<String>),
    /// Tests in it do not hold.
    #[error("{} tests of the configuration fail", .0.len())]
    Tests(Vec<FailedTest>),
    /// Only a new data folder has another trust domain or environment.
    #[error("a running server keeps its trust domain and environment")]
    OtherDomain,
    /// Something that it needs can't be had, such as the address of a listener.
    #[error("{0}")]
    NotReady(String),
    /// Another change was faster.
    #[error("revision `{}` was put in force meanwhile, by `{actor}` at {at}: look at it, then reload again", .revision.short())]
    Superseded {
        /// By whom.
        actor: String,
        /// When.
        at: Timestamp,
        /// The revision in force.
        revision: Digest,
    },
    /// It allows more, and somebody else has to agree.
    #[error("{}", .0.told())]
    NeedsApproval(Box<Pending>),
    /// It allows more, somebody else has to agree, and a signal does not say who asked.
    #[error(
        "it allows more than what is in force, which wants that approved by somebody who did not ask for it, and a signal does not say who asks: use `countersign reload`"
    )]
    Anonymous,
    /// What was waiting is not to be had any more.
    #[error("the change can't be applied: {0}")]
    Spent(&'static str),
    /// Keeping or activating it failed.
    #[error(transparent)]
    Snapshot(SnapshotError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Puts configurations in force, one after the other.
#[derive(Clone, Debug)]
pub struct Reloader {
    hooks: Arc<Mutex<Vec<Arc<dyn Prepare>>>>,
    /// Whether the last attempt to change the configuration failed.
    failed: Arc<AtomicBool>,
    point: EnforcementPoint,
    reloading: Arc<tokio::sync::Mutex<()>>,
    snapshots: Arc<Snapshots>,
    store: Store,
    updates: Arc<Updates>,
}

impl Via {
    /// As records say it.
    const fn word(self) -> &'static str {
        match self {
            Self::Approval => "approval",
            Self::Command => "command",
            Self::Sighup => "sighup",
            Self::Start => "start",
        }
    }
}

impl Reloader {
    pub(crate) fn new(
        point: EnforcementPoint,
        snapshots: Arc<Snapshots>,
        store: Store,
        updates: Arc<Updates>,
    ) -> Self {
        Self {
            hooks: Arc::default(),
            failed: Arc::default(),
            point,
            reloading: Arc::default(),
            snapshots,
            store,
            updates,
        }
    }

    /// Whether the last attempt to change the configuration did not fail. One that waits for a
    /// second person has not failed.
    pub(crate) fn last_succeeded(&self) -> bool {
        !self.failed.load(Ordering::Relaxed)
    }

    /// Asks `hook` to get ready before each policy is put in force.
    pub(crate) fn prepare_with(&self, hook: Arc<dyn Prepare>) {
        self.hooks.lock().push(hook);
    }

    /// Puts these files in force, whole even if nobody waits for it any more.
    ///
    /// # Errors
    /// [`ReloadError`]; then nothing has changed.
    pub(crate) async fn reload(&self, change: Change) -> Result<Reloaded, ReloadError> {
        // What was in force when it was asked for, not when its turn comes.
        let before = self.point.snapshot();
        let reloader = self.clone();
        whole(async move {
            let _reloading = reloader.reloading.lock().await;
            let outcome = reloader.replace(&before, &change).await;
            if !change.dry_run && !matches!(outcome, Err(ReloadError::NeedsApproval(_))) {
                reloader.failed.store(outcome.is_err(), Ordering::Relaxed);
            }
            if let Err(error) = &outcome
                && !change.dry_run
            {
                let now = reloader.point.now();
                let report = Report::new("config.reload", now, &change.actor);
                let report = report.via(change.via).refused(error);
                let previous = before.revision().to_string();
                let report = report.with("previous", previous);
                report.record(&reloader.point).await;
            }
            outcome
        })
        .await
    }

    async fn replace(
        &self,
        before: &Arc<Snapshot>,
        change: &Change,
    ) -> Result<Reloaded, ReloadError> {
        self.is_in_force(before).await?;
        let bundle = Bundle {
            entry: change.entry.clone(),
            files: change.files.clone(),
            ..before.bundle().clone()
        };
        if same_files(before.bundle(), &bundle) {
            return Ok(told(before, before, Difference::default()));
        }
        let next = checked(bundle)?;
        let (old, new) = (before.config(), next.config());
        if old.trust_domain != new.trust_domain || old.environment != new.environment {
            return Err(ReloadError::OtherDomain);
        }
        let difference = difference(old, new);
        let needs_approval = !old.change.approve.is_empty() && difference.allows_more();
        if change.dry_run {
            return Ok(Reloaded {
                dry_run: true,
                needs_approval,
                ..told(before, &next, difference)
            });
        }
        // A signal comes from whoever may send one to this process, but in its name: whoever wrote
        // the file could have it asked for by the server and then agree as himself.
        if needs_approval && change.via == Via::Sighup {
            return Err(ReloadError::Anonymous);
        }
        if needs_approval {
            let pending = self.propose(before, &next, change, &difference).await?;
            return Err(ReloadError::NeedsApproval(Box::new(pending)));
        }
        let ready = self.ready(&next).await?;
        let report = Report::new("config.reload", self.point.now(), &change.actor);
        let report = report.via(change.via);
        self.put_in_force((before, &next), ready, difference, report)
            .await
    }

    /// Refuses what was meant to replace something else than is in force.
    async fn is_in_force(&self, before: &Snapshot) -> Result<(), ReloadError> {
        if self.point.snapshot().revision() == before.revision() {
            return Ok(());
        }
        Err(self.superseded().await)
    }

    async fn superseded(&self) -> ReloadError {
        match self.store.active().await {
            Ok(Some(active)) => ReloadError::Superseded {
                actor: active.actor,
                at: active.at,
                revision: active.revision,
            },
            Ok(None) => ReloadError::Snapshot(SnapshotError::Inactive),
            Err(error) => error.into(),
        }
    }

    /// Has everybody get ready. What is dropped was never there.
    async fn ready(&self, next: &Arc<Snapshot>) -> Result<Vec<Prepared>, ReloadError> {
        let hooks = self.hooks.lock().clone();
        let mut ready = Vec::new();
        for hook in hooks {
            let prepared = hook.prepare(next.clone()).await;
            ready.push(prepared.map_err(ReloadError::NotReady)?);
        }
        Ok(ready)
    }

    /// The swap, and what is told of it.
    async fn put_in_force(
        &self,
        (before, next): (&Arc<Snapshot>, &Arc<Snapshot>),
        ready: Vec<Prepared>,
        difference: Difference,
        report: Report<'_>,
    ) -> Result<Reloaded, ReloadError> {
        let report = report.difference(&difference);
        let report = report.revisions(before.revision(), next.revision());
        let ended = self.commit(before, next, report.actor(), ready).await?;
        report.record(&self.point).await;
        Ok(Reloaded {
            ended: ended as u64,
            ..told(before, next, difference)
        })
    }

    /// Signs it, makes it active, puts it in force, tells everybody. What can fail comes first.
    async fn commit(
        &self,
        before: &Snapshot,
        next: &Arc<Snapshot>,
        actor: &str,
        ready: Vec<Prepared>,
    ) -> Result<usize, ReloadError> {
        let _turn = self.snapshots.turn().await;
        let revision = self.snapshots.keep(next.bundle())?;
        let epoch = self.point.state().revocations.epoch();
        let active = self.snapshots.active().await?;
        let signed = match active {
            // An attempt before this one got that far.
            Some(active) if active.revision == revision => self.snapshots.sign(epoch).await?,
            active => {
                let expected = active.is_some().then(|| *before.revision());
                let signed = self.snapshots.sign_as(epoch, expected, &revision).await?;
                self.snapshots.note(next).await?;
                let now = self.point.now();
                let activated = self
                    .snapshots
                    .activate(expected.as_ref(), &revision, actor, now)
                    .await;
                match activated {
                    Err(SnapshotError::Superseded { .. }) => return Err(self.superseded().await),
                    activated => activated?,
                };
                signed
            }
        };
        let ended = self.point.install(next);
        self.updates.policy(revision, signed);
        ready.into_iter().for_each(Prepared::commit);
        Ok(ended)
    }
}

impl ReloadError {
    /// Why, without a word of the configuration's text: a secret may stand where it should not.
    pub(crate) fn without_text(&self) -> String {
        match self {
            Self::Configuration(diagnostics, sources) => {
                let told = diagnostics.iter().take(8).map(|it| {
                    let place = it.labels.first().map(|label| sources.place(label.span));
                    let line = place.unwrap_or_default().line;
                    format!("{} in line {line}", it.code)
                });
                format!("{self}: {}", told.collect::<Vec<_>>().join(", "))
            }
            Self::Tests(failed) => {
                let lines = failed.iter().take(8).map(|it| it.line.to_string());
                format!("{self}: in line {}", lines.collect::<Vec<_>>().join(", "))
            }
            _ => self.to_string(),
        }
    }
}

impl From<SnapshotError> for ReloadError {
    fn from(error: SnapshotError) -> Self {
        Self::Snapshot(error)
    }
}

fn told(before: &Snapshot, next: &Snapshot, difference: Difference) -> Reloaded {
    Reloaded {
        dry_run: false,
        ended: 0,
        needs_approval: false,
        previous: *before.revision(),
        revision: *next.revision(),
        tests: next.config().tests.len() as u64,
        tests_removed: difference.tests_removed.clone(),
        difference,
    }
}
