//! Connections as such: what their handshakes cost, and what they hold while idle.

use super::Shared;
use super::http1::Connection;
use super::http1::request;
use crate::tls;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use rustls::HandshakeKind;
use rustls::NamedGroup;
use rustls::client::ClientSessionStore;
use rustls::client::Tls12ClientSessionValue;
use rustls::client::Tls13ClientSessionValue;
use rustls_pki_types::ServerName;
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use std::time::Instant;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How long the other side may take to end a connection that we ended.
const PATIENCE: Duration = Duration::from_secs(5);
/// What a load generator says of a server that never gives a session to continue.
pub(crate) const NO_TICKET: &str = "no session to continue came";
/// Handshakes before it counts.
const WARM: usize = 20;

/// Opens a connection of `protocol` (ALPN) and completes its handshake.
pub(super) async fn open(
    shared: &Shared,
    connector: &TlsConnector,
) -> Result<TlsStream<TcpStream>> {
    tls::connect(connector, shared.spec.address, &shared.spec.host).await
}

/// A connector with the identity of the run; it never continues a session.
pub(super) fn connector(shared: &Shared, protocol: &[u8]) -> Result<TlsConnector> {
    let config = tls::client(&shared.spec.identity, true, protocol, None)?;
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Handshakes one after the other, all of them full or all of them resumed.
///
/// Tickets are drawn before it counts, by connections that asked once: some servers send theirs
/// with their first answer and not before. Each is used once.
pub(super) async fn handshakes(shared: &Shared, resumed: bool, count: usize) -> Result<()> {
    let tickets = Arc::new(Tickets::default());
    let config = tls::client(
        &shared.spec.identity,
        true,
        b"http/1.1",
        Some(tickets.clone()),
    )?;
    let connector = TlsConnector::from(Arc::new(config));
    let kind = if resumed {
        draw_tickets(shared, &connector, &tickets, count + WARM).await?;
        HandshakeKind::Resumed
    } else {
        HandshakeKind::Full
    };
    tickets.spend();
    for _ in 0..WARM {
        once(shared, &connector, kind).await?;
    }
    shared.begin()?;
    for _ in 0..count {
        let start = Instant::now();
        match once(shared, &connector, kind).await {
            Ok(()) => shared.answered(start),
            Err(error) => shared.failed(&error),
        }
    }
    Ok(())
}

/// Has this many tickets, or says that none come.
async fn draw_tickets(
    shared: &Shared,
    connector: &TlsConnector,
    tickets: &Tickets,
    count: usize,
) -> Result<()> {
    let token = shared.tokens.first().context("no token")?;
    let request = request(&shared.spec.host, &shared.spec.path, token);
    while tickets.len() < count {
        let before = tickets.len();
        let mut connection = Connection::new(open(shared, connector).await?);
        let status = connection.ask(&request).await?;
        ensure!(status == 200, "status {status}");
        ensure!(tickets.len() > before, "{NO_TICKET}");
    }
    Ok(())
}

/// One connection of a handshake and nothing else.
async fn once(shared: &Shared, connector: &TlsConnector, kind: HandshakeKind) -> Result<()> {
    let mut stream = open(shared, connector).await?;
    let is = stream.get_ref().1.handshake_kind();
    ensure!(is == Some(kind), "a handshake was {is:?}, not {kind:?}");
    // To its end: in TLS 1.3 a server looks at the client's certificate only when the client is
    // through, and an alert is all that tells of one that it did not like.
    stream.shutdown().await?;
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    match ended.context("the connection does not end")? {
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            Err(error).context("behind the handshake")
        }
        // Whatever is said to somebody who asked for nothing, and whoever ends a connection without
        // a word (RFC 8446 section 6.1) or resets it.
        _ => Ok(()),
    }
}

/// Sessions to continue, each of them once; drawn first, spent later.
#[derive(Debug, Default)]
struct Tickets {
    kept: Mutex<VecDeque<Tls13ClientSessionValue>>,
    /// Whether none comes in any more, and those that came are given out.
    spent: AtomicBool,
}

impl Tickets {
    fn spend(&self) {
        self.spent.store(true, Relaxed);
    }

    fn len(&self) -> usize {
        self.kept.lock().map_or(0, |kept| kept.len())
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        // There is one group.
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        if self.spent.load(Relaxed) {
            return;
        }
        if let Ok(mut kept) = self.kept.lock() {
            kept.push_back(value);
        }
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        if !self.spent.load(Relaxed) {
            return None;
        }
        self.kept.lock().ok()?.pop_front()
    }
}

/// Opens connections, asks once over each, and holds them until a line comes: what a kept
/// connection holds between two requests is more than what one holds that never asked.
pub(super) async fn idle(shared: &Shared, connections: usize) -> Result<()> {
    let connector = connector(shared, b"http/1.1")?;
    let mut held = Vec::with_capacity(connections);
    let token = shared.tokens.first().context("no token")?;
    let request = request(&shared.spec.host, &shared.spec.path, token);
    for _ in 0..connections {
        let mut connection = Connection::new(open(shared, &connector).await?);
        let status = connection.ask(&request).await?;
        ensure!(status == 200, "status {status}");
        held.push(connection);
    }
    shared.begin()?;
    shared.done.set(u64::try_from(held.len())?);
    Ok(())
}
