//! What a hop costs between its evidence and its admission, and what its end costs: deciding,
//! writing the record, handing it to the spool on a real disk, and the completion.
//!
//! `cargo bench -p countersign-enforce --bench enforce`.

use countersign_core::hop::Binding;
use countersign_core::hop::Certificate;
use countersign_core::hop::Claims;
use countersign_core::hop::Evidence;
use countersign_core::hop::Facts;
use countersign_core::hop::Peer;
use countersign_core::hop::Tls;
use countersign_core::hop::TlsVersion;
use countersign_core::hop::Token;
use countersign_core::hop::VerifiedToken;
use countersign_core::record::Context;
use countersign_core::record::Ending;
use countersign_core::snapshot::Bundle;
use countersign_core::snapshot::Snapshot;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::Operation;
use countersign_core::vocabulary::Permission;
use countersign_core::vocabulary::SpiffeId;
use countersign_core::vocabulary::Timestamp;
use countersign_enforce::Ask;
use countersign_enforce::EnforcementPoint;
use countersign_enforce::SystemClock;
use countersign_ledger::spool::Commit;
use countersign_ledger::spool::Spool;
use countersign_ledger::spool::SpoolOptions;
use countersign_ledger::storage::FsStorage;
use criterion::Criterion;
use criterion::Throughput;
use criterion::criterion_group;
use criterion::criterion_main;
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

const ROOT: Digest = Digest::new([7; 32]);
const LEAF: Digest = Digest::new([1; 32]);
const HOUR: Duration = Duration::from_secs(3600);
const POLICY: &str = r#"
environment: dev
trust_domain: hms.dev.invalid
listeners:
  web:  { bind: "127.0.0.1:8443", peer: browser, login: dev }
  mesh: { bind: "127.0.0.1:9443", peer: service, rate: 1000000/s burst 2000000 }
identities: { frontend: {}, hms-api: {} }
roles: { analyst: { members: [user:alice], may: ["reports:read"] } }
services:
  hms-api:
    peer: service
    url: "https://localhost:7002"
    operations: { "GET /v1/reports/*": { needs: "reports:read" } }
edges:
  web -> hms-api: ["GET /v1/reports/*"]
  frontend -> hms-api: ["GET /v1/reports/*"]
"#;

/// Who asks: the frontend, for alice.
#[derive(Clone)]
struct Caller {
    certificate: Arc<Certificate>,
    token: Arc<VerifiedToken>,
}

impl Caller {
    fn new(now: Timestamp) -> Result<Self, Box<dyn Error>> {
        let id = SpiffeId::parse("spiffe://hms.dev.invalid/frontend")?;
        let certificate = Certificate {
            issuer: Digest::new([8; 32]),
            issuers_above: Box::default(),
            leaf: LEAF,
            not_after: now.plus(HOUR),
            not_before: now,
            root: ROOT,
            serial: "2a8f30c1d2".into(),
            spiffe_id: id.clone(),
        };
        let claims = Claims {
            act: vec![id],
            aud: "https://hms.dev.invalid/svc/hms-api".to_owned(),
            ceil: Vec::new(),
            client_id: "frontend".into(),
            cnf: Binding::Certificate(LEAF),
            exp: now.plus(HOUR).as_secs(),
            groups: vec!["dev/analysts".to_owned()],
            iat: now.as_secs(),
            iss: "https://hms.dev.invalid".into(),
            jti: "0d7c2f4e6a8b4c1d9e3f5a7b9c1d3e5f".into(),
            nbf: None,
            roles: Vec::new(),
            scope: vec![Permission::new("reports:read")?],
            sid: None,
            sub: "dev:alice".into(),
        };
        Ok(Self {
            certificate: Arc::new(certificate),
            token: Arc::new(VerifiedToken {
                claims,
                hash: LEAF,
                kid: "sig-2026-11".into(),
            }),
        })
    }

    fn ask<'a>(&self, door: &Name, request_id: &'a str) -> Ask<'a> {
        Ask {
            door: door.clone(),
            service: "hms-api".to_owned(),
            operation: Operation::named("GET", "/v1/reports/42"),
            evidence: Evidence {
                peer: Peer::Certificate(self.certificate.clone()),
                session: None,
                tls: Tls::Established {
                    cipher: "TLS13_AES_256_GCM_SHA384".into(),
                    group: "X25519MLKEM768".into(),
                    resumed: false,
                    version: TlsVersion::V13,
                },
                token: Token::Verified(self.token.clone()),
            },
            facts: Facts::default(),
            context: Context {
                request_id,
                source_ip: Some([192, 0, 2, 7].into()),
                user_agent: Some("curl/8.5.0"),
                ..Context::default()
            },
        }
    }
}

fn point(folder: &tempfile::TempDir, commit: Commit) -> Result<EnforcementPoint, Box<dyn Error>> {
    let bundle = Bundle {
        dev: true,
        entry: "policy.yaml".to_owned(),
        files: BTreeMap::from([("policy.yaml".to_owned(), POLICY.to_owned())]),
        roots: vec![ROOT],
        ..Bundle::default()
    };
    let options = SpoolOptions {
        commit,
        max_bytes: u64::MAX,
        ..SpoolOptions::default()
    };
    let storage = Arc::new(FsStorage::new(folder.path()));
    let (spool, _) = Spool::open(storage, "gw-1", options)?;
    let snapshot = Arc::new(Snapshot::from_bundle(bundle)?);
    let clock = Arc::new(SystemClock);
    Ok(EnforcementPoint::new(spool, snapshot, clock))
}

/// One hop from end to end.
async fn hop(point: &EnforcementPoint, caller: &Caller, door: &Name) -> bool {
    let ask = caller.ask(door, "01JD3Y7N8K5Q2R4T6V8X0Z1B3D");
    let Ok(admitted) = point.enforce(ask).await else {
        return false;
    };
    admitted.attempted("10.0.0.7:8443".to_owned());
    admitted.sent(1024);
    admitted.answered(200);
    admitted.ended(Ending::Done);
    true
}

fn enforce(criterion: &mut Criterion) {
    if let Err(error) = run(criterion) {
        criterion.bench_function(&format!("failed: {error}"), |bench| bench.iter(|| ()));
    }
}

fn run(criterion: &mut Criterion) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let door = Name::new("mesh")?;
    let mut group = criterion.benchmark_group("enforce");
    group
        .measurement_time(Duration::from_secs(4))
        .sample_size(20);

    let folder = tempfile::tempdir()?;
    let os = point(&folder, Commit::Os)?;
    let caller = Caller::new(os.now())?;
    if !runtime.block_on(hop(&os, &caller, &door)) {
        return Err("the hop is refused".into());
    }
    group.throughput(Throughput::Elements(1));
    group.bench_function("a hop and its end, commit: os", |bench| {
        bench.iter(|| runtime.block_on(hop(&os, &caller, &door)));
    });
    // The gateway has many hops in one run of its runtime, and completions end up beside them.
    group.throughput(Throughput::Elements(64));
    group.bench_function("64 hops in turn, commit: os", |bench| {
        bench.iter(|| {
            runtime.block_on(async {
                for _ in 0..64 {
                    hop(&os, &caller, &door).await;
                    tokio::task::yield_now().await;
                }
            });
        });
    });

    let folder = tempfile::tempdir()?;
    let fsync = point(&folder, Commit::Fsync)?;
    for at_once in [1_usize, 256] {
        group.throughput(Throughput::Elements(at_once as u64));
        group.bench_function(format!("{at_once} hops at once, commit: fsync"), |bench| {
            bench.iter(|| {
                runtime.block_on(async {
                    let hops: Vec<_> = (0..at_once)
                        .map(|_| {
                            let (point, caller, door) =
                                (fsync.clone(), caller.clone(), door.clone());
                            tokio::spawn(async move { hop(&point, &caller, &door).await })
                        })
                        .collect();
                    for hop in hops {
                        hop.await?;
                    }
                    Ok::<_, tokio::task::JoinError>(())
                })
            });
        });
    }
    group.finish();
    Ok(())
}

criterion_group!(benches, enforce);
criterion_main!(benches);
