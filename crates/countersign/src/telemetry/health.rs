use countersign_core::pillars::continuous_verification::fresh;
use countersign_enforce::EnforcementPoint;
use countersign_gateway::Doors;
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

/// Whether this process is to be sent anybody. It is alive as long as it answers at all.
#[derive(Debug, Default)]
pub(crate) struct Health {
    checks: OnceLock<Vec<Check>>,
    draining: AtomicBool,
}

/// One thing that has to be so.
pub(crate) struct Check {
    name: &'static str,
    holds: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
}

/// What became of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checked {
    /// Its name: `started`, `serving`, `ledger`, `fresh`, `tasks`, `listeners`.
    pub(crate) name: &'static str,
    /// Why it failed, if it did; for the operator.
    pub(crate) failed: Option<String>,
}

impl Health {
    /// Everything is open; from now on these have to hold.
    pub(crate) fn started(&self, checks: Vec<Check>) {
        // There is one process, which is started once.
        let _ = self.checks.set(checks);
    }

    /// Nobody new is to be sent here any more.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether all checks hold.
    pub(crate) fn is_ready(&self) -> bool {
        self.report().iter().all(|it| it.failed.is_none())
    }

    /// Every check, in one order.
    pub(crate) fn report(&self) -> Vec<Checked> {
        let checks = self.checks.get();
        let starting = checks.is_none().then(|| "it is starting".to_owned());
        let draining = self.is_draining().then(|| "it is stopping".to_owned());
        let mut report = vec![
            Checked {
                name: "started",
                failed: starting,
            },
            Checked {
                name: "serving",
                failed: draining,
            },
        ];
        report.extend(checks.into_iter().flatten().map(|check| Checked {
            name: check.name,
            failed: (check.holds)().err(),
        }));
        report
    }
}

impl Check {
    fn new(
        name: &'static str,
        holds: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name,
            holds: Box::new(holds),
        }
    }

    /// The ledger takes records, and they count.
    pub(crate) fn ledger(point: &EnforcementPoint) -> Self {
        let point = point.clone();
        Self::new("ledger", move || point.unsound().map_or(Ok(()), Err))
    }

    /// Policy and revocations are recent enough to decide by: where they come from somebody else,
    /// it was heard.
    pub(crate) fn fresh(point: &EnforcementPoint) -> Self {
        let point = point.clone();
        Self::new("fresh", move || {
            let bound = point.snapshot().config().staleness;
            fresh(point.freshness(), bound).map_err(|(_, why)| why)
        })
    }

    /// What runs beside the calls still does.
    pub(crate) fn tasks(point: &EnforcementPoint) -> Self {
        let tasks = point.tasks().clone();
        Self::new("tasks", move || match tasks.ended().as_slice() {
            [] => Ok(()),
            ended => Err(format!("ended: {}", ended.join(", "))),
        })
    }

    /// Every listener of the policy in force is open.
    pub(crate) fn listeners(point: &EnforcementPoint, doors: Doors) -> Self {
        let point = point.clone();
        Self::new("listeners", move || {
            let open = doors.addresses();
            let snapshot = point.snapshot();
            let wanted = snapshot.config().listeners.keys();
            let closed: Vec<_> = wanted
                .filter(|name| !open.iter().any(|(it, _)| it == *name))
                .map(ToString::to_string)
                .collect();
            if closed.is_empty() {
                Ok(())
            } else {
                Err(format!("not open: {}", closed.join(", ")))
            }
        })
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
