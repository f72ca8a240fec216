//! Kept connections of HTTP/1.1.

use super::Shared;
use super::connections;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use std::rc::Rc;
use std::time::Instant;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A connection that asks and waits for the whole answer.
pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    buffer: Vec<u8>,
}

/// The longest body that is kept.
const KEPT: usize = 64 << 10;

impl Connection {
    /// Wraps an open stream.
    pub(crate) fn new(stream: TlsStream<TcpStream>) -> Self {
        let buffer = Vec::with_capacity(KEPT);
        Self { stream, buffer }
    }

    /// The body of the last answer, if it was short.
    pub(crate) fn body(&self) -> &[u8] {
        &self.buffer
    }

    /// Sends `request` and reads its answer to the end. Gives the status.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Result<u16> {
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        self.buffer.clear();
        let head = loop {
            if let Some(end) = memchr::memmem::find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
            ensure!(
                self.buffer.len() < KEPT,
                "the head of the answer is too long"
            );
            self.more().await?;
        };
        let text = std::str::from_utf8(self.buffer.get(..head).unwrap_or_default())?;
        let status = text.get(9..12).context("no status")?.parse()?;
        let Some(length) = length(text)? else {
            bail!("an answer without `content-length`: {text}");
        };
        self.buffer.drain(..head);
        let mut read = self.buffer.len();
        while read < length {
            if length > KEPT {
                self.buffer.clear();
            }
            let before = self.buffer.len();
            self.more().await?;
            read += self.buffer.len() - before;
        }
        ensure!(read == length, "more than the answer came");
        Ok(status)
    }

    async fn more(&mut self) -> Result<()> {
        let read = self.stream.read_buf(&mut self.buffer).await?;
        ensure!(read > 0, "the connection ended before the answer did");
        Ok(())
    }
}

fn length(head: &str) -> Result<Option<usize>> {
    for line in head.lines() {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        if name.eq_ignore_ascii_case("content-length") {
            return Ok(Some(value.trim().parse()?));
        }
    }
    Ok(None)
}

/// The bytes of a request with this token.
pub(crate) fn request(host: &str, path: &str, token: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\n\r\n")
        .into_bytes()
}

/// Asks over `count` connections until the time is over.
pub(super) async fn run(shared: &Rc<Shared>, count: usize, warm: bool) -> Result<()> {
    let connector = connections::connector(shared, b"http/1.1")?;
    let requests: Rc<Vec<Vec<u8>>> = Rc::new(
        shared
            .tokens
            .iter()
            .map(|token| request(&shared.spec.host, &shared.spec.path, token))
            .collect(),
    );
    let mut open = Vec::with_capacity(count);
    let first = requests.first().context("no token")?;
    for _ in 0..count {
        let mut connection = Connection::new(connections::open(shared, &connector).await?);
        if warm {
            // With thousands of them the last is open long after the first, and a server does not
            // wait for ever for what a connection begins with.
            let status = connection.ask(first).await?;
            ensure!(status == 200, "status {status}");
        }
        open.push(connection);
    }
    if warm {
        shared.warm();
        open = round(shared, &requests, &connector, open).await?;
    }
    shared.begin()?;
    round(shared, &requests, &connector, open).await?;
    Ok(())
}

async fn round(
    shared: &Rc<Shared>,
    requests: &Rc<Vec<Vec<u8>>>,
    connector: &TlsConnector,
    open: Vec<Connection>,
) -> Result<Vec<Connection>> {
    let mut tasks = JoinSet::new();
    for connection in open {
        let (shared, requests, connector) = (shared.clone(), requests.clone(), connector.clone());
        tasks.spawn_local(
            async move { keep_asking(&shared, &requests, &connector, connection).await },
        );
    }
    let mut open = Vec::new();
    while let Some(connection) = tasks.join_next().await {
        open.push(connection??);
    }
    Ok(open)
}

async fn keep_asking(
    shared: &Shared,
    requests: &[Vec<u8>],
    connector: &TlsConnector,
    mut connection: Connection,
) -> Result<Connection> {
    while let Some(number) = shared.next() {
        let due = shared.due(number);
        if let Some(due) = due {
            tokio::time::sleep_until(due.into()).await;
        }
        let since = due.unwrap_or_else(Instant::now);
        let request = requests.get(number % requests.len()).context("no token")?;
        match connection.ask(request).await {
            Ok(200) => shared.answered(since),
            Ok(status) => {
                let body = String::from_utf8_lossy(connection.body());
                shared.failed(&anyhow::anyhow!("status {status}: {body}"));
            }
            Err(error) => {
                shared.failed(&error);
                connection = Connection::new(connections::open(shared, connector).await?);
            }
        }
    }
    Ok(connection)
}
