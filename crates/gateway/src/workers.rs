//! The threads that connections are served on.
//!
//! A request runs through more code than the caches of a processor hold. A runtime that shares its
//! tasks among its threads runs each one on as soon as it can be, from reading to sending; one of a
//! single thread runs them in the order in which they became ready, so that those which are equally
//! far follow each other, find their code in the cache, and share what can be written at once. So
//! each connection stays with one thread, its requests and its upstreams' connections with it.

use std::cell::Cell;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use tokio::runtime::Builder;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Where connections are served. Dropped, what is still under way on its threads is cut.
#[derive(Debug)]
pub(crate) struct Workers(Vec<Worker>);

#[derive(Debug)]
struct Worker {
    connections: Arc<AtomicUsize>,
    runtime: Handle,
    _stop: oneshot::Sender<()>,
}

/// One more connection of a worker.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

thread_local! {
    static NUMBER: Cell<Option<usize>> = const { Cell::new(None) };
}

impl Workers {
    /// One thread for each processor that this process may use.
    pub(crate) fn start() -> io::Result<Self> {
        (0..processors())
            .map(Worker::start)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Serves a connection, on the thread that has the fewest.
    pub(crate) fn serve<F: Future<Output = ()> + Send + 'static>(&self, connection: F) {
        let count = |worker: &&Worker| worker.connections.load(Ordering::Relaxed);
        let Some(worker) = self.0.iter().min_by_key(count) else {
            return;
        };
        let counted = Counted::of(&worker.connections);
        worker.runtime.spawn(async move {
            let _counted = counted;
            connection.await;
        });
    }
}

impl Worker {
    fn start(number: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || {
                NUMBER.set(Some(number));
                // Nothing is ever sent: it hears that the other end is gone.
                let _ = runtime.block_on(stopped);
            })?;
        Ok(Self {
            connections: Arc::default(),
            runtime: handle,
            _stop: stop,
        })
    }
}

impl Counted {
    fn of(connections: &Arc<AtomicUsize>) -> Self {
        connections.fetch_add(1, Ordering::Relaxed);
        Self(connections.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Something that each thread has one of.
#[derive(Debug)]
pub(crate) struct Each<T> {
    elsewhere: T,
    theirs: Box<[T]>,
}

impl<T: Default> Default for Each<T> {
    /// One for each of the threads, and one for whoever is on none.
    fn default() -> Self {
        Self {
            elsewhere: T::default(),
            theirs: (0..processors()).map(|_| T::default()).collect(),
        }
    }
}

impl<T> Each<T> {
    /// What the thread has that asks.
    pub(crate) fn mine(&self) -> &T {
        let theirs = NUMBER.get().and_then(|number| self.theirs.get(number));
        theirs.unwrap_or(&self.elsewhere)
    }
}

fn processors() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    /// Whose is whose: what is kept on one thread is not seen on another, nor by whoever is on none.
    #[tokio::test]
    async fn each_thread_keeps_its_own() {
        let workers = Workers::start().unwrap();
        let kept: Arc<Each<AtomicUsize>> = Arc::default();
        let (tell, mut told) = mpsc::unbounded_channel();
        let mut waiting = Vec::new();
        for _ in 0..2 * processors() {
            let (kept, tell) = (kept.clone(), tell.clone());
            let (here, gone) = oneshot::channel::<()>();
            waiting.push(here);
            workers.serve(async move {
                let name = thread::current().name().map(str::to_owned);
                tell.send((name, kept.mine().fetch_add(1, Ordering::Relaxed)))
                    .unwrap();
                let _ = gone.await;
            });
        }
        let mut seen = Vec::new();
        for _ in &waiting {
            seen.push(told.recv().await.unwrap());
        }
        seen.sort();
        // The one with the fewest is asked: each has two, which see each other.
        let numbers = 0..processors();
        let two = |number| [0, 1].map(|nth| (Some(format!("worker-{number}")), nth));
        let mut expected: Vec<_> = numbers.flat_map(two).collect();
        expected.sort();
        assert_eq!(seen, expected);
        assert_eq!(kept.mine().load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn what_is_under_way_is_cut_with_its_threads() {
        let workers = Workers::start().unwrap();
        let (here, gone) = oneshot::channel::<()>();
        workers.serve(async move {
            let _here = here;
            std::future::pending::<()>().await;
        });
        drop(workers);
        assert!(gone.await.is_err());
    }
}
