//! The server, put together.
//!
//! What others await of it is boxed: the code of a future is otherwise generated again in every
//! crate and every test that polls it, and this one's has all of the server in it.

mod certificates;
mod damage;
mod folder;
mod measured;
mod open;
mod restored;
mod spending;
mod tasks;

pub use self::restored::Restored;
use crate::admin::Desk;
use crate::admin::Operator;
use crate::admin::Socket;
use crate::admin::SocketError;
use crate::audit::Audit;
use crate::audit::AuditError;
use crate::ca::Ca;
use crate::ca::CaError;
use crate::control::LocalPlane;
use crate::control::Plane;
use crate::control::PlaneError;
use crate::drift::Reader;
use crate::http::Front;
use crate::http::JoinDoor;
use crate::keys::KeyError;
use crate::keys::SealError;
use crate::keys::TokenKeys;
use crate::reload::Prepare;
use crate::reload::ReloadError;
use crate::snapshots::SnapshotError;
use crate::snapshots::Snapshots;
use crate::store::Store;
use crate::store::StoreError;
use crate::updates::Updates;
use crate::vault::VaultError;
use countersign_core::snapshot::Bundle;
use countersign_core::snapshot::Snapshot;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::TrustDomain;
use countersign_enforce::Clock;
use countersign_enforce::EnforcementPoint;
use countersign_ledger::note::VerifierKey;
use countersign_ledger::spool::SetAside;
use countersign_ledger::spool::SpoolError;
use countersign_ledger::storage::Lock;
use countersign_ledger::storage::StorageError;
use countersign_net::Acceptor;
use countersign_net::AcceptorError;
use countersign_net::CryptoError;
use countersign_net::Keys;
use countersign_net::Listener;
use countersign_net::Roots;
use countersign_net::Sockets;
use countersign_net::SvidSource;
use countersign_net::TrustBundle;
use countersign_net::TrustError;
use countersign_net::WithRoot;
use countersign_net::peer_cred;
use countersign_wire::admin::Endpoints;
use countersign_wire::admin::FileStatus;
use countersign_wire::control::ControlError;
use countersign_wire::control::ControlPlane;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use parking_lot::RwLock;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long the last completions may take to be in the spool.
const SETTLE: Duration = Duration::from_secs(5);

/// The control plane as a gateway of this process asks it, and who that gateway is.
type OfGateway = (Arc<dyn ControlPlane>, Arc<SvidSource>);

/// How a server is set up.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// The administration socket, in a folder that is made, or is the server's alone (mode 0700).
    pub admin_socket: Option<PathBuf>,
    /// The policy to start with; its `roots` are filled in.
    pub bundle: Bundle,
    /// The address of the mTLS port; port 0 takes any that is free.
    pub control: SocketAddr,
    /// Everything that lasts: store, keys, spool, log, snapshots.
    pub data: PathBuf,
    /// This node's name.
    pub node: Name,
    /// Sockets that are open already: `control` and `join`.
    pub sockets: Sockets,
}

/// What a server that is opened puts in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// The active revision, whatever the given policy says; the given one on the first start.
    #[default]
    Active,
    /// The given policy, whatever was active.
    File,
    /// Nothing: what lasts is made, and no revision becomes active.
    Nothing,
}

/// Why a server can't be opened or started.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The kept revocation log has a gap: something was taken out of it.
    #[error("the kept revocation log is not whole: {0}")]
    Revocations(countersign_core::snapshot::RevocationGap),
    /// The data folder can't be made or read.
    #[error("can't use the data folder `{path}`")]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process uses the data folder.
    #[error("another process uses the data folder `{0}`")]
    InUse(PathBuf),
    /// The data folder was made for another trust domain or environment.
    #[error("the data folder `{path}` belongs to {found}, not to {wanted}")]
    OtherDeployment {
        /// Which.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Who wants it.
        wanted: String,
    },
    /// Development, `ZT_OFF` included, has a trust domain that nothing else accepts.
    #[error("development needs a trust domain that ends in `.dev.invalid`, not `{0}`")]
    NotDevelopment(TrustDomain),
    /// Nothing but development has such a trust domain.
    #[error("trust domain `{0}` is for development only (`--dev`)")]
    Development(TrustDomain),
    /// In development every socket is on loopback.
    #[error("`{0}` is not a loopback address, which development needs")]
    NotLoopback(SocketAddr),
    /// The port can't be bound.
    #[error("can't listen on `{address}`")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// It runs already.
    #[error("the server has been started already")]
    Started,
    /// It does not run yet.
    #[error("the server has not been started")]
    NotStarted,
    /// The kernel does not say who this process is.
    #[error("can't find out who runs this process")]
    Ourselves(#[source] io::Error),
    /// What was active can't be served by this build.
    #[error("the active revision `{}` can't be loaded; to serve the file instead, start once with `--from-file`", .revision.short())]
    Active {
        /// Which.
        revision: Digest,
        /// Why.
        source: Box<ReloadError>,
    },
    /// A restart is no way around a second person.
    #[error(
        "the file allows more than the active revision, which wants that approved: start without `--from-file`, then `countersign reload`"
    )]
    NeedsApproval,
    /// A revision that can't be read is no way around a second person either.
    #[error(
        "the active revision `{}` can't be loaded, and for all that is known it wants changes approved: bring `snapshots/{revision}` of the data folder back from a backup, or start the version that loaded it, then `countersign reload`", .revision.short()
    )]
    Unread {
        /// Which.
        revision: Digest,
    },
    /// The configuration.
    #[error(transparent)]
    Configuration(#[from] ReloadError),
    /// The administration socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The cryptography.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// What keeps the keys.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The authority.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The roots.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The vault.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The spool.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The files of the ledger.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The log.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The kept snapshots.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The mTLS port's TLS.
    #[error(transparent)]
    Tls(#[from] AcceptorError),
    /// A gateway of this process.
    #[error(transparent)]
    Plane(#[from] PlaneError),
    /// What was kept of gateways' keys.
    #[error("the kept keys of enforcement points can't be used")]
    AssertionKeys(#[source] ControlError),
}

/// The control plane of a deployment.
#[derive(Debug)]
pub struct Server {
    parts: Arc<Parts>,
    running: Mutex<Option<Running>>,
}

/// Everything that the doors and the background tasks share.
#[derive(Debug)]
struct Parts {
    audit: Arc<Audit>,
    ca: Arc<Ca>,
    desk: Arc<Desk>,
    endpoints: Arc<RwLock<Endpoints>>,
    /// SVIDs of gateways in this process.
    gateways: Mutex<Vec<(Name, Arc<SvidSource>)>>,
    _lock: Box<dyn Lock>,
    node: Name,
    options: Options,
    plane: Arc<Plane>,
    point: EnforcementPoint,
    roots: Arc<Roots>,
    snapshots: Arc<Snapshots>,
    store: Store,
    svid: Arc<SvidSource>,
    token_keys: Arc<TokenKeys>,
    updates: Arc<Updates>,
}

/// What is left of the options once everything is open.
#[derive(Debug)]
struct Options {
    admin_socket: Option<PathBuf>,
    control: SocketAddr,
    sockets: Sockets,
}

#[derive(Debug)]
struct Running {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Server {
    /// Opens what lasts, or makes it on the first time, and puts the policy in force. Nobody can
    /// connect yet.
    ///
    /// # Errors
    /// [`ServerError`] names what is missing, foreign or wrong.
    pub fn open(
        options: ServerOptions,
        clock: Arc<dyn Clock>,
    ) -> BoxFuture<'static, Result<Self, ServerError>> {
        Self::open_with(options, Start::Active, clock)
    }

    /// Opens what lasts, and puts in force what `start` says.
    ///
    /// # Errors
    /// [`ServerError`] names what is missing, foreign or wrong.
    pub fn open_with(
        options: ServerOptions,
        start: Start,
        clock: Arc<dyn Clock>,
    ) -> BoxFuture<'static, Result<Self, ServerError>> {
        Box::pin(async move {
            let parts = Arc::new(open::open(options, start, clock).await?);
            let renewal = certificates::Renewal::new(&parts);
            parts.desk.reloader.prepare_with(Arc::new(renewal));
            Ok(Self {
                parts,
                running: Mutex::default(),
            })
        })
    }

    /// Sets damaged files of this node's spool aside, where there are any, so that it can be opened
    /// again; the first record after that says so. For when opening fails with
    /// [`SpoolError::Corrupt`], and somebody decides to go on without what can't be read.
    ///
    /// # Errors
    /// [`ServerError`].
    pub fn set_aside_damaged<'a>(
        options: &'a ServerOptions,
        clock: &'a dyn Clock,
    ) -> BoxFuture<'a, Result<Option<SetAside>, ServerError>> {
        Box::pin(damage::set_aside(options, clock))
    }

    /// Records that the data folder was brought back from a backup, which is a break: gateways that
    /// were known by then are revoked, which begins a new epoch, and have to join anew under other
    /// names; sessions and join tokens are over. Before [`Self::start`].
    ///
    /// # Errors
    /// [`ServerError`]; asked again, it finishes.
    pub fn record_restore(&self) -> BoxFuture<'_, Result<Restored, ServerError>> {
        Box::pin(restored::record(&self.parts))
    }

    /// Opens the doors and starts what runs beside them. Returns the address of the mTLS port.
    ///
    /// # Errors
    /// [`ServerError::Bind`], [`ServerError::Socket`], [`ServerError::Tls`],
    /// [`ServerError::Started`].
    pub async fn start(&self) -> Result<SocketAddr, ServerError> {
        self.open_doors()
    }

    /// What [`Self::start`] does, within its runtime.
    fn open_doors(&self) -> Result<SocketAddr, ServerError> {
        let parts = &self.parts;
        if self.running.lock().is_some() {
            return Err(ServerError::Started);
        }
        let wanted = parts.options.control;
        let failed = |source| ServerError::Bind {
            address: wanted,
            source,
        };
        let listener = parts.options.sockets.listen("control", wanted);
        let listener = listener.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let socket = parts
            .options
            .admin_socket
            .as_deref()
            .map(Socket::bind)
            .transpose()?;
        let acceptor = Acceptor::new(Listener::Mutual {
            resumption: false,
            roots: parts.roots.clone(),
            svid: parts.svid.clone(),
        })?;
        parts.endpoints.write().server = address.to_string();
        parts.plane.issuer.reached_at(address.to_string());
        let (stop, stopping) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let watch = parts.point.tasks();
        let front = Front::new(acceptor, parts.plane.clone()).serve(listener, stopping.clone());
        tasks.spawn(watch.watched("control", front));
        if let Some(socket) = socket {
            let admin = socket.serve(parts.desk.clone(), stopping.clone());
            tasks.spawn(watch.watched("admin", admin));
        }
        tasks::spawn(&mut tasks, parts, &stopping);
        *self.running.lock() = Some(Running { stop, tasks });
        Ok(address)
    }

    /// Opens the port where gateways in other processes join, until the server stops. Returns its
    /// address.
    ///
    /// # Errors
    /// [`ServerError::Bind`], [`ServerError::Tls`]; [`ServerError::NotStarted`] before
    /// [`Self::start`]; [`ServerError::NotLoopback`] in development.
    pub async fn open_join(&self, wanted: SocketAddr) -> Result<SocketAddr, ServerError> {
        self.open_join_door(wanted)
    }

    /// What [`Self::open_join`] does, within its runtime.
    fn open_join_door(&self, wanted: SocketAddr) -> Result<SocketAddr, ServerError> {
        let parts = &self.parts;
        if parts.point.snapshot().is_development() && !wanted.ip().is_loopback() {
            return Err(ServerError::NotLoopback(wanted));
        }
        let failed = |source| ServerError::Bind {
            address: wanted,
            source,
        };
        let listener = parts.options.sockets.listen("join", wanted);
        let listener = listener.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let acceptor = Acceptor::new(Listener::Browser {
            certificates: Arc::new(WithRoot {
                root: parts.ca.root().clone(),
                svid: parts.svid.clone(),
            }),
            tls12: false,
        })?;
        let mut running = self.running.lock();
        let running = running.as_mut().ok_or(ServerError::NotStarted)?;
        let door = JoinDoor::new(acceptor, parts.plane.joins.clone());
        let stopping = running.stop.subscribe();
        let door = door.serve(listener, stopping);
        running
            .tasks
            .spawn(parts.point.tasks().watched("join", door));
        *parts.plane.joins.opened.write() = Some(address.to_string());
        Ok(address)
    }

    /// Lets what is under way end, then takes the last records into the log and signs it.
    pub fn stop(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let running = self.running.lock().take();
            if let Some(mut running) = running {
                running.stop.send_replace(true);
                while running.tasks.join_next().await.is_some() {}
            }
            self.parts.point.settled(SETTLE).await;
            // Completions of the last requests may have come after the sequencer's last round.
            if let Err(error) = self.parts.audit.advance().await {
                tracing::error!(%error, "the log misses the last records; they are in the spool");
            }
            self.parts.store.close().await;
        })
    }

    /// The enforcement point, shared with gateways in this process.
    #[must_use]
    pub fn point(&self) -> &EnforcementPoint {
        &self.parts.point
    }

    /// The control plane for a gateway in this process, and who that gateway is; rotated as long
    /// as the server runs.
    ///
    /// # Errors
    /// [`ServerError`].
    pub fn control_plane<'a>(
        &'a self,
        gateway: &'a Name,
    ) -> BoxFuture<'a, Result<OfGateway, ServerError>> {
        Box::pin(async move {
            let parts = &self.parts;
            let svid = SvidSource::new(parts.issue_own("gateway", gateway).await?);
            parts.gateways.lock().push((gateway.clone(), svid.clone()));
            let plane = LocalPlane::new(
                parts.plane.clone(),
                svid.clone(),
                parts.svid.clone(),
                parts.roots.clone(),
            )?;
            Ok((Arc::new(plane) as Arc<dyn ControlPlane>, svid))
        })
    }

    /// The roots of the trust domain.
    #[must_use]
    pub fn roots(&self) -> &Arc<Roots> {
        &self.parts.roots
    }

    /// The roots as a bundle of its own, for somebody else's handle.
    ///
    /// # Errors
    /// [`ServerError::Ca`].
    pub fn trust_bundle(&self) -> Result<TrustBundle, ServerError> {
        Ok(self.parts.ca.trust_bundle(1)?)
    }

    /// The roots in PEM.
    #[must_use]
    pub fn roots_pem(&self) -> String {
        self.parts.ca.bundle()
    }

    /// The keys that verify access tokens, replaced in place.
    #[must_use]
    pub fn keys(&self) -> &Arc<Keys> {
        self.parts.token_keys.verifying()
    }

    /// The key that verifies the log's checkpoints, as `name+id+key`.
    #[must_use]
    pub fn log_key(&self) -> &VerifierKey {
        self.parts.audit.verifier()
    }

    /// The key that verifies signed snapshots: 32 bytes (Ed25519).
    #[must_use]
    pub fn snapshot_key(&self) -> &[u8] {
        self.parts.snapshots.public_key()
    }

    /// The ledger behind the doors: looking up, proving, verifying.
    #[must_use]
    pub fn audit(&self) -> &Arc<Audit> {
        &self.parts.audit
    }

    /// Where clients find what.
    #[must_use]
    pub fn endpoints(&self) -> Endpoints {
        self.parts.endpoints.read().clone()
    }

    /// Tells clients where a mesh listener is.
    pub fn set_mesh_address(&self, address: SocketAddr) {
        self.parts.endpoints.write().mesh = Some(address.to_string());
    }

    /// Administration by the user who runs this very process, decided like anybody's.
    ///
    /// # Errors
    /// [`ServerError::Ourselves`].
    pub fn operator(&self) -> Result<Operator, ServerError> {
        let (ours, _theirs) = tokio::net::UnixStream::pair().map_err(ServerError::Ourselves)?;
        let process = peer_cred::of(&ours).map_err(ServerError::Ourselves)?;
        Ok(Operator::new(self.parts.desk.clone(), &process))
    }

    /// Has somebody get ready before each policy that is put in force from now on, in the order of
    /// asking.
    pub fn prepare_with(&self, hook: Arc<dyn Prepare>) {
        self.parts.desk.reloader.prepare_with(hook);
    }

    /// Which file a reload would read: its status is told with the server's.
    pub fn follow_file(&self, path: String, reader: Reader) {
        self.parts.desk.file.set(path, reader);
    }

    /// The file that a reload would read against what is in force; none if there is no file.
    pub fn file_status(&self) -> BoxFuture<'_, Option<FileStatus>> {
        Box::pin(async move {
            let snapshot = self.parts.point.snapshot();
            self.parts.desk.file.compared_with(&snapshot).await
        })
    }

    /// Publishes the next access-token key, which signs as soon as everybody has it.
    ///
    /// # Errors
    /// [`ServerError::Key`].
    pub fn rotate_token_keys(&self) -> BoxFuture<'_, Result<String, ServerError>> {
        Box::pin(async move {
            let kid = self.parts.token_keys.rotate(self.parts.point.now()).await?;
            self.parts.updates.keys(self.parts.token_keys.jwks());
            Ok(kid)
        })
    }
}

impl Parts {
    /// An SVID for one of our own processes.
    async fn issue_own(
        &self,
        role: &str,
        name: &Name,
    ) -> Result<countersign_net::Svid, ServerError> {
        let snapshot = self.point.snapshot();
        self.issue_for(role, name, &snapshot).await
    }

    /// The same, with the names that a policy has.
    async fn issue_for(
        &self,
        role: &str,
        name: &Name,
        snapshot: &Snapshot,
    ) -> Result<countersign_net::Svid, ServerError> {
        let hosts = open::hosts(snapshot, self.options.control);
        let (svid, issued) = self.ca.issue_own(role, name, &hosts, self.point.now())?;
        self.store
            .insert_certificate(&crate::admin::certificate(&issued))
            .await?;
        Ok(svid)
    }
}
