//! What a record costs: hashing its leaf, appending it, making it durable.

use countersign_ledger::spool::Commit;
use countersign_ledger::spool::Spool;
use countersign_ledger::spool::SpoolOptions;
use countersign_ledger::storage::FsStorage;
use countersign_ledger::tree::leaf_hash;
use criterion::BatchSize;
use criterion::Criterion;
use criterion::Throughput;
use criterion::criterion_group;
use criterion::criterion_main;
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

    let folder = tempfile::tempdir()?;
    let os = spool(&folder, Commit::Os)?;
    group.throughput(Throughput::Elements(1));
    group.bench_function("append, commit: os", |bench| {
        bench.iter_batched(
            || record.clone(),
            |record| runtime.block_on(os.append(record)).is_ok(),
            BatchSize::SmallInput,
        );
    });

    let folder = tempfile::tempdir()?;
    let fsync = spool(&folder, Commit::Fsync)?;
    for at_once in [1_usize, 16, 256] {
        group.throughput(Throughput::Elements(at_once as u64));
        group.bench_function(
            format!("append, commit: fsync, {at_once} at once"),
            |bench| {
                bench.iter(|| {
                    runtime.block_on(async {
                        let tasks: Vec<_> = (0..at_once)
                            .map(|_| {
                                let (spool, record) = (fsync.clone(), record.clone());
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
    group.finish();
    Ok(())
}

criterion_group!(benches, ledger);
criterion_main!(benches);
