//! The clinic's API of the tour: a small service behind the gateway.
//!
//! It takes connections from gateways only and believes a request only with the gateway's
//! assertion for exactly that method and path. For each summary it reads a key of its own from the
//! vault, which proves it again on that very read, and asks the model on behalf of whoever called,
//! with a token drawn from theirs.

use anyhow::Context as _;
use bytes::Bytes;
use countersign_client::AssertionVerifier;
use countersign_client::CallError;
use countersign_client::Client;
use countersign_client::GatewayAcceptor;
use countersign_core::vocabulary::SpiffeId;
use http::Request;
use http::Response;
use http::StatusCode;
use http_body_util::BodyExt;
use http_body_util::Full;
use http_body_util::Limited;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::json;
use std::sync::Arc;
use tokio::net::TcpListener;

/// The service.
pub struct HmsApi {
    acceptor: GatewayAcceptor,
    assertions: AssertionVerifier,
    client: Client,
    overheard: Option<Arc<Mutex<Option<String>>>>,
}

/// The largest request it reads, in bytes.
const MAX_BODY: usize = 64 << 10;

impl HmsApi {
    /// The service with the identity it runs as.
    ///
    /// # Errors
    /// If its TLS can't be set up.
    pub fn new(client: Client) -> anyhow::Result<Self> {
        let acceptor = client.acceptor()?;
        Ok(Self {
            acceptor,
            assertions: client.assertions("hms-api"),
            client,
            overheard: None,
        })
    }

    /// The same, with somebody inside who keeps the newest token it is called with: the tour
    /// steals from here.
    #[must_use]
    pub fn overheard_by(mut self, thief: Arc<Mutex<Option<String>>>) -> Self {
        self.overheard = Some(thief);
        self
    }

    /// Serves until the task is dropped.
    ///
    /// # Errors
    /// If the socket breaks.
    pub async fn serve(self, listener: TcpListener) -> anyhow::Result<()> {
        let api = Arc::new(self);
        loop {
            let (stream, peer) = listener.accept().await?;
            let api = api.clone();
            tokio::spawn(async move {
                if let Err(error) = api.connection(stream).await {
                    tracing::info!(%peer, %error, "hms-api closed a connection");
                }
            });
        }
    }

    async fn connection(self: Arc<Self>, stream: tokio::net::TcpStream) -> anyhow::Result<()> {
        let (stream, gateway) = self.acceptor.accept(stream).await?;
        let service = service_fn(move |request| {
            let (api, gateway) = (self.clone(), gateway.clone());
            async move { Ok::<_, std::convert::Infallible>(api.answer(request, &gateway).await) }
        });
        let http = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
        http.serve_connection(TokioIo::new(stream), service)
            .await
            .map_err(|error| anyhow::anyhow!(error))
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        gateway: &SpiffeId,
    ) -> Response<Full<Bytes>> {
        match self.handle(request, gateway).await {
            Ok(response) => response,
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "hms-api could not answer");
                refused(&error)
            }
        }
    }

    async fn handle(
        &self,
        request: Request<Incoming>,
        gateway: &SpiffeId,
    ) -> anyhow::Result<Response<Full<Bytes>>> {
        let header = |name: &str| {
            request
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        let assertion = header("countersign-assertion").context("no assertion of the gateway")?;
        let (method, path) = (request.method().as_str(), request.uri().path());
        let assertion = self
            .assertions
            .verify(assertion, gateway, method, path)
            .await?;
        let caller = self.caller(header("authorization"))?;
        match (method, path) {
            ("POST", "/ai/summary") => {
                let body = Limited::new(request.into_body(), MAX_BODY).collect().await;
                let body = body.map_err(|error| anyhow::anyhow!(error))?.to_bytes();
                self.summary(&caller, &body).await
            }
            ("GET", path) if path.starts_with("/reports/") => Ok(json_response(
                StatusCode::OK,
                &json!({ "report": path, "for": assertion.sub }),
            )),
            ("POST", "/reports") => Ok(json_response(
                StatusCode::CREATED,
                &json!({ "filed_by": assertion.sub }),
            )),
            _ => Ok(json_response(
                StatusCode::NOT_FOUND,
                &json!({ "error": "no such page" }),
            )),
        }
    }

    /// Calls made with this go on behalf of whoever called us.
    fn caller(&self, authorization: Option<&str>) -> anyhow::Result<Client> {
        let token = authorization.and_then(|value| value.strip_prefix("Bearer "));
        let token = token.context("no token of the caller")?;
        if let Some(thief) = &self.overheard {
            *thief.lock() = Some(token.to_owned());
        }
        Ok(self.client.with_subject_token(token))
    }

    async fn summary(&self, caller: &Client, body: &[u8]) -> anyhow::Result<Response<Full<Bytes>>> {
        let asked: serde_json::Value =
            serde_json::from_slice(body).context("the body is not json")?;
        let prompt = asked
            .get("prompt")
            .and_then(|it| it.as_str())
            .context("the body has no `prompt`")?;
        let key = self
            .client
            .read_secret_with("openai_primary", "ai:key:read")
            .await?;
        let chat = json!({
            "model": "gpt-4o",
            "max_tokens": 64,
            "messages": [{ "role": "user", "content": prompt }],
        });
        let answer = caller
            .secure_call("model/v1/chat/completions", "POST", Some(&chat), "llm:chat")
            .await?;
        let answer: serde_json::Value = answer.json()?;
        let text = answer
            .pointer("/choices/0/message/content")
            .and_then(|it| it.as_str());
        Ok(json_response(
            StatusCode::OK,
            &json!({
                "summary": text.context("the model said nothing")?,
                "own_key_bytes": key.value().map(str::len),
                "model_saw_our_token": answer.pointer("/fake/authorization_is_ours"),
            }),
        ))
    }
}

/// A refusal further on is passed back by name; anything else is a failure of this service.
fn refused(error: &anyhow::Error) -> Response<Full<Bytes>> {
    match error.downcast_ref::<CallError>() {
        Some(CallError::AccessDenied(denied)) => json_response(
            StatusCode::FORBIDDEN,
            &json!({ "error": "refused further on", "pillar": denied.pillar, "receipt": denied.receipt }),
        ),
        _ => json_response(
            StatusCode::BAD_GATEWAY,
            &json!({ "error": "the summary could not be made" }),
        ),
    }
}

fn json_response(status: StatusCode, body: &serde_json::Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    response
}
