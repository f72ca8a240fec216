//! A gateway between clients and upstreams, with a control plane that issues with a test key.

mod backend;
mod plane;
mod upstream;

pub(crate) use backend::Backend;
pub(crate) use backend::Handler;
pub(crate) use backend::handler;
pub(crate) use backend::text;
pub(crate) use plane::Plane;
pub(crate) use upstream::Upstream;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use countersign_core::snapshot::Bundle;
use countersign_core::snapshot::Snapshot;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Name;
use countersign_enforce::Clock;
use countersign_enforce::EnforcementPoint;
use countersign_enforce::SystemClock;
use countersign_gateway::Gateway;
use countersign_gateway::GatewayOptions;
use countersign_ledger::spool::Commit;
use countersign_ledger::spool::Spool;
use countersign_ledger::spool::SpoolOptions;
use countersign_ledger::storage::FsStorage;
use countersign_net::Connector;
use countersign_net::CredentialSource;
use countersign_net::Dialer;
use countersign_net::KeySet;
use countersign_net::Keys;
use countersign_net::Listener;
use countersign_net::PublicRoots;
use countersign_net::Roots;
use countersign_net::Source;
use countersign_net::SvidSource;
use countersign_net::dial::Network;
use countersign_net::dial::Target;
use countersign_testkit::pki::Pki;
use countersign_testkit::refused;
use http::HeaderMap;
use http::Request;
use http::Response;
use http::StatusCode;
use http_body_util::BodyExt;
use http_body_util::StreamBody;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Frame;
use hyper::body::Incoming;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

/// Ends what hangs; no measure of how fast anything is.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// The credential that is put in at the edge; nobody may ever see it but its upstream.
pub(crate) const CANARY: &str = "sk-canary-0123456789abcdef";
pub(crate) type TestBody = UnsyncBoxBody<Bytes, std::io::Error>;

/// Everything on stage.
pub(crate) struct Cast {
    pub(crate) api: Upstream,
    pub(crate) app: Upstream,
    pub(crate) model: Upstream,
    pub(crate) control: Arc<Plane>,
    pub(crate) gateway: Option<Gateway>,
    pub(crate) mesh: SocketAddr,
    pub(crate) pki: Arc<Pki>,
    pub(crate) point: EnforcementPoint,
    pub(crate) roots: Arc<Roots>,
    pub(crate) web: SocketAddr,
    _folder: tempfile::TempDir,
}

pub(crate) struct Answer {
    pub(crate) body: Result<Vec<u8>, String>,
    pub(crate) headers: HeaderMap,
    pub(crate) status: u16,
}

fn config(api: u16, app: u16, model: u16, more: &More) -> String {
    let More {
        services,
        edges,
        web,
        mesh,
        files: _,
    } = more;
    format!(
        r#"
listeners:
  web: {{ bind: "127.0.0.1:8443", peer: browser, login: dev{web} }}
  mesh: {{ bind: "127.0.0.1:9443", peer: service{mesh} }}
identities: {{ dead: {{}}, front: {{}}, hms-api: {{}}, app: {{}}, outsider: {{}} }}
roles:
  analyst: {{ members: ["group:dev/analysts", "user:dev/alice", front], may: ["report:read", "report:write", "llm:chat"] }}
services:
  hms-api:
    peer: service
    url: "https://127.0.0.1:{api}"
    network: private
    timeout: 5s
    operations:
      GET /v1/**: {{ needs: "report:read" }}
      POST /v1/**: {{ needs: "report:write", body: {{ max: 64KiB }} }}
  app:
    peer: service
    url: "http://127.0.0.1:{app}/base"
    operations:
      GET /**: {{ needs: edge }}
      POST /**: {{ needs: edge }}
  dead:
    peer: service
    url: "http://127.0.0.1:1"
    operations:
      GET /**: {{ needs: edge }}
  openai:
    peer: third-party
    url: "https://127.0.0.1:{model}/base"
    network: private
    credential: {{ secret: openai, as: bearer }}
    headers: [openai-beta]
    operations:
      POST /v1/chat/completions: {{ needs: "llm:chat", budget: llm, models: ["gpt-*"], body: {{ max: 16KiB }} }}
      GET /v1/**: {{ needs: "llm:chat" }}
{services}
secrets:
  openai: {{ from: "store:openai" }}
budgets:
  llm: {{ limit: $1/day, per: subject, prices: {{ "gpt-*": {{ input: $1, output: $2 }} }} }}
edges:
  web -> app: [GET /**, POST /**]
  front -> hms-api: [GET /v1/**, POST /v1/**]
  front -> dead: [GET /**]
  front -> openai: [POST /v1/**, GET /v1/**]
{edges}
"#
    )
}

/// Further services, and the edges that lead to them.
#[derive(Debug, Default)]
pub(crate) struct More {
    pub(crate) services: String,
    pub(crate) edges: String,
    /// Further keys of the browser door, after a comma.
    pub(crate) web: String,
    /// Further keys of the mesh door, after a comma.
    pub(crate) mesh: String,
    /// Files that the configuration names.
    pub(crate) files: Vec<(String, String)>,
}

impl More {
    /// One service that `front` may call in every way.
    pub(crate) fn service(name: &str, keys: &str) -> Self {
        Self {
            services: format!(
                "  {name}: {{ peer: service, {keys}, operations: {{ \"GET /**\": {{ needs: edge }}, \"POST /**\": {{ needs: edge }}, connect: {{ needs: edge }} }} }}"
            ),
            edges: format!("  front -> {name}: [GET /**, POST /**, connect]"),
            ..Self::default()
        }
    }
}

impl Cast {
    pub(crate) async fn new() -> Self {
        Self::with(Arc::new(Pki::new("local.dev.invalid")), &More::default()).await
    }

    /// With further services.
    pub(crate) async fn with(pki: Arc<Pki>, more: &More) -> Self {
        Self::by(Arc::new(SystemClock), pki, more).await
    }

    /// By another clock than the system's.
    pub(crate) async fn by(clock: Arc<dyn Clock>, pki: Arc<Pki>, more: &More) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let storage = Arc::new(FsStorage::new(folder.path()));
        let options = SpoolOptions {
            commit: Commit::Os,
            ..SpoolOptions::default()
        };
        let (spool, _) = Spool::open(storage, "gw", options).unwrap();
        let roots = Roots::new(pki.bundle(1));
        let api_svid = Source::new(pki.svid("hms-api"));
        let mutual = Listener::Mutual {
            resumption: true,
            roots: roots.clone(),
            svid: api_svid,
        };
        let api = Upstream::start(Some(mutual), "hms-api", &spool).await;
        let app = Upstream::start(None, "app", &spool).await;
        let web = Source::new(pki.issue_web("127.0.0.1").credential());
        let certificates: Arc<CredentialSource> = web;
        let public = Listener::Browser {
            certificates,
            tls12: false,
        };
        let model = Upstream::start(Some(public), "openai", &spool).await;
        let text = config(
            api.address.port(),
            app.address.port(),
            model.address.port(),
            more,
        );
        let bundle = Bundle {
            dev: true,
            entry: "countersign.yaml".into(),
            files: [("countersign.yaml".to_owned(), text)]
                .into_iter()
                .chain(more.files.clone())
                .collect(),
            roots: pki.bundle(1).digests().collect(),
            ..Bundle::default()
        };
        let snapshot = Arc::new(Snapshot::from_bundle(bundle).unwrap());
        let point = EnforcementPoint::new(spool, snapshot, clock);
        let svid = Source::new(pki.svid("countersign/gateway/gw"));
        let control = Arc::new(Plane::new(&pki, svid.clone()));
        let mut set = KeySet::empty(1);
        set.add(&control.issuer);
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let name = |text| Name::new(text).unwrap();
        let options = GatewayOptions {
            bind_override: [(name("web"), loopback), (name("mesh"), loopback)]
                .into_iter()
                .collect(),
            name: name("gw"),
            snapshot_key: None,
            sockets: countersign_net::Sockets::default(),
            third_party_roots: Some(pki.root_pem()),
        };
        let (plane, keys) = (control.clone(), Keys::new(set));
        let gateway = Gateway::start(point.clone(), plane, svid, roots.clone(), keys, options)
            .await
            .unwrap();
        let address = |door: &str| {
            gateway
                .listeners()
                .into_iter()
                .find(|(name, _)| name.as_str() == door)
                .unwrap()
                .1
        };
        let (mesh, web) = (address("mesh"), address("web"));
        Self {
            api,
            app,
            model,
            control,
            gateway: Some(gateway),
            mesh,
            pki,
            point,
            roots,
            web,
            _folder: folder,
        }
    }

    /// A workload with a certificate of its own.
    pub(crate) fn workload(&self, name: &str) -> Arc<SvidSource> {
        Source::new(self.pki.svid(name))
    }

    /// A token for itself, bound to its certificate.
    pub(crate) fn token(&self, who: &SvidSource, service: &str) -> String {
        let sub = who.current().spiffe_id().to_string();
        self.control
            .token(who.current().leaf(), &sub, service, &[], None)
    }

    /// A connection to the mesh door.
    pub(crate) async fn dial_mesh(&self, who: &Arc<SvidSource>, sni: &str, http2: bool) -> Client {
        let gateway = self.pki.id("countersign/gateway/gw");
        let connector = Connector::mutual(who.clone(), self.roots.clone(), gateway).unwrap();
        Client::open(connector, self.mesh, sni, http2)
            .await
            .unwrap()
    }

    /// A bare connection to the mesh door, to speak HTTP/1.1 by hand.
    pub(crate) async fn raw_mesh(&self, who: &Arc<SvidSource>, sni: &str) -> TlsStream<TcpStream> {
        let gateway = self.pki.id("countersign/gateway/gw");
        let connector = Connector::mutual(who.clone(), self.roots.clone(), gateway).unwrap();
        let connector = connector.with_alpn(&["http/1.1"]).unwrap();
        let deadline = Instant::now() + PATIENCE;
        let target = Target {
            host: self.mesh.ip().to_string(),
            network: Network::Loopback,
            port: self.mesh.port(),
        };
        let stream = Dialer.connect(&target, deadline).await.unwrap();
        connector.connect(stream, sni, deadline).await.unwrap().0
    }

    /// A call of `front` to a service, and its answer.
    pub(crate) async fn call(&self, service: &str, method: &str, path: &str) -> Answer {
        let front = self.workload("front");
        let token = format!("Bearer {}", self.token(&front, service));
        let headers = [("host", service), ("authorization", token.as_str())];
        let mut client = self.dial_mesh(&front, service, true).await;
        client.send(request(method, path, &headers, "")).await
    }

    /// A connection to the browser door.
    pub(crate) async fn dial_web(&self, http2: bool) -> Client {
        let roots = PublicRoots::none()
            .with_pem(self.pki.root_pem().as_bytes())
            .unwrap();
        Client::open(
            Connector::public(&roots).unwrap(),
            self.web,
            "localhost",
            http2,
        )
        .await
        .unwrap()
    }

    /// The `Host` of the browser door.
    pub(crate) fn web_host(&self) -> String {
        format!("localhost:{}", self.web.port())
    }

    /// All records, oldest first.
    pub(crate) fn records(&self) -> Vec<Value> {
        let leaves = self.point.spool().read_from(0, 10_000).unwrap();
        leaves
            .iter()
            .map(|leaf| serde_json::from_slice::<Value>(&leaf.leaf).unwrap()["record"].clone())
            .collect()
    }

    /// Waits for a record that `matches`.
    pub(crate) async fn record(&self, matches: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = self.records().into_iter().find(|record| matches(record)) {
                return found;
            }
            assert!(
                Instant::now() < deadline,
                "no such record among {:#?}",
                self.records()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until no hop is under way: one leaves when its completion is in the spool.
    pub(crate) async fn nothing_is_open(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.point.open() > 0 {
            assert!(Instant::now() < deadline, "{} are open", self.point.open());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits for the completion of a decision, and gives its `completion`.
    pub(crate) async fn completion(&self, receipt: &str) -> Value {
        let record = self
            .record(|it| it["completion"]["decision"] == receipt)
            .await;
        record["completion"].clone()
    }

    /// Everything a refusal is: status, body, headers, its record, nothing upstream, no secret.
    pub(crate) async fn refused(
        &self,
        answer: &Answer,
        code: Code,
        upstream: &Upstream,
        before: usize,
    ) {
        let body = Bytes::from(answer.body.clone().expect("a refusal is whole"));
        let text = String::from_utf8_lossy(&body).into_owned();
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::from_u16(answer.status).unwrap();
        *response.headers_mut() = answer.headers.clone();
        let record = |receipt: String| async move {
            let leaf = self
                .point
                .spool()
                .find(&receipt.parse().unwrap())
                .unwrap()?;
            Some(serde_json::from_slice::<Value>(&leaf.leaf).unwrap()["record"].clone())
        };
        refused(&response, code.pillar(), code, record).await;
        assert_eq!(upstream.seen().len(), before, "something went upstream");
        self.no_canary(&text);
    }

    /// Neither in this text nor in any record.
    pub(crate) fn no_canary(&self, text: &str) {
        assert!(!text.contains(CANARY));
        for record in self.records() {
            assert!(!record.to_string().contains(CANARY));
        }
    }
}

/// One connection to the gateway.
pub(crate) enum Client {
    H1(hyper::client::conn::http1::SendRequest<TestBody>),
    H2(hyper::client::conn::http2::SendRequest<TestBody>),
}

impl Client {
    pub(crate) async fn open(
        connector: Connector,
        address: SocketAddr,
        sni: &str,
        http2: bool,
    ) -> Result<Self, countersign_net::ConnectError> {
        let connector = connector.with_alpn(&[if http2 { "h2" } else { "http/1.1" }])?;
        let deadline = Instant::now() + PATIENCE;
        let target = Target {
            host: address.ip().to_string(),
            network: Network::Loopback,
            port: address.port(),
        };
        let stream = Dialer.connect(&target, deadline).await.unwrap();
        let (stream, _) = connector.connect(stream, sni, deadline).await?;
        let io = TokioIo::new(stream);
        Ok(if http2 {
            let (sender, task) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
                .await
                .unwrap();
            tokio::spawn(task);
            Self::H2(sender)
        } else {
            let (sender, task) = hyper::client::conn::http1::handshake(io).await.unwrap();
            tokio::spawn(task.with_upgrades());
            Self::H1(sender)
        })
    }

    /// Sends, and gives the head with its unread body.
    pub(crate) async fn start(
        &mut self,
        request: Request<TestBody>,
    ) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::H1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Self::H2(sender) => {
                let (mut parts, body) = request.into_parts();
                let host = parts.headers.remove("host").unwrap();
                let target = format!("https://{}{}", host.to_str().unwrap(), parts.uri);
                parts.uri = target.parse().unwrap();
                sender.ready().await?;
                sender.send_request(Request::from_parts(parts, body)).await
            }
        }
    }

    /// The same connection once more, if it is one of HTTP/2.
    pub(crate) fn another(&self) -> Self {
        match self {
            Self::H1(_) => panic!("one request at a time"),
            Self::H2(sender) => Self::H2(sender.clone()),
        }
    }

    /// Whether the connection takes another request.
    pub(crate) async fn is_open(&mut self) -> bool {
        match self {
            Self::H1(sender) => sender.ready().await.is_ok(),
            Self::H2(sender) => sender.ready().await.is_ok(),
        }
    }

    /// Sends, and reads the whole answer.
    pub(crate) async fn send(&mut self, request: Request<TestBody>) -> Answer {
        let response = self.start(request).await.unwrap();
        Answer::read(response).await
    }
}

impl Answer {
    pub(crate) async fn read(response: Response<Incoming>) -> Self {
        let (parts, body) = response.into_parts();
        let body = tokio::time::timeout(PATIENCE, body.collect())
            .await
            .unwrap();
        let body = body
            .map(|body| body.to_bytes().to_vec())
            .map_err(|error| error.to_string());
        Self {
            body,
            headers: parts.headers,
            status: parts.status.as_u16(),
        }
    }

    /// The same of a bare stream of HTTP/2.
    pub(crate) async fn read_h2(response: Response<h2::RecvStream>) -> Self {
        let (parts, mut stream) = response.into_parts();
        let mut body = Vec::new();
        while let Some(chunk) = stream.data().await {
            body.extend_from_slice(&chunk.unwrap());
        }
        Self {
            body: Ok(body),
            headers: parts.headers,
            status: parts.status.as_u16(),
        }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .unwrap_or_else(|| panic!("no `{name}`"))
            .to_str()
            .unwrap()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone().unwrap()).unwrap()
    }
}

/// A request with a body and headers; `host` first among them.
pub(crate) fn request(
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Request<TestBody> {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = http_body_util::Full::new(Bytes::copy_from_slice(body.as_bytes()));
    request
        .body(body.map_err(|never| match never {}).boxed_unsync())
        .unwrap()
}

/// What the next piece of a body is sent by.
pub(crate) type Pieces = mpsc::Sender<Result<Frame<Bytes>, std::io::Error>>;

/// A body that is sent piece by piece, of which so many wait at most. It ends with its sender.
pub(crate) fn piecewise(waiting: usize) -> (Pieces, TestBody) {
    let (sender, receiver) = mpsc::channel(waiting);
    let frames = futures_util::stream::unfold(receiver, |mut receiver| async move {
        Some((receiver.recv().await?, receiver))
    });
    (sender, StreamBody::new(frames).boxed_unsync())
}

/// What a token's payload says.
pub(crate) fn payload(token: &str) -> Value {
    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}
