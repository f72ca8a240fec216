//! An application on loopback that keeps the heads of its requests.

use parking_lot::Mutex;
use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;

pub(crate) struct Application {
    pub(crate) port: u16,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Application {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let keep = heads.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let keep = keep.clone();
                std::thread::spawn(move || serve(stream, &keep));
            }
        });
        Self { port, heads }
    }

    /// The head of the last request, in lower case.
    pub(crate) fn last(&self) -> String {
        self.heads.lock().last().cloned().unwrap_or_default()
    }
}

/// Answers requests one after the other; a stream never ends before its reader does.
fn serve(mut stream: TcpStream, heads: &Mutex<Vec<String>>) -> Option<()> {
    let mut held = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let end = loop {
            if let Some(end) = memchr::memmem::find(&held, b"\r\n\r\n") {
                break end + 4;
            }
            let read = stream.read(&mut chunk).ok().filter(|read| *read > 0)?;
            held.extend_from_slice(&chunk[..read]);
        };
        let head = String::from_utf8_lossy(&held[..end]).to_ascii_lowercase();
        held.drain(..end);
        let length = head.split("content-length: ").nth(1);
        let length = length.and_then(|it| it.split('\r').next()?.parse().ok());
        let length: usize = length.unwrap_or(0);
        while held.len() < length {
            let read = stream.read(&mut chunk).ok().filter(|read| *read > 0)?;
            held.extend_from_slice(&chunk[..read]);
        }
        held.drain(..length);
        let endless = head.starts_with("get /items/stream");
        heads.lock().push(head);
        if endless {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n";
            let answer = format!("{head}transfer-encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n");
            stream.write_all(answer.as_bytes()).ok()?;
            // Until whoever reads it goes away.
            let _ = stream.read(&mut chunk);
            return None;
        }
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        stream.write_all(answer).ok()?;
    }
}
