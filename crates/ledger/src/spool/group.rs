//! Group commit: a thread of its own writes and syncs, so that records which arrive during one
//! flush share the next.

use super::Promise;
use super::Shared;
use super::SpoolError;
use super::core::Pending;
use crate::storage::StorageError;
use parking_lot::Condvar;
use parking_lot::Mutex;
use std::sync::Arc;
use std::thread;
use tokio::sync::oneshot;

type Done = oneshot::Sender<Result<Promise, SpoolError>>;

/// The queue before the writer thread. Dropping it flushes what is queued and ends the thread.
#[derive(Debug)]
pub(super) struct Group {
    queue: Arc<Queue>,
    writer: Option<thread::JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct State {
    records: Vec<Pending>,
    done: Vec<Done>,
    /// Who wants to know that the writer turns.
    asked: Vec<oneshot::Sender<()>>,
    closed: bool,
}

impl Group {
    /// Starts the writer; a flush covers at most `batch` records.
    pub(super) fn start(shared: Arc<Shared>, batch: usize) -> Result<Self, SpoolError> {
        let queue = Arc::new(Queue::default());
        let theirs = Arc::clone(&queue);
        let writer = thread::Builder::new()
            .name("spool-writer".to_owned())
            .spawn(move || write_batches(&shared, &theirs, batch))
            .map_err(|error| StorageError::from_io("start the writer of", "spool", error))?;
        Ok(Self {
            queue,
            writer: Some(writer),
        })
    }

    /// Queues a record; the receiver hears of it after its batch was synced.
    pub(super) fn enqueue(
        &self,
        record: Vec<u8>,
        reserved: bool,
    ) -> Result<oneshot::Receiver<Result<Promise, SpoolError>>, SpoolError> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.queue.state.lock();
        if state.closed {
            return Err(SpoolError::Closed);
        }
        state.records.push(Pending { record, reserved });
        state.done.push(sender);
        drop(state);
        self.queue.filled.notify_one();
        Ok(receiver)
    }

    /// Answered by the writer after what it writes by then. Nothing is ever answered by one that
    /// is gone or hangs.
    pub(super) fn turn(&self) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.queue.state.lock().asked.push(sender);
        self.queue.filled.notify_one();
        receiver
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.queue.state.lock().closed = true;
        self.queue.filled.notify_one();
        if let Some(writer) = self.writer.take() {
            // The lock on the folder goes with the thread; a panic in it was reported by itself.
            let _ = writer.join();
        }
    }
}

/// Never waits to fill a batch: what a batch holds is what arrived during the flush before.
fn write_batches(shared: &Shared, queue: &Queue, batch: usize) {
    let mut done: Vec<Option<Done>> = Vec::new();
    loop {
        let (records, asked): (Vec<Pending>, _) = {
            let mut state = queue.state.lock();
            while state.records.is_empty() && state.asked.is_empty() {
                if state.closed {
                    return;
                }
                queue.filled.wait(&mut state);
            }
            let count = state.records.len().min(batch);
            done.clear();
            done.extend(state.done.drain(..count).map(Some));
            let records = state.records.drain(..count).collect();
            (records, std::mem::take(&mut state.asked))
        };
        if !records.is_empty() {
            shared.core.lock().append(&records, |index, result| {
                if let Some(done) = done.get_mut(index).and_then(Option::take) {
                    // Whoever went away does not need the answer; the record is written.
                    let _ = done.send(result);
                }
            });
        }
        for asked in asked {
            // Nor does whoever does not want to know any more.
            let _ = asked.send(());
        }
    }
}
