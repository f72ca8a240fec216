//! The port for those who have no certificate yet: TLS in which only the server shows one, and one
//! request, `POST /v1/join`.

use super::Body;
use super::connection;
use super::connection::Limits;
use super::json;
use super::read_body;
use super::refusal;
use super::stopped;
use crate::ids::request_id;
use crate::join::JoinError;
use crate::join::Joins;
use countersign_core::hop::Evidence;
use countersign_core::record::Context;
use countersign_enforce::EachSecond;
use countersign_net::Acceptor;
use countersign_net::Established;
use countersign_net::framing::FramingFault;
use countersign_net::places::Places;
use countersign_net::problem::Format;
use http::Method;
use http::Request;
use http::Response;
use http::StatusCode;
use hyper::body::Incoming;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::sync::watch;
use tokio::time::Instant;

static FULL: EachSecond = EachSecond::new();
static SOURCE_FULL: EachSecond = EachSecond::new();

/// The door.
pub(crate) struct JoinDoor {
    acceptor: Acceptor,
    joins: Arc<Joins>,
}

/// Everybody may connect here, and few ever need to.
const CONNECTIONS: usize = 64;
/// Of these from one network, so that no one of them takes all.
const PER_SOURCE: usize = 4;
const HANDSHAKE: Duration = Duration::from_secs(5);
/// All of a connection: one request.
const TIME: Duration = Duration::from_secs(20);
const BODY: usize = 16 * 1024;
const LIMITS: Limits = Limits {
    header: 8 * 1024,
    header_time: HANDSHAKE,
    idle: TIME,
    keep: false,
    streams: 1,
};

impl JoinDoor {
    pub(crate) const fn new(acceptor: Acceptor, joins: Arc<Joins>) -> Self {
        Self { acceptor, joins }
    }

    /// Serves until told to stop.
    pub(crate) async fn serve(self, listener: TcpListener, mut stop: watch::Receiver<bool>) {
        let door = Arc::new(self);
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        let sources = Places::new();
        loop {
            let accepted = tokio::select! {
                () = stopped(&mut stop) => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, address)) = accepted else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let Ok(slot) = slots.clone().try_acquire_owned() else {
                if let Some(untold) = FULL.tell() {
                    tracing::warn!(%address, untold, "too many connections at the join port");
                }
                continue;
            };
            let Some(seat) = sources.enter(countersign_enforce::network(address.ip()), PER_SOURCE)
            else {
                if let Some(untold) = SOURCE_FULL.tell() {
                    tracing::warn!(%address, untold, "too many connections from one source at the join port");
                }
                continue;
            };
            let door = door.clone();
            tokio::spawn(async move {
                let served = tokio::time::timeout(TIME, door.connection(stream, address)).await;
                if served.is_err() {
                    tracing::debug!(%address, "a connection at the join port took too long");
                }
                drop((slot, seat));
            });
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, address: SocketAddr) {
        let deadline = Instant::now() + HANDSHAKE;
        let (stream, established) = match self.acceptor.accept(stream, deadline).await {
            Ok(accepted) => accepted,
            Err(refused) => {
                let mut evidence = Evidence::none();
                evidence.tls = refused.tls;
                let id = request_id();
                let refused = self.joins.join(None, evidence, context(&id, address)).await;
                tracing::debug!(?refused, "handshake refused at the join port");
                return;
            }
        };
        let established = Arc::new(established);
        let answer = move |request, fault| {
            let (door, established) = (self.clone(), established.clone());
            async move { door.answer(request, fault, &established, address).await }
        };
        // All of it has its time already.
        connection::serve(stream, false, LIMITS, answer, std::future::pending()).await;
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        fault: Option<FramingFault>,
        established: &Established,
        address: SocketAddr,
    ) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let asked = parts.method == Method::POST && parts.uri.path() == "/v1/join";
        let body = read_body(body, BODY).await.unwrap_or_default();
        let request = serde_json::from_slice(&body).ok().filter(|_| asked);
        let mut evidence = Evidence::none();
        evidence.tls = established.tls.clone();
        let id = request_id();
        let context = context(&id, address);
        let joined = match fault {
            Some(fault) => {
                let refused = self.joins.refuse(fault.request_fault(), evidence, context);
                refused.await
            }
            None => self.joins.join(request, evidence, context).await,
        };
        match joined {
            Ok(joined) => json(StatusCode::OK, &joined),
            Err(JoinError::Refused(refused)) => refusal(&refused, Format::Problem),
            Err(JoinError::Store(error)) => {
                tracing::error!(%error, "nobody can join");
                let told = serde_json::json!({ "error": "not available now" });
                json(StatusCode::SERVICE_UNAVAILABLE, &told)
            }
            Err(error) => {
                tracing::error!(%error, "a gateway was admitted and could not join");
                let told = serde_json::json!({ "error": "see the server's log" });
                json(StatusCode::INTERNAL_SERVER_ERROR, &told)
            }
        }
    }
}

fn context(id: &str, address: SocketAddr) -> Context<'_> {
    Context {
        request_id: id,
        source_ip: Some(address.ip()),
        ..Context::default()
    }
}
