//! The other side of a hop: a service that only its gateways may call.

use crate::client::Client;
use crate::error::CallError;
use crate::error::SetupError;
use crate::identity::now;
use bytes::Bytes;
use countersign_core::hop::Peer;
use countersign_core::hop::TokenFault;
use countersign_core::vocabulary::SpiffeId;
use countersign_core::vocabulary::Timestamp;
use countersign_net::Acceptor;
use countersign_net::KeySet;
use countersign_net::Listener;
use countersign_net::Refused;
use countersign_net::Transcribed;
use countersign_net::assertion;
use countersign_net::assertion::Assertion;
use countersign_net::assertion::Mismatch;
use http::Request;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;

/// Accepts mutual TLS connections from the gateways of this trust domain and from nobody else: a
/// certificate of another workload opens nothing.
pub struct GatewayAcceptor {
    acceptor: Acceptor,
    timeout: Duration,
}

/// Why a connection was not taken.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The handshake failed.
    #[error("the tls handshake failed: {}", .0.detail)]
    Handshake(Box<Refused>),
    /// A good certificate of somebody who is no gateway.
    #[error("`{0}` is not a gateway")]
    NotAGateway(SpiffeId),
    /// No certificate, which a mutual listener does not let happen.
    #[error("the peer showed no certificate")]
    NoCertificate,
}

/// Checks the assertion that a gateway sends beside each request: "this hop was decided".
pub struct AssertionVerifier {
    audience: String,
    client: Client,
    fetching: tokio::sync::Mutex<()>,
    keys: Mutex<Kept>,
    used: Mutex<HashMap<String, i64>>,
}

/// Why an assertion does not count.
#[derive(Debug, thiserror::Error)]
pub enum AssertionError {
    /// It is not one of ours.
    #[error("the assertion is not valid ({0:?})")]
    Invalid(TokenFault),
    /// It is for another request.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// It names another gateway than the one that sent it.
    #[error("the assertion was made by `{0}`, not by the gateway that sent it")]
    Gateway(SpiffeId),
    /// It was used before.
    #[error("the assertion was used before")]
    Replayed,
    /// Its keys can't be had.
    #[error("the keys of the gateways can't be read")]
    Keys(#[source] Box<CallError>),
}

struct Kept {
    fetched: Option<Timestamp>,
    set: Arc<KeySet>,
}

/// How long a peer may take for its handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A key that is not known is looked for anew, but not more often than this.
const REFETCH: Duration = Duration::from_secs(1);
/// Ids of assertions remembered at most; they live 30 s.
const MAX_USED: usize = 200_000;

impl Client {
    /// Takes connections for the service that this identity is.
    ///
    /// # Errors
    /// [`SetupError::Acceptor`] if TLS can't be set up.
    pub fn acceptor(&self) -> Result<GatewayAcceptor, SetupError> {
        let identity = self.identity();
        let (roots, svid) = (identity.roots.clone(), identity.svid.clone());
        let acceptor = Acceptor::new(Listener::Mutual {
            resumption: true,
            roots,
            svid,
        })?;
        Ok(GatewayAcceptor {
            acceptor,
            timeout: HANDSHAKE,
        })
    }

    /// Checks the assertions that come with requests for `service`, usually the name of this
    /// identity.
    #[must_use]
    pub fn assertions(&self, service: &str) -> AssertionVerifier {
        AssertionVerifier {
            audience: self.identity().domain.audience(service),
            client: self.clone(),
            fetching: tokio::sync::Mutex::default(),
            keys: Mutex::new(Kept {
                fetched: None,
                set: Arc::new(KeySet::empty(0)),
            }),
            used: Mutex::default(),
        }
    }
}

impl GatewayAcceptor {
    /// Takes one connection through its handshake, 10 s at most; tells which gateway it is.
    ///
    /// # Errors
    /// [`AcceptError`] says who it was, or why there is no connection. It is closed by then.
    pub async fn accept<IO: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: IO,
    ) -> Result<(TlsStream<Transcribed<IO>>, SpiffeId), AcceptError> {
        let deadline = Instant::now() + self.timeout;
        let accepted = self.acceptor.accept(io, deadline).await;
        let (stream, established) = accepted.map_err(AcceptError::Handshake)?;
        let Peer::Certificate(certificate) = established.peer else {
            return Err(AcceptError::NoCertificate);
        };
        let id = certificate.spiffe_id.clone();
        match id.process() {
            Some(("gateway", _)) => Ok((stream, id)),
            _ => Err(AcceptError::NotAGateway(id)),
        }
    }
}

impl AssertionVerifier {
    /// Checks the value of the `countersign-assertion` header against the request it came with and
    /// the gateway that sent it. Each assertion counts once.
    ///
    /// # Errors
    /// [`AssertionError`] says what does not fit.
    pub async fn verify(
        &self,
        value: &str,
        gateway: &SpiffeId,
        method: &str,
        path: &str,
    ) -> Result<Assertion, AssertionError> {
        let assertion = self.open(value).await?;
        if assertion.iss != *gateway {
            return Err(AssertionError::Gateway(assertion.iss));
        }
        let now = now();
        assertion.fits(&self.audience, method, path, now)?;
        if self.is_used(&assertion, now) {
            return Err(AssertionError::Replayed);
        }
        Ok(assertion)
    }

    async fn open(&self, value: &str) -> Result<Assertion, AssertionError> {
        let set = self.keys.lock().set.clone();
        match assertion::verify(&set, value) {
            Ok(assertion) => Ok(assertion),
            // A gateway makes its key when it starts, so it may be newer than what we have.
            Err(TokenFault::Signature) => {
                let set = self.newer(set.generation()).await?;
                assertion::verify(&set, value).map_err(AssertionError::Invalid)
            }
            Err(fault) => Err(AssertionError::Invalid(fault)),
        }
    }

    /// Keys of a later generation than this, if there are any yet. Requests that come together
    /// wait for one fetch: none is refused because another one asks for the key it needs.
    async fn newer(&self, than: u64) -> Result<Arc<KeySet>, AssertionError> {
        let _one_at_a_time = self.fetching.lock().await;
        let set = self.keys.lock().set.clone();
        if set.generation() > than || !self.may_refetch() {
            return Ok(set);
        }
        let fetched = self.fetch().await;
        fetched.map_err(|it| AssertionError::Keys(Box::new(it)))
    }

    fn may_refetch(&self) -> bool {
        let mut kept = self.keys.lock();
        let now = now();
        let due = kept
            .fetched
            .is_none_or(|fetched| now.since(fetched) >= REFETCH);
        if due {
            kept.fetched = Some(now);
        }
        due
    }

    async fn fetch(&self) -> Result<Arc<KeySet>, CallError> {
        let what = "the request for keys";
        let request = Request::get("/.well-known/countersign-assertion-keys").body(Bytes::new());
        let response = self.client.ask_server(request, what).await?;
        let status = response.status().as_u16();
        let generation = self.keys.lock().set.generation() + 1;
        let set = (status == 200).then(|| KeySet::from_jwks(response.body(), generation));
        match set {
            Some(Ok(set)) => {
                let set = Arc::new(set);
                self.keys.lock().set = set.clone();
                Ok(set)
            }
            _ => Err(self.client.unexpected(status, what)),
        }
    }

    /// Notes it as used; when there is no room to remember, it counts as used.
    fn is_used(&self, assertion: &Assertion, now: Timestamp) -> bool {
        let mut used = self.used.lock();
        if used.len() >= MAX_USED {
            used.retain(|_, ends| *ends > now.as_secs());
        }
        used.len() >= MAX_USED || used.insert(assertion.jti.clone(), assertion.exp).is_some()
    }
}
