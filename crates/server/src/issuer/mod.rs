//! The issuer: access tokens for workloads that prove themselves by certificate, by exchange, and
//! for people with a session; key set, discovery, introspection and revocation.
//!
//! It decides nothing. Each request is a hop to service `issuer`; what goes into a token is the
//! grant of the admission, and this module adds only who signs it, when, and to which certificate
//! it is bound (RFC 8705 section 3).

mod answer;
mod documents;
mod form;
mod request;
mod status;
mod token;

pub(crate) use token::DrawError;
pub use token::Drawn;

use crate::keys::TokenKeys;
use crate::revocation::Revoker;
use countersign_core::hop::Evidence;
use countersign_core::hop::Facts;
use countersign_core::record::Context;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::Operation;
use countersign_enforce::Admitted;
use countersign_enforce::Ask;
use countersign_enforce::EnforcementPoint;
use countersign_enforce::Refusal;
use countersign_net::KeySet;
use countersign_net::TokenVerifier;
use countersign_net::token::Presenter;
use countersign_wire::control::IssuerRequest;
use countersign_wire::control::IssuerResponse;
use parking_lot::RwLock;
use std::sync::Arc;

/// The issuer of one trust domain.
#[derive(Debug)]
pub struct Issuer {
    assertions: RwLock<Arc<KeySet>>,
    place: RwLock<Place>,
    point: EnforcementPoint,
    revoker: Arc<Revoker>,
    roots: String,
    token_keys: Arc<TokenKeys>,
    verifier: Arc<TokenVerifier>,
}

/// Where clients reach it.
#[derive(Clone, Debug, Default)]
struct Place {
    /// `127.0.0.1:7443`.
    control: String,
}

/// What an issuer is made of.
pub(crate) struct Parts {
    pub(crate) point: EnforcementPoint,
    pub(crate) revoker: Arc<Revoker>,
    /// The trusted roots, PEM.
    pub(crate) roots: String,
    pub(crate) token_keys: Arc<TokenKeys>,
    pub(crate) verifier: Arc<TokenVerifier>,
}

/// A request to one of the issuer's endpoints.
pub(crate) struct Call<'a> {
    pub(crate) body: &'a [u8],
    pub(crate) broken: Option<&'static str>,
    pub(crate) context: Context<'a>,
    pub(crate) door: &'a Name,
    pub(crate) evidence: Evidence,
    /// Who carried it here, unless whoever asks is at the other end of the connection.
    pub(crate) relay: Option<Relay<'a>>,
}

/// A gateway that carries somebody else's request.
#[derive(Clone, Copy)]
pub(crate) struct Relay<'a> {
    pub(crate) gateway: &'a Name,
    pub(crate) presenter: Presenter,
}

impl Call<'_> {
    /// Who pays for tokens that prove nothing: of what is relayed the gateway, which could have
    /// made them up.
    fn presenter(&self) -> Presenter {
        if let Some(relay) = self.relay {
            return relay.presenter;
        }
        let network = self.context.source_ip.map(countersign_enforce::network);
        Presenter::of(&self.evidence, network)
    }
}

/// The largest request body, in bytes.
pub const BODY: usize = 64 * 1024;

/// The name of the service.
const SERVICE: &str = "issuer";

impl Issuer {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            assertions: RwLock::new(Arc::new(KeySet::empty(0))),
            place: RwLock::default(),
            point: parts.point,
            revoker: parts.revoker,
            roots: parts.roots,
            token_keys: parts.token_keys,
            verifier: parts.verifier,
        }
    }

    /// Whether a path is one of ours.
    #[must_use]
    pub fn serves(path: &str) -> bool {
        path.starts_with("/oauth2/") || path.starts_with("/.well-known/")
    }

    /// Answers a request whose peer this process has verified.
    pub async fn serve(&self, request: IssuerRequest<'_>) -> IssuerResponse {
        self.serve_form(request, None).await
    }

    /// The same for a peer whose certificate this process has verified as a gateway was shown it.
    pub(crate) async fn serve_relayed(
        &self,
        request: IssuerRequest<'_>,
        relay: Relay<'_>,
    ) -> IssuerResponse {
        self.answer(request, None, Some(relay)).await
    }

    /// The same; `broken` says why the body is not the form that it should be.
    pub(crate) async fn serve_form(
        &self,
        request: IssuerRequest<'_>,
        broken: Option<&'static str>,
    ) -> IssuerResponse {
        self.answer(request, broken, None).await
    }

    async fn answer(
        &self,
        request: IssuerRequest<'_>,
        broken: Option<&'static str>,
        relay: Option<Relay<'_>>,
    ) -> IssuerResponse {
        let IssuerRequest {
            body,
            chain: _,
            context,
            door,
            evidence,
            method,
            path,
        } = request;
        let call = Call {
            body,
            broken,
            context,
            door,
            evidence,
            relay,
        };
        match (method, path) {
            ("POST", "/oauth2/token") => self.token(call).await,
            ("POST", "/oauth2/introspect") => self.introspect(call).await,
            ("POST", "/oauth2/revoke") => self.revoke(call).await,
            ("GET" | "HEAD", _) => match self.document(path) {
                Some(document) => answer::public(&document),
                None => self.unknown(method, path, call).await,
            },
            _ => self.unknown(method, path, call).await,
        }
    }

    /// Tells clients where they reach the server.
    pub(crate) fn reached_at(&self, control: String) {
        *self.place.write() = Place { control };
    }

    /// The keys of enforcement points changed.
    pub(crate) fn assertion_keys(&self, keys: KeySet) {
        *self.assertions.write() = Arc::new(keys);
    }

    /// What verifies tokens in this process.
    pub(crate) fn verifier(&self) -> &TokenVerifier {
        &self.verifier
    }

    async fn ask(
        &self,
        operation: Operation,
        facts: Facts,
        call: Call<'_>,
    ) -> Result<Admitted, Refusal> {
        let (door, evidence, context) = (call.door.clone(), call.evidence, call.context);
        let service = SERVICE.to_owned();
        let facts = Facts {
            relayed_by: call.relay.map(|relay| relay.gateway.clone()),
            ..facts
        };
        self.point
            .enforce(Ask {
                door,
                service,
                operation,
                evidence,
                facts,
                context,
            })
            .await
    }

    /// An endpoint that does not exist is an operation that no edge leads to.
    async fn unknown(&self, method: &str, path: &str, call: Call<'_>) -> IssuerResponse {
        let path = countersign_core::vocabulary::clip(path, 256);
        let operation = Operation::named(method, path);
        match self.ask(operation, Facts::default(), call).await {
            Err(refusal) => answer::refused(&refusal, None),
            // Only where everything is open is there anybody to tell.
            Ok(admitted) => {
                let mut response = answer::failed();
                response.status = 404;
                finish(&admitted, response)
            }
        }
    }
}

/// Completes an admitted request.
fn finish(admitted: &Admitted, mut response: IssuerResponse) -> IssuerResponse {
    admitted.answered(response.status);
    admitted.sent(response.body.len() as u64);
    admitted.ended(countersign_core::record::Ending::Done);
    let receipt = admitted.admission().receipt().to_string();
    response.headers.push(("countersign-receipt", receipt));
    response
}
