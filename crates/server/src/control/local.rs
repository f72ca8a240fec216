use super::Asking;
use super::Place;
use super::Plane;
use crate::ids::request_id;
use countersign_core::hop::Evidence;
use countersign_core::record::Context;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::SpiffeId;
use countersign_net::Acceptor;
use countersign_net::AcceptorError;
use countersign_net::ConnectError;
use countersign_net::Connector;
use countersign_net::Listener;
use countersign_net::Roots;
use countersign_net::SvidSource;
use countersign_wire::control::ControlError;
use countersign_wire::control::ControlPlane;
use countersign_wire::control::Delivery;
use countersign_wire::control::InjectedSecret;
use countersign_wire::control::IssuerAnswer;
use countersign_wire::control::IssuerRequest;
use countersign_wire::control::Known;
use countersign_wire::control::SessionToken;
use countersign_wire::control::SessionTokenRequest;
use countersign_wire::control::SignIn;
use countersign_wire::control::SignedIn;
use countersign_wire::control::Update;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use secrecy::SecretString;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// The control plane for a gateway in the same process.
///
/// The gateway proves itself as it would over the network: its SVID goes through the handshake of
/// the control listener, over a pipe in memory, once for each leaf. What that proves is the
/// evidence of its questions.
#[derive(Clone)]
pub struct LocalPlane {
    pipe: Arc<Pipe>,
    plane: Arc<Plane>,
}

/// Why there is no plane for a gateway.
#[derive(Debug, thiserror::Error)]
pub enum PlaneError {
    /// Our side of the pipe.
    #[error(transparent)]
    Acceptor(#[from] AcceptorError),
    /// The gateway's side.
    #[error(transparent)]
    Connector(#[from] ConnectError),
}

struct Pipe {
    acceptor: Acceptor,
    connector: Connector,
    gateway: Arc<SvidSource>,
    proved: Mutex<Option<Proved>>,
    roots: Arc<Roots>,
}

struct Proved {
    evidence: Evidence,
    generation: u64,
    leaf: Digest,
}

const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long to wait before following again.
const AGAIN: Duration = Duration::from_secs(1);

impl LocalPlane {
    pub(crate) fn new(
        plane: Arc<Plane>,
        gateway: Arc<SvidSource>,
        server: Arc<SvidSource>,
        roots: Arc<Roots>,
    ) -> Result<Self, PlaneError> {
        let id: SpiffeId = server.current().spiffe_id().clone();
        let connector = Connector::mutual(gateway.clone(), roots.clone(), id)?;
        let listener = Listener::Mutual {
            resumption: false,
            roots: roots.clone(),
            svid: server,
        };
        let acceptor = Acceptor::new(listener)?;
        let proved = Mutex::default();
        let pipe = Arc::new(Pipe {
            acceptor,
            connector,
            gateway,
            proved,
            roots,
        });
        Ok(Self { pipe, plane })
    }

    async fn asking<'a>(&self, request_id: &'a str) -> Asking<'a> {
        let context = Context {
            request_id,
            ..Context::default()
        };
        Asking {
            context,
            evidence: self.pipe.evidence().await,
            place: Place::Here,
        }
    }
}

impl Pipe {
    async fn evidence(&self) -> Evidence {
        let leaf = self.gateway.current().leaf();
        let generation = self.roots.current().generation();
        let mut proved = self.proved.lock().await;
        if let Some(known) = proved.as_ref()
            && known.leaf == leaf
            && known.generation == generation
        {
            return known.evidence.clone();
        }
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let deadline = Instant::now() + HANDSHAKE;
        let (accepted, connected) = tokio::join!(
            self.acceptor.accept(ours, deadline),
            self.connector.connect(theirs, "control", deadline),
        );
        let mut evidence = Evidence::none();
        match accepted {
            Ok((_, established)) => {
                evidence.tls = established.tls;
                evidence.peer = established.peer;
                *proved = Some(Proved {
                    evidence: evidence.clone(),
                    generation,
                    leaf,
                });
            }
            Err(refused) => {
                evidence.tls = refused.tls;
                evidence.peer = refused.peer;
            }
        }
        if let Err(error) = connected {
            tracing::error!(%error, "a gateway of this process can't prove itself");
        }
        evidence
    }
}

impl ControlPlane for LocalPlane {
    /// Never ends by itself: when the opening evidence is no longer good, because the leaf ended
    /// or was revoked, the gateway has to prove itself anew.
    fn updates(&self, known: Known) -> BoxStream<'static, Update> {
        let following = Following {
            known,
            plane: self.clone(),
            queue: None,
            waited: true,
        };
        futures_util::stream::unfold(following, |mut following| async move {
            let update = following.next().await;
            Some((update, following))
        })
        .boxed()
    }

    fn sign_in(&self, request: SignIn) -> BoxFuture<'_, Result<SignedIn, ControlError>> {
        Box::pin(async move {
            let id = request_id();
            self.plane.sign_in(self.asking(&id).await, request).await
        })
    }

    fn sign_out(&self, cookie: SecretString) -> BoxFuture<'_, Result<(), ControlError>> {
        Box::pin(async move {
            let id = request_id();
            self.plane.sign_out(self.asking(&id).await, &cookie).await
        })
    }

    fn session_token(
        &self,
        request: SessionTokenRequest,
    ) -> BoxFuture<'_, Result<SessionToken, ControlError>> {
        Box::pin(async move {
            let id = request_id();
            self.plane
                .session_token(self.asking(&id).await, request)
                .await
        })
    }

    fn credential(&self, secret: Name) -> BoxFuture<'_, Result<InjectedSecret, ControlError>> {
        Box::pin(async move {
            let id = request_id();
            self.plane.credential(self.asking(&id).await, &secret).await
        })
    }

    fn publish_key(&self, jwk: serde_json::Value) -> BoxFuture<'_, Result<(), ControlError>> {
        Box::pin(async move {
            let id = request_id();
            self.plane.publish_key(self.asking(&id).await, jwk).await
        })
    }

    fn deliver(&self, records: Delivery) -> BoxFuture<'_, Result<u64, ControlError>> {
        Box::pin(async move {
            let id = request_id();
            self.plane.deliver(self.asking(&id).await, records).await
        })
    }

    fn issuer<'a>(&'a self, request: IssuerRequest<'a>) -> Option<IssuerAnswer<'a>> {
        Some(Box::pin(async move {
            Ok(self.plane.issuer.serve(request).await)
        }))
    }
}

/// A gateway's place in what it is told, kept over new proofs of itself.
struct Following {
    known: Known,
    plane: LocalPlane,
    queue: Option<BoxStream<'static, Update>>,
    /// Whether the last attempt may be followed by another at once.
    waited: bool,
}

impl Following {
    async fn next(&mut self) -> Update {
        loop {
            if let Some(queue) = &mut self.queue
                && let Some(update) = queue.next().await
            {
                self.note(&update);
                return update;
            }
            if !std::mem::take(&mut self.waited) {
                tokio::time::sleep(AGAIN).await;
            }
            let id = request_id();
            let asking = self.plane.asking(&id).await;
            match self.plane.plane.follow(asking, self.known).await {
                Ok(queue) => self.queue = Some(queue),
                Err(error) => {
                    self.queue = None;
                    tracing::warn!(%error, "a gateway of this process is told nothing");
                }
            }
        }
    }

    fn note(&mut self, update: &Update) {
        match update {
            Update::Revocations(lines) => {
                self.known.epoch = lines.last().map_or(self.known.epoch, |line| line.epoch);
            }
            // It says the revision of the snapshot that came before it.
            Update::Heartbeat(beat) => self.known.revision = Some(beat.revision),
            Update::Checkpoint(_)
            | Update::Keys(_)
            | Update::Roots(_)
            | Update::SignedHeartbeat(_)
            | Update::Snapshot(_) => {}
        }
    }
}

impl std::fmt::Debug for LocalPlane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "control plane for {}",
            self.pipe.gateway.current().spiffe_id()
        )
    }
}
