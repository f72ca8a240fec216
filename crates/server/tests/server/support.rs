//! A server on real sockets, and workloads that call it.

use bytes::Bytes;
use countersign_core::snapshot::Bundle;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::Timestamp;
use countersign_enforce::Clock;
use countersign_enforce::SystemClock;
use countersign_net::Connector;
use countersign_net::Dialer;
use countersign_net::Expected;
use countersign_net::Roots;
use countersign_net::Svid;
use countersign_net::SvidSource;
use countersign_net::TrustBundle;
use countersign_net::dial::Network;
use countersign_net::dial::Target;
use countersign_net::http::Client;
use countersign_net::http::Limits;
use countersign_server::Server;
use countersign_server::ServerOptions;
use countersign_server::admin::Operator;
use countersign_server::store::Search;
use countersign_wire::admin::IssueIdentity;
use countersign_wire::admin::PutSecret;
use countersign_wire::control::ControlPlane;
use http::Request;
use http::Response;
use secrecy::SecretString;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub(crate) const CONFIG: &str = include_str!("hms.yaml");
pub(crate) const DOMAIN: &str = "hms.dev.invalid";
pub(crate) const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
pub(crate) const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const LIMITS: Limits = Limits {
    body: 1 << 22,
    time: Duration::from_secs(60),
};

/// The system's clock, set forward.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    seconds: AtomicU64,
    /// Where it stands still, if it does.
    still: OnceLock<(Timestamp, Duration)>,
}

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        let still = self.still.get().map(|it| it.0);
        still
            .unwrap_or_else(|| SystemClock.now())
            .plus(self.ahead())
    }

    fn boot(&self) -> Duration {
        let still = self.still.get().map(|it| it.1);
        still.unwrap_or_else(|| SystemClock.boot()) + self.ahead()
    }
}

impl Ahead {
    fn ahead(&self) -> Duration {
        Duration::from_secs(self.seconds.load(Ordering::SeqCst))
    }
}

pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) operator: Operator,
    pub(crate) server: Server,
    clock: Arc<Ahead>,
}

/// A workload with its certificate.
pub(crate) struct Workload {
    pub(crate) client: Client,
    pub(crate) name: String,
    pub(crate) svid: Arc<SvidSource>,
}

/// The user who runs the tests.
pub(crate) fn user() -> String {
    let (ours, _theirs) = tokio::net::UnixStream::pair().unwrap();
    countersign_net::peer_cred::of(&ours)
        .unwrap()
        .user
        .expect("this user has a name")
}

pub(crate) fn options(folder: &Path, config: &str) -> ServerOptions {
    ServerOptions {
        admin_socket: Some(socket(folder)),
        bundle: Bundle {
            dev: true,
            dev_operator: Some(user()),
            node: None,
            entry: "hms.yaml".to_owned(),
            files: BTreeMap::from([("hms.yaml".to_owned(), config.to_owned())]),
            projection: None,
            roots: Vec::new(),
            zt_off: false,
        },
        control: SocketAddr::from(([127, 0, 0, 1], 0)),
        data: folder.join("data"),
        node: Name::new("n1").unwrap(),
        sockets: countersign_net::Sockets::default(),
    }
}

pub(crate) fn socket(folder: &Path) -> PathBuf {
    folder.join("admin").join("admin.sock")
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::in_folder(tempfile::tempdir().unwrap()).await
    }

    pub(crate) async fn in_folder(folder: tempfile::TempDir) -> Self {
        Self::serving(folder, CONFIG).await
    }

    pub(crate) async fn with(config: &str) -> Self {
        Self::serving(tempfile::tempdir().unwrap(), config).await
    }

    /// With files beside the configuration.
    pub(crate) async fn with_files(config: &str, files: &[(&str, String)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut options = options(folder.path(), config);
        let files = files.iter();
        let files = files.map(|(name, text)| ((*name).to_owned(), text.clone()));
        options.bundle.files.extend(files);
        Self::opened(folder, options).await
    }

    async fn serving(folder: tempfile::TempDir, config: &str) -> Self {
        let options = options(folder.path(), config);
        Self::opened(folder, options).await
    }

    async fn opened(folder: tempfile::TempDir, options: ServerOptions) -> Self {
        let clock = Arc::new(Ahead::default());
        let server = Server::open(options, clock.clone()).await.unwrap();
        let address = server.start().await.unwrap();
        let operator = server.operator().unwrap();
        Self {
            address,
            folder,
            operator,
            server,
            clock,
        }
    }

    /// From here on time passes only as a test says.
    pub(crate) fn stand_still(&self) {
        let now = (SystemClock.now(), SystemClock.boot());
        self.clock.still.set(now).unwrap();
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.clock.seconds.fetch_add(by.as_secs(), Ordering::SeqCst);
        let point = self.server.point();
        let state = point.state();
        let (epoch, revision) = (state.revocations.epoch(), state.snapshot.revision());
        point.heartbeat(epoch, revision, self.clock.now());
    }

    pub(crate) fn roots(&self) -> Arc<Roots> {
        let domain = countersign_core::vocabulary::TrustDomain::new(DOMAIN).unwrap();
        let pem = self.server.roots_pem();
        Roots::new(TrustBundle::from_pem(domain, pem.as_bytes(), 1).unwrap())
    }

    pub(crate) fn target(&self) -> Target {
        Target {
            host: self.address.ip().to_string(),
            network: Network::Loopback,
            port: self.address.port(),
        }
    }

    pub(crate) fn client(&self, svid: &Arc<SvidSource>) -> Client {
        let server = Expected::Process("server");
        let connector = Connector::mutual(svid.clone(), self.roots(), server).unwrap();
        Client::tls(Dialer, connector, "localhost", self.target())
    }

    /// A workload whose certificate was issued by hand.
    pub(crate) async fn workload(&self, name: &str) -> Workload {
        self.issued(name, false).await
    }

    /// A gateway in another process.
    pub(crate) async fn gateway(&self, name: &str) -> Workload {
        self.issued(name, true).await
    }

    async fn issued(&self, name: &str, gateway: bool) -> Workload {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        let csr = params.serialize_request(&key).unwrap().pem().unwrap();
        let request = IssueIdentity {
            csr,
            gateway,
            name: name.to_owned(),
        };
        let issued = self.operator.issue_identity(&request).await.unwrap();
        let svid = Svid::from_pem(issued.chain.as_bytes(), key.serialize_pem().as_bytes()).unwrap();
        let svid = SvidSource::new(svid);
        Workload {
            client: self.client(&svid),
            name: name.to_owned(),
            svid,
        }
    }

    pub(crate) async fn plane(&self) -> Arc<dyn ControlPlane> {
        self.server
            .control_plane(&Name::new("gw").unwrap())
            .await
            .unwrap()
            .0
    }

    /// The record of a receipt.
    pub(crate) async fn record(&self, receipt: String) -> Option<Value> {
        self.server
            .audit()
            .lookup(&receipt)
            .await
            .ok()
            .map(|entry| entry.record)
    }

    /// Checks all of a refusal; returns its receipt.
    pub(crate) async fn refused(&self, response: &Response<Bytes>, code: Code) -> String {
        let record = |receipt| self.record(receipt);
        countersign_testkit::refused(response, code.pillar(), code, record).await
    }

    /// What the administration socket answers whoever runs the tests.
    pub(crate) async fn administer(
        &self,
        method: &str,
        path: &str,
        body: &Value,
    ) -> Response<Bytes> {
        administer(self.folder.path(), method, path, body).await
    }

    pub(crate) async fn put(&self, name: &str, value: &str) {
        let data = BTreeMap::from([("value".to_owned(), SecretString::from(value))]);
        self.operator
            .put_secret(name, &PutSecret { data })
            .await
            .unwrap();
    }
}

impl Workload {
    pub(crate) async fn send(&self, request: Request<Bytes>) -> Response<Bytes> {
        self.client.request(request, LIMITS).await.unwrap()
    }

    pub(crate) async fn form(&self, path: &str, fields: &[(&str, &str)]) -> Response<Bytes> {
        let body = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(fields)
            .finish();
        self.post(path, "application/x-www-form-urlencoded", body)
            .await
    }

    pub(crate) async fn post(
        &self,
        path: &str,
        of: &str,
        body: impl Into<Bytes>,
    ) -> Response<Bytes> {
        let request = Request::post(path).header("content-type", of);
        self.send(request.body(body.into()).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Response<Bytes> {
        self.send(Request::get(path).body(Bytes::new()).unwrap())
            .await
    }

    /// `client_credentials` for a service.
    pub(crate) async fn ask_token(&self, service: &str) -> Response<Bytes> {
        let fields = [
            ("grant_type", "client_credentials"),
            ("client_id", &self.name),
            ("audience", service),
        ];
        self.form("/oauth2/token", &fields).await
    }

    pub(crate) async fn token(&self, service: &str) -> String {
        access_token(&self.ask_token(service).await)
    }

    pub(crate) async fn exchange(
        &self,
        token: &str,
        service: &str,
        scope: &str,
    ) -> Response<Bytes> {
        let fields = [
            ("grant_type", EXCHANGE),
            ("client_id", &self.name),
            ("audience", service),
            ("scope", scope),
            ("subject_token", token),
            ("subject_token_type", ACCESS_TOKEN),
        ];
        self.form("/oauth2/token", &fields).await
    }

    pub(crate) async fn read(&self, token: &str, name: &str) -> Response<Bytes> {
        let request =
            Request::get(format!("/v1/secret/data/{name}")).header("x-vault-token", token);
        self.send(request.body(Bytes::new()).unwrap()).await
    }
}

/// The newest decision about a resource.
pub(crate) async fn decided(server: &Server, resource: &str) -> Value {
    server.audit().advance().await.unwrap();
    let search = Search {
        kind: Some("decision".to_owned()),
        ..Search::default()
    };
    let found = server.audit().search(&search).await.unwrap();
    let mut records = found.into_iter().rev().map(|it| it.record);
    let found = records.find(|it| it["resource"]["id"] == resource);
    found.expect("it was decided")
}

/// What the administration socket below a folder answers whoever runs the tests.
pub(crate) async fn administer(
    folder: &Path,
    method: &str,
    path: &str,
    body: &Value,
) -> Response<Bytes> {
    let client = Client::unix(Dialer, socket(folder));
    let body = match body {
        Value::Null => Bytes::new(),
        body => Bytes::from(body.to_string()),
    };
    let request = Request::builder().method(method).uri(path).body(body);
    client.request(request.unwrap(), LIMITS).await.unwrap()
}

pub(crate) fn document(response: &Response<Bytes>) -> Value {
    serde_json::from_slice(response.body()).unwrap()
}

pub(crate) fn access_token(response: &Response<Bytes>) -> String {
    let body = document(response);
    assert_eq!(response.status(), 200, "{body}");
    assert_eq!(response.headers()["cache-control"], "no-store");
    assert_eq!(body["token_type"], "Bearer");
    body["access_token"].as_str().unwrap().to_owned()
}

/// What a token says, without looking at its signature.
pub(crate) fn claims(token: &str) -> Value {
    part(token, 1)
}

pub(crate) fn part(token: &str, index: usize) -> Value {
    use base64::Engine as _;
    let part = token.split('.').nth(index).unwrap();
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(part)
        .unwrap();
    serde_json::from_slice(&bytes).unwrap()
}
