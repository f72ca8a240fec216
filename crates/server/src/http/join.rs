//! The port for those who have no certificate yet: TLS in which only the server shows one, and one
//! request, `POST /v1/join`.

use super::Body;
use super::json;
use super::read_body;
use super::refusal;
use super::stopped;
use crate::ids::request_id;
use crate::join::JoinError;
use crate::join::Joins;
use countersign_core::hop::Evidence;
use countersign_core::record::Context;
use countersign_net::Acceptor;
use countersign_net::Established;
use countersign_net::problem::Format;
use http::Method;
use http::Request;
use http::Response;
use http::StatusCode;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::convert::Infallible;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::sync::watch;
use tokio::time::Instant;

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

impl JoinDoor {
    pub(crate) const fn new(acceptor: Acceptor, joins: Arc<Joins>) -> Self {
        Self { acceptor, joins }
    }

    /// Serves until told to stop.
    pub(crate) async fn serve(self, listener: TcpListener, mut stop: watch::Receiver<bool>) {
        let door = Arc::new(self);
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        let sources = Arc::new(Sources::default());
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
                tracing::warn!(%address, "too many connections at the join port");
                continue;
            };
            let Some(seat) = sources.enter(address.ip()) else {
                tracing::warn!(%address, "too many connections from one source at the join port");
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
        let service = service_fn(move |request| {
            let (door, established) = (self.clone(), established.clone());
            async move { Ok::<_, Infallible>(door.answer(request, &established, address).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HANDSHAKE)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service);
        if let Err(error) = connection.await {
            tracing::debug!(%error, %address, "a connection broke off");
        }
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
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
        match self
            .joins
            .join(request, evidence, context(&id, address))
            .await
        {
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

/// How many connections there are from each network.
#[derive(Debug, Default)]
struct Sources(Mutex<HashMap<IpAddr, usize>>);

/// One connection of a network, until it is dropped.
struct Seat {
    network: IpAddr,
    sources: Arc<Sources>,
}

impl Sources {
    fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Seat> {
        let network = countersign_enforce::network(address);
        let mut all = self.0.lock();
        let taken = all.entry(network).or_default();
        if *taken >= PER_SOURCE {
            return None;
        }
        *taken += 1;
        Some(Seat {
            network,
            sources: self.clone(),
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Entry::Occupied(mut taken) = self.sources.0.lock().entry(self.network) {
            *taken.get_mut() -= 1;
            if *taken.get() == 0 {
                taken.remove();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_network_takes_its_part_and_no_more() {
        let sources = Arc::new(Sources::default());
        let enter = |address: &str| sources.enter(address.parse().unwrap());
        let mut seats: Vec<_> = (1..=4)
            .map(|it| enter(&format!("192.0.2.{it}")).unwrap())
            .collect();
        assert!(enter("192.0.2.9").is_none());
        assert!(enter("::ffff:192.0.2.9").is_none(), "the same network");
        assert!(enter("192.0.3.9").is_some());
        let six: Vec<_> = (1..=4)
            .map(|it| enter(&format!("2001:db8:0:{it}::1")).unwrap())
            .collect();
        assert!(enter("2001:db8:0:9::1").is_none());
        assert!(enter("2001:db8:0:100::1").is_some());
        seats.pop();
        seats.push(enter("192.0.2.9").unwrap());
        drop((seats, six));
        assert!(sources.0.lock().is_empty());
    }
}
