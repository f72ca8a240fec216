//! `audit`: reading, proving and verifying the record.

use super::args::AuditArgs;
use super::args::AuditCommand;
use super::args::Globals;
use super::args::Output;
use super::args::TailArgs;
use super::ui::Answer;
use super::ui::Style;
use super::ui::Ui;
use super::verify;
use crate::operate::Failure;
use crate::operate::harmless;
use countersign_ledger::ReceiptPrefix;
use countersign_ledger::receipt::Receipt;
use countersign_wire::admin::RecordEntry;
use serde_json::Value;
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;

/// How often `tail -f` asks.
const POLL: Duration = Duration::from_millis(500);
/// How many records it asks for at once.
const BATCH: u64 = 1000;

/// `audit`.
pub(crate) async fn run(
    args: AuditArgs,
    globals: &Globals,
    ui: &mut Ui<'_>,
) -> Result<(), Failure> {
    match args.command {
        AuditCommand::Tail(args) => tail(&args, globals, ui).await,
        AuditCommand::Show(args) => show(&args.receipt, globals, ui).await,
        AuditCommand::Prove(args) => prove(&args.receipt, globals, ui).await,
        AuditCommand::Verify(args) => {
            let path = args.path.clone().unwrap_or_else(|| log_folder(globals));
            verify::run(&path, &args, ui)
        }
    }
}

/// The log of the installation that a command on this machine would talk to.
fn log_folder(globals: &Globals) -> PathBuf {
    let known = globals.data.clone().or_else(|| {
        let file = globals.config.as_deref().and_then(std::path::Path::parent);
        let project = file
            .map_or_else(PathBuf::new, PathBuf::from)
            .join(".countersign");
        project.exists().then_some(project)
    });
    known
        .unwrap_or_else(|| PathBuf::from("/var/lib/countersign"))
        .join("log")
}

async fn tail(args: &TailArgs, globals: &Globals, ui: &mut Ui<'_>) -> Result<(), Failure> {
    let admin = globals.admin();
    let newest = format!("/v1/admin/records?limit={}", args.lines.clamp(1, BATCH));
    let mut entries: Vec<RecordEntry> = admin.get(&newest).await?;
    entries.sort_by_key(|entry| entry.index);
    if ui.is_document() && !args.follow {
        let document = json!({ "records": entries });
        return ui.answer(Answer {
            document,
            schema: "countersign.records/v1",
            short: "",
            text: "",
        });
    }
    let mut last = None;
    loop {
        for entry in &entries {
            last = last.max(entry.index);
            let line = if ui.is_document() {
                one_line(entry)?
            } else {
                line(entry, ui)
            };
            // Each look leaves a record of its own, which would go on for ever.
            if !args.follow || !is_look(entry) {
                ui.print(&line)?;
            }
        }
        if !args.follow {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
        let after = last
            .map(|index| format!("&after={index}"))
            .unwrap_or_default();
        entries = admin
            .get(&format!("/v1/admin/records?limit={BATCH}{after}"))
            .await?;
        entries.sort_by_key(|entry| entry.index);
    }
}

/// Whether it is of somebody reading records at the administration socket.
fn is_look(entry: &RecordEntry) -> bool {
    let text = |path: &str| entry.record.pointer(path).and_then(Value::as_str);
    text("/resource/id") == Some("audit/records")
}

async fn show(receipt: &str, globals: &Globals, ui: &mut Ui<'_>) -> Result<(), Failure> {
    let path = format!("/v1/admin/records/{}", checked(receipt)?);
    let entry: RecordEntry = globals.admin().get(&path).await?;
    let text = serde_json::to_string_pretty(&entry.record);
    let text = text.map_err(|error| Failure::failed(error.to_string()))?;
    let short = line(&entry, ui);
    ui.answer(Answer {
        document: json!({ "record": entry }),
        schema: "countersign.record/v1",
        short: &short,
        text: &text,
    })
}

/// Gets the receipt and checks it before anybody relies on it; its key still has to come from
/// elsewhere.
async fn prove(receipt: &str, globals: &Globals, ui: &mut Ui<'_>) -> Result<(), Failure> {
    let path = format!("/v1/admin/records/{}/proof", checked(receipt)?);
    let bytes = globals.admin().get_bytes(&path).await?;
    let tampered = |error: countersign_ledger::receipt::ReceiptError| {
        Failure::Tampered(format!("TAMPERED: {error}"))
    };
    let proof = Receipt::from_json(&bytes).map_err(tampered)?;
    let verified = proof.included().map_err(tampered)?;
    let text = proof.to_json();
    if let Output::File(file) = ui.output.clone() {
        let failed = |error| Failure::failed(format!("can't write `{}`: {error}", file.display()));
        std::fs::write(&file, &text).map_err(failed)?;
        let of = format!("leaf {} of {}", verified.index, verified.size);
        ui.note(&format!(
            "{of}, path {} hashes, in `{}`",
            verified.path,
            file.display()
        ));
        return Ok(());
    }
    ui.print(&text)
}

/// What may stand in a path.
fn checked(receipt: &str) -> Result<&str, Failure> {
    match receipt.parse::<ReceiptPrefix>() {
        Ok(_) => Ok(receipt),
        Err(error) => Err(Failure::usage(format!("`{receipt}`: {error}"))),
    }
}

fn one_line(entry: &RecordEntry) -> Result<String, Failure> {
    serde_json::to_string(entry).map_err(|error| Failure::failed(error.to_string()))
}

fn line(entry: &RecordEntry, ui: &Ui<'_>) -> String {
    let text = |path: &str| {
        let value = entry.record.pointer(path).and_then(Value::as_str);
        harmless(value.unwrap_or_default())
    };
    let (status, code) = (text("/status"), text("/code"));
    let verdict = match status.as_str() {
        "denied" => ui.paint(Style::Bad, &format!("✘ {} {code}", text("/pillar"))),
        "success" => ui.paint(Style::Good, "✔"),
        other => other.to_owned(),
    };
    let who = match text("/principal/on_behalf_of") {
        subject if subject.is_empty() => text("/principal/id"),
        subject => format!("{} for {subject}", text("/principal/id")),
    };
    let (at, what) = (text("/timestamp"), text("/event_type"));
    let asked = format!("{} {}", text("/action"), text("/resource/id"));
    let receipt = ui.paint(Style::Dim, &harmless(&entry.receipt));
    format!("{at}  {receipt}  {what}  {who}  {asked}  {verdict}")
}
