//! Another configuration in place of the one in force: read, resolved, its own tests run, kept,
//! made active, swapped. Whatever fails changes nothing.

use crate::snapshots::SnapshotError;
use crate::snapshots::Snapshots;
use crate::updates::Updates;
use crate::whole::whole;
use countersign_core::config;
use countersign_core::config::Diagnostic;
use countersign_core::config::Sources;
use countersign_core::proving;
use countersign_core::record::Record;
use countersign_core::record::Resource;
use countersign_core::snapshot::Bundle;
use countersign_core::snapshot::Revocations;
use countersign_core::snapshot::Snapshot;
use countersign_core::snapshot::State;
use countersign_core::vocabulary::Digest;
use countersign_enforce::EnforcementPoint;
use serde::Deserialize;
use serde::Serialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

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

/// What a reload changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Open streams that the new policy ended.
    pub ended: u64,
    /// The revision that was in force.
    pub previous: Digest,
    /// The revision in force.
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
    /// Keeping or activating it failed; another reload may have been faster.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

/// Puts configurations in force, one after the other.
#[derive(Clone, Debug)]
pub struct Reloader {
    point: EnforcementPoint,
    reloading: Arc<tokio::sync::Mutex<()>>,
    snapshots: Arc<Snapshots>,
    updates: Arc<Updates>,
}

/// Compiles a bundle.
///
/// # Errors
/// [`ReloadError::Configuration`].
pub(crate) fn compile(bundle: Bundle) -> Result<Arc<Snapshot>, ReloadError> {
    let options = config::Options {
        dev: bundle.dev,
        strict: false,
    };
    let loaded = config::load(&bundle, &bundle.entry, &options);
    let errors: Vec<Diagnostic> = loaded.errors().cloned().collect();
    let Some(config) = loaded.config else {
        return Err(ReloadError::Configuration(errors, Box::new(loaded.sources)));
    };
    let beyond: Vec<String> = config.beyond().iter().map(|it| it.what.to_owned()).collect();
    if !beyond.is_empty() {
        return Err(ReloadError::NotInBuild(beyond));
    }
    Ok(Arc::new(Snapshot::new(bundle, config)))
}

/// Compiles a bundle whose tests hold.
///
/// # Errors
/// [`ReloadError::Configuration`] and [`ReloadError::Tests`].
pub(crate) fn checked(bundle: Bundle) -> Result<Arc<Snapshot>, ReloadError> {
    let snapshot = compile(bundle)?;
    // The open snapshot allows what its configuration refuses; that is what it is for.
    if !snapshot.is_open() {
        prove(&snapshot)?;
    }
    Ok(snapshot)
}

/// The tests that one configuration had and the next has not, by name.
pub(crate) fn removed_tests(before: &Snapshot, next: &Snapshot) -> Vec<String> {
    let kept = |name: &str| next.config().tests.iter().any(|it| it.name == name);
    let tests = before.config().tests.iter();
    tests
        .filter(|test| !kept(&test.name))
        .map(|test| test.name.clone())
        .collect()
}

fn prove(snapshot: &Arc<Snapshot>) -> Result<(), ReloadError> {
    let revocations = Arc::new(Revocations::default());
    let state = State {
        revocations,
        snapshot: snapshot.clone(),
    };
    let proved = proving::prove_all(&state).into_iter();
    let failed = proved
        .filter(|(_, proved)| proved.outcome != proving::Judgement::Holds)
        .map(|(test, proved)| FailedTest {
            line: test.place.line,
            name: test.name.clone(),
            reason: proved.reason,
        });
    let failed: Vec<_> = failed.collect();
    if failed.is_empty() {
        Ok(())
    } else {
        Err(ReloadError::Tests(failed))
    }
}

impl Reloader {
    pub(crate) fn new(
        point: EnforcementPoint,
        snapshots: Arc<Snapshots>,
        updates: Arc<Updates>,
    ) -> Self {
        Self {
            point,
            reloading: Arc::default(),
            snapshots,
            updates,
        }
    }

    /// Puts these files in force, whole even if nobody waits for it any more. `actor` is for the
    /// record.
    ///
    /// # Errors
    /// [`ReloadError`]; then nothing has changed.
    pub async fn reload(
        &self,
        entry: String,
        files: BTreeMap<String, String>,
        actor: &str,
    ) -> Result<Reloaded, ReloadError> {
        let (reloader, actor) = (self.clone(), actor.to_owned());
        whole(async move { reloader.replace(entry, files, &actor).await }).await
    }

    async fn replace(
        &self,
        entry: String,
        files: BTreeMap<String, String>,
        actor: &str,
    ) -> Result<Reloaded, ReloadError> {
        let _reloading = self.reloading.lock().await;
        let before = self.point.snapshot();
        let bundle = Bundle {
            entry,
            files,
            ..before.bundle().clone()
        };
        let next = checked(bundle)?;
        let (old, new) = (before.config(), next.config());
        if old.trust_domain != new.trust_domain || old.environment != new.environment {
            return Err(ReloadError::OtherDomain);
        }
        let ended = self.commit(&next, actor).await?;
        let reloaded = Reloaded {
            ended: ended as u64,
            previous: *before.revision(),
            revision: *next.revision(),
            tests: new.tests.len() as u64,
            tests_removed: removed_tests(&before, &next),
        };
        self.record(&reloaded, actor).await;
        Ok(reloaded)
    }

    /// Signs it, makes it active, puts it in force, tells everybody. What can fail comes first.
    async fn commit(&self, next: &Arc<Snapshot>, actor: &str) -> Result<usize, SnapshotError> {
        let _turn = self.snapshots.turn().await;
        let revision = self.snapshots.keep(next.bundle())?;
        let epoch = self.point.state().revocations.epoch();
        // What the store has is what counts: an attempt before this one may have got that far.
        let active = self.snapshots.active().await?;
        let signed = match active {
            Some(active) if active.revision == revision => self.snapshots.sign(epoch).await?,
            active => {
                let expected = active.map(|active| active.revision);
                let signed = self.snapshots.sign_as(epoch, expected, &revision).await?;
                let now = self.point.now();
                self.snapshots
                    .activate(expected.as_ref(), &revision, actor, now)
                    .await?;
                signed
            }
        };
        let ended = self.point.install(next);
        self.updates.policy(revision, signed);
        Ok(ended)
    }

    async fn record(&self, reloaded: &Reloaded, actor: &str) {
        let resource = Resource {
            id: Cow::Borrowed("configuration"),
            service: Cow::Borrowed("console"),
        };
        let mut record = Record::event("config.reload", self.point.now(), actor, resource);
        let metadata = [
            ("previous", reloaded.previous.to_string()),
            ("revision", reloaded.revision.to_string()),
            ("tests_removed", reloaded.tests_removed.join("; ")),
        ];
        for (name, value) in metadata {
            record
                .metadata
                .insert(Cow::Borrowed(name), Cow::Owned(value));
        }
        if let Err(error) = self.point.record_event(&record).await {
            tracing::error!(%error, "a reload is in force but was not recorded");
        }
    }
}
