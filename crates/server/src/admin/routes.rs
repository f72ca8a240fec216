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
use http::HeaderValue;
use http::Request;
use http::Response;
use http::StatusCode;
use http::header;
use hyper::body::Incoming;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::json as object;

const PREFIX: &str = "/v1/admin/";
/// A configuration has room in it.
const BODY: usize = 4 * 1024 * 1024;

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Approve,
    Change,
    Changes,
    Checkpoint,
    Configuration,
    Deny,
    Explain,
    Identities,
    Issue,
    Join,
    Mint,
    Proof,
    Record,
    Records,
    Reload,
    Replay,
    Revision,
    Revoke,
    Secret,
    Secrets,
    Status,
    Write,
}

/// The endpoints: method, path behind the prefix, verb. There is no other, and
/// `docs/reference/openapi/admin.yaml` describes each, which a test holds it to.
const ROUTES: [(&str, &str, Verb); 23] = [
    ("GET", "change", Verb::Changes),
    ("GET", "change/{id}", Verb::Change),
    ("POST", "change/{id}/approve", Verb::Approve),
    ("POST", "change/{id}/deny", Verb::Deny),
    ("GET", "checkpoint", Verb::Checkpoint),
    ("GET", "configuration", Verb::Configuration),
    ("GET", "configuration/{revision}", Verb::Revision),
    ("GET", "identity", Verb::Identities),
    ("POST", "identity/issue", Verb::Issue),
    ("GET", "join", Verb::Join),
    ("POST", "join/token", Verb::Mint),
    ("GET", "records", Verb::Records),
    ("GET", "records/{receipt}", Verb::Record),
    ("GET", "records/{receipt}/explain", Verb::Explain),
    ("GET", "records/{receipt}/proof", Verb::Proof),
    ("GET", "records/{receipt}/replay", Verb::Replay),
    ("POST", "reload", Verb::Reload),
    ("POST", "revoke", Verb::Revoke),
    ("GET", "secret", Verb::Secrets),
    ("GET", "secret/{name}", Verb::Secret),
    ("POST", "secret/{name}", Verb::Write),
    ("PUT", "secret/{name}", Verb::Write),
    ("GET", "status", Verb::Status),
];

/// Answers a request of an operator.
pub(super) async fn answer(operator: &Operator, request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    // What is not there can't be read as a request either, and is answered by whoever wants it.
    let body = read_body(body, BODY).await.unwrap_or_default();
    let (method, path) = (parts.method.as_str(), parts.uri.path());
    let query = parts.uri.query().unwrap_or_default();
    let answered = match endpoint(method, path) {
        Some(asked) => perform(operator, asked, query, &body).await,
        None => unknown(operator, method, path).await,
    };
    answered.map_or_else(
        |error| failure(&error),
        |document| json(StatusCode::OK, &document),
    )
}

/// The endpoint that a request is for, and what its path names.
fn endpoint<'a>(method: &str, path: &'a str) -> Option<(Verb, &'a str)> {
    let path = path.strip_prefix(PREFIX)?;
    let mut routes = ROUTES.iter().filter(|(known, ..)| *known == method);
    routes.find_map(|(_, template, verb)| Some((*verb, named(template, path)?)))
}

/// What stands in a path where its template has `{..}`, which is in one place at most.
fn named<'a>(template: &str, path: &'a str) -> Option<&'a str> {
    let mut name = "";
    let mut segments = path.split('/');
    for wanted in template.split('/') {
        let segment = segments.next()?;
        if wanted.starts_with('{') {
            name = segment;
        } else if wanted != segment {
            return None;
        }
    }
    segments.next().is_none().then_some(name)
}

async fn perform(
    operator: &Operator,
    (verb, name): (Verb, &str),
    query: &str,
    body: &[u8],
) -> Result<Value, AdminError> {
    match verb {
        Verb::Approve => document(operator.approve_change(name).await),
        Verb::Change => document(operator.change(name).await),
        Verb::Changes => document(operator.changes().await),
        Verb::Checkpoint => {
            let note = operator.checkpoint().await?;
            Ok(object!({ "checkpoint": note }))
        }
        Verb::Configuration => document(operator.configuration(None).await),
        Verb::Deny => document(operator.deny_change(name).await),
        Verb::Explain => document(operator.explain(name).await),
        Verb::Identities => document(operator.identities().await),
        Verb::Issue => match read(body) {
            Ok(request) => document(operator.issue_identity(&request).await),
            Err(error) => unreadable(operator, error).await,
        },
        Verb::Join => document(operator.join().await),
        Verb::Mint => match read(body) {
            Ok(request) => document(operator.mint_join(&request).await),
            Err(error) => unreadable(operator, error).await,
        },
        Verb::Proof => proof(operator, name).await,
        Verb::Record => document(operator.record(name).await),
        Verb::Records => match search(query) {
            Ok(search) => document(operator.records(&search).await),
            Err(error) => unreadable(operator, error).await,
        },
        Verb::Reload => match read(body) {
            Ok(request) => document(operator.reload(request).await),
            Err(error) => unreadable(operator, error).await,
        },
        Verb::Replay => document(operator.replay(name).await),
        Verb::Revision => document(operator.configuration(Some(name)).await),
        Verb::Revoke => match read(body) {
            Ok(request) => document(operator.revoke(request).await),
            Err(error) => unreadable(operator, error).await,
        },
        Verb::Secret => secret(operator, name).await,
        Verb::Secrets => document(operator.secrets().await),
        Verb::Status => document(operator.status().await),
        Verb::Write => match read(body) {
            Ok(secret) => document(operator.put_secret(name, &secret).await),
            Err(error) => unreadable(operator, error).await,
        },
    }
}

async fn proof(operator: &Operator, receipt: &str) -> Result<Value, AdminError> {
    let proof = operator.prove(receipt).await?;
    serde_json::from_str(&proof.to_json()).map_err(AdminError::failed)
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
            "after" => search.after = Some(index(&value).ok_or_else(invalid)?),
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

/// The index of a leaf: no log has more of them than the store can count.
fn index(text: &str) -> Option<u64> {
    let index: i64 = text.parse().ok()?;
    u64::try_from(index).ok()
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

/// A refusal as everywhere, anything else as a problem of no particular type (RFC 9457 section
/// 4.2.1) with what a client needs beside the text.
fn failure(error: &AdminError) -> Response<Body> {
    if let AdminError::Refused(refused) = error {
        return refusal(refused, Format::Problem);
    }
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut problem = match error {
        AdminError::Reload(ReloadError::Configuration(diagnostics, sources)) => {
            let text = config::render_all(diagnostics, sources, false);
            object!({ "diagnostics": config::to_json(diagnostics, sources), "text": text })
        }
        AdminError::Reload(ReloadError::Tests(failed)) => object!({ "tests": failed }),
        AdminError::Reload(ReloadError::NeedsApproval(pending)) => object!({ "change": pending }),
        _ => object!({}),
    };
    if let Some(problem) = problem.as_object_mut() {
        let title = status.canonical_reason().unwrap_or("Failed");
        problem.insert("type".to_owned(), Value::from("about:blank"));
        problem.insert("title".to_owned(), Value::from(title));
        problem.insert("status".to_owned(), Value::from(status.as_u16()));
        problem.insert("detail".to_owned(), Value::from(error.to_string()));
    }
    let mut response = json(status, &problem);
    let media_type = HeaderValue::from_static("application/problem+json");
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, media_type);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::Reload;
    use crate::described::described;
    use countersign_wire::admin::IssueIdentity;
    use countersign_wire::admin::PutSecret;
    use countersign_wire::admin::Revoke;
    use countersign_wire::join::MintJoin;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_description_has_every_endpoint_and_no_other() {
        let ours: BTreeSet<_> = ROUTES
            .iter()
            .map(|(method, path, _)| (method.to_ascii_lowercase(), format!("{PREFIX}{path}")))
            .collect();
        assert_eq!(ours.len(), ROUTES.len(), "an endpoint is there twice");
        assert_eq!(described("admin.yaml"), ours);
    }

    #[test]
    fn each_endpoint_is_found_by_its_path_and_no_other() {
        for (method, template, verb) in ROUTES {
            let path = template.split('/').map(|it| match it.starts_with('{') {
                true => "r-4f2",
                false => it,
            });
            let path = format!("{PREFIX}{}", path.collect::<Vec<_>>().join("/"));
            let name = if template.contains('{') { "r-4f2" } else { "" };
            assert_eq!(endpoint(method, &path), Some((verb, name)), "{path}");
            for wrong in [
                format!("{path}/"),
                format!("{path}/more"),
                format!("/{path}"),
                path.to_uppercase(),
            ] {
                assert_ne!(endpoint(method, &wrong), Some((verb, name)), "{wrong}");
            }
            assert_eq!(endpoint("DELETE", &path), None, "{path}");
        }
        assert_eq!(endpoint("GET", "/v1/adminstatus"), None);
    }

    /// What reads a body, told apart by whether it was taken.
    fn taken(body: &[u8]) -> [Result<(), AdminError>; 5] {
        [
            read::<IssueIdentity>(body).map(drop),
            read::<MintJoin>(body).map(drop),
            read::<PutSecret>(body).map(drop),
            read::<Reload>(body).map(drop),
            read::<Revoke>(body).map(drop),
        ]
    }

    fn is_told_without_a_quote(error: &AdminError) -> bool {
        let AdminError::Invalid(text) = error else {
            return false;
        };
        let column = text.strip_prefix("the body can't be read at column ");
        column.is_some_and(|it| it.parse::<usize>().is_ok())
    }

    proptest! {
        #[test]
        fn a_body_is_taken_or_refused_without_a_word_of_it(body in prop::collection::vec(any::<u8>(), 0..256)) {
            for outcome in taken(&body) {
                prop_assert!(outcome.is_err_and(|it| is_told_without_a_quote(&it)));
            }
        }

        #[test]
        fn a_member_too_many_is_refused(member in "[a-z]{1,12}", value in "[ -~]{0,24}") {
            let known = ["csr", "gateway", "name", "listeners", "data", "dry_run", "entry", "files", "lift", "what"];
            prop_assume!(!known.contains(&member.as_str()));
            let documents = [
                object!({ "csr": "", "name": "" }),
                object!({ "gateway": "" }),
                object!({ "data": { "value": "" } }),
                object!({ "entry": "", "files": {} }),
                object!({ "what": { "token": "t" } }),
            ];
            for (at, mut document) in documents.into_iter().enumerate() {
                prop_assert!(taken(document.to_string().as_bytes())[at].is_ok());
                document[&member] = Value::from(value.as_str());
                for outcome in taken(document.to_string().as_bytes()) {
                    prop_assert!(outcome.is_err_and(|it| is_told_without_a_quote(&it)));
                }
            }
        }

        #[test]
        fn a_search_is_read_or_refused(query in "[ -~]{0,64}", name in "(after|limit|node|since|other)", value in "[0-9TZ:.a-z-]{0,27}") {
            for query in [query, format!("{name}={value}")] {
                if let Err(error) = search(&query) {
                    prop_assert!(matches!(error, AdminError::Invalid(_)));
                }
            }
        }

        #[test]
        fn a_search_goes_on_behind_what_the_store_can_count(after in any::<u64>()) {
            let countable = i64::try_from(after).is_ok();
            let read = search(&format!("after={after}"));
            prop_assert_eq!(read.ok().map(|it| it.after), countable.then_some(Some(after)));
        }
    }
}
