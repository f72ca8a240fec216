//! The threads that connections are served on.
//!
//! A request runs through more code than the caches of a processor hold. A runtime that shares its
//! tasks among its threads runs each one on as soon as it can be, from reading to sending; one of a
//! single thread runs them in the order in which they became ready, so that those which are equally
//! far follow each other, find their code in the cache, and share what can be written at once. So
//! each connection stays with one thread, its requests and its upstreams' connections with it.

use crate::place::Seat;
use countersign_enforce::Tasks;
use countersign_enforce::Threads;
use parking_lot::Mutex;
use std::cell::Cell;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;
use tokio::runtime::Builder;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// The threads, as long as this lives. Dropped, what is still under way on them is cut.
#[derive(Debug)]
pub(crate) struct Workers {
    crew: Arc<Crew>,
    ends: Vec<Ends>,
}

/// Where connections are accepted and served. Whoever holds it keeps no thread from its end.
#[derive(Debug)]
pub(crate) struct Crew {
    all: Vec<Worker>,
    /// Of those that have equally few connections, whose turn it is.
    turn: AtomicUsize,
}

#[derive(Debug)]
struct Worker {
    connections: Arc<AtomicU32>,
    runtime: Handle,
    thread: JoinHandle<()>,
}

/// Ends a thread, and hears of its end.
#[derive(Debug)]
struct Ends {
    /// Hears that the thread has ended what was under way.
    ended: Mutex<mpsc::Receiver<()>>,
    /// Dropped before the thread ends, which then is no sign of anything.
    watched: Option<Threads>,
    /// Dropped, the thread ends.
    stop: Option<oneshot::Sender<()>>,
}

/// How long the threads may take to end what is under way on them, all together.
const END: Duration = Duration::from_secs(if cfg!(test) { 60 } else { 1 });
/// What each thread may have of something is never less.
const LEAST: usize = 8;

thread_local! {
    static NUMBER: Cell<Option<usize>> = const { Cell::new(None) };
}

impl Workers {
    /// One thread for each processor that this process may use. Whoever watches over the process
    /// notices when one hangs, or is gone.
    pub(crate) fn start(tasks: &Tasks) -> io::Result<Self> {
        let started = (0..processors()).map(|number| start(number, tasks));
        let (all, ends) = started.collect::<io::Result<(Vec<_>, _)>>()?;
        let turn = AtomicUsize::new(0);
        Ok(Self {
            crew: Arc::new(Crew { all, turn }),
            ends,
        })
    }

    pub(crate) const fn crew(&self) -> &Arc<Crew> {
        &self.crew
    }
}

impl Crew {
    /// The thread that takes what comes to one more listener. None if all are gone.
    pub(crate) fn next(&self) -> Option<&Handle> {
        self.there().next().map(|worker| &worker.runtime)
    }

    /// The thread that has the fewest connections, and the seat of one more there. None if all are
    /// gone.
    pub(crate) fn least(&self) -> Option<(&Handle, Seat)> {
        let connections = |worker: &&Worker| worker.connections.load(Ordering::Relaxed);
        let worker = self.there().min_by_key(connections)?;
        Some((&worker.runtime, Seat::take(&worker.connections, u32::MAX)?))
    }

    /// Those that are not gone, each time from another one on.
    fn there(&self) -> impl Iterator<Item = &Worker> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.all.len().max(1);
        let from_there = self.all.iter().cycle().skip(turn).take(self.all.len());
        from_there.filter(|worker| !worker.thread.is_finished())
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for thread in &mut self.ends {
            thread.watched = None;
            thread.stop = None;
        }
        // What ends with a hop has to be in the spool before that is closed.
        let until = Instant::now() + END;
        for thread in &mut self.ends {
            let left = until.saturating_duration_since(Instant::now());
            let late =
                thread.ended.get_mut().recv_timeout(left) == Err(mpsc::RecvTimeoutError::Timeout);
            if late {
                tracing::warn!("a thread does not end what is under way on it");
            }
        }
    }
}

fn start(number: usize, tasks: &Tasks) -> io::Result<(Worker, Ends)> {
    let (stop, stopped) = oneshot::channel::<()>();
    let (ends, ended) = mpsc::channel();
    let (ready, made) = mpsc::channel();
    let run = tasks.watched("worker", async {
        // Nothing is ever sent: it hears that the other end is gone.
        let _ = stopped.await;
    });
    let thread = thread::Builder::new()
        .name(format!("worker-{number}"))
        .spawn(move || {
            let _ends: mpsc::Sender<()> = ends;
            NUMBER.set(Some(number));
            // Here, because a runtime can't be dropped within another one, if this fails.
            let runtime = match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(ready.send(Err(error))),
            };
            let _ = ready.send(Ok(runtime.handle().clone()));
            runtime.block_on(run);
            // A name that is being looked up keeps nobody waiting.
            runtime.shutdown_background();
        })?;
    let gone = |_| io::Error::other("the thread has ended");
    let runtime = made.recv().map_err(gone)??;
    let ends = Ends {
        ended: Mutex::new(ended),
        watched: Some(tasks.threads(runtime.clone())),
        stop: Some(stop),
    };
    let worker = Worker {
        connections: Arc::default(),
        runtime,
        thread,
    };
    Ok((worker, ends))
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

    /// What each of the threads may have of something, at least [`LEAST`].
    pub(crate) fn share(&self, of: usize) -> usize {
        (of / self.theirs.len().max(1)).max(LEAST)
    }
}

/// As it was when it was first asked for: threads and what they keep are as many.
fn processors() -> usize {
    static FOUND: OnceLock<usize> = OnceLock::new();
    *FOUND.get_or_init(|| thread::available_parallelism().map_or(1, NonZeroUsize::get))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc::unbounded_channel;

    /// Whose is whose: what is kept on one thread is not seen on another, nor by whoever is on none.
    #[tokio::test]
    async fn each_thread_keeps_its_own() {
        let workers = Workers::start(&Tasks::default()).unwrap();
        let kept: Arc<Each<AtomicUsize>> = Arc::default();
        let (tell, mut told) = unbounded_channel();
        // The one with the fewest is asked: each gets two, which see each other.
        let mut counted = Vec::new();
        for _ in 0..2 * processors() {
            let (kept, tell) = (kept.clone(), tell.clone());
            let (thread, count) = workers.crew.least().unwrap();
            counted.push(count);
            thread.spawn(async move {
                let name = thread::current().name().map(str::to_owned);
                tell.send((name, kept.mine().fetch_add(1, Ordering::Relaxed)))
                    .unwrap();
            });
        }
        let mut seen = Vec::new();
        for _ in &counted {
            seen.push(told.recv().await.unwrap());
        }
        seen.sort();
        let numbers = 0..processors();
        let two = |number| [0, 1].map(|nth| (Some(format!("worker-{number}")), nth));
        let mut expected: Vec<_> = numbers.flat_map(two).collect();
        expected.sort();
        assert_eq!(seen, expected);
        assert_eq!(kept.mine().load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn what_is_under_way_has_ended_when_its_threads_are_gone() {
        let workers = Workers::start(&Tasks::default()).unwrap();
        let (here, gone) = mpsc::channel::<()>();
        let (begins, begun) = oneshot::channel();
        workers.crew.least().unwrap().0.spawn(async move {
            let _here = here;
            begins.send(()).unwrap();
            std::future::pending::<()>().await;
        });
        begun.await.unwrap();
        drop(workers);
        assert_eq!(gone.try_recv(), Err(mpsc::TryRecvError::Disconnected));
    }

    #[tokio::test]
    async fn a_thread_that_is_gone_is_told_of_and_gets_no_connection() {
        let tasks = Tasks::default();
        let mut workers = Workers::start(&tasks).unwrap();
        assert!(tasks.turn().await);
        workers.ends[0].stop = None;
        let stopped = &workers.crew.all[0].thread;
        while !stopped.is_finished() {
            thread::yield_now();
        }
        assert!(!tasks.turn().await, "its end was not asked for");
        let number = stopped.thread().id();
        for _ in 0..3 * processors() {
            let Some((thread, _count)) = workers.crew.least() else {
                assert_eq!(processors(), 1);
                break;
            };
            for thread in [thread, workers.crew.next().unwrap()] {
                let on = thread.spawn(async { thread::current().id() });
                assert_ne!(on.await.unwrap(), number);
            }
        }
        drop(workers);
        assert!(tasks.turn().await, "now it was");
    }
}
