//! `countersign-verify`: checks receipts and whole logs, knowing nothing but the log's key.

use countersign_ledger::checkpoint::Checkpoint;
use countersign_ledger::checkpoint::CheckpointError;
use countersign_ledger::checkpoint::SignedCheckpoint;
use countersign_ledger::log::Finding;
use countersign_ledger::log::recompute;
use countersign_ledger::note::VerifierKey;
use countersign_ledger::receipt::Receipt;
use countersign_ledger::receipt::ReceiptError;
use countersign_ledger::storage::FsStorage;
use std::ffi::OsString;
use std::fmt::Display;
use std::io::IsTerminal;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
countersign-verify checks audit records against the key of their log, offline.

  countersign-verify --key KEY receipt.json...
      Each record is in the log that KEY speaks for, unchanged.

  countersign-verify --key KEY --log FOLDER [--since CHECKPOINT]
      Every hash of the log in FOLDER (it holds `checkpoint` and `tile/`) is what its records
      make, every node's records are complete and in order, and, with --since, the log contains
      the tree of a checkpoint that you kept.

  --key KEY           the log's key, `<name>+<8 hex digits>+<base64>`. Get it some other way than
                      with the log or the receipt. Without it nothing is verified, only compared:
                      the answer is CONSISTENT, NOT ANCHORED.
  --log FOLDER        a log's folder, or a copy of it
  --since CHECKPOINT  a file with an earlier checkpoint of the same log
  --help, --version

Exit codes: 0 all good, 1 a file can't be read, 2 wrong usage, 5 something was tampered with.
";

/// What the command line asks for.
#[derive(Default)]
struct Arguments {
    key: Option<VerifierKey>,
    log: Option<PathBuf>,
    since: Option<PathBuf>,
    receipts: Vec<PathBuf>,
}

/// Why the answer is not zero.
enum Failure {
    Unreadable(String),
    Usage(String),
    Tampered(String),
}

fn main() -> ExitCode {
    let mut out = std::io::stdout().lock();
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let asked = |name: &str| arguments.iter().any(|argument| argument == name);
    let result = if asked("--help") || asked("-h") {
        say(&mut out, USAGE.trim_end())
    } else if asked("--version") {
        say(
            &mut out,
            &format!("countersign-verify {}", env!("CARGO_PKG_VERSION")),
        )
    } else {
        parse(arguments).and_then(|arguments| run(&arguments, &mut out))
    };
    let Err(failure) = result else {
        return ExitCode::SUCCESS;
    };
    let (code, text) = match failure {
        Failure::Unreadable(text) => (1, format!("error: {text}")),
        Failure::Usage(text) => (2, format!("error: {text}\n\n{USAGE}")),
        Failure::Tampered(text) => (5, format!("TAMPERED: {text}")),
    };
    // Where even standard error is gone, the exit code still says it.
    let _ = writeln!(std::io::stderr().lock(), "{}", text.trim_end());
    ExitCode::from(code)
}

fn parse(arguments: Vec<OsString>) -> Result<Arguments, Failure> {
    let mut parsed = Arguments::default();
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let name = argument.to_string_lossy().into_owned();
        let mut value = || {
            let missing = || Failure::Usage(format!("`{name}` needs a value"));
            arguments.next().ok_or_else(missing)
        };
        let repeated = || Failure::Usage(format!("`{name}` is given twice"));
        match name.as_str() {
            "--key" => {
                let key = value()?.to_string_lossy().parse();
                let key = key.map_err(|error| Failure::Usage(format!("`--key`: {error}")))?;
                parsed
                    .key
                    .replace(key)
                    .map_or(Ok(()), |_| Err(repeated()))?;
            }
            "--log" => parsed
                .log
                .replace(value()?.into())
                .map_or(Ok(()), |_| Err(repeated()))?,
            "--since" => {
                parsed
                    .since
                    .replace(value()?.into())
                    .map_or(Ok(()), |_| Err(repeated()))?;
            }
            _ if name.starts_with('-') => {
                return Err(Failure::Usage(format!("unknown option `{name}`")));
            }
            _ => parsed.receipts.push(argument.into()),
        }
    }
    match (&parsed.log, parsed.receipts.is_empty()) {
        (None, true) => Err(Failure::Usage("nothing to verify".to_owned())),
        (Some(_), false) => Err(Failure::Usage(
            "give receipts or a log, not both".to_owned(),
        )),
        (None, false) if parsed.since.is_some() => {
            Err(Failure::Usage("`--since` goes with `--log`".to_owned()))
        }
        _ => Ok(parsed),
    }
}

fn run(arguments: &Arguments, out: &mut impl Write) -> Result<(), Failure> {
    let key = arguments.key.as_ref();
    for path in &arguments.receipts {
        receipt(path, key, out)?;
    }
    if let Some(folder) = &arguments.log {
        log(folder, arguments.since.as_deref(), key, out)?;
    }
    let Some(key) = key else {
        return say(out, "CONSISTENT, NOT ANCHORED");
    };
    say(out, &format!("VERIFIED with the key of {}", key.name()))
}

fn receipt(path: &Path, key: Option<&VerifierKey>, out: &mut impl Write) -> Result<(), Failure> {
    let tampered = |error: ReceiptError| tampered(path, &error);
    let receipt = Receipt::from_json(&read(path)?).map_err(tampered)?;
    let verified = match key {
        Some(key) => receipt.verify(key, None),
        None => receipt.included(),
    };
    let verified = verified.map_err(tampered)?;
    let origin = &receipt.checkpoint().claimed().origin;
    say(
        out,
        &format!(
            "{}: leaf {} of {}, path {} hashes, checkpoint signed by {origin}",
            verified.receipt, verified.index, verified.size, verified.path
        ),
    )
}

fn log(
    folder: &Path,
    since: Option<&Path>,
    key: Option<&VerifierKey>,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let current = checkpoint(&folder.join("checkpoint"), key)?;
    let earlier: Vec<_> = since
        .map(|path| checkpoint(path, key))
        .transpose()?
        .into_iter()
        .collect();
    let watched = std::io::stderr().is_terminal();
    let progress = |done: u64, all: u64| {
        if watched && (done == all || done.is_multiple_of(1 << 16)) {
            // Only for the eye: a failure to show it changes nothing.
            let _ = write!(std::io::stderr().lock(), "\r{done} of {all} leaves\u{1b}[K");
        }
    };
    let storage = FsStorage::new(folder);
    let report = recompute(&storage, "", &current, &earlier, progress);
    if watched {
        let _ = writeln!(std::io::stderr().lock());
    }
    let report = report.map_err(|finding| match finding {
        Finding::Storage(error) => Failure::Unreadable(error.to_string()),
        finding => tampered(folder, &finding),
    })?;
    let (origin, nodes) = (&current.origin, report.nodes.len());
    let (leaves, chained) = (report.leaves, report.chained);
    say(
        out,
        &format!("{origin}: {leaves} leaves, {chained} of them in the chains of {nodes} nodes"),
    )?;
    for earlier in &earlier {
        say(
            out,
            &format!(
                "contains the tree of {} leaves of the earlier checkpoint",
                earlier.size
            ),
        )?;
    }
    if earlier.is_empty() && key.is_some() {
        say(out, "not compared with an earlier checkpoint (--since)")?;
    }
    Ok(())
}

fn checkpoint(path: &Path, key: Option<&VerifierKey>) -> Result<Checkpoint, Failure> {
    let tampered = |error: CheckpointError| tampered(path, &error);
    let signed = SignedCheckpoint::parse(&read(path)?).map_err(tampered)?;
    if let Some(key) = key {
        signed.verify(key).map_err(tampered)?;
    }
    Ok(signed.claimed().clone())
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path)
        .map_err(|error| Failure::Unreadable(format!("`{}`: {error}", path.display())))
}

fn tampered(path: &Path, what: &dyn Display) -> Failure {
    Failure::Tampered(format!("`{}`: {what}", path.display()))
}

fn say(out: &mut impl Write, line: &str) -> Result<(), Failure> {
    writeln!(out, "{line}")
        .map_err(|error| Failure::Unreadable(format!("standard output: {error}")))
}
