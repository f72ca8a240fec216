//! Whether the log is what its key signed and what witnesses saw.

use super::finding::Finding;
use super::installation::Installation;
use super::running::Running;
use crate::cli::verify;
use crate::operate::Failure;
use countersign_ledger::checkpoint::Checkpoint;
use countersign_ledger::note::VerifierKey;
use std::path::Path;

const WHAT: &str = "log";
/// Recomputing takes longer than somebody waits with more leaves.
const LEAVES: u64 = 200_000;

/// Looks at the files of the log, with the key that the server says it has.
pub(super) fn findings(installation: &Installation, server: &Running) -> Vec<Finding> {
    let data = &installation.places.data;
    let folder = data.join("log");
    if !folder.join("checkpoint").exists() {
        let detail = format!("`{}` has no checkpoint to look at", folder.display());
        let hint = "say where the server's data folder is: `--data DIR`";
        return vec![Finding::warn(WHAT, detail, hint)];
    }
    let key = match server.status.log_key.parse::<VerifierKey>() {
        Ok(key) => key,
        Err(error) => return vec![Finding::fail(WHAT, error.to_string(), "see its log")],
    };
    match looked_at(&folder, &data.join("witness"), &key) {
        Ok(findings) => findings,
        Err(Failure::Tampered(why)) => {
            let hint = format!("countersign audit verify '{}'", folder.display());
            vec![Finding::fail(WHAT, why, hint)]
        }
        Err(failure) => {
            let hint = "be the server's user, or root, to read it";
            vec![Finding::warn(WHAT, failure.to_string(), hint)]
        }
    }
}

fn looked_at(folder: &Path, witness: &Path, key: &VerifierKey) -> Result<Vec<Finding>, Failure> {
    // What witnesses saw is older than what is read after it.
    let seen = witnessed(witness, key)?;
    let current = verify::checkpoint(&folder.join("checkpoint"), Some(key))?;
    let size = current.size;
    let mut findings = Vec::new();
    findings.push(if size > LEAVES {
        let hint = format!(
            "countersign audit verify '{}' --key '{key}'",
            folder.display()
        );
        let detail = format!("{size} leaves are signed; they are too many to recompute here");
        Finding::warn(WHAT, detail, hint)
    } else {
        let trees: Vec<_> = seen.iter().map(|(_, tree)| tree.clone()).collect();
        verify::recomputed(folder, &current, &trees)?;
        Finding::ok(
            WHAT,
            format!("{size} leaves, recomputed, as its key signed them"),
        )
    });
    findings.extend(seen.into_iter().map(|(name, tree)| {
        let seen = tree.size;
        Finding::ok("witness", format!("`{name}` saw {seen} of {size} leaves"))
    }));
    Ok(findings)
}

/// The trees that gateways cosigned, by their names.
fn witnessed(folder: &Path, key: &VerifierKey) -> Result<Vec<(String, Checkpoint)>, Failure> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Ok(Vec::new());
    };
    let mut paths: Vec<_> = entries.flatten().map(|it| it.path()).collect();
    paths.sort();
    let of = |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Ok((name.into_owned(), verify::checkpoint(path, Some(key))?))
    };
    paths.iter().filter(|it| it.is_file()).map(of).collect()
}
