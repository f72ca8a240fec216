//! What a record costs: hashing its leaf, appending it, making it durable, taking it into the log,
//! and finding it there again.
//!
//! `cargo bench -p countersign-ledger --bench ledger`.

use countersign_ledger::JsonObject;
use countersign_ledger::log::Log;
use countersign_ledger::note::SigningKey;
use countersign_ledger::spool::Commit;
use countersign_ledger::spool::Spool;
use countersign_ledger::spool::SpoolOptions;
use countersign_ledger::storage::File;
use countersign_ledger::storage::FsStorage;
use countersign_ledger::storage::Lock;
use countersign_ledger::storage::Open;
use countersign_ledger::storage::Storage;
use countersign_ledger::storage::StorageError;
use countersign_ledger::tree::leaf_hash;
use criterion::BatchSize;
use criterion::BenchmarkGroup;
use criterion::Criterion;
use criterion::Throughput;
use criterion::criterion_group;
use criterion::criterion_main;
use criterion::measurement::WallTime;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::runtime::Runtime;

/// About the size of a decision record.
fn record() -> Vec<u8> {
    format!(
        "{{\"facts\":{{\"text\":\"{}\"}},\"kind\":\"decision\"}}",
        "x".repeat(1400)
    )
    .into_bytes()
}

/// A disk that takes everything and keeps nothing: what is left is the ledger's own work.
#[derive(Debug)]
struct Nowhere;

impl Lock for Nowhere {}

impl Storage for Nowhere {
    fn open(&self, path: &str, how: Open) -> Result<Arc<dyn File>, StorageError> {
        if how == Open::Create {
            return Ok(Arc::new(Self));
        }
        let path = path.to_owned();
        Err(StorageError::NotFound { path })
    }

    fn list(&self, _: &str) -> Result<Vec<String>, StorageError> {
        Ok(Vec::new())
    }

    fn remove(&self, _: &str) -> Result<(), StorageError> {
        Ok(())
    }

    fn rename(&self, _: &str, _: &str) -> Result<(), StorageError> {
        Ok(())
    }

    fn sync_dir(&self, _: &str) -> Result<(), StorageError> {
        Ok(())
    }

    fn lock(&self, _: &str) -> Result<Box<dyn Lock>, StorageError> {
        Ok(Box::new(Self))
    }
}

impl File for Nowhere {
    fn write_at(&self, _: u64, _: &[u8]) -> Result<(), StorageError> {
        Ok(())
    }

    fn read_at(&self, _: u64, _: &mut [u8]) -> Result<usize, StorageError> {
        Ok(0)
    }

    fn len(&self) -> Result<u64, StorageError> {
        Ok(0)
    }

    fn truncate(&self, _: u64) -> Result<(), StorageError> {
        Ok(())
    }

    fn sync_data(&self) -> Result<(), StorageError> {
        Ok(())
    }
}

fn spool(folder: &tempfile::TempDir, commit: Commit) -> Result<Spool, Box<dyn std::error::Error>> {
    let options = SpoolOptions {
        commit,
        max_bytes: u64::MAX,
        ..SpoolOptions::default()
    };
    let storage = Arc::new(FsStorage::new(folder.path()));
    Ok(Spool::open(storage, "bench", options)?.0)
}

fn ledger(criterion: &mut Criterion) {
    if let Err(error) = run(criterion) {
        criterion.bench_function(&format!("failed: {error}"), |bench| bench.iter(|| ()));
    }
}

fn run(criterion: &mut Criterion) -> Result<(), Box<dyn std::error::Error>> {
    let runtime: Runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let record = record();
    let mut group = criterion.benchmark_group("ledger");
    group
        .measurement_time(Duration::from_secs(3))
        .sample_size(20);

    group.throughput(Throughput::Bytes(record.len() as u64));
    group.bench_function("hash a leaf", |bench| bench.iter(|| leaf_hash(&record)));

    // As the server takes them: many at once, each tile written when it is full.
    let origin = "bench.example/log";
    let log = Log::open(
        Arc::new(Nowhere),
        origin,
        SigningKey::from_seed(origin, &[7; 32])?,
    )?;
    let many = vec![record.clone(); 4096];
    group.throughput(Throughput::Elements(many.len() as u64));
    group.bench_function("append to the log, in memory", |bench| {
        bench.iter(|| log.append_raw(&many).is_ok());
    });
    drop((log, many));

    let object = JsonObject::try_from(record.clone())?;
    let folder = tempfile::tempdir()?;
    let os = spool(&folder, Commit::Os)?;
    group.throughput(Throughput::Elements(1));
    group.bench_function("append, commit: os", |bench| {
        bench.iter(|| runtime.block_on(os.append(object.clone())).is_ok());
    });
    group.bench_function("parse and append, commit: os", |bench| {
        bench.iter_batched(
            || record.clone(),
            |record| runtime.block_on(os.append(record)).is_ok(),
            BatchSize::SmallInput,
        );
    });

    durable(&mut group, &runtime, &object)?;
    finding(&mut group)?;
    group.finish();
    Ok(())
}

fn durable(
    group: &mut BenchmarkGroup<'_, WallTime>,
    runtime: &Runtime,
    object: &JsonObject,
) -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let fsync = spool(&folder, Commit::Fsync)?;
    for at_once in [1_usize, 16, 256, 2048] {
        group.throughput(Throughput::Elements(at_once as u64));
        group.bench_function(
            format!("append, commit: fsync, {at_once} at once"),
            |bench| {
                bench.iter(|| {
                    runtime.block_on(async {
                        let tasks: Vec<_> = (0..at_once)
                            .map(|_| {
                                let (spool, record) = (fsync.clone(), object.clone());
                                tokio::spawn(async move { spool.append(record).await.is_ok() })
                            })
                            .collect();
                        for task in tasks {
                            task.await?;
                        }
                        Ok::<_, tokio::task::JoinError>(())
                    })
                });
            },
        );
    }
    Ok(())
}

/// Finds leaves by their hashes in a log that grows.
fn finding(group: &mut BenchmarkGroup<'_, WallTime>) -> Result<(), Box<dyn std::error::Error>> {
    const BATCH: u64 = 4096;
    let origin = "bench.example/log";
    let folder = tempfile::tempdir()?;
    let key = SigningKey::from_seed(origin, &[7; 32])?;
    let log = Log::open(Arc::new(FsStorage::new(folder.path())), origin, key)?;
    group.throughput(Throughput::Elements(1));
    for size in [100_000_u64, 1_000_000, 4_000_000] {
        while log.size() < size {
            let entries: Vec<_> = (log.size()..size)
                .take(BATCH as usize)
                .map(u64::to_be_bytes)
                .collect();
            log.append_raw(&entries)?;
        }
        // The golden ratio of 64 bits: leaves far from each other.
        let mut at = 0_u64;
        group.bench_function(format!("find a leaf of {size}"), |bench| {
            bench.iter(|| {
                at = at.wrapping_add(0x9E37_79B9_7F4A_7C15);
                log.index_of(&leaf_hash(&(at % size).to_be_bytes()))
                    .is_ok_and(|found| found == Some(at % size))
            });
        });
    }
    Ok(())
}

criterion_group!(benches, ledger);
criterion_main!(benches);
