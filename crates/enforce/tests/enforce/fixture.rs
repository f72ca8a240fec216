use countersign_core::hop::Binding;
use countersign_core::hop::Certificate;
use countersign_core::hop::Claims;
use countersign_core::hop::Evidence;
use countersign_core::hop::Facts;
use countersign_core::hop::Peer;
use countersign_core::hop::Tls;
use countersign_core::hop::TlsFault;
use countersign_core::hop::TlsVersion;
use countersign_core::hop::Token;
use countersign_core::hop::VerifiedToken;
use countersign_core::record::Completion;
use countersign_core::record::Context;
use countersign_core::record::Record;
use countersign_core::record::Resource;
use countersign_core::record::Status;
use countersign_core::snapshot::Bundle;
use countersign_core::snapshot::Revocation;
use countersign_core::snapshot::Revoked;
use countersign_core::snapshot::Snapshot;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::Operation;
use countersign_core::vocabulary::Permission;
use countersign_core::vocabulary::Pillar;
use countersign_core::vocabulary::SpiffeId;
use countersign_core::vocabulary::Timestamp;
use countersign_enforce::Ask;
use countersign_enforce::Clock;
use countersign_enforce::EnforcementPoint;
use countersign_enforce::Refusal;
use countersign_ledger::ReceiptId;
use countersign_ledger::spool::Commit;
use countersign_ledger::spool::Spool;
use countersign_ledger::spool::SpoolOptions;
use countersign_ledger::storage::FsStorage;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Wednesday 2026-11-25, 10:00 UTC.
pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_795_600_800);
const ROOT: Digest = Digest::new([7; 32]);
const POLICY: &str = r#"
environment: dev
trust_domain: hms.dev.invalid
listeners:
  web:  { bind: "127.0.0.1:8443", peer: browser, login: dev }
  mesh: { bind: "127.0.0.1:9443", peer: service }
identities: { frontend: {}, hms-api: {} }
roles: { analyst: { members: [user:alice], may: ["ai:invoke-summary", "llm:chat"] } }
services:
  hms-api:
    peer: service
    url: "https://localhost:7002"
    operations:
      POST /ai/summary: { needs: "ai:invoke-summary" }
      GET /about:       { needs: edge }
  openai:
    peer: third-party
    url: "https://llm.example"
    credential: { secret: model, as: bearer }
    operations: { POST /v1/chat/completions: { needs: "llm:chat", models: ["gpt-*"], budget: llm } }
edges:
  web -> hms-api: [POST /ai/summary, GET /about]
  frontend -> hms-api: [POST /ai/summary]
  hms-api -> openai: [POST /v1/chat/completions]
secrets: { model: { from: "store:model" } }
budgets: { llm: { limit: $50/day, per: subject, prices: { "gpt-*": { input: $2.50, output: $10 } } } }
"#;

pub(crate) struct Setup {
    pub(crate) point: EnforcementPoint,
    clock: Arc<Time>,
    _folder: tempfile::TempDir,
}

#[derive(Debug, Default)]
struct Time {
    boot: AtomicI64,
    wall: AtomicI64,
}

impl Clock for Time {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(NOW.as_micros() + self.wall.load(Ordering::SeqCst))
    }

    fn boot(&self) -> Duration {
        Duration::from_micros(u64::try_from(self.boot.load(Ordering::SeqCst)).unwrap())
    }
}

impl Setup {
    pub(crate) fn new() -> Self {
        Self::with_room(64 << 20, 1 << 20)
    }

    /// The ledger answers when its disk does, which is never at once.
    pub(crate) fn on_disk() -> Self {
        Self::with(64 << 20, 1 << 20, Commit::Fsync)
    }

    pub(crate) fn with_room(max_bytes: u64, reserve_bytes: u64) -> Self {
        Self::with(max_bytes, reserve_bytes, Commit::Os)
    }

    fn with(max_bytes: u64, reserve_bytes: u64, commit: Commit) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let storage = Arc::new(FsStorage::new(folder.path()));
        let options = SpoolOptions {
            commit,
            segment_bytes: 16 << 20,
            max_bytes,
            reserve_bytes,
            ..SpoolOptions::default()
        };
        let (spool, _) = Spool::open(storage, "n1", options).unwrap();
        let clock = Arc::new(Time::default());
        let point = EnforcementPoint::new(spool, snapshot(POLICY), clock.clone());
        Self {
            point,
            clock,
            _folder: folder,
        }
    }

    /// The same, but in a process that policy and revocations reach from elsewhere.
    pub(crate) fn unheard() -> Self {
        let mut setup = Self::new();
        let point = &setup.point;
        setup.point =
            EnforcementPoint::unheard(point.spool().clone(), point.snapshot(), setup.clock.clone());
        setup
    }

    pub(crate) fn advance(&self, by: Duration) {
        let micros = i64::try_from(by.as_micros()).unwrap();
        self.clock.boot.fetch_add(micros, Ordering::SeqCst);
        self.clock.wall.fetch_add(micros, Ordering::SeqCst);
    }

    /// The wall clock jumps back; the boot-time clock does not.
    pub(crate) fn step_back(&self, by: Duration) {
        self.clock
            .wall
            .fetch_sub(i64::try_from(by.as_micros()).unwrap(), Ordering::SeqCst);
    }

    /// The wall clock jumps; the boot-time clock does not.
    pub(crate) fn step(&self, by: Duration) {
        self.clock
            .wall
            .fetch_add(i64::try_from(by.as_micros()).unwrap(), Ordering::SeqCst);
    }

    /// A heartbeat that agrees with what is known.
    pub(crate) fn beat(&self) {
        let state = self.point.state();
        let epoch = state.revocations.epoch();
        self.point
            .heartbeat(epoch, state.snapshot.revision(), self.point.now());
    }

    pub(crate) fn line(&self, epoch: u64, what: Revoked) -> Revocation {
        Revocation {
            at: self.point.now(),
            epoch,
            lifted: false,
            what,
        }
    }

    pub(crate) fn revoke(&self, epoch: u64, what: Revoked) -> usize {
        self.point.revoke(&[self.line(epoch, what)]).unwrap()
    }

    /// The policy without one line.
    pub(crate) fn without(&self, line: &str) -> Arc<Snapshot> {
        assert!(POLICY.contains(line));
        let text = POLICY.replace(line, "frontend -> hms-api: [GET /about]");
        snapshot(&text)
    }

    pub(crate) fn records(&self) -> Vec<(ReceiptId, Record<'static>)> {
        let leaves = self.point.spool().read_from(0, 10_000).unwrap();
        let parse = |leaf: &[u8]| {
            let envelope: serde_json::Value = serde_json::from_slice(leaf).unwrap();
            let bytes = serde_json::to_vec(envelope.get("record").unwrap()).unwrap();
            Record::from_bytes(&bytes).unwrap()
        };
        leaves
            .iter()
            .map(|it| {
                (
                    ReceiptId::from(&countersign_ledger::tree::leaf_hash(&it.leaf)),
                    parse(&it.leaf),
                )
            })
            .collect()
    }

    pub(crate) fn record(&self, receipt: &ReceiptId) -> Record<'static> {
        let found = self.records().into_iter().find(|(id, _)| id == receipt);
        found.unwrap_or_else(|| panic!("no record {receipt}")).1
    }

    pub(crate) async fn completion(&self, decision: &str) -> Option<Completion> {
        tokio::task::yield_now().await;
        let records = self.records().into_iter();
        records
            .filter_map(|(_, it)| it.completion)
            .find(|it| it.decision == decision)
    }

    pub(crate) async fn wait_for_completion(&self, decision: &str) -> Completion {
        let found = self.wait_for(|it| {
            it.completion
                .as_ref()
                .is_some_and(|it| it.decision == decision)
        });
        found.await.completion.unwrap()
    }

    pub(crate) async fn wait_for(&self, wanted: impl Fn(&Record<'_>) -> bool) -> Record<'static> {
        for _ in 0..6000 {
            if let Some((_, record)) = self.records().into_iter().find(|(_, it)| wanted(it)) {
                return record;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no such record");
    }

    pub(crate) fn resource(&self) -> Resource<'static> {
        Resource {
            id: Cow::Borrowed("x"),
            service: Cow::Borrowed("x"),
        }
    }

    /// alice, through the frontend, asks for a summary: allowed.
    pub(crate) fn summary(&self) -> Ask<'static> {
        ask(
            "frontend",
            "hms-api",
            "/ai/summary",
            &["ai:invoke-summary"],
            NOW,
        )
    }

    pub(crate) fn summary_at_now(&self) -> Ask<'static> {
        ask(
            "frontend",
            "hms-api",
            "/ai/summary",
            &["ai:invoke-summary"],
            self.point.now(),
        )
    }

    /// hms-api, for alice, asks the model: allowed while there is money.
    pub(crate) fn chat(&self) -> Ask<'static> {
        let mut ask = ask(
            "hms-api",
            "openai",
            "/v1/chat/completions",
            &["llm:chat"],
            NOW,
        );
        ask.facts.model = Some("gpt-4o".into());
        ask.facts.body_bytes = Some(400);
        ask
    }

    pub(crate) fn stranger(&self, fault: TlsFault) -> Ask<'static> {
        let mut ask = self.summary();
        ask.evidence = Evidence {
            tls: Tls::Refused { fault },
            ..Evidence::none()
        };
        ask.service = String::new();
        ask.operation = Operation::named("connect", "");
        ask
    }
}

fn snapshot(policy: &str) -> Arc<Snapshot> {
    let bundle = Bundle {
        dev: true,
        entry: "policy.yaml".to_owned(),
        files: BTreeMap::from([("policy.yaml".to_owned(), policy.to_owned())]),
        roots: vec![ROOT],
        ..Bundle::default()
    };
    Arc::new(Snapshot::from_bundle(bundle).unwrap())
}

fn id(path: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://hms.dev.invalid/{path}")).unwrap()
}

fn ask(caller: &str, service: &str, path: &str, scope: &[&str], at: Timestamp) -> Ask<'static> {
    let leaf = Digest::new([1; 32]);
    let certificate = Certificate {
        issuer: Digest::new([8; 32]),
        issuers_above: Box::default(),
        leaf,
        not_after: NOW.plus(Duration::from_secs(3600)),
        not_before: NOW,
        root: ROOT,
        serial: "2a".into(),
        spiffe_id: id(caller),
    };
    let claims = Claims {
        act: vec![id(caller)],
        aud: format!("https://hms.dev.invalid/svc/{service}"),
        ceil: Vec::new(),
        client_id: caller.into(),
        cnf: Binding::Certificate(leaf),
        exp: at.as_secs() + 60,
        groups: Vec::new(),
        iat: at.as_secs(),
        iss: "https://hms.dev.invalid".into(),
        jti: "jti-1".into(),
        nbf: None,
        roles: Vec::new(),
        scope: scope
            .iter()
            .map(|it| Permission::new(it).unwrap())
            .collect(),
        sid: None,
        sub: "dev:alice".into(),
    };
    Ask {
        door: Name::new("mesh").unwrap(),
        service: service.into(),
        operation: Operation::named("POST", path),
        evidence: Evidence {
            peer: Peer::Certificate(Arc::new(certificate)),
            session: None,
            tls: Tls::Established {
                cipher: "TLS13_AES_256_GCM_SHA384".into(),
                group: "X25519MLKEM768".into(),
                resumed: false,
                version: TlsVersion::V13,
            },
            token: Token::Verified(Arc::new(VerifiedToken {
                claims,
                hash: leaf,
                kid: "k".into(),
            })),
        },
        facts: Facts::default(),
        context: Context {
            source_ip: "192.0.2.7".parse().ok(),
            ..Context::default()
        },
    }
}

/// A refusal and its record: pillar, code, and the receipt that leads there.
pub(crate) fn refused(
    setup: &Setup,
    refusal: &Refusal,
    pillar: Pillar,
    code: Code,
) -> Record<'static> {
    assert_eq!(
        (refusal.code.pillar(), refusal.code),
        (pillar, code),
        "{}",
        refusal.reason
    );
    let record = setup.record(&refusal.receipt.unwrap());
    assert_eq!(
        (record.status, record.pillar, record.code),
        (Status::Denied, Some(pillar), Some(code))
    );
    assert_eq!(record.reason.as_deref(), Some(refusal.reason.as_str()));
    record
}
