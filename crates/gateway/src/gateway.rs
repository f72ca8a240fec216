use crate::body::Room;
use crate::browser::Sessions;
use crate::error::GatewayError;
use crate::listeners;
use crate::listeners::Doors;
use crate::listeners::Drain;
use crate::memory::Memory;
use crate::observe::Observer;
use crate::plane::Plane;
use crate::shared::Shared;
use crate::updates;
use crate::updates::Sinks;
use crate::upstreams::Upstreams;
use countersign_core::vocabulary::Name;
use countersign_enforce::EnforcementPoint;
use countersign_net::KeyAlgorithm;
use countersign_net::KeySet;
use countersign_net::Keys;
use countersign_net::PublicRoots;
use countersign_net::Roots;
use countersign_net::SigningKey;
use countersign_net::Sockets;
use countersign_net::SvidSource;
use countersign_net::TokenVerifier;
use countersign_net::token::CACHED_TOKENS;
use countersign_wire::control::ControlError;
use countersign_wire::control::ControlPlane;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;
use tokio::task::JoinHandle;

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    again: JoinHandle<()>,
    doors: Doors,
    drain: Drain,
    open: JoinHandle<()>,
    shared: Arc<Shared>,
    updates: JoinHandle<()>,
}

/// What a gateway is started with beside what it is connected to.
#[derive(Clone, Debug)]
pub struct GatewayOptions {
    /// Addresses to bind instead of the configured ones, by listener.
    pub bind_override: HashMap<Name, SocketAddr>,
    /// Its name, as in `spiffe://<trust domain>/countersign/gateway/<name>`.
    pub name: Name,
    /// The server's public key for snapshots (Ed25519, 32 bytes). Without it a snapshot is
    /// believed only if it is in force already, as in one process with the server.
    pub snapshot_key: Option<[u8; 32]>,
    /// Sockets that are open already, by listener.
    pub sockets: Sockets,
    /// Further certificate authorities for third parties, PEM.
    pub third_party_roots: Option<String>,
}

/// How long the last completions may take to be in the spool.
const SETTLE: Duration = Duration::from_secs(5);

impl Gateway {
    /// Binds every `browser`, `service` and `partner` listener of the snapshot in force and serves
    /// until it is drained. `roots` and `keys` are kept current from `control`.
    ///
    /// # Errors
    /// [`GatewayError`] if a listener can't be bound, or a key can't be made and published.
    pub fn start(
        point: EnforcementPoint,
        control: Arc<dyn ControlPlane>,
        svid: Arc<SvidSource>,
        roots: Arc<Roots>,
        keys: Arc<Keys>,
        options: GatewayOptions,
    ) -> BoxFuture<'static, Result<Self, GatewayError>> {
        // Boxed, as everything here that other crates await: where a future is polled first, its
        // code is generated, and once is enough.
        Box::pin(Self::remembering(
            point, control, svid, roots, keys, options, None,
        ))
    }

    /// The same with a memory of the server, which is in another process.
    pub(crate) async fn remembering(
        point: EnforcementPoint,
        control: Arc<dyn ControlPlane>,
        svid: Arc<SvidSource>,
        roots: Arc<Roots>,
        keys: Arc<Keys>,
        options: GatewayOptions,
        memory: Option<Arc<Memory>>,
    ) -> Result<Self, GatewayError> {
        let snapshot = point.snapshot();
        let assertions = SigningKey::generate(KeyAlgorithm::EdDsa)?;
        publish(&*control, &assertions, &svid)
            .await
            .map_err(GatewayError::Publish)?;
        let mut public = PublicRoots::native();
        if let Some(pem) = &options.third_party_roots {
            public = public
                .with_pem(pem.as_bytes())
                .map_err(GatewayError::Roots)?;
        }
        let issuer = snapshot.config().trust_domain.issuer();
        let upstreams = Upstreams::new(assertions, public, roots.clone(), svid.clone());
        let tokens = TokenVerifier::new(keys.clone(), issuer, CACHED_TOKENS);
        let plane = Plane {
            control: control.clone(),
            point: point.clone(),
            svid: svid.clone(),
            tokens,
        };
        let shared = Arc::new(Shared {
            observer: OnceLock::new(),
            plane,
            room: Room::default(),
            sessions: Sessions::default(),
            upstreams,
        });
        let bound = (options.bind_override, options.sockets);
        let (doors, drain) = Doors::new(&shared, &roots, &svid, bound)?;
        doors.prepare(&snapshot)?.commit();
        let kept = memory.as_ref().map_or(0, |memory| memory.serial());
        let sinks = Sinks {
            installed: Arc::default(),
            keys,
            point,
            roots,
            memory,
            serial: Mutex::new(kept),
            snapshot_key: options.snapshot_key,
        };
        let open =
            listeners::keep_open(doors.clone(), sinks.point.clone(), sinks.installed.clone());
        let tasks = sinks.point.tasks().clone();
        let open = tokio::spawn(tasks.lasting("listeners", open));
        let again = updates::decide_again(sinks.point.clone());
        let again = tokio::spawn(tasks.lasting("streams", again));
        let updates = tokio::spawn(tasks.lasting("updates", updates::follow(control, sinks)));
        tracing::info!(gateway = %options.name, doors = ?doors.addresses(), "serving");
        Ok(Self {
            again,
            doors,
            drain,
            open,
            shared,
            updates,
        })
    }

    /// The listeners and the addresses they are bound to.
    #[must_use]
    pub fn listeners(&self) -> Vec<(Name, SocketAddr)> {
        self.doors.addresses()
    }

    /// Has somebody hear what becomes of requests; the first one asked stays.
    pub fn observe(&self, observer: Arc<dyn Observer>) {
        // A second observer would count everything twice.
        let _ = self.shared.observer.set(observer);
    }

    /// The listeners, to be changed with the policy that names them.
    #[must_use]
    pub fn doors(&self) -> Doors {
        self.doors.clone()
    }

    /// Takes no more connections, lets what is under way finish within `limit`, then cuts it.
    pub fn drain(self, limit: Duration) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            self.drain.drain(limit).await;
            // Completions of what has just ended.
            self.shared.plane.point.settled(SETTLE).await;
            self.updates.abort();
            self.open.abort();
            self.again.abort();
        })
    }
}

async fn publish(
    control: &dyn ControlPlane,
    key: &SigningKey,
    svid: &SvidSource,
) -> Result<(), ControlError> {
    let mut set = KeySet::empty(0);
    set.add_owned(key, svid.current().spiffe_id().clone());
    let jwk = set
        .to_jwks()
        .get("keys")
        .and_then(|keys| keys.get(0))
        .cloned();
    control.publish_key(jwk.unwrap_or_default()).await
}
