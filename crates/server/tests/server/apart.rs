//! A gateway of its own whose clock, server or way to the log fails it: it admits nothing, says so
//! in the record, and goes on by itself once it can.

use crate::support::CONFIG;
use crate::support::DOMAIN;
use crate::support::Workload;
use crate::support::World;
use bytes::Bytes;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::Timestamp;
use countersign_enforce::Clock;
use countersign_enforce::SystemClock;
use countersign_gateway::Apart;
use countersign_gateway::ApartOptions;
use countersign_net::Connector;
use countersign_net::Dialer;
use countersign_net::Expected;
use countersign_net::dial::Network;
use countersign_net::dial::Target;
use countersign_net::http::Client;
use countersign_net::http::Limits;
use countersign_wire::join::JoinToken;
use countersign_wire::join::MintJoin;
use http::Request;
use http::Response;
use secrecy::ExposeSecret as _;
use serde_json::Value;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// Ends what hangs; no measure of how fast anything is.
const PATIENCE: Duration = Duration::from_secs(60);
const LIMITS: Limits = Limits {
    body: 1 << 20,
    time: PATIENCE,
};

/// The system's clocks, each set by itself.
#[derive(Debug, Default)]
struct Clocks {
    boot: AtomicU64,
    wall: AtomicI64,
}

impl Clock for Clocks {
    fn now(&self) -> Timestamp {
        let set = self.wall.load(Ordering::SeqCst) * 1000;
        Timestamp::from_micros(SystemClock.now().as_micros() + set)
    }

    fn boot(&self) -> Duration {
        SystemClock.boot() + Duration::from_millis(self.boot.load(Ordering::SeqCst))
    }
}

impl Clocks {
    /// Time goes by.
    fn pass(&self, seconds: u32) {
        let ms = u64::from(seconds) * 1000;
        self.boot.fetch_add(ms, Ordering::SeqCst);
        self.step(i64::from(seconds) * 1000);
    }

    /// Somebody sets the wall clock.
    fn step(&self, ms: i64) {
        self.wall.fetch_add(ms, Ordering::SeqCst);
    }
}

/// A gateway of its own, and a workload that calls through it.
struct Node {
    apart: Apart,
    caller: Client,
    clocks: Arc<Clocks>,
    token: String,
    world: Arc<World>,
    _folder: tempfile::TempDir,
}

impl Node {
    /// Joined, started, and admitting.
    async fn new(config: &str) -> Self {
        let world = World::with(config).await;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        world.server.open_join(any).await.unwrap();
        let request = MintJoin {
            gateway: "gw7".to_owned(),
            listeners: vec!["mesh".to_owned()],
        };
        let minted = world.operator.mint_join(&request).await.unwrap();
        let token = JoinToken::from_text(minted.token.expose_secret()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        countersign_gateway::join(folder.path(), &token, None)
            .await
            .unwrap();
        let options = ApartOptions {
            bind_override: HashMap::from([(Name::new("mesh").unwrap(), any)]),
            dev: true,
            folder: folder.path().to_owned(),
            sockets: countersign_net::Sockets::default(),
        };
        let clocks = Arc::new(Clocks::default());
        let apart = Apart::start(options, clocks.clone()).await.unwrap();
        let workload = world.workload("w1").await;
        let node = Self {
            caller: caller(&world, &workload, apart.listeners()[0].1),
            token: workload.token("w2").await,
            apart,
            clocks,
            world: Arc::new(world),
            _folder: folder,
        };
        node.admits_soon().await;
        node
    }

    /// The server goes silent at once; what is open there takes its time to end.
    fn silence(&self) {
        let world = self.world.clone();
        tokio::spawn(async move { world.server.stop().await });
    }

    /// Time goes by everywhere: where the clock is set back then, the token is not from the future.
    fn older(&self, seconds: u32) {
        self.world.advance(Duration::from_secs(seconds.into()));
        self.clocks.pass(seconds);
    }

    /// A call that the policy admits. There is no upstream, which is found out later.
    async fn call(&self) -> Response<Bytes> {
        let request = Request::get("/x").header("authorization", format!("Bearer {}", self.token));
        let request = request.body(Bytes::new()).unwrap();
        self.caller.request(request, LIMITS).await.unwrap()
    }

    /// Calls once.
    async fn admits(&self) -> bool {
        let before = self.apart.point().counts().admitted;
        let answer = self.call().await;
        let refused = answer.headers().contains_key("countersign-pillar");
        let admitted = self.apart.point().counts().admitted > before;
        assert_eq!(admitted, !refused, "{answer:?}");
        admitted
    }

    /// Calls until it is admitted.
    async fn admits_soon(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.admits().await {
            assert!(Instant::now() < deadline, "nothing is admitted");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Checks that this is a whole refusal, and gives the reason in its record.
    async fn refusal(&self, answer: &Response<Bytes>, code: Code) -> String {
        let record = |receipt| self.record(receipt);
        let receipt = countersign_testkit::refused(answer, code.pillar(), code, record).await;
        let record = self.record(receipt).await.unwrap();
        assert_eq!(record["resource"]["service"], "w2", "{record}");
        record["reason"].as_str().unwrap().to_owned()
    }

    /// Calls once and is refused.
    async fn refuses(&self, code: Code) -> String {
        self.refusal(&self.call().await, code).await
    }

    /// The record of a receipt: in the spool, or in the log already.
    async fn record(&self, receipt: String) -> Option<Value> {
        let leaf = self.apart.point().spool().find(&receipt.parse().unwrap());
        match leaf.unwrap() {
            Some(leaf) => {
                let mut leaf: Value = serde_json::from_slice(&leaf.leaf).unwrap();
                Some(leaf["record"].take())
            }
            None => self.world.record(receipt).await,
        }
    }

    /// Whether the spool has an event.
    fn has_event(&self, event: &str) -> bool {
        let spool = self.apart.point().spool();
        let leaves = spool.read_from(spool.first(), 10_000).unwrap();
        let mut leaves = leaves.iter().map(|it| serde_json::from_slice(&it.leaf));
        leaves.any(|leaf: Result<Value, _>| leaf.unwrap()["record"]["event_type"] == event)
    }

    async fn end(self) {
        self.apart.drain(Duration::from_secs(1)).await;
        self.world.server.stop().await;
    }
}

fn caller(world: &World, workload: &Workload, mesh: SocketAddr) -> Client {
    let gateway = Expected::Process("gateway");
    let connector = Connector::mutual(workload.svid.clone(), world.roots(), gateway).unwrap();
    let target = Target {
        host: mesh.ip().to_string(),
        network: Network::Loopback,
        port: mesh.port(),
    };
    Client::tls(Dialer, connector, &format!("w2.mesh.{DOMAIN}"), target)
}

fn config(staleness: &str) -> String {
    format!("{CONFIG}\nstaleness: {staleness}\n")
}

#[tokio::test]
async fn fifteen_seconds_without_a_word_about_revocations_end_admission() {
    let node = Node::new(CONFIG).await;
    node.silence();
    node.clocks.pass(5);
    assert!(node.admits().await, "within the bound");
    node.clocks.pass(11);
    let why = node.refuses(Code::STATE_STALE).await;
    assert!(
        why.starts_with("nothing heard of revocations for "),
        "{why}"
    );
    node.end().await;
}

#[tokio::test]
async fn a_policy_that_nobody_confirms_is_no_policy_after_its_bound() {
    let node = Node::new(&config("{ revocations: 10m, policy: 20s }")).await;
    node.silence();
    node.clocks.pass(10);
    assert!(node.admits().await, "within the bound");
    node.clocks.pass(11);
    let why = node.refuses(Code::STATE_STALE).await;
    assert!(why.starts_with("nothing heard of policy for "), "{why}");
    node.end().await;
}

#[tokio::test]
async fn a_clock_more_than_five_seconds_from_the_server_s_ends_admission() {
    for ahead in [1, -1] {
        let node = Node::new(CONFIG).await;
        node.older(10);
        node.clocks.step(3000 * ahead);
        node.admits_soon().await;
        node.clocks.step(5000 * ahead);
        let why = node.refuses(Code::CLOCK_SKEW).await;
        assert!(why.starts_with("the clock is "), "{why}");
        // It is no passing state: heartbeats don't help.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let why = node.refuses(Code::CLOCK_SKEW).await;
        assert!(why.starts_with("the clock is "), "{why}");
        node.clocks.step(-8000 * ahead);
        node.admits_soon().await;
        node.end().await;
    }
}

#[tokio::test]
async fn a_clock_that_steps_back_ends_admission_until_the_server_is_heard() {
    let node = Node::new(CONFIG).await;
    node.older(5);
    node.silence();
    assert!(node.admits().await);
    node.clocks.step(-500);
    assert!(node.admits().await, "no step worth the name");
    // Less than what counts as skew.
    node.clocks.step(-3500);
    let why = node.refuses(Code::CLOCK_SKEW).await;
    assert!(why.starts_with("the clock stepped back "), "{why}");
    node.clocks.step(3500);
    let why = node.refuses(Code::CLOCK_SKEW).await;
    assert!(why.starts_with("the clock stepped back "), "{why}");
    node.end().await;

    let node = Node::new(CONFIG).await;
    node.older(5);
    node.clocks.step(-3500);
    node.admits_soon().await;
    node.end().await;
}

#[tokio::test]
async fn records_that_do_not_reach_the_log_for_longer_than_policy_may_age_end_admission() {
    let node = Node::new(CONFIG).await;
    // The server's disk fails it where the log is, and there only.
    let log = node.world.folder.path().join("data/log");
    let away = node.world.folder.path().join("data/log-away");
    std::fs::rename(&log, &away).unwrap();
    std::fs::write(&log, "").unwrap();
    assert!(node.admits().await, "records wait in the spool");
    // Only the time since boot: the wall clock goes with the server's.
    node.clocks.boot.fetch_add(301_000, Ordering::SeqCst);
    let deadline = Instant::now() + PATIENCE;
    let answer = loop {
        let answer = node.call().await;
        let body = String::from_utf8_lossy(answer.body()).into_owned();
        if body.contains(&Code::LEDGER_REFUSED.to_string()) {
            break answer;
        }
        assert!(Instant::now() < deadline, "{body}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let why = node.refusal(&answer, Code::LEDGER_REFUSED).await;
    assert_eq!(why, "records have not reached the log for over 300 s");
    assert!(node.has_event("ledger.shipping.alarm"));

    std::fs::remove_file(&log).unwrap();
    std::fs::rename(&away, &log).unwrap();
    node.admits_soon().await;
    node.end().await;
}
