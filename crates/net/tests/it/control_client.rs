//! The client for our own control calls, against a hyper server behind our own listener.

#![expect(clippy::unwrap_used, reason = "tests")]

use crate::pki::Pki;
use crate::support::local;
use crate::support::soon;
use bytes::Bytes;
use countersign_net::Acceptor;
use countersign_net::Connector;
use countersign_net::Dialer;
use countersign_net::Listener;
use countersign_net::Roots;
use countersign_net::Source;
use countersign_net::SvidSource;
use countersign_net::http::Client;
use countersign_net::http::ClientError;
use countersign_net::http::Limits;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::Request;
use hyper::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::net::UnixListener;
use tokio::sync::Notify;

const LIMITS: Limits = Limits {
    body: 1000,
    time: Duration::from_secs(50),
};

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let host = request
        .headers()
        .get("host")
        .map(|host| host.to_str().unwrap().to_owned());
    let host = host.or_else(|| request.uri().authority().map(ToString::to_string));
    let version = format!("{:?}", request.version());
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let (status, text) = match path.as_str() {
        "/large" => (200, "x".repeat(1001)),
        "/slow" => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            (200, String::new())
        }
        "/away" => (302, String::new()),
        _ => (
            200,
            format!(
                "{version} {path} {} {}",
                host.unwrap_or_default(),
                body.len()
            ),
        ),
    };
    let response = Response::builder()
        .status(status)
        .header("location", "https://evil.example/");
    Ok(response.body(Full::new(text.into())).unwrap())
}

struct Setup {
    client: Client,
    connections: Arc<AtomicUsize>,
    own: Arc<SvidSource>,
    pki: Pki,
    port: u16,
}

async fn setup(alpn: &[&str]) -> Setup {
    countersign_net::install_crypto().unwrap();
    let pki = Pki::new("acme.internal");
    let roots = Roots::new(pki.bundle(1));
    let svid = Source::new(pki.svid("server"));
    let listener = Listener::Mutual {
        resumption: false,
        roots: roots.clone(),
        svid,
    };
    let acceptor = Acceptor::new(listener).unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = socket.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let Ok((stream, _)) = acceptor.accept(stream, soon()).await else {
                continue;
            };
            tokio::spawn(async move {
                let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                let (io, service) = (TokioIo::new(stream), service_fn(answer));
                if http2 {
                    let server = http2::Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(io, service).await;
                } else {
                    let _ = http1::Builder::new().serve_connection(io, service).await;
                }
            });
        }
    });
    let own = Source::new(pki.svid("frontend"));
    let connector = Connector::mutual(own.clone(), roots, pki.id("server")).unwrap();
    let connector = connector.with_alpn(alpn).unwrap();
    let client = Client::tls(Dialer, connector, "server.acme.internal", local(port));
    Setup {
        client,
        connections,
        own,
        pki,
        port,
    }
}

fn get(path: &str) -> Request<Bytes> {
    Request::get(path)
        .body(Bytes::from_static(b"four"))
        .unwrap()
}

#[tokio::test]
async fn both_versions_reuse_until_we_rotate() {
    for (alpn, version) in [("h2", "HTTP/2.0"), ("http/1.1", "HTTP/1.1")] {
        let setup = setup(&[alpn]).await;
        for _ in 0..3 {
            let response = setup.client.request(get("/a?b=c"), LIMITS).await.unwrap();
            let expect = format!("{version} /a server.acme.internal:{} 4", setup.port);
            assert_eq!(response.body(), &expect);
        }
        assert_eq!(setup.connections.load(Ordering::SeqCst), 1, "{alpn}");
        setup.own.rotate(setup.pki.svid("frontend"));
        setup.client.request(get("/a"), LIMITS).await.unwrap();
        assert_eq!(
            setup.connections.load(Ordering::SeqCst),
            2,
            "{alpn}: with the new leaf"
        );
    }
}

#[tokio::test]
async fn many_at_once() {
    for alpn in ["h2", "http/1.1"] {
        let setup = setup(&[alpn]).await;
        let calls: Vec<_> = (0..20)
            .map(|_| {
                let client = setup.client.clone();
                tokio::spawn(async move { client.request(get("/a"), LIMITS).await })
            })
            .collect();
        for call in calls {
            assert_eq!(call.await.unwrap().unwrap().status(), 200, "{alpn}");
        }
    }
}

#[tokio::test]
async fn limits_and_no_redirects() {
    let setup = setup(&["h2", "http/1.1"]).await;
    let large = setup.client.request(get("/large"), LIMITS).await;
    assert!(matches!(large, Err(ClientError::TooLarge(_))), "{large:?}");
    let hurry = Limits {
        time: Duration::from_millis(200),
        ..LIMITS
    };
    let slow = setup.client.request(get("/slow"), hurry).await;
    assert!(matches!(slow, Err(ClientError::TimedOut(_))), "{slow:?}");
    let away = setup.client.request(get("/away"), LIMITS).await.unwrap();
    assert_eq!(away.status(), 302);
    setup.client.request(get("/a"), LIMITS).await.unwrap();
}

#[tokio::test]
async fn a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let gone = Arc::new(Notify::new());
    let told = gone.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let told = told.clone();
            tokio::spawn(async move {
                let io = TokioIo::new(stream);
                let served = http1::Builder::new().serve_connection(io, service_fn(answer));
                tokio::select! {
                    _ = served => {}
                    () = told.notified() => {}
                }
            });
        }
    });
    let client = Client::unix(Dialer, path);
    for restarted in [false, true, false] {
        if restarted {
            // The connection of before is gone: the client must notice.
            gone.notify_waiters();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let response = client.request(get("/x"), LIMITS).await.unwrap();
        assert_eq!(response.body(), "HTTP/1.1 /x localhost 4");
    }
}
