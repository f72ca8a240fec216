//! One listener: its socket, and what new connections there are held to.

use super::connection;
use super::peers::Peers;
use crate::connected;
use crate::error::GatewayError;
use crate::place::Place;
use crate::place::Running;
use crate::place::Stage;
use crate::shared::Shared;
use crate::workers::Crew;
use countersign_core::config::Attached;
use countersign_core::config::DoorTls;
use countersign_core::config::Limits;
use countersign_core::config::Listener as Configured;
use countersign_core::config::PeerKind;
use countersign_core::hop::Facts;
use countersign_core::record::Context;
use countersign_core::snapshot::DoorKind;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::Operation;
use countersign_enforce::Ask;
use countersign_enforce::EachSecond;
use countersign_net::Acceptor;
use countersign_net::AcceptorError;
use countersign_net::Authorities;
use countersign_net::Established;
use countersign_net::Listener;
use countersign_net::Refused;
use countersign_net::Roots;
use countersign_net::Sockets;
use countersign_net::SvidSource;
use countersign_net::places::Held;
use std::io;
use std::net;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::time::Instant;

static CLOSED: EachSecond = EachSecond::new();
static CROWDED: EachSecond = EachSecond::new();
static UNSERVED: EachSecond = EachSecond::new();

/// What new connections of a listener are held to; those that are there keep what they began with.
#[derive(Debug)]
pub(super) struct Door {
    acceptor: Arc<Acceptor>,
    kind: DoorKind,
    limits: Limits,
    name: Name,
    proof: Proof,
    stage: Arc<watch::Sender<Stage>>,
}

/// What a handshake at a listener proves, and by what: another one discards the TLS sessions of
/// the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Proof {
    client_ca: Option<Attached>,
    peer: PeerKind,
    tls: DoorTls,
    tls12: bool,
}

/// What a listener's socket needs of its gateway.
#[derive(Clone, Debug)]
pub(super) struct Around {
    pub(super) crew: Arc<Crew>,
    pub(super) gateway: watch::Receiver<Stage>,
    pub(super) here: mpsc::Sender<()>,
    pub(super) shared: Arc<Shared>,
}

/// Time for a TLS handshake, which begins with one flight from the client.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Pause after an error of `accept`, such as too many open files.
const PAUSE: Duration = Duration::from_millis(50);
/// How long what is under way at a listener may take when the configuration has it no more.
const DRAIN: Duration = Duration::from_secs(30);

impl Door {
    /// As configured. What is the same `before` stays: its TLS sessions, and the end that its
    /// connections listen for.
    pub(super) fn new(
        name: &Name,
        listener: &Configured,
        before: Option<&Self>,
        (roots, svid): (&Arc<Roots>, &Arc<SvidSource>),
    ) -> Result<Self, AcceptorError> {
        let proof = Proof::of(listener);
        let kind = match listener.peer {
            PeerKind::Browser => DoorKind::Browser,
            PeerKind::Partner => DoorKind::Partner,
            _ => DoorKind::Mesh,
        };
        let same = before.filter(|before| before.name == *name && before.proof == proof);
        let (acceptor, stage) = match same {
            Some(before) => (before.acceptor.clone(), before.stage.clone()),
            None => {
                let acceptor = Acceptor::new(tls(listener, roots, svid)?)?;
                let stage = watch::Sender::new(Stage::Serving);
                (Arc::new(acceptor), Arc::new(stage))
            }
        };
        Ok(Self {
            acceptor,
            kind,
            limits: listener.limits,
            name: name.clone(),
            proof,
            stage,
        })
    }

    pub(super) const fn name(&self) -> &Name {
        &self.name
    }

    /// Ends the connections that were made by other rules than those of `next`, each as gently as
    /// what changed allows.
    pub(super) fn replaced_by(&self, next: &Self) {
        if Arc::ptr_eq(&self.stage, &next.stage) {
            return;
        }
        if self.name == next.name && self.proof.peer == next.proof.peer {
            // Each request on them is decided by the policy in force, TLS version included.
            self.stage.send_replace(Stage::Retiring);
        } else {
            self.end();
        }
    }

    /// Ends its connections after what is under way on them.
    pub(super) fn end(&self) {
        self.stage.send_replace(Stage::Draining);
        let stage = self.stage.clone();
        tokio::spawn(async move {
            tokio::time::sleep(DRAIN).await;
            stage.send_replace(Stage::Cut);
        });
    }
}

impl Proof {
    fn of(listener: &Configured) -> Self {
        Self {
            client_ca: listener.client_ca.clone(),
            peer: listener.peer,
            tls: listener.tls.clone(),
            tls12: listener.tls12.is_some(),
        }
    }
}

fn tls(
    listener: &Configured,
    roots: &Arc<Roots>,
    svid: &Arc<SvidSource>,
) -> Result<Listener, AcceptorError> {
    Ok(match listener.peer {
        PeerKind::Partner => {
            let file = listener.client_ca.as_ref();
            // Without a file nobody is believed, which is an error of its own.
            let text = file.map_or("", |file| &*file.text);
            Listener::Partner {
                authorities: Arc::new(Authorities::from_pem(text.as_bytes())?),
                roots: roots.clone(),
                svid: svid.clone(),
            }
        }
        PeerKind::Browser => Listener::Browser {
            certificates: svid.clone(),
            tls12: listener.tls12.is_some(),
        },
        _ => Listener::Mutual {
            resumption: true,
            roots: roots.clone(),
            svid: svid.clone(),
        },
    })
}

/// A socket that listens, though nobody accepts yet.
pub(super) fn bind(
    sockets: &Sockets,
    name: &Name,
    address: SocketAddr,
) -> Result<net::TcpListener, GatewayError> {
    let socket = sockets.listen(name.as_str(), address);
    let socket = socket.and_then(TcpListener::into_std);
    socket.map_err(|source| GatewayError::Bind {
        address,
        name: name.clone(),
        source,
    })
}

/// The same, where `thread` hears of who comes.
pub(super) fn heard_by(thread: &Handle, socket: net::TcpListener) -> io::Result<TcpListener> {
    let _there = thread.enter();
    TcpListener::from_std(socket)
}

/// Accepts until the gateway drains or `doors` has no sender any more, and whom the system has
/// accepted until then: to them the door was open.
pub(super) async fn accept(
    socket: TcpListener,
    mut doors: watch::Receiver<Arc<Door>>,
    mut around: Around,
) {
    let peers = Peers::none();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = around.gateway.wait_for(|now| *now >= Stage::Draining) => break,
            changed = doors.changed() => {
                if changed.is_err() {
                    break;
                }
                continue;
            }
            accepted = socket.accept() => accepted,
        };
        let door = doors.borrow().clone();
        match accepted {
            Ok(accepted) => enter(door, &peers, accepted, &around),
            Err(error) => {
                tracing::warn!(%error, door = %door.name, "can't accept");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    let door = doors.borrow().clone();
    for accepted in waiting(socket) {
        enter(door.clone(), &peers, accepted, &around);
    }
}

/// The connections that the system has accepted and we have not. It is asked itself: the runtime
/// knows of them only once it has been told.
fn waiting(socket: TcpListener) -> Vec<(TcpStream, SocketAddr)> {
    let mut found = Vec::new();
    let Ok(socket) = socket.into_std() else {
        return found;
    };
    // It never blocks, as it never has.
    while socket.set_nonblocking(true).is_ok() {
        match socket.accept() {
            Ok((stream, source)) => {
                let nonblocking = stream.set_nonblocking(true);
                if let Ok(stream) = nonblocking.and_then(|()| TcpStream::from_std(stream)) {
                    found.push((stream, source));
                }
            }
            // One that has gone again, or a signal: the next may be there.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted
                ) => {}
            Err(_) => break,
        }
    }
    found
}

fn enter(
    door: Arc<Door>,
    peers: &Peers,
    (stream, source): (TcpStream, SocketAddr),
    around: &Around,
) {
    // Over the limit a connection is closed unheard: whoever comes next finds the door open.
    let (seat, shaking) = match peers.shakes(source, door.limits.connections) {
        Ok(taken) => taken,
        Err(full) => {
            if let Some(untold) = CLOSED.tell() {
                tracing::warn!(door = %door.name, %source, %full, untold, "closed");
            }
            return;
        }
    };
    let Some((thread, there)) = around.crew.least() else {
        if let Some(untold) = UNSERVED.tell() {
            tracing::error!(door = %door.name, untold, "no thread is left to serve a connection");
        }
        return;
    };
    let stream = match Accepted::for_thread(thread, stream) {
        Ok(stream) => stream,
        Err(error) => return tracing::warn!(%error, %source, "can't hand on"),
    };
    let (gateway, here) = (around.gateway.clone(), around.here.clone());
    let running = Running::new(here, gateway, door.stage.clone());
    let place = Place::new([seat, there], running, door.limits.streams);
    let (shared, peers) = (around.shared.clone(), peers.clone());
    thread.spawn(async move {
        match stream.here() {
            Ok(stream) => {
                let (at, held) = ((stream, source), (shaking, peers));
                connect(&door, &shared, at, Arc::new(place), held).await;
            }
            Err(error) => tracing::warn!(%error, %source, "can't serve"),
        }
    });
}

/// A connection on its way to the thread that serves it.
enum Accepted {
    /// On that of its listener.
    Same(TcpStream),
    /// On another one.
    Other(net::TcpStream),
}

impl Accepted {
    fn for_thread(thread: &Handle, stream: TcpStream) -> io::Result<Self> {
        if thread.id() == Handle::current().id() {
            return Ok(Self::Same(stream));
        }
        stream.into_std().map(Self::Other)
    }

    fn here(self) -> io::Result<TcpStream> {
        match self {
            Self::Same(stream) => Ok(stream),
            Self::Other(stream) => TcpStream::from_std(stream),
        }
    }
}

async fn connect(
    door: &Door,
    shared: &Arc<Shared>,
    (stream, source): (TcpStream, SocketAddr),
    place: Arc<Place>,
    (shaking, peers): (Held<IpAddr>, Peers),
) {
    let _ = stream.set_nodelay(true);
    // Boxes: what a connection keeps while nothing is asked is the room for serving it, and not
    // that for its handshake or its refusal.
    let Some(accepted) = Box::pin(shaken(door, stream, &place)).await else {
        return;
    };
    drop(shaking);
    match accepted {
        Ok((stream, established)) => {
            let connected = connected::Connected {
                chain: established.chain,
                door: door.name.clone(),
                kind: door.kind,
                place,
                source,
                source_text: source.ip().to_canonical().to_string(),
                sni: established.sni,
                peer: established.peer,
                tls: established.tls,
            };
            let Some(part) = peers.enters(&connected, door.limits.connections) else {
                if let Some(untold) = CROWDED.tell() {
                    let door = &door.name;
                    tracing::warn!(%door, %source, untold, "too many connections of one peer");
                }
                return;
            };
            connected.place.counts_for(part);
            let http2 = established.alpn.as_deref() == Some(b"h2");
            connection::serve(stream, http2, connected, shared, door.limits).await;
        }
        Err(refused) => Box::pin(record(door, shared, source, *refused)).await,
    }
}

/// A connection after its handshake; none where it was cut before. In a box, because it is handed
/// on from layer to layer.
async fn shaken(
    door: &Door,
    stream: TcpStream,
    place: &Place,
) -> Option<Result<(Box<impl Stream + use<>>, Established), Box<Refused>>> {
    let handshake = door.acceptor.accept(stream, Instant::now() + HANDSHAKE);
    let accepted = tokio::select! {
        biased;
        () = place.cut() => return None,
        accepted = handshake => accepted,
    };
    Some(accepted.map(|(stream, established)| (Box::new(stream), established)))
}

/// What a connection is read from and written to.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for IO {}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(
        clippy::disallowed_methods,
        reason = "callers that the runtime knows nothing of"
    )]
    #[tokio::test]
    async fn whom_the_system_has_accepted_is_found_though_the_runtime_has_not_looked() {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let callers: Vec<_> = (0..5)
            .map(|_| net::TcpStream::connect(address).unwrap())
            .collect();
        let found: Vec<_> = waiting(socket).into_iter().map(|(_, it)| it).collect();
        assert_eq!(found.len(), callers.len());
        for caller in callers {
            assert!(found.contains(&caller.local_addr().unwrap()));
        }
    }
}
