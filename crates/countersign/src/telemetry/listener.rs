//! Health and metrics over plain HTTP/1.1, for whoever is on this machine.

use super::exposition::Form;
use super::health::Health;
use super::metrics::Metrics;
use bytes::Bytes;
use countersign_net::Sockets;
use countersign_net::places::Places;
use http::HeaderValue;
use http::Method;
use http::Request;
use http::Response;
use http::StatusCode;
use http::header;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// A socket that answers until it is dropped.
#[derive(Debug)]
pub(crate) struct Listener {
    address: SocketAddr,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Answers {
    health: Arc<Health>,
    metrics: Arc<Metrics>,
}

/// Connections at once; who comes beyond is not served.
const CONNECTIONS: usize = 32;
/// And of one source, so that nobody keeps the probes of others out.
const PER_SOURCE: usize = 8;
/// How long the head of a request may take.
const HEAD: Duration = Duration::from_secs(2);
/// How long a connection may take; it carries one request.
const WHOLE: Duration = Duration::from_secs(5);
/// hyper's least read buffer, in bytes.
const BUFFER: usize = 8 * 1024;
const FIELDS: usize = 32;

impl Listener {
    /// Binds and answers.
    ///
    /// # Errors
    /// The system's, if the address can't be bound.
    pub(crate) fn open(
        sockets: &Sockets,
        address: SocketAddr,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        let listener = sockets.listen("metrics", address)?;
        let address = listener.local_addr()?;
        let answers = Arc::new(Answers { health, metrics });
        let task = tokio::spawn(serve(listener, answers));
        Ok(Self { address, task })
    }

    /// Where.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, answers: Arc<Answers>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let sources = Places::new();
    loop {
        let (stream, source) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "can't accept a connection for metrics");
                // Such as no file handle left: trying again at once would only burn time.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            tracing::debug!("too many connections for metrics");
            continue;
        };
        let Some(held) = sources.enter(one(source.ip()), PER_SOURCE) else {
            tracing::debug!(%source, "too many connections for metrics from one source");
            continue;
        };
        let answers = answers.clone();
        tokio::spawn(async move {
            let _places = (place, held);
            let _ = tokio::time::timeout(WHOLE, connection(stream, answers)).await;
        });
    }
}

/// What counts as one source: who asks here is near, and its neighbours ask as well. Of IPv6
/// everybody has a whole network.
fn one(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        source @ IpAddr::V4(_) => source,
        source @ IpAddr::V6(_) => countersign_enforce::network(source),
    }
}

async fn connection(stream: TcpStream, answers: Arc<Answers>) {
    let Ok(here) = stream.local_addr() else {
        return;
    };
    let service = service_fn(move |request| {
        let response = answers.answer(&request, here.ip());
        async move { Ok::<_, Infallible>(response) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(BUFFER)
        .max_headers(FIELDS)
        .keep_alive(false);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection for metrics broke off");
    }
}

impl Answers {
    fn answer(&self, request: &Request<Incoming>, here: IpAddr) -> Response<Full<Bytes>> {
        if !is_ours(request, here) {
            return plain(StatusCode::MISDIRECTED_REQUEST, "misdirected\n");
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
            let allowed = HeaderValue::from_static("GET, HEAD");
            response.headers_mut().insert(header::ALLOW, allowed);
            return response;
        }
        match request.uri().path() {
            "/livez" => plain(StatusCode::OK, "ok\n"),
            "/readyz" => self.readiness(request.uri().query() == Some("verbose")),
            "/metrics" => self.exposition(request),
            _ => plain(StatusCode::NOT_FOUND, "not found\n"),
        }
    }

    fn readiness(&self, verbose: bool) -> Response<Full<Bytes>> {
        let report = self.health.report();
        let ready = report.iter().all(|it| it.failed.is_none());
        let word = |ok: bool| if ok { "ok" } else { "failed" };
        let mut text = String::new();
        if verbose {
            for check in &report {
                text.push_str(check.name);
                text.push(' ');
                text.push_str(word(check.failed.is_none()));
                text.push('\n');
            }
        } else {
            text.push_str(word(ready));
            text.push('\n');
        }
        let status = if ready {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        plain(status, text)
    }

    fn exposition(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let accept = request.headers().get(header::ACCEPT);
        let form = Form::accepted(accept.and_then(|it| it.to_str().ok()));
        match self.metrics.render(&self.health, form) {
            Ok(text) => {
                let mut response = plain(StatusCode::OK, text);
                let kind = HeaderValue::from_static(form.content_type());
                response.headers_mut().insert(header::CONTENT_TYPE, kind);
                response
            }
            Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "failed\n"),
        }
    }
}

/// Whether the caller meant us: `localhost`, a loopback address, or the address it connected to. A
/// page whose name was made to lead here (DNS rebinding) still sends its own name.
fn is_ours(request: &Request<Incoming>, here: IpAddr) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    if request.uri().authority().is_some() {
        return false;
    }
    host.to_str().is_ok_and(|host| names_us(host, here))
}

fn names_us(host: &str, here: IpAddr) -> bool {
    let Ok(authority) = host.parse::<http::uri::Authority>() else {
        return false;
    };
    if authority.as_str().contains('@') {
        return false;
    }
    let name = authority.host();
    if name.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let literal = name.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let address = literal.unwrap_or(name).parse::<IpAddr>();
    address.is_ok_and(|it| {
        let it = it.to_canonical();
        it.is_loopback() || it == here.to_canonical()
    })
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_literals_and_localhost_are_us() {
        let here = IpAddr::from([10, 1, 2, 3]);
        for host in [
            "localhost",
            "LOCALHOST:9464",
            "127.0.0.1:1",
            "[::1]:9464",
            "[::1]",
            "127.8.8.8",
            "10.1.2.3:9464",
        ] {
            assert!(names_us(host, here), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:9464",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.1.2.4",
            "localhost@evil.example",
            "evil@localhost",
            "2130706433",
            "0.0.0.0",
            "a b",
        ] {
            assert!(!names_us(host, here), "{host}");
        }
    }
}
