//! Connections as such: what their handshakes cost, and what they hold while idle.

use super::Shared;
use crate::tls;
use anyhow::Result;
use anyhow::ensure;
use rustls::HandshakeKind;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How long is waited for a ticket before it is looked whether it is there.
const A_MOMENT: Duration = Duration::from_millis(1);
/// How long a ticket may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Opens a connection of `protocol` (ALPN) and completes its handshake.
pub(super) async fn open(
    shared: &Shared,
    connector: &TlsConnector,
) -> Result<TlsStream<TcpStream>> {
    tls::connect(connector, shared.spec.address, &shared.spec.host).await
}

/// A connector with the identity of the run.
pub(super) fn connector(shared: &Shared, protocol: &[u8], resume: bool) -> Result<TlsConnector> {
    let config = tls::client(&shared.spec.identity, true, protocol, resume)?;
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Handshakes one after the other.
pub(super) async fn handshakes(shared: &Shared, resumed: bool, count: usize) -> Result<()> {
    let connector = connector(shared, b"http/1.1", resumed)?;
    // The first can't continue anything, and the ticket for the next comes behind the handshake.
    for _ in 0..20 {
        once(shared, &connector, None, resumed).await?;
    }
    shared.begin()?;
    let kind = if resumed {
        HandshakeKind::Resumed
    } else {
        HandshakeKind::Full
    };
    for _ in 0..count {
        let start = Instant::now();
        match once(shared, &connector, Some(kind), resumed).await {
            Ok(()) => shared.answered(start),
            Err(error) => shared.failed(&error),
        }
    }
    Ok(())
}

async fn once(
    shared: &Shared,
    connector: &TlsConnector,
    kind: Option<HandshakeKind>,
    resume: bool,
) -> Result<()> {
    let mut stream = open(shared, connector).await?;
    if resume {
        // A ticket comes behind the handshake without being asked for; there is nothing else to
        // read.
        let start = Instant::now();
        while stream.get_ref().1.tls13_tickets_received() == 0 {
            ensure!(start.elapsed() < PATIENCE, "no ticket came");
            let mut nothing = [0; 1];
            let _ = tokio::time::timeout(A_MOMENT, stream.read(&mut nothing)).await;
        }
    }
    if let Some(kind) = kind {
        let is = stream.get_ref().1.handshake_kind();
        ensure!(is == Some(kind), "a handshake was {is:?}, not {kind:?}");
    }
    Ok(())
}

/// Opens connections and holds them until a line comes.
pub(super) async fn idle(shared: &Shared, connections: usize) -> Result<()> {
    let connector = connector(shared, b"http/1.1", false)?;
    let mut held = Vec::with_capacity(connections);
    for _ in 0..connections {
        held.push(open(shared, &connector).await?);
    }
    shared.begin()?;
    shared.done.set(u64::try_from(held.len())?);
    Ok(())
}
