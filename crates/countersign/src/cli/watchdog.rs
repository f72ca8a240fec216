//! The service manager's watchdog (`sd_watchdog_enabled(3)`): as long as we are well, we say so
//! more often than it wants to hear it.
//!
//! "Well" is what a restart would help against: tasks are run, those that have to last do, and the
//! ledger's writer comes round.
//! A full disk is not that, nor a server that is not heard; [`/readyz`](crate::telemetry) tells
//! those.

use super::notify::Phase;
use super::notify::notify;
use countersign_enforce::EnforcementPoint;
use countersign_enforce::Tasks;
use countersign_ledger::spool::Spool;
use std::time::Duration;
use tokio::task::JoinHandle;

/// Tells the service manager until it is dropped, if it wants to be told.
#[derive(Debug)]
pub(crate) struct Watchdog(Option<JoinHandle<()>>);

impl Watchdog {
    /// Watches over the process that decides at this point. Needs a runtime.
    pub(crate) fn start(point: &EnforcementPoint) -> Self {
        let variable = |name: &str| std::env::var(name).ok();
        let Some(period) = period(variable) else {
            return Self(None);
        };
        let (spool, tasks) = (point.spool().clone(), point.tasks().clone());
        Self(Some(tokio::spawn(async move {
            while is_well(&spool, &tasks).await {
                notify(Phase::Well);
                tokio::time::sleep(period).await;
            }
            let ended = tasks.ended();
            tracing::error!(
                ?ended,
                "a thread, the ledger's writer or a task has ended: the watchdog is told nothing"
            );
        })))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// Whether a task that is begun is run, on each thread that serves, too, none has ended that has to
/// run, and the writer comes round. Does not return where something hangs.
async fn is_well(spool: &Spool, tasks: &Tasks) -> bool {
    let run = tokio::spawn(async {}).await.is_ok() && tasks.turn().await;
    run && tasks.ended().is_empty() && spool.turn().await.is_ok()
}

/// How often to tell: three times in the time after which it is taken for dead.
fn period(variable: impl Fn(&str) -> Option<String>) -> Option<Duration> {
    let whole = variable("WATCHDOG_USEC")?
        .parse()
        .ok()
        .filter(|it| *it > 0)?;
    let ours = variable("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
    ours.then(|| Duration::from_micros(whole) / 3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_ledger::spool::SpoolOptions;
    use countersign_ledger::storage::FsStorage;
    use std::sync::Arc;

    #[tokio::test]
    async fn a_process_without_one_of_its_tasks_is_not_well() {
        let folder = tempfile::tempdir().unwrap();
        let storage = Arc::new(FsStorage::new(folder.path()));
        let (spool, _) = Spool::open(storage, "n1", SpoolOptions::default()).unwrap();
        let tasks = Tasks::default();
        assert!(is_well(&spool, &tasks).await);
        tasks.lasting("heartbeat", async {}).await;
        assert!(!is_well(&spool, &tasks).await);
    }

    #[test]
    fn only_who_is_asked_tells() {
        let us = std::process::id().to_string();
        let said = |usec: Option<&str>, pid: Option<&str>| {
            period(|name| match name {
                "WATCHDOG_USEC" => usec.map(str::to_owned),
                "WATCHDOG_PID" => pid.map(str::to_owned),
                _ => None,
            })
        };
        let second = Some(Duration::from_secs(1));
        assert_eq!(said(Some("3000000"), None), second);
        assert_eq!(said(Some("3000000"), Some(&us)), second);
        assert_eq!(said(Some("3000000"), Some("1")), None);
        for nothing in [None, Some(""), Some("0"), Some("x"), Some("-1")] {
            assert_eq!(said(nothing, None), None, "{nothing:?}");
        }
    }
}
