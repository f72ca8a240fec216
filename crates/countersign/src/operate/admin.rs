//! Asking the server over its administration socket: HTTP/1.1 over a unix socket, where the
//! kernel says who asks.

use super::failure::Failure;
use super::failure::with_causes;
use bytes::Bytes;
use countersign_client::AccessDenied;
use countersign_client::remedy;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Pillar;
use countersign_net::Dialer;
use countersign_net::http::Client;
use countersign_net::http::ClientError;
use countersign_net::http::Limits;
use countersign_net::peer_cred;
use countersign_net::problem;
use http::Request;
use http::StatusCode;
use http::header;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

/// The administration socket of a running server.
pub(crate) struct Admin {
    http: Client,
    limits: Limits,
    socket: PathBuf,
}

const MAX_ANSWER: usize = 64 << 20;

impl Admin {
    /// The server behind this socket.
    pub(crate) fn at(socket: PathBuf, time: Duration) -> Self {
        let http = Client::unix(Dialer, socket.clone());
        Self {
            http,
            limits: Limits {
                body: MAX_ANSWER,
                time,
            },
            socket,
        }
    }

    /// The process that has the socket, as the kernel says; nothing where it does not.
    pub(crate) async fn process(&self) -> Option<i32> {
        let deadline = tokio::time::Instant::now() + self.limits.time;
        let stream = Dialer.connect_unix(&self.socket, deadline).await.ok()?;
        Some(peer_cred::of(&stream).ok()?.pid)
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let bytes = self.bytes(Request::get(path).body(Bytes::new())).await?;
        read(&bytes, path)
    }

    /// The answer as it is.
    pub(crate) async fn get_bytes(&self, path: &str) -> Result<Bytes, Failure> {
        self.bytes(Request::get(path).body(Bytes::new())).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        message: &impl Serialize,
    ) -> Result<T, Failure> {
        let body = serde_json::to_vec(message).map_err(|it| Failure::failed(it.to_string()))?;
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Bytes::from(body));
        let bytes = self.bytes(request).await?;
        read(&bytes, path)
    }

    async fn bytes(&self, request: http::Result<Request<Bytes>>) -> Result<Bytes, Failure> {
        let request = request.map_err(|_| Failure::usage("that is not a name"))?;
        let what = request.uri().path().to_owned();
        self.check_owner()?;
        let response = self.http.request(request, self.limits).await;
        let response = response.map_err(|error| self.unreachable(&error))?;
        let (parts, body) = response.into_parts();
        if parts.status.is_success() {
            return Ok(body);
        }
        let header = |name: &http::HeaderName| parts.headers.get(name)?.to_str().ok();
        let document: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        if let Some(pillar) = header(&problem::PILLAR).and_then(Pillar::from_word) {
            let code = document
                .get("code")
                .and_then(|it| it.as_str())
                .and_then(Code::parse);
            let receipt = header(&problem::RECEIPT).map(str::to_owned);
            return Err(AccessDenied {
                pillar,
                code,
                receipt,
                fix: remedy(pillar, code),
            }
            .into());
        }
        Err(unsuccessful(parts.status, &what, &document))
    }

    /// What is asked for here, secrets and keys among it, is for the server and nobody who put a
    /// socket where one was expected.
    fn check_owner(&self) -> Result<(), Failure> {
        let Ok(found) = std::fs::metadata(&self.socket) else {
            // None there, or none to be seen: connecting says which.
            return Ok(());
        };
        if is_trusted(found.uid(), nix::unistd::geteuid().as_raw()) {
            return Ok(());
        }
        let socket = self.socket.display();
        Err(Failure::failed(format!(
            "the socket `{socket}` belongs to user `{}`, who is neither you nor root",
            found.uid()
        )))
    }

    fn unreachable(&self, error: &ClientError) -> Failure {
        let text = with_causes(error);
        match error {
            ClientError::Dial(_) if !self.socket.exists() => {
                let socket = self.socket.display();
                Failure::unreachable(format!("no server is running here: there is no `{socket}`"))
                    .with_help(
                        "start one with `countersign up`, or name its socket with `--socket`",
                    )
            }
            ClientError::Dial(_) => Failure::unreachable(text)
                .with_help("start the server with `countersign up`, or be its user"),
            _ => Failure::unreachable(text),
        }
    }
}

/// What an answer that is neither a success nor a refusal comes to.
fn unsuccessful(status: StatusCode, what: &str, document: &serde_json::Value) -> Failure {
    let text = |name: &str| document.get(name)?.as_str().map(super::harmless);
    let reason = text("detail").or_else(|| text("error"));
    let theirs = reason.is_some() && status.is_client_error();
    let said = reason
        .or_else(|| text("title"))
        .unwrap_or_else(|| "no reason given".to_owned());
    match status {
        // What was asked for did not pass a check, or not against what is there by now.
        StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY => Failure::Check(said),
        // The reason alone says it all: where it was asked is of no use to whoever asked.
        _ if theirs => Failure::failed(said),
        _ => Failure::failed(format!("the server answered {status} to `{what}`: {said}")),
    }
}

const fn is_trusted(owner: u32, us: u32) -> bool {
    owner == us || owner == 0
}

fn read<T: DeserializeOwned>(bytes: &[u8], path: &str) -> Result<T, Failure> {
    serde_json::from_slice(bytes)
        .map_err(|error| Failure::failed(format!("the server's answer to `{path}`: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_said_without_the_address_it_was_asked_at() {
        let said = |status: u16, document: serde_json::Value| {
            let status = StatusCode::from_u16(status).expect("a status");
            unsuccessful(status, "/v1/x", &document).to_string()
        };
        let reason = serde_json::json!({ "detail": "there is no record", "title": "Not Found" });
        assert_eq!(said(404, reason.clone()), "there is no record");
        assert_eq!(
            said(500, reason),
            "the server answered 500 Internal Server Error to `/v1/x`: there is no record"
        );
        assert_eq!(
            said(404, serde_json::Value::Null),
            "the server answered 404 Not Found to `/v1/x`: no reason given"
        );
        let changed = serde_json::json!({ "error": "it has changed meanwhile" });
        assert_eq!(said(409, changed), "it has changed meanwhile");
    }

    #[test]
    fn the_server_is_ours_or_roots() {
        for (owner, us, trusted) in [(0, 0, true), (0, 7, true), (7, 7, true), (8, 7, false)] {
            assert_eq!(is_trusted(owner, us), trusted, "{owner} {us}");
        }
        assert!(!is_trusted(7, 0), "not even for root");
    }
}
