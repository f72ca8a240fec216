//! Doors: sockets, handshakes and the limits of connections, as the configuration has them.
//!
//! A change of them has two halves. [`Doors::prepare`] does what can fail, binding sockets above
//! all, and touches nothing that is in use; [`PreparedDoors::commit`] can't fail. A socket whose
//! address stays the same stays open: only what new connections are held to changes.

mod connection;
mod door;
mod follow;
mod linger;
mod peers;

pub(crate) use follow::keep_open;

use crate::error::GatewayError;
use crate::place::Stage;
use crate::shared::Shared;
use crate::workers::Workers;
use countersign_core::snapshot::Snapshot;
use countersign_core::vocabulary::Name;
use countersign_net::Roots;
use countersign_net::Sockets;
use countersign_net::SvidSource;
use door::Around;
use door::Door;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::watch;

/// The listeners of a running gateway.
#[derive(Clone, Debug)]
pub struct Doors(Arc<Inner>);

/// Listeners of a configuration that are ready to be opened. Dropped, it was never there.
#[derive(Debug)]
pub struct PreparedDoors {
    doors: Doors,
    planned: Vec<Planned>,
}

/// Ends a gateway's listeners.
#[derive(Debug)]
pub(crate) struct Drain {
    doors: Doors,
    /// Closed once every task of every listener is gone.
    gone: mpsc::Receiver<()>,
}

#[derive(Debug)]
struct Inner {
    /// Until the gateway drains.
    here: Mutex<Option<mpsc::Sender<()>>>,
    instead: HashMap<Name, SocketAddr>,
    open: Mutex<Vec<Open>>,
    roots: Arc<Roots>,
    shared: Arc<Shared>,
    sockets: Sockets,
    stage: watch::Sender<Stage>,
    svid: Arc<SvidSource>,
    /// Until the gateway has drained.
    workers: Mutex<Option<Workers>>,
}

/// A socket that connections are accepted from, as long as this lives.
#[derive(Debug)]
struct Open {
    address: SocketAddr,
    door: watch::Sender<Arc<Door>>,
    wanted: SocketAddr,
}

/// A listener to be.
#[derive(Debug)]
struct Planned {
    door: Door,
    /// None where the socket is open already.
    socket: Option<TcpListener>,
    wanted: SocketAddr,
}

impl Doors {
    /// None yet, for this gateway.
    pub(crate) fn new(
        shared: &Arc<Shared>,
        roots: &Arc<Roots>,
        svid: &Arc<SvidSource>,
        (instead, sockets): (HashMap<Name, SocketAddr>, Sockets),
    ) -> Result<(Self, Drain), GatewayError> {
        let workers = Workers::start(shared.plane.point.tasks()).map_err(GatewayError::Threads)?;
        let (here, gone) = mpsc::channel(1);
        let doors = Self(Arc::new(Inner {
            here: Mutex::new(Some(here)),
            instead,
            open: Mutex::default(),
            roots: roots.clone(),
            shared: shared.clone(),
            sockets,
            stage: watch::Sender::new(Stage::Serving),
            svid: svid.clone(),
            workers: Mutex::new(Some(workers)),
        }));
        let drain = Drain {
            doors: doors.clone(),
            gone,
        };
        Ok((doors, drain))
    }

    /// Binds what a configuration has and this gateway has not. Nobody is accepted there, and
    /// nothing that is open changes, until it is committed. Needs a runtime.
    ///
    /// # Errors
    /// [`GatewayError::Bind`] and [`GatewayError::Tls`] of the first listener that can't be had.
    pub fn prepare(&self, next: &Snapshot) -> Result<PreparedDoors, GatewayError> {
        let (prepared, failed) = self.plan(next);
        failed.into_iter().next().map_or(Ok(prepared), Err)
    }

    /// The listeners and the addresses they are bound to, by name.
    #[must_use]
    pub fn addresses(&self) -> Vec<(Name, SocketAddr)> {
        let open = self.0.open.lock();
        let named = open
            .iter()
            .map(|it| (it.door.borrow().name().clone(), it.address));
        let mut addresses: Vec<_> = named.collect();
        addresses.sort();
        addresses
    }

    /// Opens what can be opened of a policy that is in force, and says what can't.
    pub(crate) fn follow(&self, now: &Snapshot) -> Vec<GatewayError> {
        let (prepared, failed) = self.plan(now);
        prepared.commit();
        failed
    }

    fn plan(&self, next: &Snapshot) -> (PreparedDoors, Vec<GatewayError>) {
        let (mut planned, mut failed) = (Vec::new(), Vec::new());
        for (name, listener) in &next.config().listeners {
            let wanted = self.0.instead.get(name).copied().unwrap_or(listener.bind);
            let before = self.before(name, wanted);
            let trust = (&self.0.roots, &self.0.svid);
            let door = Door::new(name, listener, before.as_deref(), trust);
            let socket = match before {
                Some(_) => Ok(None),
                None => door::bind(&self.0.sockets, name, wanted).map(Some),
            };
            match (door, socket) {
                (Ok(door), Ok(socket)) => planned.push(Planned {
                    door,
                    socket,
                    wanted,
                }),
                (Err(error), _) => failed.push(error.into()),
                (_, Err(error)) => failed.push(error),
            }
        }
        let doors = self.clone();
        (PreparedDoors { doors, planned }, failed)
    }

    /// What is open there.
    fn before(&self, name: &Name, wanted: SocketAddr) -> Option<Arc<Door>> {
        let open = self.0.open.lock();
        let found = open.iter().find(|it| it.is_for(name, wanted))?;
        Some(found.door.borrow().clone())
    }
}

impl PreparedDoors {
    /// Accepts at the new sockets, puts changed settings in force for new connections, and closes
    /// what the configuration has no more: what is under way there may finish.
    pub fn commit(self) {
        let inner = &self.doors.0;
        let here = inner.here.lock().clone();
        let crew = inner.workers.lock().as_ref().map(|it| it.crew().clone());
        let Some((here, crew)) = here.zip(crew) else {
            // The gateway drains: what was bound is closed with this.
            return;
        };
        let mut open = inner.open.lock();
        let mut before = std::mem::take(&mut *open);
        for Planned {
            door,
            socket,
            wanted,
        } in self.planned
        {
            let found = before
                .iter()
                .position(|it| it.is_for(door.name(), wanted))
                .map(|at| before.swap_remove(at));
            let next = match (found, socket) {
                (Some(found), _) => {
                    let door = Arc::new(door);
                    let replaced = found.door.send_replace(door.clone());
                    replaced.replaced_by(&door);
                    found
                }
                (None, Some(socket)) => {
                    let around = Around {
                        crew: crew.clone(),
                        gateway: inner.stage.subscribe(),
                        here: here.clone(),
                        shared: inner.shared.clone(),
                    };
                    match Open::new(socket, door, wanted, around) {
                        Ok(opened) => opened,
                        Err(error) => {
                            tracing::error!(%error, %wanted, "can't accept at a bound socket");
                            continue;
                        }
                    }
                }
                (None, None) => {
                    tracing::error!(door = %door.name(), "a listener was closed meanwhile");
                    continue;
                }
            };
            open.push(next);
        }
        for closed in before {
            tracing::info!(door = %closed.door.borrow().name(), at = %closed.address, "closed");
            closed.door.borrow().end();
        }
        inner.shared.upstreams.watch(&inner.shared.plane.point);
    }
}

impl Open {
    fn new(
        socket: TcpListener,
        door: Door,
        wanted: SocketAddr,
        around: Around,
    ) -> std::io::Result<Self> {
        let address = socket.local_addr()?;
        let (door, doors) = watch::channel(Arc::new(door));
        let tasks = around.shared.plane.point.tasks().clone();
        // There, so that with one thread a connection is served where it was accepted.
        let crew = around.crew.clone();
        let gone = || std::io::Error::other("no thread is left to accept");
        let thread = crew.next().ok_or_else(gone)?;
        let socket = door::heard_by(thread, socket)?;
        thread.spawn(tasks.watched("accept", door::accept(socket, doors, around)));
        tracing::info!(door = %door.borrow().name(), at = %address, "open");
        Ok(Self {
            address,
            door,
            wanted,
        })
    }

    /// Whether it is the socket that a listener wants. A port that any free one will do for says
    /// nothing, so there it is the name.
    fn is_for(&self, name: &Name, wanted: SocketAddr) -> bool {
        let named = wanted.port() != 0 || self.door.borrow().name() == name;
        self.wanted == wanted && named
    }
}

impl Drain {
    /// Lets what is under way finish within `limit`, then cuts it.
    pub(crate) async fn drain(mut self, limit: Duration) {
        let inner = &self.doors.0;
        drop(inner.here.lock().take());
        inner.stage.send_replace(Stage::Draining);
        if tokio::time::timeout(limit, self.gone.recv()).await.is_err() {
            tracing::warn!("what was still under way is cut");
            inner.stage.send_replace(Stage::Cut);
            let _ = tokio::time::timeout(Duration::from_secs(1), self.gone.recv()).await;
        }
        // What is left is cut, and its end is in the spool, before that is taken to be all.
        let workers = inner.workers.lock().take();
        let _ = tokio::task::spawn_blocking(move || drop(workers)).await;
    }
}
