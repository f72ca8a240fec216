//! An application on loopback: says what reached it, and can answer without ever ending.

use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncBufReadExt;
use tokio::io::AsyncWriteExt;
use tokio::io::BufReader;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

/// An application that runs as long as its runtime.
pub(crate) struct Upstream {
    pub(crate) port: u16,
    seen: Arc<Mutex<Vec<String>>>,
}

/// How often an endless answer says something.
const BEAT: Duration = Duration::from_millis(20);

impl Upstream {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen_here = seen.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // Its caller may be killed at any moment.
                let seen = seen_here.clone();
                tokio::spawn(async move { serve(stream, &seen).await });
            }
        });
        Self { port, seen }
    }

    /// How many requests reached it.
    pub(crate) fn count(&self) -> usize {
        self.seen.lock().len()
    }

    /// The paths that reached it since the last time.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock())
    }
}

async fn serve(stream: TcpStream, seen: &Mutex<Vec<String>>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    while let Some(request) = lines.next_line().await? {
        while lines
            .next_line()
            .await?
            .is_some_and(|line| !line.is_empty())
        {}
        let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
        seen.lock().push(path.clone());
        let endless = match path.as_str() {
            "/events" => Some("text/event-stream"),
            "/slow" => Some("application/octet-stream"),
            _ => None,
        };
        let Some(content_type) = endless else {
            let body = r#"{"it":"here"}"#;
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json";
            let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            write.write_all(answer.as_bytes()).await?;
            continue;
        };
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {content_type}");
        let head = format!("{head}\r\ntransfer-encoding: chunked\r\n\r\n");
        write.write_all(head.as_bytes()).await?;
        loop {
            write.write_all(b"9\r\ndata: 1\n\n\r\n").await?;
            tokio::time::sleep(BEAT).await;
        }
    }
    Ok(())
}
