//! `/v1/admin/*`: the verbs of an operator over HTTP/1.1 with JSON bodies.

use super::AdminError;
use super::Operator;
use crate::http::Body;
use crate::http::json;
use crate::http::read_body;
use crate::http::refusal;
use crate::reload::ReloadError;
use crate::store::Search;
use countersign_core::config;
use countersign_core::vocabulary::Operation;
use countersign_core::vocabulary::clip;
use countersign_net::problem::Format;
use http::Method;
use http::Request;
use http::Response;
use http::StatusCode;
use hyper::body::Incoming;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::json as object;

const PREFIX: &str = "/v1/admin/";
/// A configuration has room in it.
const BODY: usize = 4 * 1024 * 1024;

/// Answers a request of an operator.
pub(super) async fn answer(operator: &Operator, request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    // What is not there can't be read as a request either, and is answered by whoever wants it.
    let body = read_body(body, BODY).await.unwrap_or_default();
    let path = parts.uri.path();
    let segments: Vec<&str> = path
        .strip_prefix(PREFIX)
        .unwrap_or_default()
        .split('/')
        .collect();
    let query = parts.uri.query().unwrap_or_default();
    let answered = match (&parts.method, segments.as_slice()) {
        (&Method::POST, ["identity", "issue"]) => match read(&body) {
            Ok(request) => document(operator.issue_identity(&request).await),
            Err(error) => unreadable(operator, error).await,
        },
        (&Method::GET, ["identity"]) => document(operator.identities().await),
        (&Method::POST, ["revoke"]) => match read(&body) {
            Ok(request) => document(operator.revoke(request).await),
            Err(error) => unreadable(operator, error).await,
        },
        (&Method::GET, ["secret"]) => document(operator.secrets().await),
        (&Method::POST | &Method::PUT, ["secret", name]) => match read(&body) {
            Ok(secret) => document(operator.put_secret(name, &secret).await),
            Err(error) => unreadable(operator, error).await,
        },
        (&Method::GET, ["secret", name]) => secret(operator, name).await,
        (&Method::GET, ["records", rest @ ..]) => records(operator, rest, query).await,
        (&Method::GET, ["checkpoint"]) => document(
            operator
                .checkpoint()
                .await
                .map(|note| object!({ "checkpoint": note })),
        ),
        (&Method::GET, ["change"]) => document(operator.changes().await),
        (&Method::GET, ["change", id]) => document(operator.change(id).await),
        (&Method::POST, ["change", id, "approve"]) => document(operator.approve_change(id).await),
        (&Method::POST, ["change", id, "deny"]) => document(operator.deny_change(id).await),
        (&Method::GET, ["configuration"]) => document(operator.configuration(None).await),
        (&Method::GET, ["configuration", revision]) => {
            document(operator.configuration(Some(*revision)).await)
        }
        (&Method::POST, ["join", "token"]) => match read(&body) {
            Ok(request) => document(operator.mint_join(&request).await),
            Err(error) => unreadable(operator, error).await,
        },
        (&Method::GET, ["join"]) => document(operator.join().await),
        (&Method::GET, ["status"]) => document(operator.status().await),
        (&Method::POST, ["reload"]) => match read(&body) {
            Ok(request) => document(operator.reload(request).await),
            Err(error) => unreadable(operator, error).await,
        },
        _ => unknown(operator, parts.method.as_str(), path).await,
    };
    answered.map_or_else(
        |error| failure(&error),
        |document| json(StatusCode::OK, &document),
    )
}

async fn records(operator: &Operator, rest: &[&str], query: &str) -> Result<Value, AdminError> {
    match rest {
        [] => match search(query) {
            Ok(search) => document(operator.records(&search).await),
            Err(error) => unreadable(operator, error).await,
        },
        [receipt] => document(operator.record(receipt).await),
        [receipt, "explain"] => document(operator.explain(receipt).await),
        [receipt, "replay"] => document(operator.replay(receipt).await),
        [receipt, "proof"] => {
            let proof = operator.prove(receipt).await?;
            serde_json::from_str(&proof.to_json()).map_err(AdminError::failed)
        }
        _ => unknown(operator, "GET", "/v1/admin/records/..").await,
    }
}

async fn secret(operator: &Operator, name: &str) -> Result<Value, AdminError> {
    let data = operator.secret(name).await?;
    let fields: Value = serde_json::from_slice(data.expose_json()).map_err(AdminError::failed)?;
    Ok(object!({ "data": fields }))
}

/// What does not exist is refused like what is not allowed.
async fn unknown(operator: &Operator, method: &str, path: &str) -> Result<Value, AdminError> {
    let operation = Operation::named(clip(method, 64), clip(path, 256));
    operator.ask("", operation).await?;
    Err(AdminError::NotFound("no such endpoint".to_owned()))
}

/// Only who may administer hears what is wrong with a request.
async fn unreadable(operator: &Operator, error: AdminError) -> Result<Value, AdminError> {
    let admitted = operator
        .ask("console", Operation::named("admin", "unreadable"))
        .await?;
    super::done(&admitted, Err(error))
}

fn search(query: &str) -> Result<Search, AdminError> {
    let mut search = Search::default();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let invalid =
            || AdminError::Invalid(format!("`{}` can't be searched for", clip(&name, 64)));
        let text = Some(value.clone().into_owned());
        let moment = || -> Result<_, AdminError> {
            serde_json::from_value(Value::from(value.as_ref()))
                .map(Some)
                .map_err(|_| invalid())
        };
        match name.as_ref() {
            "after" => search.after = Some(value.parse().map_err(|_| invalid())?),
            "limit" => search.limit = value.parse().map_err(|_| invalid())?,
            "node" => search.node = text,
            "kind" => search.kind = text,
            "event_type" => search.event_type = text,
            "status" => search.status = text,
            "principal" => search.principal = text,
            "service" => search.service = text,
            "code" => search.code = text,
            "pillar" => search.pillar = text,
            "since" => search.since = moment()?,
            "until" => search.until = moment()?,
            _ => return Err(invalid()),
        }
    }
    Ok(search)
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, AdminError> {
    let read = serde_json::from_slice(body);
    // The parser's words could quote what was sent, and that may be a secret.
    read.map_err(|error| {
        AdminError::Invalid(format!(
            "the body can't be read at column {}",
            error.column()
        ))
    })
}

fn document<T: Serialize>(done: Result<T, AdminError>) -> Result<Value, AdminError> {
    serde_json::to_value(done?).map_err(AdminError::failed)
}

fn failure(error: &AdminError) -> Response<Body> {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    match error {
        AdminError::Refused(refused) => refusal(refused, Format::Problem),
        AdminError::Reload(ReloadError::Configuration(diagnostics, sources)) => {
            let rendered = config::render_all(diagnostics, sources, false);
            let diagnostics = config::to_json(diagnostics, sources);
            let body = object!({ "diagnostics": diagnostics, "error": error.to_string(), "text": rendered });
            json(status, &body)
        }
        AdminError::Reload(ReloadError::Tests(failed)) => json(
            status,
            &object!({ "error": error.to_string(), "tests": failed }),
        ),
        AdminError::Reload(ReloadError::NeedsApproval(pending)) => json(
            status,
            &object!({ "change": pending, "error": error.to_string() }),
        ),
        error => json(status, &object!({ "error": error.to_string() })),
    }
}
