use crate::cache::Cache;
use crate::error::CallError;
use crate::error::SetupError;
use crate::identity::Identity;
use crate::identity::target;
use bytes::Bytes;
use countersign_core::vocabulary::SpiffeId;
use countersign_net::Connector;
use countersign_net::Dialer;
use countersign_net::Expected;
use countersign_net::dial::Target;
use countersign_net::http::Client as Http;
use countersign_net::http::Limits;
use http::Request;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// One identity, and what it needs to call others. Clones share connections and tokens.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
    limits: Limits,
    subject: Option<Arc<str>>,
}

struct Inner {
    identity: Identity,
    /// Connections to the mesh by service: the service is their server name.
    mesh: Mutex<HashMap<String, Http>>,
    server: Http,
    tokens: Cache,
}

/// The largest response body that is taken, unless told otherwise.
const MAX_BODY: usize = 16 << 20;
/// How long a call may take, unless told otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Connections kept at most.
const MAX_SERVICES: usize = 1_000;

impl Client {
    /// Reads the identity in a folder with `svid.pem`, `key.pem`, `bundle.pem` and
    /// `countersign.json`.
    ///
    /// # Errors
    /// [`SetupError`] names the file and what is wrong with it.
    pub fn from_dir(folder: impl AsRef<Path>) -> Result<Self, SetupError> {
        let identity = Identity::read(folder.as_ref())?;
        let endpoint = &identity.endpoints.server;
        let target = target(endpoint).ok_or(SetupError::NoFolder)?;
        let server = connection(&identity, "server", &target.host.clone(), target)?;
        let mesh = Mutex::default();
        let inner = Inner {
            identity,
            mesh,
            server,
            tokens: Cache::default(),
        };
        let limits = Limits {
            body: MAX_BODY,
            time: TIMEOUT,
        };
        Ok(Self {
            inner: Arc::new(inner),
            limits,
            subject: None,
        })
    }

    /// Reads the identity in the folder that `COUNTERSIGN_IDENTITY` names.
    ///
    /// # Errors
    /// As [`Self::from_dir`], or [`SetupError::NoFolder`].
    pub fn from_env() -> Result<Self, SetupError> {
        let folder = std::env::var_os("COUNTERSIGN_IDENTITY").filter(|it| !it.is_empty());
        Self::from_dir(folder.ok_or(SetupError::NoFolder)?)
    }

    /// The same client, calling on behalf of the subject of a token it was called with: each token
    /// is drawn in exchange for that one.
    #[must_use]
    pub fn with_subject_token(&self, token: &str) -> Self {
        Self {
            subject: Some(token.into()),
            ..self.clone()
        }
    }

    /// The same client with another limit on the time of each request (30 s).
    #[must_use]
    pub fn with_timeout(mut self, time: Duration) -> Self {
        self.limits.time = time;
        self
    }

    /// The same client with another limit on the size of a response, in bytes (16 MiB).
    #[must_use]
    pub fn with_max_body(mut self, bytes: usize) -> Self {
        self.limits.body = bytes;
        self
    }

    /// Who this is.
    #[must_use]
    pub fn spiffe_id(&self) -> SpiffeId {
        self.inner.identity.svid.current().spiffe_id().clone()
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.inner.identity
    }

    pub(crate) fn tokens(&self) -> &Cache {
        &self.inner.tokens
    }

    pub(crate) const fn subject(&self) -> Option<&Arc<str>> {
        self.subject.as_ref()
    }

    /// Asks issuer or vault.
    pub(crate) async fn ask_server(
        &self,
        request: http::Result<Request<Bytes>>,
        what: &'static str,
    ) -> Result<http::Response<Bytes>, CallError> {
        let request = request.map_err(|_| CallError::Target(what.to_owned()))?;
        Ok(self.inner.server.request(request, self.limits).await?)
    }

    /// Sends a request to a service by way of the mesh.
    pub(crate) async fn ask_mesh(
        &self,
        service: &str,
        request: Request<Bytes>,
    ) -> Result<http::Response<Bytes>, CallError> {
        let http = self.mesh(service)?;
        Ok(http.request(request, self.limits).await?)
    }

    pub(crate) fn unexpected(&self, status: u16, what: &'static str) -> CallError {
        CallError::Unexpected {
            peer: self.inner.identity.endpoints.server.clone(),
            status,
            what,
        }
    }

    /// The connection for a service. The service is the server name and the host, so that the
    /// gateway need not believe a path.
    fn mesh(&self, service: &str) -> Result<Http, CallError> {
        let mut mesh = self.inner.mesh.lock();
        if let Some(http) = mesh.get(service) {
            return Ok(http.clone());
        }
        let identity = &self.inner.identity;
        let address = identity
            .endpoints
            .mesh
            .as_deref()
            .ok_or(CallError::NoMesh)?;
        let target = target(address).ok_or(CallError::NoMesh)?;
        let host = format!("{service}.mesh.{}", identity.domain.as_str());
        let http = connection(identity, "gateway", &host, target)?;
        if mesh.len() >= MAX_SERVICES {
            mesh.clear();
        }
        mesh.insert(service.to_owned(), http.clone());
        Ok(http)
    }
}

/// Mutual TLS with any of our own processes of this role.
fn connection(
    identity: &Identity,
    role: &'static str,
    name: &str,
    target: Target,
) -> Result<Http, SetupError> {
    let (svid, roots) = (identity.svid.clone(), identity.roots.clone());
    let connector = Connector::mutual(svid, roots, Expected::Process(role))?;
    Ok(Http::tls(Dialer, connector, name, target))
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client {}", self.spiffe_id())
    }
}
