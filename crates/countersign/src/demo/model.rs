//! A fake model API that says it is one: the chat-completions interface, an answer made from the
//! prompt, and what a test wants to know about the request that reached it.

use bytes::Bytes;
use http::Request;
use http::Response;
use http::StatusCode;
use http_body_util::BodyExt;
use http_body_util::Full;
use http_body_util::Limited;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use serde_json::json;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// The fake, with the key it accepts.
#[derive(Debug)]
pub struct FakeModel {
    key: String,
}

const MAX_BODY: usize = 64 << 10;

impl FakeModel {
    /// A fake that accepts one key.
    #[must_use]
    pub fn new(key: &str) -> Self {
        Self {
            key: key.to_owned(),
        }
    }

    /// Serves until the task is dropped.
    ///
    /// # Errors
    /// If the socket breaks.
    pub async fn serve(self, listener: TcpListener, tls: TlsAcceptor) -> anyhow::Result<()> {
        let model = Arc::new(self);
        loop {
            let (stream, _) = listener.accept().await?;
            let (model, tls) = (model.clone(), tls.clone());
            tokio::spawn(async move {
                let Ok(stream) = tls.accept(stream).await else {
                    return;
                };
                let service = service_fn(move |request| {
                    let model = model.clone();
                    async move { Ok::<_, std::convert::Infallible>(model.answer(request).await) }
                });
                // HTTP/1.1, as its TLS offers nothing else.
                let http = http1::Builder::new();
                if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
                    tracing::debug!(%error, "the fake model closed a connection");
                }
            });
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let shown = request
            .headers()
            .get("authorization")
            .and_then(|it| it.to_str().ok())
            .unwrap_or_default();
        let bearer = shown.strip_prefix("Bearer ").unwrap_or_default().to_owned();
        if (request.method().as_str(), request.uri().path()) != ("POST", "/v1/chat/completions") {
            return reply(StatusCode::NOT_FOUND, &error("this fake has one page"));
        }
        if bearer != self.key {
            return reply(
                StatusCode::UNAUTHORIZED,
                &error("incorrect api key provided"),
            );
        }
        let headers: Vec<_> = request.headers().keys().map(ToString::to_string).collect();
        let body = match Limited::new(request.into_body(), MAX_BODY).collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => return reply(StatusCode::BAD_REQUEST, &error("the body is too large")),
        };
        let Ok(asked) = serde_json::from_slice::<Value>(&body) else {
            return reply(StatusCode::BAD_REQUEST, &error("the body is not json"));
        };
        reply(
            StatusCode::OK,
            &completion(&asked, &headers, bearer.starts_with("eyJ")),
        )
    }
}

fn completion(asked: &Value, headers: &[String], token: bool) -> Value {
    let messages = asked.get("messages").and_then(Value::as_array);
    let last = messages
        .and_then(|all| all.last())
        .and_then(|it| it.get("content"))
        .and_then(Value::as_str);
    let prompt = last.unwrap_or_default();
    let words = u64::try_from(prompt.split_whitespace().count()).unwrap_or(0);
    let content = format!(
        "[a fake model's answer, {words} words asked] {}",
        prompt.chars().take(80).collect::<String>()
    );
    let out = u64::try_from(content.split_whitespace().count()).unwrap_or(0);
    json!({
        "id": "chatcmpl-fake",
        "object": "chat.completion",
        "model": asked.get("model"),
        "choices": [{ "index": 0, "finish_reason": "stop", "message": { "role": "assistant", "content": content } }],
        "usage": { "prompt_tokens": words, "completion_tokens": out, "total_tokens": words + out },
        "fake": { "this_is_a_fake": true, "authorization_is_ours": token, "headers_seen": headers },
    })
}

fn error(message: &str) -> Value {
    json!({ "error": { "message": message, "type": "invalid_request_error" }, "fake": { "this_is_a_fake": true } })
}

fn reply(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    response
}
