//! A gateway that is a process of its own: it joins once, then lives from its folder.
//!
//! It starts with the policy it kept, admits nothing until the server it knows has said on a fresh
//! stream that this is what is in force, and takes its records to the server's log.

mod damage;
mod joining;
mod key;
mod shipping;

pub use joining::join;

use self::shipping::Shipping;
use crate::error::GatewayError;
use crate::gateway::Gateway;
use crate::gateway::GatewayOptions;
use crate::home::Home;
use crate::listeners::Doors;
use crate::memory::Memory;
use crate::memory::MemoryError;
use crate::observe::Observer;
use crate::remote;
use crate::remote::RemotePlane;
use crate::updates;
use countersign_core::snapshot::Bundle;
use countersign_core::snapshot::Snapshot;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Name;
use countersign_enforce::Clock;
use countersign_enforce::EnforcementPoint;
use countersign_ledger::note::VerifierKey;
use countersign_ledger::spool::Spool;
use countersign_ledger::spool::SpoolError;
use countersign_ledger::spool::SpoolOptions;
use countersign_ledger::storage::FsStorage;
use countersign_ledger::storage::Lock;
use countersign_ledger::storage::Storage as _;
use countersign_ledger::storage::StorageError;
use countersign_net::CredentialError;
use countersign_net::KeySet;
use countersign_net::Keys;
use countersign_net::Sockets;
use countersign_net::SvidSource;
use countersign_net::TrustBundle;
use countersign_net::http::ClientError;
use countersign_wire::admin::Join;
use countersign_wire::control::ControlError;
use countersign_wire::control::ControlPlane;
use countersign_wire::control::Known;
use countersign_wire::control::SignedSnapshot;
use countersign_wire::control::Update;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::task::JoinHandle;

/// What the server told when this gateway joined.
const JOINED: &str = "join.json";

/// A running gateway of its own.
#[derive(Debug)]
pub struct Apart {
    gateway: Gateway,
    _lock: Box<dyn Lock>,
    name: Name,
    point: EnforcementPoint,
    server: String,
    shipped: Arc<AtomicU64>,
    svid: Arc<SvidSource>,
    tasks: [JoinHandle<()>; 2],
    witness_key: VerifierKey,
}

/// How a gateway of its own is started.
#[derive(Clone, Debug)]
pub struct ApartOptions {
    /// Addresses to bind instead of the configured ones, by listener.
    pub bind_override: HashMap<Name, SocketAddr>,
    /// Whether this is development: its trust domains are accepted by nothing else.
    pub dev: bool,
    /// Its folder, which [`join`] has made a gateway's.
    pub folder: PathBuf,
    /// Sockets that are open already, by listener.
    pub sockets: Sockets,
}

/// Why a gateway can't join or start.
#[derive(Debug, thiserror::Error)]
pub enum ApartError {
    /// The folder can't be used.
    #[error("can't use the folder `{path}`")]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process uses the folder.
    #[error("another process uses the folder `{0}`")]
    InUse(PathBuf),
    /// It has not joined.
    #[error("this folder is no gateway's yet: join with a token")]
    NotJoined,
    /// Something kept is not what was written.
    #[error("what is kept in this folder is not what was written there")]
    Kept,
    /// Something is wrong with the join token.
    #[error("the join token is not usable: {0}")]
    Token(&'static str),
    /// The server refused.
    #[error("refused: {code}")]
    Refused {
        /// The code.
        code: Code,
        /// Receipt id of the record.
        receipt: Option<String>,
    },
    /// The server's answer is not one.
    #[error("the server answers with status `{0}`")]
    Answer(u16),
    /// No key could be made.
    #[error("no key can be made")]
    Key,
    /// Development and everything else never meet.
    #[error("trust domain `{0}` is for development only, and nothing else is (`--dev`)")]
    Development(String),
    /// The certificate has ended: only a new join token helps.
    #[error("this gateway's certificate has ended while it was away: join with a new token")]
    Ended,
    /// The policy is not the server's for this gateway.
    #[error("the policy can't be used: {0}")]
    Policy(String),
    /// The server can't be reached.
    #[error(transparent)]
    Http(#[from] ClientError),
    /// The server did not do it.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// What the server told can't be used.
    #[error(transparent)]
    Join(#[from] remote::JoinError),
    /// Key or certificate.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// What is remembered of the server.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The spool.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The gateway itself.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
}

impl ApartError {
    fn folder(path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Folder {
            path: path.to_owned(),
            source,
        }
    }
}

/// Whether a folder is a gateway's.
#[must_use]
pub fn is_joined(folder: &Path) -> bool {
    folder.join(JOINED).exists()
}

/// What a start needs of the folder.
struct Parts {
    memory: Arc<Memory>,
    plane: RemotePlane,
    svid: Arc<SvidSource>,
}

impl Apart {
    /// Starts with what the folder holds. Only the very first start needs the server to be there.
    ///
    /// # Errors
    /// [`ApartError`].
    pub fn start(
        options: ApartOptions,
        clock: Arc<dyn Clock>,
    ) -> BoxFuture<'static, Result<Self, ApartError>> {
        Box::pin(Self::started(options, clock))
    }

    async fn started(options: ApartOptions, clock: Arc<dyn Clock>) -> Result<Self, ApartError> {
        let (home, join) = opened(&options.folder)?;
        let lock = lock(&home)?;
        let Parts {
            memory,
            plane,
            svid,
        } = parts(&home, &join, &*clock)?;
        let signed = match memory.kept_snapshot()? {
            Some(kept) => kept,
            None => first(&plane).await?,
        };
        let snapshot = Arc::new(compile(&signed, &memory, options.dev)?);
        memory.keep_snapshot(&signed)?;
        let point = point(&home, &memory, snapshot, clock)?;
        memory.attach(&point);
        let name = memory.gateway().clone();
        let control: Arc<dyn ControlPlane> = Arc::new(plane.clone());
        let gateway = Gateway::remembering(
            point.clone(),
            control,
            svid.clone(),
            plane.roots().clone(),
            // What signs tokens is the first thing that each stream of updates says.
            Keys::new(KeySet::empty(0)),
            GatewayOptions {
                bind_override: options.bind_override,
                name: name.clone(),
                snapshot_key: Some(*memory.snapshot_key()),
                sockets: options.sockets,
                third_party_roots: None,
            },
            Some(memory.clone()),
        )
        .await?;
        let witness_key = memory.witness_key().clone();
        let shipping = Shipping::new(point.clone(), plane.clone(), memory);
        let shipped = shipping.shipped();
        let watch = point.tasks();
        let renewal = key::renew(plane, svid.clone(), home, point.clone());
        let tasks = [
            tokio::spawn(watch.lasting("shipping", shipping.run())),
            tokio::spawn(watch.lasting("renewal", renewal)),
        ];
        Ok(Self {
            gateway,
            _lock: lock,
            name,
            point,
            server: join.server,
            shipped,
            svid,
            tasks,
            witness_key,
        })
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &Name {
        &self.name
    }

    /// The server's address.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The key that verifies its lines under checkpoints of the log.
    #[must_use]
    pub const fn witness_key(&self) -> &VerifierKey {
        &self.witness_key
    }

    /// The listeners and the addresses they are bound to.
    #[must_use]
    pub fn listeners(&self) -> Vec<(Name, SocketAddr)> {
        self.gateway.listeners()
    }

    /// The enforcement point.
    #[must_use]
    pub const fn point(&self) -> &EnforcementPoint {
        &self.point
    }

    /// The listeners, by which is seen what is open.
    #[must_use]
    pub fn doors(&self) -> Doors {
        self.gateway.doors()
    }

    /// Has somebody hear what becomes of requests; the first one asked stays.
    pub fn observe(&self, observer: Arc<dyn Observer>) {
        self.gateway.observe(observer);
    }

    /// Its own certificate, replaced before it ends.
    #[must_use]
    pub const fn svid(&self) -> &Arc<SvidSource> {
        &self.svid
    }

    /// How many of its records the server is known to have; kept current.
    #[must_use]
    pub const fn shipped(&self) -> &Arc<AtomicU64> {
        &self.shipped
    }

    /// Takes no more connections, lets what is under way finish within `limit`, then cuts it. What
    /// was not shipped is on disk for the next start.
    pub fn drain(self, limit: Duration) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            self.gateway.drain(limit).await;
            for task in &self.tasks {
                task.abort();
            }
        })
    }
}

/// A folder that is a gateway's, and what it was told when it became one.
fn opened(folder: &Path) -> Result<(Home, Join), ApartError> {
    let home = Home::open(folder).map_err(ApartError::folder(folder))?;
    let told = home.read(JOINED);
    let told = told
        .map_err(ApartError::folder(folder))?
        .ok_or(ApartError::NotJoined)?;
    let join = serde_json::from_slice(&told).map_err(|_| MemoryError::Form(JOINED))?;
    Ok((home, join))
}

/// Two processes would contradict one another under one name.
fn lock(home: &Home) -> Result<Box<dyn Lock>, ApartError> {
    let failed = ApartError::folder(home.path());
    let locked = FsStorage::new(home.path()).lock("lock");
    locked.map_err(|error| match error {
        StorageError::Locked { .. } => ApartError::InUse(home.path().to_owned()),
        other => failed(io::Error::other(other)),
    })
}

fn parts(home: &Home, join: &Join, clock: &dyn Clock) -> Result<Parts, ApartError> {
    let svid = key::kept(home)?;
    if svid.not_after() <= clock.now() {
        return Err(ApartError::Ended);
    }
    let svid = SvidSource::new(svid);
    let about = remote::about(join, &svid, key::witness(home)?)?;
    let memory = Memory::open(Some(home.clone()), about)?;
    let plane = RemotePlane::remembering(join, svid.clone(), memory.clone())?;
    if let Some(pem) = memory.kept_roots()? {
        let domain = plane.roots().current().domain().clone();
        let kept = TrustBundle::from_pem(domain, &pem, 2).map_err(remote::JoinError::from)?;
        plane.roots().replace(kept);
    }
    Ok(Parts {
        memory,
        plane,
        svid,
    })
}

/// The first policy of a gateway that has none yet.
async fn first(plane: &RemotePlane) -> Result<SignedSnapshot, ApartError> {
    let mut updates = plane.updates(Known::default());
    loop {
        match updates.next().await {
            Some(Update::Snapshot(signed)) => return Ok(signed),
            Some(_) => {}
            None => return Err(ApartError::Policy("there is none".to_owned())),
        }
    }
}

fn compile(signed: &SignedSnapshot, memory: &Memory, dev: bool) -> Result<Snapshot, ApartError> {
    let policy = |error: &dyn std::fmt::Display| ApartError::Policy(error.to_string());
    updates::verify(signed, memory.snapshot_key()).map_err(|error| policy(&error))?;
    let bundle: Bundle = serde_json::from_str(&signed.bundle).map_err(|error| policy(&error))?;
    updates::check_gateway(&bundle, memory.gateway()).map_err(|error| policy(&error))?;
    let snapshot = Snapshot::from_bundle(bundle).map_err(|error| policy(&error))?;
    let domain = &snapshot.config().trust_domain;
    let development = snapshot.is_development() || snapshot.is_open();
    if development != dev || domain.is_development() != dev {
        return Err(ApartError::Development(domain.as_str().to_owned()));
    }
    Ok(snapshot)
}

fn point(
    home: &Home,
    memory: &Memory,
    snapshot: Arc<Snapshot>,
    clock: Arc<dyn Clock>,
) -> Result<EnforcementPoint, ApartError> {
    let storage = Arc::new(FsStorage::new(home.path()));
    let options = SpoolOptions {
        commit: snapshot.config().audit.commit,
        ..SpoolOptions::default()
    };
    let (spool, recovered) = Spool::open(storage, memory.gateway().as_str(), options)?;
    tracing::debug!(?recovered, "spool");
    if recovered.truncated_bytes > 0 {
        let (bytes, records) = (recovered.truncated_bytes, recovered.head.next);
        tracing::warn!(
            bytes,
            records,
            "the spool ended in a record that was not whole and had not been promised; it was cut off"
        );
    }
    Ok(EnforcementPoint::unheard(spool, snapshot, clock))
}
