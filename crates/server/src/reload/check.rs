//! From files to a snapshot that may be put in force.

use super::FailedTest;
use super::ReloadError;
use countersign_core::config;
use countersign_core::config::Diagnostic;
use countersign_core::proving;
use countersign_core::snapshot::Bundle;
use countersign_core::snapshot::Revocations;
use countersign_core::snapshot::Snapshot;
use countersign_core::snapshot::State;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Compiles a bundle.
///
/// # Errors
/// [`ReloadError::Configuration`].
pub(crate) fn compile(bundle: Bundle) -> Result<Arc<Snapshot>, ReloadError> {
    let options = config::Options {
        dev: bundle.dev,
        strict: false,
    };
    let loaded = config::load(&bundle, &bundle.entry, &options);
    let errors: Vec<Diagnostic> = loaded.errors().cloned().collect();
    let Some(config) = loaded.config else {
        return Err(ReloadError::Configuration(errors, Box::new(loaded.sources)));
    };
    let beyond: Vec<String> = config
        .beyond()
        .iter()
        .map(|it| it.what.to_owned())
        .collect();
    if !beyond.is_empty() {
        return Err(ReloadError::NotInBuild(beyond));
    }
    Ok(Arc::new(Snapshot::new(bundle, config)))
}

/// Compiles a bundle whose tests hold.
///
/// # Errors
/// [`ReloadError::Configuration`] and [`ReloadError::Tests`].
pub(crate) fn checked(bundle: Bundle) -> Result<Arc<Snapshot>, ReloadError> {
    let snapshot = compile(bundle)?;
    // The open snapshot allows what its configuration refuses; that is what it is for.
    if !snapshot.is_open() {
        prove(&snapshot)?;
    }
    Ok(snapshot)
}

/// Whether two bundles hold the same texts under the same names, counted from the folder of the
/// file each starts from: how that folder was named on a command line means nothing.
pub(crate) fn same_files(one: &Bundle, other: &Bundle) -> bool {
    relative(one) == relative(other)
}

fn relative(bundle: &Bundle) -> (&str, BTreeMap<&str, &str>) {
    let folder = bundle.entry.rfind('/').map_or(0, |at| at + 1);
    let folder = bundle.entry.get(..folder).unwrap_or_default();
    let from_there =
        |name: &'_ str| -> usize { name.strip_prefix(folder).map_or(0, |_| folder.len()) };
    let named = |name| str::get(name, from_there(name)..).unwrap_or_default();
    let files = bundle.files.iter();
    let files = files.map(|(name, text)| (named(name), text.as_str()));
    (named(&bundle.entry), files.collect())
}

fn prove(snapshot: &Arc<Snapshot>) -> Result<(), ReloadError> {
    let revocations = Arc::new(Revocations::default());
    let state = State {
        revocations,
        snapshot: snapshot.clone(),
    };
    let proved = proving::prove_all(&state).into_iter();
    let failed = proved
        .filter(|(_, proved)| proved.outcome != proving::Judgement::Holds)
        .map(|(test, proved)| FailedTest {
            line: test.place.line,
            name: test.name.clone(),
            reason: proved.reason,
        });
    let failed: Vec<_> = failed.collect();
    if failed.is_empty() {
        Ok(())
    } else {
        Err(ReloadError::Tests(failed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(entry: &str, files: &[(&str, &str)]) -> Bundle {
        let owned = files
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        Bundle {
            entry: entry.to_owned(),
            files: owned.collect(),
            ..Bundle::default()
        }
    }

    #[test]
    fn a_folder_by_another_name_is_no_other_configuration() {
        let here = bundle("c.yaml", &[("c.yaml", "a"), ("parts/b.yaml", "b")]);
        let there = bundle(
            "/etc/x/c.yaml",
            &[("/etc/x/c.yaml", "a"), ("/etc/x/parts/b.yaml", "b")],
        );
        assert!(same_files(&here, &there));
        for other in [
            bundle("c.yaml", &[("c.yaml", "a")]),
            bundle("c.yaml", &[("c.yaml", "a"), ("parts/b.yaml", "c")]),
            bundle("d.yaml", &[("d.yaml", "a"), ("parts/b.yaml", "b")]),
        ] {
            assert!(!same_files(&here, &other), "{other:?}");
        }
    }
}
