//! `audit verify`: receipts and whole logs, offline. It asks nobody and trusts the given key only.

use super::args::VerifyArgs;
use super::ui::Answer;
use super::ui::Style;
use super::ui::Ui;
use crate::operate::Failure;
use countersign_core::vocabulary::Timestamp;
use countersign_ledger::checkpoint::Checkpoint;
use countersign_ledger::checkpoint::SignedCheckpoint;
use countersign_ledger::cosignature;
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

/// Where a log is held against something that it can't have made up.
struct Anchors<'a> {
    key: Option<&'a VerifierKey>,
    since: Option<&'a Path>,
    witness: Option<(&'a Path, &'a VerifierKey)>,
}

/// What a witness saw of a log.
struct Seen {
    /// When it signed, in seconds since the epoch.
    at: u64,
    /// Leaves of the tree it saw, and of the one that was verified.
    leaves: u64,
    of: u64,
    name: String,
}

/// Verifies a receipt (a file) or a log (a folder).
pub(crate) fn run(path: &Path, args: &VerifyArgs, ui: &mut Ui<'_>) -> Result<(), Failure> {
    let key = vkey("--key", args.key.as_deref())?;
    let witness_key = vkey("--witness-key", args.witness_key.as_deref())?;
    let anchors = Anchors {
        key: key.as_ref(),
        since: args.since.as_deref(),
        witness: args.witness.as_deref().zip(witness_key.as_ref()),
    };
    let (what, mut document, seen) = if path.is_dir() {
        log(path, &anchors)?
    } else if args.since.is_some() || args.witness.is_some() {
        return Err(Failure::usage(
            "`--since` and `--witness` go with the folder of a log, not with a receipt",
        ));
    } else {
        let (what, document) = receipt(path, key.as_ref())?;
        (what, document, None)
    };
    let (verdict, anchored) = verdict(key.as_ref(), seen.as_ref());
    if let Value::Object(members) = &mut document {
        members.insert("anchored".to_owned(), anchored.into());
    }
    if key.is_none() && seen.is_none() {
        ui.note("without `--key` nothing is verified, only compared");
    }
    let style = if anchored { Style::Good } else { Style::Bold };
    let text = format!("{what}\n{}", ui.paint(style, &verdict));
    ui.answer(Answer {
        document,
        schema: SCHEMA,
        short: &verdict,
        text: &text,
    })
}

fn vkey(flag: &str, text: Option<&str>) -> Result<Option<VerifierKey>, Failure> {
    let key = text.map(str::parse::<VerifierKey>).transpose();
    key.map_err(|error| Failure::usage(format!("`{flag}`: {error}")))
}

/// What may be said, and whether all of it is held by something from outside. A witness vouches for
/// what it saw and for nothing after that.
fn verdict(key: Option<&VerifierKey>, seen: Option<&Seen>) -> (String, bool) {
    match (key, seen) {
        (Some(key), _) => (format!("VERIFIED with the key of {}", key.name()), true),
        (None, Some(seen)) if seen.leaves == seen.of => {
            (format!("VERIFIED by the witness {}", seen.name), true)
        }
        (None, Some(seen)) => {
            let (leaves, of, name) = (seen.leaves, seen.of, &seen.name);
            let text = format!("CONSISTENT, ANCHORED TO {leaves} OF {of} LEAVES by {name}");
            (text, false)
        }
        (None, None) => ("CONSISTENT, NOT ANCHORED".to_owned(), false),
    }
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

fn log(folder: &Path, anchors: &Anchors<'_>) -> Result<(String, Value, Option<Seen>), Failure> {
    let current = checkpoint(&folder.join("checkpoint"), anchors.key)?;
    let since = anchors.since.map(|path| checkpoint(path, anchors.key));
    let since = since.transpose()?;
    let witnessed = anchors.witness.map(|it| witnessed(it, anchors.key));
    let witnessed = witnessed.transpose()?;
    let earlier: Vec<_> = since
        .iter()
        .chain(witnessed.as_ref().map(|(tree, ..)| tree))
        .cloned()
        .collect();
    let report = recompute(&FsStorage::new(folder), "", &current, &earlier, |_, _| {});
    let report = report.map_err(|finding| match finding {
        Finding::Storage(error) => Failure::failed(error.to_string()),
        finding => tampered(folder, &finding),
    })?;
    let (origin, nodes) = (&current.origin, report.nodes.len());
    let (leaves, chained) = (report.leaves, report.chained);
    let mut text =
        format!("{origin}: {leaves} leaves, {chained} of them in the chains of {nodes} nodes");
    if let Some(old) = &since {
        let size = old.size;
        text = format!("{text}\ncontains the tree of {size} leaves of the earlier checkpoint");
    }
    let seen = witnessed.map(|(tree, at, name)| Seen {
        at,
        leaves: tree.size,
        of: current.size,
        name,
    });
    if let Some(Seen {
        at, leaves, name, ..
    }) = &seen
    {
        let when = Timestamp::from_secs(i64::try_from(*at).unwrap_or(i64::MAX / 1_000_000));
        text = format!("{text}\ncontains the tree of {leaves} leaves that {name} saw at {when}");
    }
    let witness = seen
        .as_ref()
        .map(|seen| json!({ "leaves": seen.leaves, "name": seen.name, "time": seen.at }));
    let document = json!({
        "chained": chained, "leaves": leaves, "nodes": nodes, "origin": origin,
        "since": since.as_ref().map(|old| old.size), "witness": witness,
    });
    Ok((text, document, seen))
}

/// The tree that a witness saw, when, and its name.
fn witnessed(
    (path, witness): (&Path, &VerifierKey),
    key: Option<&VerifierKey>,
) -> Result<(Checkpoint, u64, String), Failure> {
    let signed = SignedCheckpoint::parse(&read(path)?).map_err(|error| tampered(path, &error))?;
    if let Some(key) = key {
        signed.verify(key).map_err(|error| tampered(path, &error))?;
    }
    let mut lines = signed.note().signatures().iter();
    let times = lines.find_map(|line| cosignature::verify(&signed, witness, line).ok());
    let at = times.ok_or_else(|| {
        let name = witness.name();
        tampered(
            path,
            &format!("no line of the witness `{name}` is under it"),
        )
    })?;
    Ok((signed.claimed().clone(), at, witness.name().to_owned()))
}

/// Recomputes a log up to a checkpoint of it, which has to contain the earlier trees.
pub(crate) fn recomputed(
    folder: &Path,
    current: &Checkpoint,
    earlier: &[Checkpoint],
) -> Result<(), Failure> {
    let report = recompute(&FsStorage::new(folder), "", current, earlier, |_, _| {});
    match report {
        Ok(_) => Ok(()),
        Err(Finding::Storage(error)) => Err(Failure::failed(error.to_string())),
        Err(finding) => Err(tampered(folder, &finding)),
    }
}

/// A checkpoint as it stands in a file, signed by this key if one is given.
pub(crate) fn checkpoint(path: &Path, key: Option<&VerifierKey>) -> Result<Checkpoint, Failure> {
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
