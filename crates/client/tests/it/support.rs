//! A server (issuer and vault) and a mesh listener that note what they are asked, and answer what
//! they are told to.

use bytes::Bytes;
use countersign_client::Client;
use countersign_net::Acceptor;
use countersign_net::Listener;
use countersign_net::Roots;
use countersign_net::Source;
use countersign_testkit::pki::Pki;
use http::Request;
use http::Response;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::Instant;

pub(crate) struct Setup {
    pub(crate) client: Client,
    pub(crate) mesh: Arc<Played>,
    pub(crate) pki: Pki,
    pub(crate) server: Arc<Played>,
    _folder: tempfile::TempDir,
}

/// What one request brought.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) authorization: Option<String>,
    pub(crate) body: String,
    pub(crate) content_type: Option<String>,
    pub(crate) host: String,
    pub(crate) line: String,
}

#[derive(Default)]
pub(crate) struct Played {
    answers: Mutex<VecDeque<Response<Bytes>>>,
    seen: Mutex<Vec<Seen>>,
}

impl Played {
    /// Queues an answer.
    pub(crate) fn say(&self, status: u16, headers: &[(&str, &str)], body: &str) {
        let mut answer = Response::builder().status(status);
        for (name, value) in headers {
            answer = answer.header(*name, *value);
        }
        let answer = answer.body(Bytes::from(body.to_owned())).unwrap();
        self.answers.lock().unwrap().push_back(answer);
    }

    pub(crate) fn grant(&self, token: &str) {
        let body = format!(
            r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":60,"scope":"s"}}"#
        );
        self.say(200, &[("content-type", "application/json")], &body);
    }

    pub(crate) fn refuse(&self, status: u16, pillar: &str, code: &str, receipt: &str) {
        let headers = [
            ("countersign-pillar", pillar),
            ("countersign-receipt", receipt),
        ];
        self.say(
            status,
            &headers,
            &format!(r#"{{"pillar":"{pillar}","code":"{code}"}}"#),
        );
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let header = |name: &str| {
            request
                .headers()
                .get(name)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        let host = request.uri().authority().map(ToString::to_string);
        let mut seen = Seen {
            authorization: header("authorization"),
            body: String::new(),
            content_type: header("content-type"),
            host: host.or_else(|| header("host")).unwrap_or_default(),
            line: format!(
                "{} {}",
                request.method(),
                request.uri().path_and_query().unwrap()
            ),
        };
        let body = request.into_body().collect().await.unwrap().to_bytes();
        seen.body = String::from_utf8(body.to_vec()).unwrap();
        self.seen.lock().unwrap().push(seen);
        let answer = self.answers.lock().unwrap().pop_front();
        let teapot = || Response::builder().status(418).body(Bytes::new()).unwrap();
        answer.unwrap_or_else(teapot).map(Full::new)
    }
}

/// A client of identity `hms-api`; the two others are who they are told to be.
pub(crate) async fn setup_with(server: &str, gateway: &str) -> Setup {
    countersign_net::install_crypto().unwrap();
    let pki = Pki::new("acme.internal");
    let (server, server_port) = play(&pki, server).await;
    let (mesh, mesh_port) = play(&pki, gateway).await;
    let folder = tempfile::tempdir().unwrap();
    let issued = pki.issue("hms-api");
    let endpoints = format!(
        r#"{{"mesh":"127.0.0.1:{mesh_port}","server":"127.0.0.1:{server_port}","trust_domain":"acme.internal"}}"#
    );
    let files = [
        ("svid.pem", issued.chain_pem()),
        ("key.pem", issued.key_pem()),
        ("bundle.pem", pki.root_pem()),
        ("countersign.json", endpoints),
    ];
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let client = Client::from_dir(folder.path())
        .unwrap()
        .with_timeout(Duration::from_secs(60));
    Setup {
        client,
        mesh,
        pki,
        server,
        _folder: folder,
    }
}

pub(crate) async fn setup() -> Setup {
    setup_with("countersign/server/main", "countersign/gateway/edge").await
}

async fn play(pki: &Pki, identity: &str) -> (Arc<Played>, u16) {
    let roots = Roots::new(pki.bundle(1));
    let svid = Source::new(pki.svid(identity));
    let acceptor = Acceptor::new(Listener::Mutual {
        resumption: true,
        roots,
        svid,
    })
    .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let played = Arc::new(Played::default());
    let shared = played.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let deadline = Instant::now() + Duration::from_secs(60);
            let Ok((stream, _)) = acceptor.accept(socket, deadline).await else {
                continue;
            };
            let shared = shared.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let shared = shared.clone();
                    async move { Ok::<_, Infallible>(shared.answer(request).await) }
                });
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (played, port)
}
