//! The control plane in another process: `/v1/control/*` of a server, over mutual TLS.
//!
//! Both ends prove themselves by SVID. Heartbeats and checkpoints are judged here, where the stream
//! is known that they are of; policy is judged by whoever puts it in force.

mod backoff;
mod judged;
mod lines;
mod position;

use self::backoff::Backoff;
use self::judged::Judged;
use self::lines::Lines;
use crate::memory::About;
use crate::memory::Memory;
use crate::memory::MemoryError;
use aws_lc_rs::rand::SecureRandom as _;
use aws_lc_rs::rand::SystemRandom;
use bytes::Bytes;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::TrustDomain;
use countersign_net::ConnectError;
use countersign_net::Connector;
use countersign_net::Dialer;
use countersign_net::Expected;
use countersign_net::Roots;
use countersign_net::SvidSource;
use countersign_net::TrustBundle;
use countersign_net::TrustError;
use countersign_net::dial::DialError;
use countersign_net::dial::Network;
use countersign_net::dial::Target;
use countersign_net::http::Client;
use countersign_net::http::Limits;
use countersign_net::problem::PILLAR;
use countersign_wire::admin::Join;
use countersign_wire::control::ControlError;
use countersign_wire::control::ControlPlane;
use countersign_wire::control::Delivery;
use countersign_wire::control::InjectedSecret;
use countersign_wire::control::IssuerAnswer;
use countersign_wire::control::IssuerRequest;
use countersign_wire::control::Known;
use countersign_wire::control::RelayedAnswer;
use countersign_wire::control::RelayedRequest;
use countersign_wire::control::Said;
use countersign_wire::control::SessionToken;
use countersign_wire::control::SessionTokenRequest;
use countersign_wire::control::SignIn;
use countersign_wire::control::SignedIn;
use countersign_wire::control::Update;
use countersign_wire::join::Renewed;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream;
use futures_util::stream::BoxStream;
use http::Request;
use http::Response;
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper::client::conn::http2;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use parking_lot::Mutex;
use secrecy::ExposeSecret as _;
use secrecy::SecretString;
use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::json;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Join data can't be used.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Not `host:port`.
    #[error("`{0}` is not the address of a server (`host:port`)")]
    Server(String),
    /// Not a public key.
    #[error("the snapshot key is not 64 hex digits")]
    SnapshotKey,
    /// Not a trust domain.
    #[error("`{0}` is not a trust domain")]
    TrustDomain(String),
    /// Not trusted roots.
    #[error(transparent)]
    Roots(#[from] TrustError),
    /// Our side of TLS.
    #[error(transparent)]
    Connector(#[from] ConnectError),
    /// Our certificate is no gateway's.
    #[error("`{0}` is no gateway")]
    NoGateway(String),
    /// Not a key of a log.
    #[error("the log key is not `name+id+key`")]
    LogKey,
    /// What this gateway remembers.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// The control plane of a server in another process. Clones share its connections.
#[derive(Clone)]
pub struct RemotePlane(Arc<Inner>);

struct Inner {
    client: Client,
    connector: Connector,
    /// Given again to a server that was started anew.
    key: Mutex<Option<Value>>,
    memory: Arc<Memory>,
    roots: Arc<Roots>,
    target: Target,
    /// Where words for the server go while there is a stream of updates.
    uplink: Mutex<Option<mpsc::Sender<Bytes>>>,
}

/// Why following the server's updates ended.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    Tls(#[from] ConnectError),
    #[error("the exchange broke: {0}")]
    Http(#[from] hyper::Error),
    #[error("the server answers with status `{0}`")]
    Status(u16),
    #[error("the server ended it")]
    Ended,
    #[error("nothing heard in time")]
    Silent,
    #[error("an update can't be read")]
    Form,
    #[error("no randomness")]
    Nonce,
    #[error("the server does not show its log")]
    Unshown,
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

impl Broken {
    /// Whether the server itself is not believed. It will say the same again until somebody has
    /// done something about it.
    const fn is_disbelief(&self) -> bool {
        matches!(self, Self::Memory(error) if error.is_of_the_server())
    }
}

/// What the server is called in TLS; it proves its SPIFFE ID, not a name.
const NAME: &str = "control";
const CONNECT: Duration = Duration::from_secs(10);
/// Words for the server that wait at once.
const WORDS: usize = 16;
const SMALL: Limits = Limits {
    body: 1024 * 1024,
    time: Duration::from_secs(10),
};

/// The key that signs snapshots, for
/// [`GatewayOptions::snapshot_key`](crate::GatewayOptions::snapshot_key).
///
/// # Errors
/// [`JoinError::SnapshotKey`].
pub fn snapshot_key(join: &Join) -> Result<[u8; 32], JoinError> {
    let key = Digest::from_hex(&join.snapshot_key).map_err(|_| JoinError::SnapshotKey)?;
    Ok(*key.as_bytes())
}

impl RemotePlane {
    /// Reaches the server as this gateway.
    ///
    /// # Errors
    /// [`JoinError`] names what of the join data is wrong.
    pub fn new(join: &Join, svid: Arc<SvidSource>) -> Result<Self, JoinError> {
        let witness_seed = *random().ok_or(JoinError::LogKey)?.as_bytes();
        let about = about(join, &svid, witness_seed)?;
        Self::remembering(join, svid, Memory::open(None, about)?)
    }

    /// The same with a memory of the server, which outlives the process.
    pub(crate) fn remembering(
        join: &Join,
        svid: Arc<SvidSource>,
        memory: Arc<Memory>,
    ) -> Result<Self, JoinError> {
        let target = target(&join.server)?;
        let domain = TrustDomain::new(&join.trust_domain)
            .map_err(|_| JoinError::TrustDomain(join.trust_domain.clone()))?;
        let roots = Roots::new(TrustBundle::from_pem(domain, join.roots.as_bytes(), 1)?);
        let server = Expected::Process("server");
        let calls = Connector::mutual(svid.clone(), roots.clone(), server.clone())?;
        let connector = Connector::mutual(svid, roots.clone(), server)?.with_alpn(&["h2"])?;
        let client = Client::tls(Dialer, calls, NAME, target.clone());
        let key = Mutex::default();
        Ok(Self(Arc::new(Inner {
            client,
            connector,
            key,
            memory,
            roots,
            target,
            uplink: Mutex::default(),
        })))
    }

    /// The roots that the server and this gateway share.
    #[must_use]
    pub fn roots(&self) -> &Arc<Roots> {
        &self.0.roots
    }

    /// The next certificate for this gateway, for the key of a PEM certificate signing request.
    ///
    /// # Errors
    /// [`ControlError`].
    pub(crate) async fn renew(&self, csr: &str) -> Result<Renewed, ControlError> {
        self.call("renew", &json!({ "csr": csr })).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        what: &'static str,
        body: &(impl Serialize + Sync),
    ) -> Result<T, ControlError> {
        let body = serde_json::to_vec(body).map_err(unavailable)?;
        self.send(what, "application/json", body.into()).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        what: &'static str,
        form: &'static str,
        body: Bytes,
    ) -> Result<T, ControlError> {
        let request = Request::post(format!("/v1/control/{what}"))
            .header("content-type", form)
            .body(body)
            .map_err(unavailable)?;
        let response = self
            .0
            .client
            .request(request, SMALL)
            .await
            .map_err(unavailable)?;
        if response.status() == 200 {
            return serde_json::from_slice(response.body())
                .map_err(|_| unavailable("the answer can't be read"));
        }
        Err(failure(&response))
    }

    /// Opens the stream of updates.
    async fn follow(&self, known: Known) -> Result<Lines, Broken> {
        let deadline = Instant::now() + CONNECT;
        let stream = Dialer.connect(&self.0.target, deadline).await?;
        let (stream, _) = self.0.connector.connect(stream, NAME, deadline).await?;
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new());
        let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        let driving = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection with updates ended");
            }
        });
        let body = serde_json::to_vec(&known).map_err(|_| Broken::Form)?;
        let (uplink, mut words) = mpsc::channel::<Bytes>(WORDS);
        let first = Bytes::from([body.as_slice(), b"\n"].concat());
        let said = stream::once(std::future::ready(first))
            .chain(stream::poll_fn(move |context| words.poll_recv(context)))
            .map(|line| Ok::<_, Infallible>(Frame::data(line)));
        let request = Request::post(format!("https://{NAME}/v1/control/updates"))
            .header("content-type", "application/x-ndjson")
            .body(StreamBody::new(said))
            .map_err(|_| Broken::Form)?;
        let answered = tokio::time::timeout_at(deadline, sender.send_request(request)).await;
        let response = answered.map_err(|_| Broken::Silent)??;
        if response.status() != 200 {
            return Err(Broken::Status(response.status().as_u16()));
        }
        let driving = driving.abort_handle();
        *self.0.uplink.lock() = Some(uplink);
        Ok(Lines::new(response.into_body(), driving))
    }
}

impl ControlPlane for RemotePlane {
    /// Never ends by itself: what breaks is opened again where it was.
    fn updates(&self, known: Known) -> BoxStream<'static, Update> {
        let following = Following {
            backoff: Backoff::default(),
            judged: Judged::new(self.0.memory.clone(), known),
            lines: None,
            plane: self.clone(),
        };
        stream::unfold(following, |mut following| async move {
            let update = following.next().await;
            Some((update, following))
        })
        .boxed()
    }

    fn sign_in(&self, request: SignIn) -> BoxFuture<'_, Result<SignedIn, ControlError>> {
        Box::pin(async move { self.call("sign-in", &request).await })
    }

    fn sign_out(&self, cookie: SecretString) -> BoxFuture<'_, Result<(), ControlError>> {
        let body = json!({ "cookie": cookie.expose_secret() });
        Box::pin(async move { self.call("sign-out", &body).await })
    }

    fn session_token(
        &self,
        request: SessionTokenRequest,
    ) -> BoxFuture<'_, Result<SessionToken, ControlError>> {
        Box::pin(async move { self.call("session-token", &request).await })
    }

    fn credential(&self, secret: Name) -> BoxFuture<'_, Result<InjectedSecret, ControlError>> {
        Box::pin(async move { self.call("credential", &json!({ "secret": secret })).await })
    }

    fn publish_key(&self, jwk: Value) -> BoxFuture<'_, Result<(), ControlError>> {
        Box::pin(async move {
            *self.0.key.lock() = Some(jwk.clone());
            match self.call("key", &json!({ "jwk": jwk })).await {
                // It is given with each stream of updates, the first included.
                Err(ControlError::Unavailable(error)) => {
                    tracing::warn!(error, "the server hears of our assertion key later");
                    Ok(())
                }
                published => published,
            }
        })
    }

    fn deliver(&self, records: Delivery) -> BoxFuture<'_, Result<u64, ControlError>> {
        Box::pin(async move { Ok(self.ship(&records).await?.next) })
    }

    /// The issuer does not believe at second hand who is at the other end of our connection. Whose
    /// certificate it is it can see for itself, and what it gives a partner is bound to that.
    fn issuer<'a>(&'a self, request: IssuerRequest<'a>) -> Option<IssuerAnswer<'a>> {
        if request.chain.is_empty() {
            return None;
        }
        let relayed = RelayedRequest::new(
            request.door.clone(),
            (request.method, request.path),
            request.body,
            request.chain,
            request.context.source_ip,
        );
        Some(Box::pin(async move {
            let answer: RelayedAnswer = self.call("relay", &relayed).await?;
            Ok(answer.into())
        }))
    }

    fn say(&self, said: Said) {
        let Ok(mut line) = serde_json::to_vec(&said) else {
            return;
        };
        line.push(b'\n');
        let mut uplink = self.0.uplink.lock();
        let gone = uplink
            .as_ref()
            .is_some_and(|words| words.try_send(Bytes::from(line)).is_err());
        if gone {
            *uplink = None;
        }
    }
}

/// Our place in what the server tells, kept over its connections.
struct Following {
    backoff: Backoff,
    judged: Judged,
    lines: Option<Lines>,
    plane: RemotePlane,
}

impl Following {
    async fn next(&mut self) -> Update {
        loop {
            if let Some(update) = self.judged.next() {
                return update;
            }
            if let Err(error) = self.attempt().await {
                self.lines = None;
                let wait = self.backoff.after(error.is_disbelief());
                let seconds = wait.as_secs_f64();
                tracing::warn!(%error, seconds, "the server's updates are interrupted; it is asked again after a pause");
                tokio::time::sleep(wait).await;
            }
        }
    }

    async fn attempt(&mut self) -> Result<(), Broken> {
        if self.lines.is_none() {
            self.open().await?;
        }
        let lines = self.lines.as_mut().ok_or(Broken::Ended)?;
        let (update, bytes) = lines.next().await?;
        if let Some(said) = self.judged.take(update, bytes)? {
            self.plane.say(said);
        }
        if self.judged.is_believed() {
            self.backoff.over();
        }
        Ok(())
    }

    async fn open(&mut self) -> Result<(), Broken> {
        let known = self.judged.begin(random().ok_or(Broken::Nonce)?);
        self.lines = Some(self.plane.follow(known).await?);
        let key = self.plane.0.key.lock().clone();
        if let Some(jwk) = key
            && let Err(error) = self.plane.publish_key(jwk).await
        {
            tracing::warn!(%error, "the server does not take our assertion key");
        }
        Ok(())
    }
}

impl std::fmt::Debug for RemotePlane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "control plane at {}:{}",
            self.0.target.host, self.0.target.port
        )
    }
}

/// What is remembered of whom.
pub(crate) fn about(
    join: &Join,
    svid: &SvidSource,
    witness_seed: [u8; 32],
) -> Result<About, JoinError> {
    let svid = svid.current();
    let id = svid.spiffe_id();
    let gateway = match id.process() {
        Some(("gateway", name)) => Name::new(name).ok(),
        _ => None,
    };
    Ok(About {
        gateway: gateway.ok_or_else(|| JoinError::NoGateway(id.to_string()))?,
        log: join.log_key.parse().map_err(|_| JoinError::LogKey)?,
        snapshot_key: snapshot_key(join)?,
        witness_seed,
    })
}

fn random() -> Option<Digest> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(Digest::new(bytes))
}

/// The server is where the operator said, on whatever network that is.
pub(crate) fn target(server: &str) -> Result<Target, JoinError> {
    let wrong = || JoinError::Server(server.escape_debug().take(256).collect());
    let (host, port) = server.rsplit_once(':').ok_or_else(wrong)?;
    let host = host
        .strip_prefix('[')
        .and_then(|it| it.strip_suffix(']'))
        .unwrap_or(host);
    let port: u16 = port.parse().map_err(|_| wrong())?;
    if host.is_empty() || port == 0 {
        return Err(wrong());
    }
    Ok(Target {
        host: host.to_owned(),
        network: Network::Private,
        port,
    })
}

fn failure(response: &Response<Bytes>) -> ControlError {
    #[derive(Deserialize)]
    struct Problem {
        code: Code,
        receipt: Option<String>,
    }
    let status = response.status();
    if response.headers().contains_key(PILLAR)
        && let Ok(Problem { code, receipt }) = serde_json::from_slice(response.body())
    {
        return ControlError::Refused { code, receipt };
    }
    serde_json::from_slice(response.body())
        .unwrap_or_else(|_| unavailable(format!("the server answers with status {status}")))
}

fn unavailable(error: impl std::fmt::Display) -> ControlError {
    ControlError::Unavailable(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_servers() {
        let host = |text| target(text).map(|target| (target.host, target.port)).ok();
        assert_eq!(host("127.0.0.1:7443"), Some(("127.0.0.1".to_owned(), 7443)));
        assert_eq!(host("[::1]:7443"), Some(("::1".to_owned(), 7443)));
        for wrong in [
            "",
            ":7443",
            "localhost",
            "localhost:",
            "localhost:0",
            "localhost:x",
        ] {
            assert_eq!(host(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_refusal_keeps_its_code_and_receipt() {
        let problem = r#"{"pillar":"identity","code":"CSD206","receipt":"r-1","status":403}"#;
        let response = Response::builder().status(403).header(PILLAR, "identity");
        let response = response.body(Bytes::from(problem)).unwrap();
        let receipt = Some("r-1".to_owned());
        assert_eq!(
            failure(&response),
            ControlError::Refused {
                code: Code::IDENTITY_UNKNOWN,
                receipt
            }
        );
        let gap = ControlError::OutOfOrder { wanted: 7 };
        let body = Bytes::from(serde_json::to_vec(&gap).unwrap());
        assert_eq!(
            failure(&Response::builder().status(409).body(body).unwrap()),
            gap
        );
        let other = Response::builder()
            .status(502)
            .body(Bytes::from("x"))
            .unwrap();
        assert!(matches!(failure(&other), ControlError::Unavailable(_)));
    }
}
