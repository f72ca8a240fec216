//! `secret`: names and versions for everybody, values for readers.

use super::args::GetArgs;
use super::args::Globals;
use super::args::PutArgs;
use super::args::SecretArgs;
use super::args::SecretCommand;
use super::call;
use super::ui::Answer;
use super::ui::Ui;
use super::ui::table;
use crate::operate::Failure;
use countersign_core::vocabulary::Name;
use countersign_wire::admin::PutSecret;
use countersign_wire::admin::SecretEntry;
use secrecy::SecretString;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::io::Read as _;
use zeroize::Zeroizing;

/// The longest value, in bytes.
const MAX_VALUE: u64 = 1 << 20;

/// `secret`.
pub(crate) async fn run(
    args: SecretArgs,
    globals: &Globals,
    ui: &mut Ui<'_>,
) -> Result<(), Failure> {
    match args.command {
        SecretCommand::Ls => list(globals, ui).await,
        SecretCommand::Put(args) => put(&args, globals, ui).await,
        SecretCommand::Get(args) => get(&args, globals, ui).await,
    }
}

async fn list(globals: &Globals, ui: &mut Ui<'_>) -> Result<(), Failure> {
    let entries: Vec<SecretEntry> = globals.admin().get("/v1/admin/secret").await?;
    let rows = entries.iter().map(|it| {
        let version = if it.version == 0 {
            "-".to_owned()
        } else {
            it.version.to_string()
        };
        let updated = it
            .updated
            .map_or_else(|| "no value yet".to_owned(), |at| at.to_string());
        vec![it.name.clone(), version, updated]
    });
    let rows: Vec<_> = rows.collect();
    let names: Vec<_> = entries.iter().map(|it| it.name.as_str()).collect();
    ui.answer(Answer {
        document: json!({ "secrets": entries }),
        schema: "countersign.secrets/v1",
        short: &names.join("\n"),
        text: &table(&["NAME", "VERSION", "WRITTEN"], &rows),
    })
}

async fn put(args: &PutArgs, globals: &Globals, ui: &mut Ui<'_>) -> Result<(), Failure> {
    let name = Name::new(&args.name).map_err(|error| Failure::usage(error.to_string()))?;
    let value = value(args, ui)?;
    let data = BTreeMap::from([("value".to_owned(), value)]);
    let path = format!("/v1/admin/secret/{name}");
    let entry: SecretEntry = globals.admin().post(&path, &PutSecret { data }).await?;
    let text = format!("{} is now at version {}", entry.name, entry.version);
    let short = entry.version.to_string();
    ui.answer(Answer {
        document: json!({ "secret": entry }),
        schema: "countersign.secret/v1",
        short: &short,
        text: &text,
    })
}

/// The value, from where neither the process list nor the shell's history can show it.
fn value(args: &PutArgs, ui: &mut Ui<'_>) -> Result<SecretString, Failure> {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = match &args.file {
        Some(path) => std::fs::File::open(path)
            .and_then(|file| file.take(MAX_VALUE + 1).read_to_end(&mut bytes)),
        None => {
            if std::io::stdin().is_terminal() {
                ui.note("type the value, then press Ctrl-D on a line of its own");
            }
            std::io::stdin().take(MAX_VALUE + 1).read_to_end(&mut bytes)
        }
    };
    read.map_err(|error| Failure::failed(format!("can't read the value: {error}")))?;
    if bytes.len() as u64 > MAX_VALUE {
        return Err(Failure::usage("the value is longer than 1 MiB"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| Failure::usage("the value is not UTF-8"))?;
    let text = if args.exact {
        text
    } else {
        text.trim_end_matches(['\n', '\r'])
    };
    if text.is_empty() {
        return Err(Failure::usage("the value is empty"));
    }
    Ok(text.into())
}

/// Reads a secret as an identity: the same edge, permission and grant as any other reader.
async fn get(args: &GetArgs, globals: &Globals, ui: &mut Ui<'_>) -> Result<(), Failure> {
    let client = call::client(&args.by, globals)?;
    let secret = client.read_secret_with(&args.name, &args.scope).await?;
    let fields: Vec<(&str, &str)> = secret
        .fields()
        .filter_map(|name| Some((name, secret.field(name)?)))
        .collect();
    let text = match secret.value() {
        Some(value) => value.to_owned(),
        None => {
            let lines = fields.iter().map(|(name, value)| format!("{name}={value}"));
            lines.collect::<Vec<_>>().join("\n")
        }
    };
    let data: serde_json::Map<String, Value> = fields
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).into()))
        .collect();
    let document = json!({ "data": data, "name": args.name, "version": secret.version });
    ui.answer(Answer {
        document,
        schema: "countersign.secret/v1",
        short: &text,
        text: &text,
    })
}
