use parking_lot::Mutex;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::runtime::Id;

/// The tasks that have to run for as long as a process decides, and which of them don't any more.
///
/// What streams are decided again by, or the server's heartbeat, is missed by nobody who asks for
/// one thing at a time: whoever watches over the process is told. So it is where tasks are run on
/// further threads, one of which hangs.
#[derive(Clone, Debug, Default)]
pub struct Tasks(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    ended: Mutex<Vec<&'static str>>,
    runtimes: Mutex<Vec<Handle>>,
}

/// Has a runtime count among what has to run, until it is dropped.
#[derive(Debug)]
pub struct Threads {
    runtime: Id,
    tasks: Tasks,
}

/// Notes the end of a task that is not one of its own choosing.
struct Watch {
    name: &'static str,
    tasks: Tasks,
}

impl Tasks {
    /// Watches a task that returns when it was told to: that it panics is its end.
    pub fn watched<F: Future + Send>(
        &self,
        name: &'static str,
        task: F,
    ) -> impl Future<Output = F::Output> + Send + use<F> {
        let watch = Watch {
            name,
            tasks: self.clone(),
        };
        async move {
            let _watch = watch;
            task.await
        }
    }

    /// Watches a task that never returns, and is dropped when it is not wanted any more.
    pub fn lasting<F: Future<Output = ()> + Send>(
        &self,
        name: &'static str,
        task: F,
    ) -> impl Future<Output = ()> + Send + use<F> {
        let tasks = self.clone();
        let task = self.watched(name, task);
        async move {
            task.await;
            tasks.end(name);
        }
    }

    /// Those that ended, in that order.
    #[must_use]
    pub fn ended(&self) -> Vec<&'static str> {
        self.0.ended.lock().clone()
    }

    /// Has the threads of a runtime count among what has to run.
    #[must_use]
    pub fn threads(&self, runtime: Handle) -> Threads {
        let threads = Threads {
            runtime: runtime.id(),
            tasks: self.clone(),
        };
        self.0.runtimes.lock().push(runtime);
        threads
    }

    /// Whether each of the runtimes that count runs a task which is begun now. Does not return where
    /// one hangs.
    pub async fn turn(&self) -> bool {
        let begin = |runtime: &Handle| (runtime.id(), runtime.spawn(async {}));
        let begun: Vec<_> = self.0.runtimes.lock().iter().map(begin).collect();
        for (runtime, begun) in begun {
            // One that does not count any more may be gone.
            if begun.await.is_err() && self.has(runtime) {
                return false;
            }
        }
        true
    }

    fn has(&self, runtime: Id) -> bool {
        let runtimes = self.0.runtimes.lock();
        runtimes.iter().any(|there| there.id() == runtime)
    }

    fn end(&self, name: &'static str) {
        tracing::error!(name, "a task has ended that this process can't do without");
        self.0.ended.lock().push(name);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tasks.end(self.name);
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        let mut runtimes = self.tasks.0.runtimes.lock();
        runtimes.retain(|there| there.id() != self.runtime);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use std::sync::mpsc;
    use std::time::Duration;
    use tokio::runtime::Builder;

    #[test]
    fn a_thread_that_hangs_does_not_come_round() {
        let here = Builder::new_current_thread().enable_time().build().unwrap();
        let there = Builder::new_multi_thread().worker_threads(1).build();
        let there = there.unwrap();
        let tasks = Tasks::default();
        assert!(here.block_on(tasks.turn()), "there is none to wait for");
        let threads = tasks.threads(there.handle().clone());
        assert!(here.block_on(tasks.turn()));
        let (let_go, held) = mpsc::channel::<()>();
        there.spawn(async move { held.recv() });
        let soon = async {
            let turn = tokio::time::timeout(Duration::from_millis(20), tasks.turn());
            turn.await.is_ok()
        };
        assert!(!here.block_on(soon));
        drop(threads);
        assert!(here.block_on(tasks.turn()), "it does not count any more");
        let threads = tasks.threads(there.handle().clone());
        drop(let_go);
        assert!(here.block_on(tasks.turn()));
        drop(there);
        assert!(!here.block_on(tasks.turn()), "it is gone and counts");
        drop(threads);
        assert!(here.block_on(tasks.turn()));
    }

    #[tokio::test]
    async fn what_ends_without_being_told_to_is_named() {
        let tasks = Tasks::default();
        tokio::spawn(tasks.watched("told", async {})).await.unwrap();
        let dropped = tokio::spawn(tasks.lasting("dropped", pending()));
        dropped.abort();
        assert!(dropped.await.unwrap_err().is_cancelled());
        assert!(tasks.ended().is_empty());

        tokio::spawn(tasks.lasting("returned", async {}))
            .await
            .unwrap();
        assert_eq!(tasks.ended(), ["returned"]);
        for (name, lasting) in [("first", true), ("second", false)] {
            let fails = async {
                tokio::task::yield_now().await;
                panic!("on purpose");
            };
            let ended = if lasting {
                tokio::spawn(tasks.lasting(name, fails))
            } else {
                tokio::spawn(tasks.watched(name, fails))
            };
            assert!(ended.await.unwrap_err().is_panic());
        }
        assert_eq!(tasks.ended(), ["returned", "first", "second"]);
    }
}
