//! Doors: sockets, handshakes and the limits of connections.

mod connection;

use crate::connected;
use crate::error::GatewayError;
use crate::place::Place;
use crate::place::Running;
use crate::place::Stage;
use crate::shared::Shared;
use countersign_core::config::Limits;
use countersign_core::config::PeerKind;
use countersign_core::hop::Facts;
use countersign_core::record::Context;
use countersign_core::snapshot::DoorKind;
use countersign_core::snapshot::Snapshot;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::Operation;
use countersign_enforce::Ask;
use countersign_net::Acceptor;
use countersign_net::Listener;
use countersign_net::Refused;
use countersign_net::Roots;
use countersign_net::SvidSource;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::time::Instant;

/// A bound listener.
#[derive(Debug)]
pub(crate) struct Door {
    acceptor: Acceptor,
    address: SocketAddr,
    kind: DoorKind,
    limits: Limits,
    name: Name,
    socket: TcpListener,
}

/// Ends a gateway's listeners.
#[derive(Debug)]
pub(crate) struct Drain {
    /// Closed once every task of every listener is gone.
    gone: mpsc::Receiver<()>,
    stage: watch::Sender<Stage>,
}

/// Time for a TLS handshake, which begins with one flight from the client.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Pause after an error of `accept`, such as too many open files.
const PAUSE: Duration = Duration::from_millis(50);

/// Binds every listener of a snapshot.
pub(crate) async fn bind(
    snapshot: &Snapshot,
    roots: &Arc<Roots>,
    svid: &Arc<SvidSource>,
    instead: &HashMap<Name, SocketAddr>,
) -> Result<Vec<Door>, GatewayError> {
    let mut doors = Vec::new();
    for (name, listener) in &snapshot.config().listeners {
        let (kind, tls) = match listener.peer {
            PeerKind::Browser => {
                let tls12 = listener.tls12.is_some();
                (
                    DoorKind::Browser,
                    Listener::Browser {
                        certificates: svid.clone(),
                        tls12,
                    },
                )
            }
            _ => {
                let (roots, svid) = (roots.clone(), svid.clone());
                (
                    DoorKind::Mesh,
                    Listener::Mutual {
                        resumption: true,
                        roots,
                        svid,
                    },
                )
            }
        };
        let wanted = instead.get(name).copied().unwrap_or(listener.bind);
        let failed = |source| GatewayError::Bind {
            address: wanted,
            name: name.clone(),
            source,
        };
        let socket = TcpListener::bind(wanted).await.map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        let acceptor = Acceptor::new(tls)?;
        doors.push(Door {
            acceptor,
            address,
            kind,
            limits: listener.limits,
            name: name.clone(),
            socket,
        });
    }
    Ok(doors)
}

/// Serves bound listeners, each in a task of its own.
pub(crate) fn serve(doors: Vec<Door>, shared: &Arc<Shared>) -> Drain {
    let (stage, stages) = watch::channel(Stage::Serving);
    let (here, gone) = mpsc::channel(1);
    for door in doors {
        let running = Running::new(here.clone(), stages.clone());
        tokio::spawn(accept(Arc::new(door), shared.clone(), running));
    }
    Drain { gone, stage }
}

impl Drain {
    /// Lets what is under way finish within `limit`, then cuts it.
    pub(crate) async fn drain(mut self, limit: Duration) {
        self.stage.send_replace(Stage::Draining);
        if tokio::time::timeout(limit, self.gone.recv()).await.is_err() {
            tracing::warn!("what was still under way is cut");
            self.stage.send_replace(Stage::Cut);
            let _ = tokio::time::timeout(Duration::from_secs(1), self.gone.recv()).await;
        }
    }
}

impl Door {
    /// Its name and where it is bound.
    pub(crate) fn address(&self) -> (Name, SocketAddr) {
        (self.name.clone(), self.address)
    }
}

async fn accept(door: Arc<Door>, shared: Arc<Shared>, mut running: Running) {
    let places = Arc::new(Semaphore::new(door.limits.connections as usize));
    loop {
        let accepted = tokio::select! {
            biased;
            () = running.reaches(Stage::Draining) => return,
            accepted = door.socket.accept() => accepted,
        };
        let (stream, source) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, door = %door.name, "can't accept");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // Over the limit a connection is closed unheard: whoever comes next finds the door open.
        let Ok(permit) = places.clone().try_acquire_owned() else {
            tracing::warn!(door = %door.name, %source, "too many connections");
            continue;
        };
        let place = Arc::new(Place::new(permit, running.clone()));
        let (door, shared) = (door.clone(), shared.clone());
        tokio::spawn(async move { connect(&door, &shared, stream, source, place).await });
    }
}

async fn connect(
    door: &Door,
    shared: &Arc<Shared>,
    stream: TcpStream,
    source: SocketAddr,
    place: Arc<Place>,
) {
    let _ = stream.set_nodelay(true);
    let handshake = door.acceptor.accept(stream, Instant::now() + HANDSHAKE);
    let accepted = tokio::select! {
        biased;
        () = place.cut() => return,
        accepted = handshake => accepted,
    };
    match accepted {
        Ok((stream, established)) => {
            let connected = connected::Connected {
                door: door.name.clone(),
                kind: door.kind,
                place,
                source,
                sni: established.sni,
                peer: established.peer,
                tls: established.tls,
            };
            let http2 = established.alpn.as_deref() == Some(b"h2");
            connection::serve(stream, http2, connected, shared, door.limits).await;
        }
        Err(refused) => record(door, shared, source, *refused).await,
    }
}

/// A refused handshake is decided and recorded like any other refusal.
async fn record(door: &Door, shared: &Shared, source: SocketAddr, refused: Refused) {
    tracing::info!(door = %door.name, %source, detail = refused.detail, "a handshake was refused");
    let ask = Ask {
        door: door.name.clone(),
        service: String::new(),
        operation: Operation::named("connect", ""),
        evidence: connected::evidence(refused.peer, refused.tls),
        facts: Facts::default(),
        context: Context {
            source_ip: Some(source.ip().to_canonical()),
            ..Context::default()
        },
    };
    // There is nobody to tell, and nothing to forward were it admitted.
    let _ = shared.plane.point.enforce(ask).await;
}
