//! `audit verify`: receipts and whole logs, offline. It asks nobody and trusts the given key only.

use super::args::VerifyArgs;
use super::ui::Answer;
use super::ui::Style;
use super::ui::Ui;
use crate::operate::Failure;
use countersign_ledger::checkpoint::Checkpoint;
use countersign_ledger::checkpoint::SignedCheckpoint;
use countersign_ledger::log::Finding;
use countersign_ledger::log::recompute;
use countersign_ledger::note::VerifierKey;
use countersign_ledger::receipt::Receipt;
use countersign_ledger::storage::FsStorage;
use serde_json::Value;
use serde_json::json;
use std::fmt::Display;
use std::path::Path;

const SCHEMA: &str = "countersign.verification/v1";

/// Verifies a receipt (a file) or a log (a folder).
pub(crate) fn run(path: &Path, args: &VerifyArgs, ui: &mut Ui<'_>) -> Result<(), Failure> {
    let key = args
        .key
        .as_deref()
        .map(str::parse::<VerifierKey>)
        .transpose();
    let key = key.map_err(|error| Failure::usage(format!("`--key`: {error}")))?;
    let (what, mut document) = if path.is_dir() {
        log(path, args.since.as_deref(), key.as_ref())?
    } else if args.since.is_some() {
        return Err(Failure::usage(
            "`--since` goes with the folder of a log, not with a receipt",
        ));
    } else {
        receipt(path, key.as_ref())?
    };
    let verdict = match &key {
        Some(key) => format!("VERIFIED with the key of {}", key.name()),
        None => "CONSISTENT, NOT ANCHORED".to_owned(),
    };
    if let Value::Object(members) = &mut document {
        let anchored = key.is_some();
        members.insert("anchored".to_owned(), anchored.into());
    }
    if key.is_none() {
        ui.note("without `--key` nothing is verified, only compared");
    }
    let style = if key.is_some() {
        Style::Good
    } else {
        Style::Bold
    };
    let text = format!("{what}\n{}", ui.paint(style, &verdict));
    ui.answer(Answer {
        document,
        schema: SCHEMA,
        short: &verdict,
        text: &text,
    })
}

fn receipt(path: &Path, key: Option<&VerifierKey>) -> Result<(String, Value), Failure> {
    let receipt = Receipt::from_json(&read(path)?).map_err(|error| tampered(path, &error))?;
    let verified = match key {
        Some(key) => receipt.verify(key, None),
        None => receipt.included(),
    };
    let verified = verified.map_err(|error| tampered(path, &error))?;
    let origin = &receipt.checkpoint().claimed().origin;
    let text = format!(
        "{}: leaf {} of {}, path {} hashes, checkpoint signed by {origin}",
        verified.receipt, verified.index, verified.size, verified.path
    );
    let document = json!({
        "index": verified.index, "origin": origin, "path": verified.path,
        "receipt": verified.receipt.to_string(), "size": verified.size,
    });
    Ok((text, document))
}

fn log(
    folder: &Path,
    since: Option<&Path>,
    key: Option<&VerifierKey>,
) -> Result<(String, Value), Failure> {
    let current = checkpoint(&folder.join("checkpoint"), key)?;
    let earlier = since.map(|path| checkpoint(path, key)).transpose()?;
    let earlier: Vec<_> = earlier.into_iter().collect();
    let report = recompute(&FsStorage::new(folder), "", &current, &earlier, |_, _| {});
    let report = report.map_err(|finding| match finding {
        Finding::Storage(error) => Failure::failed(error.to_string()),
        finding => tampered(folder, &finding),
    })?;
    let (origin, nodes) = (&current.origin, report.nodes.len());
    let (leaves, chained) = (report.leaves, report.chained);
    let mut text =
        format!("{origin}: {leaves} leaves, {chained} of them in the chains of {nodes} nodes");
    for old in &earlier {
        let size = old.size;
        text = format!("{text}\ncontains the tree of {size} leaves of the earlier checkpoint");
    }
    let document = json!({
        "chained": chained, "leaves": leaves, "nodes": nodes, "origin": origin,
        "since": earlier.first().map(|old| old.size),
    });
    Ok((text, document))
}

fn checkpoint(path: &Path, key: Option<&VerifierKey>) -> Result<Checkpoint, Failure> {
    let signed = SignedCheckpoint::parse(&read(path)?).map_err(|error| tampered(path, &error))?;
    if let Some(key) = key {
        signed.verify(key).map_err(|error| tampered(path, &error))?;
    }
    Ok(signed.claimed().clone())
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path)
        .map_err(|error| Failure::failed(format!("can't read `{}`: {error}", path.display())))
}

fn tampered(path: &Path, what: &dyn Display) -> Failure {
    Failure::Tampered(format!("TAMPERED: `{}`: {what}", path.display()))
}
