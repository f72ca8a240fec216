use parking_lot::Mutex;
use std::sync::Arc;

/// The tasks that have to run for as long as a process decides, and which of them don't any more.
///
/// What streams are decided again by, or the server's heartbeat, is missed by nobody who asks for
/// one thing at a time: whoever watches over the process is told.
#[derive(Clone, Debug, Default)]
pub struct Tasks(Arc<Mutex<Vec<&'static str>>>);

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
        self.0.lock().clone()
    }

    fn end(&self, name: &'static str) {
        tracing::error!(name, "a task has ended that this process can't do without");
        self.0.lock().push(name);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tasks.end(self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;

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
