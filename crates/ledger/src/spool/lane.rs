//! What waits to be written, and who writes it.
//!
//! A task that finds nobody before it on its thread leads: it lets the other tasks that are ready go
//! first, which leave their records in the queue.
//!
//! Under [`Commit::Os`] the leader then writes all that is there at once. Callers outside a runtime
//! write at once, with all that is queued; of those who want the file at the same moment one holds
//! it, and the others find theirs written.
//!
//! Under [`Commit::Fsync`] a thread of its own writes and syncs, so that records which arrive during
//! one flush share the next. A flush costs as much as a request and is not dearer for many records,
//! so the leader lets others go first for as long as more of them bring records, and then says that
//! a flush is due. Whoever is alone waits for nobody; callers outside a runtime don't wait for
//! company.
//!
//! Records that nobody waits for don't cost a write of their own: they go with the next append. The
//! thread, which both have, sees to it that they never wait for longer than [`LATE`], nor those who
//! wait for a leader that is kept from its turn.

use super::Commit;
use super::Promise;
use super::Shared;
use super::SpoolError;
use super::core::Core;
use crate::object::JsonObject;
use crate::storage::StorageError;
use parking_lot::Condvar;
use parking_lot::Mutex;
use parking_lot::MutexGuard;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use std::thread::ThreadId;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::oneshot;

/// The longest that a record waits for company when nobody waits for it, or for the task that leads
/// and those who are still coming.
const LATE: Duration = Duration::from_millis(5);

/// So many of them are written at once by whoever brings one more, under [`Commit::Os`].
const MANY: usize = 256;

/// How long a reader waits for what is being written; a disk that hangs does not hang readers.
const READER: Duration = Duration::from_millis(50);

/// What became of a record.
type Written = Result<Promise, SpoolError>;

/// Told of a record that nobody waited for and that could not be written.
pub(super) type Failed = fn(&SpoolError);

/// A record waiting to be written.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) record: JsonObject,
    pub(super) reserved: bool,
    waits: Waits,
}

/// Who wants to know what became of a record.
#[derive(Debug)]
enum Waits {
    /// Whoever writes it.
    Writer,
    /// Somebody else.
    For(oneshot::Sender<Written>),
    /// Nobody, unless it fails.
    Nobody(Failed),
}

/// The queue before the file, and the thread that looks after it. Dropping it writes what is queued
/// and ends the thread.
#[derive(Debug)]
pub(super) struct Lane {
    commit: Commit,
    queue: Arc<Queue>,
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    /// Records that nobody waits for and that are not written yet.
    late: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    records: Vec<Pending>,
    /// Whether those that somebody waits for are to wait for no more company.
    due: bool,
    /// How many ever came, how many of those somebody waits for, and how many were answered.
    came: u64,
    awaited: u64,
    answered: u64,
    /// Who wants to know when so many were answered.
    asked: Vec<(u64, oneshot::Sender<()>)>,
    /// Since when the first of the records waits.
    since: Option<Instant>,
    /// The threads on which a task leads, one of whose records is here: another thread may turn to
    /// its task much later.
    led: Vec<ThreadId>,
    closed: bool,
    /// Whether the thread waits for anything at all to come.
    idle: bool,
}

impl Lane {
    /// Starts the thread; a flush covers at most `batch` records.
    pub(super) fn start(
        shared: Arc<Shared>,
        commit: Commit,
        batch: usize,
    ) -> Result<Self, SpoolError> {
        let queue = Arc::new(Queue::default());
        let (theirs, file) = (Arc::clone(&queue), Arc::clone(&shared));
        let thread = thread::Builder::new()
            .name("spool-writer".to_owned())
            .spawn(move || theirs.tend(&file, commit, batch))
            .map_err(|error| StorageError::from_io("start the writer of", "spool", error))?;
        Ok(Self {
            commit,
            queue,
            shared,
            thread: Some(thread),
        })
    }

    /// Writes a record, or has it written.
    pub(super) async fn append(&self, record: JsonObject, reserved: bool) -> Written {
        let (written, number, leads) = self.queue.push_together(record, reserved);
        if leads {
            let turn = Turn { lane: self, number };
            match self.commit {
                Commit::Os => tokio::task::yield_now().await,
                Commit::Fsync => self.queue.gather(number).await,
            }
            drop(turn);
        }
        written.await.map_err(|_| SpoolError::Closed)?
    }

    /// The same for callers outside an asynchronous runtime: there is nothing to let go first.
    pub(super) fn append_blocking(&self, record: JsonObject, reserved: bool) -> Written {
        match self.commit {
            Commit::Os => self.write_through(record, reserved),
            Commit::Fsync => {
                let (written, number) = self.queue.push(record, reserved);
                self.queue.flush(number);
                written.blocking_recv().map_err(|_| SpoolError::Closed)?
            }
        }
    }

    /// Takes a record that nobody waits for, with the right to use the reserve.
    pub(super) fn append_late(&self, record: JsonObject, failed: Failed) {
        let late = self.queue.push_late(record, failed);
        if self.commit == Commit::Os && late >= MANY {
            self.queue.write(&mut self.shared.core.lock(), usize::MAX);
        }
    }

    /// Writes what nobody waits for before somebody reads, unless the disk takes too long. Under
    /// [`Commit::Fsync`] only what is durable counts, and readers wait for nothing.
    pub(super) fn before_reading(&self) {
        if self.commit == Commit::Fsync || self.queue.late.load(Ordering::Acquire) == 0 {
            return;
        }
        if let Some(mut core) = self.shared.core.try_lock_for(READER) {
            self.queue.write(&mut core, usize::MAX);
        }
    }

    /// Answered by the thread once it has come round, whatever it wrote. Nothing is ever answered by
    /// one that is gone or hangs.
    pub(super) fn turn(&self) -> oneshot::Receiver<()> {
        self.queue.ask(|_| 0)
    }

    /// Answered once what has come so far is written, or can't be.
    pub(super) fn flushed(&self) -> oneshot::Receiver<()> {
        self.queue.ask(|state| state.came)
    }

    /// Whoever holds the file writes for all who wait for it: when their turn comes, those find the
    /// answer there.
    fn write_through(&self, record: JsonObject, reserved: bool) -> Written {
        if let Some(mut core) = self.shared.core.try_lock() {
            return self.queue.write_with(&mut core, record, reserved);
        }
        let (mut written, _) = self.queue.push(record, reserved);
        let mut core = self.shared.core.lock();
        if let Ok(written) = written.try_recv() {
            return written;
        }
        self.queue.write(&mut core, usize::MAX);
        written.try_recv().unwrap_or(Err(SpoolError::Closed))
    }
}

/// The turn of a task that leads. Its end writes what is queued, or has it flushed, also if the task
/// is gone by then: others wait for it. Their answers and its own come as everybody's do, and are
/// there already if somebody else wrote meanwhile.
struct Turn<'a> {
    lane: &'a Lane,
    /// Of its record.
    number: u64,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let Lane { queue, shared, .. } = self.lane;
        match self.lane.commit {
            Commit::Os => queue.write(&mut shared.core.lock(), usize::MAX),
            Commit::Fsync => queue.flush(self.number),
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.queue.state.lock().closed = true;
        self.queue.filled.notify_one();
        if let Some(thread) = self.thread.take() {
            // The lock on the folder goes with the thread; a panic in it was reported by itself.
            let _ = thread.join();
        }
    }
}

impl Queue {
    /// Gives the record's number, too.
    fn push(&self, record: JsonObject, reserved: bool) -> (oneshot::Receiver<Written>, u64) {
        self.state.lock().push_awaited(record, reserved)
    }

    /// Gives the record's number, too, and whether the caller leads. The thread need not know of one
    /// that waits for nobody else.
    fn push_together(
        &self,
        record: JsonObject,
        reserved: bool,
    ) -> (oneshot::Receiver<Written>, u64, bool) {
        let mut state = self.state.lock();
        let (receiver, number) = state.push_awaited(record, reserved);
        let here = thread::current().id();
        let leads = !state.led.contains(&here);
        if leads {
            state.led.push(here);
        } else {
            self.wake(state);
        }
        (receiver, number, leads)
    }

    /// Lets others go first for as long as more of them come, unless the record of this number is
    /// taken before.
    async fn gather(&self, number: u64) {
        let mut seen = self.state.lock().awaited;
        loop {
            tokio::task::yield_now().await;
            let state = self.state.lock();
            if state.has_taken(number) || state.awaited == seen {
                return;
            }
            seen = state.awaited;
        }
    }

    /// Has the thread write what is queued, unless the record of this number is taken: then those
    /// that are there have a leader of their own.
    fn flush(&self, number: u64) {
        let mut state = self.state.lock();
        if !state.has_taken(number) {
            state.due = true;
            drop(state);
            self.filled.notify_one();
        }
    }

    /// Gives how many are waiting like this.
    fn push_late(&self, record: JsonObject, failed: Failed) -> usize {
        let mut state = self.state.lock();
        state.push(record, true, Waits::Nobody(failed));
        let late = self.late.fetch_add(1, Ordering::Release) + 1;
        self.wake(state);
        late
    }

    /// The thread is woken only if it waits for nothing yet: a wake for each would cost more than
    /// the write that is saved.
    fn wake(&self, mut state: MutexGuard<'_, State>) {
        let idle = std::mem::take(&mut state.idle);
        drop(state);
        if idle {
            self.filled.notify_one();
        }
    }

    fn ask(&self, until: impl FnOnce(&State) -> u64) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state.lock();
        let until = until(&state);
        state.asked.push((until, sender));
        drop(state);
        self.filled.notify_one();
        receiver
    }

    /// Writes up to `most` of what is queued, in one go.
    fn write(&self, core: &mut Core, most: usize) {
        let mut batch = std::mem::take(&mut core.batch);
        self.take(&mut batch, most);
        if !batch.is_empty() {
            core.append(&mut batch, |pending, written| self.answer(pending, written));
            self.state.lock().answered += batch.len() as u64;
        }
        batch.clear();
        core.batch = batch;
    }

    /// Writes what is queued and behind it a record of the caller's.
    fn write_with(&self, core: &mut Core, record: JsonObject, reserved: bool) -> Written {
        let mut batch = std::mem::take(&mut core.batch);
        let queued = self.take(&mut batch, usize::MAX);
        batch.push(Pending {
            record,
            reserved,
            waits: Waits::Writer,
        });
        let mut own = Err(SpoolError::Closed);
        core.append(&mut batch, |pending, written| match pending.waits {
            Waits::Writer => own = written,
            _ => self.answer(pending, written),
        });
        if queued > 0 {
            self.state.lock().answered += queued as u64;
        }
        batch.clear();
        core.batch = batch;
        own
    }

    /// Moves up to `most` of what is queued into an empty batch, and says how many these are.
    fn take(&self, batch: &mut Vec<Pending>, most: usize) -> usize {
        let mut state = self.state.lock();
        if state.records.len() <= most {
            // Both keep their room for the next time.
            std::mem::swap(batch, &mut state.records);
            state.since = None;
            state.due = false;
            state.led.clear();
        } else {
            batch.extend(state.records.drain(..most));
            // The leader of those that are left may have had its turn.
            state.due = true;
        }
        batch.len()
    }

    fn answer(&self, pending: &mut Pending, written: Written) {
        match std::mem::replace(&mut pending.waits, Waits::Writer) {
            Waits::Writer => {}
            // Whoever went away does not need the answer; the record is written.
            Waits::For(waiting) => drop(waiting.send(written)),
            Waits::Nobody(failed) => {
                self.late.fetch_sub(1, Ordering::Release);
                if let Err(error) = written {
                    failed(&error);
                }
            }
        }
    }

    /// What the thread does until the lane is closed and nothing is queued any more.
    fn tend(&self, shared: &Shared, commit: Commit, batch: usize) {
        let most = match commit {
            Commit::Fsync => batch,
            Commit::Os => usize::MAX,
        };
        while self.wait() {
            self.write(&mut shared.core.lock(), most);
            let mut state = self.state.lock();
            let answered = state.answered;
            let due = |(until, _): &mut (u64, _)| *until <= answered;
            let due: Vec<_> = state.asked.extract_if(.., due).collect();
            drop(state);
            for (_, asked) in due {
                // Nor does whoever does not want to know any more.
                let _ = asked.send(());
            }
        }
    }

    /// Waits until there is something to write. Gives whether to go on.
    fn wait(&self) -> bool {
        let mut state = self.state.lock();
        loop {
            if state.due || !state.asked.is_empty() {
                return true;
            }
            if state.closed {
                return !state.records.is_empty();
            }
            let Some(since) = state.since else {
                state.idle = true;
                self.filled.wait(&mut state);
                state.idle = false;
                continue;
            };
            let until = since + LATE;
            if Instant::now() >= until {
                return true;
            }
            self.filled.wait_until(&mut state, until);
        }
    }
}

impl State {
    /// Whether the record of this number is out of the queue. They leave it in their order.
    const fn has_taken(&self, number: u64) -> bool {
        self.came - self.records.len() as u64 >= number
    }

    /// Gives the record's number, too.
    fn push_awaited(
        &mut self,
        record: JsonObject,
        reserved: bool,
    ) -> (oneshot::Receiver<Written>, u64) {
        let (sender, receiver) = oneshot::channel();
        self.awaited += 1;
        self.push(record, reserved, Waits::For(sender));
        (receiver, self.came)
    }

    fn push(&mut self, record: JsonObject, reserved: bool, waits: Waits) {
        self.came += 1;
        self.since.get_or_insert_with(Instant::now);
        self.records.push(Pending {
            record,
            reserved,
            waits,
        });
    }
}

#[cfg(test)]
mod tests;
