//! Those who wait for the file at the same moment share a write, and so do tasks that are ready at
//! the same time. Here the file is held until all of them wait, or tasks get their turns by hand, so
//! that there is nothing to chance.

use super::*;
use crate::spool::Spool;
use crate::spool::SpoolOptions;
use crate::storage::File;
use crate::storage::FsStorage;
use crate::storage::Lock;
use crate::storage::Open;
use crate::storage::Storage;
use std::collections::BTreeSet;
use std::pin::Pin;
use std::pin::pin;
use std::sync::atomic::AtomicBool;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::task::block_in_place;

/// A disk that counts writes and syncs, and fails them when told to.
#[derive(Debug)]
struct Disk {
    below: FsStorage,
    told: Arc<Told>,
    _folder: tempfile::TempDir,
}

#[derive(Debug, Default)]
struct Told {
    broken: AtomicBool,
    syncs: AtomicUsize,
    writes: AtomicUsize,
}

#[derive(Debug)]
struct Counted {
    below: Arc<dyn File>,
    told: Arc<Told>,
}

impl Disk {
    fn new() -> (Arc<Self>, Arc<Told>) {
        let folder = tempfile::tempdir().unwrap();
        let told = Arc::new(Told::default());
        let disk = Self {
            below: FsStorage::new(folder.path()),
            told: told.clone(),
            _folder: folder,
        };
        (Arc::new(disk), told)
    }
}

impl Storage for Disk {
    fn open(&self, path: &str, how: Open) -> Result<Arc<dyn File>, StorageError> {
        Ok(Arc::new(Counted {
            below: self.below.open(path, how)?,
            told: self.told.clone(),
        }))
    }

    fn list(&self, folder: &str) -> Result<Vec<String>, StorageError> {
        self.below.list(folder)
    }

    fn remove(&self, path: &str) -> Result<(), StorageError> {
        self.below.remove(path)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), StorageError> {
        self.below.rename(from, to)
    }

    fn sync_dir(&self, folder: &str) -> Result<(), StorageError> {
        self.below.sync_dir(folder)
    }

    fn lock(&self, path: &str) -> Result<Box<dyn Lock>, StorageError> {
        self.below.lock(path)
    }
}

impl File for Counted {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.told.writes.fetch_add(1, Ordering::SeqCst);
        if self.told.broken.load(Ordering::SeqCst) {
            let error = std::io::Error::other("broken");
            return Err(StorageError::from_io("write", "segment", error));
        }
        self.below.write_at(offset, bytes)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StorageError> {
        self.below.read_at(offset, buffer)
    }

    fn len(&self) -> Result<u64, StorageError> {
        self.below.len()
    }

    fn truncate(&self, length: u64) -> Result<(), StorageError> {
        self.below.truncate(length)
    }

    fn sync_data(&self) -> Result<(), StorageError> {
        self.told.syncs.fetch_add(1, Ordering::SeqCst);
        self.below.sync_data()
    }
}

const WAITING: usize = 6;

/// Has so many append while nobody can write, and gives what they were answered.
fn together(spool: &Spool) -> Vec<Written> {
    let lane = &spool.inner.lane;
    let held = lane.shared.core.lock();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..WAITING)
            .map(|n| {
                let record = format!("{{\"n\":{n}}}").into_bytes();
                scope.spawn(move || spool.append_blocking(record))
            })
            .collect();
        while lane.queue.state.lock().records.len() < WAITING {
            thread::yield_now();
        }
        drop(held);
        threads.into_iter().map(|it| it.join().unwrap()).collect()
    })
}

fn open(disk: Arc<Disk>) -> Spool {
    open_with(disk, Commit::Os)
}

fn open_with(disk: Arc<Disk>, commit: Commit) -> Spool {
    let options = SpoolOptions {
        commit,
        ..SpoolOptions::default()
    };
    Spool::open(disk, "gw-1", options).unwrap().0
}

#[test]
fn one_writes_for_all_who_wait() {
    let (disk, told) = Disk::new();
    let spool = open(disk);
    let before = told.writes.load(Ordering::SeqCst);
    let promises: Vec<_> = together(&spool).into_iter().map(Result::unwrap).collect();
    assert_eq!(told.writes.load(Ordering::SeqCst), before + 1);
    let found = spool.read_from(0, 100).unwrap();
    assert_eq!(found.len(), WAITING);
    for (n, promise) in promises.iter().enumerate() {
        assert!(promise.covers(format!("{{\"n\":{n}}}").as_bytes()));
        let leaf = found.iter().find(|leaf| leaf.seq == promise.seq()).unwrap();
        assert_eq!(leaf.leaf_hash, *promise.leaf_hash());
    }
    assert_eq!(spool.verify().unwrap().next, WAITING as u64);
}

#[test]
fn when_the_write_fails_each_of_them_hears_it_and_nothing_is_promised() {
    let (disk, told) = Disk::new();
    let spool = open(disk);
    told.broken.store(true, Ordering::SeqCst);
    let before = told.writes.load(Ordering::SeqCst);
    for written in together(&spool) {
        assert!(
            matches!(written, Err(SpoolError::Storage(_))),
            "{written:?}"
        );
    }
    assert_eq!(told.writes.load(Ordering::SeqCst), before + 1);
    assert_eq!(spool.head().next, 0);
    told.broken.store(false, Ordering::SeqCst);
    assert_eq!(spool.append_blocking(b"{}".to_vec()).unwrap().seq(), 0);
    assert_eq!(spool.read_from(0, 100).unwrap().len(), 1);
}

fn record(n: u64) -> Vec<u8> {
    format!("{{\"n\":{n}}}").into_bytes()
}

fn never(error: &SpoolError) {
    panic!("{error}");
}

/// What a task gets whose turn it is once.
fn poll<F: Future + ?Sized>(task: Pin<&mut F>) -> Poll<F::Output> {
    task.poll(&mut Context::from_waker(Waker::noop()))
}

/// Has tasks leave their records in the queue while nobody can write.
fn queue<const COUNT: usize>(
    spool: &Spool,
    tasks: [Pin<&mut dyn Future<Output = Written>>; COUNT],
) {
    let _held = spool.inner.lane.shared.core.lock();
    for task in tasks {
        assert!(poll(task).is_pending());
    }
}

fn promised(task: Poll<Written>) -> u64 {
    match task {
        Poll::Ready(written) => written.unwrap().seq(),
        Poll::Pending => panic!("not written"),
    }
}

/// Waits until the thread has nothing to look after.
fn idle(spool: &Spool) {
    let hang = Instant::now() + Duration::from_secs(60);
    while !spool.inner.lane.queue.state.lock().idle {
        assert!(Instant::now() < hang, "it never rests");
        thread::yield_now();
    }
}

/// Has so many tasks append on one thread, and gives what they were answered.
fn as_tasks(spool: &Spool, count: u64) -> Vec<Written> {
    let runtime = Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for n in 0..count {
            let spool = spool.clone();
            tasks.spawn(async move { spool.append(record(n)).await });
        }
        tasks.join_all().await
    })
}

#[test]
fn tasks_that_are_ready_together_share_a_write() {
    for commit in [Commit::Os, Commit::Fsync] {
        let (disk, told) = Disk::new();
        let spool = open_with(disk, commit);
        let before = told.writes.load(Ordering::SeqCst);
        let begun = Instant::now();
        let written = as_tasks(&spool, 1000);
        let writes = told.writes.load(Ordering::SeqCst) - before;
        // The thread writes, too, where they are kept from their turn for too long.
        let late = begun.elapsed().as_micros() / LATE.as_micros();
        assert!(writes as u128 <= 250 + late, "{writes}");
        let seqs: BTreeSet<_> = written.into_iter().map(|it| it.unwrap().seq()).collect();
        assert!(seqs.into_iter().eq(0..1000));
        assert_eq!(spool.verify().unwrap().next, 1000);
    }
}

#[test]
fn each_of_those_who_share_a_write_hears_that_it_failed() {
    for commit in [Commit::Os, Commit::Fsync] {
        let (disk, told) = Disk::new();
        let spool = open_with(disk, commit);
        told.broken.store(true, Ordering::SeqCst);
        let written = as_tasks(&spool, 100);
        assert_eq!(written.len(), 100);
        for written in written {
            let failed = matches!(written, Err(SpoolError::Storage(_)));
            assert!(failed, "{written:?}");
        }
        told.broken.store(false, Ordering::SeqCst);
        assert_eq!(spool.head().next, 0);
        assert!(as_tasks(&spool, 100).iter().all(Result::is_ok));
        assert_eq!(spool.verify().unwrap().next, 100);
    }
}

#[test]
fn a_leader_that_goes_away_leaves_its_record_and_everybody_else_s() {
    let (disk, told) = Disk::new();
    let spool = open(disk);
    let before = told.writes.load(Ordering::SeqCst);
    let mut leader = Box::pin(spool.append(record(0)));
    let mut gone = Box::pin(spool.append(record(1)));
    let mut waits = pin!(spool.append(record(2)));
    queue(&spool, [leader.as_mut(), gone.as_mut(), waits.as_mut()]);
    drop(gone);
    drop(leader);
    assert_eq!(promised(poll(waits)), 2);
    assert_eq!(told.writes.load(Ordering::SeqCst), before + 1);
    // The next one leads again.
    let mut next = pin!(spool.append(record(3)));
    assert!(poll(next.as_mut()).is_pending());
    assert_eq!(promised(poll(next)), 3);
    assert_eq!(spool.verify().unwrap().next, 4);
}

#[test]
fn a_leader_that_is_kept_from_its_turn_keeps_nobody_waiting() {
    for commit in [Commit::Os, Commit::Fsync] {
        let (disk, _) = Disk::new();
        let spool = open_with(disk, commit);
        idle(&spool);
        let mut leader = pin!(spool.append(record(0)));
        assert!(poll(leader.as_mut()).is_pending());
        let runtime = Builder::new_current_thread().enable_time().build();
        let waits = async {
            let hang = Duration::from_secs(60);
            tokio::time::timeout(hang, spool.append(record(1))).await
        };
        let written = runtime.unwrap().block_on(waits).unwrap();
        assert_eq!(written.unwrap().seq(), 1);
        assert_eq!(promised(poll(leader)), 0);
        assert_eq!(spool.head().next, 2);
        idle(&spool);
    }
}

/// One more who waits for its record, at a queue without a thread that writes.
fn comes(queue: &Queue) -> (oneshot::Receiver<Written>, u64) {
    let record = JsonObject::try_from(record(0)).unwrap();
    let (written, number, _) = queue.push_together(record, false);
    (written, number)
}

#[test]
fn a_flush_waits_for_those_who_are_still_coming_and_for_nobody_else() {
    let queue = Queue::default();
    let (_written, number) = comes(&queue);
    let mut leads = pin!(queue.gather(number));
    assert!(poll(leads.as_mut()).is_pending());
    let coming: Vec<_> = (0..5)
        .map(|_| {
            let waits = comes(&queue);
            assert!(poll(leads.as_mut()).is_pending());
            waits
        })
        .collect();
    assert!(!queue.state.lock().due);
    // Nobody came since the turn before.
    assert!(poll(leads).is_ready());
    queue.flush(number);
    assert!(queue.state.lock().due);
    assert_eq!(queue.take(&mut Vec::new(), usize::MAX), 1 + coming.len());
    assert!(!queue.state.lock().due);
}

#[test]
fn a_leader_whose_record_is_taken_leaves_those_who_come_then_to_the_next() {
    let queue = Queue::default();
    let (_written, number) = comes(&queue);
    let mut leads = pin!(queue.gather(number));
    assert!(poll(leads.as_mut()).is_pending());
    queue.take(&mut Vec::new(), usize::MAX);
    let _waiting: Vec<_> = (0..5).map(|_| comes(&queue)).collect();
    assert!(poll(leads).is_ready());
    queue.flush(number);
    assert!(!queue.state.lock().due, "the others have company to come");
}

#[test]
fn what_a_flush_leaves_behind_is_flushed_next() {
    let queue = Queue::default();
    let _waiting: Vec<_> = (0..3).map(|_| comes(&queue)).collect();
    let mut batch = Vec::new();
    assert_eq!(queue.take(&mut batch, 2), 2);
    assert!(queue.state.lock().due);
    assert!(queue.wait());
}

#[test]
fn those_who_keep_coming_keep_nobody_waiting() {
    let (disk, _) = Disk::new();
    let spool = open_with(disk, Commit::Fsync);
    let hang = Instant::now() + Duration::from_secs(60);
    let mut leader = pin!(spool.append(record(0)));
    assert!(poll(leader.as_mut()).is_pending());
    let mut coming = Vec::new();
    while poll(leader.as_mut()).is_pending() {
        assert!(Instant::now() < hang, "{} have come", coming.len());
        let mut task = Box::pin(spool.append(record(1)));
        let _answer = poll(task.as_mut());
        coming.push(task);
    }
}

#[test]
fn whoever_is_alone_has_a_flush_at_the_next_turn() {
    let (disk, told) = Disk::new();
    let spool = open_with(disk, Commit::Fsync);
    let runtime = Builder::new_current_thread().build().unwrap();
    let before = told.syncs.load(Ordering::SeqCst);
    for n in 0..3 {
        let written = runtime.block_on(spool.append(record(n)));
        assert_eq!(written.unwrap().seq(), n);
    }
    // Nor does a caller outside a runtime wait for anybody, or whoever a leader leaves behind.
    assert_eq!(spool.append_blocking(record(3)).unwrap().seq(), 3);
    let mut leader = Box::pin(spool.append(record(4)));
    let mut waits = Box::pin(spool.append(record(5)));
    let lane = &spool.inner.lane;
    // Until then nothing is taken, for whatever reason.
    let core = lane.shared.core.lock();
    assert!(poll(leader.as_mut()).is_pending());
    assert!(poll(waits.as_mut()).is_pending());
    assert!(!lane.queue.state.lock().due);
    drop(leader);
    assert!(lane.queue.state.lock().due);
    drop(core);
    assert_eq!(runtime.block_on(waits).unwrap().seq(), 5);
    assert!(told.syncs.load(Ordering::SeqCst) >= before + 5);
    assert_eq!(spool.verify().unwrap().next, 6);
}

#[test]
fn whoever_writes_meanwhile_writes_for_the_leader_and_those_behind_it() {
    let (disk, told) = Disk::new();
    let spool = open(disk);
    let before = told.writes.load(Ordering::SeqCst);
    let mut leader = pin!(spool.append(record(0)));
    let mut waits = pin!(spool.append(record(1)));
    queue(&spool, [leader.as_mut(), waits.as_mut()]);
    assert_eq!(spool.append_blocking(record(2)).unwrap().seq(), 2);
    assert_eq!(promised(poll(waits)), 1);
    let writes = told.writes.load(Ordering::SeqCst);
    // Two if the thread was faster.
    assert!(writes <= before + 2, "{writes}");
    assert_eq!(promised(poll(leader)), 0);
    assert_eq!(told.writes.load(Ordering::SeqCst), writes, "written twice");

    let mut leader = pin!(spool.append(record(3)));
    let mut waits = pin!(spool.append(record(4)));
    queue(&spool, [leader.as_mut(), waits.as_mut()]);
    for n in 0..MANY {
        spool.append_late(record(n as u64), never).unwrap();
    }
    // The thread may have been faster, and not be done.
    drop(spool.inner.lane.shared.core.lock());
    assert_eq!(promised(poll(waits)), 4);
    assert_eq!(promised(poll(leader)), 3);
    let next = 5 + MANY as u64;
    assert_eq!(spool.head().next, next);
    assert_eq!(spool.verify().unwrap().next, next);
}

#[test]
fn tasks_on_many_threads_beside_others_all_get_their_answers() {
    for commit in [Commit::Os, Commit::Fsync] {
        let (disk, _) = Disk::new();
        all_get_their_answers(&open_with(disk, commit));
    }
}

fn all_get_their_answers(spool: &Spool) {
    const EACH: u64 = 200;
    let runtime = Builder::new_multi_thread().worker_threads(4).build();
    let runtime = runtime.unwrap();
    let seqs = runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for task in 0..16 {
            let spool = spool.clone();
            tasks.spawn(async move {
                let mut seqs = Vec::new();
                for n in 0..EACH {
                    let body = record(task * EACH + n);
                    if n % 3 == 0 {
                        // One that goes away after its first turn at the latest.
                        let mut gone = Box::pin(spool.append(record(n)));
                        let _answer = poll(gone.as_mut());
                    }
                    let written = match n % 10 {
                        0 => block_in_place(|| spool.append_blocking(body.clone())),
                        1 => spool.append_reserved(body.clone()).await,
                        _ => spool.append(body.clone()).await,
                    };
                    spool.append_late(record(n), never).unwrap();
                    let promise = written.unwrap();
                    assert!(promise.covers(&body));
                    seqs.push(promise.seq());
                }
                seqs
            });
        }
        tasks.join_all().await.concat()
    });
    let distinct: BTreeSet<_> = seqs.iter().collect();
    assert_eq!(distinct.len() as u64, 16 * EACH);
    runtime.block_on(spool.inner.lane.flushed()).unwrap();
    let gone = 16 * EACH.div_ceil(3);
    assert_eq!(spool.head().next, 2 * 16 * EACH + gone);
    assert_eq!(spool.verify().unwrap(), spool.head());
}
