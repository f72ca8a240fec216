//! `call` and `token`: the six pillars from a shell.

use super::args::AsIdentity;
use super::args::CallArgs;
use super::args::Globals;
use super::args::TokenArgs;
use super::ui::Answer;
use super::ui::Style;
use super::ui::Ui;
use crate::operate::Failure;
use bytes::Bytes;
use countersign_client::AccessDenied;
use countersign_client::CallError;
use countersign_client::Client;
use countersign_client::Response;
use countersign_core::vocabulary::Pillar;
use serde_json::Value;
use serde_json::json;
use std::io::Read as _;

const SCHEMA: &str = "countersign.call/v1";
/// The most that is read from standard input or a file as a body.
const MAX_BODY: u64 = 64 << 20;

/// The client that a command calls as.
pub(crate) fn client(by: &AsIdentity, globals: &Globals) -> Result<Client, Failure> {
    let client = match &by.identity {
        Some(folder) => Client::from_dir(folder)?,
        None => Client::from_env()?,
    };
    Ok(client.with_timeout(globals.timeout))
}

/// `call VERB service/path`.
pub(crate) async fn call(
    args: &CallArgs,
    globals: &Globals,
    ui: &mut Ui<'_>,
) -> Result<(), Failure> {
    let client = client(&args.by, globals)?;
    let body = args.body.as_deref().map(body).transpose()?;
    let body = body.map(|body| (body, args.content_type.as_str()));
    let method = args.method.to_uppercase();
    match client.call(&args.target, &method, body, &args.scope).await {
        Ok(response) => admitted(args, &client, &response, ui),
        Err(CallError::AccessDenied(denied)) => Err(refused(args, &client, denied, ui)?),
        Err(error) => Err(error.into()),
    }
}

/// `token --for SERVICE`.
pub(crate) async fn token(
    args: &TokenArgs,
    globals: &Globals,
    ui: &mut Ui<'_>,
) -> Result<(), Failure> {
    let client = client(&args.by, globals)?;
    let token = client.token(&args.service, &args.scope).await?;
    let document = json!({
        "access_token": token.expose(), "expires": token.expires, "scope": token.scope,
    });
    ui.note(&format!(
        "for {}, bound to this certificate, until {}: curl -H \"Authorization: Bearer $TOKEN\" \
         --cert svid.pem --key key.pem --cacert bundle.pem",
        args.service, token.expires
    ));
    let value = token.expose();
    ui.answer(Answer {
        document,
        schema: "countersign.token/v1",
        short: value,
        text: value,
    })
}

fn admitted(
    args: &CallArgs,
    client: &Client,
    response: &Response,
    ui: &mut Ui<'_>,
) -> Result<(), Failure> {
    let receipt = response.receipt().unwrap_or("-").to_owned();
    let status = response.status();
    if ui.is_document() {
        let body = response.json::<Value>().ok();
        let body = body.unwrap_or_else(|| String::from_utf8_lossy(response.body()).into());
        let document = json!({
            "body": body, "receipt": receipt, "status": status, "verdict": "allow",
        });
        return ui.answer(Answer {
            document,
            schema: SCHEMA,
            short: "",
            text: "",
        });
    }
    for pillar in Pillar::ALL {
        ui.note(&line(
            true,
            pillar,
            &told(pillar, args, client, &receipt),
            ui,
        ));
    }
    let reason = http::StatusCode::from_u16(status).ok();
    let reason = reason
        .and_then(|it| it.canonical_reason())
        .unwrap_or_default();
    ui.note(&format!("{status} {reason}"));
    ui.bytes(response.body())?;
    // A shell's prompt starts on a line of its own.
    if response.body().last().is_some_and(|last| *last != b'\n') {
        ui.bytes(b"\n")
    } else {
        Ok(())
    }
}

/// Says what was refused where it is read, and returns the failure.
fn refused(
    args: &CallArgs,
    client: &Client,
    denied: AccessDenied,
    ui: &mut Ui<'_>,
) -> Result<Failure, Failure> {
    let receipt = denied.receipt.clone().unwrap_or_else(|| "-".to_owned());
    if ui.is_document() {
        let document = json!({
            "code": denied.code, "fix": denied.fix, "pillar": denied.pillar,
            "receipt": denied.receipt, "verdict": "deny",
        });
        ui.answer(Answer {
            document,
            schema: SCHEMA,
            short: "",
            text: "",
        })?;
    } else {
        for pillar in Pillar::ALL
            .into_iter()
            .filter(|pillar| *pillar < denied.pillar)
        {
            ui.note(&line(
                true,
                pillar,
                &told(pillar, args, client, &receipt),
                ui,
            ));
        }
        let why = denied.code.map_or("refused", |code| code.title());
        ui.note(&line(false, denied.pillar, why, ui));
    }
    Ok(Failure::Denied(denied))
}

fn line(holds: bool, pillar: Pillar, text: &str, ui: &Ui<'_>) -> String {
    let mark = if holds {
        ui.paint_err(Style::Good, "✔")
    } else {
        ui.paint_err(Style::Bad, "✘")
    };
    format!("{mark} {pillar:<24} {text}").trim_end().to_owned()
}

/// What the caller's side knows of a pillar; the record knows the rest.
fn told(pillar: Pillar, args: &CallArgs, client: &Client, receipt: &str) -> String {
    let service = args.target.split(['/', '?']).next().unwrap_or_default();
    match pillar {
        Pillar::Encryption => "TLS 1.3, both sides shown".to_owned(),
        Pillar::Identity => client.spiffe_id().to_string(),
        Pillar::ContinuousVerification => "not revoked".to_owned(),
        Pillar::MicroSegmentation => format!("-> {service}"),
        Pillar::LeastPrivilege if args.scope.is_empty() => "the edge suffices".to_owned(),
        Pillar::LeastPrivilege => args.scope.clone(),
        Pillar::Audit => format!("receipt {receipt}"),
    }
}

/// A body from the command line, `@FILE`, or `-`.
fn body(given: &str) -> Result<Bytes, Failure> {
    let limited = |mut reader: std::io::Take<Box<dyn std::io::Read>>, what: &str| {
        let mut bytes = Vec::new();
        let read = reader.read_to_end(&mut bytes);
        read.map_err(|error| Failure::failed(format!("can't read {what}: {error}")))?;
        Ok(Bytes::from(bytes))
    };
    match given.strip_prefix('@') {
        Some(path) => {
            let file = std::fs::File::open(path);
            let file = file.map_err(|it| Failure::usage(format!("can't read `{path}`: {it}")))?;
            let reader: Box<dyn std::io::Read> = Box::new(file);
            limited(reader.take(MAX_BODY), path)
        }
        None if given == "-" => {
            let reader: Box<dyn std::io::Read> = Box::new(std::io::stdin());
            limited(reader.take(MAX_BODY), "standard input")
        }
        None => Ok(Bytes::from(given.to_owned())),
    }
}
